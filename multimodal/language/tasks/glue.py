"""The nine tasks of GLUE (arXiv 1804.07461): official TSV folders, Parquet files of the hub, or a hub id.

| folder | hub | texts | metrics |
|---|---|---|---|
| CoLA | cola | sentence | Matthews |
| SST-2 | sst2 | sentence | accuracy |
| MRPC | mrpc | pair | accuracy, F1 |
| STS-B | stsb | pair, a score | Pearson, Spearman |
| QQP | qqp | pair | accuracy, F1 |
| MNLI | mnli | pair | accuracy |
| QNLI | qnli | pair | accuracy |
| RTE | rte | pair | accuracy |
| WNLI | wnli | pair | accuracy |

Labels of the test sets are not public, so the development sets are the tests here; of MNLI the matched one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.common.errors import DataError
from multimodal.language.tasks.labelled import Example, LabelledTask, make_task
from multimodal.language.tasks.tables import Columns, check_names, read_label


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """How GLUE keeps a task.

    Attributes:
        folder: of the official files.
        texts: columns in these.
        label: column in these.
        hub_texts: columns in the hub's.
        classes: names in the hub's order; empty for a score.
        official: the classes' names in the official files, in the same order.
        metrics: the headline first.
        header: names of the columns, where the official files have none.
        dev: stem of the official development set; `hub_dev` of the hub's.
    """

    folder: str
    texts: tuple[str, ...]
    label: str = "label"
    hub_texts: tuple[str, ...]
    classes: tuple[str, ...]
    official: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    header: tuple[str, ...] = ()
    dev: str = "dev"
    hub_dev: str = "validation"


HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PAIR = ("sentence1", "sentence2")
NUMBERS = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
GLUE: dict[str, GlueTask] = {
    "cola": GlueTask(
        folder="CoLA",
        texts=("sentence",),
        hub_texts=("sentence",),
        classes=("unacceptable", "acceptable"),
        official=NUMBERS,
        metrics=("matthews", "accuracy"),
        header=("source", "label", "star", "sentence"),
    ),
    "sst2": GlueTask(
        folder="SST-2", texts=("sentence",), hub_texts=("sentence",), classes=("negative", "positive"), official=NUMBERS
    ),
    "mrpc": GlueTask(
        folder="MRPC",
        texts=("#1 String", "#2 String"),
        label="Quality",
        hub_texts=PAIR,
        classes=("not_equivalent", "equivalent"),
        official=NUMBERS,
        metrics=("accuracy", "f1"),
    ),
    "stsb": GlueTask(
        folder="STS-B",
        texts=PAIR,
        label="score",
        hub_texts=PAIR,
        classes=(),
        official=(),
        metrics=("pearson", "spearman"),
    ),
    "qqp": GlueTask(
        folder="QQP",
        texts=("question1", "question2"),
        label="is_duplicate",
        hub_texts=("question1", "question2"),
        classes=("not_duplicate", "duplicate"),
        official=NUMBERS,
        metrics=("accuracy", "f1"),
    ),
    "mnli": GlueTask(
        folder="MNLI",
        texts=PAIR,
        label="gold_label",
        hub_texts=("premise", "hypothesis"),
        classes=("entailment", "neutral", "contradiction"),
        official=("entailment", "neutral", "contradiction"),
        dev="dev_matched",
        hub_dev="validation_matched",
    ),
    "qnli": GlueTask(
        folder="QNLI",
        texts=("question", "sentence"),
        hub_texts=("question", "sentence"),
        classes=ENTAILMENT,
        official=ENTAILMENT,
    ),
    "rte": GlueTask(folder="RTE", texts=PAIR, hub_texts=PAIR, classes=ENTAILMENT, official=ENTAILMENT),
    "wnli": GlueTask(
        folder="WNLI", texts=PAIR, hub_texts=PAIR, classes=("not_entailment", "entailment"), official=NUMBERS
    ),
}
"""By the hub's names."""


