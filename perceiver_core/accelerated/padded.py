"""Tokens whose last channels are one constant vector, and attention that never multiplies by them.

A multimodal input pads every modality with a learned vector to a common width: in the paper's autoencoder 461 of the
704 channels of 50,176 image tokens are the same for all. The form for few queries (`perceiver_core.accelerated.fast`)
can leave them out. Let `x = [f, p]` be a token with features f and padding p, and `s` its standard deviation. Let q'
be an absorbed query without its mean over channels. Then the token's score is `(q'_f f + q'_p p) / s`. That is a
product with `[f, 1] / s`, one wider than the features. The same average of `[f, 1] / s` gives the value. All this is
exact up to rounding, and autograd goes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from perceiver_core.accelerated.fast import Projections
from perceiver_core.accelerated.kernels import attend_jointly


class PaddedPart(NamedTuple):
    """Tokens `[features, padding]`: features [B, M, c] and one padding [C - c] for all. Either may be empty."""

    features: Tensor
    padding: Tensor

    def joined(self) -> Tensor:
        """[B, M, C]."""
        padding = self.padding.expand(*self.features.shape[:-1], -1)
        return torch.cat([self.features.to(padding.dtype), padding], dim=-1)

    def inverse_std(self, eps: float) -> Tensor:
        """One over the standard deviation of each token's channels, [B, M, 1], as LayerNorm has it."""
        width, constant = self.features.shape[-1], len(self.padding)
        if not width:
            return torch.rsqrt(self.padding.var(correction=0) + eps).expand(*self.features.shape[:-1], 1)
        # In two passes: `torch.var_mean` takes five times as long on a CPU.
        mean = self.features.mean(dim=-1, keepdim=True)
        variance = (self.features - mean).square().mean(dim=-1, keepdim=True)
        if constant:
            share = constant / (width + constant)
            own_variance, own_mean = torch.var_mean(self.padding, dim=0, correction=0)
            # The variance of a union: the parts' own, and the distance between their means.
            between = share * (1 - share) * (mean - own_mean).square()
            variance = (1 - share) * variance + share * own_variance + between
        return torch.rsqrt(variance + eps)


@dataclass(frozen=True)
class PaddedTokens:
    """A token array [B, M, C] in parts of the same padding, one after another."""

    parts: tuple[PaddedPart, ...]

    @property
    def length(self) -> int:
        """M."""
        return sum(part.features.shape[1] for part in self.parts)

    def joined(self) -> Tensor:
        """The array itself, [B, M, C]."""
        return torch.cat([part.joined() for part in self.parts], dim=1)


def absorb_padded(layer: Projections, queries: Tensor, tokens: PaddedTokens) -> Tensor:
    """Output of the attention, before residual and feed-forward; `fast.absorb_keys_values` on padded tokens.

    Args:
        queries: [B or 1, O, Q], raw.
        tokens: M tokens of C channels.

    Returns:
        [B, O, Q].
    """
    norm, heads, num_queries = layer.input_norm, layer.num_heads, queries.shape[1]
    key_weight = layer.key.weight * norm.weight
    value_weight = layer.value.weight * norm.weight
    value_bias = torch.addmv(layer.value.bias, layer.value.weight, norm.bias)
    # The mean over a token's channels drops out of products with rows that add up to zero.
    value_weight = value_weight - value_weight.mean(1, keepdim=True)
    projected = layer.query(layer.query_norm(queries)).unflatten(-1, (heads, -1)).transpose(1, 2)
    absorbed = (projected @ key_weight.unflatten(0, (heads, -1))).flatten(1, 2) * projected.shape[-1] ** -0.5
    absorbed = absorbed - absorbed.mean(-1, keepdim=True)

    kind = absorbed.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else absorbed.dtype
    sides, rows, maps = [], [], []
    for part in tokens.parts:
        width = part.features.shape[-1]
        inverse_std = part.inverse_std(norm.eps)
        rows.append(torch.cat([part.features * inverse_std, inverse_std], dim=-1).to(dtype))
        sides.append(_folded(absorbed, part.padding, width).to(dtype))
        maps.append(_folded(value_weight, part.padding, width))
    averages = attend_jointly(sides, rows)
    values = value_bias.unflatten(0, (heads, 1, -1)) + 0.0 * layer.key.bias.sum()
    for average, value_map in zip(averages, maps, strict=True):
        by_head = average.unflatten(1, (heads, num_queries))
        values = values + by_head @ value_map.unflatten(0, (heads, -1)).transpose(1, 2)
    return layer.output(values.transpose(1, 2).flatten(2))


def _folded(weight: Tensor, padding: Tensor, width: int) -> Tensor:
    """Rows [..., C] on tokens `[f, p]` as rows [..., c + 1] on `[f, 1]`."""
    return torch.cat([weight[..., :width], (weight[..., width:] @ padding)[..., None]], dim=-1)
