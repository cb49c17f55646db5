"""Folded decoding for inference: many queries, frozen weights, exact up to rounding.

`fold_for_inference(model)` gives an object that decodes what `model.decode` decodes, at a fraction of the operations.
The decoder must have no query residual (video-audio-label autoencoder, optical flow). Three savings come together:

1. **Separable queries.** The Fourier query of a place in a grid is a sum of one term per axis. The query norm's mean
   folds into centred weights, and its variance is known beforehand. The logits of a place against a clip's keys are
   then `rstd * (one table row per axis, added) + constant`. No product is left on the query side.
2. **Rotated values.** The attention's output `y = Wo o + bo` goes through a norm and linear maps only. With
   `C Wo = Q R` (C takes off the mean; Q has orthonormal columns), the values are rotated once a clip by R, so that
   `|o'| = |y - mean(y)|` gives the norm's variance without computing y, and `W1 Q` is the first map of the feed-forward
   network.
3. **Folded heads.** Behind the GELU all is linear. The second map, the decoder's final map and the output adapter are
   one matrix. It has as many rows as the adapter has outputs (3 for a pixel).

A pixel of the paper's autoencoder costs 1.9 million operations in the place of 9.0. Keys and values are computed once a
clip, and blocks of queries stay in the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.accelerated import fast
from perceiver_core.checks import check_indices, check_positive, check_tensor
from perceiver_core.model import Outputs, PerceiverDecoder, PerceiverIO, Positions
from perceiver_core.outputs import MultimodalOutput, OutputAdapter
from perceiver_core.position import FourierPosition, unravel
from perceiver_core.queries import MultimodalQueries, NamedQueries, PositionQueries, QueryGenerator

# Queries of one block. A block's logits are then 3 MB in float32 for 784 latents, which the last-level cache holds.
BLOCK_QUERIES = 1024

# The name of what a model with a single kind of query decodes.
_ONLY = "outputs"

Scores = Callable[[Tensor], Tensor]


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The dtype of logits, norms and sums beside products in `dtype`."""
    return torch.promote_types(dtype, torch.float32)


def _double(module: nn.Module) -> Any:
    return copy.deepcopy(module).requires_grad_(False).double()


