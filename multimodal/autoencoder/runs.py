"""A run of the autoencoder: its sizes, class list and settings in `run.json`, and the trained model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from multimodal.autoencoder import earlier
from multimodal.autoencoder.modalities import from_json, to_json
from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.autoencoder.settings import MODALITY
from multimodal.clips.clip import ClipFormat
from multimodal.common.errors import DataError
from multimodal.common.run_folder import check_same_settings, newest_checkpoint, read_run, write_run
from perceiver_agents.paths import absolute_if_folder
from perceiver_core.model import PerceiverIO

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


def _plain_sizes(model: AutoencoderConfig) -> dict[str, Any]:
    modalities = {modality.name: to_json(modality) for modality in model.modalities}
    return {**vars(model), "clip": asdict(model.clip), "modalities": modalities}


def save_run(folder: Path, info: RunInfo) -> None:
    """Write `run.json`."""
    write_run(folder, {"modality": MODALITY, **vars(info), "model": _plain_sizes(info.model)})


def load_run(folder: str | Path) -> RunInfo:
    """Read `run.json`.

    Raises:
        DataError: the folder holds no run of the autoencoder.
    """
    data = read_run(folder, MODALITY)
    model, training = dict(data["model"]), dict(data["training"])
    if "modalities" not in model:
        model, training = earlier.sizes(model), earlier.training(training)
    clip = ClipFormat(**model.pop("clip"))
    modalities = tuple(from_json(sizes) for sizes in model.pop("modalities").values())
    for name in PATHS:  # version 0.1 kept them as they were typed
        if training.get(name) is not None:
            training[name] = absolute_if_folder(training[name])
    sizes = AutoencoderConfig(clip=clip, modalities=modalities, **model)
    return RunInfo(model=sizes, classes=tuple(data["classes"]), training=training)


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
    check_same_settings(folder, _plain_sizes(begun.model) | before, _plain_sizes(info.model) | now)


def load_model(folder: str | Path) -> tuple[PerceiverIO, RunInfo]:
    """The trained model of a run, in evaluation mode, and what identifies the run.

    Raises:
        DataError: the folder holds no run, or no checkpoint yet.
    """
    info = load_run(folder)
    return PerceiverIO.from_pretrained(newest_checkpoint(folder)), info


def check_start(sizes: AutoencoderConfig, start_from: str) -> RunInfo:
    """The run to start from.

    Raises:
        DataError: its sizes are not those of `sizes`; modalities that it lacks do not count.
    """
    start = load_run(start_from)
    shared = tuple(modality for modality in sizes.modalities if modality.name in start.model.names)
    if start.model != replace(sizes, modalities=shared):
        raise DataError(
            f"the run in {start_from} has other sizes than this one; start from a run of the same preset and number "
            "of latents"
        )
    return start


def take_weights(model: PerceiverIO, sizes: AutoencoderConfig, start_from: str) -> None:
    """Give a model the weights of a run. Modalities that the run lacks keep theirs.

    Raises:
        DataError: the weights do not fit, as where a new modality is wider than those of the run.
    """
    trained, start = load_model(start_from)
    weights, own = trained.state_dict(), model.state_dict()
    new = {modality.core_name for modality in sizes.modalities} - {
        modality.core_name for modality in start.model.modalities
    }
    kept = {key: value for key, value in own.items() if key not in weights and new.intersection(key.split("."))}
    try:
        model.load_state_dict(weights | kept)
    except RuntimeError as error:
        raise DataError(f"the weights of {start_from} do not fit this model: {error}") from error
