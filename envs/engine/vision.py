"""Fog of war: which players see which units, and which cells."""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.lanes import first_bit, lanes_in_reach, see_lanes
from envs.engine.neighbours import begin_places, bit_range, bit_scale, lanes_before, list_places, near_units
from envs.engine.state import inline_kernel, kernel

HIGHER = np.float32(1.0)  # terrain so much higher hides what stands on it
WIDEST = np.float32(3.0)  # no unit's radius is larger


@inline_kernel
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
    """Brings `I_VISIBLE` of every unit of world `b` up to date between two calls of `advance_worlds`."""
    near = near_units(state, b, b + 1)
    begin_places(state, static, b)
    state.w[b, st.W_START] = 0
    list_places(state, static, near, b)
    see_units(state, static, near, b)


@inline_kernel
def see_units(state, static, near, b):
    """Sets `I_VISIBLE` of every unit of world `b`: bit p for each player p that owns it or has a unit that sees it.

    Cloaked and burrowed units are seen by detectors only. Without fog everything else is seen by everyone.
    """
    ui, start, count = state.ui[b], state.w[b, st.W_START], state.w[b, st.W_ALIVE]
    everyone = (1 << (static.options[st.O_PLAYERS] + 1)) - 2
    fog = static.options[st.O_FOG]
    few = count <= st.FEW_UNITS and static.options[st.O_HIGH_GROUND] == 0
    mapped = fog != 0 and not few
    if fog != 0 and few:
        for first in range(start, start + count, st.LANES):
            see_lanes(near.f, near.i, first, start, count, near.f.shape[1])
    if mapped:
        map_sight(state, static, near, b)
    for place in range(start, start + count):
        k = np.uintp(place)
        v = ui[np.uintp(near.i[st.NI_SLOT, k])]
        hidden = v[st.I_FLAGS] & (st.FLAG_CLOAKED | st.FLAG_BURROWED) != 0
        seen = (1 << v[st.I_OWNER]) | (state.w[b, st.W_REVEAL] & everyone)
        if fog == 0 and not hidden:
            seen |= everyone
        elif few and not hidden:
            seen |= near.i[st.NI_SEEN, k] & everyone
        elif everyone & ~seen != 0:
            seen |= find_spotters(state, static, near, b, k, everyone & ~seen, hidden, mapped)
        v[st.I_VISIBLE] = seen


@inline_kernel
def map_sight(state, static, near, b):
    """A coarse map of what each player may see at all, so that units out of sight are not compared with everybody."""
    bits, start, scale = state.bits[b, 1], state.w[b, st.W_START], bit_scale(static)
    bits[:, :] = 0
    for k in range(start, start + state.w[b, st.W_ALIVE]):
        owner = state.ui[b, near.i[st.NI_SLOT, k], st.I_OWNER]
        if owner != st.NEUTRAL:
            reach = near.f[st.N_SIGHT, k] + WIDEST
            c0, c1 = bit_range(scale, near.f[st.N_X, k], reach)
            r0, r1 = bit_range(scale, near.f[st.N_Y, k], reach)
            columns = ((1 << (c1 - c0 + 1)) - 1) << c0
            for r in range(r0, r1 + 1):
                bits[owner, r] |= columns


@inline_kernel
def find_spotters(state, static, near, b, k, asked, hidden, mapped):
    """Which of the players `asked` see the unit at place `k`; `mapped`: `map_sight` has been called."""
    ui, bits, scale = state.ui[b], state.bits[b, 1], bit_scale(static)
    start, last, places = state.w[b, st.W_START], state.w[b, st.W_START] + state.w[b, st.W_ALIVE], near.f.shape[1]
    i = near.i[st.NI_SLOT, k]
    v = ui[i]
    x, y, seen = near.f[st.N_X, k], near.f[st.N_Y, k], 0
    if mapped:
        column, row = int(x * scale), int(y * scale)
        for p in range(1, static.options[st.O_PLAYERS] + 1):
            if (bits[p, row] >> column) & 1 == 0:
                asked &= ~(1 << p)
    spotter = v[st.I_SPOTTER]
    known = spotter >= 0 and ui[spotter, st.I_ALIVE] != 0 and (asked >> ui[spotter, st.I_OWNER]) & 1 != 0
    if known and _sees(state, static, b, spotter, i):
        seen |= 1 << ui[spotter, st.I_OWNER]
    for first in range(start, last, st.LANES):
        if asked & ~seen == 0:
            break
        if hidden:
            found = (1 << st.LANES) - 1
        else:
            found = lanes_in_reach(
                near.f,
                near.i,
                first,
                places,
                st.N_SIGHT,
                x,
                y,
                near.f[st.N_RADIUS, k],
                np.int32(asked & ~seen),
            )
        found &= lanes_before(last, first)
        while found != 0:
            j = near.i[st.NI_SLOT, first + first_bit(found)]
            found &= found - 1
            other = ui[j, st.I_OWNER]
            if ((asked & ~seen) >> other) & 1 != 0 and _sees(state, static, b, j, i):
                seen |= 1 << other
                v[st.I_SPOTTER] = j
    return seen


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
