"""The vector operations of the engine against the same rules in plain NumPy, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numba import njit

from envs.engine.movement import ARRIVED
from envs.engine.neighbours import KEY_FLYER, KEY_WALKER
from envs.engine.simd.collisions import CORE, EDGE, SAME_PLACE, collide_lanes, number_lanes, share_lanes
from envs.engine.simd.lookup import (
    box_lanes,
    boxes_in_window,
    first_bit,
    lanes_in_reach,
    lanes_in_window,
    lanes_span,
    owners_of_all,
    pack_rows,
    see_lanes,
)
from envs.engine.simd.steps import AHEAD, begin_steps
from envs.engine.state import layout as st
from envs.engine.state.layout import ANCHORED, IDLE, LANES, MOVING, OWNERS, RESTING, TELEPORT

PLACES = 2 * LANES  # in these tests: two groups of sixteen
F = np.float32


@njit
def in_reach(floats, ints, x, y, reach, wanted):  # type: ignore[no-untyped-def]
    return lanes_in_reach(floats, ints, 0, PLACES, st.N_INNER, F(x), F(y), F(reach), np.int32(wanted))


@njit
def span(floats, lanes):  # type: ignore[no-untyped-def]
    return lanes_span(floats, 0, PLACES, st.N_X, st.N_Y, lanes)


@njit
def see(floats, ints, at, start, others):  # type: ignore[no-untyped-def]
    see_lanes(floats, ints, at, start, others, PLACES)


@njit
def in_window(floats, ints, x0, x1, y0, y1, wanted):  # type: ignore[no-untyped-def]
    window = F(x0), F(x1), F(y0), F(y1)
    return lanes_in_window(floats, ints, 0, PLACES, st.N_PX, st.N_PY, *window, np.int32(wanted))


@njit
def boxes(floats, ints, x0, x1, y0, y1, wanted):  # type: ignore[no-untyped-def]
    for at in range(0, PLACES, LANES):
        box_lanes(floats, ints, at, PLACES)
    return boxes_in_window(floats, ints, 0, PLACES, F(x0), F(x1), F(y0), F(y1), np.int32(wanted))


@njit
def common_owner(ints):  # type: ignore[no-untyped-def]
    return owners_of_all(ints, 0, PLACES)


@njit
def pack(array, first, last):  # type: ignore[no-untyped-def]
    return pack_rows(array, first, last)


@njit
def begin(floats, ints, start):  # type: ignore[no-untyped-def]
    begin_steps(floats, ints, start, PLACES)


@njit
def number(ints, at, lanes, first):  # type: ignore[no-untyped-def]
    number_lanes(ints, at, lanes, first, PLACES)


@njit
def collide(floats, ints, start, first, many, lanes):  # type: ignore[no-untyped-def]
    number_lanes(ints, start, (1 << LANES) - 1, start - first, PLACES)
    return collide_lanes(floats, ints, start, first, many, lanes, PLACES)


@njit
def share(floats, ints, start, first, many, lanes):  # type: ignore[no-untyped-def]
    number_lanes(ints, start, (1 << LANES) - 1, start - first, PLACES)
    share_lanes(floats, ints, start, first, many, lanes, PLACES)


@njit
def lowest(bits):  # type: ignore[no-untyped-def]
    return first_bit(bits)


def bits_of(chosen: np.ndarray) -> int:
    return sum(1 << int(n) for n in np.flatnonzero(chosen))


def collision(floats: np.ndarray, ints: np.ndarray, k: int, n: int) -> tuple[list[Any], bool]:
    """What the unit at place `n` does to that at `k`: push, wall and side.

    Also whether they touch, the other an ally that rests.
    """
    zero, one, half = F(0), F(1), F(0.5)
    f, i, other_f, other_i = floats[:, k], ints[:, k], floats[:, n], ints[:, n]
    mobility, moving = other_i[st.NI_MOBILITY], i[st.NI_MOBILITY] == MOVING
    if mobility == TELEPORT:
        return [zero] * 5, False
    ux, uy = f[st.N_UX], f[st.N_UY]
    dx, dy = f[st.N_PX] - other_f[st.N_PX], f[st.N_PY] - other_f[st.N_PY]
    near = dx * dx + dy * dy
    square = near
    if near < F(SAME_PLACE):
        dx = dy = F(EDGE) if other_i[st.NI_SLOT] < i[st.NI_SLOT] else F(-EDGE)
        square = F(2 * EDGE * EDGE)
    inverse = one / np.sqrt(square)
    reach = other_f[st.N_INNER] + f[st.N_INNER]
    touches = near < reach * reach
    allied = other_i[st.NI_KEY] & i[st.NI_KEY] & OWNERS != 0
    presses = -(ux * dx + uy * dy) * inverse > 0
    pressed = other_f[st.N_VX] * dx + other_f[st.N_VY] * dy > 0
    facing = allied and mobility == MOVING and presses and pressed
    push = zero
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
        elif mobility in (IDLE, RESTING):
            yields = one if moving else half
        else:
            yields = one if moving else zero
        push = yields * (reach * inverse - one)
    into = zero
    if (mobility != MOVING or not allied or facing) and presses and other_i[st.NI_SLOT] != i[st.NI_TARGET]:
        into = -(ux * dx + uy * dy) * inverse
    wall = into * inverse
    side = -into if facing or uy * dx > ux * dy else into
    return [push * dx, push * dy, -(wall * dx), -(wall * dy), side], bool(touches and allied and mobility == RESTING)


def near(floats: np.ndarray, ints: np.ndarray, k: int, first: int, many: int, at: tuple[int, int]) -> list[int]:
    """The first `many` places from `first` on that are near the unit at place `k`, but its own."""
    found = []
    for n in range(first, first + many):
        dx, dy = floats[at[0], k] - floats[at[0], n], floats[at[1], k] - floats[at[1], n]
        reach = floats[st.N_ABOUT, k] + floats[st.N_INNER, n]
        if n != k and ints[st.NI_GROUP, k] == ints[st.NI_GROUP, n] and dx * dx + dy * dy <= reach * reach:
            found.append(n)
    return found


@some.composite
def crowds(draw: some.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of sixteen units within a few radii of the origin, some on the same place."""
    random = np.random.default_rng(draw(some.integers(0, 2**32 - 1)))
    floats = random.normal(size=(st.NUM_NEAR_FLOATS, PLACES)).astype(F)
    ints = np.zeros((st.NUM_NEAR_INTS, PLACES), np.int32)
    floats[[st.N_X, st.N_Y]] *= F(draw(some.sampled_from([0.3, 1.0, 3.0])))
    same = random.random(PLACES) < draw(some.sampled_from([0.0, 0.3]))
    floats[st.N_X, same] = floats[st.N_Y, same] = 0.0
    floats[[st.N_VX, st.N_VY]] *= F(0.2)
    floats[st.N_INNER] = random.uniform(0.2, 1.2, PLACES)
    floats[st.N_PACE] = random.uniform(0.2, 1.0, PLACES)
    floats[st.N_STEP] = random.choice([0.0, 0.2], PLACES, p=[0.2, 0.8])
    angle = random.uniform(0.0, 2 * np.pi, PLACES)
    floats[st.N_UX], floats[st.N_UY] = np.cos(angle), np.sin(angle)
    ints[st.NI_KEY] = random.choice([1 << 1, 1 << 2], PLACES) | random.choice([KEY_WALKER, KEY_FLYER], PLACES)
    ints[st.NI_GROUP] = random.integers(0, draw(some.sampled_from([1, 2, PLACES])), PLACES)
    ints[st.NI_MOBILITY] = random.choice([ANCHORED, IDLE, RESTING, MOVING, MOVING, TELEPORT], PLACES)
    ints[st.NI_SLOT] = random.permutation(PLACES)
    ints[st.NI_TARGET] = random.integers(-1, PLACES, PLACES)
    resting = np.isin(ints[st.NI_MOBILITY], [ANCHORED, IDLE, RESTING])
    floats[st.N_VX, resting] = floats[st.N_VY, resting] = 0.0
    for start in (0, LANES):
        begin(floats, ints, start)
    return floats, ints


