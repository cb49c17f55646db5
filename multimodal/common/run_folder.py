"""The folder of a training run, of any modality.

RUN/run.json                    what identifies the run: modality, model sizes, classes, training settings
RUN/checkpoints/step-00001000/  config.json and model.safetensors (perceiver_core), state.pt (optimizer, step)
RUN/metrics.jsonl               one line per logged step
RUN/skipped_files.jsonl         one line per file that could not be used, with the reason
RUN/tensorboard/                curves and previews
RUN/lock                        held by the training that writes here
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically
from perceiver_core.hub import WEIGHTS_FILE, HubModel, read_safetensors

RUN_FILE = "run.json"
STATE_FILE = "state.pt"
KEPT_CHECKPOINTS = 2


def make_folder(folder: Path) -> None:
    """Make the run folder.

    Raises:
        DataError: it cannot be written.
    """
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"run folder {folder} cannot be written ({error.strerror}); choose --out in a folder you own"
        ) from error


def is_claimed(folder: Path) -> bool:
    """Whether a training holds the run folder."""
    with (folder / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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


def write_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write `run.json`: plain JSON values."""
    write_atomically(folder / RUN_FILE, json.dumps(identity, indent=1, ensure_ascii=False) + "\n")


def read_run(folder: str | Path, modality: str) -> dict[str, Any]:
    """Read `run.json`. Runs of version 0.1 name no modality: they are autoencoders.

    Raises:
        DataError: the folder holds no run, or one of another modality.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no training run ({RUN_FILE} is missing); give the --out folder of a training")
    identity = {"modality": "autoencoder"} | json.loads(path.read_text(encoding="utf-8"))
    if identity["modality"] != modality:
        raise DataError(f"{folder} is a run of the {identity['modality']}, not of the {modality}")
    return identity


def check_same_settings(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run with other settings than it began with.

    Args:
        folder: the run folder, for the error.
        begun: settings that the run began with.
        now: those that it would go on with.

    Raises:
        DataError: they differ; names what.
    """
    now = json.loads(json.dumps(now))
    changed = [f"{name} {begun.get(name)} -> {now[name]}" for name in now if begun.get(name) != now[name]]
    if changed:
        raise DataError(
            f"the run in {folder} was begun with other settings ({'; '.join(changed)}); "
            "continue it with its own, or give another --out"
        )


class Stateful(Protocol):
    """What a checkpoint keeps besides the model."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


def checkpoints(folder: str | Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("step-*"))


def newest_checkpoint(folder: str | Path) -> Path:
    """The newest complete checkpoint.

    Raises:
        DataError: there is none yet.
    """
    found = checkpoints(folder)
    if not found:
        raise DataError(f"{folder} has no checkpoint yet; let the training write one first")
    return found[-1]


def steps_done(folder: str | Path) -> int:
    """Steps that the newest checkpoint has done; 0 without a checkpoint."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def save_checkpoint(folder: Path, model: HubModel, optimizer: Stateful, step: int) -> Path:
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


def restore(folder: Path, model: HubModel, optimizer: Stateful) -> int:
    """Load the newest checkpoint into model and optimizer.

    Returns:
        Steps done; 0 without a checkpoint.
    """
    found = checkpoints(folder)
    if not found:
        return 0
    weights = found[-1] / WEIGHTS_FILE
    model.load_state_dict(read_safetensors(weights))
    state = torch.load(found[-1] / STATE_FILE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
