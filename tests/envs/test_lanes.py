"""The vector operations of the engine against the same rules in plain NumPy, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numba import njit

from envs.engine.lanes import (
    ANCHORED,
    CORE,
    EDGE,
    IDLE,
    LANES,
    MOVING,
    SAME_PLACE,
    TELEPORT,
    collide_lanes,
    first_bit,
    free_share,
    lanes_in_reach,
)

X, Y, VX, VY, RADIUS = (n * LANES for n in range(5))
KEY, MOBILITY, SLOT = (n * LANES for n in range(3))
PLANE, OTHER_PLANE = 1 << 21, 1 << 22
F = np.float32


@njit
def in_reach(floats, ints, x, y, reach, wanted):  # type: ignore[no-untyped-def]
    return lanes_in_reach(floats, ints, X, Y, RADIUS, KEY, F(x), F(y), F(reach), np.int32(wanted))


@njit
def collide(floats, ints, found, x, y, radius, ux, uy, key, moving, target, before):  # type: ignore[no-untyped-def]
    return collide_lanes(
        floats, ints, X, Y, VX, VY, RADIUS, KEY, MOBILITY, SLOT, found, F(x), F(y), F(radius), F(ux), F(uy),
        np.int32(key), np.int32(moving), np.int32(target), np.int32(before),
    )  # fmt: skip


@njit
def share(floats, ints, found, x, y, radius, mx, my):  # type: ignore[no-untyped-def]
    return free_share(floats, ints, X, Y, RADIUS, MOBILITY, found, F(x), F(y), F(radius), F(mx), F(my))


@njit
def lowest(bits):  # type: ignore[no-untyped-def]
    return first_bit(bits)


def bits_of(chosen: np.ndarray) -> int:
    return sum(1 << n for n in np.flatnonzero(chosen))


def chosen_by(bits: int) -> np.ndarray:
    return (bits >> np.arange(LANES)) & 1 != 0


def sum_of(values: np.ndarray) -> np.float32:
    """Halves added until one is left, as the engine does."""
    while len(values) > 1:
        values = values[: len(values) // 2] + values[len(values) // 2 :]
    return values[0]


def expected_collision(
    floats: np.ndarray, ints: np.ndarray, found: int, x: Any, y: Any, radius: Any, ux: Any, uy: Any, key: int,
    moving: int, target: int, before: int,
) -> tuple[Any, ...]:  # fmt: skip
    """The rule of `collide_lanes`, lane by lane in words, in float32."""
    zero, one, half = F(0), F(1), F(0.5)
    pushes_x, pushes_y, walls_x, walls_y, sides = (np.zeros(LANES, F) for _ in range(5))
    touched = np.zeros(LANES, bool)
    for n in np.flatnonzero(chosen_by(found)):
        mobility = ints[MOBILITY + n]
        if mobility == TELEPORT:
            continue
        dx, dy = x - floats[X + n], y - floats[Y + n]
        near = dx * dx + dy * dy
        square = near
        if near < F(SAME_PLACE):
            dx = dy = F(EDGE) if n < before else F(-EDGE)
            square = F(2 * EDGE * EDGE)
        inverse = one / np.sqrt(square)
        reach = floats[RADIUS + n] + radius
        touches = near < reach * reach
        allied = ints[KEY + n] & key != 0
        presses = -(ux * dx + uy * dy) * inverse > 0
        pressed = floats[VX + n] * dx + floats[VY + n] * dy > 0
        facing = allied and mobility == MOVING and presses and pressed
        if touches:
            if allied:
                if mobility == ANCHORED:
                    yields = one
                elif mobility == MOVING and moving and presses != pressed:
                    yields = one if presses else zero
                else:
                    yields = half
            elif mobility == MOVING:
                yields = half if moving else zero
            elif mobility == IDLE:
                yields = one if moving else half
            else:
                yields = one if moving else zero
            push = yields * (reach * inverse - one)
            pushes_x[n], pushes_y[n] = push * dx, push * dy
            touched[n] = allied and mobility == IDLE
        solid = mobility != MOVING or not allied or facing
        if solid and presses and ints[SLOT + n] != target:
            into = -(ux * dx + uy * dy) * inverse
            walls_x[n], walls_y[n] = into * inverse * dx, into * inverse * dy
            sides[n] = -into if facing or uy * dx > ux * dy else into
    sums = sum_of(pushes_x), sum_of(pushes_y), -sum_of(walls_x), -sum_of(walls_y), sum_of(sides)
    return *sums, bits_of(touched)


@some.composite
def crowds(draw: some.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Sixteen units within a few radii of the origin, some on the same place."""
    random = np.random.default_rng(draw(some.integers(0, 2**32 - 1)))
    floats = np.zeros(5 * LANES, F)
    floats[X:VX] = random.normal(0.0, draw(some.sampled_from([0.3, 1.0, 3.0])), 2 * LANES)
    same = random.random(LANES) < draw(some.sampled_from([0.0, 0.3]))
    floats[X : X + LANES][same] = 0.0
    floats[Y : Y + LANES][same] = 0.0
    floats[VX:RADIUS] = random.normal(0.0, 0.2, 2 * LANES)
    floats[RADIUS:] = random.uniform(0.2, 1.2, LANES)
    ints = np.zeros(3 * LANES, np.int32)
    ints[KEY : KEY + LANES] = random.choice([1 << 1, 1 << 2], LANES) | random.choice([PLANE, OTHER_PLANE], LANES)
    ints[MOBILITY : MOBILITY + LANES] = random.choice([ANCHORED, IDLE, MOVING, MOVING, TELEPORT], LANES)
    ints[SLOT : SLOT + LANES] = random.permutation(LANES)
    resting = ints[MOBILITY : MOBILITY + LANES] != MOVING
    floats[VX : VX + LANES][resting] = 0.0
    floats[VY : VY + LANES][resting] = 0.0
    return floats, ints


