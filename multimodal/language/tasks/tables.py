"""A user's labelled text: CSV, TSV, JSON Lines or Parquet, with one or two text columns and a label or a score."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from multimodal.common.errors import DataError
from multimodal.language.tasks.labelled import Example, LabelledTask, make_task
from multimodal.language.text.docstrings import is_held_out

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
TEST_STEMS = ("test", "validation", "valid", "val", "dev")
NEGATIVE, POSITIVE = "negative", "positive"
csv.field_size_limit(2**24)
csv.register_dialect("glue", delimiter="\t", quoting=csv.QUOTE_NONE)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where a table has what.

    Attributes:
        texts: one or two columns.
        label: of the class or the score.
        scored: the label is a score.
        sign_margin: classes are the signs of scores; scores nearer to zero than this are left out. None: no signs.
    """

    texts: tuple[str, ...]
    label: str
    scored: bool = False
    sign_margin: float | None = None


Row = tuple[str, Mapping[str, object]]
"""A place (file and line), and values by column."""


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a table. Bytes that are no UTF-8 come through as surrogates, which `as_bytes` turns back.

    Raises:
        DataError: an empty file, a doubled column, a row with more or fewer fields; names file and line.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a table with a header and rows")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path)
    elif suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(path)
    else:
        yield from _separated(path, "\t" if suffix == ".tsv" else ",")


def _separated(path: Path, separator: str) -> Iterator[Row]:
    # A TSV quotes nothing, as GLUE's files; a CSV does.
    dialect = "glue" if separator == "\t" else "excel"
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream, dialect)
        header = next(reader)
        check_names(path, header)
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(fields)} fields, but the header has {len(header)}; mend the line"
                )
            yield f"{path}:{reader.line_num}", dict(zip(header, fields, strict=True))


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises DataError where a column comes twice."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(f"{path}: the column {doubled[0]!r} comes {Counter(names)[doubled[0]]} times; rename one")


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: no JSON ({error}); mend or remove the line") from error
            if not isinstance(record, dict):
                raise DataError(f"{path}:{number}: expected an object with columns, got {type(record).__name__}")
            yield f"{path}:{number}", record


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file ({error}); mend or remove it") from error
    check_names(path, file.schema_arrow.names)
    number = 0
    for batch in file.iter_batches():
        for record in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", record


def as_bytes(text: str) -> bytes:
    """The bytes of a text that `read_rows` gave."""
    return text.encode("utf-8", errors="surrogateescape")


def examples_of(path: Path, columns: Columns) -> list[Example]:
    """The examples of one table.

    Raises:
        DataError: a column is missing, a label is empty, a score is no number; names file and line.
    """
    return list(_examples(path, columns))


def _examples(path: Path, columns: Columns) -> Iterator[Example]:
    for place, record in read_rows(path):
        for name in (*columns.texts, columns.label):
            if name not in record:
                raise DataError(
                    f"{place}: no column {name!r}, only {', '.join(record)}; name them with --text-columns and "
                    "--label-column"
                )
        texts = [str(record[name] if record[name] is not None else "") for name in columns.texts]
        label = read_label(place, record[columns.label], columns)
        if label is not None:
            yield Example(first=texts[0], second=texts[1] if len(texts) > 1 else None, label=label, place=place)


def read_label(place: str, value: object, columns: Columns) -> str | float | None:
    """The label of a row; None where the row is left out.

    Raises:
        DataError: it is empty, or a score that is no number.
    """
    text = "" if value is None else str(value).strip()
    if not text:
        raise DataError(f"{place}: the label in {columns.label!r} is empty; fill it in or remove the row")
    if not columns.scored and columns.sign_margin is None:
        return text
    try:
        score = float(text)
    except ValueError:
        raise DataError(f"{place}: {columns.label} is {text!r}, expected a number; or leave out --scored") from None
    if columns.scored:
        return score
    assert columns.sign_margin is not None
    if abs(score) <= columns.sign_margin:
        return None
    return POSITIVE if score > 0 else NEGATIVE


def find_parts(data: str) -> tuple[Path, Path | None]:
    """The tables to train on and to test with: `train.*` and `test.*` (or validation, valid, val, dev) of a folder.

    Returns:
        Their paths; for a single file the second is None.

    Raises:
        DataError: there are no such files, or several.
    """
    root = Path(data)
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise DataError(f"{data}: expected a table that ends in {', '.join(SUFFIXES)}")
        return root, None
    if not root.is_dir():
        raise DataError(f"{data} does not exist; give a table, or a folder with train and test tables")
    tables = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
    train = [path for path in tables if path.stem.lower() == "train"]
    tests = [path for stem in TEST_STEMS for path in tables if path.stem.lower() == stem]
    if len(train) != 1 or not tests:
        found = ", ".join(path.name for path in tables) or "no table"
        raise DataError(
            f"{data} holds {found}; expected one train and one of {', '.join(TEST_STEMS)}, as .csv, .tsv, .jsonl or "
            ".parquet"
        )
    return train[0], tests[0]


def read_task(name: str, data: str, columns: Columns, classes: Sequence[str] | None = None) -> LabelledTask:
    """A user's task. Of a single table, a tenth of the rows, chosen by their text, makes the test.

    Raises:
        DataError: see `find_parts`, `read_rows`, `examples_of` and `make_task`.
    """
    train_path, test_path = find_parts(data)
    examples = examples_of(train_path, columns)
    if test_path is None:
        train = [example for example in examples if not is_held_out(as_bytes(example.first))]
        test = [example for example in examples if is_held_out(as_bytes(example.first))]
    else:
        train, test = examples, examples_of(test_path, columns)
    return make_task(name, train, test, scored=columns.scored, classes=classes)
