"""Impacts: direct hits, splash and bounces, and the removal of the dead."""

from __future__ import annotations

import numpy as np

from envs.engine.quiet import ACT_FIRE
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.units import list_alive

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LEAST_DAMAGE = np.float32(0.5)
GUARD = np.float32(2.0)  # what a Guardian Shield takes off


@inline_kernel
def hurt(state, static, b, j, damage, source, source_tag):
    """One hit of `damage` (bonus included): the shield takes what it can, less its own armor; the health the rest, less
    the unit's armor. A hit does at least 0.5."""
    f, ii = state.uf, state.ui
    kind = ii[b, j, st.I_KIND]
    shield = f[b, j, st.F_SHIELD]
    if shield > ZERO:
        damage = max(damage - static.kind_f[kind, st.K_SHIELD_ARMOR], LEAST_DAMAGE)
        if damage <= shield:
            f[b, j, st.F_SHIELD] = shield - damage
            damage = ZERO
        else:
            f[b, j, st.F_SHIELD] = ZERO
            damage = max(damage - shield - static.kind_f[kind, st.K_ARMOR], ZERO)
    else:
        damage = max(damage - static.kind_f[kind, st.K_ARMOR], LEAST_DAMAGE)
    before = f[b, j, st.F_HEALTH]
    f[b, j, st.F_HEALTH] = before - damage
    ii[b, j, st.I_HURT_LOOP] = state.w[b, st.W_LOOP]
    if ii[b, j, st.I_ACT] < ACT_FIRE and ii[b, j, st.I_FLAGS] & st.FLAG_OBEDIENT == 0:
        ii[b, j, st.I_WAKE] = 0
    if source >= 0:
        ii[b, j, st.I_ATTACKER] = source
        ii[b, j, st.I_ATTACKER_TAG] = source_tag
        if before > ZERO and before <= damage:
            ii[b, source, st.I_KILLS] += 1
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
    ii, shot = state.ui, state.shot_i
    wi = static.weapon_i
    j = shot[b, n, st.S_TARGET]
    kind, w, owner = shot[b, n, st.S_KIND], shot[b, n, st.S_WEAPON], shot[b, n, st.S_OWNER]
    source, tag = shot[b, n, st.S_SOURCE], shot[b, n, st.S_SOURCE_TAG]
    if ii[b, source, st.I_ALIVE] == 0 or ii[b, source, st.I_TAG] != tag:
        source = -1
    deaths = wi[kind, w, st.WI_SUICIDE] != 0
    if wi[kind, w, st.WI_SPLASH] != st.SPLASH_BURST:
        if ii[b, j, st.I_ALIVE] == 0 or ii[b, j, st.I_TAG] != shot[b, n, st.S_TARGET_TAG]:
            return deaths
        damage = static.damage[kind, w, ii[b, j, st.I_KIND]]
        attacks = wi[kind, w, st.WI_ATTACKS]
        if damage <= ZERO:
            attacks = 0  # a hallucination's
        elif ii[b, j, st.I_FLAGS] & st.FLAG_GUARDED and wi[kind, w, st.WI_MELEE] == 0:
            damage = max(damage - GUARD, LEAST_DAMAGE)
        for _ in range(attacks):
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

    Distances are measured to the centres of units. A burst (Baneling) is all splash. Its target takes it in full,
    however far the centre of a building lies behind its edge.
    """
    f, ii, shot = state.uf, state.ui, state.shot_i
    wf, wi = static.weapon_f, static.weapon_i
    j = shot[b, n, st.S_TARGET]
    kind, w, owner = shot[b, n, st.S_KIND], shot[b, n, st.S_WEAPON], shot[b, n, st.S_OWNER]
    tag = shot[b, n, st.S_SOURCE_TAG]
    shape = wi[kind, w, st.WI_SPLASH]
    ax, ay = state.shot_f[b, n, st.SF_X], state.shot_f[b, n, st.SF_Y]
    tx, ty = ax, ay
    ux, uy = ZERO, ONE
    if shape != st.SPLASH_BURST:
        tx, ty = f[b, j, st.F_X], f[b, j, st.F_Y]
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
        if (hostile >> ii[b, v, st.I_OWNER]) & 1 == 0 or v == source:
            continue
        if shape != st.SPLASH_BURST and v == j:
            continue
        flags = ii[b, v, st.I_FLAGS]
        plane = st.TARGET_AIR if flags & st.FLAG_FLYING else st.TARGET_GROUND
        if wi[kind, w, st.WI_TARGETS] & plane == 0 or flags & st.FLAG_INVULNERABLE:
            continue
        fraction = ZERO
        if shape == st.SPLASH_CIRCLE or shape == st.SPLASH_BURST or shape == st.SPLASH_CONE:
            cx, cy = (ax, ay) if shape == st.SPLASH_CONE else (tx, ty)
            dx, dy = f[b, v, st.F_X] - cx, f[b, v, st.F_Y] - cy
            d = np.sqrt(dx * dx + dy * dy)
            for ring in range(3):
                if fraction == ZERO and d <= wf[kind, w, st.WF_SPLASH_1 + ring]:
                    fraction = wf[kind, w, st.WF_FRACTION_1 + ring]
            if v == j:
                fraction = wf[kind, w, st.WF_FRACTION_1]
            if shape == st.SPLASH_CONE and dx * ux + dy * uy < d * wf[kind, w, st.WF_ARC_COS]:
                fraction = ZERO
        else:
            cx, cy = (ax, ay) if shape == st.SPLASH_LINE else (tx, ty)
            dx, dy = f[b, v, st.F_X] - cx, f[b, v, st.F_Y] - cy
            along, aside = dx * ux + dy * uy, abs(dx * uy - dy * ux)
            r = f[b, v, st.F_RADIUS]
            if shape == st.SPLASH_LINE:
                if ZERO <= along <= length and aside <= half_width + r:
                    fraction = ONE
            elif aside <= length + half_width and abs(along) <= half_width + r:
                fraction = ONE
        if fraction > ZERO:
            damage = static.damage[kind, w, ii[b, v, st.I_KIND]] * fraction
            for _ in range(wi[kind, w, st.WI_ATTACKS]):
                if hurt(state, static, b, v, damage, source, tag):
                    deaths = True
    return deaths


@kernel
def bounce(state, static, b, kind, w, owner, j, source, tag):
    """Hits that jump from the target `j` to the nearest enemies not hit yet (Glaive Worm). True when one dies."""
    f, ii = state.uf, state.ui
    fraction = ONE
    deaths = False
    previous, current = -1, j
    for _ in range(static.weapon_i[kind, w, st.WI_BOUNCES]):
        fraction *= static.weapon_f[kind, w, st.WF_BOUNCE_FRACTION]
        best, best_d2 = -1, static.weapon_f[kind, w, st.WF_BOUNCE_RANGE] ** 2
        for m in range(state.w[b, st.W_ALIVE]):
            v = state.alive[b, m]
            if v in (current, previous) or (static.enemies[owner] >> ii[b, v, st.I_OWNER]) & 1 == 0:
                continue
            if ii[b, v, st.I_FLAGS] & st.FLAG_INVULNERABLE or (ii[b, v, st.I_VISIBLE] >> owner) & 1 == 0:
                continue
            dx, dy = f[b, v, st.F_X] - f[b, current, st.F_X], f[b, v, st.F_Y] - f[b, current, st.F_Y]
            if dx * dx + dy * dy <= best_d2:
                best, best_d2 = v, dx * dx + dy * dy
        if best < 0:
            break
        if hurt(state, static, b, best, static.damage[kind, w, ii[b, best, st.I_KIND]] * fraction, source, tag):
            deaths = True
        previous, current = current, best
    return deaths


@kernel
def bury(state, static, b):
    """Removes the units without health; what explodes when killed leaves an explosion for the next loop."""
    f, ii = state.uf, state.ui
    for m in range(state.w[b, st.W_ALIVE]):
        i = state.alive[b, m]
        if f[b, i, st.F_HEALTH] > ZERO:
            continue
        kind, owner = ii[b, i, st.I_KIND], ii[b, i, st.I_OWNER]
        n = state.w[b, st.W_SHOTS]
        explodes = static.kind_i[kind, st.KI_EXPLODES] != 0 and ii[b, i, st.I_FLAGS] & st.FLAG_EXPLODED == 0
        if explodes and n < state.shot_i.shape[1]:
            shot = state.shot_i
            shot[b, n, st.S_SOURCE] = i
            shot[b, n, st.S_SOURCE_TAG] = ii[b, i, st.I_TAG]
            shot[b, n, st.S_TARGET] = -1
            shot[b, n, st.S_TARGET_TAG] = 0
            shot[b, n, st.S_KIND] = kind
            shot[b, n, st.S_OWNER] = owner
            shot[b, n, st.S_WEAPON] = 0
            shot[b, n, st.S_LEFT] = 0
            shot[b, n, st.S_FLIGHT] = 0
            state.shot_f[b, n, st.SF_X] = f[b, i, st.F_X]
            state.shot_f[b, n, st.SF_Y] = f[b, i, st.F_Y]
            state.w[b, st.W_SHOTS] = n + 1
        ii[b, i, st.I_ALIVE] = 0
        ii[b, i, st.I_VISIBLE] = 0
        f[b, i, st.F_HEALTH] = ZERO
        f[b, i, st.F_SHIELD] = ZERO
        state.tally[b, owner, st.T_ALIVE] -= 1
        state.tally[b, owner, st.T_LOST] += 1
    list_alive(state, b)
