"""The published models, at their published sizes by default.

| preset | model | parameters |
|---|---|---|
| `multimodal_autoencoder` | video, audio and label | 19,858,855 |
| `masked_language_model` | bytes | 201,108,230 |
| `sequence_classifier` | bytes | 206,098,690 |
| `optical_flow` | pairs of frames | 41,057,134 |
| `image_classifier_learned` | pixels, trainable positions | 62,255,848 |
| `image_classifier_fourier` | pixels, Fourier positions | 48,440,627 |
| `image_classifier_conv` | convolutional stem | 48,646,522 |
| `perceiver_image_classifier` | the original Perceiver | 44,912,254 |
| `entity_encoder` | StarCraft II units | by width |
| `autoregressive_language_model` | next byte, Perceiver AR | 164,289,798 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from perceiver_core.attention import AttentionConfig
from perceiver_core.autoregressive import AutoregressiveConfig, PerceiverAR
from perceiver_core.bottleneck import BottleneckConfig
from perceiver_core.entities import EntityEncoder, EntityEncoding, entity_encoder
from perceiver_core.inputs import (
    AudioInput,
    ConvStemInput,
    FlowInput,
    ImageInput,
    LabelInput,
    MultimodalInput,
    TokenInput,
    VideoInput,
)
from perceiver_core.model import (
    DecoderConfig,
    EncoderConfig,
    Perceiver,
    PerceiverConfig,
    PerceiverIO,
    PerceiverIOConfig,
)
from perceiver_core.outputs import (
    AudioPatchOutput,
    ClassificationOutput,
    FlowOutput,
    MultimodalOutput,
    ProjectionOutput,
    TiedEmbeddingOutput,
    VideoPatchOutput,
)
from perceiver_core.position import FourierPosition, Spacing, TrainablePosition
from perceiver_core.queries import InputQueries, MultimodalQueries, PositionQueries

__all__ = [
    "AudioModality",
    "EntityEncoder",
    "EntityEncoding",
    "LabelModality",
    "Modality",
    "VideoModality",
    "autoencoder",
    "autoregressive_language_model",
    "entity_encoder",
    "image_classifier_conv",
    "image_classifier_fourier",
    "image_classifier_learned",
    "masked_language_model",
    "multimodal_autoencoder",
    "optical_flow",
    "perceiver_image_classifier",
    "sequence_classifier",
]

Size = tuple[int, int]


def learned_queries(count: int, channels: int) -> PositionQueries.Config:
    """`count` trainable queries: one for a classification, one per place for a sequence."""
    return PositionQueries.Config(position=TrainablePosition.Config(shape=(count,), channels=channels))


def image_encoder() -> EncoderConfig:
    """The encoder of the ImageNet models: eight times the same six self-attends."""
    return EncoderConfig(num_latents=512, latent_channels=1024, num_self_attends=6, num_blocks=8)


def byte_encoder() -> EncoderConfig:
    """The encoder of the byte-level language models."""
    widths = AttentionConfig(num_heads=8, qk_channels=256, v_channels=1280)
    return EncoderConfig(
        num_latents=256, latent_channels=1280, num_self_attends=26, cross_attention=widths, self_attention=widths
    )


def _classifier(inputs: Any, encoder: EncoderConfig, num_classes: int) -> PerceiverIO:
    return PerceiverIO(
        PerceiverIOConfig(
            inputs=inputs,
            encoder=encoder,
            queries=learned_queries(1, encoder.latent_channels),
            decoder=DecoderConfig(output_channels=num_classes),
            outputs=ClassificationOutput.Config(),
        )
    )


def image_classifier_learned(
    *, image_size: Size = (224, 224), num_classes: int = 1000, encoder: EncoderConfig | None = None
) -> PerceiverIO:
    """ImageNet classifier without any knowledge of two dimensions: 1x1 convolution and trainable positions.

    Images [B, 3, H, W] of exactly `image_size` -> logits [B, num_classes]. Paper: 72.7% top-1.
    """
    position = TrainablePosition.Config(shape=image_size, channels=256, projected_channels=256)
    inputs = ImageInput.Config(position=position, projection_channels=256)
    return _classifier(inputs, encoder or image_encoder(), num_classes)


def image_classifier_fourier(
    *, image_size: Size = (224, 224), num_classes: int = 1000, encoder: EncoderConfig | None = None
) -> PerceiverIO:
    """ImageNet classifier on pixels with Fourier features.

    Images [B, 3, H, W], of `image_size` or another -> logits [B, num_classes]. Paper: 79.0% top-1.
    """
    inputs = ImageInput.Config(position=FourierPosition.Config(shape=image_size, num_bands=64))
    return _classifier(inputs, encoder or image_encoder(), num_classes)


def image_classifier_conv(
    *,
    image_size: Size = (224, 224),
    num_classes: int = 1000,
    padding: Literal["same", "symmetric"] = "same",
    encoder: EncoderConfig | None = None,
) -> PerceiverIO:
    """ImageNet classifier behind a convolutional stem.

    Images [B, 3, H, W], of `image_size` or another -> logits [B, num_classes]. Paper: 82.1% top-1.

    Args:
        image_size: H, W.
        num_classes: classes.
        padding: of the stem; see `ConvStemInput`.
        encoder: other sizes than the published ones.
    """
    quarter = (image_size[0] // 4, image_size[1] // 4)
    position = FourierPosition.Config(shape=quarter, num_bands=64)
    return _classifier(
        ConvStemInput.Config(position=position, padding=padding), encoder or image_encoder(), num_classes
    )


def perceiver_image_classifier(
    *, image_size: Size = (224, 224), num_classes: int = 1000, encoder: EncoderConfig | None = None
) -> Perceiver:
    """The original Perceiver on ImageNet (arXiv 2103.03206): eight cross-attends, 44.9 M parameters.

    All blocks share their weights. All cross-attends but the first share theirs.
    Images [B, 3, H, W] -> logits [B, num_classes]. Paper: 78.0% top-1.
    """
    encoder = encoder or EncoderConfig(
        num_latents=512,
        latent_channels=1024,
        num_self_attends=6,
        num_blocks=8,
        num_cross_attends=8,
        distinct_cross_attends=2,
    )
    inputs = ImageInput.Config(position=FourierPosition.Config(shape=image_size, num_bands=64))
    return Perceiver(PerceiverConfig(inputs=inputs, encoder=encoder, num_classes=num_classes))


def masked_language_model(
    *,
    vocabulary: int = 262,
    max_length: int = 2048,
    token_channels: int = 768,
    n_grams: tuple[int, ...] = (),
    encoder: EncoderConfig | None = None,
    decoder_attention: AttentionConfig | None = None,
) -> PerceiverIO:
    """Byte-level masked language model: 256 bytes and 6 special tokens, no tokenizer.

    Integers [B, L] with L <= max_length -> logits [B, max_length, vocabulary], or of the asked positions.

    Args:
        vocabulary: tokens.
        max_length: positions.
        token_channels: width of embeddings and queries.
        n_grams: lengths of n-grams that are embedded too; the published model has none.
        encoder: other sizes than the published ones.
        decoder_attention: another decoder than the published one, of 8 heads and 256 query/key channels.
    """
    return PerceiverIO(
        PerceiverIOConfig(
            inputs=TokenInput.Config(
                vocabulary=vocabulary, max_length=max_length, channels=token_channels, n_grams=n_grams
            ),
            encoder=encoder or byte_encoder(),
            queries=learned_queries(max_length, token_channels),
            decoder=DecoderConfig(
                attention=decoder_attention
                or AttentionConfig(num_heads=8, qk_channels=256, v_channels=token_channels, query_residual=False)
            ),
            outputs=TiedEmbeddingOutput.Config(),
        )
    )


def sequence_classifier(
    *,
    num_classes: int = 2,
    vocabulary: int = 262,
    max_length: int = 2048,
    token_channels: int = 768,
    encoder: EncoderConfig | None = None,
) -> PerceiverIO:
    """Byte-level sequence classifier on the language model's trunk: integers [B, L] -> logits [B, num_classes]."""
    inputs = TokenInput.Config(vocabulary=vocabulary, max_length=max_length, channels=token_channels)
    return _classifier(inputs, encoder or byte_encoder(), num_classes)


