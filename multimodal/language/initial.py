"""Initial values with which byte models leave the plateau of single bytes' frequencies within a minute.

Published models begin with random positions. Then every latent begins with nearly the same average over all bytes, from
which no byte's neighbours can be told; a small budget ends before attention has found places. Here the same parameters
begin otherwise, so published weights still fit and all of it may be unlearnt:

- Positions of tokens, of latents and of output queries are Fourier features of their places in the row, in the same
  channels; a latent's place is the middle of its stretch of the row. Token embeddings begin in the other channels.
- Queries and keys of both cross-attentions begin as those channels, turned by an offset that each head has of its own
  (rotations of sine and cosine pairs, as in RoPE, arXiv 2104.09864). So a latent's heads begin at the bytes around its
  place, one each, as a convolution's taps do, and an output query's heads at the latents around it.
- Embeddings of n-grams, where a model has them, begin at zero.
- The output bias begins as the logarithms of the tokens' frequencies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from perceiver_core.attention import CrossAttention
from perceiver_core.inputs import TokenInput
from perceiver_core.model import PerceiverIO
from perceiver_core.queries import PositionQueries, TaskQueries

# Of positions and embeddings. Layer norms undo it inside; tied output logits begin small with it.
AMPLITUDE = 0.1
# Of the latents' places beside what their layers add, of about 1 a channel: so they keep their places on the way.
LATENT_AMPLITUDE = 2.5


def frequencies(max_length: int, count: int) -> Tensor:
    """Angles a position, geometric: the slowest turns once in two rows, the fastest nearly half a turn a token."""
    return torch.logspace(math.log10(math.pi / max_length), math.log10(0.9 * math.pi), count)


def place_features(places: Tensor, omega: Tensor, channels: int) -> Tensor:
    """Sines and cosines of places `[P]` in the first channels, in pairs; zeros in the others: `[P, channels]`."""
    angles = places[:, None] * omega
    pairs = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(pairs, (0, channels - pairs.shape[1]))


def head_frequencies(layer: CrossAttention) -> int:
    """Pairs of channels that a head's queries and keys have room for."""
    return layer.query.out_features // layer.num_heads // 2


@torch.no_grad()
def begin_with_neighbourhoods(model: PerceiverIO, max_length: int, gain: float) -> None:
    """Set the initial values of this module's docstring.

    Args:
        model: a language model on tokens, of any output.
        max_length: M.
        gain: largest attention logit that a query begins with; larger ones begin at fewer tokens.

    Raises:
        ValueError: the channels have no room for places beside contents.
    """
    inputs, encoder, queries = model.inputs, model.encoder, model.queries
    assert isinstance(inputs, TokenInput)
    reading, asking = encoder.cross_attends[0], model.decoder.cross_attend
    assert isinstance(reading, CrossAttention)
    pairs = head_frequencies(reading)
    narrowest = min(inputs.channels, encoder.config.latent_channels, queries.channels)
    if 4 * pairs > narrowest or head_frequencies(asking) != pairs:
        raise ValueError(f"{pairs} frequencies in each head's channels need at least {4 * pairs} channels everywhere")
    omega = frequencies(max_length, pairs)
    stride = max_length / encoder.config.num_latents
    places = torch.arange(max_length, dtype=torch.float32)
    inputs.position.copy_(AMPLITUDE * place_features(places, omega, inputs.channels))
    # As much energy in a token's contents as in its place.
    inputs.embedding.weight.normal_(std=AMPLITUDE * math.sqrt(pairs / (inputs.channels - 2 * pairs)))
    inputs.embedding.weight[:, : 2 * pairs] = 0.0
    middles = (torch.arange(encoder.config.num_latents) + 0.5) * stride - 0.5
    encoder.latents[:, : 2 * pairs] = LATENT_AMPLITUDE * place_features(middles, omega, 2 * pairs)
    if isinstance(queries, PositionQueries):
        table = queries.position.table
        assert isinstance(table, Tensor)
        table.copy_(AMPLITUDE * place_features(places, omega, queries.channels))
    elif isinstance(queries, TaskQueries):
        queries.table[:, : 2 * pairs] = 0.0  # of no place: a task begins with the average over the row
    heads = torch.arange(reading.num_heads) - (reading.num_heads - 1) / 2
    # Beside each other, a latent's heads cover its stretch and half of both neighbours'.
    _attend_to_places(reading, heads * max(2 * stride / reading.num_heads, 1.0), omega, gain)
    heads = torch.arange(asking.num_heads) - (asking.num_heads - 1) / 2
    _attend_to_places(asking, heads * stride / 2, omega, gain)


def _attend_to_places(layer: CrossAttention, offsets: Tensor, omega: Tensor, gain: float) -> None:
    """Make each head's logits begin as a peak at its offset from the query's place; `gain` high at the query's own
    place features alone, of inputs half of whose energy is place."""
    pairs = len(omega)
    width = layer.query.out_features // layer.num_heads
    turns = torch.zeros(layer.num_heads, width, 2 * pairs)
    for head, offset in enumerate(offsets):
        cosines, sines = (omega * offset).cos(), (omega * offset).sin()
        even, odd = torch.arange(0, 2 * pairs, 2), torch.arange(1, 2 * pairs, 2)
        turns[head, even, even], turns[head, even, odd] = cosines, sines
        turns[head, odd, odd], turns[head, odd, even] = cosines, -sines
    straight = torch.eye(width, 2 * pairs).repeat(layer.num_heads, 1)
    # After the norms a pair's square is C / pairs for a query of places alone, and half of that for an input.
    energy = math.sqrt(layer.query.in_features / pairs) * math.sqrt(layer.key.in_features / (2 * pairs))
    layer.query.weight.zero_()
    layer.key.weight.zero_()
    layer.query.weight[:, : 2 * pairs] = turns.flatten(0, 1) * gain * math.sqrt(width) / (pairs * energy)
    layer.key.weight[:, : 2 * pairs] = straight


@torch.no_grad()
def begin_with_frequencies(bias: Tensor, counts: Tensor) -> None:
    """Set the output bias `[V]` to the logarithms of the tokens' frequencies, each counted once more."""
    more = counts.to(torch.float64) + 1
    bias.copy_((more / more.sum()).log())
