"""The video-audio-label autoencoder on clips: its presets, what it is shown and asked, and decoding whole clips.

`perceiver_core.presets.multimodal_autoencoder` is the model; this module sizes it for a `ClipFormat` and translates
between clips (uint8 pictures, sound, class numbers) and its inputs, masks and positions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from multimodal.clips import ClipFormat
from multimodal.loader import ClipBatch
from perceiver_core.attention import AttentionConfig
from perceiver_core.inputs import MultimodalInput
from perceiver_core.model import EncoderConfig, PerceiverIO
from perceiver_core.presets import multimodal_autoencoder

MODALITIES = ("video", "audio", "label")
# The core's names, which published checkpoints use.
_CORE_NAMES = {"video": "image", "audio": "audio", "label": "label"}


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of an autoencoder.

    Attributes:
        clip: format of its clips.
        image_patch: height and width in pixels of an input patch; each output query is one pixel.
        samples_per_patch: sound samples of an input token and of an output query.
        num_latents: N, the compression knob.
        latent_channels: D.
        num_self_attends: self-attention layers over the latents.
        num_heads: heads of each.
        image_bands, audio_bands: Fourier bands of picture (per axis) and sound.
        label_query_channels: width of the learned label query.
        output_channels: width of decoded rows.
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
    output_channels: int

    def __post_init__(self) -> None:
        if self.clip.num_samples % self.samples_per_patch:
            raise ValueError(
                f"a clip of {self.clip.num_frames} frames has {self.clip.num_samples} samples at "
                f"{self.clip.sample_rate} Hz, not a multiple of samples_per_patch {self.samples_per_patch}; "
                "change the sample rate or the number of frames"
            )
        if self.clip.height % self.image_patch or self.clip.width % self.image_patch:
            raise ValueError(
                f"clips of {self.clip.height} x {self.clip.width} pixels cannot be cut into patches of "
                f"{self.image_patch}; height and width must be multiples of it"
            )

    @property
    def code_values(self) -> int:
        """Numbers in the latent array, N x D: what a clip is compressed to."""
        return self.num_latents * self.latent_channels

    @property
    def num_audio_queries(self) -> int:
        return self.clip.num_samples // self.samples_per_patch

    @property
    def num_video_queries(self) -> int:
        return self.clip.num_frames * self.clip.height * self.clip.width

    @property
    def compression(self) -> float:
        """Numbers in a clip over numbers in its code."""
        return self.clip.values / self.code_values


PRESETS: dict[str, AutoencoderConfig] = {
    # Trains in minutes on two cores: 8 frames of 32 x 32 and 0.64 s of sound at 8 kHz.
    "tiny": AutoencoderConfig(
        clip=ClipFormat(num_frames=8, frame_rate=12.5, height=32, width=32, sample_rate=8_000),
        image_patch=8,
        samples_per_patch=32,
        num_latents=8,
        latent_channels=32,
        num_self_attends=4,
        num_heads=4,
        image_bands=8,
        audio_bands=96,
        label_query_channels=64,
        output_channels=64,
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
    return multimodal_autoencoder(
        num_frames=config.clip.num_frames,
        image_size=(config.clip.height, config.clip.width),
        image_patch=(config.image_patch, config.image_patch),
        audio_samples=config.clip.num_samples,
        samples_per_patch=config.samples_per_patch,
        num_classes=num_classes,
        image_bands=config.image_bands,
        audio_bands=config.audio_bands,
        label_query_channels=config.label_query_channels,
        output_channels=config.output_channels,
        label_mask_probability=0.0,
        encoder=EncoderConfig(
            num_latents=config.num_latents,
            latent_channels=config.latent_channels,
            num_self_attends=config.num_self_attends,
            self_attention=AttentionConfig(num_heads=config.num_heads),
        ),
    )


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


def encode(model: PerceiverIO, batch: ClipBatch, hidden: Hidden) -> Tensor:
    """Latents `[B, N, D]` of clips. Hidden modalities are replaced by their mask tokens."""
    inputs = model_inputs(batch)
    return model.encode(inputs, masked=token_masks(model, hidden))


def model_inputs(batch: ClipBatch) -> dict[str, Tensor]:
    """Inputs by the core's names: pixels in [0, 1] `[B, T, 3, H, W]`, sound `[B, S]`, class numbers `[B]`."""
    return {"image": batch.video.float() / 255, "audio": batch.audio, "label": batch.label}


def token_masks(model: PerceiverIO, hidden: Hidden) -> dict[str, Tensor]:
    """Tokens to replace by the mask token, bool `[B, M of the modality]` by the core's names."""
    assert isinstance(model.inputs, MultimodalInput)
    masks = {}
    for name, core_name in _CORE_NAMES.items():
        length = model.inputs.adapter(core_name).length
        assert length is not None
        masks[core_name] = getattr(hidden, name)[:, None].expand(-1, length)
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


@torch.no_grad()
def reconstruct(
    model: PerceiverIO,
    config: AutoencoderConfig,
    batch: ClipBatch,
    *,
    hide: Collection[str] = ("label",),
    ask: Collection[str] = MODALITIES,
    chunk_size: int = 65_536,
) -> Reconstruction:
    """Encode clips once and decode all of what is asked for.

    Args:
        model: in evaluation mode.
        config: its sizes.
        batch: clips on the model's device.
        hide: modalities not to show to the model.
        ask: modalities to decode; the others cost nothing.
        chunk_size: queries decoded at a time, which bounds memory.
    """
    latents = encode(model, batch, Hidden.absent(batch, hide))
    decoded = model.decode(latents, {_CORE_NAMES[name]: None for name in ask}, chunk_size=chunk_size)
    assert isinstance(decoded, dict)
    video = audio = logits = None
    clip = config.clip
    if "image" in decoded:
        pixels = decoded["image"].float().unflatten(1, (clip.num_frames, clip.height, clip.width))
        video = pixels.permute(0, 1, 4, 2, 3).clamp(0.0, 1.0)
    if "audio" in decoded:
        audio = decoded["audio"].float().clamp(-1.0, 1.0)
    if "label" in decoded:
        logits = decoded["label"].float()
    return Reconstruction(video=video, audio=audio, logits=logits)
