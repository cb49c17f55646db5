"""Labelled text: tables, GLUE's layouts, metrics, models of several tasks, training, evaluation."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from multimodal.common.errors import DataError
from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.sampling import EpochBatches
from multimodal.common.training import alone, train
from multimodal.language.commands import EvaluateConfig
from multimodal.language.evaluation import MODEL, N_GRAMS, evaluate
from multimodal.language.finetuning import LabelledBatch, collate, read_examples, task_losses, tell
from multimodal.language.finetuning_preparation import prepare
from multimodal.language.model import build_masked, build_tasks, preset, take_trunk
from multimodal.language.preparation import prepare as prepare_pretraining
from multimodal.language.report import result_rows, write_report
from multimodal.language.runs import load_model
from multimodal.language.settings import FinetuningConfig, pretraining_recipe
from multimodal.language.tasks import embedded
from multimodal.language.tasks.baselines import n_gram_regression, trivial
from multimodal.language.tasks.data import load_tasks, table_name
from multimodal.language.tasks.embedded import NAMES, embedded_task
from multimodal.language.tasks.glue import GLUE, read_glue
from multimodal.language.tasks.labelled import Example, TaskInfo, make_task
from multimodal.language.tasks.metrics import METRICS, RESAMPLED, over_samples, over_seeds
from multimodal.language.tasks.tables import Columns, examples_of, find_parts, read_task
from multimodal.language.text.docstrings import Docstring, is_held_out
from multimodal.language.text.tokens import CLS, MASK, Bytes, load_tokens

COLUMNS = Columns(texts=("text",), label="label")
TASKS = (
    TaskInfo(name="topic", classes=("a", "b", "c"), metrics=("accuracy",)),
    TaskInfo(name="score", classes=(), metrics=("pearson", "spearman"), mean=2.0, deviation=3.0),
    TaskInfo(name="pair", classes=("no", "yes"), metrics=("accuracy", "f1")),
)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ------------------------------------------------------------------------------------------------------------ tables


def test_the_same_table_in_every_format(tmp_path: Path) -> None:
    rows = [('good, "really"', "yes"), ("bad\tday", "no"), ("ok", "yes")]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    write(tmp_path / "a.jsonl", "\n".join(lines))
    table = pyarrow.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    write(tmp_path / "a.tsv", "\n".join(["text\tlabel", *("\t".join(row).replace("d\td", "d d") for row in rows)]))
    for suffix in ("csv", "jsonl", "parquet", "tsv"):
        found = [(example.first, example.label) for example in examples_of(tmp_path / f"a.{suffix}", COLUMNS)]
        assert found == [(text.replace("\t", " ") if suffix == "tsv" else text, label) for text, label in rows], suffix


BAD_TABLES = {
    "empty.csv": ("", r"empty\.csv is empty"),
    "missing.csv": ("text,class\na,b\n", r"missing\.csv:2: no column 'label', only text, class; name them with"),
    "doubled.csv": ("text,label,text\na,b,c\n", r"doubled\.csv: the column 'text' comes 2 times; rename one"),
    "fields.tsv": ("text\tlabel\na\tb\nc\n", r"fields\.tsv:3: 1 fields, but the header has 2; mend the line"),
    "label.csv": ("text,label\na,b\nc,\n", r"label\.csv:3: the label in 'label' is empty"),
    "json.jsonl": ('{"text": "a", "label": "b"}\n{"text"\n', r"json\.jsonl:2: no JSON"),
    "list.jsonl": ("[1]\n", r"list\.jsonl:1: expected an object with columns, got list"),
    "none.parquet": ("nonsense", r"none\.parquet is no Parquet file"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_named_with_their_lines(name: str, tmp_path: Path) -> None:
    text, sentence = BAD_TABLES[name]
    with pytest.raises(DataError, match=sentence):
        examples_of(write(tmp_path / name, text), COLUMNS)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    write(tmp_path / "test.csv", "text,label\nc,x\nd,z\n")
    with pytest.raises(DataError, match=r"test\.csv:3: label 'z' is none of the classes of mine \(x, y\); correct"):
        read_task("mine", str(tmp_path), COLUMNS)
    write(tmp_path / "test.csv", "text,label\nc,x\n")
    assert read_task("mine", str(tmp_path), COLUMNS).notes == ("the test data has no example of y",)
    write(tmp_path / "train.csv", "text,label\na,x\nb,x\n")
    with pytest.raises(DataError, match="task mine has the only class 'x'; expected two or more"):
        read_task("mine", str(tmp_path), COLUMNS)
    with pytest.raises(DataError, match=r"train\.csv:2: label is 'x', expected a number; or leave out --scored"):
        read_task("mine", str(tmp_path), replace(COLUMNS, scored=True))
    write(tmp_path / "train.csv", "text,label\na,1\nb,1.0\n")
    write(tmp_path / "test.csv", "text,label\nc,1\n")
    with pytest.raises(DataError, match="all training scores are 1; there is nothing to learn"):
        read_task("mine", str(tmp_path), replace(COLUMNS, scored=True))


def test_signs_of_scores(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "score\ttext\n-2\ta\n0.2\tb\n0.5\tc\n1.5\td\n")
    columns = Columns(texts=("text",), label="score", sign_margin=0.5)
    found = [(example.first, example.label) for example in examples_of(tmp_path / "train.tsv", columns)]
    assert found == [("a", "negative"), ("d", "positive")]


def test_bytes_that_are_no_utf8_are_read_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"text,label\ncaf\xe9,x\n")
    rows, _ = read_examples(examples_of(path, COLUMNS), Bytes(), 64, CLS)
    assert Bytes().decode(rows[0][1:]) == b"caf\xe9"


def test_parts_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table; expected one train and one of test"):
        find_parts(str(tmp_path))
    write(tmp_path / "train.csv", "x")
    write(tmp_path / "dev.tsv", "x")
    train_path, test_path = find_parts(str(tmp_path))
    assert test_path is not None and (train_path.name, test_path.name) == ("train.csv", "dev.tsv")
    with pytest.raises(DataError, match="does not exist; give a table"):
        find_parts(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"expected a table that ends in \.csv"):
        find_parts(str(write(tmp_path / "a.xls", "x")))
    assert table_name("/a/my reviews.csv") == "my_reviews"
    assert table_name("/a/train.csv") == "train_"


def test_a_single_table_is_split_by_its_texts(tmp_path: Path) -> None:
    lines = [f"text {number},{'xy'[number % 2]}" for number in range(200)] * 2  # every text twice
    task = read_task("mine", str(write(tmp_path / "a.csv", "\n".join(["text,label", *lines]))), COLUMNS)
    train, test = ({example.first for example in part} for part in (task.train, task.test))
    assert len(train | test) == 200 and not train & test and 5 < len(test) < 40


# -------------------------------------------------------------------------------------------------------------- GLUE


OFFICIAL = {
    "cola": "gj04\t1\t\tA sentence.\ngj04\t0\t*\tSentence a.\n",
    "sst2": 'sentence\tlabel\ngood "film\t1\nbad\t0\n',
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n0\t3\t4\tc\td\n",
    "stsb": "index\tsentence1\tsentence2\tscore\n0\ta\tb\t4.5\n1\tc\td\t1.0\n2\tshort\n",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta\tb\t0\n1\t3\t4\tc\td\t1\n",
    "mnli": "index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n1\tc\td\tcontradiction\n2\te\tf\t-\n",
    "qnli": "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n",
    "rte": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n",
    "wnli": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\tc\td\t0\n",
}


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("glue")
    for name, text in OFFICIAL.items():
        for part in ("train", GLUE[name].dev):
            write(root / "official" / GLUE[name].folder / f"{part}.tsv", text)
    for name, task in GLUE.items():
        official = read_glue(name, str(root / "official"))
        columns: dict[str, list[Any]] = {task.hub_texts[0]: [example.first for example in official.train]}
        if len(task.hub_texts) > 1:
            columns[task.hub_texts[1]] = [example.second for example in official.train]
        columns["label"] = official.targets(official.train).tolist()
        for part in ("train", task.hub_dev):
            path = root / "hub" / name / f"{part}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return root


@pytest.mark.parametrize("name", GLUE)
def test_both_layouts_of_glue_give_the_same(name: str, glue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(glue / "cache"))
    official, hub = read_glue(name, str(glue / "official")), read_glue(name, str(glue / "hub"))
    assert len(official.train) == len(official.test) == 2
    for part in ("train", "test"):
        one, other = getattr(official, part), getattr(hub, part)
        assert [(e.first, e.second, e.label) for e in one] == [(e.first, e.second, e.label) for e in other]
    assert official.info == hub.info
    if name == "stsb":
        assert any("1 lines with too few fields were left out" in note for note in official.notes)


def test_glue_that_is_not_there_is_named(glue: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has neither CoLA/train\.tsv nor cola/train-\*\.parquet"):
        read_glue("cola", str(tmp_path))
    with pytest.raises(DataError, match="nowhere does not exist; give a folder with GLUE's files"):
        read_glue("cola", str(tmp_path / "nowhere"))
    write(tmp_path / "CoLA/train.tsv", "gj04\t2\t\tA.\n")
    write(tmp_path / "CoLA/dev.tsv", "gj04\t1\t\tA.\n")
    with pytest.raises(DataError, match=r"CoLA/train\.tsv:1: label '2'; expected one of 0, 1"):
        read_glue("cola", str(tmp_path))
    with pytest.raises(DataError, match=r"no task 'colla': cola, sst2, .* are GLUE's"):
        load_tasks(("colla",), str(glue / "official"), COLUMNS)
    with pytest.raises(DataError, match=r"no task 'cola': package, .* are embedded; GLUE's need --data"):
        load_tasks(("cola",), None, COLUMNS)


# ---------------------------------------------------------------------------------------------------------- embedded


@pytest.fixture
def few_docstrings(monkeypatch: pytest.MonkeyPatch) -> list[Docstring]:
    """Docstrings of a made-up library, in the place of the installed ones."""
    rng = np.random.default_rng(0)
    words = rng.permutation([f"word{number}" for number in range(20)])

    def sentence() -> str:
        return " ".join(rng.choice(words, 14)).capitalize() + "."

    found = [
        Docstring(
            package=package,
            name=f"{package}_{number}",
            parameters=tuple(f"p{index}" for index in range(number % 5)),
            text="\n\n".join(" ".join(sentence() for _ in range(2)) for _ in range(3)),
        )
        for package in ("torch", "scipy")
        for number in range(300)
    ]
    monkeypatch.setattr(embedded, "read_docstrings", lambda: found)
    embedded_task.cache_clear()
    yield found  # type: ignore[misc]
    embedded_task.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_embedded_tasks_keep_held_out_documents_for_the_test(name: str, few_docstrings: list[Docstring]) -> None:
    task = embedded_task(name)
    assert len(task.train) > 200 and len(task.test) > 20
    held_out = " ".join(" ".join(d.text.split()) for d in few_docstrings if is_held_out(d.text))
    if name in ("package", "parameter-count"):
        assert all(example.first in held_out for example in task.test)
        assert not any(example.first in held_out for example in task.train)
    if task.info.classes:
        counts = np.bincount(task.targets(task.train))
        assert counts.min() > 0.3 * counts.max()
    embedded_task.cache_clear()
    assert embedded_task(name) == task


# ----------------------------------------------------------------------------------------------------------- metrics


def test_metrics_and_their_intervals() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    told = np.where(rng.random(400) < 0.8, truth, 1 - truth)
    for name in ("accuracy", "f1", "matthews"):
        estimate = over_samples(name, truth, told)
        assert estimate.low < estimate.value < estimate.high
        assert estimate == over_samples(name, truth, told)
    accuracy = over_samples("accuracy", truth, told)
    normal = 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / 400)
    assert accuracy.high - accuracy.low == pytest.approx(2 * normal, rel=0.15)
    classes, named = rng.integers(0, 3, (5, 60)), rng.integers(0, 3, (5, 60))
    noisy_classes = np.where(rng.random((5, 60)) < 0.5, classes, named)
    pairs = {"accuracy": (classes, noisy_classes), "matthews": (classes, noisy_classes)}
    pairs |= {"f1": (classes % 2, noisy_classes % 2)}
    pairs |= {name: (classes + named / 3, noisy_classes + 0.1) for name in ("pearson", "spearman")}
    for name, (one, other) in pairs.items():
        expected = [METRICS[name](a, b) for a, b in zip(one, other, strict=True)]
        np.testing.assert_allclose(RESAMPLED[name](one, other), expected, rtol=1e-10)
    scores = rng.normal(size=100)
    noisy = scores + rng.normal(size=100)
    assert METRICS["pearson"](scores, noisy) == pytest.approx(pearsonr(scores, noisy).statistic)
    assert METRICS["pearson"](scores, np.zeros(100)) == 0.0
    seeds = over_seeds([0.7, 0.8, 0.9])
    assert seeds.value == pytest.approx(0.8) and seeds.high - seeds.value == pytest.approx(4.303 * 0.1 / 3**0.5, 1e-3)
    assert np.isnan(over_seeds([0.7]).low)


def test_n_grams_tell_what_is_in_the_words() -> None:
    rng = np.random.default_rng(0)
    examples = [
        Example(first=" ".join([*rng.choice(list("abcdef"), 6), *(["good"] if good else ["bad"])]), label="ny"[good])
        for good in rng.integers(0, 2, 200)
    ]
    task = make_task("mine", examples[:150], examples[150:], scored=False)
    truth = task.targets(task.test)
    assert METRICS["accuracy"](truth, n_gram_regression(task)) == 1.0
    assert METRICS["accuracy"](truth, trivial(task)) < 0.8
    pairs = [replace(example, first="same", second=example.first) for example in examples]
    paired = make_task("pairs", pairs[:150], pairs[150:], scored=False)
    assert METRICS["accuracy"](truth, n_gram_regression(paired)) == 1.0


# ------------------------------------------------------------------------------------------------------------- model


def small(encoder: str = "perceiver", **changes: Any) -> Any:
    sizes = preset("tiny", 262, max_length=64, num_latents=16)
    return replace(sizes, encoder=encoder, **changes)


def mixed_batch(seed: int = 0, samples: int = 9) -> LabelledBatch:
    rng = np.random.default_rng(seed)
    rows = [np.r_[CLS, rng.integers(6, 262, rng.integers(5, 40))] for _ in range(samples)]
    tasks = [number % 3 for number in range(samples)]
    targets = [float(rng.integers(2)) for _ in range(samples)]
    return collate(rows, tasks, targets)


def reordered(batch: LabelledBatch, order: Tensor) -> LabelledBatch:
    return LabelledBatch(
        tokens=batch.tokens[order], mask=batch.mask[order], task=batch.task[order], target=batch.target[order]
    )


@pytest.mark.parametrize("encoder", ["perceiver", "transformer"])
@pytest.mark.parametrize("way", ["task-queries", "shared-token"])
def test_the_order_of_tasks_in_a_batch_changes_nothing(encoder: str, way: str) -> None:
    torch.manual_seed(0)
    model = build_tasks(small(encoder), {task.name: task.outputs for task in TASKS}, way)  # type: ignore[arg-type]

    def gradients(batch: LabelledBatch) -> tuple[Tensor, Mapping[str, Tensor], dict[str, Tensor]]:
        model.zero_grad()
        total, by_name = task_losses(model, batch, TASKS)
        total.backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return total.detach(), by_name, found

    batch = mixed_batch()
    total, by_name, expected = gradients(batch)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    again, by_name_again, got = gradients(reordered(batch, order))
    torch.testing.assert_close(again, total)
    torch.testing.assert_close(dict(by_name_again), dict(by_name))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_padding_of_a_batch_changes_nothing() -> None:
    torch.manual_seed(0)
    for encoder in ("perceiver", "transformer"):
        model = build_tasks(small(encoder), {task.name: task.outputs for task in TASKS}, "task-queries").eval()
        batch = mixed_batch()
        noise = torch.where(batch.mask, batch.tokens, torch.randint(6, 262, batch.tokens.shape))
        with torch.no_grad():
            told, again = model(batch.tokens, batch.mask), model(noise, batch.mask)
        torch.testing.assert_close(told, again, rtol=0, atol=0)


def test_absent_tasks_get_zero_gradients_rather_than_none() -> None:
    model = build_tasks(small(), {task.name: task.outputs for task in TASKS}, "task-queries")
    batch = mixed_batch()
    only = reordered(batch, torch.nonzero(batch.task == 0)[:, 0])
    total, by_name = task_losses(model, only, TASKS)
    total.backward()
    assert set(by_name) == {"topic"}
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_pretrained_trunk_is_taken_over() -> None:
    torch.manual_seed(0)
    pretrained = build_masked(small())
    model = build_tasks(small(), {task.name: task.outputs for task in TASKS}, "shared-token")
    take_trunk(model, pretrained)
    batch = mixed_batch()
    with torch.no_grad():
        expected = pretrained.encode(batch.tokens, batch.mask)  # type: ignore[operator,union-attr]
        latents = model.encode(batch.tokens, batch.mask)  # type: ignore[operator,union-attr]
        torch.testing.assert_close(latents, expected, rtol=0, atol=0)
        # One query for all tasks begins as the query of the first position: the rows before the heads are the same.
        rows = pretrained.decoder(pretrained.queries(torch.tensor([0])), expected)  # type: ignore[operator,union-attr]
        own = model.decoder(model.queries(), latents)  # type: ignore[operator,union-attr]
    torch.testing.assert_close(own, rows.expand(-1, 3, -1), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"the pretrained weights do not fit: inputs\.position is \[64, 128\]"):
        take_trunk(build_tasks(replace(small(), max_length=32), {"a": 2}, "task-queries"), pretrained)


def test_task_tokens_tell_the_tasks_apart() -> None:
    model = build_tasks(small(), {task.name: task.outputs for task in TASKS}, "task-tokens").eval()
    assert model.inputs.embedding.num_embeddings == 262 + 3  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task that a letter decides."""
    root = tmp_path_factory.mktemp("reviews")
    rng = np.random.default_rng(0)
    for part, count in (("train", 120), ("test", 30)):
        lines = ["text\tlabel"]
        for _ in range(count):
            good = rng.integers(2)
            lines.append("".join(rng.choice(list("abc "), 20)) + ("x" if good else "y") + "\t" + ("no", "yes")[good])
        write(root / f"{part}.tsv", "\n".join(lines) + "\n")
    return root


