"""Movement: units step, go around what stands in their way, and push each other apart.

Units collide by their inner radii, ground with ground and air with air. Collision is soft, but no two centres come
nearer than `collisions.CORE` of the sum of these radii. A step takes at most half of the room on the way to another
unit.

A unit that attacks or holds its position is never pushed. Allies make way for each other, enemies do not. Allies that
come towards each other pass on the right. All displacements are found from the same positions before any is applied.
"""

from __future__ import annotations

import numpy as np

from envs.engine.neighbours import KEY_COLOSSUS, KEY_FLYER, RADIUS_PARTS, SLACK, blocks_in_window, lanes_before
from envs.engine.simd.collisions import collect_met, collect_room, collide_lanes, number_lanes, share_lanes
from envs.engine.simd.lookup import first_bit, lanes_in_window, lanes_span
from envs.engine.simd.steps import begin_steps, blocked_lanes, end_steps, lanes_that_move, push_steps, turn_steps
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.layout import MOVING, TELEPORT
from envs.engine.state.maps import nearest_pathable
from envs.engine.state.orders import next_order

ANYBODY = np.int32(-1)  # of any owner
ALL_LANES = (1 << st.LANES) - 1
CROWD = np.float32(2.0)  # a unit that bumps into one at rest so near to the common goal has arrived
SMALL = np.float32(1e-3)
ARRIVED = 3  # in NI_MET: it has met others, and stops among them


@inline_kernel
def move_units(state, static, near, count):
    """Applies the displacements that `decide` left: collisions, obstacles, the map's bounds."""
    ui, places = state.ui, near.f.shape[1]
    for first in range(0, count, st.LANES):
        begin_steps(near.f, near.i, first, places)
    arrived = False
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near.i, first, places) & lanes_before(count, first)
        if movers != 0 and collide(state, near, first, movers, count):
            arrived = True
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near.i, first, places) & lanes_before(count, first)
        turned = movers & blocked_lanes(near.f, near.i, first, places)
        if turned != 0:
            turned = movers & turn_steps(near.f, near.i, first, places)
        while turned != 0:
            k = np.uintp(first + first_bit(turned))
            turned &= turned - 1
            v = ui[np.uintp(near.i[st.NI_WORLD, k]), np.uintp(near.i[st.NI_SLOT, k])]
            hand = near.i[st.NI_HAND, k] & (st.FLAG_AROUND | st.FLAG_LEFT)
            v[st.I_FLAGS] = (v[st.I_FLAGS] & ~(st.FLAG_AROUND | st.FLAG_LEFT)) | hand
        if movers != 0:
            limited = movers & push_steps(near.f, near.i, first, places)
            if limited != 0:
                keep_apart(state, near, first, limited, count)
    for first in range(0, count, st.LANES):
        movers = lanes_that_move(near.i, first, places) & lanes_before(count, first)
        if movers != 0:
            end_moves(state, static, near, first, movers)
    if arrived:
        for place in range(count):
            if near.i[st.NI_MET, place] == ARRIVED:
                next_order(state, near.i[st.NI_WORLD, place], near.i[st.NI_SLOT, place])


@inline_kernel
def end_moves(state, static, near, first, movers):
    """Brings the units in the lanes `movers` from place `first` on to where their steps end."""
    x0, y0 = static.bounds[0], static.bounds[1]
    x1, y1 = static.bounds[2] - SMALL, static.bounds[3] - SMALL
    free = static.options[st.O_OBSTACLES] == 0 and static.options[st.O_TERRAIN] == 0
    moved = end_steps(near.f, near.i, state.uf, first, near.f.shape[1], movers, x0, y0, x1, y1, free)
    while moved != 0:
        k = np.uintp(first + first_bit(moved))
        moved &= moved - 1
        b, i = np.uintp(near.i[st.NI_WORLD, k]), np.uintp(near.i[st.NI_SLOT, k])
        u = state.uf[b, i]
        nx, ny = near.f[st.N_PX, k], near.f[st.N_PY, k]
        if static.options[st.O_OBSTACLES] and near.i[st.NI_KEY, k] & (KEY_FLYER | KEY_COLOSSUS) == 0:
            if near.i[st.NI_MOBILITY, k] == TELEPORT:
                nx, ny = nearest_pathable(static, nx, ny)
            else:
                nx, ny = slide(static, near.f[st.N_X, k], near.f[st.N_Y, k], nx, ny)
        near.f[st.N_X, k] = nx
        near.f[st.N_Y, k] = ny
        u[st.F_X] = nx
        u[st.F_Y] = ny
        if static.options[st.O_TERRAIN]:
            ground = static.terrain[int(ny), int(nx)]
            u[st.F_Z] = ground + static.kind_f[state.ui[b, i, st.I_KIND], st.K_HEIGHT]


@inline_kernel
def window_around(state, near, start, row_x, row_y, lanes):
    """The window that holds all whom the units in `lanes` from place `start` on can meet.

    `row_x` and `row_y` are the rows of `near.f` that say where units are.
    """
    b = near.i[st.NI_WORLD, np.uintp(start)]
    x0, x1, y0, y1, about = lanes_span(near.f, start, near.f.shape[1], row_x, row_y, lanes)
    reach = about + np.float32(state.w[b, st.W_WIDEST]) / RADIUS_PARTS + SLACK
    return x0 - reach, x1 + reach, y0 - reach, y1 + reach


