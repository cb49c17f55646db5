"""What a number of episodes says: means, standard errors, and the interval of a win rate."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.acting.episodes import Episodes

# 97.5% quantile of the normal distribution: the intervals hold 95%.
_Z = 1.959963984540054


def wilson_interval(wins: int, episodes: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927, as in Brown, Cai and DasGupta 2001, section 3)."""
    if episodes == 0:
        return 0.0, 1.0
    share, z2 = wins / episodes, _Z * _Z
    centre = (share + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = _Z / (1 + z2 / episodes) * math.sqrt(share * (1 - share) / episodes + z2 / (4 * episodes**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # At the ends the exact bound is the share itself; floating point would miss it by a hair.
    return (0.0 if wins == 0 else low), (1.0 if wins == episodes else high)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One scenario against one opponent."""

    scenario: str
    opponent: str
    episodes: int
    wins: int
    win_rate: float
    win_rate_interval: tuple[float, float]
    return_mean: float
    return_standard_error: float
    score_mean: float
    score_standard_error: float
    length_mean: float


def summarise(scenario: str, opponent: str, episodes: Episodes) -> Result:
    """Means, standard errors and the win rate's interval of finished episodes."""

    def mean(values: list[Any]) -> float:
        return float(np.mean(values)) if values else math.nan

    def standard_error(values: list[float]) -> float:
        return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan

    return Result(
        scenario=scenario,
        opponent=opponent,
        episodes=len(episodes.won),
        wins=sum(episodes.won),
        win_rate=mean(episodes.won),
        win_rate_interval=wilson_interval(sum(episodes.won), len(episodes.won)),
        return_mean=mean(episodes.returns),
        return_standard_error=standard_error(episodes.returns),
        score_mean=mean(episodes.scores),
        score_standard_error=standard_error(episodes.scores),
        length_mean=mean(episodes.lengths),
    )
