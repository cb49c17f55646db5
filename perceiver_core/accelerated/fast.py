"""Cross-attention with its matrix products re-associated, exact up to rounding.

A cross-attention between a short and a long side need not project the long side. With `x` the long side's rows after
the norm without its affine part (which folds into the projections):

- few queries, many inputs (encoder): `(Q Wk) x'` in the place of `Q (x Wk')'`, and `(P x) Wv'` in that of `P (x Wv')`.
  The key bias and the norm's shift add the same to all of a query's scores and drop out of its softmax.
- many queries, few inputs (decoder): `x (Wq' K')` in the place of `(x Wq') K'`, and `P (V Wo')` in that of `(P V) Wo'`.

Each head multiplies the long side by its own absorbed weights, so this pays for few heads (always for one). `plan`
counts the multiply-adds of the forms and takes the cheapest; autograd goes through all of them.
`perceiver_core.attention.CrossAttention` follows the plan. Its clear form is the reference in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.accelerated.kernels import KeysValues, attend, in_blocks

Inputs: TypeAlias = Tensor | KeysValues


class Projections(Protocol):
    """The weights of a cross-attention: norms and linear maps of queries and inputs, and the map of its output."""

    num_heads: int
    query_norm: nn.LayerNorm
    input_norm: nn.LayerNorm
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear


class Form(Enum):
    """How a cross-attention computes its products."""

    CLEAR = "project both sides"
    ABSORB_KEYS_VALUES = "project neither keys nor values: few queries, many inputs"
    ABSORB_QUERIES_OUTPUT = "project neither queries nor outputs: many queries, few inputs"


# What the additional operations of a re-associated form cost a sample, in multiply-adds. With few and narrow rows they
# take longer than the products that they save.
REASSOCIATION_COST = 2**17


def plan(layer: Projections, *, num_queries: int, num_inputs: int, shared_queries: bool, projected: bool) -> Form:
    """The cheapest form: the one with the fewest multiply-adds a sample, unless it saves too few.

    Args:
        layer: the cross-attention.
        num_queries: O.
        num_inputs: M.
        shared_queries: one set of queries serves the batch, so their projections cost nothing a sample.
        projected: the inputs came as keys and values, which cost nothing any more.
    """
    heads, qk, v = layer.num_heads, layer.key.out_features, layer.value.out_features
    query_channels, input_channels = layer.query.in_features, layer.key.in_features
    query_side = 0 if shared_queries else num_queries * query_channels * qk
    output_side = num_queries * v * layer.output.out_features
    input_side = 0 if projected else num_inputs * input_channels * (qk + v)
    scores = num_queries * num_inputs * (qk + v)
    costs = {
        Form.CLEAR: query_side + input_side + scores + output_side,
        Form.ABSORB_QUERIES_OUTPUT: REASSOCIATION_COST
        + input_side
        + num_inputs * (query_channels * qk + v * layer.output.out_features)
        + num_queries * heads * num_inputs * (query_channels + layer.output.out_features),
    }
    if not projected:
        absorbed_queries = 0 if shared_queries else num_queries * qk * input_channels
        costs[Form.ABSORB_KEYS_VALUES] = (
            REASSOCIATION_COST
            + query_side
            + absorbed_queries
            + 2 * heads * num_queries * num_inputs * input_channels
            + num_queries * v * input_channels
            + output_side
        )
    return min(costs, key=lambda form: costs[form])


# Samples of one slice: as many as keep the longest side's rows within 4 MB of float32.
SLICE_ELEMENTS = 2**20


def by_slices(
    attend: Callable[[Tensor, Inputs, Tensor | None], Tensor], queries: Tensor, inputs: Inputs, mask: Tensor | None
) -> Tensor:
    """`attend(queries, inputs, mask)`; a large batch on a CPU without gradients goes through in slices.

    Temporaries of a few MB stay in the cache, and the allocator keeps them. It hands those of a whole batch back to the
    operating system. Each time they then cost a page fault per 4 KB, which can take as long as the products.
    """
    if torch.is_grad_enabled() or not in_blocks(queries):
        return attend(queries, inputs, mask)
    sides = [queries, *(inputs if isinstance(inputs, KeysValues) else [inputs])]
    batch = max(len(side) for side in sides)
    size = max(1, SLICE_ELEMENTS // max(side[0].numel() for side in sides))
    if size >= batch:
        return attend(queries, inputs, mask)

    def part(side: Tensor, first: int) -> Tensor:
        return side if len(side) == 1 else side[first : first + size]

    return torch.cat(
        [
            attend(
                part(queries, first),
                KeysValues(*(part(side, first) for side in inputs))
                if isinstance(inputs, KeysValues)
                else part(inputs, first),
                None if mask is None else mask[first : first + size],
            )
            for first in range(0, batch, size)
        ]
    )


def standardize(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """The norm without its affine part, `(x - mean) / std` over the last axis, in the dtype that products run in."""
    x = F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def affine_folded(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of `linear(norm(x))` as a map of `standardize(x)`."""
    return linear.weight * norm.weight, torch.addmv(linear.bias, linear.weight, norm.bias)


