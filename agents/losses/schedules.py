"""Schedules of learning rate and entropy weight over the course of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A value as a function of progress from 0 (start of training) to 1 (its end)."""

    start: float
    """Value in the beginning, after the warm-up."""
    end: float
    """Value from the share `until` of training on."""
    shape: Literal["linear", "cosine"] = "linear"
    """How it goes from `start` to `end`."""
    warmup: float = 0.0
    """Share of training in which it rises linearly from 0 to `start`."""
    until: float = 1.0
    """Share of training after which it stays at `end`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup < 1.0:
            raise ValueError(f"warmup must be a share of training from 0 to below 1, not {self.warmup}")
        if not self.warmup < self.until <= 1.0:
            raise ValueError(f"until must be a share of training above warmup and at most 1, not {self.until}")
        if self.shape not in ("linear", "cosine"):
            raise ValueError(f"unknown schedule shape {self.shape!r}: use linear or cosine")

    def __call__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return self.start * progress / self.warmup
        done = min(1.0, (progress - self.warmup) / (self.until - self.warmup))
        if self.shape == "cosine":
            done = 0.5 * (1.0 - math.cos(math.pi * done))
        return self.start + (self.end - self.start) * done

    @classmethod
    def constant(cls, value: float) -> Schedule:
        return cls(start=value, end=value)
