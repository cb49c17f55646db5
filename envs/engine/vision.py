"""Fog of war: which players see which units, and which cells."""

from __future__ import annotations

import numpy as np

from envs.engine.neighbours import (
    RADIUS_PARTS,
    SLACK,
    begin_places,
    blocks_in_window,
    box_places,
    lanes_before,
    list_places,
    near_units,
    square,
)
from envs.engine.simd.lookup import first_bit, lanes_in_reach, lanes_in_window, owners_of_all, see_lanes
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel

HIGHER = np.float32(1.0)  # terrain so much higher hides what stands on it
FAR = np.float32(1e9)


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
    box_places(state, near, b, state.w[b, st.W_PLACES])
    see_units(state, static, near, b)


@inline_kernel
def see_units(state, static, near, b):
    """Sets `I_VISIBLE` of every unit of world `b`: bit p for each player p that owns it or has a unit that sees it.

    Cloaked and burrowed units are seen by detectors only. Without fog everything else is seen by everyone.
    """
    ui, start, count = state.ui[b], state.w[b, st.W_START], state.w[b, st.W_PLACES]
    everyone = (1 << (static.options[st.O_PLAYERS] + 1)) - 2
    fog = static.options[st.O_FOG]
    flat = static.options[st.O_HIGH_GROUND] == 0
    if fog != 0 and flat:
        for first in range(start, start + count, st.LANES):
            see_block(state, near, b, first, everyone)
    for place in range(start, start + count):
        k = np.uintp(place)
        if near.i[st.NI_KEY, k] == 0:
            continue
        v = ui[np.uintp(near.i[st.NI_SLOT, k])]
        hidden = v[st.I_FLAGS] & (st.FLAG_CLOAKED | st.FLAG_BURROWED) != 0
        seen = (1 << v[st.I_OWNER]) | (state.w[b, st.W_REVEAL] & everyone)
        if fog == 0 and not hidden:
            seen |= everyone
        elif flat and not hidden:
            seen |= near.i[st.NI_SEEN, k] & everyone
        elif everyone & ~seen != 0:
            seen |= find_spotters(state, static, near, b, k, everyone & ~seen, hidden)
        v[st.I_VISIBLE] = seen


@inline_kernel
def see_block(state, near, b, first, everyone):
    """Sets `NI_SEEN` of the sixteen units of world `b` from place `first` on, without regard to cloaks and heights."""
    start, places = state.w[b, st.W_START], near.f.shape[1]
    count = state.w[b, st.W_PLACES]
    for k in range(first, first + st.LANES):
        near.i[st.NI_SEEN, np.uintp(k)] = 0
    # Its own side sees it anyway.
    wanted = np.int32(everyone & ~owners_of_all(near.i, first, places))
    reach = farthest(state, b)
    block = np.uintp((first - start) // st.LANES)
    x0, x1 = near.f[st.N_BOX_X0, block] - reach, near.f[st.N_BOX_X1, block] + reach
    y0, y1 = near.f[st.N_BOX_Y0, block] - reach, near.f[st.N_BOX_Y1, block] + reach
    if state.w[b, st.W_MANY] == 0:
        x0, x1, y0, y1 = -FAR, FAR, -FAR, FAR
    left = blocks_in_window(state, near, b, count, (x0, x1, y0, y1), wanted)
    while left != 0:
        at = start + st.LANES * first_bit(left)
        left &= left - 1
        others = lanes_in_window(near.f, near.i, at, places, st.N_X, st.N_Y, x0, x1, y0, y1, wanted)
        see_lanes(near.f, near.i, first, at, others & lanes_before(start + count, at), places)


@inline_kernel
def farthest(state, b):
    """No unit of world `b` sees another whose centre is farther away."""
    return np.float32(state.w[b, st.W_FARTHEST] + state.w[b, st.W_LARGEST]) / RADIUS_PARTS + SLACK


@inline_kernel
def find_spotters(state, static, near, b, k, asked, hidden):
    """Which of the players `asked` see the unit at place `k`."""
    ui = state.ui[b]
    start, last, places = state.w[b, st.W_START], state.w[b, st.W_START] + state.w[b, st.W_PLACES], near.f.shape[1]
    i = near.i[st.NI_SLOT, k]
    v = ui[i]
    x, y, seen = near.f[st.N_X, k], near.f[st.N_Y, k], 0
    spotter = v[st.I_SPOTTER]
    known = spotter >= 0 and ui[spotter, st.I_ALIVE] != 0 and (asked >> ui[spotter, st.I_OWNER]) & 1 != 0
    if known and _sees(state, static, b, spotter, i):
        seen |= 1 << ui[spotter, st.I_OWNER]
    x0, x1, y0, y1 = square(x, y, farthest(state, b))
    left = blocks_in_window(state, near, b, last - start, (x0, x1, y0, y1), np.int32(asked & ~seen))
    while left != 0 and asked & ~seen != 0:
        first = start + st.LANES * first_bit(left)
        left &= left - 1
        wanted = np.int32(asked & ~seen)
        if hidden:
            found = lanes_in_window(near.f, near.i, first, places, st.N_X, st.N_Y, x0, x1, y0, y1, wanted)
        else:
            reach = near.f[st.N_RADIUS, k]
            found = lanes_in_reach(near.f, near.i, first, places, st.N_SIGHT, x, y, reach, wanted)
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