def each_head(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, H, O, E] by weight [H, E, C], one product a head: [B, H, O, C].

    A broadcast matmul would copy the weights for every sample, and sum a gradient of that size.
    """
    batch = len(x)
    return (x.transpose(0, 1).flatten(1, 2) @ weight).unflatten(1, (batch, -1)).transpose(0, 1)


def absorb_keys_values(layer: Projections, queries: Tensor, inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Output of the attention, before residual and feed-forward, for few queries and many inputs.

    Args:
        queries: [B or 1, O, Q], raw.
        inputs: [B, M, C], raw.
        mask: bool [B, M] or None.

    Returns:
        [B, O, Q].
    """
    heads = layer.num_heads
    x = standardize(inputs, layer.input_norm)[:, None]
    key_weight, _ = affine_folded(layer.key, layer.input_norm)
    value_weight, value_bias = affine_folded(layer.value, layer.input_norm)
    projected = layer.query(layer.query_norm(queries)).unflatten(-1, (heads, -1)).transpose(1, 2)
    absorbed = each_head(projected, key_weight.unflatten(0, (heads, -1)))
    # Scores are scaled by the heads' own width, not by that of the inputs, which `attend` divides by.
    absorbed = absorbed * (inputs.shape[-1] / projected.shape[-1]) ** 0.5
    num_queries = queries.shape[1]
    averages = attend(absorbed.flatten(1, 2)[:, None], x, x, mask).squeeze(1).unflatten(1, (heads, num_queries))
    values = each_head(averages, value_weight.unflatten(0, (heads, -1)).transpose(1, 2))
    # The key bias has no effect and an exact zero gradient; it stays in the graph, as data-parallel training expects.
    values = values + value_bias.unflatten(0, (heads, 1, -1)) + 0.0 * layer.key.bias.sum()
    if mask is not None:
        values = values.masked_fill(~mask.any(-1)[:, None, None, None], 0.0)
    return layer.output(values.transpose(1, 2).flatten(2))


def absorb_queries_output(layer: Projections, queries: Tensor, memory: KeysValues, mask: Tensor | None) -> Tensor:
    """Output of the attention, before residual and feed-forward, for many queries and few inputs.

    Args:
        queries: [B or 1, O, Q], raw.
        memory: keys [B, H, M, E] and values [B, H, M, V].
        mask: bool [B, M] or None.

    Returns:
        [B, O, Q].
    """
    keys, values = memory
    heads, num_inputs = keys.shape[1:3]
    x = standardize(queries, layer.query_norm)
    query_weight, query_bias = affine_folded(layer.query, layer.query_norm)
    scaled = keys * keys.shape[-1] ** -0.5
    score_weight = each_head(scaled, query_weight.unflatten(0, (heads, -1))).flatten(1, 2)
    score_bias = each_head(scaled, query_bias.unflatten(0, (heads, -1, 1))).flatten(1)
    output_weight = each_head(values, layer.output.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)).flatten(1, 2)
    x = x.expand(len(keys), -1, -1)
    scores = torch.baddbmm(score_bias[:, None].to(x.dtype), x, score_weight.transpose(1, 2).to(x.dtype))
    scores = scores.unflatten(-1, (heads, num_inputs))
    if mask is not None:
        visible = mask | ~mask.any(-1, keepdim=True)
        scores = scores.masked_fill(~visible[:, None, None], float("-inf"))
    probabilities = scores.softmax(-1)
    if mask is not None:
        probabilities = probabilities.masked_fill(~mask.any(-1)[:, None, None, None], 0.0)
    return torch.baddbmm(layer.output.bias.to(x.dtype), probabilities.flatten(2).to(x.dtype), output_weight.to(x.dtype))
