"""The units of a loop by place, copied together so that a look-up reads few and contiguous entries.

Places hold the units of one world after those of another: small worlds share the lanes of a vector operation. A look-up
goes through blocks of sixteen places (simd/lookup.py).

Up to `FEW_UNITS` units keep the order of their slots, and a look-up goes through all of them. More units are sorted now
and then by owner and grid cell: the units of a block then stand near each other. A look-up goes through the blocks
whose boxes it meets. The boxes are made anew in every loop, so what a look-up finds does not depend on the order.

Sums over neighbours depend on the order, in the last bit. So the order follows from what a unit keeps (`I_RANK`),
however loops are divided into calls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.engine.simd.lookup import box_lanes, boxes_in_window, pack_rows
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.layout import ANCHORED
from envs.engine.state.units import rank, rank_grid

# A key holds what a look-up asks of a unit: bits 0..16 its owner, then:
KEY_GROUND = 1 << 17  # can be hit by weapons against ground units
KEY_AIR = 1 << 18
KEY_HITS_GROUND = 1 << 19  # has a weapon against ground units
KEY_HITS_AIR = 1 << 20
KEY_WALKER = 1 << 21  # collides with ground units; no such bit: burrowed, a worker at work, a beacon
KEY_FLYER = 1 << 22
KEY_COLOSSUS = 1 << 23
KEY_RECOVERS = 1 << 24  # regenerates something
KEY_TURN = 1 << 25  # the unit's turn to go around to the left
KEY_PLANES = KEY_WALKER | KEY_FLYER | KEY_COLOSSUS
GROUPS = 8  # numbers of NI_GROUP a world
SORT_PERIOD = 8  # loops between two sortings of many units
RADIUS_PARTS = np.float32(
    1024.0
)  # W_WIDEST, W_LARGEST, W_FARTHEST and W_FASTEST are kept in such parts of a world unit

SLACK = np.float32(1e-3)  # added to windows: more than rounding takes off a reach


class Near(NamedTuple):
    """The units of a loop by place."""

    f: np.ndarray  # float32 [NUM_NEAR_FLOATS, places]
    i: np.ndarray  # int32 [NUM_NEAR_INTS, places]


@inline_kernel
def lanes_before(last, first):
    """Bits of the lanes from place `first` on that stand before place `last`."""
    return (1 << min(last - first, st.LANES)) - 1


@inline_kernel
def describe(static, u, v):
    """Key and inner radius of the unit with the rows `u` and `v`, from its kind and flags."""
    kind, flags = v[st.I_KIND], v[st.I_FLAGS]
    key = (
        (1 << v[st.I_OWNER])
        | static.kind_i[kind, st.KI_TARGETS] * KEY_HITS_GROUND
        | (v[st.I_PHASE] & st.HAND_TURN) * KEY_TURN
    )
    if flags & (st.FLAG_INVULNERABLE | st.FLAG_BURROWED | st.FLAG_PASSING) == 0:
        if flags & st.FLAG_COLOSSUS:
            key |= KEY_COLOSSUS
        else:
            key |= KEY_FLYER if flags & st.FLAG_FLYING else KEY_WALKER
    if flags & st.FLAG_INVULNERABLE == 0:
        if flags & st.FLAG_COLOSSUS:
            key |= KEY_AIR
        key |= KEY_AIR if flags & st.FLAG_FLYING else KEY_GROUND
        if static.kind_i[kind, st.KI_REGENERATES]:
            key |= KEY_RECOVERS
    v[st.I_KEY] = key
    u[st.F_INNER] = static.kind_f[kind, st.K_INNER_RADIUS]


@inline_kernel
def begin_places(state, static, b):
    """Before the first loop of a call: brings keys and radii up to date: units may have come, gone or changed."""
    uf, ui, alive = state.uf[b], state.ui[b], state.alive[b]
    count = state.w[b, st.W_ALIVE]
    if state.w[b, st.W_LOOP] % SORT_PERIOD == 0:
        rank_units(state, static, b)
    widest, largest, farthest, fastest = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for n in range(count):
        u, v = uf[alive[n]], ui[alive[n]]
        describe(static, u, v)
        widest = max(widest, u[st.F_INNER])
        largest = max(largest, u[st.F_RADIUS])
        kind = static.kind_f[v[st.I_KIND]]
        farthest = max(farthest, kind[st.K_SIGHT], kind[st.K_DETECTION])
        fastest = max(fastest, kind[st.K_SPEED] * max(kind[st.K_STIM_FACTOR], np.float32(1.0)))
    state.w[b, st.W_WIDEST] = int(np.ceil(widest * RADIUS_PARTS))
    state.w[b, st.W_LARGEST] = int(np.ceil(largest * RADIUS_PARTS))
    state.w[b, st.W_FARTHEST] = int(np.ceil(farthest * RADIUS_PARTS))
    state.w[b, st.W_FASTEST] = int(np.ceil(fastest * RADIUS_PARTS))


@inline_kernel
def near_units(state, first, last):
    """Room for the units of the worlds from `first` to `last - 1`: what these have of `near_f` and `near_i`."""
    return Near(pack_rows(state.near_f, first, last), pack_rows(state.near_i, first, last))


@inline_kernel
def list_place(state, static, u, v, b, i, near, k):
    """Copies unit `i` of world `b`, with the rows `u` and `v`, to place `k`."""
    near.f[st.N_X, k] = u[st.F_X]
    near.f[st.N_Y, k] = u[st.F_Y]
    near.f[st.N_RADIUS, k] = u[st.F_RADIUS]
    near.f[st.N_INNER, k] = u[st.F_INNER]
    near.f[st.N_PACE, k] = u[st.F_PACE]
    near.f[st.N_SIGHT, k] = static.kind_f[v[st.I_KIND], st.K_SIGHT]
    key = v[st.I_KEY]
    near.i[st.NI_SLOT, k] = i
    near.i[st.NI_KEY, k] = key
    near.i[st.NI_WORLD, k] = b
    near.i[st.NI_LOOP, k] = state.w[b, st.W_LOOP] - 1
    near.i[st.NI_ROW, k] = (b * state.ui.shape[1] + i) * st.INT_ROW
    near.i[st.NI_KIND_ROW, k] = v[st.I_KIND] * st.NUM_KIND_FLOATS
    planes = key & KEY_PLANES
    near.i[st.NI_GROUP, k] = b * GROUPS + planes // KEY_WALKER if planes != 0 else -1 - np.int64(k)


@inline_kernel
def leave_place(near, b, k):
    """Leaves place `k` of world `b` without a unit: nobody there moves, and nobody meets it."""
    near.f[st.N_X, k] = np.float32(0.0)
    near.f[st.N_Y, k] = np.float32(0.0)
    near.i[st.NI_KEY, k] = 0
    near.i[st.NI_MOBILITY, k] = ANCHORED
    near.i[st.NI_GROUP, k] = -1 - np.int64(k)
    near.i[st.NI_WORLD, k] = b


@inline_kernel
def leave_places(near, b, first, many):
    """Leaves `many` places of world `b` from `first` on without units."""
    for place in range(first, first + many):
        leave_place(near, b, np.uintp(place))


@inline_kernel
def leave_dead(state, near, b):
    """Leaves the places of the units of world `b` that have died."""
    for place in range(state.w[b, st.W_START], state.w[b, st.W_START] + state.w[b, st.W_PLACES]):
        k = np.uintp(place)
        if near.i[st.NI_KEY, k] != 0 and state.ui[b, np.uintp(near.i[st.NI_SLOT, k]), st.I_ALIVE] == 0:
            leave_place(near, b, k)


@inline_kernel
def list_places(state, static, near, b):
    """Lists the units of world `b` from the place `W_START` on."""
    state.w[b, st.W_PLACES] = state.w[b, st.W_ALIVE]
    state.w[b, st.W_STALE] = 0
    if state.w[b, st.W_MANY]:
        list_many(state, static, near, b)
    else:
        list_few(state, static, near, b)


@inline_kernel
def list_again(state, static, near, b):
    """Lists the units of world `b` anew between two loops of a call, where that is due."""
    many = (state.w[b, st.W_MANY] != 0) | (state.w[b, st.W_PLACES] > st.FEW_UNITS)
    sorts = many and state.w[b, st.W_LOOP] % SORT_PERIOD == 0
    if sorts or state.w[b, st.W_STALE] != 0:
        if sorts:
            rank_units(state, static, b)
        places, alive = state.w[b, st.W_PLACES], state.w[b, st.W_ALIVE]
        list_places(state, static, near, b)
        leave_places(near, b, state.w[b, st.W_START] + alive, places - alive)


@inline_kernel
def list_few(state, static, near, b):
    """Every unit in the order of its slot."""
    uf, ui, alive = state.uf[b], state.ui[b], state.alive[b]
    start = state.w[b, st.W_START]
    for n in range(state.w[b, st.W_ALIVE]):
        i = np.uintp(alive[n])
        list_place(state, static, uf[i], ui[i], b, i, near, np.uintp(start + n))


@inline_kernel
def rank_units(state, static, b):
    """Notes whether the units of world `b` are many, and ranks them by where they are now."""
    many = state.w[b, st.W_ALIVE] > st.FEW_UNITS
    state.w[b, st.W_MANY] = many
    if many:
        grid = rank_grid(static)
        for n in range(state.w[b, st.W_ALIVE]):
            u, v = state.uf[b, state.alive[b, n]], state.ui[b, state.alive[b, n]]
            v[st.I_RANK] = rank(grid, v[st.I_OWNER], u[st.F_X], u[st.F_Y])


@kernel
def list_many(state, static, near, b):
    """A counting sort of the units by rank. Units of one rank keep the order of their slots."""
    uf, ui, alive, cells = state.uf[b], state.ui[b], state.alive[b], state.cells[b]
    count, start = state.w[b, st.W_ALIVE], state.w[b, st.W_START]
    _, columns, rows, owners = rank_grid(static)
    ranks = columns * rows * owners
    cells[: ranks + 1] = 0
    for n in range(count):
        cells[ui[alive[n], st.I_RANK] + 1] += 1
    for c in range(1, ranks):
        cells[c] += cells[c - 1]
    for n in range(count):
        i = np.uintp(alive[n])
        c = ui[i, st.I_RANK]
        list_place(state, static, uf[i], ui[i], b, i, near, np.uintp(start + cells[c]))
        cells[c] += 1


@inline_kernel
def box_places(state, near, b, count):
    """Brings the boxes of the first `count` places up to date, if world `b` has them all and many units."""
    if state.w[b, st.W_MANY]:
        for first in range(0, count, st.LANES):
            box_lanes(near.f, near.i, first, near.f.shape[1])


@inline_kernel
def blocks_in_window(state, near, b, many, window, owners):
    """The blocks of sixteen places, of `many` from the first of world `b` on, that may have units in a window.

    A bit for each block. All blocks where the world has few units. `window`: x0, x1, y0, y1. `owners`: of units of
    these owners, a bit for each.
    """
    blocks = (many + st.LANES - 1) // st.LANES
    if state.w[b, st.W_MANY] == 0:
        return (1 << blocks) - 1
    x0, x1, y0, y1 = window
    found = boxes_in_window(near.f, near.i, 0, near.f.shape[1], x0, x1, y0, y1, owners) & lanes_before(blocks, 0)
    if blocks > st.LANES:
        for first in range(st.LANES, blocks, st.LANES):
            met = boxes_in_window(near.f, near.i, first, near.f.shape[1], x0, x1, y0, y1, owners)
            found |= (met & lanes_before(blocks, first)) << first
    return found


@inline_kernel
def square(x, y, reach):
    """The window of all that is within `reach` of (x, y)."""
    return x - reach, x + reach, y - reach, y + reach
