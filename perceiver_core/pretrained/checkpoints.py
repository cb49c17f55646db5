"""The weights of a checkpoint: reading, and the names and shapes that transformers gives to ours."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from perceiver_core.hub import WEIGHTS_FILE, locate, read_config, read_safetensors

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


def read_weights(folder_or_hub_id: str | Path, revision: str | None) -> tuple[Path, dict[str, Tensor]]:
    """The file that was read (of several, their index), and its tensors by transformers' names in our shapes."""
    if path := locate(folder_or_hub_id, WEIGHTS_FILE, revision):
        return path, _without_unit_axes(read_safetensors(path))
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
        return index, _without_unit_axes(weights)
    if path := locate(folder_or_hub_id, "pytorch_model.bin", revision):
        try:
            # Without `weights_only`, a pickle could run any code.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ValueError(f"{path}: not a file of plain weights, or a damaged one: {error}") from error
        if not isinstance(loaded, Mapping) or not all(isinstance(t, Tensor) for t in loaded.values()):
            raise ValueError(f"{path}: expected a mapping from names to tensors, got {type(loaded).__name__}")
        return path, _without_unit_axes(loaded)
    raise FileNotFoundError(f"{folder_or_hub_id} has neither {WEIGHTS_FILE} nor pytorch_model.bin")


# Their padding and mask vectors are [1, C], their 1x1 convolution is [out, in, 1, 1]; ours have no such axes.
_UNIT_ROW = re.compile(r"\.(padding|mask)\.\w+$")
_UNIT_KERNEL = "convnet_1x1.weight"


def _without_unit_axes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = dict(weights)
    for key, tensor in weights.items():
        if _UNIT_ROW.search(key) and tensor.dim() == 2 and tensor.shape[0] == 1:
            ours[key] = tensor[0]
        elif key.endswith(_UNIT_KERNEL) and tensor.shape[2:] == (1, 1):
            ours[key] = tensor.flatten(1)
    return ours


def hugging_face_weights(weights: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Our weights by transformers' names and in its shapes."""
    theirs = {}
    for name, tensor in weights.items():
        key = hugging_face_name(name, architecture)
        if _UNIT_ROW.search(key):
            tensor = tensor[None]
        elif key.endswith(_UNIT_KERNEL):
            tensor = tensor[..., None, None]
        theirs[key] = tensor.contiguous()
    return theirs
