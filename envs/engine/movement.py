"""Movement: units step, go around what stands in their way, and push each other apart.

Units collide by their inner radii, ground with ground and air with air. Collision is soft, but no two centres come
nearer than `CORE` of the sum of those radii: a step takes at most half of the room that is left on the way to another
unit. A unit that attacks or holds its position is never pushed; allies make way for each other, enemies do not; allies
that come towards each other pass on the right. All displacements are found from the same positions before any is
applied.
"""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.lanes import (
    ANCHORED,
    CORE,
    EDGE,
    MOVING,
    TELEPORT,
    collide_lanes,
    first_bit,
    free_share,
    lanes_in_reach,
)
from envs.engine.neighbours import KEY_COLOSSUS, KEY_FLYER, KEY_OWNERS, KEY_PLANES
from envs.engine.state import inline_kernel, kernel, nearest_pathable, next_order

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
DRIFT = np.float32(0.35)  # how far a unit may have moved since it was sorted into its cell
AHEAD = np.float32(0.2)  # gap at which a unit begins to go around another
PUSH_LIMIT = np.float32(0.25)  # largest displacement by pushes in a loop
CROWD = np.float32(2.0)  # a unit that bumps into one at rest so near to the common goal has arrived
SMALL = np.float32(EDGE)
QUICKEN = np.float32(0.2)  # by which the pace of a unit that had to slow down rises in a loop


