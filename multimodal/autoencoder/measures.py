"""Measures of a trained model on whole held-out clips: the label hidden, every output decoded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.autoencoder.metrics import top_k
from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import ClipBatch, evaluation_loader
from multimodal.common.records import Problem
from perceiver_core.folding import FoldedDecoder, fold_for_inference
from perceiver_core.model import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ClipMeasures:
    """Measures of one window of one file; NaN or None where the file lacks the modality.

    Attributes:
        path, start: the file, and seconds into it.
        label: true class.
        probabilities: of every class, from all signals.
        measures: of each reconstruction, `<modality>_<measure>`; `multimodal.autoencoder.modalities` has them.
        trivial: the same of its trivial reconstruction.
        top1, top5: whether the true class is among the likeliest 1 and 5.
        top1_alone: the first, from each signal alone.
    """

    path: str
    start: float
    label: int
    probabilities: tuple[float, ...]
    measures: dict[str, float]
    trivial: dict[str, float]
    top1: bool
    top5: bool
    top1_alone: dict[str, bool | None]


def measure_signals(
    sizes: AutoencoderConfig, batch: ClipBatch, estimates: dict[str, Tensor] | None
) -> dict[str, list[float]]:
    """All measures of every clip, as `<modality>_<measure>`; NaN where the clip lacks the modality.

    Args:
        sizes: which modalities there are.
        batch: the truth.
        estimates: reconstructions by modality, the others are left out. None: the trivial ones.
    """
    values = {}
    for modality in sizes.signals:
        if estimates is not None and modality.name not in estimates:
            continue
        truth, present = modality.truth(batch), modality.present(batch)
        estimate = modality.trivial(truth) if estimates is None else estimates[modality.name]
        for measure in modality.measures:
            value = torch.where(present, measure.of(estimate, truth), math.nan)
            values[f"{modality.name}_{measure.name}"] = value.tolist()
    return values


def measure_batch(
    model: PerceiverIO,
    sizes: AutoencoderConfig,
    batch: ClipBatch,
    files: Sequence[LabelledFile],
    decoder: FoldedDecoder | None = None,
) -> list[ClipMeasures]:
    """Measures of each readable clip of a batch.

    Args:
        model: in evaluation mode.
        sizes: its sizes.
        batch: clips on the model's device.
        files: the list that `batch.index` refers to.
        decoder: see `reconstruct`.
    """
    result = reconstruct(model, sizes, batch, decoder=decoder)
    signals = [modality.name for modality in sizes.signals]
    alone = {}
    for name in signals:
        others = [other for other in signals if other != name]
        logits = reconstruct(model, sizes, batch, hide=("label", *others), ask=("label",))["label"]
        alone[name] = top_k(logits, batch.label, 1).tolist()
    present = {name: sizes.modality(name).present(batch).tolist() for name in signals}
    values, trivial = measure_signals(sizes, batch, result), measure_signals(sizes, batch, None)
    top1, top5 = (top_k(result["label"], batch.label, k).tolist() for k in (1, 5))
    probabilities = result["label"].softmax(dim=1).tolist()
    return [
        ClipMeasures(
            path=files[int(batch.index[row])].path,
            start=float(batch.start[row]),
            label=int(batch.label[row]),
            probabilities=tuple(probabilities[row]),
            measures={name: rows[row] for name, rows in values.items()},
            trivial={name: rows[row] for name, rows in trivial.items()},
            top1=top1[row],
            top5=top5[row],
            top1_alone={name: alone[name][row] if present[name][row] else None for name in signals},
        )
        for row in range(len(batch))
        if bool(batch.has_label[row])  # otherwise it could not be read
    ]


def measure_files(
    model: PerceiverIO,
    sizes: AutoencoderConfig,
    files: Sequence[LabelledFile],
    *,
    batch_size: int = 8,
    max_windows: int = 64,
) -> tuple[list[ClipMeasures], list[Problem]]:
    """Measures of all windows of `files`, and the files that could not be read."""
    device = next(model.parameters()).device
    decoder = fold_for_inference(model)
    measures: list[ClipMeasures] = []
    problems: list[Problem] = []
    for batch in evaluation_loader(files, sizes.clip, batch_size=batch_size, max_windows=max_windows):
        measures += measure_batch(model, sizes, batch.to(device), files, decoder)
        problems += batch.problems
    return measures, problems


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means over clips, each modality over the clips that have it.

    Attributes:
        clips: windows measured.
        measures, trivial: see `ClipMeasures`.
        top1, top5: share of clips, label hidden.
        top1_alone: top-1 with only that signal shown.
        chance: top-1 of always naming the most frequent class.
        compression: numbers in a clip over numbers in its code.
        confusion: `[true class][named class]` counts.
        class_top1: by class; NaN for a class without clips.
        class_top1_alone: the same from each signal alone.
    """

    clips: int
    measures: dict[str, float]
    trivial: dict[str, float]
    top1: float
    top5: float
    top1_alone: dict[str, float]
    chance: float
    compression: float
    confusion: tuple[tuple[int, ...], ...]
    class_top1: tuple[float, ...]
    class_top1_alone: dict[str, tuple[float, ...]]


def mean(values: Iterable[float | bool | None]) -> float:
    """Of what is there; NaN for nothing."""
    kept = [float(value) for value in values if value is not None and not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def summarize(measures: Sequence[ClipMeasures], sizes: AutoencoderConfig, num_classes: int) -> Summary:
    """Means and the confusion matrix.

    Raises:
        ValueError: no measures.
    """
    if not measures:
        raise ValueError("no clip could be measured")
    confusion = [[0] * num_classes for _ in range(num_classes)]
    for clip in measures:
        named = max(range(num_classes), key=clip.probabilities.__getitem__)
        confusion[clip.label][named] += 1
    by_class = [[clip for clip in measures if clip.label == label] for label in range(num_classes)]
    signals = [modality.name for modality in sizes.signals]
    return Summary(
        clips=len(measures),
        measures={name: mean(clip.measures[name] for clip in measures) for name in measures[0].measures},
        trivial={name: mean(clip.trivial[name] for clip in measures) for name in measures[0].trivial},
        top1=mean(clip.top1 for clip in measures),
        top5=mean(clip.top5 for clip in measures),
        top1_alone={name: mean(clip.top1_alone[name] for clip in measures) for name in signals},
        chance=max(len(clips) for clips in by_class) / len(measures),
        compression=sizes.compression,
        confusion=tuple(tuple(row) for row in confusion),
        class_top1=tuple(mean(clip.top1 for clip in clips) for clips in by_class),
        class_top1_alone={
            name: tuple(mean(clip.top1_alone[name] for clip in clips) for clips in by_class) for name in signals
        },
    )
