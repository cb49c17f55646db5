"""Movement: turning, acceleration, soft collision by inner radius, obstacles."""

from __future__ import annotations

import numpy as np

from envs.engine.state import (
    F_FACING_X,
    F_FACING_Y,
    F_STIM,
    F_VX,
    F_VY,
    F_X,
    F_Y,
    FLAG_COLOSSUS,
    FLAG_FLYING,
    FLAG_INVULNERABLE,
    FLAG_OBEDIENT,
    I_FLAGS,
    I_KIND,
    K_INNER_RADIUS,
    K_SPEED,
    K_TURN_COS,
    K_TURN_SIN,
    W_ALIVE,
    kernel,
)

STIM_SPEED = np.float32(1.5)
HALF = np.float32(0.5)


@kernel
def steer(state, static, b, i, x, y, near):
    """Sets the wanted displacement of unit `i` towards (x, y), stopping at distance `near`; True when it is there."""
    f = state.f
    dx, dy = x - f[b, F_X, i], y - f[b, F_Y, i]
    distance = np.sqrt(dx * dx + dy * dy)
    left = distance - near
    if left <= np.float32(1e-3):
        return True
    kind = state.i[b, I_KIND, i]
    step = static.kind_f[kind, K_SPEED]
    if f[b, F_STIM, i] > 0.0:
        step *= STIM_SPEED
    step = min(step, left)
    face(state, static, b, i, dx / distance, dy / distance)
    f[b, F_VX, i] = step * f[b, F_FACING_X, i]
    f[b, F_VY, i] = step * f[b, F_FACING_Y, i]
    return False


@kernel
def face(state, static, b, i, ux, uy):
    """Turns unit `i` towards the unit vector (ux, uy), by at most its turn rate."""
    f = state.f
    kind = state.i[b, I_KIND, i]
    fx, fy = f[b, F_FACING_X, i], f[b, F_FACING_Y, i]
    cos = static.kind_f[kind, K_TURN_COS]
    if fx * ux + fy * uy >= cos or (state.i[b, I_FLAGS, i] & FLAG_OBEDIENT) != 0:
        f[b, F_FACING_X, i] = ux
        f[b, F_FACING_Y, i] = uy
        return
    sin = static.kind_f[kind, K_TURN_SIN]
    if fx * uy - fy * ux < 0.0:
        sin = -sin
    f[b, F_FACING_X, i] = cos * fx - sin * fy
    f[b, F_FACING_Y, i] = sin * fx + cos * fy


@kernel
def move_units(state, static, b):
    """Moves every unit by its wanted displacement and the pushes of the units that it overlaps."""
    f, ii = state.f, state.i
    count = state.w[b, W_ALIVE]
    for n in range(count):
        i = state.alive[b, n]
        vx, vy = f[b, F_VX, i], f[b, F_VY, i]
        flags = ii[b, I_FLAGS, i]
        if flags & FLAG_INVULNERABLE:
            continue
        plane = flags & (FLAG_FLYING | FLAG_COLOSSUS)
        r = static.kind_f[ii[b, I_KIND, i], K_INNER_RADIUS]
        px, py = f[b, F_X, i] + vx, f[b, F_Y, i] + vy
        for m in range(count):
            j = state.alive[b, m]
            other = ii[b, I_FLAGS, j]
            if j == i or other & FLAG_INVULNERABLE or (other & (FLAG_FLYING | FLAG_COLOSSUS)) != plane:
                continue
            reach = r + static.kind_f[ii[b, I_KIND, j], K_INNER_RADIUS]
            dx, dy = px - f[b, F_X, j], py - f[b, F_Y, j]
            d2 = dx * dx + dy * dy
            if d2 < reach * reach and d2 > 1e-8:
                d = np.sqrt(d2)
                push = HALF * (reach - d) / d
                vx += push * dx
                vy += push * dy
        f[b, F_VX, i] = vx
        f[b, F_VY, i] = vy
    x0, y0 = static.bounds[0], static.bounds[1]
    x1, y1 = static.bounds[2] - np.float32(1e-3), static.bounds[3] - np.float32(1e-3)
    for n in range(count):
        i = state.alive[b, n]
        f[b, F_X, i] = min(max(f[b, F_X, i] + f[b, F_VX, i], x0), x1)
        f[b, F_Y, i] = min(max(f[b, F_Y, i] + f[b, F_VY, i], y0), y1)
