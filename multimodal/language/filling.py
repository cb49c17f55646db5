"""Iterative filling of masks: the surest ones first, so that later ones see what earlier ones became
(Mask-Predict, arXiv 1904.09324; MaskGIT, arXiv 2202.04200)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from multimodal.common.errors import DataError
from multimodal.language.text.tokens import MASK, SPECIAL, Tokens
from perceiver_core.hub import HubModel


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A text without masks.

    Attributes:
        tokens: int64 `[L]`.
        candidates: for each mask, in the order of the text, the likeliest tokens with their probabilities at the time
            of the first look.
    """

    tokens: np.ndarray
    candidates: list[list[tuple[int, float]]]


def read_masked(text: str, tokens: Tokens, max_length: int) -> np.ndarray:
    """Token numbers int64 `[L]` of text with `[MASK]` in it.

    Raises:
        DataError: no mask, or more tokens than the model reads.
    """
    name = SPECIAL[MASK]
    parts = [tokens.encode(part.encode("utf-8", errors="surrogateescape")) for part in text.split(name)]
    if len(parts) == 1:
        raise DataError(f"the text has no {name}; write one for each token to fill in")
    row = np.concatenate([part for piece in parts for part in (np.array([MASK]), piece)][1:]).astype(np.int64)
    if len(row) > max_length:
        raise DataError(f"the text has {len(row)} tokens, more than the model's {max_length}; shorten it")
    return row


@torch.no_grad()
def fill(model: HubModel, row: np.ndarray, tokens: Tokens, *, rounds: int | None = None, top: int = 5) -> Filled:
    """Fill all masks of a row.

    Args:
        model: tells masked tokens; in evaluation mode.
        row: int64 `[L]`.
        tokens: of the model.
        rounds: looks at the text; the masks are shared out among them, the surest first. None: one mask a look.
        top: candidates to give.
    """
    row = row.copy()
    masks = np.flatnonzero(row == MASK)
    first = _probabilities(model, row, masks, tokens)
    likeliest = first.topk(min(top, first.shape[-1]))
    candidates = [
        [(int(number), float(share)) for number, share in zip(numbers, shares, strict=True)]
        for numbers, shares in zip(likeliest.indices, likeliest.values, strict=True)
    ]
    looks = len(masks) if rounds is None else min(rounds, len(masks))
    for look in range(looks):
        left = np.flatnonzero(row == MASK)
        sure = _probabilities(model, row, left, tokens).max(-1)
        filled = -(-len(left) // (looks - look))
        chosen = sure.values.argsort(descending=True, stable=True)[:filled].cpu().numpy()
        row[left[chosen]] = sure.indices.cpu().numpy()[chosen]
    return Filled(tokens=row, candidates=candidates)


def _probabilities(model: HubModel, row: np.ndarray, places: np.ndarray, tokens: Tokens) -> Tensor:
    """Of the tokens at some places, `[places, V]`; special tokens have none."""
    device = next(model.parameters()).device
    logits: Tensor = model(torch.from_numpy(row)[None].to(device), None, torch.from_numpy(places).to(device))[0].float()
    logits[:, : tokens.first_ordinary] = -torch.inf
    return logits.softmax(-1)
