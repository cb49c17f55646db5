"""The fast forms of attention agree with the clear ones, values and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from perceiver_core.accelerated import fast, kernels
from perceiver_core.accelerated.fast import Form
from perceiver_core.accelerated.padded import PaddedPart, PaddedTokens, absorb_padded
from perceiver_core.attention import AttentionConfig, CrossAttention


def random_layer(
    config: AttentionConfig, query_channels: int, input_channels: int, dtype: torch.dtype
) -> CrossAttention:
    layer = CrossAttention(config, query_channels=query_channels, input_channels=input_channels).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5 + 0.1)
    return layer


def gradients(out: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of a function of `out` that weighs every entry differently."""
    weights = torch.linspace(0.1, 1.0, out.numel(), dtype=out.dtype).view(out.shape)
    return list(torch.autograd.grad((weights * out).sin().sum(), inputs))


def assert_same(ours: Sequence[Tensor], reference: Sequence[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, reference, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1.0, float(b.detach().abs().max()))


attention_sizes = st.tuples(
    st.integers(1, 4),  # samples
    st.integers(1, 3),  # heads
    st.integers(1, 9),  # queries
    st.integers(1, 12),  # keys
    st.integers(1, 5),  # channels a head of queries and keys
    st.integers(1, 5),  # channels a head of values
    st.booleans(),  # one set of queries for all samples
    st.booleans(),  # mask
    st.integers(1, 60),  # scores in a block
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(attention_sizes)
def test_blocked_attention_is_softmax_attention(sizes: tuple[int, ...]) -> None:
    batch, heads, queries, keys, width, value_width, shared, masked, block = sizes
    torch.manual_seed(0)
    q = torch.randn(1 if shared else batch, heads, queries, width, dtype=torch.float64, requires_grad=True)
    k = torch.randn(batch, heads, keys, width, dtype=torch.float64, requires_grad=True)
    v = torch.randn(batch, heads, keys, value_width, dtype=torch.float64, requires_grad=True)
    visible = torch.rand(batch, keys) < 0.6
    visible[:, 0] = True
    bias = torch.zeros(batch, keys, dtype=torch.float64).masked_fill(~visible, -torch.inf) if masked else 0.0
    scores = q @ k.transpose(-1, -2) / width**0.5
    reference = (scores + (bias[:, None, None] if masked else 0.0)).softmax(-1) @ v  # type: ignore[index]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK_SCORES", block)
        out = kernels.blocked_attention(q, k, v, visible if masked else None)
        found = gradients(out, (q, k, v))
    assert_same([out, *found], [reference, *gradients(reference, (q, k, v))], 1e-12)


def test_blocked_attention_in_bfloat16_keeps_its_precision() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, size, 16) for size in (5, 700, 700))
    out = kernels.blocked_attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert out.dtype == torch.bfloat16
    assert (out - F.scaled_dot_product_attention(q, k, v)).abs().max() < 0.02


def test_attend_takes_blocks_for_wide_uneven_or_reduced_keys_only() -> None:
    narrow, wide = torch.zeros(1, 1, 100, kernels.FUSED_WIDTH), torch.zeros(1, 1, 100, kernels.FUSED_WIDTH + 1)
    assert not kernels.prefers_blocks(narrow, narrow)
    assert kernels.prefers_blocks(wide, wide)
    assert kernels.prefers_blocks(narrow, wide)
    assert kernels.prefers_blocks(narrow.bfloat16(), narrow.bfloat16())
    assert not kernels.prefers_blocks(wide.to("meta"), wide.to("meta"))
    long = torch.zeros(1, 1, kernels.FUSED_KEYS, 1)
    assert not kernels.prefers_blocks(long, long.expand(-1, -1, -1, 2))


