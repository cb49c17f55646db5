"""The folder of a training run, of any modality; `multimodal.common.checkpoints` writes and reads the weights.

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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically
from multimodal.common.settings import options

RUN_FILE = "run.json"


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
    before = dict(options(begun))
    after = dict(options(json.loads(json.dumps(now))))
    changed = [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]
    if changed:
        raise DataError(
            f"the run in {folder} was begun with other settings ({'; '.join(changed)}); "
            "continue it with its own, or give another --out"
        )


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
