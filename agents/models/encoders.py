"""Entities in, one vector per entity and one per scene out: the embedding of raw columns, and three encoders behind it.

`perceiver_io` reads the entities into a few latents, processes these, and answers one query per entity. It is the
drop-in replacement of AlphaStar's entity Transformer (Perceiver IO, arXiv:2107.14795, section 4.5). `transformer` is
the replaced model, three layers of full self-attention. `deep_sets` is the cheapest set function.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.models.vocabulary import UNKNOWN_TYPE, EntityVocabulary, NamedAxis
from perceiver_core.presets import entity_encoder

ENCODERS = ("perceiver_io", "transformer", "deep_sets")
MAX_TYPE_ID = 4096

# Columns of an entity that are numbers, and the value that maps to 1. It is a typical large one, so that inputs of
# combat units stay within about [-1, 1]. Other columns are categorical or derived below, or of no use to a policy.
NUMERIC_RANGES = {
    "health": 100.0,
    "shield": 100.0,
    "energy": 200.0,
    "health_ratio": 1.0,
    "shield_ratio": 1.0,
    "energy_ratio": 1.0,
    "radius": 1.0,
    "weapon_cooldown": 16.0,
    "is_flying": 1.0,
    "is_burrowed": 1.0,
    "order_length": 1.0,
    "mineral_contents": 1800.0,
    "vespene_contents": 2250.0,
    "build_progress": 1.0,
}
# Columns that hold one of a few codes, and the codes that get an input of their own (1 where the column equals it).
CODES = {
    "alliance": (1, 2, 3, 4),  # self, ally, neutral, enemy
    "cloak": (1,),  # cloaked
    "order_id_0": (2, 3, 12, 13, 15, 17, 111, 311),  # attack (point, unit), smart, move, patrol, hold, blink, heal
    "buff_id_0": (27,),  # Stimpack
}
# What is computed from columns: the place in two frames, and the direction.
DERIVED_INPUTS = ("map_x", "map_y", "relative_x", "relative_y", "facing_cos", "facing_sin")
SCALAR_RANGES = {
    "time_fraction": 1.0,
    "score": 100.0,
    "own_units": 10.0,
    "visible_enemies": 10.0,
    "minerals": 1000.0,
    "vespene": 1000.0,
    "food_used": 50.0,
    "food_cap": 50.0,
}
# Positions are given twice. In the map's frame (0 to 64 -> -1 to 1) walls and the map's edge have a place. Relative to
# the centre of the own units a fight looks the same anywhere.
MAP_HALF_SIZE = 32.0
RELATIVE_RANGE = 10.0
SELF = 1


class EntityEncoding(NamedTuple):
    """per_entity [B, N, D] (exact zeros where masked) and summary [B, D]."""

    per_entity: Tensor
    summary: Tensor


class EntityEmbedding(nn.Module):
    """Raw columns [B, N, F] to vectors [B, N, D]: numbers through one linear map, unit type (with its static data) by
    table.
    """

    numeric_columns: Tensor
    numeric_scale: Tensor
    code_columns: Tensor
    codes: Tensor
    type_row: Tensor
    static: Tensor

    def __init__(self, vocabulary: EntityVocabulary, channels: int) -> None:
        super().__init__()
        numeric = {name: reach for name, reach in NUMERIC_RANGES.items() if name in vocabulary.features}
        coded = [(name, code) for name, codes in CODES.items() if name in vocabulary.features for code in codes]
        self.inputs = (*numeric, *DERIVED_INPUTS, *(f"{name}={code}" for name, code in coded))
        self.unit_types, self.static_names = vocabulary.unit_types, vocabulary.static_names
        self._keep("numeric_columns", torch.tensor([vocabulary.column(name) for name in numeric]))
        self._keep("numeric_scale", 1.0 / torch.tensor(list(numeric.values())))
        self._keep("code_columns", torch.tensor([vocabulary.column(name) for name, _ in coded]))
        self._keep("codes", torch.tensor([float(code) for _, code in coded]))
        self.type_column = vocabulary.column("unit_type")
        self.alliance_column = vocabulary.column("alliance")
        self.position = vocabulary.column("x"), vocabulary.column("y")
        self.facing_column = vocabulary.column("facing")

        type_row = torch.zeros(MAX_TYPE_ID, dtype=torch.long)
        type_row[list(vocabulary.unit_types)] = torch.arange(1, len(vocabulary.unit_types) + 1)
        self._keep("type_row", type_row)
        self._keep("static", F.pad(torch.from_numpy(np.asarray(vocabulary.static, dtype=np.float32)), (0, 0, 1, 0)))
        self.type_table = nn.Parameter(torch.randn(len(vocabulary.unit_types) + 1, channels) * 0.1)
        self.static_projection = nn.Linear(self.static.shape[1], channels, bias=False)
        self.projection = nn.Linear(len(self.inputs), channels)

    def named_axes(self) -> dict[str, NamedAxis]:
        """What the rows and columns of the parameters stand for."""
        return {
            "type_table": NamedAxis(0, "unit_types", (UNKNOWN_TYPE, *self.unit_types), new=UNKNOWN_TYPE),
            "static_projection.weight": NamedAxis(1, "unit_data", self.static_names),
            "projection.weight": NamedAxis(1, "entity_inputs", self.inputs),
        }

    def _keep(self, name: str, constant: Tensor) -> None:
        """Stores a constant that follows from the vocabulary: it moves with the module and is in no checkpoint."""
        self.register_buffer(name, constant, persistent=False)

    def forward(self, entities: Tensor, mask: Tensor) -> Tensor:
        """entities [B, N, F] float, mask bool [B, N] -> [B, N, D]. Masked rows are not zeroed here."""
        entities = entities.float()
        x, y = self.position
        position = entities[..., x : y + 1] if y == x + 1 else entities[..., [x, y]]
        own = ((entities[..., self.alliance_column] == SELF) & mask)[..., None].to(entities.dtype)
        centre = (own * position).sum(-2, keepdim=True) / own.sum(-2, keepdim=True).clamp_min(1.0)
        facing = entities[..., self.facing_column, None]
        numbers = torch.cat(
            [
                entities.index_select(-1, self.numeric_columns) * self.numeric_scale,
                position / MAP_HALF_SIZE - 1.0,
                (position - centre) / RELATIVE_RANGE,
                facing.cos(),
                facing.sin(),
                (entities.index_select(-1, self.code_columns) == self.codes).to(entities.dtype),
            ],
            dim=-1,
        )
        table = self.type_table + self.static_projection(self.static)
        row = self.type_row[entities[..., self.type_column].long().clamp(0, MAX_TYPE_ID - 1)]
        return self.projection(numbers) + F.embedding(row, table)


class ScalarEmbedding(nn.Module):
    """Scalars [B, S], divided by their documented ranges, to vectors [B, D]."""

    scale: Tensor

    def __init__(self, names: tuple[str, ...], channels: int) -> None:
        super().__init__()
        scale = torch.tensor([1.0 / SCALAR_RANGES.get(name, 1.0) for name in names])
        self.register_buffer("scale", scale, persistent=False)
        self.names = names
        self.projection = nn.Linear(len(names), channels)

    def named_axes(self) -> dict[str, NamedAxis]:
        """What the columns of the weights stand for."""
        return {"projection.weight": NamedAxis(1, "scalars", self.names)}

    def forward(self, scalars: Tensor) -> Tensor:
        return self.projection(scalars.float() * self.scale)


class PerceiverIOEncoder(nn.Module):
    """Entities -> latents -> one output per entity; the summary is read from the mean of the latents."""

    def __init__(self, channels: int, *, num_heads: int, num_layers: int, num_latents: int) -> None:
        super().__init__()
        self.perceiver = entity_encoder(
            channels,
            num_latents=num_latents,
            latent_channels=channels,
            num_self_attends=num_layers,
            num_heads=num_heads,
        )
        self.summary = nn.Linear(channels, channels)

    def forward(self, embedded: Tensor, mask: Tensor) -> EntityEncoding:
        """embedded [B, N, D], mask bool [B, N]."""
        per_entity, latents = self.perceiver(embedded, mask)
        return EntityEncoding(per_entity, self.summary(latents.mean(-2)))


class TransformerLayer(nn.Module):
    """Pre-norm self-attention over the entities and a feed-forward of four times the width."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(channels)
        self.queries_keys_values = nn.Linear(channels, 3 * channels)
        self.attended = nn.Linear(channels, channels)
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.contract = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, N, D], bias [B, 1, 1, N]: 0 for valid keys, the lowest float for padding."""
        batch, entities, channels = x.shape
        qkv = self.queries_keys_values(self.attention_norm(x)).view(batch, entities, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.attended(attended.transpose(1, 2).reshape(batch, entities, channels))
        return x + self.contract(F.gelu(self.expand(self.feed_forward_norm(x))))


class TransformerEncoder(nn.Module):
    """Full self-attention over the entities, AlphaStar's shape (three layers by default); summary from their mean."""

    def __init__(self, channels: int, *, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(channels, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels)
        self.summary = nn.Linear(channels, channels)

    def forward(self, embedded: Tensor, mask: Tensor) -> EntityEncoding:
        """embedded [B, N, D], mask bool [B, N]."""
        bias = torch.zeros_like(mask, dtype=embedded.dtype).masked_fill_(~mask, torch.finfo(embedded.dtype).min)
        x = embedded
        for layer in self.layers:
            x = layer(x, bias[:, None, None])
        per_entity = self.norm(x) * mask[..., None]
        return EntityEncoding(per_entity, self.summary(_masked_mean(per_entity, mask)))


class DeepSetsEncoder(nn.Module):
    """Each entity by itself, then with the mean and the maximum over all of them (Zaheer et al., arXiv:1703.06114)."""

    def __init__(self, channels: int, *, num_layers: int) -> None:
        super().__init__()
        widths = [channels] * num_layers
        self.each = nn.Sequential(*(m for w in widths for m in (nn.LayerNorm(w), nn.Linear(w, w), nn.GELU())))
        self.scene = nn.Linear(2 * channels, channels)
        self.output = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))

    def forward(self, embedded: Tensor, mask: Tensor) -> EntityEncoding:
        """embedded [B, N, D], mask bool [B, N]."""
        each = self.each(embedded) * mask[..., None]
        highest = each.masked_fill(~mask[..., None], torch.finfo(each.dtype).min).amax(-2)
        highest = highest * mask.any(-1, keepdim=True)  # an empty scene has no maximum
        scene = self.scene(torch.cat([_masked_mean(each, mask), highest], dim=-1))
        per_entity = self.output(each + scene[:, None]) * mask[..., None]
        return EntityEncoding(per_entity, scene)


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean [B, D] over the valid rows of x [B, N, D]; zero for an empty set. Masked rows of x must be zero."""
    return x.sum(-2) / mask.sum(-1, keepdim=True).clamp_min(1)


def build_encoder(name: str, channels: int, *, num_heads: int, num_layers: int, num_latents: int) -> nn.Module:
    """The encoder of that name: maps embedded entities [B, N, D] and mask [B, N] to an `EntityEncoding`."""
    if name == "perceiver_io":
        return PerceiverIOEncoder(channels, num_heads=num_heads, num_layers=num_layers, num_latents=num_latents)
    if name == "transformer":
        return TransformerEncoder(channels, num_heads=num_heads, num_layers=num_layers)
    if name == "deep_sets":
        return DeepSetsEncoder(channels, num_layers=num_layers)
    raise ValueError(f"unknown encoder {name!r}: use one of {', '.join(ENCODERS)}")
