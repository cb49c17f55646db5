"""Movement: units step, go around what stands in their way, and push each other apart.

Units collide by their inner radii, ground with ground and air with air. Collision is soft, but no two centres come
nearer than `lanes.CORE` of the sum of those radii: a step takes at most half of the room that is left on the way to
another unit. A unit that attacks or holds its position is never pushed; allies make way for each other, enemies do not;
allies that come towards each other pass on the right. All displacements are found from the same positions before any
is applied.
"""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.lanes import (
    MOVING,
    TELEPORT,
    begin_steps,
    blocked_lanes,
    collide_lanes,
    end_steps,
    first_bit,
    lanes_span,
    lanes_that_move,
    push_steps,
    share_lanes,
    turn_steps,
)
from envs.engine.neighbours import (
    KEY_COLOSSUS,
    KEY_FLYER,
    RADIUS_PARTS,
    cell_range,
    lanes_before,
)
from envs.engine.state import inline_kernel, kernel, nearest_pathable, next_order

DRIFT = np.float32(0.35)  # how far a unit may have moved since it was sorted into its cell
CROWD = np.float32(2.0)  # a unit that bumps into one at rest so near to the common goal has arrived
SMALL = np.float32(1e-3)
ARRIVED = 3  # in NI_MET: it has met others, and stops among them


@inline_kernel
def move_units(state, static, b):
    """Applies the displacements that `decide` left, with collisions, obstacles and the map's bounds."""
    near_f, near_i, uf, ui = state.near_f, state.near_i, state.uf[b], state.ui[b]
    count, places = state.w[b, st.W_ALIVE], near_f.shape[2]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    movers = 0
    for first in range(0, count, st.LANES):
        movers |= lanes_that_move(near_i, at_i + first, places) & lanes_before(count, first)
    if movers == 0:
        return
    for first in range(0, count, st.LANES):
        begin_steps(near_f, near_i, at_f + first, at_i + first, places)
    met, arrived = False, False
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near_i, at_i + first, places) & lanes_before(count, first)
        if movers != 0:
            some_met, some_arrived = collide(state, b, first, movers, places)
            met, arrived = met or some_met, arrived or some_arrived
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near_i, at_i + first, places) & lanes_before(count, first)
        turned = movers & blocked_lanes(near_f, near_i, at_f + first, at_i + first, places)
        if turned != 0:
            turned = movers & turn_steps(near_f, near_i, at_f + first, at_i + first, places)
        while turned != 0:
            k = first + first_bit(turned)
            turned &= turned - 1
            v = ui[np.uintp(near_i[b, st.NI_SLOT, k])]
            hand = near_i[b, st.NI_HAND, k] & (st.FLAG_AROUND | st.FLAG_LEFT)
            v[st.I_FLAGS] = (v[st.I_FLAGS] & ~(st.FLAG_AROUND | st.FLAG_LEFT)) | hand
        if met and movers != 0:
            limited = movers & push_steps(near_f, near_i, at_f + first, at_i + first, places)
            if limited != 0:
                keep_apart(state, b, first, limited, places)
    x0, y0 = static.bounds[0], static.bounds[1]
    x1, y1 = static.bounds[2] - SMALL, static.bounds[3] - SMALL
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near_i, at_i + first, places) & lanes_before(count, first)
        if movers == 0:
            continue
        moved, paced = end_steps(near_f, near_i, at_f + first, at_i + first, places, movers, x0, y0, x1, y1)
        while paced != 0:
            k = first + first_bit(paced)
            paced &= paced - 1
            uf[np.uintp(near_i[b, st.NI_SLOT, k]), st.F_PACE] = near_f[b, st.N_PACE, k]
        while moved != 0:
            k = first + first_bit(moved)
            moved &= moved - 1
            i = np.uintp(near_i[b, st.NI_SLOT, k])
            nx, ny = near_f[b, st.N_PX, k], near_f[b, st.N_PY, k]
            if static.options[st.O_OBSTACLES] and near_i[b, st.NI_KEY, k] & (KEY_FLYER | KEY_COLOSSUS) == 0:
                if near_i[b, st.NI_MOBILITY, k] == TELEPORT:
                    nx, ny = nearest_pathable(static, nx, ny)
                else:
                    nx, ny = slide(static, near_f[b, st.N_X, k], near_f[b, st.N_Y, k], nx, ny)
            near_f[b, st.N_X, k] = nx
            near_f[b, st.N_Y, k] = ny
            uf[i, st.F_X] = nx
            uf[i, st.F_Y] = ny
            if static.options[st.O_TERRAIN]:
                ground = static.terrain[int(ny), int(nx)]
                uf[i, st.F_Z] = ground + static.kind_f[ui[i, st.I_KIND], st.K_HEIGHT]
    if arrived:
        for k in range(count):
            if near_i[b, st.NI_MET, k] == ARRIVED:
                next_order(state, b, near_i[b, st.NI_SLOT, k])


