"""Attention and feed-forward layers (Perceiver IO, arXiv 2107.14795).

Every layer is pre-norm: attention on normalised inputs, then a feed-forward network with its own norm and residual.
Shapes: B batch, M inputs, N latents, O queries, H heads, E and V key and value channels a head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.accelerated import fast
from perceiver_core.accelerated.fast import Form
from perceiver_core.accelerated.kernels import KeysValues, attend, attention_probabilities, in_blocks
from perceiver_core.accelerated.padded import PaddedTokens, absorb_padded
from perceiver_core.checks import check_heads, check_positive, check_tensor
from perceiver_core.config import config_class


@config_class
class AttentionConfig:
    """Widths of one attention layer and its feed-forward network.

    Args:
        num_heads: heads; must divide both attention widths.
        qk_channels: width of queries and keys over all heads. `"q"` takes the width of the layer's queries. `"kv"`
            takes that of its inputs, the published default for cross-attention.
        v_channels: width of the values over all heads; None: as `qk_channels`.
        widening_factor: hidden width of the feed-forward network over its input width.
        query_residual: add the raw query to the attention's output; leave it out where queries and outputs mean
            different things (positions and pixels). Self-attention always has its residual.
    """

    num_heads: int = 8
    qk_channels: int | Literal["q", "kv"] = "kv"
    v_channels: int | None = None
    widening_factor: int = 1
    query_residual: bool = True

    def __post_init__(self) -> None:
        check_positive("AttentionConfig", num_heads=self.num_heads, widening_factor=self.widening_factor)
        if self.v_channels is not None:
            check_positive("AttentionConfig", v_channels=self.v_channels)
        if isinstance(self.qk_channels, int):
            check_positive("AttentionConfig", qk_channels=self.qk_channels)
        elif self.qk_channels not in ("q", "kv"):
            raise ValueError(f"AttentionConfig: `qk_channels` must be a width, 'q' or 'kv', got {self.qk_channels!r}")

    def widths(self, query_channels: int, input_channels: int) -> tuple[int, int]:
        """Query/key and value widths over all heads, checked against the number of heads."""
        if isinstance(self.qk_channels, int):
            qk_channels = self.qk_channels
        else:
            qk_channels = query_channels if self.qk_channels == "q" else input_channels
        v_channels = qk_channels if self.v_channels is None else self.v_channels
        check_heads("qk_channels", qk_channels, self.num_heads)
        check_heads("v_channels", v_channels, self.num_heads)
        return qk_channels, v_channels


def init_linear(linear: nn.Linear) -> nn.Linear:
    """Fan-in truncated normal weights and zero bias, the reference's initialisation."""
    # 0.8796 is the standard deviation of a unit normal cut at two standard deviations.
    std = 1.0 / (math.sqrt(linear.in_features) * 0.87962566103423978)
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def _linear(in_channels: int, out_channels: int) -> nn.Linear:
    return init_linear(nn.Linear(in_channels, out_channels))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, O, H * E] -> [B, H, O, E]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, O, E] -> [B, O, H * E]."""
    return x.transpose(1, 2).flatten(-2)


class FeedForward(nn.Module):
    """`x + contract(gelu(expand(norm(x))))` on [..., C], with the exact (erf) GELU."""

    def __init__(self, channels: int, widening_factor: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = _linear(channels, widening_factor * channels)
        self.contract = _linear(widening_factor * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.contract(F.gelu(self.expand(self.norm(x))))


class CrossAttention(nn.Module):
    """Queries attend to inputs, then a feed-forward network.

    Queries and inputs have norms of their own; the residual adds the query as it came, not its normalised form.
    """

    def __init__(self, config: AttentionConfig, *, query_channels: int, input_channels: int) -> None:
        super().__init__()
        qk_channels, v_channels = config.widths(query_channels, input_channels)
        self.num_heads = config.num_heads
        self.query_residual = config.query_residual
        self.query_norm = nn.LayerNorm(query_channels)
        self.input_norm = nn.LayerNorm(input_channels)
        self.query = _linear(query_channels, qk_channels)
        self.key = _linear(input_channels, qk_channels)
        self.value = _linear(input_channels, v_channels)
        self.output = _linear(v_channels, query_channels)
        self.feed_forward = FeedForward(query_channels, config.widening_factor)

    def keys_values(self, inputs: Tensor) -> KeysValues:
        """Project inputs [B, M, C] once, to attend to them with many sets of queries."""
        inputs = self.input_norm(inputs)
        return KeysValues(
            split_heads(self.key(inputs), self.num_heads), split_heads(self.value(inputs), self.num_heads)
        )

    def forward(
        self, queries: Tensor, inputs: Tensor | KeysValues | PaddedTokens, mask: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            queries: [B or 1, O, Q]; one set of queries is shared by the whole batch, and normalised and projected once.
            inputs: [B, M, C], in parts of the same padding or not, or what `keys_values` made of them.
            mask: bool [B, M], True for valid inputs.

        Returns:
            [B, O, Q].
        """
        if isinstance(inputs, PaddedTokens):
            return self._layer(queries, inputs, mask)
        return fast.by_slices(self._layer, queries, inputs, mask)

    def _layer(self, queries: Tensor, inputs: Tensor | KeysValues | PaddedTokens, mask: Tensor | None) -> Tensor:
        x = self.attend_cheaply(queries, inputs, mask)
        return self.feed_forward(queries + x if self.query_residual else x)

    def attend_cheaply(
        self, queries: Tensor, inputs: Tensor | KeysValues | PaddedTokens, mask: Tensor | None = None
    ) -> Tensor:
        """`attend_to` in the form with the fewest multiply-adds, equal up to rounding."""
        if isinstance(inputs, KeysValues):
            num_inputs = inputs.keys.shape[2]
        else:
            num_inputs = inputs.length if isinstance(inputs, PaddedTokens) else inputs.shape[1]
        form = fast.plan(
            self,
            num_queries=queries.shape[1],
            num_inputs=num_inputs,
            shared_queries=len(queries) == 1,
            projected=isinstance(inputs, KeysValues),
        )
        if isinstance(inputs, PaddedTokens):
            if form is Form.ABSORB_KEYS_VALUES and mask is None and in_blocks(queries):
                return absorb_padded(self, queries, inputs)
            inputs = inputs.joined()
        if form is Form.ABSORB_QUERIES_OUTPUT:
            memory = inputs if isinstance(inputs, KeysValues) else self.keys_values(inputs)
            return fast.absorb_queries_output(self, queries, memory, mask)
        if form is Form.ABSORB_KEYS_VALUES and not isinstance(inputs, KeysValues):
            return fast.absorb_keys_values(self, queries, inputs, mask)
        return self.attend_to(queries, inputs, mask)

    def attend_to(self, queries: Tensor, inputs: Tensor | KeysValues, mask: Tensor | None = None) -> Tensor:
        """The attention by itself, without residual and feed-forward, in its clear form: [B, O, Q]."""
        keys, values = inputs if isinstance(inputs, KeysValues) else self.keys_values(inputs)
        heads = attend(split_heads(self.query(self.query_norm(queries)), self.num_heads), keys, values, mask)
        return self.output(merge_heads(heads))

    def probabilities(
        self, queries: Tensor, inputs: Tensor | KeysValues | PaddedTokens, mask: Tensor | None = None
    ) -> Tensor:
        """The attention's probabilities [B, H, O, M]; the arguments are those of `forward`."""
        inputs = inputs.joined() if isinstance(inputs, PaddedTokens) else inputs
        keys, _ = inputs if isinstance(inputs, KeysValues) else self.keys_values(inputs)
        return attention_probabilities(split_heads(self.query(self.query_norm(queries)), self.num_heads), keys, mask)


