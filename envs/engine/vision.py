"""Fog of war: which players see which units."""

from __future__ import annotations

from envs.engine.state import (
    F_RADIUS,
    F_X,
    F_Y,
    I_KIND,
    I_OWNER,
    I_VISIBLE,
    K_SIGHT,
    NEUTRAL,
    O_FOG,
    O_PLAYERS,
    W_ALIVE,
    kernel,
)


@kernel
def update_vision(state, static, b):
    """Sets `I_VISIBLE` of every unit: bit p for each player p that owns it or has a unit whose sight reaches it."""
    f, ii = state.f, state.i
    players = static.options[O_PLAYERS]
    everyone = (1 << (players + 1)) - 2
    count = state.w[b, W_ALIVE]
    for n in range(count):
        i = state.alive[b, n]
        if static.options[O_FOG] == 0:
            ii[b, I_VISIBLE, i] = everyone
            continue
        seen = 1 << ii[b, I_OWNER, i]
        x, y = f[b, F_X, i], f[b, F_Y, i]
        for m in range(count):
            j = state.alive[b, m]
            owner = ii[b, I_OWNER, j]
            if owner == NEUTRAL or (seen >> owner) & 1:
                continue
            reach = static.kind_f[ii[b, I_KIND, j], K_SIGHT] + f[b, F_RADIUS, i]
            dx, dy = f[b, F_X, j] - x, f[b, F_Y, j] - y
            if dx * dx + dy * dy <= reach * reach:
                seen |= 1 << owner
        ii[b, I_VISIBLE, i] = seen
