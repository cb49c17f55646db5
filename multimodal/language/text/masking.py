"""Which tokens a masked language model has to tell, and what it sees in their places (BERT, arXiv 1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from multimodal.language.text.tokens import MASK, Tokens

Unit = Literal["tokens", "words"]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """A batch for a masked language model.

    Attributes:
        tokens: what it sees, int64 `[B, L]`.
        positions: places that it has to tell, int64 `[B, O]`; the last ones of a row may not count.
        targets: the tokens there, int64 `[B, O]`.
        counts: which of them count, bool `[B, O]`.
    """

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    counts: np.ndarray


def choose(rng: np.random.Generator, starts: np.ndarray | None, length: int, share: float) -> np.ndarray:
    """Positions to mask, in order: a random `share` of the tokens, or whole words of no more tokens together.

    Args:
        rng: source of chance.
        starts: where words begin, bool `[L]`, True at first; None: single tokens.
        length: L.
        share: of the tokens.
    """
    count = max(1, int(share * length))
    if starts is None:
        return np.sort(rng.permutation(length)[:count])
    word = np.cumsum(starts) - 1
    sizes = np.bincount(word)
    order = rng.permutation(len(sizes))
    chosen = order[np.cumsum(sizes[order]) <= count]
    # A first word that is longer than the share is masked in part: an empty choice teaches nothing.
    if len(chosen) == 0:
        return np.flatnonzero(word == order[0])[:count]
    return np.flatnonzero(np.isin(word, chosen))


def corrupt(rng: np.random.Generator, row: np.ndarray, positions: np.ndarray, tokens: Tokens) -> np.ndarray:
    """The row as the model sees it: at 80% of the positions `[MASK]`, at 10% a random token, at 10% what was there."""
    chance = rng.random(len(positions))
    random = rng.integers(tokens.first_ordinary, tokens.vocabulary, len(positions))
    shown = np.where(chance < 0.8, MASK, np.where(chance < 0.9, random, row[positions]))
    seen = row.copy()
    seen[positions] = shown
    return seen


def mask_rows(
    rows: np.ndarray, keys: list[tuple[int, ...]], tokens: Tokens, *, share: float, unit: Unit, seed: int
) -> Masked:
    """Mask rows `[B, L]`. What is masked in a row depends on the seed and its key alone (epoch, number)."""
    batch, length = rows.shape
    room = max(1, int(share * length))
    seen = rows.copy()
    positions = np.zeros((batch, room), np.int64)
    counts = np.zeros((batch, room), bool)
    for index, (row, key) in enumerate(zip(rows, keys, strict=True)):
        rng = np.random.default_rng([seed, *key])
        chosen = choose(rng, tokens.starts(row) if unit == "words" else None, length, share)
        seen[index] = corrupt(rng, row, chosen, tokens)
        positions[index, : len(chosen)] = chosen
        counts[index, : len(chosen)] = True
    return Masked(tokens=seen, positions=positions, targets=np.take_along_axis(rows, positions, 1), counts=counts)
