"""Orders, targets, weapons and damage."""

from __future__ import annotations

import numpy as np

from envs.engine.movement import face, steer
from envs.engine.state import (
    F_COOLDOWN,
    F_HEALTH,
    F_ORDER_X,
    F_ORDER_Y,
    F_RADIUS,
    F_SHIELD,
    F_STIM,
    F_VX,
    F_VY,
    F_WINDUP,
    F_X,
    F_Y,
    FLAG_COLOSSUS,
    FLAG_FLYING,
    FLAG_INVULNERABLE,
    FLAG_OBEDIENT,
    I_ALIVE,
    I_ATTACKER,
    I_ATTACKER_TAG,
    I_FLAGS,
    I_HURT_LOOP,
    I_KILLS,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_OWNER,
    I_SHOT_LOOP,
    I_SHOT_TARGET,
    I_TAG,
    I_TARGET,
    I_TARGET_TAG,
    I_VISIBLE,
    I_WEAPON,
    K_ARMOR,
    K_SCAN_RANGE,
    K_SHIELD_ARMOR,
    KI_PRIORITY,
    KI_WEAPONS,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HOLD,
    ORDER_MOVE,
    ORDER_PATROL,
    ORDER_STOP,
    TARGET_AIR,
    TARGET_GROUND,
    W_ALIVE,
    W_LOOP,
    WF_COOLDOWN,
    WF_DAMAGE_POINT,
    WF_RANGE,
    WI_ATTACKS,
    WI_TARGETS,
    kernel,
    next_order,
)

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
LEAST_DAMAGE = np.float32(0.5)


@kernel
def weapon_for(state, static, b, i, j):
    """Index of the first weapon of unit `i` that can hit unit `j`, -1 = none."""
    flags = state.i[b, I_FLAGS, j]
    if flags & FLAG_INVULNERABLE:
        return -1
    planes = TARGET_AIR if flags & FLAG_FLYING else TARGET_GROUND
    if flags & FLAG_COLOSSUS:
        planes = TARGET_AIR | TARGET_GROUND
    kind = state.i[b, I_KIND, i]
    for w in range(static.kind_i[kind, KI_WEAPONS]):
        if static.weapon_i[kind, w, WI_TARGETS] & planes:
            return w
    return -1


@kernel
def hurt(state, static, b, j, damage, attacker):
    """One hit of `damage` (bonus included): shields first, without armor; then health, less armor, at least 0.5."""
    f, ii = state.f, state.i
    kind = ii[b, I_KIND, j]
    shield = f[b, F_SHIELD, j]
    if shield > 0.0:
        damage = max(damage - static.kind_f[kind, K_SHIELD_ARMOR], LEAST_DAMAGE)
        absorbed = min(shield, damage)
        f[b, F_SHIELD, j] = shield - absorbed
        damage = max(damage - absorbed - static.kind_f[kind, K_ARMOR], ZERO) if damage > absorbed else ZERO
    else:
        damage = max(damage - static.kind_f[kind, K_ARMOR], LEAST_DAMAGE)
    before = f[b, F_HEALTH, j]
    f[b, F_HEALTH, j] = before - damage
    if before > 0.0 and before <= damage:
        ii[b, I_KILLS, attacker] += 1
    ii[b, I_HURT_LOOP, j] = state.w[b, W_LOOP]
    ii[b, I_ATTACKER, j] = attacker
    ii[b, I_ATTACKER_TAG, j] = ii[b, I_TAG, attacker]


@kernel
def fire(state, static, b, i, j, w):
    """The damage point of an attack of `i` on `j` with weapon `w`."""
    kind = state.i[b, I_KIND, i]
    damage = static.damage[kind, w, state.i[b, I_KIND, j]]
    for _ in range(static.weapon_i[kind, w, WI_ATTACKS]):
        hurt(state, static, b, j, damage, i)
    state.i[b, I_SHOT_LOOP, i] = state.w[b, W_LOOP]
    state.i[b, I_SHOT_TARGET, i] = j


@kernel
def acquire(state, static, b, i):
    """The best target within scan range: highest priority, then nearest; -1 = none."""
    f, ii = state.f, state.i
    kind = ii[b, I_KIND, i]
    owner = ii[b, I_OWNER, i]
    enemies = static.enemies[owner]
    scan = static.kind_f[kind, K_SCAN_RANGE] + f[b, F_RADIUS, i]
    best, best_priority, best_distance = -1, -1, np.float32(0.0)
    for n in range(state.w[b, W_ALIVE]):
        j = state.alive[b, n]
        if (enemies >> ii[b, I_OWNER, j]) & 1 == 0:
            continue
        dx, dy = f[b, F_X, j] - f[b, F_X, i], f[b, F_Y, j] - f[b, F_Y, i]
        reach = scan + f[b, F_RADIUS, j]
        d2 = dx * dx + dy * dy
        if d2 > reach * reach or (ii[b, I_VISIBLE, j] >> owner) & 1 == 0 or weapon_for(state, static, b, i, j) < 0:
            continue
        distance = np.sqrt(d2) - f[b, F_RADIUS, j]
        priority = static.kind_i[ii[b, I_KIND, j], KI_PRIORITY]
        if priority > best_priority or (priority == best_priority and distance < best_distance):
            best, best_priority, best_distance = j, priority, distance
    return best


