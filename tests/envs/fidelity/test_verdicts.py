"""Rows, bands and verdicts: what counts as equal to the game, and what many or few observations change of it."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as some

from envs.fidelity.verdicts import (
    Figure,
    Row,
    exactly,
    mean_figure,
    median_figure,
    near_mean,
    quartiles,
    share_band,
    t_quantile,
    within_factor,
    within_spread,
)

NUMBERS = some.floats(-1e3, 1e3, allow_nan=False)
LISTS = some.lists(NUMBERS, min_size=2, max_size=30)


def row(value, interval, band):
    return Row("group", "name", "unit", Figure(0.0), Figure(value, interval), band, "rule")


@given(NUMBERS, some.floats(0, 100), NUMBERS, some.floats(0, 100))
def test_a_verdict_says_where_value_and_interval_lie(value, half, low, width):
    verdict = row(value, (value - half, value + half), (low, low + width)).verdict
    if low <= value <= low + width:
        assert verdict == "inside"
    elif value + half < low or value - half > low + width:
        assert verdict == "outside"
    else:
        assert verdict == "open"


def test_an_exact_value_outside_the_band_is_never_open():
    assert row(1.1, None, (0.0, 1.0)).verdict == "outside"
    assert row(1.0, None, (0.0, 1.0)).verdict == "inside"


@given(LISTS)
def test_the_interval_of_a_mean_is_the_textbooks(values):
    figure = mean_figure(values)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    assert figure.value == pytest.approx(statistics.mean(values), abs=1e-6)
    assert figure.interval == pytest.approx((figure.value - half, figure.value + half), abs=1e-6)
    assert figure.values == tuple(values) and figure.count == len(values)


def test_means_over_many_episodes_weigh_as_many():
    figure = mean_figure([1.0, 3.0], weights=[3, 1])
    assert (figure.value, figure.count, figure.values) == (1.5, 4, (3.0,))


def test_quantiles_of_t_fall_to_those_of_the_normal_distribution():
    quantiles = [t_quantile(n) for n in range(1, 200)]
    assert all(a >= b for a, b in itertools.pairwise(quantiles))
    assert quantiles[0] == 12.71 and 1.96 <= quantiles[-1] < 1.98
    assert t_quantile(29) == pytest.approx(2.045, abs=0.005) and t_quantile(59) == pytest.approx(2.001, abs=0.005)


@given(LISTS, LISTS)
def test_bands_hold_the_games_own_value(real, ours):
    mean, mine = mean_figure(real), mean_figure(ours)
    for band, value in (
        (near_mean(mean, mine)[0], mean.value),
        (quartiles(real)[0], median_figure(real).value),
        (exactly(mean.value)[0], mean.value),
        (within_spread(mean.value, 2.0)[0], mean.value),
    ):
        assert band[0] <= value <= band[1]


def test_few_real_episodes_make_a_wide_band():
    ours = mean_figure([10.0, 12.0, 14.0])
    many, few = mean_figure([10.0, 11.0] * 20), mean_figure([10.0, 11.0])
    one = Figure(10.5)
    widths = [high - low for low, high in (near_mean(real, ours)[0] for real in (many, few, one))]
    assert widths[0] == pytest.approx(2.1) and widths[1] > widths[0] and widths[2] > widths[0]


@given(some.integers(0, 50), some.integers(1, 50))
def test_a_share_lies_in_its_interval(successes, more):
    count = successes + more
    (low, high), _ = share_band(successes, count)
    assert 0 <= low <= successes / count <= high <= 1


def test_a_factor_reaches_both_ways_from_all_that_was_published():
    assert within_factor([1.0, 3.0])[0] == pytest.approx((1 / 1.5, 4.5))
