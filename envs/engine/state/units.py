"""Units of a world: created, changed into another kind, killed, and listed."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.layout import (
    F_ENERGY,
    F_ENERGY_MAX,
    F_FACING_Y,
    F_HEALTH,
    F_HEALTH_MAX,
    F_HOME_X,
    F_HOME_Y,
    F_PACE,
    F_RADIUS,
    F_SHIELD,
    F_SHIELD_MAX,
    F_X,
    F_Y,
    F_Z,
    FINEST,
    FLAG_OBEDIENT,
    I_ALIVE,
    I_ATTACKER,
    I_CELL,
    I_FLAGS,
    I_HURT_LOOP,
    I_KIND,
    I_ORDER_TARGET,
    I_OWNER,
    I_PHASE,
    I_RANK,
    I_SHOT_LOOP,
    I_SHOT_TARGET,
    I_SPOTTER,
    I_TAG,
    I_TARGET,
    I_VISIBLE,
    I_WAKE,
    K_ENERGY,
    K_ENERGY_START,
    K_HEALTH,
    K_HEIGHT,
    K_RADIUS,
    K_SHIELD,
    KI_FLAGS,
    MOST_CELLS,
    O_PLAYERS,
    T_ALIVE,
    T_CREATED,
    T_LOST,
    W_ALIVE,
    W_NEXT_TAG,
)

# Coefficients of q, q^3, ... in the arc tangent of q, 0 <= q <= 1 (Abramowitz and Stegun 1964, 4.4.49: to 2e-8).
_ARC_TANGENT = tuple(
    np.float32(c)
    for c in (
        0.9999993329,
        -0.3332985605,
        0.1994653599,
        -0.1390853351,
        0.0964200441,
        -0.0559098861,
        0.0218612288,
        -0.0040540580,
    )
)


@inline_kernel
def facing_angle(x, y):
    """Angle of the direction (x, y), both float32, in radians: -pi to pi, 0 = east, counter-clockwise.

    To 3e-7, about as near as a float32 can be. The library's arc tangent took longer than all else that is observed of
    a unit.
    """
    wide, narrow = max(abs(x), abs(y)), min(abs(x), abs(y))
    q = narrow / wide if wide > 0.0 else np.float32(0.0)
    square, angle = q * q, np.float32(0.0)
    for n in range(len(_ARC_TANGENT) - 1, -1, -1):
        angle = angle * square + _ARC_TANGENT[n]
    angle *= q
    if abs(y) > abs(x):
        angle = np.float32(np.pi / 2) - angle
    if x < 0.0:
        angle = np.float32(np.pi) - angle
    return np.copysign(angle, y)


@kernel
def list_alive(state, b):
    """Rebuilds `alive[b]`, in the order of the slots."""
    n = 0
    for i in range(state.ui.shape[1]):
        if state.ui[b, i, I_ALIVE] != 0:
            state.alive[b, n] = i
            n += 1
    state.w[b, W_ALIVE] = n


@inline_kernel
def rank_grid(static):
    """Cell size, columns and rows of the grid that units are ranked by, and for how many owners."""
    owners = static.options[O_PLAYERS] + 1
    size = FINEST
    while True:
        columns = (static.pathable.shape[1] + size - 1) // size
        rows = (static.pathable.shape[0] + size - 1) // size
        if columns * rows * owners <= MOST_CELLS:
            return size, columns, rows, owners
        size *= 2


@inline_kernel
def rank(grid, owner, x, y):
    """The number of the cell of (x, y). Each owner has cells of its own; those of neutral units come last."""
    size, columns, rows, owners = grid
    scale = np.float32(1.0) / np.float32(size)
    return ((min(owner, owners) - 1) * rows + int(y * scale)) * columns + int(x * scale)


@kernel
def set_kind(state, static, b, i, kind):
    """Makes unit `i` one of `kind` (Siege mode and back); health, orders and place stay."""
    f = state.uf
    f[b, i, F_RADIUS] = static.kind_f[kind, K_RADIUS]
    f[b, i, F_HEALTH_MAX] = static.kind_f[kind, K_HEALTH]
    f[b, i, F_SHIELD_MAX] = static.kind_f[kind, K_SHIELD]
    f[b, i, F_ENERGY_MAX] = static.kind_f[kind, K_ENERGY]
    f[b, i, F_Z] = static.terrain[int(f[b, i, F_Y]), int(f[b, i, F_X])] + static.kind_f[kind, K_HEIGHT]
    state.ui[b, i, I_KIND] = kind
    state.ui[b, i, I_WAKE] = 0
    state.ui[b, i, I_FLAGS] = static.kind_i[kind, KI_FLAGS] | (state.ui[b, i, I_FLAGS] & FLAG_OBEDIENT)


@kernel
def create_unit_in(state, static, b, kind, owner, x, y, first, last):
    """A unit in the lowest free slot of [first, last): the slot, or -1 when all are taken. It is idle, faces south."""
    for i in range(first, last):
        if state.ui[b, i, I_ALIVE] == 0:
            state.ui[b, i, :] = 0
            state.uf[b, i, :] = 0.0
            x0, y0 = static.bounds[0], static.bounds[1]
            x1, y1 = static.bounds[2] - np.float32(1e-3), static.bounds[3] - np.float32(1e-3)
            state.uf[b, i, F_X] = min(max(np.float32(x), x0), x1)
            state.uf[b, i, F_Y] = min(max(np.float32(y), y0), y1)
            state.uf[b, i, F_HOME_X] = state.uf[b, i, F_X]
            state.uf[b, i, F_HOME_Y] = state.uf[b, i, F_Y]
            state.uf[b, i, F_FACING_Y] = -1.0
            state.uf[b, i, F_PACE] = 1.0
            set_kind(state, static, b, i, kind)
            state.uf[b, i, F_HEALTH] = static.kind_f[kind, K_HEALTH]
            state.uf[b, i, F_SHIELD] = static.kind_f[kind, K_SHIELD]
            state.uf[b, i, F_ENERGY] = static.kind_f[kind, K_ENERGY_START]
            state.ui[b, i, I_ALIVE] = 1
            state.ui[b, i, I_OWNER] = owner
            state.ui[b, i, I_TAG] = state.w[b, W_NEXT_TAG]
            state.w[b, W_NEXT_TAG] += 1
            state.ui[b, i, I_ORDER_TARGET] = -1
            state.ui[b, i, I_TARGET] = -1
            state.ui[b, i, I_ATTACKER] = -1
            state.ui[b, i, I_SHOT_TARGET] = -1
            state.ui[b, i, I_SHOT_LOOP] = -1000
            state.ui[b, i, I_HURT_LOOP] = -1000
            state.ui[b, i, I_CELL] = -1
            state.ui[b, i, I_SPOTTER] = -1
            state.ui[b, i, I_VISIBLE] = 1 << owner
            state.ui[b, i, I_RANK] = rank(rank_grid(static), owner, state.uf[b, i, F_X], state.uf[b, i, F_Y])
            # Phases count within an owner, so that mirrored armies work in step.
            state.ui[b, i, I_PHASE] = state.tally[b, owner, T_CREATED]
            state.tally[b, owner, T_CREATED] += 1
            state.tally[b, owner, T_ALIVE] += 1
            count = state.w[b, W_ALIVE]
            while count > 0 and state.alive[b, count - 1] > i:
                state.alive[b, count] = state.alive[b, count - 1]
                count -= 1
            state.alive[b, count] = i
            state.w[b, W_ALIVE] += 1
            return i
    return -1


@kernel
def create_unit(state, static, b, kind, owner, x, y):
    """`create_unit_in` over all slots."""
    return create_unit_in(state, static, b, kind, owner, x, y, 0, state.ui.shape[1])


@kernel
def kill_unit(state, b, i):
    """Removes unit `i` (dead or taken out of the game) and frees its slot; nothing happens if the slot is free."""
    if state.ui[b, i, I_ALIVE] != 0:
        owner = state.ui[b, i, I_OWNER]
        state.ui[b, i, I_ALIVE] = 0
        state.ui[b, i, I_VISIBLE] = 0
        state.uf[b, i, F_HEALTH] = 0.0
        state.uf[b, i, F_SHIELD] = 0.0
        state.tally[b, owner, T_ALIVE] -= 1
        state.tally[b, owner, T_LOST] += 1
        list_alive(state, b)
