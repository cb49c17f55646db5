"""The video-audio-label autoencoder on clips: its presets, what it is shown and asked, and decoding whole clips.

`perceiver_core.presets.autoencoder` is the model; this module sizes it for a `ClipFormat` and its modalities
(`multimodal.autoencoder.modalities`), and translates between clips and the model's inputs, masks and positions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from multimodal.autoencoder.modalities import Audio, Label, Modality, Video
from multimodal.clips.clip import ClipFormat
from multimodal.clips.loader import ClipBatch
from perceiver_core.attention import AttentionConfig
from perceiver_core.bottleneck import BottleneckConfig
from perceiver_core.folding import FoldedDecoder
from perceiver_core.inputs import MultimodalInput
from perceiver_core.model import EncoderConfig, PerceiverIO
from perceiver_core.presets import autoencoder


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of an autoencoder. What has a default is, by default, as published."""

    clip: ClipFormat
    """Format of its clips."""
    modalities: tuple[Modality, ...]
    """What it is shown and decodes, each with its own sizes. One is the `Label`."""
    num_latents: int
    """N, the compression knob."""
    latent_channels: int
    """D."""
    num_self_attends: int
    """Self-attention layers over the latents."""
    num_heads: int
    """Heads of each."""
    output_channels: int | None
    """Width of decoded rows; None: that of the queries."""
    query_channels: int | None = None
    """Width of the output queries; None: what the widest needs."""
    code_channels: int | None = None
    """Numbers kept of each latent; None: all D."""
    code_self_attends: int = 0
    """Self-attention layers between such a code and the decoder."""
    attention_channels: int | None = None
    """Width of queries, keys and values of all attention layers; None: that of their inputs."""
    cross_attention_heads: int = 1
    """Heads of the encoder's and of the decoder's cross-attention."""
    widening_factor: int = 1
    """Of the encoder's and the code's feed-forward networks."""
    query_gain: float = 1.0
    """Factor on the initial query projections of both cross-attentions. With 1, attention begins as nearly the same
    average over all tokens for every latent, in which a tone of any phase cancels; with 3 it begins on a few tokens of
    its own."""

    def __post_init__(self) -> None:
        names = [modality.name for modality in self.modalities]
        if len(set(names)) < len(names) or "label" not in names:
            raise ValueError(f"modalities are {', '.join(names)}; each may come once, and label must")
        for modality in self.modalities:
            modality.check(self.clip)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all modalities."""
        return tuple(modality.name for modality in self.modalities)

    def modality(self, name: str) -> Modality:
        """The modality of this name.

        Raises:
            ValueError: there is none.
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise ValueError(f"no modality {name!r}; there are {', '.join(self.names)}")

    @property
    def signals(self) -> tuple[Modality, ...]:
        """The modalities that are compressed: all but the class."""
        return tuple(modality for modality in self.modalities if modality.view is not None)

    @property
    def code_values(self) -> int:
        """Numbers that a clip is compressed to: those of the latent array, or what is kept of it."""
        return self.num_latents * (self.code_channels or self.latent_channels)

    @property
    def values(self) -> int:
        """Numbers in a clip."""
        return sum(modality.values(self.clip) for modality in self.modalities)

    @property
    def compression(self) -> float:
        """Numbers in a clip over numbers in its code."""
        return self.values / self.code_values


PRESETS: dict[str, AutoencoderConfig] = {
    # Trains in minutes on two cores: 8 frames of 32 x 32 and 0.64 s of sound at 8 kHz, in 32 numbers.
    "tiny": AutoencoderConfig(
        clip=ClipFormat(num_frames=8, frame_rate=12.5, height=32, width=32, sample_rate=8_000),
        modalities=(
            Video(patch=8, query_patch=4, bands=8, resolution=16, mean=0.35, deviation=0.4),
            Audio(samples_per_patch=160, bands=16, resolution=32, deviation=2 / 3),
            Label(query_channels=51),
        ),
        num_latents=16,
        latent_channels=96,
        num_self_attends=2,
        num_heads=8,
        output_channels=None,
        query_channels=96,
        code_channels=2,
        code_self_attends=2,
        attention_channels=96,
        cross_attention_heads=8,
        widening_factor=2,
        query_gain=3.0,
    ),
    # One GPU for hours: 16 frames of 64 x 64 and 0.64 s of sound at 16 kHz.
    "small": AutoencoderConfig(
        clip=ClipFormat(num_frames=16, frame_rate=25.0, height=64, width=64, sample_rate=16_000),
        modalities=(
            Video(patch=4, bands=16),
            Audio(samples_per_patch=16, bands=128),
            Label(query_channels=256),
        ),
        num_latents=128,
        latent_channels=256,
        num_self_attends=6,
        num_heads=8,
        output_channels=256,
    ),
    # The published model: weights of the published checkpoint fit.
    "paper": AutoencoderConfig(
        clip=ClipFormat(num_frames=16, frame_rate=25.0, height=224, width=224, sample_rate=48_000),
        modalities=(
            Video(patch=4, bands=32),
            Audio(samples_per_patch=16, bands=192),
            Label(query_channels=1024),
        ),
        num_latents=784,
        latent_channels=512,
        num_self_attends=8,
        num_heads=8,
        output_channels=512,
    ),
}