@inline_kernel
def cells_around(state, b, at_f, row_x, row_y, lanes, more):
    """The cells that can hold what the units in `lanes` meet: as `cell_range`, around all of them.

    `row_x` and `row_y` are the rows of `near_f` that say where units are; others are at most `more` wide.
    """
    if state.w[b, st.W_COLUMNS] == 1:
        return 0, 0, 0, 0
    places = state.near_f.shape[2]
    x0, x1, y0, y1, about = lanes_span(
        state.near_f, at_f + row_x * places, at_f + row_y * places, at_f + st.N_ABOUT * places, lanes
    )
    reach = about + more
    c0, _, r0, _ = cell_range(state, b, x0, y0, reach)
    _, c1, _, r1 = cell_range(state, b, x1, y1, reach)
    return c0, c1, r0, r1


@inline_kernel
def collide(state, b, start, movers, places):
    """Adds up what the neighbours do to the units in the lanes `movers` from place `start` on.

    Returns whether any has met one, and whether any has arrived in a crowd.
    """
    near_f, near_i, cells, columns = state.near_f, state.near_i, state.cells[b], state.w[b, st.W_COLUMNS]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    widest = np.float32(state.w[b, st.W_WIDEST]) / RADIUS_PARTS
    count, any_met, arrived, passed = state.w[b, st.W_ALIVE], np.int64(0), False, 0
    c0, c1, r0, r1 = cells_around(state, b, at_f + start, st.N_PX, st.N_PY, movers, widest + DRIFT)
    for row in range(r0, r1 + 1):
        begin, end = cells[np.uintp(row * columns + c0)], cells[np.uintp(row * columns + c1 + 1)]
        for first in range(max(begin & ~(st.LANES - 1), passed), end, st.LANES):
            passed = first + st.LANES
            met, touching = collide_lanes(
                near_f,
                near_i,
                at_f + start,
                at_i + start,
                at_f + first,
                at_i + first,
                min(st.LANES, count - first),
                places,
            )
            any_met |= met
            while touching != 0:
                place = start + first_bit(touching)
                touching &= touching - 1
                if stops_in_crowd(state, b, place, first, near_i[b, st.NI_TOUCHED, np.uintp(place)]):
                    near_i[b, st.NI_MET, np.uintp(place)] = ARRIVED
                    arrived = True
    return any_met != 0, arrived


@inline_kernel
def stops_in_crowd(state, b, place, first, resting):
    """Whether the unit at `place` is so near to its goal that it stops, as those have that it touches.

    `resting`: which of the sixteen from place `first` on are allies at rest that it touches.
    """
    ui, near_f, near_i = state.ui[b], state.near_f[b], state.near_i[b]
    k = np.uintp(place)
    i = np.uintp(near_i[st.NI_SLOT, k])
    v = ui[i]
    order = v[st.I_ORDER]
    if near_i[st.NI_MOBILITY, k] != MOVING or v[st.I_TARGET] >= 0 or v[st.I_ORDER_TARGET] >= 0:
        return False
    if order != st.ORDER_MOVE and order != st.ORDER_ATTACK_MOVE:
        return False
    gx = near_f[st.N_PX, k] - state.uf[b, i, st.F_ORDER_X]
    gy = near_f[st.N_PY, k] - state.uf[b, i, st.F_ORDER_Y]
    if gx * gx + gy * gy >= CROWD * CROWD:
        return False
    while resting != 0:
        other = near_i[st.NI_SLOT, np.uintp(first + first_bit(resting))]
        resting &= resting - 1
        if ui[np.uintp(other), st.I_ORDER] == st.ORDER_STOP:
            return True
    return False


@inline_kernel
def keep_apart(state, b, start, limited, places):
    """Finds what share of their steps the units in the lanes `limited` from place `start` on have room for."""
    cells, columns, count = state.cells[b], state.w[b, st.W_COLUMNS], state.w[b, st.W_ALIVE]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    widest, passed = np.float32(state.w[b, st.W_WIDEST]) / RADIUS_PARTS, 0
    c0, c1, r0, r1 = cells_around(state, b, at_f + start, st.N_X, st.N_Y, limited, widest)
    for row in range(r0, r1 + 1):
        begin, end = cells[np.uintp(row * columns + c0)], cells[np.uintp(row * columns + c1 + 1)]
        for first in range(max(begin & ~(st.LANES - 1), passed), end, st.LANES):
            passed = first + st.LANES
            share_lanes(
                state.near_f,
                state.near_i,
                at_f + start,
                at_i + start,
                at_f + first,
                at_i + first,
                min(st.LANES, count - first),
                limited,
                places,
            )


@kernel
def slide(static, px, py, nx, ny):
    """Where a step of less than a cell from (px, py) to (nx, ny) ends: along the wall where the way is blocked."""
    pathable = static.pathable
    cx, cy, ex, ey = int(px), int(py), int(nx), int(ny)
    if (cx == ex and cy == ey) or pathable[cy, cx] == 0:
        return nx, ny
    free_x, free_y = pathable[cy, ex] != 0, pathable[ey, cx] != 0
    if free_x and free_y and pathable[ey, ex] != 0:
        return nx, ny
    if free_x:
        return nx, py
    if free_y:
        return px, ny
    return px, py
