"""Measures of a trained model on whole held-out clips: the label hidden, every output decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from multimodal.autoencoder.metrics import (
    AUDIO_PEAK,
    VIDEO_PEAK,
    psnr,
    spectral_convergence,
    spectral_distance,
    ssim,
    top_k,
)
from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import ClipBatch, evaluation_loader
from multimodal.common.records import Problem
from perceiver_core.folding import FoldedDecoder, fold_for_inference
from perceiver_core.model import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class ClipMeasures:
    """Measures of one window of one file; NaN where the file lacks the modality.

    Attributes:
        path, start: the file, and seconds into it.
        label: true class.
        probabilities: of every class, from picture and sound.
        video_psnr, audio_psnr: dB.
        ssim: structural similarity.
        spectral: multi-scale spectral distance.
        convergence: spectral convergence; silence has 1.
        flat_psnr: dB of a still picture of the clip's mean colour.
        silence_psnr: dB of silence.
        top1, top5: whether the true class is among the likeliest 1 and 5.
        top1_video, top1_audio: the same from the picture alone, from the sound alone.
    """

    path: str
    start: float
    label: int
    probabilities: tuple[float, ...]
    video_psnr: float
    audio_psnr: float
    ssim: float
    spectral: float
    convergence: float
    flat_psnr: float
    silence_psnr: float
    top1: bool
    top5: bool
    top1_video: bool | None
    top1_audio: bool | None


def _only(values: torch.Tensor, present: torch.Tensor) -> list[float]:
    return torch.where(present, values, math.nan).tolist()


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
    assert result.video is not None and result.audio is not None and result.logits is not None
    from_video = reconstruct(model, sizes, batch, hide=("label", "audio"), ask=("label",)).logits
    from_audio = reconstruct(model, sizes, batch, hide=("label", "video"), ask=("label",)).logits
    assert from_video is not None and from_audio is not None
    truth = batch.video.float() / 255
    video_psnr = _only(psnr(result.video, truth, VIDEO_PEAK), batch.has_video)
    audio_psnr = _only(psnr(result.audio, batch.audio, AUDIO_PEAK), batch.has_audio)
    similarity = _only(ssim(result.video, truth), batch.has_video)
    spectral = _only(spectral_distance(result.audio, batch.audio), batch.has_audio)
    convergence = _only(spectral_convergence(result.audio, batch.audio), batch.has_audio)
    flat = truth.mean(dim=(1, 3, 4), keepdim=True).expand_as(truth)
    flat_psnr = _only(psnr(flat, truth, VIDEO_PEAK), batch.has_video)
    silence_psnr = _only(psnr(torch.zeros_like(batch.audio), batch.audio, AUDIO_PEAK), batch.has_audio)
    hits = {
        "top1": top_k(result.logits, batch.label, 1),
        "top5": top_k(result.logits, batch.label, 5),
        "top1_video": top_k(from_video, batch.label, 1),
        "top1_audio": top_k(from_audio, batch.label, 1),
    }
    probabilities = result.logits.softmax(dim=1).tolist()
    measures = []
    for row in range(len(batch)):
        if not bool(batch.has_label[row]):  # could not be read
            continue
        measures.append(
            ClipMeasures(
                path=files[int(batch.index[row])].path,
                start=float(batch.start[row]),
                label=int(batch.label[row]),
                probabilities=tuple(probabilities[row]),
                video_psnr=video_psnr[row],
                audio_psnr=audio_psnr[row],
                ssim=similarity[row],
                spectral=spectral[row],
                convergence=convergence[row],
                flat_psnr=flat_psnr[row],
                silence_psnr=silence_psnr[row],
                top1=bool(hits["top1"][row]),
                top5=bool(hits["top5"][row]),
                top1_video=bool(hits["top1_video"][row]) if bool(batch.has_video[row]) else None,
                top1_audio=bool(hits["top1_audio"][row]) if bool(batch.has_audio[row]) else None,
            )
        )
    return measures


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
        video_psnr, audio_psnr: dB.
        ssim, spectral, convergence: see `multimodal.autoencoder.metrics`.
        flat_psnr: dB of still pictures of each clip's mean colour.
        silence_psnr: dB of silence.
        top1, top5: share of clips, label hidden.
        top1_video, top1_audio: top-1 with only that modality shown.
        chance: top-1 of always naming the most frequent class.
        compression: numbers in a clip over numbers in its code.
        confusion: `[true class][named class]` counts.
        class_top1, class_top1_video, class_top1_audio: by class; NaN for a class without clips.
    """

    clips: int
    video_psnr: float
    audio_psnr: float
    ssim: float
    spectral: float
    convergence: float
    flat_psnr: float
    silence_psnr: float
    top1: float
    top5: float
    top1_video: float
    top1_audio: float
    chance: float
    compression: float
    confusion: tuple[tuple[int, ...], ...]
    class_top1: tuple[float, ...]
    class_top1_video: tuple[float, ...]
    class_top1_audio: tuple[float, ...]


def _mean(values: Sequence[float | bool | None]) -> float:
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
    return Summary(
        clips=len(measures),
        video_psnr=_mean([clip.video_psnr for clip in measures]),
        audio_psnr=_mean([clip.audio_psnr for clip in measures]),
        ssim=_mean([clip.ssim for clip in measures]),
        spectral=_mean([clip.spectral for clip in measures]),
        convergence=_mean([clip.convergence for clip in measures]),
        flat_psnr=_mean([clip.flat_psnr for clip in measures]),
        silence_psnr=_mean([clip.silence_psnr for clip in measures]),
        top1=_mean([clip.top1 for clip in measures]),
        top5=_mean([clip.top5 for clip in measures]),
        top1_video=_mean([clip.top1_video for clip in measures]),
        top1_audio=_mean([clip.top1_audio for clip in measures]),
        chance=max(len(clips) for clips in by_class) / len(measures),
        compression=sizes.compression,
        confusion=tuple(tuple(row) for row in confusion),
        class_top1=tuple(_mean([clip.top1 for clip in clips]) for clips in by_class),
        class_top1_video=tuple(_mean([clip.top1_video for clip in clips]) for clips in by_class),
        class_top1_audio=tuple(_mean([clip.top1_audio for clip in clips]) for clips in by_class),
    )
