"""The training loss on a random subset of outputs (arXiv 2107.14795, section 4.3 and appendix on Kinetics).

Absolute or squared error for (normalised) pixels and sound samples, cross-entropy for the label, each a mean over the
asked outputs of a clip. The paper takes absolute errors, weights them 0.03 (video), 1 (audio) and 0.0001 (label), asks
for 512 pixels, 512 sound patches and the label in each step, and hides the label from the input half of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.autoencoder.model import AutoencoderConfig, Hidden, model_inputs, token_masks
from multimodal.clips.loader import ClipBatch
from perceiver_core.inputs import split_patches
from perceiver_core.model import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms, outputs asked in a step, and how often training hides an input; defaults are the paper's.

    Attributes:
        error: of pixels and sound samples. Squared error is what PSNR measures; absolute error prefers silence to a
            tone of uncertain phase.
        video_weight, audio_weight, label_weight: factors of the three terms.
        video_queries: random pixels (or patches, see `AutoencoderConfig.image_query_patch`) asked of every clip in a
            step; all if a clip has fewer.
        audio_queries: random sound patches, likewise.
        hide_label: probability that a clip's label is hidden, independently for each clip.
        hide_video, hide_audio: probability that a clip's picture, or its sound, is hidden; at most one of the two, so
            their sum is at most 1. 0 in the paper; needed to reconstruct one from the other.
    """

    error: Literal["absolute", "squared"] = "absolute"
    video_weight: float = 0.03
    audio_weight: float = 1.0
    label_weight: float = 0.0001
    video_queries: int = 512
    audio_queries: int = 512
    hide_label: float = 0.5
    hide_video: float = 0.0
    hide_audio: float = 0.0

    def __post_init__(self) -> None:
        for name in ("video_weight", "audio_weight", "label_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a loss weight cannot be negative")
        for name in ("video_queries", "audio_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least one output must be asked for")
        for name in ("hide_label", "hide_video", "hide_audio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a probability is in [0, 1]")
        if self.hide_video + self.hide_audio > 1:
            raise ValueError(
                f"hide_video {self.hide_video} and hide_audio {self.hide_audio} add to more than 1; a clip can have "
                "one of them hidden, not both"
            )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The random choices of a training step.

    Attributes:
        pixels: int64 `[video queries]`, positions in the grid of video queries, the same for all clips.
        patches: int64 `[audio queries]`, positions in the sound patches.
        hidden: inputs to hide of each clip of the process's share.
    """

    pixels: Tensor
    patches: Tensor
    hidden: Hidden


def draw(config: AutoencoderConfig, loss: LossConfig, *, seed: int, step: int, global_batch: int, part: slice) -> Draw:
    """The choices of a step for the clips `part` of its global batch.

    They follow from (`seed`, `step`) alone, so runs with another number of processes but the same global batch, and
    resumed runs, make the same ones.
    """
    chance = torch.Generator().manual_seed((seed << 32) ^ step)
    pixels = _subset(config.num_video_queries, loss.video_queries, chance)
    patches = _subset(config.num_audio_queries, loss.audio_queries, chance)
    label, other = torch.rand(2, global_batch, generator=chance)[:, part]
    hidden = Hidden(
        video=other < loss.hide_video,
        audio=other >= 1 - loss.hide_audio,
        label=label < loss.hide_label,
    )
    return Draw(pixels=pixels, patches=patches, hidden=hidden)


def _subset(total: int, count: int, chance: torch.Generator) -> Tensor:
    if count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=chance)[:count]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Scalars: the weighted total and its terms before weighting."""

    total: Tensor
    video: Tensor
    audio: Tensor
    label: Tensor


def autoencoder_loss(
    model: nn.Module, core: PerceiverIO, config: AutoencoderConfig, loss: LossConfig, batch: ClipBatch, choice: Draw
) -> Losses:
    """The loss of a batch.

    What a clip lacks is hidden from the input and adds zero to its term; the terms are divided by the batch size
    whatever is lacking, so that the mean over the processes of a distributed run is the loss of the global batch.

    Args:
        model: called for the forward pass; the core itself or its distributed wrapper.
        core: the core.
        config: its sizes.
        loss: weights.
        batch: clips on the model's device.
        choice: this step's `draw`.
    """
    device = batch.label.device
    drawn = choice.hidden
    hidden = Hidden(video=drawn.video.to(device), audio=drawn.audio.to(device), label=drawn.label.to(device))
    pixels, patches = choice.pixels.to(device), choice.patches.to(device)
    inputs = model_inputs(config, batch)
    decoded = model(
        inputs,
        masked=token_masks(core, hidden | Hidden.absent(batch)),
        positions={"image": pixels, "audio": patches, "label": None},
    )
    patch = (1, config.image_query_patch, config.image_query_patch)
    true_pixels = split_patches(inputs["image"].movedim(2, -1), patch).flatten(1, 3)[:, pixels]
    true_patches = inputs["audio"].unflatten(1, (-1, config.samples_per_patch))[:, patches].flatten(1)
    measure = torch.abs if loss.error == "absolute" else torch.square
    video = measure(decoded["image"].float() - true_pixels).mean(dim=(1, 2))
    audio = measure(decoded["audio"].float() - true_patches).mean(dim=1)
    label = F.cross_entropy(decoded["label"].float(), batch.label, reduction="none")
    terms = {
        "video": (video * batch.has_video).mean(),
        "audio": (audio * batch.has_audio).mean(),
        "label": (label * batch.has_label).mean(),
    }
    total = loss.video_weight * terms["video"] + loss.audio_weight * terms["audio"] + loss.label_weight * terms["label"]
    return Losses(total=total, **terms)
