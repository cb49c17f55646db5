"""Files of a run that grow line by line (JSON lines), and files that appear whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
SKIPPED_FILE = "skipped_files.jsonl"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A file that was left out, and why."""

    path: str
    reason: str


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either complete or as it was before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def append_lines(path: Path, records: Iterable[Any]) -> None:
    """Append JSON lines; whole lines at once, so that processes may share the file."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if text:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)


def read_lines(path: Path) -> list[Any]:
    """Read JSON lines; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def record_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """Add files to the run's list of skipped files."""
    append_lines(folder / SKIPPED_FILE, (asdict(problem) for problem in problems))


def skipped_files(folder: str | Path) -> dict[str, str]:
    """Skipped files of a run and why."""
    return {record["path"]: record["reason"] for record in read_lines(Path(folder) / SKIPPED_FILE)}


def forget_after(folder: Path, step: int) -> None:
    """Drop measurements of steps after `step`, which a resumed run makes again."""
    path = folder / METRICS_FILE
    kept = [record for record in read_lines(path) if record["step"] <= step]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