def preset(name: str, num_latents: int | None = None) -> AutoencoderConfig:
    """A preset, with another number of latents if given.

    Raises:
        ValueError: no such preset, or `num_latents` below 1.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    if num_latents is None:
        return PRESETS[name]
    if num_latents < 1:
        raise ValueError(f"num_latents is {num_latents}; it must be at least 1")
    return replace(PRESETS[name], num_latents=num_latents)


def build(config: AutoencoderConfig, num_classes: int) -> PerceiverIO:
    """A freshly initialised model."""
    width: int | Literal["kv"] = config.attention_channels or "kv"
    cross = AttentionConfig(num_heads=config.cross_attention_heads, qk_channels=width)
    among_latents = AttentionConfig(
        num_heads=config.num_heads, qk_channels=width, widening_factor=config.widening_factor
    )
    model = autoencoder(
        {modality.core_name: modality.describe(config.clip, num_classes) for modality in config.modalities},
        query_channels=config.query_channels,
        output_channels=config.output_channels,
        encoder=EncoderConfig(
            num_latents=config.num_latents,
            latent_channels=config.latent_channels,
            num_self_attends=config.num_self_attends,
            cross_attention=replace(cross, widening_factor=config.widening_factor),
            self_attention=among_latents,
        ),
        bottleneck=None
        if config.code_channels is None
        else BottleneckConfig(
            channels=config.code_channels, num_self_attends=config.code_self_attends, self_attention=among_latents
        ),
        decoder_attention=replace(cross, query_residual=False),
    )
    with torch.no_grad():
        for layer in (*model.encoder.cross_attends, model.decoder.cross_attend):
            layer.query.weight.mul_(config.query_gain)
    return model


Hidden = Mapping[str, Tensor]
"""Which modalities of which samples the model does not see: bool `[B]` by name."""


def absent(config: AutoencoderConfig, batch: ClipBatch, also: Collection[str] = ()) -> Hidden:
    """What the samples lack, and the modalities named in `also` of all samples."""
    for name in also:
        config.modality(name)
    return {modality.name: ~modality.present(batch) | (modality.name in also) for modality in config.modalities}


def encode(model: PerceiverIO, config: AutoencoderConfig, batch: ClipBatch, hidden: Hidden) -> Tensor:
    """The code of clips: latents `[B, N, D]`, or what is kept of them. Mask tokens replace hidden modalities."""
    return model.encode(model_inputs(config, batch), masked=token_masks(model, config, hidden))


def model_inputs(config: AutoencoderConfig, batch: ClipBatch) -> dict[str, Tensor]:
    """Inputs by the core's names: normalised pixels `[B, T, 3, H, W]` and sound `[B, S]`, class numbers `[B]`."""
    return {modality.core_name: modality.shown(batch) for modality in config.modalities}


def token_masks(model: PerceiverIO, config: AutoencoderConfig, hidden: Hidden) -> dict[str, Tensor]:
    """Tokens to replace by the mask token, bool `[B, M of the modality]` by the core's names.

    A modality that no sample hides is left out: its tokens then stay as narrow as their features (see
    `perceiver_core.accelerated.padded`).
    """
    assert isinstance(model.inputs, MultimodalInput)
    masks = {}
    for modality in config.modalities:
        samples = hidden[modality.name]
        if bool(samples.any()):
            length = model.inputs.adapter(modality.core_name).length
            assert length is not None
            masks[modality.core_name] = samples[:, None].expand(-1, length)
    return masks


# Queries that the model's own decoder takes at a time, which bounds memory.
DECODED_AT_ONCE = 65_536


@torch.no_grad()
def reconstruct(
    model: PerceiverIO,
    config: AutoencoderConfig,
    batch: ClipBatch,
    *,
    hide: Collection[str] = ("label",),
    ask: Collection[str] | None = None,
    decoder: FoldedDecoder | None = None,
) -> dict[str, Tensor]:
    """Encode clips once and decode all of what is asked for.

    Args:
        model: in evaluation mode.
        config: its sizes.
        batch: clips on the model's device.
        hide: modalities not to show to the model.
        ask: modalities to decode; the others cost nothing. None: all.
        decoder: `fold_for_inference(model)`, which decodes the same with a fraction of the operations and pays where
            the same weights decode many clips; None: the model's own.

    Returns:
        What was asked for, by name: "video" float `[B, T, 3, H, W]` in [0, 1], "audio" float32 `[B, S]` in [-1, 1],
        "label" logits `[B, K]`.
    """
    asked = [config.modality(name) for name in (config.names if ask is None else ask)]
    latents = encode(model, config, batch, absent(config, batch, hide))
    positions = {modality.core_name: None for modality in asked}
    if decoder is None:
        decoded = model.decode(latents, positions, chunk_size=DECODED_AT_ONCE)
    else:
        decoded = decoder(latents, positions)
    assert isinstance(decoded, dict)
    return {modality.name: modality.restore(decoded[modality.core_name], config.clip) for modality in asked}
