"""The peers' side of `benchmarks.core`: Hugging Face transformers, perceiver-pytorch and torch.nn.TransformerEncoder.

Nothing is downloaded: weights are random. A Hugging Face model of a published class is saved with its own
`save_pretrained` so that `perceiver_core.pretrained` reads the same weights.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class HuggingFaceEntityEncoder(nn.Module):
    """The StarCraft II entity encoder of Hugging Face's parts: `PerceiverModel`, then a decoder queried by entities.

    `PerceiverModel` gives the latents; the decoder is the layer and the final projection that its
    `PerceiverBasicDecoder` uses (here with the query's residual, as in our preset).
    """

    def __init__(self, *, channels: int, num_latents: int, num_self_attends: int, num_heads: int) -> None:
        super().__init__()
        from transformers import PerceiverConfig, PerceiverModel
        from transformers.models.perceiver.modeling_perceiver import PerceiverLayer

        config = PerceiverConfig(
            d_model=channels,
            num_latents=num_latents,
            d_latents=channels,
            num_blocks=1,
            num_self_attends_per_block=num_self_attends,
            num_self_attention_heads=num_heads,
            num_cross_attention_heads=num_heads,
            attention_probs_dropout_prob=0.0,
        )
        self.perceiver = PerceiverModel(config)
        self.decoder = PerceiverLayer(
            config,
            is_cross_attention=True,
            num_heads=num_heads,
            q_dim=channels,
            kv_dim=channels,
            widening_factor=1,
            use_query_residual=True,
        )
        self.final = nn.Linear(channels, channels)

    @torch.no_grad()
    def copy_from(self, ours: nn.Module) -> None:
        """Take the weights of our entity encoder."""
        names = {
            "encoder.latents": "perceiver.embeddings.latents",
            "encoder.cross_attends.0.": "perceiver.encoder.cross_attention.",
            "encoder.blocks.0.": "perceiver.encoder.self_attends.",
            "decoder.cross_attend.": "decoder.",
            "decoder.final.": "final.",
            "feed_forward.norm.": "layernorm.",
            "feed_forward.expand.": "mlp.dense1.",
            "feed_forward.contract.": "mlp.dense2.",
            "query_norm.": "attention.self.layernorm1.",
            "input_norm.": "attention.self.layernorm2.",
            ".norm.": ".attention.self.layernorm1.",
            "query.": "attention.self.query.",
            "key.": "attention.self.key.",
            "value.": "attention.self.value.",
            "output.": "attention.output.dense.",
        }
        state = {}
        for key, value in ours.state_dict().items():
            for mine, theirs in names.items():
                if mine in key and "attention.self." not in key and ".layernorm." not in key:
                    key = key.replace(mine, theirs)
            state[key] = value
        self.load_state_dict(state)

    def forward(self, entities: Tensor, mask: Tensor | None) -> Tensor:
        """`entities [B, N, C]`, `mask [B, N]` (True = valid) -> per-entity outputs `[B, N, C]`."""
        latents = self.perceiver(inputs=entities, attention_mask=mask).last_hidden_state
        return self.final(self.decoder(entities, inputs=latents)[0])


def lucidrains_entity_encoder(*, channels: int, num_latents: int, num_self_attends: int, num_heads: int) -> nn.Module:
    """perceiver-pytorch's Perceiver IO at the same sizes, in its own design (no decoder MLP, GEGLU of factor 4)."""
    from perceiver_pytorch import PerceiverIO

    return PerceiverIO(
        depth=num_self_attends,
        dim=channels,
        queries_dim=channels,
        logits_dim=channels,
        num_latents=num_latents,
        latent_dim=channels,
        cross_heads=num_heads,
        latent_heads=num_heads,
        cross_dim_head=channels // num_heads,
        latent_dim_head=channels // num_heads,
    )


def transformer_entity_encoder(*, channels: int, num_layers: int, num_heads: int) -> nn.Module:
    """What AlphaStar uses in the Perceiver's place: a 3-layer Transformer over the entities, MLPs 4 times as wide."""
    layer = nn.TransformerEncoderLayer(
        channels, num_heads, dim_feedforward=4 * channels, dropout=0.0, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


class LucidrainsImageClassifier(nn.Module):
    """perceiver-pytorch at the ImageNet Fourier model's sizes, on the same Fourier features.

    It repeats one self-attend 48 times (the published model repeats six 8 times) and its MLPs are GEGLU of factor 4,
    so it computes more.
    """

    def __init__(self) -> None:
        super().__init__()
        from perceiver_pytorch import PerceiverIO

        from perceiver_core.position import FourierPosition

        self.position = FourierPosition.Config(shape=(224, 224), num_bands=64).build()
        self.query = nn.Parameter(torch.randn(1, 1024))
        self.perceiver = PerceiverIO(
            depth=48,
            dim=3 + self.position.channels,
            queries_dim=1024,
            logits_dim=1000,
            num_latents=512,
            latent_dim=1024,
            cross_heads=1,
            latent_heads=8,
            cross_dim_head=3 + self.position.channels,
            latent_dim_head=128,
            weight_tie_layers=True,
        )

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, 224, 224]` -> logits `[B, 1, 1000]`."""
        places = self.position().expand(len(images), -1, -1)
        tokens = torch.cat([images.flatten(2).transpose(1, 2), places], dim=-1)
        return self.perceiver(tokens, queries=self.query)


def save_hugging_face(folder: str, class_name: str, **config: Any) -> None:
    """Save a published class with random weights whose attention is not flat, for both sides to load.

    Hugging Face's own start, normal(0, 0.02) with zero biases, makes all outputs nearly equal, which no comparison of
    outputs would notice to be wrong. Matrices get the variance 1 / fan-in, biases and norms a spread.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = getattr(transformers, class_name)(transformers.PerceiverConfig(**config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * noise)
    model.save_pretrained(folder)


def load_hugging_face(folder: str, class_name: str) -> nn.Module:
    """Load what `save_hugging_face` saved."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return getattr(transformers, class_name).from_pretrained(folder)