places = some.floats(-1.5, 1.5, width=32)
firsts = some.integers(0, PLACES - LANES)
ends = some.integers(0, PLACES)
stretches = some.tuples(ends, ends).map(lambda two: (min(two), abs(two[0] - two[1])))
lane_bits = some.integers(0, (1 << LANES) - 1)


@settings(max_examples=150, deadline=None)
@given(crowds(), places, places, some.floats(0.0, 3.0, width=32), some.sampled_from([1 << 1, 1 << 2, KEY_FLYER, 6, 1]))
def test_lanes_in_reach_are_those_within_the_distance_that_are_wanted(
    crowd: tuple[np.ndarray, np.ndarray], x: float, y: float, reach: float, wanted: int
) -> None:
    floats, ints = crowd[0][:, :LANES], crowd[1][:, :LANES]
    dx, dy = floats[st.N_X] - F(x), floats[st.N_Y] - F(y)
    most = floats[st.N_INNER] + F(reach)
    expected = (dx * dx + dy * dy <= most * most) & (ints[st.NI_KEY] & wanted != 0)
    assert in_reach(*crowd, x, y, reach, wanted) == bits_of(expected)


@settings(max_examples=50, deadline=None)
@given(crowds(), some.integers(1, (1 << LANES) - 1))
def test_the_span_of_lanes_is_their_rectangle(crowd: tuple[np.ndarray, np.ndarray], lanes: int) -> None:
    inside = crowd[0][:, :LANES][:, (lanes >> np.arange(LANES)) & 1 != 0]
    x, y = inside[st.N_X], inside[st.N_Y]
    assert span(crowd[0], lanes) == (x.min(), x.max(), y.min(), y.max(), inside[st.N_ABOUT].max())


