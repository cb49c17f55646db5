"""Encoder of entity sets, such as StarCraft II units (arXiv 2107.14795, "StarCraft II")."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

import torch
from torch import Tensor

from perceiver_core.accelerated.packing import Packing, pack
from perceiver_core.attention import AttentionConfig, CrossAttention, check_mask
from perceiver_core.checks import check_positive, check_tensor
from perceiver_core.config import config_class
from perceiver_core.hub import HubModel
from perceiver_core.inputs import EntityInput
from perceiver_core.model import DecoderConfig, EncoderConfig, PerceiverDecoder, PerceiverEncoder


class EntityEncoding(NamedTuple):
    """What the encoder makes of a set: per_entity [B, N, F], zeros where masked, and latents [B, L, D]."""

    per_entity: Tensor
    latents: Tensor


@config_class
class EntityEncoderConfig:
    """Args:
    inputs: the entities' width and embedding.
    encoder: sizes of the encoder.
    decoder: sizes of the decoder, whose queries are the embedded entities.
    """

    inputs: EntityInput.Config
    encoder: EncoderConfig
    decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(attention=AttentionConfig(num_heads=8)))


class EntityEncoder(HubModel):
    """Entities attend to all others through a few latents: the cost grows linearly with their number.

    The set's order does not matter, and padding changes nothing and costs little: see
    `perceiver_core.accelerated.packing`.
    """

    def __init__(self, config: EntityEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = config.inputs.build()
        self.encoder = PerceiverEncoder(config.encoder, input_channels=self.inputs.channels)
        self.decoder = PerceiverDecoder(
            config.decoder,
            query_channels=self.inputs.channels,
            latent_channels=config.encoder.latent_channels,
        )
        self.channels = self.decoder.channels

    def forward(self, entities: Tensor, mask: Tensor | None = None) -> EntityEncoding:
        """Encode.

        Args:
            entities: [B, N, C].
            mask: bool [B, N], True for entities that exist. Other slots may hold anything.

        Returns:
            per_entity [B, N, F] with exact zeros in masked slots, and latents [B, L, D].
        """
        check_tensor("entities", entities, "B N C", C=self.inputs.features)
        check_mask("mask", mask, entities.shape[0], entities.shape[1])
        packing = None if mask is None else pack(mask, self.inputs.channels)
        if packing is not None:
            return self._forward_packed(entities, packing)
        if mask is not None:
            entities = torch.where(mask[..., None], entities, 0.0)
        tokens = self.inputs(entities)
        latents = self.encoder.run(lambda cross_attend, latents: cross_attend(latents, tokens, mask))
        return EntityEncoding(self.decoder(tokens, latents, mask), latents)

    def _forward_packed(self, entities: Tensor, packing: Packing) -> EntityEncoding:
        """The same without the padding: groups of samples of similar length, side by side."""
        tokens = [self.inputs(group.gather(entities)) for group in packing.groups]

        def attend_groups(cross_attend: CrossAttention, latents: Tensor) -> Tensor:
            by_group = latents.split(packing.sizes) if len(latents) > 1 else [latents] * len(tokens)
            parts = zip(by_group, tokens, packing.groups, strict=True)
            return torch.cat([cross_attend(part, inputs, group.mask) for part, inputs, group in parts])

        latents = self.encoder.run(attend_groups).split(packing.sizes)
        per_entity = [self.decoder(queries, memory) for queries, memory in zip(tokens, latents, strict=True)]
        return EntityEncoding(packing.scatter(per_entity), packing.unsort(latents))


def entity_encoder(
    input_channels: int,
    *,
    num_latents: int = 32,
    latent_channels: int = 256,
    num_self_attends: int = 3,
    num_heads: int = 8,
    token_channels: int | None = None,
    output_channels: int | None = None,
) -> EntityEncoder:
    """The StarCraft II entity encoder: 32 latents in the place of AlphaStar's 3-layer Transformer.

    Args:
        input_channels: C of the entities [B, N, C].
        num_latents: latents.
        latent_channels: D.
        num_self_attends: self-attention layers over the latents.
        num_heads: heads of every layer.
        token_channels: width of the entities' linear embedding; None: `latent_channels`, or no embedding where the
            entities have that width already.
        output_channels: width of the per-entity output; None: that of the embedding.
    """
    check_positive("entity_encoder", input_channels=input_channels)
    if token_channels is None and input_channels != latent_channels:
        token_channels = latent_channels
    heads = AttentionConfig(num_heads=num_heads)
    return EntityEncoder(
        EntityEncoderConfig(
            inputs=EntityInput.Config(features=input_channels, projection_channels=token_channels),
            encoder=EncoderConfig(
                num_latents=num_latents,
                latent_channels=latent_channels,
                num_self_attends=num_self_attends,
                cross_attention=heads,
                self_attention=heads,
            ),
            decoder=DecoderConfig(attention=heads, output_channels=output_channels),
        )
    )
