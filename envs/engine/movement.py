"""Movement: units step, go around what stands in their way, and push each other apart.

Units collide by their inner radii, ground with ground and air with air. A unit that attacks or holds its position is
never pushed; allies make way for each other, enemies do not. All displacements are found from the same positions before
any is applied.
"""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.decisions import ANCHORED, IDLE, MOVING, TELEPORT
from envs.engine.neighbours import KEY_COLOSSUS_PLANE, KEY_FLYER_PLANE, KEY_NO_COLLISION, KEY_OWNERS, KEY_PLANES
from envs.engine.state import inline_kernel, kernel, nearest_pathable, next_order

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
HALF = np.float32(0.5)
DRIFT = np.float32(0.35)  # how far a unit may have moved since it was sorted into its cell
AHEAD = np.float32(0.2)  # gap at which a unit begins to go around another
PUSH_LIMIT = np.float32(0.25)  # largest displacement by pushes in a loop
CROWD = np.float32(2.0)  # a unit that bumps into one at rest so near to the common goal has arrived
EDGE = np.float32(1e-3)
SAME_PLACE = np.float32(1e-8)


@inline_kernel
def move_units(state, static, b):
    """Applies the displacements that `decide` left, with collisions, obstacles and the map's bounds."""
    f, ii, near_f, near_i, cells = state.uf, state.ui, state.near_f, state.near_i, state.cells
    count = state.w[b, st.W_ALIVE]
    movers = 0
    for k in range(count):
        movers |= near_i[b, st.NI_MOBILITY, k]
        near_f[b, st.N_X, k] += near_f[b, st.N_VX, k]
        near_f[b, st.N_Y, k] += near_f[b, st.N_VY, k]
    if movers == ANCHORED:
        return
    columns, rows = state.w[b, st.W_COLUMNS], state.w[b, st.W_ROWS]
    scale = ONE / np.float32(state.w[b, st.W_CELL])
    widest = np.float32(state.w[b, st.W_WIDEST]) / np.float32(1024.0)
    x0, y0 = static.bounds[0], static.bounds[1]
    x1, y1 = static.bounds[2] - EDGE, static.bounds[3] - EDGE
    for k in range(count):
        mobility = near_i[b, st.NI_MOBILITY, k]
        if mobility == ANCHORED:
            continue
        i = near_i[b, st.NI_SLOT, k]
        key = near_i[b, st.NI_KEY, k]
        x, y = near_f[b, st.N_X, k], near_f[b, st.N_Y, k]
        vx, vy = near_f[b, st.N_VX, k], near_f[b, st.N_VY, k]
        push_x, push_y, wall_x, wall_y, side = ZERO, ZERO, ZERO, ZERO, ZERO
        step, ux, uy = ZERO, ZERO, ZERO
        arrived = False
        if mobility != TELEPORT and key & KEY_NO_COLLISION == 0:
            r = near_f[b, st.N_INNER, k]
            if mobility == MOVING:
                step = np.sqrt(vx * vx + vy * vy)
                if step > ZERO:
                    ux, uy = vx / step, vy / step
            target = ii[b, i, st.I_TARGET]
            window = r + widest + AHEAD + DRIFT
            c0 = max(int((x - window) * scale), 0)
            c1 = min(int((x + window) * scale), columns - 1)
            r0 = max(int((y - window) * scale), 0)
            r1 = min(int((y + window) * scale), rows - 1)
            for row in range(r0, r1 + 1):
                for q in range(cells[b, row * columns + c0], cells[b, row * columns + c1 + 1]):
                    dx, dy = x - near_f[b, st.N_X, q], y - near_f[b, st.N_Y, q]
                    reach = r + near_f[b, st.N_INNER, q]
                    d2 = dx * dx + dy * dy
                    if d2 >= (reach + AHEAD) * (reach + AHEAD) or q == k:
                        continue
                    other = near_i[b, st.NI_KEY, q]
                    blocking = near_i[b, st.NI_MOBILITY, q]
                    if (key ^ other) & KEY_PLANES or blocking == TELEPORT:
                        continue
                    allied = (key & other) & KEY_OWNERS != 0
                    if d2 < SAME_PLACE:
                        # Apart along a line that both derive from their places in the list.
                        dx, dy = (EDGE, EDGE) if k > q else (-EDGE, -EDGE)
                        d2 = dx * dx + dy * dy
                    d = np.sqrt(d2)
                    if d < reach:
                        share = ZERO
                        if allied:
                            share = ONE if blocking == ANCHORED else HALF
                        elif mobility == MOVING:
                            share = HALF if blocking == MOVING else ONE
                        elif blocking == IDLE:
                            share = HALF
                        push = share * (reach - d) / d
                        push_x += push * dx
                        push_y += push * dy
                        if allied and mobility == MOVING and blocking == IDLE:
                            order = ii[b, i, st.I_ORDER]
                            if (order == st.ORDER_MOVE or order == st.ORDER_ATTACK_MOVE) and target < 0:
                                gx, gy = x - f[b, i, st.F_ORDER_X], y - f[b, i, st.F_ORDER_Y]
                                still = ii[b, near_i[b, st.NI_SLOT, q], st.I_ORDER] == st.ORDER_STOP
                                if gx * gx + gy * gy < CROWD * CROWD and still and ii[b, i, st.I_ORDER_TARGET] < 0:
                                    arrived = True
                    if step > ZERO and (blocking != MOVING or not allied) and near_i[b, st.NI_SLOT, q] != target:
                        # (dx, dy) points from the other unit to this one: what of the step goes into the other?
                        into = -(ux * dx + uy * dy) / d
                        if into > ZERO:
                            wall_x -= into * dx / d
                            wall_y -= into * dy / d
                            side += -into if uy * dx > ux * dy else into
        flags = ii[b, i, st.I_FLAGS]
        if wall_x != ZERO or wall_y != ZERO:
            # Along the wall that the blockers form, always on the same hand until the way is clear.
            if flags & st.FLAG_AROUND == 0:
                left = side > ZERO if abs(side) > EDGE else ii[b, i, st.I_PHASE] & 1 != 0
                flags = (flags & ~st.FLAG_LEFT) | st.FLAG_AROUND | (st.FLAG_LEFT if left else 0)
                ii[b, i, st.I_FLAGS] = flags
            size = np.sqrt(wall_x * wall_x + wall_y * wall_y)
            wall_x, wall_y = wall_x / size, wall_y / size
            into = max(ux * wall_x + uy * wall_y, ZERO)
            hand = ONE if flags & st.FLAG_LEFT else -ONE
            ax = ux - into * wall_x - hand * into * wall_y
            ay = uy - into * wall_y + hand * into * wall_x
            norm = np.sqrt(ax * ax + ay * ay)
            if norm > EDGE:
                vx, vy = step * ax / norm, step * ay / norm
        elif flags & st.FLAG_AROUND:
            ii[b, i, st.I_FLAGS] = flags & ~st.FLAG_AROUND
        if push_x != ZERO or push_y != ZERO:
            size = np.sqrt(push_x * push_x + push_y * push_y)
            if size > PUSH_LIMIT:
                push_x, push_y = push_x * (PUSH_LIMIT / size), push_y * (PUSH_LIMIT / size)
            vx += push_x
            vy += push_y
        if vx != ZERO or vy != ZERO:
            px, py = f[b, i, st.F_X], f[b, i, st.F_Y]
            nx = min(max(px + vx, x0), x1)
            ny = min(max(py + vy, y0), y1)
            if static.options[st.O_OBSTACLES] and key & (KEY_FLYER_PLANE | KEY_COLOSSUS_PLANE) == 0:
                if mobility == TELEPORT:
                    nx, ny = nearest_pathable(static, nx, ny)
                else:
                    nx, ny = slide(static, px, py, nx, ny)
            f[b, i, st.F_X] = nx
            f[b, i, st.F_Y] = ny
            f[b, i, st.F_VX] = nx - px
            f[b, i, st.F_VY] = ny - py
            if static.options[st.O_TERRAIN]:
                ground = static.terrain[int(ny), int(nx)]
                f[b, i, st.F_Z] = ground + static.kind_f[ii[b, i, st.I_KIND], st.K_HEIGHT]
        if arrived:
            next_order(state, b, i)


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
