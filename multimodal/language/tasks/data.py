"""The labelled data that settings ask for: embedded tasks, GLUE, or a user's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from multimodal.common.errors import DataError
from multimodal.language.tasks.embedded import NAMES, embedded_task
from multimodal.language.tasks.glue import GLUE, read_glue
from multimodal.language.tasks.labelled import LabelledTask
from multimodal.language.tasks.tables import Columns, read_task


def check_names(tasks: Sequence[str], data: str | None) -> None:
    """Raises DataError for tasks that nobody knows, before anything is read."""
    known = NAMES if data is None else tuple(GLUE)
    for name in tasks:
        if name not in known:
            where = (
                "are embedded; GLUE's need --data" if data is None else "are GLUE's; your own table needs no --tasks"
            )
            raise DataError(f"no task {name!r}: {', '.join(known)} {where}")


def load_tasks(
    tasks: Sequence[str],
    data: str | None,
    columns: Columns,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> list[LabelledTask]:
    """The tasks of these settings (see `FinetuningConfig`).

    Args:
        tasks: names; empty for all embedded ones, or for the table in `data`.
        data: folder, file or hub id; None for embedded tasks.
        columns: of a table.
        classes: names of the classes of a table's task, where a model knows them already.

    Raises:
        DataError: with the value and the remedy.
    """
    check_names(tasks, data)
    if data is None:
        return [embedded_task(name) for name in tasks or NAMES]
    if tasks:
        return [read_glue(name, data) for name in tasks]
    name = table_name(data)
    return [read_task(name, data, columns, (classes or {}).get(name))]


def table_name(data: str) -> str:
    """The name of a table's task: that of its file or folder, as far as a parameter's name allows."""
    path = Path(data)
    stem = path.stem if path.suffix else path.name
    name = "".join(letter if letter.isalnum() else "_" for letter in stem) or "table"
    return f"{name}_" if hasattr(nn.ModuleDict, name) else name  # torch keeps `train` and others for itself
