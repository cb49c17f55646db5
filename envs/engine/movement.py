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
    ANCHORED,
    MOVING,
    TELEPORT,
    begin_steps,
    blocked_lanes,
    collide_lanes,
    end_steps,
    first_bit,
    free_share,
    lanes_in_reach,
    lanes_that_move,
    list_pairs,
    push_steps,
    turn_steps,
)
from envs.engine.neighbours import (
    KEY_COLOSSUS,
    KEY_FLYER,
    KEY_OWNERS,
    KEY_PLANES,
    RADIUS_PARTS,
    cell_range,
    lanes_before,
)
from envs.engine.state import inline_kernel, kernel, nearest_pathable, next_order

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
DRIFT = np.float32(0.35)  # how far a unit may have moved since it was sorted into its cell
AHEAD = np.float32(0.2)  # gap at which a unit begins to go around another
CROWD = np.float32(2.0)  # a unit that bumps into one at rest so near to the common goal has arrived
SMALL = np.float32(1e-3)
# Neighbours are found for many units first, and looked at then: so no unit waits for the arithmetic of the one before.
# `pairs` holds a unit's place, the first place of sixteen and which of these are near it, in one integer.
MANY_PAIRS = 64  # so many that those of one more unit find room
MET, ARRIVED = 1, 3


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
    met, arrived = collide(state, b, count, places)
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
def list_neighbours(state, b, place, row_x, row_y, about, reach, pairs, found_pairs):
    """Adds to `pairs` who is within `about` of the unit at `place`, edge to edge; returns how many pairs there are.

    `row_x` and `row_y` are the rows of `near_f` that say where units are; cells up to `reach` away are gone through.
    """
    cells, columns, places = state.cells[b], state.w[b, st.W_COLUMNS], state.near_f.shape[2]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    k = np.uintp(place)
    x, y = state.near_f[b, row_x, k], state.near_f[b, row_y, k]
    planes = np.int32(state.near_i[b, st.NI_KEY, k] & KEY_PLANES)
    c0, c1, r0, r1 = cell_range(state, b, x, y, reach)
    for row in range(r0, r1 + 1):
        last = cells[np.uintp(row * columns + c1 + 1)]
        for first in range(cells[np.uintp(row * columns + c0)], last, st.LANES):
            found = lanes_before(last, first) & lanes_in_reach(
                state.near_f,
                state.near_i,
                at_f + row_x * places + first,
                at_f + row_y * places + first,
                at_f + st.N_INNER * places + first,
                at_i + st.NI_KEY * places + first,
                x,
                y,
                about,
                planes,
            )
            if 0 <= place - first < st.LANES:
                found &= ~(1 << (place - first))
            pairs[np.uintp(found_pairs)] = place << 32 | first << 16 | found
            found_pairs += found != 0
    return found_pairs


