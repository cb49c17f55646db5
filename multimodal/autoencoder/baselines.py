"""What a reconstruction is held against: a flat picture, silence, and PCA with a code of equal size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.autoencoder.measures import Summary
from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, psnr, spectral_convergence
from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.autoencoder.pca import ClipPCA
from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import evaluation_loader

# Beyond that, fitting principal components takes longer than evaluating the model.
MOST_PCA_CLIPS = 2_000
MOST_PCA_VALUES = 2_000 * 40_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to reconstruct the held-out clips, and how well it does; NaN where it says nothing of a modality.

    Attributes:
        name: of the way.
        video_psnr, audio_psnr: dB.
        convergence: spectral convergence of the sound; silence has 1.
    """

    name: str
    video_psnr: float = math.nan
    audio_psnr: float = math.nan
    convergence: float = math.nan


def load_clips(files: Sequence[LabelledFile], clip_format: ClipFormat, max_windows: int) -> tuple[Tensor, Tensor]:
    """Video uint8 `[n, T, 3, H, W]` and audio `[n, S]` of the clips that have both."""
    videos, sounds = [], []
    for batch in evaluation_loader(files, clip_format, batch_size=32, max_windows=max_windows):
        whole = batch.has_video & batch.has_audio
        videos.append(batch.video[whole])
        sounds.append(batch.audio[whole])
    return torch.cat(videos), torch.cat(sounds)


def rows(
    summary: Summary,
    sizes: AutoencoderConfig,
    train_files: Sequence[LabelledFile],
    held_out_files: Sequence[LabelledFile],
) -> list[Row]:
    """The model, a flat picture, silence, and PCA with a code of equal size where there are clips enough for it."""
    found = [
        Row(
            name="Perceiver IO",
            video_psnr=summary.video_psnr,
            audio_psnr=summary.audio_psnr,
            convergence=summary.convergence,
        ),
        Row(
            name="mean colour of the clip, silence",
            video_psnr=summary.flat_psnr,
            audio_psnr=summary.silence_psnr,
            convergence=1.0,
        ),
    ]
    count = min(MOST_PCA_CLIPS, len(train_files))
    if sizes.code_values < count and count * sizes.clip.values <= MOST_PCA_VALUES:
        chosen = train_files[:: len(train_files) // count][:count]
        found.append(_pca(sizes, load_clips(chosen, sizes.clip, 1), load_clips(held_out_files, sizes.clip, 4)))
    return found


def _pca(sizes: AutoencoderConfig, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> Row:
    components = ClipPCA.fit(train[0].float() / 255, train[1], sizes.code_values)
    truth = held_out[0].float() / 255
    video, audio = components.decode(components.encode(truth, held_out[1]))
    convergence = spectral_convergence(audio, held_out[1])
    return Row(
        name=f"PCA, {sizes.code_values} joint components",
        video_psnr=float(psnr(video, truth, VIDEO_PEAK).mean()),
        audio_psnr=float(psnr(audio, held_out[1], AUDIO_PEAK).mean()),
        convergence=float(convergence.nanmean()),
    )


def warnings(found: Sequence[Row]) -> list[str]:
    """In words, where the model (the first row) is no better than a trivial way or than PCA."""
    model, *others = found
    said = []
    for other in others:
        trivial = other.name.startswith("mean colour")
        for modality, name in (("picture", "video_psnr"), ("sound", "audio_psnr")):
            mine, theirs = getattr(model, name), getattr(other, name)
            if mine <= theirs:
                against = ("a flat colour" if modality == "picture" else "silence") if trivial else "PCA of equal size"
                said.append(f"The {modality} is below {against}: {mine:.1f} dB against {theirs:.1f} dB.")
    if model.convergence >= 1:
        said.append(
            f"The sound's spectrum is farther from the truth than silence is: convergence {model.convergence:.2f}."
        )
    return said