@inline_kernel
def places_of_worlds(state, near, start, count):
    """The first place, and that behind the last, of the worlds that have units in the lanes from place `start` on."""
    b, other = near.i[st.NI_WORLD, np.uintp(start)], near.i[st.NI_WORLD, np.uintp(min(start + st.LANES, count) - 1)]
    return state.w[b, st.W_START], state.w[other, st.W_START] + state.w[other, st.W_PLACES]


@inline_kernel
def copy_others(near, start, left, row_x, row_y, window, room):
    """Copies the units of the blocks `left` that are in the window behind all places; most blocks have few there.

    Units from place `start` on get the numbers of their copies. `room`: for `share_lanes`, otherwise for
    `collide_lanes`. Returns the first of these places, and how many they are.
    """
    places = near.f.shape[1]
    behind, count = places // 2, 0
    x0, x1, y0, y1 = window
    # A unit that blinks may be looked at far from its block, which then has no copies.
    number_lanes(near.i, start, 0, -st.LANES, places)
    while left != 0:
        first = st.LANES * first_bit(left)
        left &= left - 1
        found = lanes_in_window(near.f, near.i, first, places, row_x, row_y, x0, x1, y0, y1, ANYBODY)
        if first == start:
            number_lanes(near.i, start, found, count, places)
        if found != 0:
            if room:
                count += collect_room(near.f, near.i, first, behind + count, found, places)
            else:
                count += collect_met(near.f, near.i, first, behind + count, found, places)
    return behind, count


@inline_kernel
def collide(state, near, start, movers, count):
    """Adds up what the neighbours do to the units in the lanes `movers` from place `start` on.

    Returns whether any has arrived in a crowd.
    """
    b = near.i[st.NI_WORLD, np.uintp(start)]
    begin, end = places_of_worlds(state, near, start, count)
    many = end - begin
    if state.w[b, st.W_MANY]:
        window = window_around(state, near, start, st.N_PX, st.N_PY, movers)
        x0, x1, y0, y1 = window
        # Boxes hold where units are, the window where they go.
        step = np.float32(state.w[b, st.W_FASTEST]) / RADIUS_PARTS
        left = blocks_in_window(state, near, b, many, (x0 - step, x1 + step, y0 - step, y1 + step), ANYBODY)
        begin, many = copy_others(near, start, left, st.N_PX, st.N_PY, window, False)
    else:
        number_lanes(near.i, start, ALL_LANES, start - begin, near.f.shape[1])
    touching = collide_lanes(near.f, near.i, start, begin, many, movers, near.f.shape[1])
    arrived = False
    while touching != 0:
        k = np.uintp(start + first_bit(touching))
        touching &= touching - 1
        if stops_in_crowd(state, near, k):
            near.i[st.NI_MET, k] = ARRIVED
            arrived = True
    return arrived


@inline_kernel
def stops_in_crowd(state, near, k):
    """Whether the unit at place `k`, which touches allies that rest, is so near to its goal that it stops too."""
    b, i = np.uintp(near.i[st.NI_WORLD, k]), np.uintp(near.i[st.NI_SLOT, k])
    u, v = state.uf[b, i], state.ui[b, i]
    order = v[st.I_ORDER]
    if near.i[st.NI_MOBILITY, k] != MOVING or v[st.I_TARGET] >= 0 or v[st.I_ORDER_TARGET] >= 0:
        return False
    if order != st.ORDER_MOVE and order != st.ORDER_ATTACK_MOVE:
        return False
    gx, gy = near.f[st.N_PX, k] - u[st.F_ORDER_X], near.f[st.N_PY, k] - u[st.F_ORDER_Y]
    return gx * gx + gy * gy < CROWD * CROWD


@inline_kernel
def keep_apart(state, near, start, limited, count):
    """Finds what share of their steps the units in the lanes `limited` from place `start` on have room for."""
    b = near.i[st.NI_WORLD, np.uintp(start)]
    begin, end = places_of_worlds(state, near, start, count)
    many = end - begin
    if state.w[b, st.W_MANY]:
        window = window_around(state, near, start, st.N_X, st.N_Y, limited)
        left = blocks_in_window(state, near, b, many, window, ANYBODY)
        begin, many = copy_others(near, start, left, st.N_X, st.N_Y, window, True)
    else:
        number_lanes(near.i, start, ALL_LANES, start - begin, near.f.shape[1])
    share_lanes(near.f, near.i, start, begin, many, limited, near.f.shape[1])


@kernel
def slide(static, px, py, nx, ny):
    """Where a step of less than a cell from (px, py) to (nx, ny) ends: along the wall where the way is blocked."""
    pathable = static.pathable
    cx, cy, ex, ey = int(px), int(py), int(nx), int(ny)
    if pathable[cy, cx] == 0:
        return nx, ny
    free_x, free_y = pathable[cy, ex] != 0, pathable[ey, cx] != 0
    if free_x and free_y and pathable[ey, ex] != 0:
        return nx, ny
    if free_x:
        return nx, py
    if free_y:
        return px, ny
    return px, py