@settings(max_examples=100, deadline=None)
@given(crowds(), firsts, firsts, lane_bits)
def test_units_are_seen_by_the_owners_of_those_whose_sight_reaches_them(
    crowd: tuple[np.ndarray, np.ndarray], at: int, start: int, others: int
) -> None:
    floats, ints = crowd
    floats[[st.N_RADIUS, st.N_SIGHT]] = np.abs(floats[[st.N_RADIUS, st.N_SIGHT]])
    ints[st.NI_SEEN] = np.arange(PLACES) % 3
    see(floats, ints, at, start, others)
    asked = start + np.flatnonzero((others >> np.arange(LANES)) & 1)
    for k in range(at, at + LANES):
        dx, dy = floats[st.N_X, k] - floats[st.N_X, asked], floats[st.N_Y, k] - floats[st.N_Y, asked]
        reach = floats[st.N_RADIUS, k] + floats[st.N_SIGHT, asked]
        owners = ints[st.NI_KEY, asked][dx * dx + dy * dy <= reach * reach] & OWNERS
        assert ints[st.NI_SEEN, k] == np.bitwise_or.reduce(owners, initial=k % 3)


windows = some.tuples(places, places, places, places).map(lambda ends: (*sorted(ends[:2]), *sorted(ends[2:])))


@settings(max_examples=100, deadline=None)
@given(crowds(), windows, some.sampled_from([-1, 1 << 1, 1 << 2, 1 << 3]))
def test_lanes_in_a_window_are_those_inside_that_are_wanted(
    crowd: tuple[np.ndarray, np.ndarray], window: tuple[float, float, float, float], wanted: int
) -> None:
    floats, ints = crowd
    ints[st.NI_KEY, 3] = 0
    x, y, (x0, x1, y0, y1) = floats[st.N_PX, :LANES], floats[st.N_PY, :LANES], window
    expected = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & (ints[st.NI_KEY, :LANES] & wanted != 0)
    assert in_window(floats, ints, *window, wanted) == bits_of(expected)


