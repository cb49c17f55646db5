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
    """The StarCraft II entity encoder out of Hugging Face's parts: `PerceiverModel`, then a decoder queried by entities.

    `PerceiverModel` gives the latents; the decoder is the layer and the final projection that its `PerceiverBasicDecoder`
    uses (here with the query's residual, as in our preset).
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

    def forward(self, entities: Tensor, mask: Tensor | None) -> Tensor:
        """`entities [B, N, C]`, `mask [B, N]` (True = valid) -> per-entity outputs `[B, N, C]`."""
        latents = self.perceiver(inputs=entities, attention_mask=mask).last_hidden_state
        return self.final(self.decoder(entities, inputs=latents)[0])


def lucidrains_entity_encoder(*, channels: int, num_latents: int, num_self_attends: int, num_heads: int) -> nn.Module:
    """perceiver-pytorch's Perceiver IO at the same sizes; its own design (no decoder MLP, GEGLU of factor 4) as it is."""
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
    """What AlphaStar uses in the Perceiver's place: a 3-layer Transformer over the entities, MLP of 4 times the width."""
    layer = nn.TransformerEncoderLayer(
        channels, num_heads, dim_feedforward=4 * channels, dropout=0.0, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


def lucidrains_image_classifier(*, input_channels: int) -> nn.Module:
    """perceiver-pytorch at the ImageNet Fourier model's sizes; it repeats one self-attend 48 times (the published model
    repeats six 8 times) and its MLPs are GEGLU of factor 4, so it computes more."""
    from perceiver_pytorch import PerceiverIO

    return PerceiverIO(
        depth=48,
        dim=input_channels,
        queries_dim=1024,
        logits_dim=1000,
        num_latents=512,
        latent_dim=1024,
        cross_heads=1,
        latent_heads=8,
        cross_dim_head=input_channels,
        latent_dim_head=128,
        weight_tie_layers=True,
    )


def hugging_face(class_name: str, **config: Any) -> nn.Module:
    """A published class of Hugging Face with random weights of a visible scale (its own 0.02 leaves attention flat)."""
    import transformers

    model = getattr(transformers, class_name)(transformers.PerceiverConfig(**config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                scale = parameter.shape[1] ** -0.5
            parameter.copy_(parameter)
    return model.eval()
