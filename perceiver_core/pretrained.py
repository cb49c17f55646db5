"""Checkpoints of the Perceiver classes of Hugging Face transformers, as their `save_pretrained` writes them.

`load` reads `config.json` and the weights, and gives a module with the same call and the same logits. It needs no
transformers. Its `model` is a `PerceiverIO` like any other: encode once, decode what is needed, save in our format.

One difference is meant: in a sample whose inputs are all masked, transformers averages over the masked inputs; here
such a sample attends to nothing.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from perceiver_core import presets
from perceiver_core.attention import AttentionConfig
from perceiver_core.checks import check_tensor
from perceiver_core.hub import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    load_weights,
    locate,
    read_config,
    read_safetensors,
    require,
)
from perceiver_core.model import EncoderConfig, Outputs, PerceiverIO


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig:
    """The fields of transformers' PerceiverConfig that decide on the architecture, with its defaults."""

    num_latents: int = 256
    d_latents: int = 1280
    d_model: int = 768
    num_blocks: int = 1
    num_self_attends_per_block: int = 26
    num_self_attention_heads: int = 8
    num_cross_attention_heads: int = 8
    qk_channels: int | None = None
    v_channels: int | None = None
    cross_attention_shape_for_attention: Literal["q", "kv"] = "kv"
    self_attention_widening_factor: int = 1
    cross_attention_widening_factor: int = 1
    hidden_act: str = "gelu"
    use_query_residual: bool = True
    vocab_size: int = 262
    max_position_embeddings: int = 2048
    image_size: int | tuple[int, int] = 56
    train_size: tuple[int, int] = (368, 496)
    num_frames: int = 16
    audio_samples_per_frame: int = 1920
    samples_per_patch: int = 16
    output_shape: tuple[int, int, int, int] = (1, 16, 224, 224)
    output_num_channels: int = 512
    label_query_channels: int = 1024
    num_labels: int = 2

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> HuggingFaceConfig:
        """Take the fields from the JSON object of a `config.json`; absent ones keep transformers' defaults."""
        given = {name: data[name] for name in cls.__annotations__ if name in data}
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        if "_label_trainable_num_channels" in data:
            fields["label_query_channels"] = data["_label_trainable_num_channels"]
        if "id2label" in data:
            fields["num_labels"] = len(data["id2label"])
        return cls(**fields)

    @property
    def image_grid(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        return height, width

    def encoder(self) -> EncoderConfig:
        """The encoder's sizes."""
        return EncoderConfig(
            num_latents=self.num_latents,
            latent_channels=self.d_latents,
            num_self_attends=self.num_self_attends_per_block,
            num_blocks=self.num_blocks,
            cross_attention=AttentionConfig(
                num_heads=self.num_cross_attention_heads,
                qk_channels=self.qk_channels or self.cross_attention_shape_for_attention,
                v_channels=self.v_channels,
                widening_factor=self.cross_attention_widening_factor,
                query_residual=self.use_query_residual,
            ),
            self_attention=AttentionConfig(
                num_heads=self.num_self_attention_heads,
                qk_channels=self.qk_channels or "q",
                v_channels=self.v_channels,
                widening_factor=self.self_attention_widening_factor,
            ),
        )


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


_BUILDERS: dict[str, Callable[[HuggingFaceConfig], PerceiverIO]] = {
    "PerceiverForMaskedLM": _masked_language_model,
    "PerceiverForSequenceClassification": _sequence_classifier,
    "PerceiverForImageClassificationLearned": _image_learned,
    "PerceiverForImageClassificationFourier": _image_fourier,
    "PerceiverForImageClassificationConvProcessing": _image_conv,
    "PerceiverForOpticalFlow": _optical_flow,
    "PerceiverForMultimodalAutoencoding": _multimodal,
}

# From our names to theirs, applied in this order; `{decoder}` is where the class keeps its decoder's cross-attention.
_LAYER_NAMES = [
    (r"\.(query_norm|norm)\.", ".attention.self.layernorm1."),
    (r"\.input_norm\.", ".attention.self.layernorm2."),
    (r"\.(query|key|value)\.", r".attention.self.\1."),
    (r"\.output\.", ".attention.output.dense."),
]
_FEED_FORWARD_NAMES = [
    (r"\.feed_forward\.norm\.", ".layernorm."),
    (r"\.feed_forward\.expand\.", ".mlp.dense1."),
    (r"\.feed_forward\.contract\.", ".mlp.dense2."),
]
_MODEL_NAMES = [
    (r"^encoder\.latents$", "perceiver.embeddings.latents"),
    (r"^encoder\.cross_attends\.0\.", "perceiver.encoder.cross_attention."),
    (r"^encoder\.blocks\.0\.", "perceiver.encoder.self_attends."),
    (r"^decoder\.cross_attend\.", "{decoder}.decoding_cross_attention."),
    (r"^decoder\.final\.", "{decoder}.final_layer."),
    (r"^queries\.position\.table$", "{decoder}.output_position_encodings.position_embeddings"),
    (r"^queries\.padding\.", "perceiver.decoder.padding."),
    (
        r"^queries\.generators\.(\w+)\.position\.table$",
        r"perceiver.decoder.modalities.\1.decoder.output_position_encodings.position_embeddings",
    ),
    (r"^inputs\.embedding\.", "perceiver.input_preprocessor.embeddings."),
    (r"^inputs\.position$", "perceiver.input_preprocessor.position_embeddings.weight"),
    (r"^inputs\.position\.table$", "perceiver.input_preprocessor.position_embeddings.position_embeddings"),
    (r"^inputs\.position\.projection\.", "perceiver.input_preprocessor.positions_projection."),
    (r"^inputs\.projection\.", "perceiver.input_preprocessor.{projection}."),
    (r"^inputs\.conv\.", "perceiver.input_preprocessor.convnet.conv."),
    (r"^inputs\.norm\.", "perceiver.input_preprocessor.convnet.batchnorm."),
    (r"^inputs\.padding\.", "perceiver.input_preprocessor.padding."),
    (r"^inputs\.mask_tokens\.", "perceiver.input_preprocessor.mask."),
    (r"^outputs\.bias$", "embedding_decoder.bias"),
    (r"^outputs\.adapters\.(\w+)\.projection\.", r"perceiver.output_postprocessor.modalities.\1.classifier."),
]


def hugging_face_name(name: str, architecture: str) -> str:
    """The name that transformers gives to one of our parameters in one of its classes."""
    in_layer = name.startswith(("encoder.cross_attends", "encoder.blocks", "decoder.cross_attend"))
    if in_layer:
        for pattern, replacement in _FEED_FORWARD_NAMES if ".feed_forward." in name else _LAYER_NAMES:
            name, found = re.subn(pattern, replacement, name)
            if found:
                break
    for pattern, replacement in _MODEL_NAMES:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    decoder = "perceiver.decoder" if architecture == "PerceiverForMaskedLM" else "perceiver.decoder.decoder"
    projection = "conv_after_patches" if architecture == "PerceiverForOpticalFlow" else "convnet_1x1"
    return name.replace("{decoder}", decoder).replace("{projection}", projection)


class PretrainedPerceiver(nn.Module):
    """A published model behind the call of its Hugging Face class.

    Attributes:
        model: the model itself.
        architecture: the name of the Hugging Face class.
    """

    def __init__(self, model: PerceiverIO, architecture: str) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture

    def forward(
        self,
        inputs: Any,
        attention_mask: Tensor | None = None,
        subsampled_output_points: Mapping[str, Tensor | None] | None = None,
        *,
        chunk_size: int | None = None,
    ) -> Outputs:
        """Logits of the class, a tensor, or a dict of tensors by modality.

        Args:
            inputs: what the class takes: token ids, images, frame pairs as neighbourhoods, or a mapping by modality.
                The label, which the published autoencoder always hides, may be left out.
            attention_mask: [B, M] over the input tokens, non-zero for valid ones.
            subsampled_output_points: for the autoencoder, the positions to decode per modality, None for all of one;
                modalities that are left out are not decoded. None decodes everything.
            chunk_size: most queries to decode at a time.
        """
        mask = attention_mask
        if mask is not None and mask.dtype != torch.bool:
            check_tensor("attention_mask", mask, "B M", "floating" if mask.is_floating_point() else "integer")
            mask = mask != 0
        if self.architecture == "PerceiverForMultimodalAutoencoding":
            return self.model(inputs, mask, subsampled_output_points, masked=("label",), chunk_size=chunk_size)
        if subsampled_output_points is not None:
            raise ValueError(f"`subsampled_output_points` is for multimodal models, not for {self.architecture}")
        return self.model(inputs, mask, chunk_size=chunk_size)


def _read_weights(folder_or_hub_id: str | Path, revision: str | None) -> tuple[Path, dict[str, Tensor]]:
    """The file that was read (of several, their index) and its tensors."""
    if path := locate(folder_or_hub_id, WEIGHTS_FILE, revision):
        return path, read_safetensors(path)
    if index := locate(folder_or_hub_id, WEIGHTS_FILE + ".index.json", revision):
        weights: dict[str, Tensor] = {}
        files = read_config(index).get("weight_map")
        if not isinstance(files, Mapping):
            raise ValueError(f"{index}: `weight_map` must map names to files, got {files!r}")
        for filename in sorted(set(files.values())):
            shard = locate(folder_or_hub_id, filename, revision)
            if shard is None:
                raise FileNotFoundError(f"{index} names {filename}, which is missing")
            weights.update(read_safetensors(shard))
        return index, weights
    if path := locate(folder_or_hub_id, "pytorch_model.bin", revision):
        try:
            # Without `weights_only`, a pickle could run any code.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ValueError(f"{path}: not a file of plain weights, or a damaged one: {error}") from error
        if not isinstance(loaded, Mapping) or not all(isinstance(t, Tensor) for t in loaded.values()):
            raise ValueError(f"{path}: expected a mapping from names to tensors, got {type(loaded).__name__}")
        return path, dict(loaded)
    raise FileNotFoundError(f"{folder_or_hub_id} has neither {WEIGHTS_FILE} nor pytorch_model.bin")


def _without_unit_axes(key: str, tensor: Tensor) -> Tensor:
    """Their padding and mask vectors are [1, C], their 1x1 convolution is [out, in, 1, 1]; ours have no such axes."""
    if re.search(r"\.(padding|mask)\.\w+$", key) and tensor.dim() == 2 and tensor.shape[0] == 1:
        return tensor[0]
    if key.endswith("convnet_1x1.weight") and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def load(folder_or_hub_id: str | Path, *, revision: str | None = None) -> PretrainedPerceiver:
    """Load a checkpoint of one of the seven Hugging Face Perceiver classes, on the CPU and in evaluation mode.

    Args:
        folder_or_hub_id: a local folder (no network is used), or a hub repository such as
            `"deepmind/multimodal-perceiver"`.
        revision: branch, tag or commit of the hub repository.

    Raises:
        FileNotFoundError: no such folder or repository, or no weights in it.
        ValueError: the configuration is of another model, or the weights do not fit; names the file and the keys.
    """
    config_path = require(folder_or_hub_id, CONFIG_FILE, revision)
    data = read_config(config_path)
    architectures = data.get("architectures") or ["(none)"]
    architecture = architectures[0]
    if data.get("model_type") != "perceiver" or architecture not in _BUILDERS:
        raise ValueError(
            f"{config_path}: `model_type` {data.get('model_type')!r} with `architectures` {json.dumps(architectures)} "
            f"is none of {', '.join(_BUILDERS)}"
        )
    if data.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{config_path}: `hidden_act` must be 'gelu', got {data['hidden_act']!r}")
    try:
        with torch.device("meta"):
            model = _BUILDERS[architecture](HuggingFaceConfig.read(data))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{config_path}: {error}") from error
    path, weights = _read_weights(folder_or_hub_id, revision)
    weights = {key: _without_unit_axes(key, tensor) for key, tensor in weights.items()}
    load_weights(model, weights, path, lambda name: hugging_face_name(name, architecture))
    return PretrainedPerceiver(model, architecture).eval()
