"""Attention layers against their formula, spelled out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from perceiver_core.attention import AttentionConfig, CrossAttention, SelfAttention


def by_formula(
    queries: Tensor, inputs: Tensor, layer: CrossAttention | SelfAttention, mask: Tensor | None = None
) -> Tensor:
    """Multi-head attention of normalised queries and inputs, one head and one sample at a time."""
    heads = layer.num_heads
    rows = []
    for b in range(inputs.shape[0]):
        q, k, v = layer.query(queries[b]), layer.key(inputs[b]), layer.value(inputs[b])
        parts = []
        for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
            scores = qh @ kh.T / math.sqrt(qh.shape[-1])
            if mask is not None:
                scores = scores.masked_fill(~mask[b], float("-inf"))
            parts.append(torch.nan_to_num(scores.softmax(-1)) @ vh)
        rows.append(layer.output(torch.cat(parts, -1)))
    return torch.stack(rows)


def feed_forward(x: Tensor, layer: CrossAttention | SelfAttention) -> Tensor:
    part = layer.feed_forward
    return x + part.contract(F.gelu(part.expand(part.norm(x))))


WIDTHS = [
    AttentionConfig(num_heads=1),
    AttentionConfig(num_heads=2, qk_channels="q", query_residual=False),
    AttentionConfig(num_heads=4, qk_channels=8, v_channels=20, widening_factor=3),
    AttentionConfig(num_heads=2, v_channels=6, query_residual=False),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("config", WIDTHS, ids=str)
def test_cross_attention_is_its_formula(config: AttentionConfig, masked: bool) -> None:
    torch.manual_seed(0)
    layer = CrossAttention(config, query_channels=12, input_channels=10).double()
    queries, inputs = torch.randn(3, 5, 12).double(), torch.randn(3, 7, 10).double()
    mask = torch.rand(3, 7) > 0.4 if masked else None
    if mask is not None:
        mask[2] = False
    attended = by_formula(layer.query_norm(queries), layer.input_norm(inputs), layer, mask)
    expected = feed_forward(queries + attended if config.query_residual else attended, layer)
    torch.testing.assert_close(layer(queries, inputs, mask), expected)


@pytest.mark.parametrize("config", WIDTHS, ids=str)
def test_self_attention_is_its_formula(config: AttentionConfig) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(config, channels=12).double()
    x = torch.randn(2, 6, 12).double()
    normed = layer.norm(x)
    torch.testing.assert_close(layer(x), feed_forward(x + by_formula(normed, normed, layer), layer))


def test_widths_follow_the_attention_shape() -> None:
    cross = CrossAttention(AttentionConfig(num_heads=1), query_channels=12, input_channels=10)
    assert (cross.key.out_features, cross.value.out_features, cross.output.out_features) == (10, 10, 12)
    cross = CrossAttention(AttentionConfig(num_heads=1, qk_channels="q"), query_channels=12, input_channels=10)
    assert (cross.key.out_features, cross.value.out_features) == (12, 12)
    cross = CrossAttention(
        AttentionConfig(num_heads=2, qk_channels=4, v_channels=6, widening_factor=3),
        query_channels=12,
        input_channels=10,
    )
    assert (cross.key.out_features, cross.value.out_features) == (4, 6)
    assert cross.feed_forward.expand.out_features == 36


def test_initial_weights_have_unit_gain() -> None:
    """Fan-in truncated normal: the cut at two standard deviations is made up for."""
    torch.manual_seed(0)
    layer = SelfAttention(AttentionConfig(), channels=512)
    weight = layer.query.weight.detach()
    assert abs(float(weight.std()) * math.sqrt(512) - 1) < 0.02
    assert float(weight.abs().max()) * math.sqrt(512) < 2.3 and not layer.query.bias.any()
