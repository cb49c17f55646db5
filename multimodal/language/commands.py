"""Settings of the commands that use a trained run on text. No heavy import here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from perceiver_agents.paths import absolute_if_exists, make_absolute


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to measure."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder of a training on labelled tasks."""
    data: str | None = None
    """Other data of the same tasks; None takes that which the run was trained on."""
    tasks: tuple[str, ...] = ()
    """Some of the run's tasks; empty: all."""
    out: str | None = None
    """Output folder; None is `RUN/evaluation`."""
    baselines: bool = True
    """Fit a regression on n-grams to the same training examples."""
    device: str = "cpu"
    """`cpu` or `cuda`."""

    def __post_init__(self) -> None:
        make_absolute(self, "run", "out")
        if self.data is not None:
            object.__setattr__(self, "data", absolute_if_exists(self.data))


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig:
    """What to fill in."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder of a pretraining that tells masked tokens."""
    text: Annotated[str, tyro.conf.Positional]
    """Text with `[MASK]` in it: one for each token (of bytes, one for each byte)."""
    top: int = 5
    """Likeliest tokens to show for each mask."""
    rounds: int | None = None
    """Fill the surest masks first, in so many rounds; None: one at a time."""
    device: str = "cpu"
    """`cpu` or `cuda`."""

    def __post_init__(self) -> None:
        make_absolute(self, "run")
        if self.top < 1:
            raise ValueError(f"top is {self.top}; it must be at least 1")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What to generate."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder of a pretraining that tells the next token (`--objective next`)."""
    prompt: str = "\n"
    """What the text begins with."""
    num_tokens: int = 256
    """Tokens to generate."""
    temperature: float = 0.8
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int | None = None
    """Sample from the k likeliest tokens only."""
    top_p: float | None = 0.95
    """Sample from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Of the sampling."""
    device: str = "cpu"
    """`cpu` or `cuda`."""

    def __post_init__(self) -> None:
        make_absolute(self, "run")
        if self.num_tokens < 1:
            raise ValueError(f"num_tokens is {self.num_tokens}; it must be at least 1")
