"""The seven Perceiver classes of Hugging Face transformers with random weights, as cases for parity tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SMALL_TRUNK = {"num_latents": 12, "d_latents": 32, "num_self_attends_per_block": 2, "num_blocks": 2}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One class at one size: its configuration, and arguments for a call without and with an input mask."""

    name: str
    config: dict[str, Any]
    arguments: Callable[[], dict[str, Any]]
    mask_length: int | None

    def masked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The same arguments with the last third of the input tokens masked, and a fifth of the others."""
        assert self.mask_length is not None
        inputs = arguments["inputs"]
        batch = len(inputs["image"] if isinstance(inputs, dict) else inputs)
        mask = torch.rand(batch, self.mask_length) > 0.2
        mask[:, 2 * self.mask_length // 3 :] = False
        return {**arguments, "attention_mask": mask.long()}


# Random attention over many independent inputs averages them out; inputs of one call share something that other calls'
# have not, so that the logits depend on it.
def _tokens(batch: int, length: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"inputs": torch.randint(0, 40, (batch, length)) + torch.randint(0, 222, (batch, 1))}


def _images(batch: int, size: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"inputs": torch.randn(batch, 3, size, size) + torch.randn(batch, 3, 1, 1) * 2}


def _clips(batch: int, frames: int, size: int, samples: int, classes: int, points: int) -> Callable[[], dict[str, Any]]:
    def arguments() -> dict[str, Any]:
        return {
            "inputs": {
                "image": torch.randn(batch, frames, 3, size, size),
                "audio": torch.randn(batch, samples, 1),
                "label": torch.zeros(batch, classes),
            },
            "subsampled_output_points": {
                "image": torch.randint(0, frames * size * size, (points,)),
                "audio": torch.randint(0, samples // 16, (points // 4,)),
                "label": None,
            },
        }

    return arguments


SMALL = [
    Case(
        name="PerceiverForMaskedLM",
        config={**SMALL_TRUNK, "d_model": 24, "qk_channels": 16, "v_channels": 32, "max_position_embeddings": 40},
        arguments=_tokens(3, 40),
        mask_length=40,
    ),
    Case(
        name="PerceiverForSequenceClassification",
        config={
            **SMALL_TRUNK,
            "d_model": 24,
            "qk_channels": 16,
            "v_channels": 32,
            "max_position_embeddings": 40,
            "num_labels": 5,
            "self_attention_widening_factor": 2,
            "cross_attention_widening_factor": 3,
        },
        arguments=_tokens(3, 30),
        mask_length=30,
    ),
    Case(
        name="PerceiverForImageClassificationLearned",
        config={**SMALL_TRUNK, "d_model": 512, "image_size": 12, "num_labels": 7, "num_cross_attention_heads": 1},
        arguments=_images(2, 12),
        mask_length=144,
    ),
    Case(
        name="PerceiverForImageClassificationFourier",
        config={**SMALL_TRUNK, "d_model": 261, "num_labels": 7, "num_cross_attention_heads": 1},
        arguments=_images(2, 13),
        mask_length=169,
    ),
    Case(
        name="PerceiverForImageClassificationConvProcessing",
        config={
            **SMALL_TRUNK,
            "d_model": 322,
            "num_labels": 7,
            "num_cross_attention_heads": 1,
            "cross_attention_shape_for_attention": "q",
            "use_query_residual": False,
        },
        arguments=_images(2, 30),
        mask_length=49,
    ),
    Case(
        name="PerceiverForOpticalFlow",
        config={**SMALL_TRUNK, "d_model": 322, "train_size": [10, 14], "num_cross_attention_heads": 1},
        arguments=lambda: {"inputs": torch.randn(2, 2, 27, 10, 14)},
        mask_length=140,
    ),
    Case(
        name="PerceiverForMultimodalAutoencoding",
        config={
            **SMALL_TRUNK,
            "d_model": 704,
            "num_cross_attention_heads": 1,
            "num_labels": 9,
            "num_frames": 2,
            "image_size": 4,
            "output_shape": [1, 2, 16, 16],
            "audio_samples_per_frame": 64,
            "output_num_channels": 48,
            "_label_trainable_num_channels": 40,
        },
        arguments=_clips(2, 2, 16, 128, 9, 30),
        mask_length=8 + 32 + 1,
    ),
]

IMAGE_TRUNK = {"num_latents": 512, "d_latents": 1024, "num_self_attends_per_block": 6, "num_blocks": 8}
IMAGE = {**IMAGE_TRUNK, "num_cross_attention_heads": 1, "image_size": 224, "num_labels": 1000}
BYTES = {"qk_channels": 256, "v_channels": 1280}

# The configurations of the published checkpoints.
FULL = [
    Case(name="PerceiverForMaskedLM", config=BYTES, arguments=_tokens(1, 2048), mask_length=2048),
    Case(name="PerceiverForSequenceClassification", config=BYTES, arguments=_tokens(1, 2048), mask_length=2048),
    Case(
        name="PerceiverForImageClassificationLearned",
        config={**IMAGE, "d_model": 512},
        arguments=_images(1, 224),
        mask_length=50176,
    ),
    Case(
        name="PerceiverForImageClassificationFourier",
        config={**IMAGE, "d_model": 261},
        arguments=_images(1, 224),
        mask_length=50176,
    ),
    Case(
        name="PerceiverForImageClassificationConvProcessing",
        config={**IMAGE, "d_model": 322},
        arguments=_images(1, 224),
        mask_length=3025,
    ),
    Case(
        name="PerceiverForOpticalFlow",
        config={
            "num_latents": 2048,
            "d_latents": 512,
            "d_model": 322,
            "num_self_attends_per_block": 24,
            "num_self_attention_heads": 16,
            "num_cross_attention_heads": 1,
        },
        arguments=lambda: {"inputs": torch.rand(1, 2, 27, 368, 496) * 2 - 1},
        mask_length=None,  # one masked call is tested at reduced size: a second one of this size takes half a minute
    ),
    Case(
        name="PerceiverForMultimodalAutoencoding",
        config={
            "num_latents": 784,
            "d_latents": 512,
            "d_model": 704,
            "num_self_attends_per_block": 8,
            "num_cross_attention_heads": 1,
            "num_labels": 700,
        },
        arguments=_clips(1, 16, 224, 30_720, 700, 6272),
        mask_length=52_097,
    ),
]


def save_random(case: Case, folder: Path, seed: int) -> Any:
    """A random model of the case's class in evaluation mode, saved to `folder`."""
    import transformers
    from transformers import PerceiverConfig
    from transformers.models.perceiver import modeling_perceiver

    transformers.logging.set_verbosity_error()
    torch.manual_seed(seed)
    model = getattr(modeling_perceiver, case.name)(PerceiverConfig(**case.config))
    with torch.no_grad():
        # At transformers' own initialisation the logits hardly depend on the inputs, and norms and biases are ones and
        # zeros: a swap of two parameters, or a mask that is not heeded, would go unseen.
        for name, parameter in model.named_parameters():
            linear = name.endswith("weight") and "embeddings" not in name and parameter.dim() > 1
            std = parameter[0].numel() ** -0.5 if linear else 1.0 if parameter.dim() > 1 else 0.1
            parameter.normal_(std=std)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1.0)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.eval().save_pretrained(folder)
    return model


def worst_ratio(ours: Tensor | dict[str, Tensor], theirs: Tensor | dict[str, Tensor]) -> float:
    """max |difference| / max |logit|, the worst over modalities."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict) and set(ours) == set(theirs)
        return max(worst_ratio(ours[name], theirs[name]) for name in theirs)
    assert isinstance(ours, Tensor) and ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())
