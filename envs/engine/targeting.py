"""Who can be attacked, who is attacked first, who is healed."""

from __future__ import annotations

import numpy as np

from envs.engine.neighbours import (
    KEY_AIR,
    KEY_GROUND,
    KEY_HITS_AIR,
    KEY_HITS_GROUND,
    RADIUS_PARTS,
    blocks_in_window,
    lanes_before,
    square,
)
from envs.engine.simd.lookup import first_bit, lanes_in_reach
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.layout import OWNERS

NO_DISTANCE = np.float32(1e9)


@kernel
def weapon_for(state, static, b, i, j):
    """Index of the first weapon of unit `i` that can hit unit `j`, -1 = none."""
    flags = state.ui[b, j, st.I_FLAGS]
    if flags & st.FLAG_INVULNERABLE:
        return -1
    planes = st.TARGET_AIR if flags & st.FLAG_FLYING else st.TARGET_GROUND
    if flags & st.FLAG_COLOSSUS:
        planes = st.TARGET_AIR | st.TARGET_GROUND
    kind = state.ui[b, i, st.I_KIND]
    for w in range(static.kind_i[kind, st.KI_WEAPONS]):
        if static.weapon_i[kind, w, st.WI_TARGETS] & planes:
            return w
    return -1


@kernel
def can_attack(state, static, b, i, j):
    """Whether unit `i` may be told to attack unit `j` now: an enemy that is alive, seen, and hit by a weapon of `i`."""
    ii = state.ui
    if ii[b, i, st.I_ALIVE] == 0 or ii[b, j, st.I_ALIVE] == 0:
        return False
    owner = ii[b, i, st.I_OWNER]
    if (static.enemies[owner] >> ii[b, j, st.I_OWNER]) & 1 == 0 or (ii[b, j, st.I_VISIBLE] >> owner) & 1 == 0:
        return False
    return weapon_for(state, static, b, i, j) >= 0


@kernel
def can_heal(state, static, b, i, j):
    """Whether unit `i` may be told to heal unit `j` now: a healer with energy, an own biological unit that is hurt."""
    ii, f = state.ui, state.uf
    if i == j or ii[b, i, st.I_ALIVE] == 0 or ii[b, j, st.I_ALIVE] == 0:
        return False
    if static.kind_f[ii[b, i, st.I_KIND], st.K_HEAL_RATE] <= 0.0 or f[b, i, st.F_ENERGY] <= 0.0:
        return False
    flags = ii[b, j, st.I_FLAGS]
    if ii[b, i, st.I_OWNER] != ii[b, j, st.I_OWNER] or flags & st.FLAG_BIOLOGICAL == 0 or flags & st.FLAG_STRUCTURE:
        return False
    return f[b, j, st.F_HEALTH] < f[b, j, st.F_HEALTH_MAX]


@inline_kernel
def lost(state, b, i, j, tag):
    """Whether slot `j` no longer holds the unit `tag`, or `i`'s owner does not see it."""
    v = state.ui[b, np.uintp(j)]
    seen = v[st.I_VISIBLE] >> state.ui[b, np.uintp(i), st.I_OWNER]
    return v[st.I_ALIVE] == 0 or v[st.I_TAG] != tag or seen & 1 == 0


@inline_kernel
def blocks_within(state, near, b, k, reach, owners):
    """As `blocks_in_window`: where units may be whose edges are within `reach` of the centre of that at place `k`."""
    wide = reach + np.float32(state.w[b, st.W_LARGEST]) / RADIUS_PARTS
    window = square(near.f[st.N_X, k], near.f[st.N_Y, k], wide)
    return blocks_in_window(state, near, b, state.w[b, st.W_PLACES], window, owners)


