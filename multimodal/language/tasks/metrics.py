"""GLUE's metrics (arXiv 1804.07461), by scikit-learn and SciPy, and intervals for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, rankdata, spearmanr, t
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

# Labels and what was told, both `[n]`: class numbers, or scores.
Metric = Callable[[np.ndarray, np.ndarray], float]
RESAMPLES = 1000
# Resampled labels that are held at a time.
HELD = 2**21


def _correlation(of: Callable[..., object], truth: np.ndarray, told: np.ndarray) -> float:
    """0 where a side is constant: nothing is told then."""
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(told) == 0:
        return 0.0
    return float(of(truth, told).statistic)  # type: ignore[attr-defined]


METRICS: dict[str, Metric] = {
    "accuracy": lambda truth, told: float(accuracy_score(truth, told)),
    "f1": lambda truth, told: float(f1_score(truth, told, zero_division=0.0)),
    "matthews": lambda truth, told: float(matthews_corrcoef(truth, told)),
    "pearson": lambda truth, told: _correlation(pearsonr, truth, told),
    "spearman": lambda truth, told: _correlation(spearmanr, truth, told),
}
"""F1 is of class 1 of two."""


# The libraries' functions take a millisecond or more a call. For thousands of resamplings the same figures are computed
# here for many at a time, of labels `[r, n]`; the tests hold them to the libraries'.


def _accuracy(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    return np.asarray((truth == told).mean(-1))


def _f1(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    hits = ((truth == 1) & (told == 1)).sum(-1)
    return np.asarray(2 * hits / np.maximum((truth == 1).sum(-1) + (told == 1).sum(-1), 1))


def _matthews(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    n = truth.shape[-1]
    classes = range(int(max(truth.max(), told.max())) + 1)
    true = np.stack([(truth == number).sum(-1) for number in classes], -1).astype(float)
    named = np.stack([(told == number).sum(-1) for number in classes], -1).astype(float)
    covariance = (truth == told).sum(-1) * n - (true * named).sum(-1)
    spread = (n**2 - (true**2).sum(-1)) * (n**2 - (named**2).sum(-1))
    return np.asarray(np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1)), 0.0))


def _pearson(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    a, b = truth - truth.mean(-1, keepdims=True), told - told.mean(-1, keepdims=True)
    spread = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.asarray(np.where(spread > 1e-12, (a * b).sum(-1) / np.maximum(spread, 1e-12), 0.0))


def _spearman(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    return _pearson(rankdata(truth, axis=-1), rankdata(told, axis=-1))


RESAMPLED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{100 * self.value:.1f}"
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def over_samples(name: str, truth: np.ndarray, told: np.ndarray) -> Estimate:
    """A metric with the interval over test samples: percentiles of 1,000 resamplings, the same every time."""
    rng = np.random.default_rng(0)
    at_once = max(1, HELD // len(truth))
    found = []
    for first in range(0, RESAMPLES, at_once):
        chosen = rng.integers(len(truth), size=(min(at_once, RESAMPLES - first), len(truth)))
        found.append(RESAMPLED[name](truth[chosen], told[chosen]))
    low, high = np.percentile(np.concatenate(found), (2.5, 97.5))
    return Estimate(value=METRICS[name](truth, told), low=float(low), high=float(high))


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of runs with different seeds, and Student's interval; of one run no interval is known (NaN)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(value=mean, low=float("nan"), high=float("nan"))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(value=mean, low=mean - half, high=mean + half)
