"""`advance_world`: game loops of one world, in the order decide, move, land projectiles, recover, bury."""

from __future__ import annotations

import numpy as np

from envs.engine.combat import decide, land_projectiles
from envs.engine.movement import move_units
from envs.engine.state import (
    F_ENERGY,
    F_ENERGY_MAX,
    F_HEALTH,
    F_HEALTH_MAX,
    F_SHIELD,
    F_SHIELD_MAX,
    I_HURT_LOOP,
    I_KIND,
    K_ENERGY_REGEN,
    K_HEALTH_REGEN,
    K_HEALTH_REGEN_DELAY,
    K_SHIELD_REGEN,
    K_SHIELD_REGEN_DELAY,
    KI_REGENERATES,
    W_ALIVE,
    W_LOOP,
    kernel,
    kill_unit,
)
from envs.engine.vision import update_vision


@kernel
def advance_world(state, static, b, loops):
    """Advances world `b` by `loops` game loops. Orders given before the call act from its first loop on."""
    for _ in range(loops):
        if state.w[b, W_LOOP] % 4 == 0:
            update_vision(state, static, b)
        decide(state, static, b)
        move_units(state, static, b)
        land_projectiles(state, static, b)
        recover_and_bury(state, static, b)
        state.w[b, W_LOOP] += 1


@kernel
def recover_and_bury(state, static, b):
    """Regeneration, then the removal of units without health; both sides of a loop's last exchange of shots die."""
    f, ii = state.f, state.i
    loop = state.w[b, W_LOOP]
    dead = 0
    for n in range(state.w[b, W_ALIVE]):
        i = state.alive[b, n]
        if f[b, F_HEALTH, i] <= 0.0:
            dead += 1
            continue
        kind = ii[b, I_KIND, i]
        if static.kind_i[kind, KI_REGENERATES] == 0:
            continue
        since = np.float32(loop - ii[b, I_HURT_LOOP, i])
        kf = static.kind_f
        if since >= kf[kind, K_HEALTH_REGEN_DELAY]:
            f[b, F_HEALTH, i] = min(f[b, F_HEALTH, i] + kf[kind, K_HEALTH_REGEN], f[b, F_HEALTH_MAX, i])
        if since >= kf[kind, K_SHIELD_REGEN_DELAY]:
            f[b, F_SHIELD, i] = min(f[b, F_SHIELD, i] + kf[kind, K_SHIELD_REGEN], f[b, F_SHIELD_MAX, i])
        f[b, F_ENERGY, i] = min(f[b, F_ENERGY, i] + kf[kind, K_ENERGY_REGEN], f[b, F_ENERGY_MAX, i])
    if dead > 0:
        for i in range(f.shape[2]):
            if f[b, F_HEALTH, i] <= 0.0:
                kill_unit(state, b, i)