@kernel
def target_lost(state, b, i, j, tag):
    ii = state.i
    return (
        j < 0 or ii[b, I_ALIVE, j] == 0 or ii[b, I_TAG, j] != tag or (ii[b, I_VISIBLE, j] >> ii[b, I_OWNER, i]) & 1 == 0
    )


@kernel
def engage(state, static, b, i, j, may_move):
    """Attacks `j` when it is in range and the weapon ready, follows it when it is not in range."""
    f, ii = state.f, state.i
    kind = ii[b, I_KIND, i]
    w = weapon_for(state, static, b, i, j)
    if w < 0:
        return
    reach = static.weapon_f[kind, w, WF_RANGE] + f[b, F_RADIUS, i] + f[b, F_RADIUS, j]
    dx, dy = f[b, F_X, j] - f[b, F_X, i], f[b, F_Y, j] - f[b, F_Y, i]
    d2 = dx * dx + dy * dy
    if d2 > reach * reach:
        if may_move:
            steer(state, static, b, i, f[b, F_X, j], f[b, F_Y, j], reach - np.float32(0.05))
        return
    d = np.sqrt(max(d2, np.float32(1e-12)))
    face(state, static, b, i, dx / d, dy / d)
    if f[b, F_COOLDOWN, i] <= 0.0:
        ii[b, I_WEAPON, i] = w
        point = static.weapon_f[kind, w, WF_DAMAGE_POINT]
        if point <= 0.0:
            fire(state, static, b, i, j, w)
            f[b, F_COOLDOWN, i] = static.weapon_f[kind, w, WF_COOLDOWN]
        else:
            f[b, F_WINDUP, i] = point


@kernel
def decide(state, static, b):
    """Every unit follows its order: attacks under way go on, targets are taken, wanted displacements set."""
    f, ii = state.f, state.i
    for n in range(state.w[b, W_ALIVE]):
        i = state.alive[b, n]
        f[b, F_VX, i] = 0.0
        f[b, F_VY, i] = 0.0
        rate = np.float32(1.5) if f[b, F_STIM, i] > 0.0 else ONE
        f[b, F_STIM, i] = max(f[b, F_STIM, i] - ONE, ZERO)
        f[b, F_COOLDOWN, i] = max(f[b, F_COOLDOWN, i] - rate, ZERO)
        kind = ii[b, I_KIND, i]
        target = ii[b, I_TARGET, i]
        if target >= 0 and target_lost(state, b, i, target, ii[b, I_TARGET_TAG, i]):
            target = -1
            ii[b, I_TARGET, i] = -1
            f[b, F_WINDUP, i] = 0.0
        if f[b, F_WINDUP, i] > 0.0:
            f[b, F_WINDUP, i] -= rate
            if f[b, F_WINDUP, i] <= 0.0:
                w = ii[b, I_WEAPON, i]
                f[b, F_WINDUP, i] = 0.0
                fire(state, static, b, i, target, w)
                point = static.weapon_f[kind, w, WF_DAMAGE_POINT]
                f[b, F_COOLDOWN, i] = static.weapon_f[kind, w, WF_COOLDOWN] - np.ceil(point / rate) * rate
            continue
        order = ii[b, I_ORDER, i]
        if order == ORDER_MOVE:
            x, y, near = f[b, F_ORDER_X, i], f[b, F_ORDER_Y, i], ZERO
            t = ii[b, I_ORDER_TARGET, i]
            if t >= 0:
                if target_lost(state, b, i, t, ii[b, I_ORDER_TAG, i]):
                    next_order(state, b, i)
                    continue
                x, y, near = f[b, F_X, t], f[b, F_Y, t], f[b, F_RADIUS, t] + f[b, F_RADIUS, i]
            if steer(state, static, b, i, x, y, near) and t < 0:
                next_order(state, b, i)
            continue
        if order == ORDER_ATTACK:
            t = ii[b, I_ORDER_TARGET, i]
            if target_lost(state, b, i, t, ii[b, I_ORDER_TAG, i]):
                next_order(state, b, i)
                continue
            ii[b, I_TARGET, i] = t
            ii[b, I_TARGET_TAG, i] = ii[b, I_TAG, t]
            engage(state, static, b, i, t, True)
            continue
        if target < 0 and ii[b, I_FLAGS, i] & FLAG_OBEDIENT == 0 and static.kind_i[kind, KI_WEAPONS] > 0:
            target = acquire(state, static, b, i)
            if target >= 0:
                ii[b, I_TARGET, i] = target
                ii[b, I_TARGET_TAG, i] = ii[b, I_TAG, target]
        if target >= 0:
            engage(state, static, b, i, target, order != ORDER_HOLD)
        elif order == ORDER_ATTACK_MOVE or order == ORDER_PATROL:
            if steer(state, static, b, i, f[b, F_ORDER_X, i], f[b, F_ORDER_Y, i], ZERO):
                next_order(state, b, i)
        elif order != ORDER_STOP and order != ORDER_HOLD:
            next_order(state, b, i)


@kernel
def land_projectiles(state, static, b):
    """Projectiles that reach their target do their damage."""