places = some.floats(-1.5, 1.5, width=32)
lane_bits = some.integers(0, (1 << LANES) - 1)


@settings(max_examples=150, deadline=None)
@given(crowds(), places, places, some.floats(0.0, 3.0, width=32), some.sampled_from([1 << 1, 1 << 2, PLANE, 6, 1]))
def test_lanes_in_reach_are_those_within_the_distance_that_are_wanted(
    crowd: tuple[np.ndarray, np.ndarray], x: float, y: float, reach: float, wanted: int
) -> None:
    floats, ints = crowd
    dx, dy = floats[X : X + LANES] - F(x), floats[Y : Y + LANES] - F(y)
    most = floats[RADIUS:] + F(reach)
    expected = (dx * dx + dy * dy <= most * most) & (ints[KEY : KEY + LANES] & wanted != 0)
    assert in_reach(floats, ints, x, y, reach, wanted) == bits_of(expected)


@settings(max_examples=250, deadline=None)
@given(
    crowds(), lane_bits, places, places, some.sampled_from([0.375, 0.5, 1.0]), some.floats(0.0, 6.25, width=32),
    some.booleans(), some.integers(-1, LANES), some.integers(-LANES, 2 * LANES),
)  # fmt: skip
def test_a_collision_is_the_rule_written_out_lane_by_lane(
    crowd: tuple[np.ndarray, np.ndarray], found: int, x: float, y: float, radius: float, angle: float, moving: bool,
    target: int, before: int,
) -> None:  # fmt: skip
    floats, ints = crowd
    ux, uy = (F(np.cos(angle)), F(np.sin(angle))) if moving else (F(0), F(0))
    got = collide(floats, ints, found, x, y, radius, ux, uy, 1 << 1, int(moving), target, before)
    expected = expected_collision(
        floats, ints, found, F(x), F(y), F(radius), ux, uy, 1 << 1, int(moving), target, before
    )
    np.testing.assert_array_equal(np.array(got[:5], F), np.array(expected[:5], F))
    assert got[5] == expected[5]


@settings(max_examples=150, deadline=None)
@given(crowds(), lane_bits, places, places, some.floats(-0.625, 0.625, width=32), some.floats(-0.625, 0.625, width=32))
def test_the_free_share_of_a_step_takes_half_of_the_room_between_cores(
    crowd: tuple[np.ndarray, np.ndarray], found: int, x: float, y: float, mx: float, my: float
) -> None:
    floats, ints = crowd
    free = share(floats, ints, found, x, y, 0.5, mx, my)
    assert 0.0 <= free <= 1.0
    least = 1.0
    for n in np.flatnonzero(chosen_by(found) & (ints[MOBILITY : MOBILITY + LANES] != TELEPORT)):
        there = np.array([floats[X + n] - F(x), floats[Y + n] - F(y)], np.float64)
        distance = float(np.hypot(*there))
        room = max(distance - CORE * (0.5 + float(floats[RADIUS + n])), 0.0) / 2
        taken = float(np.array([mx, my]) @ there) / max(distance, 1e-12)
        if taken > room:
            least = min(least, room / taken)
    assert free == pytest.approx(least, abs=1e-4)


@given(some.integers(1, 2**62))
def test_the_first_bit_is_the_lowest(bits: int) -> None:
    assert lowest(bits) == (bits & -bits).bit_length() - 1