@inline_kernel
def collide(state, b, count, places):
    """Adds up what its neighbours do to every unit that moves: whether any has met one, any has arrived in a crowd."""
    uf, ui, near_f, near_i = state.uf[b], state.ui[b], state.near_f[b], state.near_i[b]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    widest = np.float32(state.w[b, st.W_WIDEST]) / RADIUS_PARTS
    pairs = list_pairs()
    met, arrived = False, False
    place = 0
    while place < count:
        found_pairs = 0
        while place < count and found_pairs < MANY_PAIRS:
            k = np.uintp(place)
            place += 1
            mobility = near_i[st.NI_MOBILITY, k]
            if mobility == ANCHORED:
                continue
            i = np.uintp(near_i[st.NI_SLOT, k])
            u, v = uf[i], ui[i]
            hand = v[st.I_FLAGS] & (st.FLAG_AROUND | st.FLAG_LEFT)
            near_i[st.NI_HAND, k] = hand | (v[st.I_PHASE] & st.HAND_TURN)
            if mobility == TELEPORT or near_i[st.NI_KEY, k] & KEY_PLANES == 0:
                continue
            about = near_f[st.N_INNER, k]
            if mobility == MOVING:
                about += AHEAD
                if near_f[st.N_STEP, k] * near_f[st.N_PACE, k] > ZERO:
                    near_f[st.N_UX, k] = u[st.F_FACING_X]
                    near_f[st.N_UY, k] = u[st.F_FACING_Y]
            reach = about + widest + DRIFT
            found_pairs = list_neighbours(state, b, place - 1, st.N_PX, st.N_PY, about, reach, pairs, found_pairs)
        met = met or found_pairs != 0
        for pair in range(found_pairs):
            found = pairs[np.uintp(pair)]
            first, before = (found >> 16) & 0xFFFF, (found >> 32) - ((found >> 16) & 0xFFFF)
            k = np.uintp(found >> 32)
            i = np.uintp(near_i[st.NI_SLOT, k])
            v = ui[i]
            mobility = near_i[st.NI_MOBILITY, k]
            x, y = near_f[st.N_PX, k], near_f[st.N_PY, k]
            push_x, push_y, wall_x, wall_y, side, resting = collide_lanes(
                state.near_f,
                state.near_i,
                at_f + st.N_PX * places + first,
                at_f + st.N_PY * places + first,
                at_f + st.N_VX * places + first,
                at_f + st.N_VY * places + first,
                at_f + st.N_INNER * places + first,
                at_i + st.NI_KEY * places + first,
                at_i + st.NI_MOBILITY * places + first,
                at_i + st.NI_SLOT * places + first,
                found & 0xFFFF,
                x,
                y,
                near_f[st.N_INNER, k],
                near_f[st.N_UX, k],
                near_f[st.N_UY, k],
                np.int32(near_i[st.NI_KEY, k] & KEY_OWNERS),
                np.int32(mobility == MOVING),
                v[st.I_TARGET],
                np.int32(before),
            )
            near_f[st.N_PUSH_X, k] += push_x
            near_f[st.N_PUSH_Y, k] += push_y
            near_f[st.N_WALL_X, k] += wall_x
            near_f[st.N_WALL_Y, k] += wall_y
            near_f[st.N_SIDE, k] += side
            near_i[st.NI_MET, k] |= MET
            if resting != 0 and mobility == MOVING and v[st.I_TARGET] < 0 and v[st.I_ORDER_TARGET] < 0:
                order = v[st.I_ORDER]
                gx, gy = x - uf[i, st.F_ORDER_X], y - uf[i, st.F_ORDER_Y]
                on_the_way = order == st.ORDER_MOVE or order == st.ORDER_ATTACK_MOVE
                while on_the_way and resting != 0 and gx * gx + gy * gy < CROWD * CROWD:
                    other = near_i[st.NI_SLOT, np.uintp(first + first_bit(resting))]
                    resting &= resting - 1
                    if ui[np.uintp(other), st.I_ORDER] == st.ORDER_STOP:
                        near_i[st.NI_MET, k] = ARRIVED
                        arrived = True
    return met, arrived


@inline_kernel
def keep_apart(state, b, start, limited, places):
    """Finds what share of their steps the units in the lanes `limited` from place `start` on have room for."""
    near_f = state.near_f[b]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    widest = np.float32(state.w[b, st.W_WIDEST]) / RADIUS_PARTS
    pairs = list_pairs()
    while limited != 0:
        found_pairs = 0
        while limited != 0 and found_pairs < MANY_PAIRS:
            place = start + first_bit(limited)
            limited &= limited - 1
            about = near_f[st.N_ABOUT, np.uintp(place)]
            found_pairs = list_neighbours(state, b, place, st.N_X, st.N_Y, about, about + widest, pairs, found_pairs)
        for pair in range(found_pairs):
            found = pairs[np.uintp(pair)]
            first = (found >> 16) & 0xFFFF
            k = np.uintp(found >> 32)
            free = free_share(
                state.near_f,
                state.near_i,
                at_f + st.N_X * places + first,
                at_f + st.N_Y * places + first,
                at_f + st.N_INNER * places + first,
                at_i + st.NI_MOBILITY * places + first,
                found & 0xFFFF,
                near_f[st.N_X, k],
                near_f[st.N_Y, k],
                near_f[st.N_INNER, k],
                near_f[st.N_VX, k],
                near_f[st.N_VY, k],
            )
            near_f[st.N_SHARE, k] = min(near_f[st.N_SHARE, k], free)


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
