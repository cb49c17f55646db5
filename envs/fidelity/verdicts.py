"""A row: the same quantity in the game and in the simulator, and the rule that judges whether the two agree.

Every rule gives a band of values that count as the game's. The verdict:

* `inside`: the simulator's value lies in the band;
* `open`: it does not, but its 95% interval reaches into the band, so more episodes decide;
* `outside`: neither.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

# Quantiles of Student's t for intervals of 95%, by degrees of freedom; 1.96 beyond.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09)
_NORMAL = 1.96
Band = tuple[float, float]


def t_quantile(degrees: int) -> float:
    """Half the width, in standard errors, of a 95% interval of a mean."""
    if degrees < 1:
        return math.inf
    return _T[degrees - 1] if degrees <= len(_T) else max(_NORMAL, _NORMAL * (1 + 1.25 / degrees))


@dataclass(frozen=True)
class Figure:
    """A quantity on one side: its value, the 95% interval of it (None: exact, or not known), and what it is made of.

    `values` are the single observations where there are any, for the drawings; `count` is how many there were.
    """

    value: float
    interval: Band | None = None
    count: int = 1
    values: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Row:
    """One line of the table. `rule` says in words where the band comes from; `note` what else a reader should know."""

    group: str
    name: str
    unit: str
    real: Figure
    ours: Figure
    band: Band
    rule: str
    note: str = ""

    @property
    def verdict(self) -> str:
        """`inside`, `open` or `outside`."""
        low, high = self.band
        if low <= self.ours.value <= high:
            return "inside"
        if self.ours.interval is not None and self.ours.interval[0] <= high and self.ours.interval[1] >= low:
            return "open"
        return "outside"


def mean_figure(values: Sequence[float], weights: Sequence[int] | None = None) -> Figure:
    """The mean of observations with its interval.

    With weights an observation is itself the mean of so many: the spread of single ones is estimated from all.
    """
    weights = [1] * len(values) if weights is None else weights
    total = sum(weights)
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
    interval = None
    if len(values) > 1:
        variance = sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / (len(values) - 1)
        half = t_quantile(len(values) - 1) * math.sqrt(variance / total)
        interval = (mean - half, mean + half)
    single = tuple(v for w, v in zip(weights, values, strict=True) if w == 1)
    return Figure(mean, interval, total, single)


def median_figure(values: Sequence[float]) -> Figure:
    """The median of observations, with all of them."""
    return Figure(statistics.median(values), None, len(values), tuple(values))


def exactly(value: float, tolerance: float = 0.0) -> tuple[Band, str]:
    """The game's value itself."""
    rule = "equal" if tolerance == 0 else f"within {tolerance:g}"
    return (value - tolerance, value + tolerance), rule


def quartiles(values: Sequence[float]) -> tuple[Band, str]:
    """Between the quartiles of the game's observations."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (low, high), "between the quartiles"


def near_mean(real: Figure, ours: Figure, share: float = 0.1) -> tuple[Band, str]:
    """Within a share of the game's mean, or within the interval of that mean, which few observations make wide.

    A mean of one observation has no interval: the spread of the simulator's own stands in for it.
    """
    half = share * abs(real.value)
    low, high = real.value - half, real.value + half
    rule = f"within {share:.0%} of the mean or in its 95% interval"
    if real.interval is not None:
        return (min(low, real.interval[0]), max(high, real.interval[1])), rule
    if len(ours.values) > 1:
        spread = _NORMAL * statistics.stdev(ours.values) / math.sqrt(real.count)
        low, high = min(low, real.value - spread), max(high, real.value + spread)
        rule = f"within {share:.0%} of the mean or as far as chance takes so few episodes"
    return (low, high), rule


def share_band(successes: int, count: int) -> tuple[Band, str]:
    """Wilson's 95% interval of a share."""
    z2 = _NORMAL**2
    middle = (successes + z2 / 2) / (count + z2)
    half = _NORMAL * math.sqrt(successes * (count - successes) / count + z2 / 4) / (count + z2)
    return (max(middle - half, 0.0), min(middle + half, 1.0)), "in the share's 95% interval"


def within_spread(mean: float, deviation: float) -> tuple[Band, str]:
    """Within a standard deviation of the game's mean."""
    return (mean - deviation, mean + deviation), "within a standard deviation"


def within_factor(means: Sequence[float], factor: float = 1.5) -> tuple[Band, str]:
    """Within a factor of what was published, from the least to the greatest."""
    return (min(means) / factor, max(means) * factor), f"within a factor of {factor:g}"
