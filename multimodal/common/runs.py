"""The folder of a training run: settings, classes, checkpoints, measurements and the list of skipped files.

RUN/run.json                    model sizes, class list, training settings
RUN/checkpoints/step-00001000/  config.json and model.safetensors (perceiver_core), state.pt (optimizer, step)
RUN/metrics.jsonl               one line per logged step
RUN/skipped_files.jsonl         one line per file that could not be used, with the reason
RUN/tensorboard/                curves, reconstructions as pictures and sound
RUN/lock                        held by the training that writes here
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import Problem
from multimodal.common.errors import DataError
from perceiver_agents.paths import absolute_if_folder
from perceiver_core.model import PerceiverIO

RUN_FILE = "run.json"
STATE_FILE = "state.pt"
KEPT_CHECKPOINTS = 2
PATHS = ("data", "start_from")
"""Settings in `RunInfo.training` that are paths."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What identifies a run.

    Attributes:
        model: sizes of the autoencoder.
        classes: class names; labels are indices into it.
        training: the settings that the course of training depends on, as plain values.
    """

    model: AutoencoderConfig
    classes: tuple[str, ...]
    training: dict[str, Any]


@contextmanager
def claim(folder: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold the run folder: one training writes to it at a time.

    Args:
        folder: the run folder.
        patience: seconds to wait for another training to end, and stderr says so; the processes of a killed one may
            live on for a while.

    Raises:
        DataError: another training goes on in the folder.
    """
    deadline = time.monotonic() + patience
    told = False
    with (folder / "lock").open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DataError(
                        f"another training is writing to {folder}; let it end or stop it, or give another --out"
                    ) from None
                if not told:
                    Console(stderr=True).print(
                        f"another training holds {folder}; waiting up to {patience:.0f} s for it to end"
                    )
                    told = True
                time.sleep(0.2)
        yield


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def save_run(folder: Path, info: RunInfo) -> None:
    """Write `run.json`."""
    _write_atomically(folder / RUN_FILE, json.dumps(asdict(info), indent=1, ensure_ascii=False) + "\n")


def load_run(folder: str | Path) -> RunInfo:
    """Read `run.json`.

    Raises:
        DataError: the folder holds no run.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no training run ({RUN_FILE} is missing); give the --out folder of a training")
    data = json.loads(path.read_text(encoding="utf-8"))
    model = dict(data["model"])
    clip = ClipFormat(**model.pop("clip"))
    training = dict(data["training"])
    for name in PATHS:  # kept as they were typed by version 0.1
        if training.get(name) is not None:
            training[name] = absolute_if_folder(training[name])
    return RunInfo(model=AutoencoderConfig(clip=clip, **model), classes=tuple(data["classes"]), training=training)


def check_same_run(folder: Path, info: RunInfo) -> None:
    """Refuse to continue a run with other settings or classes than it began with.

    Raises:
        DataError: they differ; names what.
    """
    begun = load_run(folder)
    if begun.classes != info.classes:
        gone = sorted(set(begun.classes) - set(info.classes))
        new = sorted(set(info.classes) - set(begun.classes))
        raise DataError(
            f"the run in {folder} was begun with other classes (gone: {', '.join(gone) or 'none'}; new: "
            f"{', '.join(new) or 'none'}); continue it on its own data, or give another --out"
        )
    before, now = asdict(begun.model) | begun.training, asdict(info.model) | json.loads(json.dumps(info.training))
    for name in PATHS:
        # As version 0.1 was given it, in another folder than this: it cannot be compared, but the classes can.
        if before.get(name) is not None and not os.path.isabs(before[name]):
            before[name] = now.get(name)
    changed = [f"{name} {before.get(name)} -> {now.get(name)}" for name in now if before.get(name) != now.get(name)]
    if changed:
        raise DataError(
            f"the run in {folder} was begun with other settings ({'; '.join(changed)}); "
            "continue it with its own, or give another --out"
        )


def checkpoints(folder: str | Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("step-*"))


class Stateful(Protocol):
    """What a checkpoint keeps besides the model."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def save_checkpoint(folder: Path, model: PerceiverIO, optimizer: Stateful, step: int) -> Path:
    """Write the checkpoint after `step` steps; it appears under its name only when it is complete. Older ones go."""
    final = folder / "checkpoints" / f"step-{step:08d}"
    partial = folder / "checkpoints" / f".partial-{step:08d}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    with (partial / STATE_FILE).open("wb") as stream:
        torch.save({"optimizer": optimizer.state_dict(), "step": step}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    if final.exists():  # written before a crash whose restart began at an older checkpoint
        shutil.rmtree(final)
    os.replace(partial, final)
    for old in checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)
    for leftover in (folder / "checkpoints").glob(".partial-*"):  # of killed processes
        shutil.rmtree(leftover, ignore_errors=True)
    return final


def restore(folder: Path, model: PerceiverIO, optimizer: Stateful) -> int:
    """Load the newest checkpoint into model and optimizer.

    Returns:
        Steps done; 0 without a checkpoint.
    """
    found = checkpoints(folder)
    if not found:
        return 0
    model.load_state_dict(PerceiverIO.from_pretrained(found[-1]).state_dict())
    state = torch.load(found[-1] / STATE_FILE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def load_model(folder: str | Path) -> tuple[PerceiverIO, RunInfo]:
    """The trained model of a run, in evaluation mode, and what identifies the run.

    Raises:
        DataError: the folder holds no run, or no checkpoint yet.
    """
    info = load_run(folder)
    found = checkpoints(folder)
    if not found:
        raise DataError(f"{folder} has no checkpoint yet; let the training write one first")
    return PerceiverIO.from_pretrained(found[-1]), info


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
    append_lines(folder / "skipped_files.jsonl", (asdict(problem) for problem in problems))


def skipped_files(folder: str | Path) -> dict[str, str]:
    """Skipped files of a run and why."""
    return {record["path"]: record["reason"] for record in read_lines(Path(folder) / "skipped_files.jsonl")}


def forget_after(folder: Path, step: int) -> None:
    """Drop measurements of steps after `step`, which a resumed run makes again."""
    path = folder / "metrics.jsonl"
    kept = [record for record in read_lines(path) if record["step"] <= step]
    _write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
