"""Fog of war: which players see which units, and which cells."""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.neighbours import bit_range, bit_scale
from envs.engine.state import kernel

HIGHER = np.float32(1.0)  # terrain so much higher hides what stands on it
WIDEST = np.float32(3.0)  # no unit's radius is larger


@kernel
def _sees(state, static, b, j, i):
    """Whether unit `j` sees unit `i` (of another owner)."""
    f, ii = state.uf, state.ui
    kind = ii[b, j, st.I_KIND]
    reach = static.kind_f[kind, st.K_SIGHT] + f[b, i, st.F_RADIUS]
    if ii[b, i, st.I_FLAGS] & (st.FLAG_CLOAKED | st.FLAG_BURROWED):
        reach = static.kind_f[kind, st.K_DETECTION]
    dx, dy = f[b, j, st.F_X] - f[b, i, st.F_X], f[b, j, st.F_Y] - f[b, i, st.F_Y]
    if dx * dx + dy * dy > reach * reach or reach <= 0.0:
        return False
    if static.options[st.O_HIGH_GROUND] == 0 or (ii[b, j, st.I_FLAGS] | ii[b, i, st.I_FLAGS]) & st.FLAG_FLYING:
        return True
    low = static.terrain[int(f[b, j, st.F_Y]), int(f[b, j, st.F_X])]
    high = static.terrain[int(f[b, i, st.F_Y]), int(f[b, i, st.F_X])]
    return high - low <= HIGHER


@kernel
def update_vision(state, static, b):
    """Sets `I_VISIBLE` of every unit of world `b`: bit p for each player p that owns it or has a unit that sees it.

    Cloaked and burrowed units are seen by detectors only. Without fog everything else is seen by everyone.
    """
    f, ii, bits = state.uf, state.ui, state.bits
    players = static.options[st.O_PLAYERS]
    everyone = (1 << (players + 1)) - 2
    hidden = st.FLAG_CLOAKED | st.FLAG_BURROWED
    count = state.w[b, st.W_ALIVE]
    fog = static.options[st.O_FOG]
    many = count > st.FEW_UNITS and fog != 0
    scale = bit_scale(static)
    if many:
        # A coarse map of what each player may see at all, so that units out of sight are not compared with everybody.
        for p in range(bits.shape[2]):
            for r in range(st.BIT_ROWS):
                bits[b, 1, p, r] = 0
        for n in range(count):
            j = state.alive[b, n]
            owner = ii[b, j, st.I_OWNER]
            if owner != st.NEUTRAL:
                reach = static.kind_f[ii[b, j, st.I_KIND], st.K_SIGHT] + WIDEST
                c0, c1 = bit_range(scale, f[b, j, st.F_X], reach)
                r0, r1 = bit_range(scale, f[b, j, st.F_Y], reach)
                columns = ((1 << (c1 - c0 + 1)) - 1) << c0
                for r in range(r0, r1 + 1):
                    bits[b, 1, owner, r] |= columns
    for n in range(count):
        i = state.alive[b, n]
        owner = ii[b, i, st.I_OWNER]
        seen = (1 << owner) | (state.w[b, st.W_REVEAL] & everyone)
        if fog == 0 and ii[b, i, st.I_FLAGS] & hidden == 0:
            seen |= everyone
        asked = everyone & ~seen
        if many and asked:
            column, row = int(f[b, i, st.F_X] * scale), int(f[b, i, st.F_Y] * scale)
            for p in range(1, players + 1):
                if (bits[b, 1, p, row] >> column) & 1 == 0:
                    asked &= ~(1 << p)
        if asked:
            spotter = ii[b, i, st.I_SPOTTER]
            known = spotter >= 0 and ii[b, spotter, st.I_ALIVE] != 0 and ii[b, spotter, st.I_OWNER] != owner
            if known and _sees(state, static, b, spotter, i):
                seen |= 1 << ii[b, spotter, st.I_OWNER]
            for m in range(count):
                if asked & ~seen == 0:
                    break
                j = state.alive[b, m]
                other = ii[b, j, st.I_OWNER]
                if ((asked & ~seen) >> other) & 1 and _sees(state, static, b, j, i):
                    seen |= 1 << other
                    ii[b, i, st.I_SPOTTER] = j
        ii[b, i, st.I_VISIBLE] = seen


@kernel
def visible_cells(state, static, b, player, out):
    """Writes 1 into `out` [height, width] (uint8) where a unit of `player` sees the ground, 0 elsewhere."""
    f, ii = state.uf, state.ui
    height, width = out.shape
    out[:, :] = 1 if static.options[st.O_FOG] == 0 or (state.w[b, st.W_REVEAL] >> player) & 1 else 0
    for n in range(state.w[b, st.W_ALIVE]):
        j = state.alive[b, n]
        if ii[b, j, st.I_OWNER] != player:
            continue
        sight = static.kind_f[ii[b, j, st.I_KIND], st.K_SIGHT]
        x, y = f[b, j, st.F_X], f[b, j, st.F_Y]
        flying = ii[b, j, st.I_FLAGS] & st.FLAG_FLYING
        ground = static.terrain[int(y), int(x)]
        for r in range(max(int(y - sight), 0), min(int(y + sight) + 1, height)):
            for c in range(max(int(x - sight), 0), min(int(x + sight) + 1, width)):
                dx, dy = np.float32(c) + np.float32(0.5) - x, np.float32(r) + np.float32(0.5) - y
                if dx * dx + dy * dy <= sight * sight and (
                    static.options[st.O_HIGH_GROUND] == 0 or flying or static.terrain[r, c] - ground <= HIGHER
                ):
                    out[r, c] = 1
