"""What is done with trained language models: filling, generating, contests of ways, latents as a knob."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multimodal.common.errors import DataError
from multimodal.common.training import alone, train
from multimodal.language import fill_mask, generate
from multimodal.language.contest import Outcome, _train_one, by_way
from multimodal.language.contest_report import publish, rows_of
from multimodal.language.filling import fill, read_masked
from multimodal.language.latents import LatentsConfig
from multimodal.language.preparation import prepare
from multimodal.language.settings import FinetuningConfig, pretraining_recipe
from multimodal.language.tasks.metrics import Estimate
from multimodal.language.text.tokens import MASK, Bytes
from multimodal.language.ways import WaysConfig


class Neighbours(nn.Module):
    """Tells each token to be the one after its left neighbour; surely, if that is no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        self.looks: list[int] = []

    def forward(self, tokens: Tensor, mask: None, positions: Tensor) -> Tensor:
        self.looks.append(int((tokens == MASK).sum()))
        before = tokens[0, positions - 1]
        logits = torch.zeros(1, len(positions), 262)
        told = torch.where(before == MASK, 200, before + 1)
        logits.scatter_(2, told[None, :, None], torch.where(before == MASK, 1.0, 9.0)[None, :, None])
        return logits


def test_masks_are_filled_surest_first() -> None:
    tokens = Bytes()
    row = read_masked("a[MASK][MASK][MASK]x[MASK]", tokens, 16)
    assert (row == MASK).sum() == 4 and len(row) == 6
    model = Neighbours()
    filled = fill(model, row, tokens)  # type: ignore[arg-type]
    assert tokens.decode(filled.tokens) == b"abcdxy"
    assert [len(candidates) for candidates in filled.candidates] == [5] * 4
    assert model.looks == [4, 4, 3, 2, 1]
    in_two = fill(model, row, tokens, rounds=2)  # type: ignore[arg-type]
    assert tokens.decode(in_two.tokens)[:2] == b"ab" and not (in_two.tokens == MASK).any()
    assert (row == MASK).sum() == 4, "the row that was given stays as it is"
    with pytest.raises(DataError, match=r"the text has no \[MASK\]"):
        read_masked("abc", tokens, 16)
    with pytest.raises(DataError, match="the text has 5 tokens, more than the model's 4"):
        read_masked("abcd[MASK]", tokens, 4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Two pretrainings of two steps: one tells masked bytes, one the next byte."""
    root = tmp_path_factory.mktemp("runs")
    (root / "text.txt").write_text("\n".join(f"line {number} of a text" for number in range(20_000)))
    folders = {}
    for objective in ("masked", "next"):
        config = replace(
            pretraining_recipe("tiny", str(root / objective)),
            data=str(root / "text.txt"),
            objective=objective,  # type: ignore[arg-type]
            steps=2,
            batch_size=4,
            max_length=32,
            num_latents=8,
            held_out_rows=4,
        )
        train(prepare(config), alone())
        folders[objective] = config.out
    return folders


def test_the_commands_fill_and_generate(runs: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    fill_mask.main([runs["masked"], "line 1 of a te[MASK]t"])
    printed = capsys.readouterr().out
    assert "line 1 of a te" in printed and "%" in printed
    generate.main([runs["next"], "--prompt", "line é", "--num-tokens", "40"])
    first = capsys.readouterr().out
    assert first.startswith("line é") and len(first) > 10
    generate.main([runs["next"], "--prompt", "line é", "--num-tokens", "40"])
    assert capsys.readouterr().out == first, "the seed decides"
    for command, wrong in ((fill_mask.main, "next"), (generate.main, "masked")):
        arguments = [runs[wrong], *(["a[MASK]"] if command is fill_mask.main else [])]
        with pytest.raises(SystemExit, match=f"has the job '{wrong}'"):
            command(arguments)
    with pytest.raises(SystemExit, match="holds no training run"):
        generate.main(["nowhere"])
    with pytest.raises(SystemExit, match="the prompt is empty"):
        generate.main([runs["next"], "--prompt", ""])


def test_an_entry_of_a_contest_is_trained_and_measured(tmp_path: Path) -> None:
    for part in ("train", "test"):
        lines = [f"{'xy'[number % 2] * 5} {number}\t{'ab'[number % 2]}" for number in range(40)]
        path = tmp_path / f"data/{part}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["text\tlabel", *lines]) + "\n")
    config = FinetuningConfig(
        out=str(tmp_path / "run"), data=str(tmp_path / "data"), steps=40, batch_size=8, max_length=32, num_latents=8
    )
    headline, rate = _train_one(config)
    assert headline["data"] == 1.0 and rate > 0
    again, _ = _train_one(config)
    assert again == headline


def test_results_are_means_over_seeds(tmp_path: Path) -> None:
    outcomes = [
        Outcome(name="a", headline={"x": value, "y": 0.5}, steps_per_second=1.0) for value in (0.6, 0.7, 0.8)
    ] + [Outcome(name="b", headline={task: 0.9}, steps_per_second=1.0) for task in ("x", "y")]
    results = by_way(outcomes)
    assert results["a"]["x"].value == pytest.approx(0.7) and results["a"]["x"].low < 0.6
    assert np.isnan(results["b"]["y"].low)
    header, rows = rows_of(results, {"x": "accuracy", "y": "pearson"})
    assert header == ["way", "x (accuracy)", "y (pearson)", "mean"]
    assert [row[-1] for row in rows] == ["60.0", "90.0"]
    publish(tmp_path, "ways", "A title", results, {"x": "accuracy", "y": "pearson"}, ["A sentence."])
    stored = json.loads((tmp_path / "ways.json").read_text())
    assert Estimate(**stored["results"]["a"]["x"]) == results["a"]["x"]
    assert (tmp_path / "ways.png").is_file() and "A sentence." in (tmp_path / "ways.html").read_text()


def test_contests_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="give numbers of latents from 2 on"):
        LatentsConfig(counts=(1, 2))
    with pytest.raises(ValueError, match="give two or more tasks"):
        WaysConfig(finetuning=FinetuningConfig(out="x", tasks=("order",)))
    with pytest.raises(ValueError, match="seeds is 0"):
        WaysConfig(seeds=0)
