"""The kernels of attention: the one place where `softmax(Q K' / sqrt(E)) V` is computed, and by what.

Torch's fused attention is right on a GPU. On a CPU it is right in float32 for very many keys, and for heads of
ordinary width. For those it is up to 3 times faster than plain matrix products around a softmax. It is the slower
choice for bfloat16, for wide heads, and for values of another width than the keys. There we compute plain products on
blocks of scores that stay in the cache. In bfloat16 these take mostly 0.2 to 1.0 of the fused time. The blocks'
backward pass computes the probabilities again, as fused attention does. So neither direction ever holds all scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel


class KeysValues(NamedTuple):
    """Projected inputs of an attention: keys [B, H, M, E] and values [B, H, M, V]."""

    keys: Tensor
    values: Tensor


# Scores of one block; 2**21 of them are 8 MB in float32, which a last-level cache holds beside the block's operands.
BLOCK_SCORES = 2**21


class _Block(NamedTuple):
    """A range of samples and heads (`batch`), and of queries."""

    batch: slice
    queries: slice


def _blocks(batch: int, queries: int, keys: int) -> Iterator[_Block]:
    keys = max(keys, 1)
    rows = max(1, min(queries, BLOCK_SCORES // keys))
    group = max(1, BLOCK_SCORES // (rows * keys)) if rows == queries else 1
    for first in range(0, batch, group):
        for row in range(0, queries, rows):
            yield _Block(slice(first, min(first + group, batch)), slice(row, min(row + rows, queries)))


def _probabilities(queries: Tensor, keys: Tensor, visible: Tensor | None, block: _Block, scale: float) -> Tensor:
    """Softmax of one block's scores, [g, o, M]."""
    q = queries if len(queries) == 1 else queries[block.batch]
    q, k = q[:, block.queries], keys[block.batch]
    # One set of queries for every sample is one wide product rather than a batch of narrow ones.
    scores = torch.matmul(q * scale, k.transpose(1, 2))
    if visible is not None:
        scores.masked_fill_(~visible[block.batch, None], float("-inf"))
    return torch.softmax(scores, dim=-1)


def _zero_sum(like: Tensor) -> Tensor:
    # Sums over blocks are kept in float32 at least: in bfloat16 they would lose what later blocks add.
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


