"""Impacts: direct hits, splash and bounces, and the removal of the dead."""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.state import inline_kernel, kernel, list_alive

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LEAST_DAMAGE = np.float32(0.5)


@inline_kernel
def hurt(state, static, b, j, damage, source, source_tag):
    """One hit of `damage` (bonus included): the shield takes what it can, less its own armor; the health the rest, less
    the unit's armor. A hit does at least 0.5."""
    f, ii = state.f, state.i
    kind = ii[b, st.I_KIND, j]
    shield = f[b, st.F_SHIELD, j]
    if shield > ZERO:
        damage = max(damage - static.kind_f[kind, st.K_SHIELD_ARMOR], LEAST_DAMAGE)
        if damage <= shield:
            f[b, st.F_SHIELD, j] = shield - damage
            damage = ZERO
        else:
            f[b, st.F_SHIELD, j] = ZERO
            damage = max(damage - shield - static.kind_f[kind, st.K_ARMOR], ZERO)
    else:
        damage = max(damage - static.kind_f[kind, st.K_ARMOR], LEAST_DAMAGE)
    before = f[b, st.F_HEALTH, j]
    f[b, st.F_HEALTH, j] = before - damage
    ii[b, st.I_HURT_LOOP, j] = state.w[b, st.W_LOOP]
    if source >= 0:
        ii[b, st.I_ATTACKER, j] = source
        ii[b, st.I_ATTACKER_TAG, j] = source_tag
        if before > ZERO and before <= damage:
            ii[b, st.I_KILLS, source] += 1
    return before - damage <= ZERO


@inline_kernel
def land_projectiles(state, static, b):
    """Impacts that are due. True when a unit has no health left."""
    count = state.w[b, st.W_SHOTS]
    kept = 0
    deaths = False
    for n in range(count):
        left = state.shot_i[b, n, st.S_LEFT]
        if left > 0:
            state.shot_i[b, n, st.S_LEFT] = left - 1
            if kept != n:
                for c in range(st.NUM_SHOT_INTS):
                    state.shot_i[b, kept, c] = state.shot_i[b, n, c]
                for c in range(st.NUM_SHOT_FLOATS):
                    state.shot_f[b, kept, c] = state.shot_f[b, n, c]
            kept += 1
        elif impact(state, static, b, n):
            deaths = True
    state.w[b, st.W_SHOTS] = kept
    return deaths


@inline_kernel
def impact(state, static, b, n):
    """The hits of projectile `n`. True when one of them kills, or the attacker died of its own attack."""
    ii, shot = state.i, state.shot_i
    wi = static.weapon_i
    j = shot[b, n, st.S_TARGET]
    kind, w, owner = shot[b, n, st.S_KIND], shot[b, n, st.S_WEAPON], shot[b, n, st.S_OWNER]
    source, tag = shot[b, n, st.S_SOURCE], shot[b, n, st.S_SOURCE_TAG]
    if ii[b, st.I_ALIVE, source] == 0 or ii[b, st.I_TAG, source] != tag:
        source = -1
    deaths = wi[kind, w, st.WI_SUICIDE] != 0
    if wi[kind, w, st.WI_SPLASH] != st.SPLASH_BURST:
        if ii[b, st.I_ALIVE, j] == 0 or ii[b, st.I_TAG, j] != shot[b, n, st.S_TARGET_TAG]:
            return deaths
        damage = static.damage[kind, w, ii[b, st.I_KIND, j]]
        for _ in range(wi[kind, w, st.WI_ATTACKS]):
            if hurt(state, static, b, j, damage, source, tag):
                deaths = True
    if wi[kind, w, st.WI_SPLASH] != st.SPLASH_NONE and splash(state, static, b, n, source):
        deaths = True
    if wi[kind, w, st.WI_BOUNCES] != 0 and bounce(state, static, b, kind, w, owner, j, source, tag):
        deaths = True
    return deaths