class SelfAttention(nn.Module):
    """Latents, or the tokens of a Transformer, attend to each other, then a feed-forward network: [B, N, D] -> same."""

    def __init__(self, config: AttentionConfig, *, channels: int) -> None:
        super().__init__()
        qk_channels, v_channels = config.widths(channels, channels)
        self.num_heads = config.num_heads
        self.norm = nn.LayerNorm(channels)
        self.query = _linear(channels, qk_channels)
        self.key = _linear(channels, qk_channels)
        self.value = _linear(channels, v_channels)
        self.output = _linear(v_channels, channels)
        self.feed_forward = FeedForward(channels, config.widening_factor)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend to the rows that `mask` (bool [B, N], True for valid) leaves; None: to all."""
        normed = self.norm(x)
        queries, keys, values = (split_heads(p(normed), self.num_heads) for p in (self.query, self.key, self.value))
        return self.feed_forward(x + self.output(merge_heads(attend(queries, keys, values, mask))))

    def probabilities(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention's probabilities [B, H, N, N]; the arguments are those of `forward`."""
        normed = self.norm(x)
        queries, keys = (split_heads(p(normed), self.num_heads) for p in (self.query, self.key))
        return attention_probabilities(queries, keys, mask)


def check_mask(name: str, mask: Tensor | None, batch: int, length: int) -> None:
    """Check a validity mask, bool [B, M] with True for valid; None passes."""
    if mask is not None:
        check_tensor(name, mask, "B M", "bool", B=batch, M=length)
