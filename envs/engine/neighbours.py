"""The units of a loop by place, copied together so that a look-up reads few and contiguous entries.

Places hold the units of one world after those of another: small worlds share the lanes of a vector operation. The cells
of a world count from the place `W_START` of its first unit.

Up to `FEW_UNITS` units keep the order of their slots and a look-up goes through all of them, sixteen at a time
(lanes.py). More are sorted by grid cell in every loop, and a look-up goes through the cells around a point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.engine import state as st
from envs.engine.lanes import ANCHORED, pack_rows
from envs.engine.state import inline_kernel, kernel

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
FINEST = 2  # world units a cell, at least
GROUPS = 8  # numbers of NI_GROUP a world
ONE_CELL = 512  # cell size that puts all units into one
RADIUS_PARTS = np.float32(1024.0)  # of a world unit, in which W_WIDEST and W_LARGEST are kept


class Near(NamedTuple):
    """The units of a loop by place."""

    f: np.ndarray  # float32 [NUM_NEAR_FLOATS, places]
    i: np.ndarray  # int32 [NUM_NEAR_INTS, places]


@inline_kernel
def bit_scale(static):
    """Cells of the coarse maps per world unit."""
    size = max(static.pathable.shape[0], static.pathable.shape[1])
    return np.float32(1.0) / np.float32((size + st.BIT_ROWS - 1) // st.BIT_ROWS)


@inline_kernel
def bit_range(scale, x, reach):
    """First and last column (or row) of the coarse maps that [x - reach, x + reach] touches."""
    first = max(int((x - reach) * scale), 0)
    return first, min(int((x + reach) * scale), st.BIT_ROWS - 1)


@inline_kernel
def cell_range(state, b, x, y, reach):
    """The cells that the square of `reach` around (x, y) touches: first and last column, first and last row."""
    columns, rows = state.w[b, st.W_COLUMNS], state.w[b, st.W_ROWS]
    if columns == 1:
        return 0, 0, 0, 0
    scale = np.float32(1.0) / np.float32(state.w[b, st.W_CELL])
    c0, c1 = max(int((x - reach) * scale), 0), min(int((x + reach) * scale), columns - 1)
    r0, r1 = max(int((y - reach) * scale), 0), min(int((y + reach) * scale), rows - 1)
    return c0, c1, r0, r1


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
    """Before the first loop of a call: brings keys and radii up to date, for units may have come, gone or changed."""
    uf, ui, alive = state.uf[b], state.ui[b], state.alive[b]
    count = state.w[b, st.W_ALIVE]
    widest, largest = np.float32(0.0), np.float32(0.0)
    for n in range(count):
        u, v = uf[alive[n]], ui[alive[n]]
        describe(static, u, v)
        widest = max(widest, u[st.F_INNER])
        largest = max(largest, u[st.F_RADIUS])
    state.w[b, st.W_WIDEST] = int(np.ceil(widest * RADIUS_PARTS))
    state.w[b, st.W_LARGEST] = int(np.ceil(largest * RADIUS_PARTS))
    state.w[b, st.W_LISTED] = count
    state.w[b, st.W_STALE] = 1


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
def leave_places(near, b, first, many):
    """Leaves places of world `b` without units: nobody there moves, and nobody meets them."""
    for place in range(first, first + many):
        k = np.uintp(place)
        near.f[st.N_X, k] = np.float32(0.0)
        near.f[st.N_Y, k] = np.float32(0.0)
        near.i[st.NI_KEY, k] = 0
        near.i[st.NI_MOBILITY, k] = ANCHORED
        near.i[st.NI_GROUP, k] = -1 - place
        near.i[st.NI_WORLD, k] = b


@inline_kernel
def list_places(state, static, near, b):
    """Lists the units of world `b` from the place `W_START` on, and fills its `cells`.

    Places of units that have died since `begin_places` stay empty.
    """
    if state.w[b, st.W_ALIVE] <= st.FEW_UNITS:
        list_few(state, static, near, b)
        state.w[b, st.W_STALE] = 0
    else:
        sort_by_cell(state, static, near, b)
    end = state.w[b, st.W_START] + state.w[b, st.W_ALIVE]
    leave_places(near, b, end, state.w[b, st.W_START] + state.w[b, st.W_LISTED] - end)
    state.w[b, st.W_LISTED] = state.w[b, st.W_ALIVE]


@inline_kernel
def list_few(state, static, near, b):
    """Every unit in the order of `alive`, all in one cell."""
    uf, ui, alive = state.uf[b], state.ui[b], state.alive[b]
    count, start = state.w[b, st.W_ALIVE], state.w[b, st.W_START]
    for n in range(count):
        i = np.uintp(alive[n])
        list_place(state, static, uf[i], ui[i], b, i, near, np.uintp(start + n))
    state.w[b, st.W_COLUMNS] = 1
    state.w[b, st.W_ROWS] = 1
    state.w[b, st.W_CELL] = ONE_CELL
    state.cells[b, 0] = 0
    state.cells[b, 1] = count


@kernel
def sort_by_cell(state, static, near, b):
    """A counting sort of the units by grid cell; the units of a cell keep the order of their slots."""
    uf, ui, alive, cells, bits = state.uf[b], state.ui[b], state.alive[b], state.cells[b], state.bits[b, 0]
    count, start = state.w[b, st.W_ALIVE], state.w[b, st.W_START]
    width, height = static.pathable.shape[1], static.pathable.shape[0]
    most = max(st.MIN_CELLS, st.CELLS_PER_UNIT * count)
    cell = FINEST
    while ((width + cell - 1) // cell) * ((height + cell - 1) // cell) > most:
        cell *= 2
    columns, rows = (width + cell - 1) // cell, (height + cell - 1) // cell
    state.w[b, st.W_COLUMNS] = columns
    state.w[b, st.W_ROWS] = rows
    state.w[b, st.W_CELL] = cell
    cells[: columns * rows + 1] = 0
    bits[:, :] = 0
    scale, fine = np.float32(1.0) / np.float32(cell), bit_scale(static)
    for n in range(count):
        i = alive[n]
        x, y, owner = uf[i, st.F_X], uf[i, st.F_Y], ui[i, st.I_OWNER]
        c = np.int32(y * scale) * columns + np.int32(x * scale)
        near.i[st.NI_MOBILITY, start + n] = c
        cells[c] += 1
        if owner < bits.shape[0]:
            bits[owner, int(y * fine)] |= 1 << int(x * fine)
    total = 0
    for c in range(columns * rows + 1):
        total += cells[c]
        cells[c] = total
    for m in range(count):
        n = count - 1 - m  # backwards, because the cells are filled from their ends
        i = alive[n]
        c = near.i[st.NI_MOBILITY, start + n]
        k = cells[c] - 1
        cells[c] = k
        list_place(state, static, uf[i], ui[i], b, i, near, np.uintp(start + k))
