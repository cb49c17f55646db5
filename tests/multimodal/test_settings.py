"""Settings as users meet them: every field is explained by `--help`, and what is wrong is said before heavy imports."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

from multimodal.autoencoder import commands, compression, evaluate, published, reconstruct, train
from multimodal.autoencoder.settings import AutoencoderTrainingConfig, LossTerm, SignalTerm, default_config
from multimodal.common.settings import differences

ROOT = Path(__file__).parents[2]
COMMANDS: list[tuple[ModuleType, type]] = [
    (train, AutoencoderTrainingConfig),
    (evaluate, commands.EvaluateConfig),
    (reconstruct, commands.ReconstructConfig),
    (compression, commands.CompressionConfig),
    (published, commands.PublishedConfig),
]


def parts(annotation: Any) -> Iterator[type]:
    """The dataclasses in an annotation."""
    if is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from parts(argument)


def explained(config: type) -> Iterator[tuple[str, str]]:
    """Full name and docstring ("" for none) of every field of a dataclass and of those in its fields."""
    for base in config.__mro__:
        if not is_dataclass(base):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        hints = get_type_hints(base)
        for node, following in zip(definition.body, [*definition.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
                continue
            name = ast.unparse(node.target)
            inner = [part for part in parts(hints[name]) if part is not LossTerm] or [
                part for part in (LossTerm, SignalTerm) if LossTerm in parts(hints[name])
            ]
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield f"{base.__name__}.{name}", str(following.value.value) if is_text else ""  # type: ignore[union-attr]
            for part in inner:
                yield from explained(part)


def plain(text: str) -> str:
    """Letters and figures alone, so that wrapping and boxes do not matter."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


@pytest.mark.parametrize(("module", "config"), COMMANDS, ids=lambda item: item.__name__.rpartition(".")[2])
def test_help_explains_every_field(
    module: ModuleType, config: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        module.main(["--help"])
    printed = plain(capsys.readouterr().out)
    fields = dict(explained(config))
    silent = [name for name, text in fields.items() if not text]
    assert not silent, f"without a docstring: {', '.join(silent)}"
    nested = {"AutoencoderTrainingConfig.loss", "AutoencoderTrainingConfig.loader", "LoaderConfig.augmentation"}
    nested |= {"LoaderConfig.cache", "TrainingSettings.optimizer"}  # the parts of these are listed instead
    hidden = [name for name, text in fields.items() if name not in nested and plain(text)[:40] not in printed]
    assert not hidden, f"not in --help: {', '.join(hidden)}"


WRONG = {
    "train --data absent": "data folder .*absent does not exist",
    "train --steps 0": "steps is 0; it must be at least 1",
    "train --start-from absent": "absent holds no training run",
    "train --preset huge": "no preset 'huge'; there are tiny, small, paper",
    "train small": "a preset is given as --preset small",
    "train --loss.video.hide 0.7 --loss.audio.hide 0.7": "adds to more than 1",
    "evaluate absent": "absent holds no training run",
    "reconstruct absent clip.mp4 --out out.mp4": "absent holds no training run",
    "reconstruct absent clip.mp4 --out out.txt": "must end in one of",
    "compression --out curve": "no runs given",
    "compression absent --out curve": "absent holds no training run",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_arguments_are_refused_in_one_sentence_before_heavy_imports(words: str, tmp_path: Path) -> None:
    command, *arguments = words.split()
    code = (
        f"import sys\nfrom multimodal.autoencoder.{command} import main\n"
        "heavy = lambda: sorted({'torch', 'ray', 'av', 'matplotlib', 'torchvision'} & set(sys.modules))\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    print(end.code, heavy())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    # Errors of a setting are shown in a box, with exit code 2.
    in_a_sentence = re.search(rf"^error: .*{WRONG[words]}.*\[\]$", done.stdout, re.DOTALL)
    in_a_box = done.stdout == "2 []\n" and re.search(WRONG[words], done.stderr)
    assert in_a_sentence or in_a_box, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_preset_is_a_whole_recipe_and_what_differs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.parse([]) == default_config("tiny", "runs/autoencoder-tiny")
    assert train.parse(["--preset", "small"]) == default_config("small", "runs/autoencoder-small")
    capsys.readouterr()
    changed = train.parse(["--preset=small", "--steps", "7", "--loss.audio.weight", "0.5", "--out", "x"])
    assert changed.loss["audio"] == SignalTerm(weight=0.5)
    said = capsys.readouterr().err
    assert "preset small, but --steps 7 (preset: 100000), --loss.audio.weight 0.5 (preset: 1.0); run folder" in said
    assert differences(changed, changed) == []
