"""The video-audio-label autoencoder on clips: its presets, what it is shown and asked, and decoding whole clips.

`perceiver_core.presets.multimodal_autoencoder` is the model; this module sizes it for a `ClipFormat` and translates
between clips (uint8 pictures, sound, class numbers) and its inputs, masks and positions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from multimodal.clips.clip import ClipFormat
from multimodal.clips.loader import ClipBatch
from perceiver_core.attention import AttentionConfig
from perceiver_core.bottleneck import BottleneckConfig
from perceiver_core.folding import FoldedDecoder
from perceiver_core.inputs import MultimodalInput
from perceiver_core.model import EncoderConfig, PerceiverIO
from perceiver_core.presets import AudioModality, LabelModality, VideoModality, multimodal_autoencoder

MODALITIES = ("video", "audio", "label")
# The core's names, which published checkpoints use.
_CORE_NAMES = {"video": "image", "audio": "audio", "label": "label"}


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of an autoencoder. What has a default is, by default, as published.

    Attributes:
        clip: format of its clips.
        image_patch: height and width in pixels of an input patch.
        samples_per_patch: sound samples of an input token and of an output query.
        num_latents: N, the compression knob.
        latent_channels: D.
        num_self_attends: self-attention layers over the latents.
        num_heads: heads of each.
        image_bands, audio_bands: Fourier bands of picture (per axis) and sound.
        label_query_channels: width of the learned label query.
        output_channels: width of decoded rows; None: that of the queries.
        image_query_patch: height and width in pixels of what one output query decodes.
        image_resolution: Nyquist resolution of the image bands along height and width; None: the input patches.
        audio_resolution: Nyquist resolution of the audio bands; None: the samples.
        query_channels: width of the output queries; None: what the widest needs.
        code_channels: numbers kept of each latent; None: all D.
        code_self_attends: self-attention layers between such a code and the decoder.
        attention_channels: width of queries, keys and values of all attention layers; None: that of their inputs.
        cross_attention_heads: heads of the encoder's and of the decoder's cross-attention.
        widening_factor: of the encoder's and the code's feed-forward networks.
        query_gain: factor on the initial query projections of both cross-attentions. With 1, attention begins as
            nearly the same average over all tokens for every latent, in which a tone of any phase cancels; with 3 it
            begins on a few tokens of its own.
        pixel_mean, pixel_deviation, sample_deviation: the model sees and decodes `(pixel - mean) / deviation` and
            `sample / deviation`, of pixels in [0, 1] and sound samples in [-1, 1].
    """

    clip: ClipFormat
    image_patch: int
    samples_per_patch: int
    num_latents: int
    latent_channels: int
    num_self_attends: int
    num_heads: int
    image_bands: int
    audio_bands: int
    label_query_channels: int
    output_channels: int | None
    image_query_patch: int = 1
    image_resolution: int | None = None
    audio_resolution: int | None = None
    query_channels: int | None = None
    code_channels: int | None = None
    code_self_attends: int = 0
    attention_channels: int | None = None
    cross_attention_heads: int = 1
    widening_factor: int = 1
    query_gain: float = 1.0
    pixel_mean: float = 0.0
    pixel_deviation: float = 1.0
    sample_deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.clip.num_samples % self.samples_per_patch:
            raise ValueError(
                f"a clip of {self.clip.num_frames} frames has {self.clip.num_samples} samples at "
                f"{self.clip.sample_rate} Hz, not a multiple of samples_per_patch {self.samples_per_patch}; "
                "change the sample rate or the number of frames"
            )
        for patch in (self.image_patch, self.image_query_patch):
            if self.clip.height % patch or self.clip.width % patch:
                raise ValueError(
                    f"clips of {self.clip.height} x {self.clip.width} pixels cannot be cut into patches of "
                    f"{patch}; height and width must be multiples of it"
                )

    @property
    def code_values(self) -> int:
        """Numbers that a clip is compressed to: those of the latent array, or what is kept of it."""
        return self.num_latents * (self.code_channels or self.latent_channels)

    @property
    def num_audio_queries(self) -> int:
        return self.clip.num_samples // self.samples_per_patch

    @property
    def num_video_queries(self) -> int:
        return self.clip.num_frames * self.clip.height * self.clip.width // self.image_query_patch**2

    @property
    def compression(self) -> float:
        """Numbers in a clip over numbers in its code."""
        return self.clip.values / self.code_values