cross_sizes = st.tuples(
    st.sampled_from([(1, "kv", None), (2, "q", None), (2, 6, 4), (4, 8, 12), (1, 5, 3)]),
    st.integers(1, 3),  # samples
    st.integers(1, 6),  # queries
    st.integers(1, 7),  # inputs
    st.booleans(),  # one set of queries for all samples
    st.booleans(),  # mask
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cross_sizes)
def test_reassociated_cross_attention_is_the_clear_one(sizes: tuple) -> None:  # type: ignore[type-arg]
    (heads, qk, v), batch, num_queries, num_inputs, shared, masked = sizes
    torch.manual_seed(0)
    config = AttentionConfig(num_heads=heads, qk_channels=qk, v_channels=v)
    layer = random_layer(config, 8, 12, torch.float64)
    queries = torch.randn(1 if shared else batch, num_queries, 8, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(batch, num_inputs, 12, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(batch, num_inputs) < 0.5 if masked else None
    if mask is not None:
        mask[0] = False  # a sample with nothing to attend to
    weights = [p for name, p in layer.named_parameters() if not name.startswith("feed_forward")]
    clear = layer.attend_to(queries, inputs, mask)
    reference = [clear, *gradients(clear, (queries, inputs, *weights))]
    for out in (
        fast.absorb_keys_values(layer, queries, inputs, mask),
        fast.absorb_queries_output(layer, queries, layer.keys_values(inputs), mask),
    ):
        assert_same([out, *gradients(out, (queries, inputs, *weights))], reference, 1e-11)


@pytest.mark.parametrize("form", ["inputs", "queries"])
def test_reassociated_cross_attention_in_float32(form: str) -> None:
    torch.manual_seed(0)
    layer = random_layer(AttentionConfig(num_heads=2), 64, 96, torch.float32)
    queries, inputs = torch.randn(1, 20, 64), torch.randn(3, 200, 96)
    clear = layer.attend_to(queries, inputs)
    if form == "inputs":
        out = fast.absorb_keys_values(layer, queries, inputs, None)
    else:
        out = fast.absorb_queries_output(layer, queries, layer.keys_values(inputs), None)
    assert (out - clear).abs().max() <= 1e-5 * clear.abs().max()


def form_of(layer: nn.Module, num_queries: int, num_inputs: int, shared: bool, projected: bool = False) -> Form:
    assert isinstance(layer, CrossAttention)
    return fast.plan(layer, num_queries=num_queries, num_inputs=num_inputs, shared_queries=shared, projected=projected)


def test_the_plan_takes_the_form_with_the_fewest_operations() -> None:
    with torch.device("meta"):
        encoder = CrossAttention(AttentionConfig(num_heads=1), query_channels=512, input_channels=704)
        decoder = CrossAttention(AttentionConfig(num_heads=1), query_channels=1026, input_channels=512)
        bytes_config = AttentionConfig(num_heads=8, qk_channels=256, v_channels=1280)
        language = CrossAttention(bytes_config, query_channels=1280, input_channels=768)
    assert form_of(encoder, 784, 52_097, shared=True) is Form.ABSORB_KEYS_VALUES
    assert form_of(decoder, 100_000, 784, shared=False, projected=True) is Form.ABSORB_QUERIES_OUTPUT
    assert form_of(decoder, 1, 784, shared=True, projected=True) is Form.CLEAR
    # Few rows of little width: the products saved are fewer than what the operations around them cost.
    assert form_of(CrossAttention(AttentionConfig(num_heads=2), query_channels=64, input_channels=64), 8, 16, True) is (
        Form.CLEAR
    )
    # Eight heads over few channels: absorbing would multiply every input by eight matrices as wide as the input.
    assert form_of(language, 256, 2_048, shared=True) is Form.CLEAR


def test_the_chosen_form_counts_no_more_operations_than_the_clear_one() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def operations(layer: CrossAttention, clear: bool, queries: Tensor, inputs: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            layer.attend_to(queries, inputs) if clear else layer.attend_cheaply(queries, inputs)
        return counter.get_total_flops()

    for heads, num_queries, num_inputs in ((1, 8, 300), (2, 300, 8), (8, 40, 40)):
        layer = random_layer(AttentionConfig(num_heads=heads), 32, 48, torch.float32)
        shapes = torch.zeros(2, num_queries, 32), torch.zeros(2, num_inputs, 48)
        assert operations(layer, False, *shapes) <= operations(layer, True, *shapes)


def padded_tokens(batch: int, sets: Sequence[tuple[int, int]], channels: int) -> tuple[PaddedTokens, list[Tensor]]:
    parts = [
        PaddedPart(
            torch.randn(batch, count, width, dtype=torch.float64, requires_grad=True),
            torch.randn(channels - width, dtype=torch.float64, requires_grad=True),
        )
        for count, width in sets
    ]
    return PaddedTokens(tuple(parts)), [tensor for part in parts for tensor in part if tensor.numel()]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("heads", "block"), [(1, 40), (2, 10_000)])
def test_padding_is_never_multiplied_but_counts(
    shared: bool, heads: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "BLOCK_SCORES", block)
    torch.manual_seed(0)
    layer = random_layer(AttentionConfig(num_heads=heads), 8, 12, torch.float64)
    # All constant, mostly padding, mostly features, no padding.
    tokens, leaves = padded_tokens(3, [(2, 0), (9, 4), (5, 10), (3, 12)], 12)
    queries = torch.randn(1 if shared else 3, 6, 8, dtype=torch.float64, requires_grad=True)
    weights = [p for name, p in layer.named_parameters() if not name.startswith("feed_forward")]
    clear = layer.attend_to(queries, tokens.joined())
    from_parts = absorb_padded(layer, queries, tokens)
    inputs = (queries, *leaves, *weights)
    assert_same([from_parts, *gradients(from_parts, inputs)], [clear, *gradients(clear, inputs)], 1e-11)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("projected", [True, False])
def test_slices_of_a_batch_are_the_batch(shared: bool, projected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = random_layer(AttentionConfig(num_heads=2), 8, 12, torch.float64)
    queries = torch.randn(1 if shared else 5, 6, 8, dtype=torch.float64)
    inputs, mask = torch.randn(5, 7, 12, dtype=torch.float64), torch.rand(5, 7) < 0.5
    with torch.no_grad():
        memory = layer.keys_values(inputs) if projected else inputs
        whole = layer(queries, memory, mask)
        monkeypatch.setattr(fast, "SLICE_ELEMENTS", 2 * 7 * 12)
        torch.testing.assert_close(layer(queries, memory, mask), whole, rtol=1e-12, atol=1e-12)