@inline_kernel
def enemies_within(state, static, near, b, k, owner, scan):
    """False when `acquire` would find no target for the unit at place `k`, of `owner`; True when it may."""
    x, y, reach = near.f[st.N_X, k], near.f[st.N_Y, k], scan + near.f[st.N_RADIUS, k]
    start, places, enemies = state.w[b, st.W_START], near.f.shape[1], static.enemies[owner]
    last, left, found = start + state.w[b, st.W_PLACES], blocks_within(state, near, b, k, reach, enemies), 0
    while left != 0:
        first = start + st.LANES * first_bit(left)
        left &= left - 1
        found |= lanes_before(last, first) & lanes_in_reach(
            near.f, near.i, first, places, st.N_RADIUS, x, y, reach, enemies
        )
    return found != 0


@inline_kernel
def acquire(state, static, near, b, k, scan):
    """The best target for the unit at place `k`, within `scan` edge to edge; -1 = none.

    First the highest priority (an attacker that can hit back before one that cannot), then the nearest edge.
    """
    ii = state.ui
    i = near.i[st.NI_SLOT, k]
    key = near.i[st.NI_KEY, k]
    kind = ii[b, i, st.I_KIND]
    owner = ii[b, i, st.I_OWNER]
    enemies = static.enemies[owner]
    planes = 0
    if key & KEY_HITS_GROUND:
        planes |= KEY_GROUND
    if key & KEY_HITS_AIR:
        planes |= KEY_AIR
    hits_me = 0
    if key & KEY_GROUND:
        hits_me |= KEY_HITS_GROUND
    if key & KEY_AIR:
        hits_me |= KEY_HITS_AIR
    least = static.weapon_f[kind, 0, st.WF_MIN_RANGE]
    x, y, radius = near.f[st.N_X, k], near.f[st.N_Y, k], near.f[st.N_RADIUS, k]
    reach = scan + radius
    best, best_rank, best_distance = np.int64(-1), -1, NO_DISTANCE
    places, start = near.f.shape[1], state.w[b, st.W_START]
    last, left = start + state.w[b, st.W_PLACES], blocks_within(state, near, b, k, reach, enemies)
    while left != 0:
        first = start + st.LANES * first_bit(left)
        left &= left - 1
        found = lanes_before(last, first) & lanes_in_reach(
            near.f, near.i, first, places, st.N_RADIUS, x, y, reach, enemies
        )
        while found != 0:
            q = np.uintp(first + first_bit(found))
            found &= found - 1
            other = near.i[st.NI_KEY, q]
            j = np.uintp(near.i[st.NI_SLOT, q])
            if other & planes == 0 or (ii[b, j, st.I_VISIBLE] >> owner) & 1 == 0:
                continue
            dx, dy = near.f[st.N_X, q] - x, near.f[st.N_Y, q] - y
            distance = np.sqrt(dx * dx + dy * dy) - near.f[st.N_RADIUS, q]
            if distance - radius < least:
                continue
            rank = 2 * static.kind_i[ii[b, j, st.I_KIND], st.KI_PRIORITY] + (1 if other & hits_me else 0)
            if rank > best_rank or (rank == best_rank and distance < best_distance):
                best, best_rank, best_distance = np.int64(j), rank, distance
    return best


@kernel
def acquire_wounded(state, static, near, b, k):
    """The nearest own unit within scan range that a healer at place `k` can heal; -1 = none."""
    ii, start = state.ui, state.w[b, st.W_START]
    i = near.i[st.NI_SLOT, k]
    owner_key = near.i[st.NI_KEY, k] & OWNERS
    scan = static.kind_f[ii[b, i, st.I_KIND], st.K_SCAN_RANGE] + near.f[st.N_RADIUS, k]
    best, best_distance = -1, NO_DISTANCE
    for q in range(start, start + state.w[b, st.W_PLACES]):
        if near.i[st.NI_KEY, q] & owner_key == 0:
            continue
        j = near.i[st.NI_SLOT, q]
        dx, dy = near.f[st.N_X, q] - near.f[st.N_X, k], near.f[st.N_Y, q] - near.f[st.N_Y, k]
        distance = np.sqrt(dx * dx + dy * dy) - near.f[st.N_RADIUS, q]
        if distance <= scan and distance < best_distance and can_heal(state, static, b, i, j):
            best, best_distance = j, distance
    return best