PRESETS: dict[str, AutoencoderConfig] = {
    # Trains in minutes on two cores: 8 frames of 32 x 32 and 0.64 s of sound at 8 kHz, in 32 numbers.
    "tiny": AutoencoderConfig(
        clip=ClipFormat(num_frames=8, frame_rate=12.5, height=32, width=32, sample_rate=8_000),
        image_patch=8,
        samples_per_patch=160,
        num_latents=16,
        latent_channels=96,
        num_self_attends=2,
        num_heads=8,
        image_bands=8,
        audio_bands=16,
        label_query_channels=51,
        output_channels=None,
        image_query_patch=4,
        image_resolution=16,
        audio_resolution=32,
        query_channels=96,
        code_channels=2,
        code_self_attends=2,
        attention_channels=96,
        cross_attention_heads=8,
        widening_factor=2,
        query_gain=3.0,
        pixel_mean=0.35,
        pixel_deviation=0.4,
        sample_deviation=2 / 3,
    ),
    # One GPU for hours: 16 frames of 64 x 64 and 0.64 s of sound at 16 kHz.
    "small": AutoencoderConfig(
        clip=ClipFormat(num_frames=16, frame_rate=25.0, height=64, width=64, sample_rate=16_000),
        image_patch=4,
        samples_per_patch=16,
        num_latents=128,
        latent_channels=256,
        num_self_attends=6,
        num_heads=8,
        image_bands=16,
        audio_bands=128,
        label_query_channels=256,
        output_channels=256,
    ),
    # The published model: weights of the published checkpoint fit.
    "paper": AutoencoderConfig(
        clip=ClipFormat(num_frames=16, frame_rate=25.0, height=224, width=224, sample_rate=48_000),
        image_patch=4,
        samples_per_patch=16,
        num_latents=784,
        latent_channels=512,
        num_self_attends=8,
        num_heads=8,
        image_bands=32,
        audio_bands=192,
        label_query_channels=1024,
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
    """A freshly initialised model. The label is hidden by explicit masks only, so that hiding is reproducible."""
    width: int | Literal["kv"] = config.attention_channels or "kv"
    cross = AttentionConfig(num_heads=config.cross_attention_heads, qk_channels=width)
    among_latents = AttentionConfig(
        num_heads=config.num_heads, qk_channels=width, widening_factor=config.widening_factor
    )
    clip, resolution = config.clip, config.image_resolution
    model = multimodal_autoencoder(
        video=VideoModality(
            num_frames=clip.num_frames,
            size=(clip.height, clip.width),
            patch=(config.image_patch, config.image_patch),
            query_patch=(config.image_query_patch, config.image_query_patch),
            bands=config.image_bands,
            resolution=None if resolution is None else (clip.num_frames, resolution, resolution),
        ),
        audio=AudioModality(
            num_samples=clip.num_samples,
            samples_per_patch=config.samples_per_patch,
            bands=config.audio_bands,
            resolution=config.audio_resolution,
        ),
        label=LabelModality(num_classes=num_classes, query_channels=config.label_query_channels, mask_probability=0.0),
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


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Which modalities of which samples the model does not see: bool `[B]` each."""

    video: Tensor
    audio: Tensor
    label: Tensor

    @classmethod
    def absent(cls, batch: ClipBatch, also: Collection[str] = ()) -> Hidden:
        """What the samples lack, and the modalities named in `also` of all samples."""
        for name in also:
            if name not in MODALITIES:
                raise ValueError(f"no modality {name!r}; there are {', '.join(MODALITIES)}")
        absent = {"video": ~batch.has_video, "audio": ~batch.has_audio, "label": ~batch.has_label}
        return cls(**{name: hide | (name in also) for name, hide in absent.items()})

    def __or__(self, other: Hidden) -> Hidden:
        return Hidden(video=self.video | other.video, audio=self.audio | other.audio, label=self.label | other.label)


def encode(model: PerceiverIO, config: AutoencoderConfig, batch: ClipBatch, hidden: Hidden) -> Tensor:
    """The code of clips: latents `[B, N, D]`, or what is kept of them. Mask tokens replace hidden modalities."""
    return model.encode(model_inputs(config, batch), masked=token_masks(model, hidden))


def model_inputs(config: AutoencoderConfig, batch: ClipBatch) -> dict[str, Tensor]:
    """Inputs by the core's names: normalised pixels `[B, T, 3, H, W]` and sound `[B, S]`, class numbers `[B]`."""
    return {
        "image": (batch.video.float() / 255 - config.pixel_mean) / config.pixel_deviation,
        "audio": batch.audio / config.sample_deviation,
        "label": batch.label,
    }


def token_masks(model: PerceiverIO, hidden: Hidden) -> dict[str, Tensor]:
    """Tokens to replace by the mask token, bool `[B, M of the modality]` by the core's names.

    A modality that no sample hides is left out: its tokens then stay as narrow as their features (see
    `perceiver_core.accelerated.padded`).
    """
    assert isinstance(model.inputs, MultimodalInput)
    masks = {}
    for name, core_name in _CORE_NAMES.items():
        samples: Tensor = getattr(hidden, name)
        if bool(samples.any()):
            length = model.inputs.adapter(core_name).length
            assert length is not None
            masks[core_name] = samples[:, None].expand(-1, length)
    return masks


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What was decoded of clips; None for a modality that was not asked for.

    Attributes:
        video: float `[B, T, 3, H, W]` in [0, 1].
        audio: float32 `[B, S]` in [-1, 1].
        logits: float32 `[B, K]`.
    """

    video: Tensor | None
    audio: Tensor | None
    logits: Tensor | None


# Queries that the model's own decoder takes at a time, which bounds memory.
DECODED_AT_ONCE = 65_536


@torch.no_grad()
def reconstruct(
    model: PerceiverIO,
    config: AutoencoderConfig,
    batch: ClipBatch,
    *,
    hide: Collection[str] = ("label",),
    ask: Collection[str] = MODALITIES,
    decoder: FoldedDecoder | None = None,
) -> Reconstruction:
    """Encode clips once and decode all of what is asked for.

    Args:
        model: in evaluation mode.
        config: its sizes.
        batch: clips on the model's device.
        hide: modalities not to show to the model.
        ask: modalities to decode; the others cost nothing.
        decoder: `fold_for_inference(model)`, which decodes the same with a fraction of the operations and pays where
            the same weights decode many clips; None: the model's own.
    """
    latents = encode(model, config, batch, Hidden.absent(batch, hide))
    asked = {_CORE_NAMES[name]: None for name in ask}
    decoded = model.decode(latents, asked, chunk_size=DECODED_AT_ONCE) if decoder is None else decoder(latents, asked)
    assert isinstance(decoded, dict)
    video = audio = logits = None
    clip = config.clip
    if "image" in decoded:
        video = decoded["image"].float()
        if config.image_query_patch == 1:  # pixels in a row, as published
            video = video.unflatten(1, (clip.num_frames, clip.height, clip.width)).permute(0, 1, 4, 2, 3)
        video = (config.pixel_mean + config.pixel_deviation * video).clamp(0.0, 1.0)
    if "audio" in decoded:
        audio = (config.sample_deviation * decoded["audio"].float()).clamp(-1.0, 1.0)
    if "label" in decoded:
        logits = decoded["label"].float()
    return Reconstruction(video=video, audio=audio, logits=logits)