class _BlockedAttention(torch.autograd.Function):
    """`softmax(scale Q K') V` for queries [G or 1, O, E], keys [G, M, E], values [G, M, V], visible [G, M] or None."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scale: float
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values, visible)
        ctx.scale = scale
        out = values.new_empty(len(keys), queries.shape[1], values.shape[2])
        with torch.autocast(keys.device.type, enabled=False):
            for block in _blocks(len(keys), queries.shape[1], keys.shape[1]):
                probabilities = _probabilities(queries, keys, visible, block, scale)
                out[block.batch, block.queries] = torch.bmm(probabilities, values[block.batch])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        queries, keys, values, visible = ctx.saved_tensors
        want_queries, want_keys, want_values = ctx.needs_input_grad[:3]
        d_queries = _zero_sum(queries) if want_queries else None
        d_keys = _zero_sum(keys) if want_keys else None
        d_values = _zero_sum(values) if want_values else None
        with torch.autocast(keys.device.type, enabled=False):
            for block in _blocks(len(keys), queries.shape[1], keys.shape[1]):
                batch, rows = block
                g, k, v = grad[batch, rows], keys[batch], values[batch]
                probabilities = _probabilities(queries, keys, visible, block, ctx.scale)
                if d_values is not None:
                    _add_product(d_values[batch], probabilities.transpose(1, 2), g)
                d_scores = torch._softmax_backward_data(
                    torch.bmm(g, v.transpose(1, 2)), probabilities, -1, probabilities.dtype
                )
                if d_queries is not None and len(queries) == 1:
                    d_queries[0, rows] += torch.bmm(d_scores, k).sum(0)
                elif d_queries is not None:
                    _add_product(d_queries[batch, rows], d_scores, k)
                if d_keys is not None:
                    q = queries[:, rows].expand(len(k), -1, -1) if len(queries) == 1 else queries[batch, rows]
                    _add_product(d_keys[batch], d_scores.transpose(1, 2), q)
        return (
            None if d_queries is None else d_queries.mul_(ctx.scale).to(queries.dtype),
            None if d_keys is None else d_keys.mul_(ctx.scale).to(keys.dtype),
            None if d_values is None else d_values.to(values.dtype),
            None,
            None,
        )


def blocked_attention(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
    """`softmax(Q K' / sqrt(E)) V`, block by block; differentiable once.

    Args:
        queries: [B or 1, H, O, E]; one sample's queries serve the whole batch.
        keys: [B, H, M, E].
        values: [B, H, M, V].
        visible: bool [B, M]; at least one True a sample. None: all.

    Returns:
        [B, H, O, V].
    """
    batch, heads = keys.shape[:2]
    if len(queries) != batch and heads > 1:
        queries = queries.expand(batch, -1, -1, -1)
    if visible is not None:
        visible = visible[:, None].expand(-1, heads, -1).flatten(0, 1)
    scale = queries.shape[-1] ** -0.5
    out = _BlockedAttention.apply(queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), visible, scale)
    return out.unflatten(0, (batch, heads))


class _JointAttention(torch.autograd.Function):
    """One softmax over several sets of rows, each with queries of its own; see `attend_jointly`."""

    @staticmethod
    def forward(ctx: Any, num_sets: int, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.save_for_backward(*tensors)
        queries, rows = tensors[:num_sets], tensors[num_sets:]
        averages = tuple(r.new_empty(len(rows[0]), q.shape[1], r.shape[2]) for q, r in zip(queries, rows, strict=True))
        with torch.autocast(rows[0].device.type, enabled=False):
            for sample, block in _joint_blocks(queries, rows):
                probabilities = _joint_products(queries, rows, sample, block).softmax(-1)
                for average, r, part in zip(averages, rows, _split(probabilities, rows), strict=True):
                    torch.mm(part, r[sample], out=average[sample, block])
        return averages

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        num_sets = len(grads)
        # Read once: under activation checkpointing, every read unpacks.
        saved = ctx.saved_tensors
        queries, rows = saved[:num_sets], saved[num_sets:]
        d_queries = [_zero_sum(q) for q in queries]
        d_rows = [_zero_sum(r) if ctx.needs_input_grad[1 + num_sets + i] else None for i, r in enumerate(rows)]
        with torch.autocast(rows[0].device.type, enabled=False):
            for sample, block in _joint_blocks(queries, rows):
                probabilities = _joint_products(queries, rows, sample, block).softmax(-1)
                d_probabilities = _joint_products(grads, rows, sample, block)
                d_scores = torch._softmax_backward_data(d_probabilities, probabilities, -1, probabilities.dtype)
                parts = zip(_split(d_scores, rows), _split(probabilities, rows), strict=True)
                for i, (d_part, part) in enumerate(parts):
                    own = sample if len(queries[i]) > 1 else 0
                    _add_product(d_queries[i][own, block][None], d_part[None], rows[i][sample][None])
                    total = d_rows[i]
                    if total is not None:
                        _add_product(total[sample][None], d_part.T[None], queries[i][own, block][None])
                        _add_product(total[sample][None], part.T[None], grads[i][sample, block][None])
        found = zip((*d_queries, *d_rows), (*queries, *rows), strict=True)
        return None, *(None if total is None else total.to(like.dtype) for total, like in found)


def _joint_blocks(queries: Sequence[Tensor], rows: Sequence[Tensor]) -> Iterator[tuple[int, slice]]:
    step = max(1, BLOCK_SCORES // sum(r.shape[1] for r in rows))
    for sample in range(len(rows[0])):
        for first in range(0, queries[0].shape[1], step):
            yield sample, slice(first, min(first + step, queries[0].shape[1]))


def _split(joint: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return joint.split([r.shape[1] for r in rows], dim=-1)


def _joint_products(left: Sequence[Tensor], rows: Sequence[Tensor], sample: int, block: slice) -> Tensor:
    """Products of a block of `left` with all rows of a sample, the sets side by side: [o, M1 + M2 + ...]."""
    size = block.stop - block.start
    joint = rows[0].new_empty(size, sum(r.shape[1] for r in rows))
    for q, r, part in zip(left, rows, _split(joint, rows), strict=True):
        torch.mm(q[sample if len(q) > 1 else 0, block], r[sample].T, out=part)
    return joint


def attend_jointly(queries: Sequence[Tensor], rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One softmax of `q_i r_i'` over the rows of all sets, and the sets' parts of the average of rows.

    The i-th set has rows of its own width and the queries' form for that width, which are scaled already. The
    parts are what `absorb_padded` needs: projected each by its own map and added, they are the attention's output.

    Args:
        queries: per set, [B or 1, O, e_i].
        rows: per set, [B, M_i, e_i]; keys and values in one.

    Returns:
        Per set, [B, O, e_i].
    """
    return _JointAttention.apply(len(rows), *queries, *rows)


