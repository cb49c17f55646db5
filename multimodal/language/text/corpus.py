"""Text to pretrain on: folders of text files, JSON Lines and Parquet, read shard by shard, document by document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from multimodal.common.errors import DataError

PLAIN = (".txt", ".md", ".rst", ".text")
LINES = (".jsonl", ".ndjson")
TABLES = (".parquet",)
PIECE_BYTES = 2**13
"""A longer text file is cut into documents of about this size, at ends of lines."""


def find_shards(data: str) -> list[Path]:
    """The files of a folder with all its folders, in the order of their names; or the one file.

    Raises:
        DataError: there is no such folder, or nothing in it that can be read.
    """
    root = Path(data)
    readable = (*PLAIN, *LINES, *TABLES)
    if not root.exists():
        raise DataError(f"{data} does not exist; give a file or folder of text with --data")
    candidates = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    shards = [path for path in candidates if path.suffix.lower() in readable]
    if not shards:
        raise DataError(f"{data} holds no text: expected files that end in {', '.join(readable)}")
    empty = [path for path in shards if path.stat().st_size == 0]
    if len(empty) == len(shards):
        raise DataError(f"{empty[0]} is empty, and so is all of {data}; give files with text")
    return shards


def read_shard(path: Path, column: str) -> Iterator[bytes]:
    """The documents of a shard, one after another; a large file is never held as a whole.

    Args:
        path: the file.
        column: name of the text in JSON Lines and Parquet.

    Raises:
        DataError: a line is no JSON object, or the column is missing; names file and line.
    """
    suffix = path.suffix.lower()
    if suffix in LINES:
        yield from _json_lines(path, column)
    elif suffix in TABLES:
        yield from _parquet(path, column)
    else:
        yield from _plain(path)


def _plain(path: Path) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    with path.open("rb") as stream:
        # A line without an end is read in parts, so that a file of one line is not held as a whole.
        for line in iter(lambda: stream.readline(PIECE_BYTES), b""):
            piece.append(line)
            size += len(line)
            if size >= PIECE_BYTES:
                yield b"".join(piece)
                piece, size = [], 0
    if piece:
        yield b"".join(piece)


def _json_lines(path: Path, column: str) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}:{number}: no JSON ({error}); mend or remove the line") from error
            if not isinstance(record, dict) or not isinstance(record.get(column), str):
                known = ", ".join(record) if isinstance(record, dict) else type(record).__name__
                raise DataError(f"{path}:{number}: no text {column!r} among {known}; name the text with --text-column")
            yield record[column].encode("utf-8", errors="replace")


def _parquet(path: Path, column: str) -> Iterator[bytes]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file ({error}); mend or remove it") from error
    if column not in file.schema_arrow.names:
        names = ", ".join(file.schema_arrow.names)
        raise DataError(f"{path} has no column {column!r}, only {names}; name the text with --text-column")
    for batch in file.iter_batches(columns=[column]):
        for value in batch.column(0).to_pylist():
            if value is not None:
                yield value if isinstance(value, bytes) else str(value).encode()
