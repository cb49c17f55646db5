"""A run of the autoencoder: its sizes, class list and settings in `run.json`, and the trained model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.clips.clip import ClipFormat
from multimodal.common.errors import DataError
from multimodal.common.run_folder import check_same_settings, newest_checkpoint, read_run, write_run
from perceiver_agents.paths import absolute_if_folder
from perceiver_core.model import PerceiverIO

MODALITY = "autoencoder"
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
    training: Mapping[str, Any]


def save_run(folder: Path, info: RunInfo) -> None:
    """Write `run.json`."""
    write_run(folder, {"modality": MODALITY, **asdict(info)})


def load_run(folder: str | Path) -> RunInfo:
    """Read `run.json`.

    Raises:
        DataError: the folder holds no run of the autoencoder.
    """
    data = read_run(folder, MODALITY)
    model = dict(data["model"])
    clip = ClipFormat(**model.pop("clip"))
    training = dict(data["training"])
    for name in PATHS:  # version 0.1 kept them as they were typed
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
    before, now = dict(begun.training), dict(info.training)
    for name in PATHS:
        # Typed in another folder than this, for version 0.1: nobody knows where it led. The classes are the same.
        if before.get(name) is not None and not os.path.isabs(before[name]):
            before[name] = now.get(name)
    check_same_settings(folder, asdict(begun.model) | before, asdict(info.model) | now)


def load_model(folder: str | Path) -> tuple[PerceiverIO, RunInfo]:
    """The trained model of a run, in evaluation mode, and what identifies the run.

    Raises:
        DataError: the folder holds no run, or no checkpoint yet.
    """
    info = load_run(folder)
    return PerceiverIO.from_pretrained(newest_checkpoint(folder)), info