def _affine(function: Callable[[Tensor], Tensor], channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [out, in] and offset [out] of a row-wise map, in float64; refuses a map that is not affine."""
    offset = function(like.new_zeros(1, 1, channels))[0, 0]
    matrix = (function(torch.eye(channels, dtype=like.dtype, device=like.device)[None])[0] - offset).T
    probe = torch.linspace(-1.0, 1.0, channels, dtype=like.dtype, device=like.device)
    if not torch.allclose(function(3.0 * probe[None, None])[0, 0], matrix @ (3.0 * probe) + offset):
        raise ValueError("cannot fold an output adapter that is not affine in every row")
    return matrix, offset


def _rounded_up(weight: Tensor) -> Tensor:
    """With zero rows up to a multiple of 16: float32 products of 1,040 columns run a third faster than of 1,026."""
    rows = -len(weight) % 16
    return torch.cat([weight, weight.new_zeros(rows, *weight.shape[1:])])


class _OutputPath(nn.Module):
    """From attention probabilities to outputs, for one output adapter.

    Args:
        decoder: the decoder in float64.
        adapter: the output adapter in float64.
        dtype: of the products.
    """

    value_map: Tensor
    value_shift: Tensor
    outside_square: Tensor
    expand_map: Tensor
    expand_shift: Tensor
    contract_map: Tensor
    contract_shift: Tensor

    def __init__(self, decoder: PerceiverDecoder, adapter: OutputAdapter, dtype: torch.dtype) -> None:
        super().__init__()
        layer, feed_forward = decoder.cross_attend, decoder.cross_attend.feed_forward
        weight = layer.output.weight
        head, head_shift = _affine(lambda rows: adapter(decoder.final(rows)), decoder.query_channels, weight)
        centred = weight - weight.mean(0)
        centred_bias = layer.output.bias - layer.output.bias.mean()
        basis, rotation = torch.linalg.qr(centred)
        inside = basis.T @ centred_bias
        outside = centred_bias - basis @ inside
        expand = feed_forward.expand.weight * feed_forward.norm.weight
        self.num_heads = layer.num_heads
        self.channels = decoder.query_channels
        self.eps = feed_forward.norm.eps
        self.rank = len(rotation)
        exact = _exact(dtype)
        # Values [V, r + F]: rotated ones, and what reaches the outputs past the feed-forward network.
        value_map = torch.cat([rotation, head @ weight])
        value_shift = torch.cat([inside, head @ layer.output.bias]) / self.num_heads
        self.register_buffer("value_map", _rounded_up(value_map).T.to(exact))
        # Probabilities add up to one in every head, so a shift of the values is a shift of the average.
        self.register_buffer("value_shift", _rounded_up(value_shift).to(exact))
        self.register_buffer("outside_square", outside.square().sum().to(exact))
        # The part of the bias outside the basis is divided by the deviation too: as one more channel, which holds 1.
        expand_map = torch.cat([expand @ basis, (expand @ outside)[:, None]], dim=1)
        self.register_buffer("expand_map", _rounded_up(expand_map).to(dtype))
        expand_shift = feed_forward.expand.bias + feed_forward.expand.weight @ feed_forward.norm.bias
        self.register_buffer("expand_shift", _rounded_up(expand_shift).to(dtype))
        # gelu(0) = 0, so the hidden channels that only round up do nothing here either.
        self.register_buffer("contract_map", _rounded_up((head @ feed_forward.contract.weight).T).T.to(dtype))
        self.register_buffer("contract_shift", (head @ feed_forward.contract.bias + head_shift).to(exact))

    def values(self, values: Tensor) -> Tensor:
        """A clip's values [H, M, V] as the path takes them: [H * M, r + F], rounded up."""
        by_head = self.value_map.unflatten(0, (self.num_heads, -1))
        return (values.to(by_head) @ by_head + self.value_shift).flatten(0, 1).to(self.expand_map)

    def forward(self, probabilities: Tensor, values: Tensor) -> Tensor:
        """Probabilities [O, H * M] and `values(...)` to outputs [O, F]."""
        rows = probabilities.to(values) @ values
        rotated, direct = rows[:, : self.rank], rows[:, self.rank : self.rank + len(self.contract_shift)]
        norm = torch.linalg.vector_norm(rotated, dim=-1, keepdim=True, dtype=self.contract_shift.dtype)
        inverse_std = torch.rsqrt((norm.square() + self.outside_square) / self.channels + self.eps)
        normed = rotated.new_empty(len(rotated), self.rank + 1)
        torch.mul(rotated, inverse_std, out=normed[:, :-1])
        normed[:, -1:] = inverse_std
        hidden = F.gelu(F.linear(normed, self.expand_map, self.expand_shift))
        return F.linear(hidden, self.contract_map) + (direct + self.contract_shift)


class _ScoreMap(nn.Module):
    """From a clip's keys to what turns normalised queries into logits.

    Args:
        decoder: the decoder in float64.
        dtype: of the products.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, decoder: PerceiverDecoder, dtype: torch.dtype) -> None:
        super().__init__()
        layer = decoder.cross_attend
        weight, bias = fast.affine_folded(layer.query, layer.query_norm)
        scale = (layer.query.out_features // layer.num_heads) ** -0.5
        self.num_heads = layer.num_heads
        # Rows without their mean over the query's channels: the query norm's mean drops out.
        self.register_buffer("weight", (scale * (weight - weight.mean(1, keepdim=True))).to(_exact(dtype)))
        self.register_buffer("bias", (scale * bias).to(_exact(dtype)))

    def forward(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [H, M, E] to weights [H * M, Q] on `query / std` and constants [H * M]."""
        keys = keys.to(self.weight)
        weight = keys @ self.weight.unflatten(0, (self.num_heads, -1))
        return weight.flatten(0, 1), (keys @ self.bias.unflatten(0, (self.num_heads, -1, 1))).flatten()


class _GridQueries(nn.Module):
    """Logits of the places of an index grid whose queries are Fourier features, then constant channels (padding)."""

    inverse_std: Tensor
    features: Tensor
    starts: Tensor

    def __init__(self, position: FourierPosition, padding: Tensor, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        tables = [table.double() for table in position.axis_tables()]
        padding = padding.detach().double()
        channels = position.channels + len(padding)
        self.shape = position.shape
        rows, sums, squares = [], padding.sum(), padding.square().sum()
        for axis, table in enumerate(tables):
            row = table.new_zeros(len(table), channels)
            row[:, _axis_channels(axis, len(tables), position.config.num_bands)] = table
            view = [-1 if other == axis else 1 for other in range(len(tables))]
            sums = sums + table.sum(1).view(view)
            squares = squares + table.square().sum(1).view(view)
            rows.append(row)
        rows[0][:, position.channels :] = padding
        variance = squares / channels - (sums / channels).square()
        self.register_buffer("inverse_std", torch.rsqrt(variance + eps).flatten().to(_exact(dtype)))
        self.register_buffer("features", torch.cat(rows).to(_exact(dtype)))
        sizes = torch.tensor([0, *self.shape])
        self.register_buffer("starts", sizes.cumsum(0))

    def scores(self, weight: Tensor, constant: Tensor) -> Scores:
        """A function from indices [O] to logits [O, H * M]."""
        table = torch.cat([self.features @ weight.T, constant[None]])

        def look_up(index: Tensor) -> Tensor:
            places = torch.stack([*unravel(index, self.shape), torch.zeros_like(index)], dim=1)
            scale = self.inverse_std[index][:, None].expand(-1, places.shape[1]).clone()
            scale[:, -1] = 1.0
            return F.embedding_bag(places + self.starts, table, per_sample_weights=scale, mode="sum")

        return look_up


def _axis_channels(axis: int, num_axes: int, num_bands: int) -> Tensor:
    """Where `FourierPosition` puts an axis's coordinate, sines and cosines."""
    bands = torch.arange(num_bands) + num_axes + axis * num_bands
    return torch.cat([torch.tensor([axis]), bands, bands + num_axes * num_bands])


def _parts(model: PerceiverIO) -> Iterator[tuple[str, QueryGenerator | None, Tensor, OutputAdapter]]:
    """Name, generator with its padding (None: only `rows` knows), and output adapter of all that a model decodes."""
    queries, outputs = model.queries, model.outputs
    if not isinstance(queries, NamedQueries):
        yield _ONLY, queries, torch.empty(0), outputs
        return
    assert isinstance(outputs, MultimodalOutput)
    for name in queries.names:
        adapter = outputs.adapters[name]
        assert isinstance(adapter, OutputAdapter)
        if isinstance(queries, MultimodalQueries):
            generator = queries.generators[name]
            assert isinstance(generator, QueryGenerator)
            yield name, generator, queries.padding[name], adapter
        else:
            yield name, None, torch.empty(0), adapter


def _indices(index: Tensor | None, count: int, latents: Tensor) -> Tensor:
    """The asked indices [O] or [B, O], checked; None: all `count`."""
    if index is None:
        return torch.arange(count, device=latents.device)
    if isinstance(index, Tensor) and index.dim() == 2:
        check_tensor("positions", index, "B O", "integer", B=len(latents))
    else:
        check_tensor("positions", index, "O", "integer")
    check_indices("positions", index, count)
    return index


class FoldedDecoder(nn.Module):
    """Decodes what `model.decode` decodes, without gradients, from folded copies of the weights.

    Fold again after the model has changed. Moves between devices like any module.
    """

    def __init__(self, model: PerceiverIO, dtype: torch.dtype) -> None:
        super().__init__()
        double: PerceiverDecoder = _double(model.decoder)
        norm = double.cross_attend.query_norm
        self.queries = model.queries
        self.outputs = model.outputs
        self.decoder = model.decoder
        self.bottleneck = model.bottleneck
        self.score_map = _ScoreMap(double, dtype)
        self.paths = nn.ModuleDict()
        self.grids = nn.ModuleDict()
        for name, generator, padding, adapter in _parts(model):
            self.paths[name] = _OutputPath(double, _double(adapter), dtype)
            position = generator.position if isinstance(generator, PositionQueries) else None
            if isinstance(position, FourierPosition) and position.config.projected_channels is None:
                self.grids[name] = _GridQueries(position, padding, norm.eps, dtype)

    @torch.no_grad()
    def forward(
        self,
        latents: Tensor,
        positions: Positions | None = None,
        *,
        tokens: Tensor | None = None,
        chunk_size: int = BLOCK_QUERIES,
    ) -> Outputs:
        """Decode outputs from latents.

        Args:
            latents: as for `PerceiverIO.decode`.
            positions: as for `PerceiverIO.decode`: integer indices [O] or [B, O], or a mapping by name; None: all.
            tokens: `model.tokens(inputs)`, where the queries are derived from the inputs.
            chunk_size: queries to decode at a time.

        Returns:
            As `PerceiverIO.decode`.
        """
        check_positive("FoldedDecoder", chunk_size=chunk_size)
        # Which products run in which precision was settled when folding; autocast would mix others in.
        with torch.autocast(latents.device.type, enabled=False):
            return self._decode(latents, positions, tokens, chunk_size)

    def _decode(self, latents: Tensor, positions: Positions | None, tokens: Tensor | None, chunk_size: int) -> Outputs:
        if isinstance(self.queries, NamedQueries):
            asked = self.queries.asked(positions)
            counts = {name: self.queries.count_name(name, tokens) for name in asked}
        elif isinstance(positions, Mapping):
            raise TypeError("`positions` by name need queries by name; pass an integer tensor [O] or [B, O]")
        else:
            asked, counts = {_ONLY: positions}, {_ONLY: self.queries.count(tokens)}
        indices = {name: _indices(index, counts[name], latents) for name, index in asked.items()}
        latents = latents.to(self.decoder.cross_attend.key.weight.dtype)
        keys, values = self.decoder.keys_values(latents if self.bottleneck is None else self.bottleneck.widen(latents))
        maps = [self.score_map(sample) for sample in keys]
        rows = {name: self._rows(name, index, maps, values, tokens, chunk_size) for name, index in indices.items()}
        if not isinstance(self.queries, NamedQueries):
            return self.outputs.assemble(rows[_ONLY], whole=positions is None)
        assert isinstance(self.outputs, MultimodalOutput)
        return self.outputs.assemble_by_name(rows, whole={name: index is None for name, index in asked.items()})

    def _rows(
        self,
        name: str,
        index: Tensor,
        maps: list[tuple[Tensor, Tensor]],
        values: Tensor,
        tokens: Tensor | None,
        chunk_size: int,
    ) -> Tensor:
        """Outputs [B, O, F] of one name for indices [O] or [B, O]."""
        path = self.paths[name]
        assert isinstance(path, _OutputPath)
        heads, num_latents = values.shape[1:3]
        samples = []
        for sample, (weight, constant) in enumerate(maps):
            scores = self._scores(name, weight, constant, None if tokens is None else tokens[sample : sample + 1])
            rotated = path.values(values[sample])
            chunks = []
            for part in (index if index.dim() == 1 else index[sample]).split(chunk_size):
                logits = scores(part).unflatten(-1, (heads, num_latents))
                chunks.append(path(logits.softmax(-1).flatten(1), rotated))
            samples.append(torch.cat(chunks))
        return torch.stack(samples)

    def _scores(self, name: str, weight: Tensor, constant: Tensor, tokens: Tensor | None) -> Scores:
        """A function from indices [O] to logits [O, H * M] of one sample."""
        if name in self.grids:
            grid = self.grids[name]
            assert isinstance(grid, _GridQueries)
            return grid.scores(weight, constant)
        norm = self.decoder.cross_attend.query_norm

        def from_rows(index: Tensor) -> Tensor:
            queries = self.queries
            rows = queries.rows(name, index, tokens) if isinstance(queries, NamedQueries) else queries(index, tokens)
            return torch.addmm(
                constant, F.layer_norm(rows[0].to(weight), norm.normalized_shape, eps=norm.eps), weight.T
            )

        return from_rows


def fold_for_inference(model: PerceiverIO, dtype: torch.dtype | None = None) -> FoldedDecoder:
    """Fold the decoding side of a model.

        latents = model.encode(inputs)
        outputs = fold_for_inference(model)(latents)

    Args:
        model: a model whose decoder has no query residual.
        dtype: of the products, e.g. `torch.bfloat16`; logits, softmax, norms and sums stay in float32. None: that of
            the weights.

    Raises:
        ValueError: the decoder adds its queries to its output, or an output adapter is not affine.
    """
    if model.decoder.cross_attend.query_residual:
        raise ValueError(
            "this decoder adds its queries to its outputs (`query_residual`), so its output path does not fold; "
            "use `model.decode`, which re-associates its products where that pays"
        )
    return FoldedDecoder(model, dtype or model.decoder.cross_attend.query.weight.dtype)