def read_glue(name: str, data: str) -> LabelledTask:
    """A task of GLUE.

    Args:
        name: as the hub names it.
        data: a folder of the official folders (`DATA/CoLA/train.tsv`) or of the hub's (`DATA/cola/train-*.parquet`),
            or a hub id such as `nyu-mll/glue`, which is downloaded if its cache lacks it.

    Raises:
        DataError: the files are not there, or not as GLUE has them; names file and line.
    """
    task = GLUE[name]
    root = Path(data)
    notes: list[str] = []
    if (root / task.folder / "train.tsv").is_file():
        train = list(_official(root / task.folder / "train.tsv", task, notes))
        test = list(_official(root / task.folder / f"{task.dev}.tsv", task, notes))
    else:
        train, test = _from_hub(name, data, task)
    return make_task(
        name, train, test, scored=not task.classes, classes=task.classes or None, metrics=task.metrics, notes=notes
    )


def _official(path: Path, task: GlueTask, notes: list[str]) -> Iterator[Example]:
    """The official files quote nothing. A few lines of QQP and STS-B lack fields: those are left out and counted."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected GLUE's files {task.folder}/train.tsv and {task.dev}.tsv")
    columns = Columns(texts=task.texts, label=task.label, scored=not task.classes)
    short = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream, "glue")
        header = list(task.header) or next(reader, [])
        check_names(path, header)
        missing = [name for name in (*task.texts, task.label) if name not in header]
        if missing:
            raise DataError(
                f"{path}: no column {missing[0]!r} among {', '.join(header)}; expected GLUE's {task.folder}"
            )
        for fields in reader:
            if len(fields) < len(header):
                short += 1
                continue
            record = dict(zip(header, fields, strict=False))
            place = f"{path}:{reader.line_num}"
            label = read_label(place, record[task.label], columns)
            if label == "-":  # MNLI: the judges did not agree
                continue
            if task.classes:
                if label not in task.official:
                    raise DataError(f"{place}: label {label!r}; expected one of {', '.join(task.official)}")
                label = task.classes[task.official.index(str(label))]
            assert label is not None
            texts = [record[column] for column in task.texts]
            yield Example(first=texts[0], second=texts[1] if len(texts) > 1 else None, label=label, place=place)
    if short:
        notes.append(f"{path}: {short} lines with too few fields were left out")


def _from_hub(name: str, data: str, task: GlueTask) -> tuple[list[Example], list[Example]]:
    import datasets

    folder = Path(data) / name
    if not Path(data).exists() and not HUB_ID.fullmatch(data):
        raise DataError(f"{data} does not exist; give a folder with GLUE's files, or a hub id such as nyu-mll/glue")
    try:
        if folder.is_dir():
            files = {part: sorted(map(str, folder.glob(f"{part}-*.parquet"))) for part in ("train", task.hub_dev)}
            absent = [part for part, found in files.items() if not found]
            if absent:
                raise DataError(f"{folder} has no {absent[0]}-*.parquet; expected the hub's files of {name}")
            loaded = datasets.load_dataset("parquet", data_files=files)
        elif Path(data).is_dir():
            raise DataError(f"{data} has neither {task.folder}/train.tsv nor {name}/train-*.parquet")
        else:
            loaded = datasets.load_dataset(data, name)
    except DataError:
        raise
    except Exception as error:  # the library raises many types
        raise DataError(
            f"{data}: {name} cannot be loaded ({error}); give a folder, or a hub id within reach"
        ) from error
    return list(_hub_examples(loaded["train"], data, task)), list(_hub_examples(loaded[task.hub_dev], data, task))


def _hub_examples(rows: Any, data: str, task: GlueTask) -> Iterator[Example]:
    missing = [column for column in (*task.hub_texts, "label") if column not in rows.column_names]
    if missing:
        raise DataError(f"{data}: no column {missing[0]!r} among {', '.join(rows.column_names)}")
    record: Mapping[str, Any]
    for number, record in enumerate(rows, start=1):
        place = f"{data}: row {number}"
        value = record["label"]
        if task.classes and value not in range(len(task.classes)):
            raise DataError(f"{place}: label {value!r}; expected 0 to {len(task.classes) - 1}")
        texts = [str(record[column]) for column in task.hub_texts]
        label = task.classes[value] if task.classes else float(value)
        yield Example(first=texts[0], second=texts[1] if len(texts) > 1 else None, label=label, place=place)
