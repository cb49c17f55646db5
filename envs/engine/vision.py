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
    f, ii = state.f, state.i
    kind = ii[b, st.I_KIND, j]
    reach = static.kind_f[kind, st.K_SIGHT] + f[b, st.F_RADIUS, i]
    if ii[b, st.I_FLAGS, i] & (st.FLAG_CLOAKED | st.FLAG_BURROWED):
        reach = static.kind_f[kind, st.K_DETECTION]
    dx, dy = f[b, st.F_X, j] - f[b, st.F_X, i], f[b, st.F_Y, j] - f[b, st.F_Y, i]
    if dx * dx + dy * dy > reach * reach or reach <= 0.0:
        return False
    if static.options[st.O_HIGH_GROUND] == 0 or (ii[b, st.I_FLAGS, j] | ii[b, st.I_FLAGS, i]) & st.FLAG_FLYING:
        return True
    low = static.terrain[int(f[b, st.F_Y, j]), int(f[b, st.F_X, j])]
    high = static.terrain[int(f[b, st.F_Y, i]), int(f[b, st.F_X, i])]
    return high - low <= HIGHER


@kernel
def update_vision(state, static, b):
    """Sets `I_VISIBLE` of every unit of world `b`: bit p for each player p that owns it or has a unit that sees it.

    Cloaked and burrowed units are seen by detectors only. Without fog everything else is seen by everyone.
    """
    f, ii, bits = state.f, state.i, state.bits
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
            owner = ii[b, st.I_OWNER, j]
            if owner != st.NEUTRAL:
                reach = static.kind_f[ii[b, st.I_KIND, j], st.K_SIGHT] + WIDEST
                c0, c1 = bit_range(scale, f[b, st.F_X, j], reach)
                r0, r1 = bit_range(scale, f[b, st.F_Y, j], reach)
                columns = ((1 << (c1 - c0 + 1)) - 1) << c0
                for r in range(r0, r1 + 1):
                    bits[b, 1, owner, r] |= columns
    for n in range(count):
        i = state.alive[b, n]
        owner = ii[b, st.I_OWNER, i]
        seen = (1 << owner) | (state.w[b, st.W_REVEAL] & everyone)
        if fog == 0 and ii[b, st.I_FLAGS, i] & hidden == 0:
            seen |= everyone
        asked = everyone & ~seen
        if many and asked:
            column, row = int(f[b, st.F_X, i] * scale), int(f[b, st.F_Y, i] * scale)
            for p in range(1, players + 1):
                if (bits[b, 1, p, row] >> column) & 1 == 0:
                    asked &= ~(1 << p)
        if asked:
            spotter = ii[b, st.I_SPOTTER, i]
            known = spotter >= 0 and ii[b, st.I_ALIVE, spotter] != 0 and ii[b, st.I_OWNER, spotter] != owner
            if known and _sees(state, static, b, spotter, i):
                seen |= 1 << ii[b, st.I_OWNER, spotter]
            for m in range(count):
                if asked & ~seen == 0:
                    break
                j = state.alive[b, m]
                other = ii[b, st.I_OWNER, j]
                if ((asked & ~seen) >> other) & 1 and _sees(state, static, b, j, i):
                    seen |= 1 << other
                    ii[b, st.I_SPOTTER, i] = j
        ii[b, st.I_VISIBLE, i] = seen


@kernel
def visible_cells(state, static, b, player, out):
    """Writes 1 into `out` [height, width] (uint8) where a unit of `player` sees the ground, 0 elsewhere."""
    f, ii = state.f, state.i
    height, width = out.shape
    out[:, :] = 1 if static.options[st.O_FOG] == 0 or (state.w[b, st.W_REVEAL] >> player) & 1 else 0
    for n in range(state.w[b, st.W_ALIVE]):
        j = state.alive[b, n]
        if ii[b, st.I_OWNER, j] != player:
            continue
        sight = static.kind_f[ii[b, st.I_KIND, j], st.K_SIGHT]
        x, y = f[b, st.F_X, j], f[b, st.F_Y, j]
        flying = ii[b, st.I_FLAGS, j] & st.FLAG_FLYING
        ground = static.terrain[int(y), int(x)]
        for r in range(max(int(y - sight), 0), min(int(y + sight) + 1, height)):
            for c in range(max(int(x - sight), 0), min(int(x + sight) + 1, width)):
                dx, dy = np.float32(c) + np.float32(0.5) - x, np.float32(r) + np.float32(0.5) - y
                if dx * dx + dy * dy <= sight * sight and (
                    static.options[st.O_HIGH_GROUND] == 0 or flying or static.terrain[r, c] - ground <= HIGHER
                ):
                    out[r, c] = 1