@kernel
def splash(state, static, b, n, source):
    """The splash of projectile `n` on every unit but its target. True when one dies.

    Distances are measured to the centres of units.
    """
    f, ii, shot = state.f, state.i, state.shot_i
    wf, wi = static.weapon_f, static.weapon_i
    j = shot[b, n, st.S_TARGET]
    kind, w, owner = shot[b, n, st.S_KIND], shot[b, n, st.S_WEAPON], shot[b, n, st.S_OWNER]
    tag = shot[b, n, st.S_SOURCE_TAG]
    shape = wi[kind, w, st.WI_SPLASH]
    ax, ay = state.shot_f[b, n, st.SF_X], state.shot_f[b, n, st.SF_Y]
    tx, ty = ax, ay
    ux, uy = ZERO, ONE
    if shape != st.SPLASH_BURST:
        tx, ty = f[b, st.F_X, j], f[b, st.F_Y, j]
        d = np.sqrt((tx - ax) * (tx - ax) + (ty - ay) * (ty - ay))
        if d > ZERO:
            ux, uy = (tx - ax) / d, (ty - ay) / d
    length, half_width = wf[kind, w, st.WF_LINE_LENGTH], wf[kind, w, st.WF_LINE_WIDTH]
    hostile = static.enemies[owner]
    if wi[kind, w, st.WI_FRIENDLY_FIRE]:
        hostile |= 1 << owner
    deaths = False
    for m in range(state.w[b, st.W_ALIVE]):
        v = state.alive[b, m]
        if (hostile >> ii[b, st.I_OWNER, v]) & 1 == 0 or v == source:
            continue
        if shape != st.SPLASH_BURST and v == j:
            continue
        flags = ii[b, st.I_FLAGS, v]
        plane = st.TARGET_AIR if flags & st.FLAG_FLYING else st.TARGET_GROUND
        if wi[kind, w, st.WI_TARGETS] & plane == 0 or flags & st.FLAG_INVULNERABLE:
            continue
        fraction = ZERO
        if shape == st.SPLASH_CIRCLE or shape == st.SPLASH_BURST or shape == st.SPLASH_CONE:
            cx, cy = (ax, ay) if shape == st.SPLASH_CONE else (tx, ty)
            dx, dy = f[b, st.F_X, v] - cx, f[b, st.F_Y, v] - cy
            d = np.sqrt(dx * dx + dy * dy)
            for ring in range(3):
                if fraction == ZERO and d <= wf[kind, w, st.WF_SPLASH_1 + ring]:
                    fraction = wf[kind, w, st.WF_FRACTION_1 + ring]
            if shape == st.SPLASH_CONE and dx * ux + dy * uy < d * wf[kind, w, st.WF_ARC_COS]:
                fraction = ZERO
        else:
            cx, cy = (ax, ay) if shape == st.SPLASH_LINE else (tx, ty)
            dx, dy = f[b, st.F_X, v] - cx, f[b, st.F_Y, v] - cy
            along, aside = dx * ux + dy * uy, abs(dx * uy - dy * ux)
            r = f[b, st.F_RADIUS, v]
            if shape == st.SPLASH_LINE:
                if ZERO <= along <= length and aside <= half_width + r:
                    fraction = ONE
            elif aside <= length + half_width and abs(along) <= half_width + r:
                fraction = ONE
        if fraction > ZERO:
            damage = static.damage[kind, w, ii[b, st.I_KIND, v]] * fraction
            for _ in range(wi[kind, w, st.WI_ATTACKS]):
                if hurt(state, static, b, v, damage, source, tag):
                    deaths = True
    return deaths


@kernel
def bounce(state, static, b, kind, w, owner, j, source, tag):
    """Hits that jump from the target `j` to the nearest enemies not hit yet (Glaive Worm). True when one dies."""
    f, ii = state.f, state.i
    fraction = ONE
    deaths = False
    previous, current = -1, j
    for _ in range(static.weapon_i[kind, w, st.WI_BOUNCES]):
        fraction *= static.weapon_f[kind, w, st.WF_BOUNCE_FRACTION]
        best, best_d2 = -1, static.weapon_f[kind, w, st.WF_BOUNCE_RANGE] ** 2
        for m in range(state.w[b, st.W_ALIVE]):
            v = state.alive[b, m]
            if v in (current, previous) or (static.enemies[owner] >> ii[b, st.I_OWNER, v]) & 1 == 0:
                continue
            if ii[b, st.I_FLAGS, v] & st.FLAG_INVULNERABLE or (ii[b, st.I_VISIBLE, v] >> owner) & 1 == 0:
                continue
            dx, dy = f[b, st.F_X, v] - f[b, st.F_X, current], f[b, st.F_Y, v] - f[b, st.F_Y, current]
            if dx * dx + dy * dy <= best_d2:
                best, best_d2 = v, dx * dx + dy * dy
        if best < 0:
            break
        if hurt(state, static, b, best, static.damage[kind, w, ii[b, st.I_KIND, best]] * fraction, source, tag):
            deaths = True
        previous, current = current, best
    return deaths


@kernel
def bury(state, static, b):
    """Removes the units without health; what explodes when killed leaves an explosion for the next loop."""
    f, ii = state.f, state.i
    for m in range(state.w[b, st.W_ALIVE]):
        i = state.alive[b, m]
        if f[b, st.F_HEALTH, i] > ZERO:
            continue
        kind, owner = ii[b, st.I_KIND, i], ii[b, st.I_OWNER, i]
        n = state.w[b, st.W_SHOTS]
        explodes = static.kind_i[kind, st.KI_EXPLODES] != 0 and ii[b, st.I_FLAGS, i] & st.FLAG_EXPLODED == 0
        if explodes and n < state.shot_i.shape[1]:
            shot = state.shot_i
            shot[b, n, st.S_SOURCE] = i
            shot[b, n, st.S_SOURCE_TAG] = ii[b, st.I_TAG, i]
            shot[b, n, st.S_TARGET] = -1
            shot[b, n, st.S_TARGET_TAG] = 0
            shot[b, n, st.S_KIND] = kind
            shot[b, n, st.S_OWNER] = owner
            shot[b, n, st.S_WEAPON] = 0
            shot[b, n, st.S_LEFT] = 0
            shot[b, n, st.S_FLIGHT] = 0
            state.shot_f[b, n, st.SF_X] = f[b, st.F_X, i]
            state.shot_f[b, n, st.SF_Y] = f[b, st.F_Y, i]
            state.w[b, st.W_SHOTS] = n + 1
        ii[b, st.I_ALIVE, i] = 0
        ii[b, st.I_VISIBLE, i] = 0
        f[b, st.F_HEALTH, i] = ZERO
        f[b, st.F_SHIELD, i] = ZERO
        state.tally[b, owner, st.T_ALIVE] -= 1
        state.tally[b, owner, st.T_LOST] += 1
    list_alive(state, b)