def autoregressive_language_model(
    *,
    vocabulary: int = 262,
    max_length: int = 8192,
    num_latents: int = 1024,
    channels: int = 1024,
    num_self_attends: int = 12,
    num_heads: int = 16,
    positions: Literal["rotary", "learned"] = "rotary",
    prefix_dropout: float = 0.0,
) -> PerceiverAR:
    """Perceiver AR (arXiv 2202.07765): bytes to the next byte. Sizes are those of the reference implementation.

    Integers [B, L] with L <= max_length -> logits [B, N, vocabulary] at the last N = min(num_latents, L) positions.

    Args:
        vocabulary: tokens.
        max_length: longest context.
        num_latents: last positions that are latents.
        channels: width.
        num_self_attends: layers over the latents.
        num_heads: heads of every layer.
        positions: rotary or learned ones.
        prefix_dropout: share of the tokens before the latents that a training step leaves out.
    """
    return PerceiverAR(
        AutoregressiveConfig(
            vocabulary=vocabulary,
            max_length=max_length,
            num_latents=num_latents,
            channels=channels,
            num_self_attends=num_self_attends,
            num_heads=num_heads,
            positions=positions,
            prefix_dropout=prefix_dropout,
        )
    )


def optical_flow(*, image_size: Size = (368, 496), encoder: EncoderConfig | None = None) -> PerceiverIO:
    """Optical flow: the queries are the adapted pixels.

    Frames [B, 2, 3, H, W] in [-1, 1] -> flow [B, H, W, 2] in units of the published training (20 pixels).
    """
    position = FourierPosition.Config(shape=image_size, num_bands=64)
    return PerceiverIO(
        PerceiverIOConfig(
            inputs=FlowInput.Config(position=position),
            encoder=encoder
            or EncoderConfig(
                num_latents=2048,
                latent_channels=512,
                num_self_attends=24,
                self_attention=AttentionConfig(num_heads=16),
            ),
            queries=InputQueries.Config(),
            decoder=DecoderConfig(attention=AttentionConfig(num_heads=1, query_residual=False), output_channels=2),
            outputs=FlowOutput.Config(shape=image_size),
        )
    )