def config_for(out: Path, data: Path, **changes: Any) -> FinetuningConfig:
    base = FinetuningConfig(
        out=str(out),
        data=str(data),
        steps=6,
        batch_size=8,
        max_length=32,
        num_latents=8,
        checkpoint_every=3,
        log_every=1,
    )
    return replace(base, **changes)


def totals(out: str) -> list[float]:
    return [line["total"] for line in read_lines(Path(out) / METRICS_FILE)]


def test_a_training_resumes_inside_an_epoch_and_is_evaluated(reviews: Path, tmp_path: Path) -> None:
    whole = config_for(tmp_path / "whole", reviews)
    train(prepare(whole), alone())
    broken = config_for(tmp_path / "broken", reviews)
    for until in (2, 5, None):
        train(prepare(broken), alone(), until=until)
    assert totals(whole.out) == totals(broken.out) and len(totals(whole.out)) == 6
    config = EvaluateConfig(run=whole.out)
    (result,) = evaluate(config)
    assert result.examples == 30 and set(result.by_way) >= {MODEL, N_GRAMS}
    assert result.by_way[N_GRAMS]["accuracy"].value > 0.8
    stored = json.loads((Path(whole.out) / "evaluation/evaluation.json").read_text())
    assert stored["tasks"][table_name(str(reviews))]["examples"] == 30
    wrong = [example.label != said for example, said, _ in result.mistakes]
    assert all(wrong) and len(wrong) == round(30 * (1 - result.by_way[MODEL]["accuracy"].value))
    assert np.trace(np.array(result.confusion)) == 30 - len(wrong)
    write_report(tmp_path / "page.html", whole.out, [result])
    page = (tmp_path / "page.html").read_text()
    assert "Where the latents look" in page and "confusion matrix" in page
    assert len(result_rows([result])[1]) == 1
    # Other data of the same task, under another name.
    moved = write(tmp_path / "other/test.tsv", (reviews / "test.tsv").read_bytes()).parent
    write(moved / "train.tsv", (reviews / "train.tsv").read_bytes())
    (again,) = evaluate(replace(config, data=str(moved), baselines=False))
    assert again.by_way[MODEL] == result.by_way[MODEL]
    write(moved / "test.tsv", "text\tlabel\na\tperhaps\n")
    with pytest.raises(DataError, match=r"test\.tsv:2: label 'perhaps' is none of the classes"):
        evaluate(replace(config, data=str(moved)))


