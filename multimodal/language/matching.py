"""A Transformer of as many operations, or parameters, as a Perceiver: its width is searched, its depth given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from multimodal.language.model import LanguageSizes, build_masked, build_next
from multimodal.language.settings import Match
from perceiver_core.hub import HubModel

# Of the tokens; the positions that a masked language model decodes.
DECODED_SHARE = 0.15
WIDENING = 4
# Channels of a head; widths are multiples of it.
LEAST = 8


def forward_flops(model: HubModel, sizes: LanguageSizes, objective: str) -> int:
    """Multiplications and additions of the forward pass for one row, each counted: 2 for a multiply-add."""
    tokens = torch.full((1, sizes.max_length), sizes.vocabulary - 1)
    positions = torch.arange(int(DECODED_SHARE * sizes.max_length))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        if objective == "next":
            model(tokens)
        else:
            model(tokens, None, positions)
    return counter.get_total_flops()


def _build(sizes: LanguageSizes, objective: str) -> HubModel:
    if objective == "next":
        return build_next(sizes, torch.zeros(sizes.vocabulary))
    return build_masked(sizes)


def cost(sizes: LanguageSizes, objective: str, match: Match) -> int:
    """FLOPs of a row's forward pass, or parameters."""
    model = _build(sizes, objective).eval().requires_grad_(False)
    if match == "parameters":
        return sum(parameter.numel() for parameter in model.parameters())
    return forward_flops(model, sizes, objective)


def match_transformer(sizes: LanguageSizes, objective: str, match: Match) -> LanguageSizes:
    """The Transformer nearest to a Perceiver in FLOPs or parameters, of one layer more than that has over its latents.

    The cross-attends stand against that layer. The feed-forward networks are BERT's, four times as wide as the layer.
    """
    layers = sizes.num_self_attends + 1
    at_most = _nearest(
        cost(sizes, objective, match),
        lambda width: cost(_transformer(sizes, width, layers), objective, match),
    )
    return _transformer(sizes, at_most, layers)


def _transformer(sizes: LanguageSizes, width: int, layers: int) -> LanguageSizes:
    # As many heads as the Perceiver, or half as often, so that each keeps an even number of channels, and `LEAST`.
    heads = sizes.num_heads
    while heads > 1 and (width % (2 * heads) or width // heads < LEAST):
        heads //= 2
    return replace(
        sizes,
        encoder="transformer",
        channels=width,
        num_heads=heads,
        num_self_attends=layers,
        widening_factor=WIDENING,
        gain=None,
    )


def _nearest(wanted: int, cost_of: Callable[[int], int]) -> int:
    """The multiple of `LEAST` whose cost is nearest to what is wanted; cost grows with width."""
    width = step = LEAST
    before = cost_of(width)
    while before < wanted:
        after = cost_of(width + step)
        if after >= wanted:
            return width + step if after - wanted < wanted - before else width
        width, before = width + step, after
    return width
