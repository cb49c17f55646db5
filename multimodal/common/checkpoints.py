"""Checkpoints of a run: weights by the hub's conventions, the optimizer's state, and how far the run is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import torch

from multimodal.common.run_folder import checkpoints
from perceiver_core.hub import WEIGHTS_FILE, HubModel, read_safetensors

STATE_FILE = "state.pt"
KEPT_CHECKPOINTS = 2


class Stateful(Protocol):
    """What a checkpoint keeps besides the model."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


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