@dataclass(frozen=True, kw_only=True)
class VideoModality:
    """The video of an autoencoder: clips [B, T, 3, H, W]; by default as published.

    Args:
        num_frames: T.
        size: H, W.
        patch: height and width of an input patch.
        query_patch: height and width of what one query decodes; published: a pixel.
        bands: Fourier bands of time, height and width.
        resolution: highest frequencies of these bands, as a grid; None: the grid of the input patches.
        channels: colours.
    """

    num_frames: int = 16
    size: Size = (224, 224)
    patch: Size = (4, 4)
    query_patch: Size = (1, 1)
    bands: int = 32
    resolution: tuple[int, int, int] | None = None
    channels: int = 3

    mask_probability: ClassVar[float] = 0.0

    @property
    def query_width(self) -> int:
        """Channels of a query."""
        return 3 * (1 + 2 * self.bands)

    def __post_init__(self) -> None:
        for name, patch in (("patch", self.patch), ("query_patch", self.query_patch)):
            if self.size[0] % patch[0] or self.size[1] % patch[1]:
                raise ValueError(f"VideoModality: `size` = {self.size} must be a multiple of `{name}` = {patch}")

    def grid(self, patch: Size) -> tuple[int, int, int]:
        """Numbers of patches along time, height and width."""
        return self.num_frames, self.size[0] // patch[0], self.size[1] // patch[1]

    def position(self, patch: Size, spacing: Spacing) -> FourierPosition.Config:
        """Places of patches of one size. Queries keep the resolution of the inputs: the published weights expect it."""
        resolution = self.resolution or self.grid(self.patch)
        return FourierPosition.Config(
            shape=self.grid(patch), num_bands=self.bands, resolution=resolution, spacing=spacing
        )

    def inputs(self) -> VideoInput.Config:
        """Its input adapter."""
        position = self.position(self.patch, "closed")
        return VideoInput.Config(position=position, patch=(1, *self.patch), channels=self.channels)

    def queries(self) -> PositionQueries.Config:
        """Its queries."""
        return PositionQueries.Config(position=self.position(self.query_patch, "half_open"))

    def outputs(self) -> ProjectionOutput.Config | VideoPatchOutput.Config:
        """Its output adapter."""
        if self.query_patch == (1, 1):
            return ProjectionOutput.Config(channels=self.channels)
        shape = (self.num_frames, *self.size)
        return VideoPatchOutput.Config(shape=shape, patch=(1, *self.query_patch), channels=self.channels)


