"""How far a flow is from the truth: end-point error, 1/3/5-pixel rates, KITTI's F1-all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlowErrors:
    """Errors over all pixels whose true flow is known. Rates are shares from 0 to 1."""

    end_point_error: float
    """Mean distance between flow and truth, in pixels."""
    above_1px: float
    """Share of pixels with an end-point error above 1 pixel."""
    above_3px: float
    """Share of pixels with an end-point error above 3 pixels."""
    above_5px: float
    """Share of pixels with an end-point error above 5 pixels."""
    f1_all: float
    """KITTI's F1-all: the error is above 3 pixels, and above 5% of the true flow's length."""
    pixels: int
    """How many pixels were counted."""


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Distance `[..., H, W]` in pixels between two flows `[..., 2, H, W]`."""
    return torch.linalg.vector_norm(flow - truth, dim=-3)


def flow_errors(flow: Tensor, truth: Tensor, known: Tensor) -> FlowErrors:
    """Errors of flows against the truth.

    Args:
        flow: `[..., 2, H, W]` in pixels.
        truth: `[..., 2, H, W]` in pixels.
        known: `[..., H, W]` bool: where the truth is known; other pixels do not count.

    Raises:
        ValueError: shapes differ, or no pixel is known.
    """
    if flow.shape != truth.shape or known.shape != truth[..., 0, :, :].shape:
        raise ValueError(f"flow {list(flow.shape)}, truth {list(truth.shape)}, known {list(known.shape)} do not match")
    if not known.any():
        raise ValueError("the true flow is known at no pixel: there is nothing to compare with")
    error = end_point_error(flow.double(), truth.double())[known]
    length = torch.linalg.vector_norm(truth.double(), dim=-3)[known]

    def share(wrong: Tensor) -> float:
        return wrong.double().mean().item()

    return FlowErrors(
        end_point_error=error.mean().item(),
        above_1px=share(error > 1),
        above_3px=share(error > 3),
        above_5px=share(error > 5),
        f1_all=share((error > 3) & (error > 0.05 * length)),
        pixels=error.numel(),
    )