@settings(max_examples=100, deadline=None)
@given(crowds(), windows, some.sampled_from([-1, 1 << 1, 1 << 2, 1 << 3]), lane_bits, lane_bits)
def test_boxes_in_a_window_are_those_that_meet_it_with_wanted_units(
    crowd: tuple[np.ndarray, np.ndarray], window: tuple[float, float, float, float], wanted: int, one: int, two: int
) -> None:
    floats, ints = crowd
    there = ((one | two << LANES) >> np.arange(PLACES)) & 1 != 0
    ints[st.NI_KEY, ~there] = 0
    expected, (x0, x1, y0, y1) = 0, window
    for block in range(PLACES // LANES):
        units = np.arange(block * LANES, (block + 1) * LANES)[there[block * LANES : (block + 1) * LANES]]
        if len(units) > 0:
            x, y = floats[st.N_X, units], floats[st.N_Y, units]
            meets = x.min() <= x1 and x.max() >= x0 and y.min() <= y1 and y.max() >= y0
            owners = int(np.bitwise_or.reduce(ints[st.NI_KEY, units])) & OWNERS
            expected |= int(meets and owners & wanted != 0) << block
    assert boxes(floats, ints, *window, wanted) & 3 == expected


@settings(max_examples=50, deadline=None)
@given(crowds(), lane_bits, some.booleans())
def test_the_owner_of_all_is_that_of_every_unit_there(
    crowd: tuple[np.ndarray, np.ndarray], there: int, same: bool
) -> None:
    keys = crowd[1][st.NI_KEY, :LANES]
    if same:
        keys[:] = 1 << 2 | KEY_WALKER
    keys[(there >> np.arange(LANES)) & 1 == 0] = 0
    found = common_owner(crowd[1])
    assert found == int(np.bitwise_and.reduce(keys[keys != 0], initial=OWNERS)) & OWNERS
    assert not same or there == 0 or found == 1 << 2


@settings(deadline=None)
@given(lane_bits, some.integers(-40, 40))
def test_numbers_count_the_lanes_one_after_the_other(lanes: int, first: int) -> None:
    ints = np.zeros((st.NUM_NEAR_INTS, PLACES), np.int32)
    number(ints, 5, lanes, first)
    chosen = 5 + np.flatnonzero((lanes >> np.arange(LANES)) & 1)
    np.testing.assert_array_equal(ints[st.NI_NUMBER, chosen], first + np.arange(len(chosen)))


def test_packed_rows_are_the_memory_of_the_entries() -> None:
    array = np.arange(5 * 3 * 4, dtype=F).reshape(5, 3, 4)
    np.testing.assert_array_equal(pack(array, 1, 3), array[1:3].reshape(3, 8))
    pack(array, 4, 5)[2, 3] = -1.0
    assert array[4, 2, 3] == -1.0


@settings(max_examples=50, deadline=None)
@given(crowds())
def test_a_step_begins_with_the_pace_and_without_collisions(crowd: tuple[np.ndarray, np.ndarray]) -> None:
    floats, ints = (array[:, :LANES].copy() for array in crowd)
    begin(*crowd, 0)
    after, moving = crowd[0][:, :LANES], ints[st.NI_MOBILITY] == MOVING
    for v, x, p, wanted in ((st.N_VX, st.N_X, st.N_PX, st.N_WANTED_X), (st.N_VY, st.N_Y, st.N_PY, st.N_WANTED_Y)):
        step = floats[v] * floats[st.N_PACE]
        np.testing.assert_array_equal(after[[v, p, wanted]], [step, floats[x] + step, step])
    np.testing.assert_array_equal(after[st.N_ABOUT], floats[st.N_INNER] + np.where(moving, F(AHEAD), F(0)))
    steps = moving & (floats[st.N_STEP] > 0)
    np.testing.assert_array_equal(after[st.N_UX], np.where(steps, floats[st.N_UX], F(0)))
    assert not after[[st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE]].any()
    assert not crowd[1][st.NI_MET, :LANES].any() and (after[st.N_SHARE] == 1).all()


@settings(max_examples=250, deadline=None)
@given(crowds(), firsts, stretches, lane_bits)
def test_collisions_are_the_rule_written_out_unit_by_unit(
    crowd: tuple[np.ndarray, np.ndarray], start: int, stretch: tuple[int, int], lanes: int
) -> None:
    first, many = stretch
    crowd[1][st.NI_MET] = np.random.default_rng(start).choice([0, ARRIVED & ~1, ARRIVED], PLACES)
    floats, ints = (array.copy() for array in crowd)
    touching = collide(*crowd, start, first, many, lanes)
    rows = [st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE]
    for lane in range(LANES):
        k = start + lane
        found = near(floats, ints, k, first, many, (st.N_PX, st.N_PY)) if (lanes >> lane) & 1 else []
        sums, touched = floats[rows, k], False
        for n in found:
            parts, touches = collision(floats, ints, k, n)
            sums = sums + np.array(parts, F)
            touched |= touches
        np.testing.assert_array_equal(crowd[0][rows, k], sums)
        assert crowd[1][st.NI_MET, k] == ints[st.NI_MET, k] | bool(found)
        assert (touching >> lane) & 1 == touched
    others = np.delete(np.arange(PLACES), np.arange(start, start + LANES))
    np.testing.assert_array_equal(crowd[0][:, others], floats[:, others])


@settings(max_examples=150, deadline=None)
@given(crowds(), firsts, stretches, lane_bits)
def test_the_free_share_of_a_step_takes_half_of_the_room_between_cores(
    crowd: tuple[np.ndarray, np.ndarray], start: int, stretch: tuple[int, int], lanes: int
) -> None:
    first, many = stretch
    crowd[0][st.N_ABOUT] = CORE * crowd[0][st.N_INNER] + 2 * np.hypot(crowd[0][st.N_VX], crowd[0][st.N_VY])
    floats, ints = (array.copy() for array in crowd)
    share(*crowd, start, first, many, lanes)
    for lane in range(LANES):
        k, least = start + lane, 1.0
        for n in near(floats, ints, k, first, many, (st.N_X, st.N_Y)) if (lanes >> lane) & 1 else []:
            if ints[st.NI_MOBILITY, n] == TELEPORT:
                continue
            there = (floats[[st.N_X, st.N_Y], n] - floats[[st.N_X, st.N_Y], k]).astype(np.float64)
            distance = float(np.hypot(*there))
            room = max(distance - CORE * float(floats[st.N_INNER, k] + floats[st.N_INNER, n]), 0.0) / 2
            taken = float(floats[[st.N_VX, st.N_VY], k].astype(np.float64) @ there) / max(distance, 1e-12)
            if taken > room:
                least = min(least, room / taken)
        assert 0.0 <= crowd[0][st.N_SHARE, k] <= 1.0
        assert crowd[0][st.N_SHARE, k] == pytest.approx(least, abs=1e-4)


@settings(deadline=None)
@given(some.integers(1, 2**62))
def test_the_first_bit_is_the_lowest(bits: int) -> None:
    assert lowest(bits) == (bits & -bits).bit_length() - 1