@dataclass(frozen=True, kw_only=True)
class AudioModality:
    """The sound of an autoencoder: [B, S] or [B, S, 1]; by default as published.

    Args:
        num_samples: S.
        samples_per_patch: samples of an input token and of a query.
        bands: Fourier bands of the patches.
        resolution: Nyquist resolution of these bands; None: the samples, so that bands above half the number of
            patches alias.
    """

    num_samples: int = 30_720
    samples_per_patch: int = 16
    bands: int = 192
    resolution: int | None = None

    mask_probability: ClassVar[float] = 0.0

    @property
    def query_width(self) -> int:
        """Channels of a query."""
        return 1 + 2 * self.bands

    def __post_init__(self) -> None:
        if self.num_samples % self.samples_per_patch:
            raise ValueError(
                f"AudioModality: `num_samples` = {self.num_samples} must be a multiple of `samples_per_patch` = "
                f"{self.samples_per_patch}"
            )

    def position(self, spacing: Spacing) -> FourierPosition.Config:
        """Places of the patches."""
        grid, resolution = (self.num_samples // self.samples_per_patch,), (self.resolution or self.num_samples,)
        return FourierPosition.Config(shape=grid, num_bands=self.bands, resolution=resolution, spacing=spacing)

    def inputs(self) -> AudioInput.Config:
        """Its input adapter."""
        return AudioInput.Config(position=self.position("closed"), samples_per_patch=self.samples_per_patch)

    def queries(self) -> PositionQueries.Config:
        """Its queries."""
        return PositionQueries.Config(position=self.position("half_open"))

    def outputs(self) -> AudioPatchOutput.Config:
        """Its output adapter."""
        return AudioPatchOutput.Config(samples_per_patch=self.samples_per_patch)


@dataclass(frozen=True, kw_only=True)
class LabelModality:
    """The class label of an autoencoder: [B] or [B, K]; by default as published.

    Args:
        num_classes: K.
        query_channels: width of the learned query.
        mask_probability: how often training hides the label.
    """

    num_classes: int = 700
    query_channels: int = 1024
    mask_probability: float = 0.5

    @property
    def query_width(self) -> int:
        """Channels of the query."""
        return self.query_channels

    def inputs(self) -> LabelInput.Config:
        """Its input adapter."""
        return LabelInput.Config(num_classes=self.num_classes)

    def queries(self) -> PositionQueries.Config:
        """Its query."""
        return learned_queries(1, self.query_channels)

    def outputs(self) -> ClassificationOutput.Config:
        """Its output adapter."""
        return ClassificationOutput.Config(num_classes=self.num_classes)


class Modality(Protocol):
    """What an autoencoder asks of a modality; `VideoModality` is one."""

    @property
    def query_width(self) -> int:
        """Channels of a query."""
        ...

    @property
    def mask_probability(self) -> float:
        """How often training hides a token of it."""
        ...

    def inputs(self) -> Any:
        """`Config` of its input adapter."""
        ...

    def queries(self) -> Any:
        """`Config` of its query generator."""
        ...

    def outputs(self) -> Any:
        """`Config` of its output adapter."""
        ...


def autoencoder(
    modalities: Mapping[str, Modality],
    *,
    query_channels: int | None = None,
    output_channels: int | None = 512,
    encoder: EncoderConfig | None = None,
    bottleneck: BottleneckConfig | None = None,
    decoder_attention: AttentionConfig | None = None,
) -> PerceiverIO:
    """Autoencoder of any modalities by name; `multimodal_autoencoder` is the published one, and has the arguments.

    Raises:
        ValueError: `query_channels` is narrower than a modality's query.
    """
    widest = max(modality.query_width for modality in modalities.values())
    if query_channels is not None and query_channels < widest + 1:
        raise ValueError(f"`query_channels` = {query_channels} must exceed the widest modality's query, {widest}")
    return PerceiverIO(
        PerceiverIOConfig(
            inputs=MultimodalInput.Config(
                modalities={name: modality.inputs() for name, modality in modalities.items()},
                min_padding=4,
                mask_probabilities={name: modality.mask_probability for name, modality in modalities.items()},
            ),
            encoder=encoder or EncoderConfig(num_latents=784, latent_channels=512, num_self_attends=8),
            queries=MultimodalQueries.Config(
                modalities={name: modality.queries() for name, modality in modalities.items()},
                min_padding=2 if query_channels is None else query_channels - widest,
            ),
            decoder=DecoderConfig(
                attention=decoder_attention or AttentionConfig(num_heads=1, query_residual=False),
                output_channels=output_channels,
            ),
            outputs=MultimodalOutput.Config(
                modalities={name: modality.outputs() for name, modality in modalities.items()}
            ),
            bottleneck=bottleneck,
        )
    )


def multimodal_autoencoder(
    *,
    video: VideoModality | None = None,
    audio: AudioModality | None = None,
    label: LabelModality | None = None,
    query_channels: int | None = None,
    output_channels: int | None = 512,
    encoder: EncoderConfig | None = None,
    bottleneck: BottleneckConfig | None = None,
    decoder_attention: AttentionConfig | None = None,
) -> PerceiverIO:
    """Video-audio-label autoencoder, published for Kinetics-700.

    Inputs: `{"audio": [B, S] or [B, S, 1], "image": [B, T, 3, H, W], "label": [B] or [B, K]}`. A modality may be
    missing; its mask token replaces it.

    Outputs: `{"audio": [B, S], "image": [B, T * H * W, 3], "label": [B, K]}`, or the asked positions of the asked
    modalities. Positions are audio patches, pixels in row-major order, and the one label. Where image queries are
    patches, the whole image is [B, T, 3, H, W] and a part is [B, O, patch * 3].

    Args:
        video: format and queries of the video; None: as published.
        audio: the same of the sound.
        label: the same of the label.
        query_channels: width of all queries, which learned padding fills up; None: two more than the widest needs.
        output_channels: width of decoded rows before the modalities' own linear maps; None: that of the queries.
        encoder: other sizes than the published 784 latents of 512 channels with 8 self-attends.
        bottleneck: a code narrower than the latents; None, as published: the latents are the code.
        decoder_attention: the decoder's layer; None: the published single head without query residual.

    Raises:
        ValueError: `query_channels` is narrower than a modality's query.
    """
    video, audio, label = video or VideoModality(), audio or AudioModality(), label or LabelModality()
    return autoencoder(
        {"audio": audio, "image": video, "label": label},
        query_channels=query_channels,
        output_channels=output_channels,
        encoder=encoder,
        bottleneck=bottleneck,
        decoder_attention=decoder_attention,
    )