@pytest.mark.parametrize("way", ["task-queries", "shared-token", "task-tokens"])
def test_many_tasks_at_once(way: str, few_docstrings: list[Docstring], tmp_path: Path) -> None:
    config = FinetuningConfig(
        out=str(tmp_path / "run"),
        steps=2,
        batch_size=8,
        max_length=48,
        num_latents=8,
        way=way,  # type: ignore[arg-type]
        checkpoint_every=2,
    )
    train(prepare(config), alone())
    model, info = load_model(config.out)
    assert [task.name for task in info.tasks] == list(NAMES)
    task = embedded_task("parameter-count")
    tokens = load_tokens(config.out)
    told = tell(model, info, config.way, task.info, task.test, tokens, torch.device("cpu"))
    # Each by itself, without padding to others and in the given order, is answered the same.
    one = [tell(model, info, config.way, task.info, [e], tokens, torch.device("cpu")).answers[0] for e in task.test[:5]]
    np.testing.assert_allclose(told.answers[:5], one, rtol=1e-3, atol=1e-4)


def test_a_training_starts_from_a_pretraining(reviews: Path, tmp_path: Path) -> None:
    write(tmp_path / "text.txt", "\n".join(f"line {number} of a text" for number in range(20_000)))
    pretraining = replace(
        pretraining_recipe("tiny", str(tmp_path / "pre")),
        data=str(tmp_path / "text.txt"),
        steps=2,
        batch_size=4,
        max_length=32,
        num_latents=8,
        held_out_rows=4,
    )
    train(prepare_pretraining(pretraining), alone())
    config = config_for(tmp_path / "run", reviews, start_from=pretraining.out, steps=1)
    task = prepare(config)
    model = task.build()
    task.begin(model)
    pretrained, _ = load_model(pretraining.out)
    weights = pretrained.state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(("inputs.", "encoder.", "decoder.")):
            assert torch.equal(value, weights[name]), name
    nothing = replace(config, start_from=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="give a run folder, or a published byte model"):
        prepare(nothing)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "columns": ({"text_columns": ("a", "b", "c")}, "text_columns are a, b, c; expected one or two"),
    "twice": ({"tasks": ("order", "order")}, "tasks are order, order; each may come once"),
    "hide": ({"hide_share": 1.0}, "hide_share is 1.0; it must be at least 0 and below 1"),
    "both": ({"scored": True, "sign_margin": 0.5}, "give one of them"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_make_no_sense(name: str) -> None:
    changes, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        FinetuningConfig(out="run", **changes)


def test_hidden_tokens_follow_from_epoch_and_number(reviews: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path / "run", reviews, hide_share=0.3)
    task = prepare(config)
    order = EpochBatches(task.num_samples, 8, seed=0)
    first, second = (next(iter(task.batches(order, torch.device("cpu")))) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)
    assert 0.15 < float((first.tokens[first.mask] == MASK).float().mean()) < 0.45
    assert bool((first.tokens[:, 0] == CLS).all())
    later = next(iter(task.batches(EpochBatches(task.num_samples, 8, seed=0, first_step=15), torch.device("cpu"))))
    assert later.tokens.shape == first.tokens.shape and not torch.equal(later.tokens, first.tokens)
    plain = next(
        iter(prepare(config_for(tmp_path / "plain", reviews, hide_share=0.0)).batches(order, torch.device("cpu")))
    )
    seen = first.tokens != MASK
    assert torch.equal(first.tokens[seen], plain.tokens[seen]) and not bool((plain.tokens == MASK).any())


def test_other_classes_do_not_continue_a_run(reviews: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path / "run", reviews)
    prepare(config)
    copied = tmp_path / reviews.name
    write(copied / "train.tsv", "text\tlabel\na\tno\nb\tperhaps\n" * 10)
    write(copied / "test.tsv", "text\tlabel\na\tno\nb\tperhaps\n")
    with pytest.raises(
        DataError, match=r"begun with other tasks or classes \(.*no, yes\) than these \(.*no, perhaps\)"
    ):
        prepare(replace(config, data=str(copied)))


def test_long_pairs_are_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "text\tother\tlabel\n" + f"{'a' * 50}\tbb\tx\n{'a' * 5}\tb\ty\n" * 8
    for part in ("train", "test"):
        write(tmp_path / f"data/{part}.tsv", text)
    config = config_for(tmp_path / "run", tmp_path / "data", text_columns=("text", "other"))
    prepare(config)
    printed = " ".join(capsys.readouterr().err.split())
    assert "8 training examples of data are longer than the model's 32 tokens" in printed