# Torch's fused float32 attention is the faster one on a CPU for heads up to so wide, and from so many keys on.
FUSED_WIDTH = 128
FUSED_KEYS = 2**14
# All but cuDNN's, which torch prefers in half precision on newer GPUs. It refuses values wider than keys, which the
# language model has. And it makes a plan for every new shape, which took seconds for packed sets on an H200.
GPU_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def in_blocks(tensor: Tensor) -> bool:
    """Whether blocks of plain products are an option: on a CPU, outside compiled programs (they plan by themselves)."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def prefers_blocks(keys: Tensor, values: Tensor) -> bool:
    """Whether `attend` goes in blocks through keys [B, H, M, E] and values [B, H, M, V]."""
    if not in_blocks(keys):
        return False
    if keys.dtype != torch.float32:
        return True
    fused_kernel = keys.shape[-1] == values.shape[-1] <= FUSED_WIDTH
    return not fused_kernel and keys.shape[2] < FUSED_KEYS


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention, `softmax(Q K' / sqrt(E)) V`.

    A sample without any valid key attends to nothing and gets zeros (the reference's convention; a uniform average
    over masked keys would leak them).

    Args:
        queries: [B or 1, H, O, E]; a batch of one is broadcast.
        keys: [B, H, M, E].
        values: [B, H, M, V].
        mask: bool [B, M], True for valid keys.

    Returns:
        [B, H, O, V].
    """
    visible = None
    if mask is not None:
        some_valid = mask.any(dim=-1, keepdim=True)
        # Rows without a valid key see every key, which keeps the softmax and its gradient finite, and are zeroed after.
        visible = mask | ~some_valid
    if prefers_blocks(keys, values):
        out = blocked_attention(queries, keys, values, visible)
    else:
        queries = queries.expand(keys.shape[0], -1, -1, -1)
        where = None if visible is None else visible[:, None, None, :]
        with sdpa_kernel(GPU_KERNELS) if keys.is_cuda else nullcontext():
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=where)
    return out if mask is None else out.masked_fill(~some_valid[:, :, None, None], 0.0)


def attention_probabilities(queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
    """`softmax(Q K' / sqrt(E))`, which `attend` never holds: [B, H, O, M] for its arguments."""
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is None:
        return scores.softmax(-1)
    visible = mask | ~mask.any(dim=-1, keepdim=True)  # as in `attend`
    probabilities = scores.masked_fill(~visible[:, None, None], float("-inf")).softmax(-1)
    return probabilities.masked_fill(~mask[:, None, None], 0.0)


def attend_causally(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`attend` where the queries belong to the last positions of the keys, and see none after their own.

    Args:
        queries: [B, H, O, E], of the last O positions.
        keys: [B, H, M, E].
        values: [B, H, M, V].

    Returns:
        [B, H, O, V].
    """
    num_queries, num_keys = queries.shape[2], keys.shape[2]
    whole = num_queries == num_keys
    seen = None
    if not whole and num_queries > 1:
        seen = queries.new_ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    with sdpa_kernel(GPU_KERNELS) if keys.is_cuda else nullcontext():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, is_causal=whole)
