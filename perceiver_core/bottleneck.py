"""A code narrower than the latents, between encoder and decoder: what an autoencoder stores.

    latents [B, N, D] -> narrow -> code [B, N, c] -> widen -> latents [B, N, D]

So the size of the code and the width at which latents are worked on can be chosen apart.
"""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor, nn

from perceiver_core.attention import AttentionConfig, SelfAttention, init_linear
from perceiver_core.checks import check_positive, check_tensor
from perceiver_core.config import config_class


@config_class
class BottleneckConfig:
    """Sizes of the bottleneck.

    Args:
        channels: c, numbers kept of each latent.
        num_self_attends: self-attention layers over the widened latents, before they are decoded.
        self_attention: these layers.
    """

    channels: int
    num_self_attends: int = 0
    self_attention: AttentionConfig = field(default_factory=lambda: AttentionConfig(num_heads=8))

    def __post_init__(self) -> None:
        check_positive("BottleneckConfig", channels=self.channels)
        if self.num_self_attends < 0:
            raise ValueError(f"BottleneckConfig: `num_self_attends` must be at least 0, got {self.num_self_attends}")


class Bottleneck(nn.Module):
    """A norm and a linear map down; a linear map up, a learned vector for each latent, and self-attention layers."""

    def __init__(self, config: BottleneckConfig, *, num_latents: int, latent_channels: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.norm = nn.LayerNorm(latent_channels)
        self.down = init_linear(nn.Linear(latent_channels, config.channels))
        self.up = init_linear(nn.Linear(config.channels, latent_channels))
        # Tells the latents apart again, whatever their code.
        self.latents = nn.Parameter(torch.empty(num_latents, latent_channels))
        nn.init.trunc_normal_(self.latents, std=0.02, a=-0.04, b=0.04)
        self.self_attends = nn.ModuleList(
            SelfAttention(config.self_attention, channels=latent_channels) for _ in range(config.num_self_attends)
        )

    def narrow(self, latents: Tensor) -> Tensor:
        """Latents [B, N, D] to the code [B, N, c]."""
        return self.down(self.norm(latents))

    def widen(self, code: Tensor) -> Tensor:
        """The code [B, N, c] to latents [B, N, D]."""
        check_tensor("code", code, "B N C", N=len(self.latents), C=self.channels)
        latents = self.up(code) + self.latents
        for self_attend in self.self_attends:
            latents = self_attend(latents)
        return latents
