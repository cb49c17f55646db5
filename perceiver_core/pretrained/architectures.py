"""The seven classes: the preset that each one is, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perceiver_core import presets
from perceiver_core.model import PerceiverIO
from perceiver_core.pretrained.configuration import HuggingFaceConfig


def _masked_language_model(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.masked_language_model(
        vocabulary=c.vocab_size, max_length=c.max_position_embeddings, token_channels=c.d_model, encoder=c.encoder()
    )


def _sequence_classifier(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.sequence_classifier(
        num_classes=c.num_labels,
        vocabulary=c.vocab_size,
        max_length=c.max_position_embeddings,
        token_channels=c.d_model,
        encoder=c.encoder(),
    )


def _image_learned(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.image_classifier_learned(image_size=c.image_grid, num_classes=c.num_labels, encoder=c.encoder())


def _image_fourier(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.image_classifier_fourier(image_size=(224, 224), num_classes=c.num_labels, encoder=c.encoder())


def _image_conv(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.image_classifier_conv(
        image_size=(224, 224), num_classes=c.num_labels, padding="symmetric", encoder=c.encoder()
    )


def _optical_flow(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.optical_flow(image_size=c.train_size, encoder=c.encoder())


def _multimodal(c: HuggingFaceConfig) -> PerceiverIO:
    return presets.multimodal_autoencoder(
        video=presets.VideoModality(
            num_frames=c.num_frames, size=c.output_shape[2:], resolution=(c.num_frames, *c.image_grid)
        ),
        audio=presets.AudioModality(
            num_samples=c.num_frames * c.audio_samples_per_frame, samples_per_patch=c.samples_per_patch
        ),
        label=presets.LabelModality(num_classes=c.num_labels, query_channels=c.label_query_channels),
        output_channels=c.output_num_channels,
        encoder=c.encoder(),
    )


@dataclass(frozen=True)
class Architecture:
    """One of the classes.

    Attributes:
        build: its model.
        input_name: the argument that names its inputs, as an alternative to `inputs`; None: there is none.
        classifies: whether its outputs are the logits of classes.
    """

    build: Callable[[HuggingFaceConfig], PerceiverIO]
    input_name: str | None = None
    classifies: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "PerceiverForMaskedLM": Architecture(_masked_language_model, "input_ids"),
    "PerceiverForSequenceClassification": Architecture(_sequence_classifier, "input_ids", classifies=True),
    "PerceiverForImageClassificationLearned": Architecture(_image_learned, "pixel_values", classifies=True),
    "PerceiverForImageClassificationFourier": Architecture(_image_fourier, "pixel_values", classifies=True),
    "PerceiverForImageClassificationConvProcessing": Architecture(_image_conv, "pixel_values", classifies=True),
    "PerceiverForOpticalFlow": Architecture(_optical_flow),
    "PerceiverForMultimodalAutoencoding": Architecture(_multimodal),
}
