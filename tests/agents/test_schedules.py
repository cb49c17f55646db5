"""Schedules: their values at the ends, in between, and beyond."""

import itertools

import pytest

from agents.losses.schedules import Schedule


def test_linear_schedule_warms_up_then_falls_and_stays_at_its_end() -> None:
    schedule = Schedule(start=1.0, end=0.2, warmup=0.1)
    assert schedule(0.0) == 0.0
    assert schedule(0.05) == pytest.approx(0.5)
    assert schedule(0.1) == pytest.approx(1.0)
    assert schedule(0.55) == pytest.approx(0.6)
    assert schedule(1.0) == pytest.approx(0.2) and schedule(1.7) == pytest.approx(0.2)


def test_schedule_that_ends_before_training_does():
    schedule = Schedule(start=1.0, end=0.0, warmup=0.1, until=0.5)
    assert schedule(0.05) == pytest.approx(0.5) and schedule(0.1) == 1.0 and schedule(0.3) == pytest.approx(0.5)
    assert schedule(0.5) == schedule(0.7) == schedule(1.0) == 0.0
    assert Schedule(start=2.0, end=1.0, shape="cosine", until=0.5)(0.25) == pytest.approx(1.5)


def test_cosine_schedule_is_half_way_in_the_middle_and_falls_monotonically() -> None:
    schedule = Schedule(start=2.0, end=1.0, shape="cosine")
    values = [schedule(i / 20) for i in range(21)]
    assert values[0] == 2.0 and values[10] == pytest.approx(1.5) and values[20] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert Schedule.constant(0.3)(0.0) == Schedule.constant(0.3)(0.9) == 0.3


@pytest.mark.parametrize("bad", [{"warmup": 1.0}, {"warmup": -0.1}, {"shape": "step"}, {"until": 0.0}, {"until": 1.1}])
def test_impossible_schedules_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(bad)))):
        Schedule(start=1.0, end=0.0, **bad)
