"""What a reconstruction is held against: a flat picture, silence, and PCA with a code of equal size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.autoencoder.measures import Summary, mean, measure_signals
from multimodal.autoencoder.modalities import Measure, Modality
from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.autoencoder.pca import ClipPCA
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import ClipBatch, evaluation_loader

# Beyond that, fitting principal components takes longer than evaluating the model.
MOST_PCA_CLIPS = 2_000
MOST_PCA_VALUES = 2_000 * 40_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to reconstruct the held-out clips, and how well it does.

    Attributes:
        name: of the way.
        measures: `<modality>_<measure>`; without those of a modality that it says nothing of.
        names: by modality, what the way is called in a sentence; by default `name`.
    """

    name: str
    measures: Mapping[str, float]
    names: Mapping[str, str]


def all_measures(sizes: AutoencoderConfig) -> list[tuple[str, Modality, Measure]]:
    """Key, modality and measure of each column."""
    return [
        (f"{modality.name}_{measure.name}", modality, measure)
        for modality in sizes.signals
        for measure in modality.measures
    ]


def signals_of(sizes: AutoencoderConfig, batch: ClipBatch) -> dict[str, Tensor]:
    """By modality, the true signals of the clips that have all of them, `[n, ...]`."""
    whole = torch.stack([modality.present(batch) for modality in sizes.signals]).all(dim=0)
    return {modality.name: modality.truth(batch)[whole] for modality in sizes.signals}


def load_clips(files: Sequence[LabelledFile], sizes: AutoencoderConfig, max_windows: int) -> dict[str, Tensor]:
    """By modality, the signals of all clips that have all of them, `[n, ...]`."""
    parts = [
        signals_of(sizes, batch)
        for batch in evaluation_loader(files, sizes.clip, batch_size=32, max_windows=max_windows)
    ]
    return {modality.name: torch.cat([part[modality.name] for part in parts]) for modality in sizes.signals}


def rows(
    summary: Summary,
    sizes: AutoencoderConfig,
    train_files: Sequence[LabelledFile],
    held_out_files: Sequence[LabelledFile],
    max_windows: int,
) -> list[Row]:
    """The model, a flat picture and silence, and PCA with a code of equal size where there are clips enough for it.

    PCA is measured on the same windows as the model, on those that have all signals.
    """
    names = {modality.name: modality.trivial_name for modality in sizes.signals}
    found = [
        Row(name="Perceiver IO", measures=summary.measures, names={}),
        Row(name=", ".join(names.values()), measures=summary.trivial, names=names),
    ]
    count = min(MOST_PCA_CLIPS, len(train_files))
    if sizes.code_values < count and count * sizes.values <= MOST_PCA_VALUES:
        signals = load_clips(train_files[:: len(train_files) // count][:count], sizes, 1)
        if len(next(iter(signals.values()))) > sizes.code_values:
            found += _pca(sizes, signals, held_out_files, max_windows)
    return found


def _pca(
    sizes: AutoencoderConfig, train: Mapping[str, Tensor], files: Sequence[LabelledFile], max_windows: int
) -> list[Row]:
    """Joint components, and all of the code for one signal: the most that a linear code of this size can give it."""
    size = sizes.code_values
    ways: dict[str, tuple[ClipPCA, tuple[str, ...]]] = {
        f"PCA, {size} joint components": (ClipPCA.fit(train, size), tuple(train))
    }
    for name in train:
        ways[f"PCA, {size} components of the {name} alone"] = (ClipPCA.fit({name: train[name]}, size), (name,))
    values: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for batch in evaluation_loader(files, sizes.clip, batch_size=32, max_windows=max_windows):
        truth = {modality.name: modality.truth(batch) for modality in sizes.signals}
        whole = torch.stack([modality.present(batch) for modality in sizes.signals]).all(dim=0).tolist()
        for way, (components, told) in ways.items():
            decoded = components.decode(components.encode(truth))
            estimates = {name: decoded[name].clamp(*_range(sizes.modality(name))) for name in told}
            for key, numbers in measure_signals(sizes, batch, estimates).items():
                kept = values[way].setdefault(key, [])
                kept += [number for number, all_there in zip(numbers, whole, strict=True) if all_there]
    names = {modality.name: "PCA of equal size" for modality in sizes.signals}
    return [
        Row(name=way, measures={key: mean(numbers) for key, numbers in measured.items()}, names=names)
        for way, measured in values.items()
    ]


def _range(modality: Modality) -> tuple[float, float]:
    return (0.0, 1.0) if modality.view == "frames" else (-1.0, 1.0)


def warnings(found: Sequence[Row], sizes: AutoencoderConfig) -> list[str]:
    """In words, where the model (the first row) is no better than another way."""
    model, *others = found
    said = []
    for key, modality, measure in all_measures(sizes):
        mine = model.measures[key]
        for other in others:
            theirs = other.measures.get(key, math.nan)
            worse = mine <= theirs if measure.higher_is_better else mine >= theirs
            if measure.headline and worse:
                unit = f" {measure.unit}" if measure.unit else ""
                side = "below" if measure.higher_is_better else "no nearer to the truth than"
                said.append(
                    f"The {modality.name} is {side} {other.names[modality.name]}: {measure.title} {mine:.2f}{unit} "
                    f"against {theirs:.2f}{unit}."
                )
    return said