@inline_kernel
def move_units(state, static, b):
    """Applies the displacements that `decide` left, with collisions, obstacles and the map's bounds."""
    uf, ui, near_f, near_i, cells = state.uf[b], state.ui[b], state.near_f[b], state.near_i[b], state.cells[b]
    count = state.w[b, st.W_ALIVE]
    movers = 0
    for k in range(count):
        movers |= near_i[st.NI_MOBILITY, k]
    if movers == ANCHORED:
        return
    full = (count + st.LANES - 1) // st.LANES * st.LANES
    for k in range(full):
        near_f[st.N_NEXT_X, k] = near_f[st.N_X, k]
        near_f[st.N_NEXT_Y, k] = near_f[st.N_Y, k]
        near_f[st.N_VX, k] *= near_f[st.N_PACE, k]
        near_f[st.N_VY, k] *= near_f[st.N_PACE, k]
        near_f[st.N_PX, k] = near_f[st.N_X, k] + near_f[st.N_VX, k]
        near_f[st.N_PY, k] = near_f[st.N_Y, k] + near_f[st.N_VY, k]
    columns, rows = state.w[b, st.W_COLUMNS], state.w[b, st.W_ROWS]
    scale = ONE / np.float32(state.w[b, st.W_CELL])
    widest = np.float32(state.w[b, st.W_WIDEST]) / np.float32(1024.0)
    x0, y0 = static.bounds[0], static.bounds[1]
    x1, y1 = static.bounds[2] - SMALL, static.bounds[3] - SMALL
    places = near_f.shape[1]
    at_f, at_i = b * st.NUM_NEAR_FLOATS * places, b * st.NUM_NEAR_INTS * places
    for k in range(count):
        mobility = near_i[st.NI_MOBILITY, k]
        if mobility == ANCHORED:
            continue
        i = near_i[st.NI_SLOT, k]
        u, v = uf[np.uintp(i)], ui[np.uintp(i)]
        key = near_i[st.NI_KEY, k]
        x, y = near_f[st.N_PX, k], near_f[st.N_PY, k]
        vx, vy = near_f[st.N_VX, k], near_f[st.N_VY, k]
        push_x, push_y, wall_x, wall_y, side = ZERO, ZERO, ZERO, ZERO, ZERO
        step, ux, uy = ZERO, ZERO, ZERO
        arrived, met = False, False
        pace = near_f[st.N_PACE, k]
        if mobility != TELEPORT and key & KEY_PLANES != 0:
            r = near_f[st.N_INNER, k]
            about = r
            if mobility == MOVING:
                about = r + AHEAD
                step = near_f[st.N_STEP, k] * pace
                if step > ZERO:
                    ux, uy = u[st.F_FACING_X], u[st.F_FACING_Y]
            target = v[st.I_TARGET]
            c0, c1, r0, r1 = 0, 0, 0, 0
            if columns > 1:
                window = about + widest + DRIFT
                c0 = max(int((x - window) * scale), 0)
                c1 = min(int((x + window) * scale), columns - 1)
                r0 = max(int((y - window) * scale), 0)
                r1 = min(int((y + window) * scale), rows - 1)
            for row in range(r0, r1 + 1):
                last = cells[np.uintp(row * columns + c1 + 1)]
                for first in range(cells[np.uintp(row * columns + c0)], last, st.LANES):
                    found = lanes_in_reach(
                        state.near_f,
                        state.near_i,
                        at_f + st.N_PX * places + first,
                        at_f + st.N_PY * places + first,
                        at_f + st.N_INNER * places + first,
                        at_i + st.NI_KEY * places + first,
                        x,
                        y,
                        about,
                        np.int32(key & KEY_PLANES),
                    )
                    found &= (1 << min(last - first, st.LANES)) - 1
                    before = k - first
                    if 0 <= before < st.LANES:
                        found &= ~(1 << before)
                    if found == 0:
                        continue
                    met = True
                    by_x, by_y, into_x, into_y, aside, resting = collide_lanes(
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
                        found,
                        x,
                        y,
                        r,
                        ux,
                        uy,
                        np.int32(key & KEY_OWNERS),
                        np.int32(mobility == MOVING),
                        target,
                        np.int32(before),
                    )
                    push_x += by_x
                    push_y += by_y
                    wall_x += into_x
                    wall_y += into_y
                    side += aside
                    if resting != 0 and mobility == MOVING and target < 0 and v[st.I_ORDER_TARGET] < 0:
                        order = v[st.I_ORDER]
                        gx, gy = x - u[st.F_ORDER_X], y - u[st.F_ORDER_Y]
                        on_the_way = order == st.ORDER_MOVE or order == st.ORDER_ATTACK_MOVE
                        while on_the_way and resting != 0 and gx * gx + gy * gy < CROWD * CROWD:
                            other = near_i[st.NI_SLOT, np.uintp(first + first_bit(resting))]
                            resting &= resting - 1
                            arrived = arrived or ui[np.uintp(other), st.I_ORDER] == st.ORDER_STOP
        if wall_x != ZERO or wall_y != ZERO:
            flags = v[st.I_FLAGS]
            # Along the wall that the blockers form, always on the same hand until the way is clear.
            if flags & st.FLAG_AROUND == 0:
                left = side > ZERO if abs(side) > SMALL else v[st.I_PHASE] & 1 != 0
                flags = (flags & ~st.FLAG_LEFT) | st.FLAG_AROUND | (st.FLAG_LEFT if left else 0)
                v[st.I_FLAGS] = flags
            inverse = ONE / np.sqrt(wall_x * wall_x + wall_y * wall_y)
            wall_x, wall_y = wall_x * inverse, wall_y * inverse
            into = max(ux * wall_x + uy * wall_y, ZERO)
            hand = ONE if flags & st.FLAG_LEFT else -ONE
            ax = ux - into * wall_x - hand * into * wall_y
            ay = uy - into * wall_y + hand * into * wall_x
            norm = np.sqrt(ax * ax + ay * ay)
            if norm > SMALL:
                vx, vy = step * ax / norm, step * ay / norm
        elif v[st.I_FLAGS] & st.FLAG_AROUND:
            v[st.I_FLAGS] &= ~st.FLAG_AROUND
        wanted_x, wanted_y = vx, vy
        if push_x != ZERO or push_y != ZERO:
            size = np.sqrt(push_x * push_x + push_y * push_y)
            if size > PUSH_LIMIT:
                push_x, push_y = push_x * (PUSH_LIMIT / size), push_y * (PUSH_LIMIT / size)
            vx += push_x
            vy += push_y
        if met and (vx != ZERO or vy != ZERO):
            x, y = near_f[st.N_X, k], near_f[st.N_Y, k]
            share = ONE
            about = np.float32(CORE) * near_f[st.N_INNER, k] + np.float32(2.0) * np.sqrt(vx * vx + vy * vy)
            if columns > 1:
                window = about + widest
                c0 = max(int((x - window) * scale), 0)
                c1 = min(int((x + window) * scale), columns - 1)
                r0 = max(int((y - window) * scale), 0)
                r1 = min(int((y + window) * scale), rows - 1)
            for row in range(r0, r1 + 1):
                last = cells[np.uintp(row * columns + c1 + 1)]
                for first in range(cells[np.uintp(row * columns + c0)], last, st.LANES):
                    found = lanes_in_reach(
                        state.near_f,
                        state.near_i,
                        at_f + st.N_X * places + first,
                        at_f + st.N_Y * places + first,
                        at_f + st.N_INNER * places + first,
                        at_i + st.NI_KEY * places + first,
                        x,
                        y,
                        about,
                        np.int32(key & KEY_PLANES),
                    )
                    found &= (1 << min(last - first, st.LANES)) - 1
                    before = k - first
                    if 0 <= before < st.LANES:
                        found &= ~(1 << before)
                    if found == 0:
                        continue
                    free = free_share(
                        state.near_f,
                        state.near_i,
                        at_f + st.N_X * places + first,
                        at_f + st.N_Y * places + first,
                        at_f + st.N_INNER * places + first,
                        at_i + st.NI_MOBILITY * places + first,
                        found,
                        x,
                        y,
                        near_f[st.N_INNER, k],
                        vx,
                        vy,
                    )
                    share = min(share, free)
            vx *= share
            vy *= share
        if mobility == MOVING and (met or pace < ONE):
            # Who is held up steps less far, so that a throng does not press itself together.
            square = wanted_x * wanted_x + wanted_y * wanted_y
            if square > ZERO:
                done = min(max((vx * wanted_x + vy * wanted_y) / square, ZERO), ONE)
                pace = min(pace * done + QUICKEN, ONE)
                u[st.F_PACE] = pace
                near_f[st.N_PACE, k] = pace
        if vx != ZERO or vy != ZERO:
            px, py = u[st.F_X], u[st.F_Y]
            nx = min(max(px + vx, x0), x1)
            ny = min(max(py + vy, y0), y1)
            if static.options[st.O_OBSTACLES] and key & (KEY_FLYER | KEY_COLOSSUS) == 0:
                if mobility == TELEPORT:
                    nx, ny = nearest_pathable(static, nx, ny)
                else:
                    nx, ny = slide(static, px, py, nx, ny)
            u[st.F_X] = nx
            u[st.F_Y] = ny
            near_f[st.N_NEXT_X, k] = nx
            near_f[st.N_NEXT_Y, k] = ny
            if static.options[st.O_TERRAIN]:
                ground = static.terrain[int(ny), int(nx)]
                u[st.F_Z] = ground + static.kind_f[v[st.I_KIND], st.K_HEIGHT]
        if arrived:
            next_order(state, b, i)
    for k in range(full):
        near_f[st.N_X, k] = near_f[st.N_NEXT_X, k]
        near_f[st.N_Y, k] = near_f[st.N_NEXT_Y, k]


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
