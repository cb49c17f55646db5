"""Workers that raise buildings."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.placement import place_problem
from envs.economy.purchases import pay, purchase_problem
from envs.economy.tables import (
    B_VALUE_BUILDINGS,
    CHEAT_FAST,
    CONSTRUCTING,
    CONSUMED,
    E_ALONE,
    E_PHASE,
    E_RESOURCE,
    E_RESOURCE_TAG,
    E_SITE,
    E_SITE_TAG,
    E_UNFINISHED,
    EF_PROGRESS,
    EF_SITE_X,
    EF_SITE_Y,
    FINE,
    GAS,
    GEYSER,
    NOT_MADE_HERE,
    ON_THE_WAY,
    R_REFUND,
    R_UNFINISHED,
    STAYS,
    X_BUILDS,
    X_MAKER,
    X_MINERALS,
    X_ROLE,
    X_TIME,
    X_VESPENE,
    X_WIDTH,
)
from envs.economy.units import cheats, is_unit, refresh
from envs.economy.walking import approach, stay, take_order
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_HEALTH,
    F_HEALTH_MAX,
    F_ORDER_X,
    F_ORDER_Y,
    F_SHIELD,
    F_SHIELD_MAX,
    F_X,
    F_Y,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_OWNER,
    I_QUEUED,
    I_TAG,
    K_INNER_RADIUS,
    ORDER_BUILD,
    ORDER_GATHER,
    W_ALIVE,
)
from envs.engine.state.orders import next_order
from envs.engine.state.units import create_unit_in, kill_unit

FAST = 50.0  # by how much the debug command `fast_build` speeds work up

# Replaces the target's tag once the worker has begun its order to build. Another order has another tag.
BEGUN = -7


@entry
def cancel_building(state, tech, economy, b, slot):
    """Takes an unfinished building down and gives part of its cost back; True if there is one."""
    refresh(state, tech, economy, b, slot)
    if economy.i[b, E_UNFINISHED, slot] == 0:
        return False
    pay(tech, economy, b, state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND], -np.float64(tech.limits[R_REFUND]))
    kill_unit(state, b, slot)
    return True


@entry
def build_problem(state, static, tech, economy, b, slot, kind, x, y):
    """Why the worker in `slot` cannot be sent to build at (x, y), which is on the grid; FINE if it can."""
    refresh(state, tech, economy, b, slot)
    if tech.i[kind, X_MAKER] != state.ui[b, slot, I_KIND] or tech.i[kind, X_WIDTH] == 0:
        return NOT_MADE_HERE
    owner = state.ui[b, slot, I_OWNER]
    problem = purchase_problem(state, tech, economy, b, owner, kind)
    return problem if problem != FINE else place_problem(state, static, tech, economy, b, owner, kind, x, y)


@kernel
def finish_building(state, tech, economy, b, slot):
    economy.i[b, E_UNFINISHED, slot] = 0
    economy.i[b, E_ALONE, slot] = 0
    economy.f[b, EF_PROGRESS, slot] = 0.0
    owner, kind = state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND]
    economy.made[b, owner, kind] += 1
    economy.bank[b, owner, B_VALUE_BUILDINGS] += tech.i[kind, X_MINERALS] + tech.i[kind, X_VESPENE]


@kernel
def work_on(state, tech, economy, b, slot):
    """A loop of construction; True when the building is finished."""
    kind, owner = state.ui[b, slot, I_KIND], state.ui[b, slot, I_OWNER]
    time = max(np.float32(tech.i[kind, X_TIME]), np.float32(1.0))
    work = np.float32(FAST if cheats(economy, b, owner, CHEAT_FAST) else 1.0)
    work = min(work, time - economy.f[b, EF_PROGRESS, slot])
    economy.f[b, EF_PROGRESS, slot] += work
    share = (np.float32(1.0) - tech.limits[R_UNFINISHED]) * work / time
    f = state.uf
    f[b, slot, F_HEALTH] = min(f[b, slot, F_HEALTH] + share * f[b, slot, F_HEALTH_MAX], f[b, slot, F_HEALTH_MAX])
    f[b, slot, F_SHIELD] = min(f[b, slot, F_SHIELD] + share * f[b, slot, F_SHIELD_MAX], f[b, slot, F_SHIELD_MAX])
    if economy.f[b, EF_PROGRESS, slot] >= time:
        finish_building(state, tech, economy, b, slot)
        return True
    return False


@kernel
def begin_building(state, static, tech, economy, b, i, kind, x, y):
    """Puts the foundations down and pays; the slot, -1 if it cannot be."""
    owner = state.ui[b, i, I_OWNER]
    if purchase_problem(state, tech, economy, b, owner, kind) != FINE:
        return -1
    if place_problem(state, static, tech, economy, b, owner, kind, x, y) != FINE:
        return -1
    slot = create_unit_in(state, static, b, kind, owner, x, y, 0, state.ui.shape[1])
    if slot < 0:
        return -1
    pay(tech, economy, b, owner, kind, 1.0)
    refresh(state, tech, economy, b, slot)
    economy.i[b, E_UNFINISHED, slot] = 1
    state.uf[b, slot, F_HEALTH] = tech.limits[R_UNFINISHED] * state.uf[b, slot, F_HEALTH_MAX]
    state.uf[b, slot, F_SHIELD] = tech.limits[R_UNFINISHED] * state.uf[b, slot, F_SHIELD_MAX]
    if tech.i[kind, X_ROLE] == GAS:
        for m in range(state.w[b, W_ALIVE]):
            other = state.alive[b, m]
            here = abs(state.uf[b, other, F_X] - x) < 0.6 and abs(state.uf[b, other, F_Y] - y) < 0.6
            if here and tech.i[state.ui[b, other, I_KIND], X_ROLE] == GEYSER:
                refresh(state, tech, economy, b, other)
                economy.i[b, E_RESOURCE, slot] = other
                economy.i[b, E_RESOURCE_TAG, slot] = state.ui[b, other, I_TAG]
    return slot


@kernel
def begin_order(state, economy, b, i, kind):
    """Notes the site of a new order to build."""
    ei = economy.i
    ei[b, E_PHASE, i] = ON_THE_WAY
    ei[b, E_SITE_TAG, i] = 0
    economy.f[b, EF_SITE_X, i] = state.uf[b, i, F_ORDER_X]
    economy.f[b, EF_SITE_Y, i] = state.uf[b, i, F_ORDER_Y]
    target = state.ui[b, i, I_ORDER_TARGET]
    if target >= 0 and state.ui[b, target, I_KIND] == kind:
        # Work goes on at a building that another worker left.
        ei[b, E_SITE, i] = target
        ei[b, E_SITE_TAG, i] = state.ui[b, i, I_ORDER_TAG]
    state.ui[b, i, I_ORDER_TAG] = BEGUN


@kernel
def lead_builder(state, static, tech, economy, b, i):
    """A loop of a worker that goes to a site, lays the foundations, and builds or leaves."""
    ei = economy.i
    kind = state.ui[b, i, I_ORDER] - ORDER_BUILD
    if state.ui[b, i, I_ORDER_TAG] != BEGUN:
        begin_order(state, economy, b, i, kind)
    x, y = economy.f[b, EF_SITE_X, i], economy.f[b, EF_SITE_Y, i]
    site, tag = ei[b, E_SITE, i], ei[b, E_SITE_TAG, i]
    if tag != 0 and (not is_unit(state, b, site, tag) or ei[b, E_UNFINISHED, site] == 0):
        next_order(state, b, i)
        return
    if ei[b, E_PHASE, i] == CONSTRUCTING:
        stay(state, b, i)
        if work_on(state, tech, economy, b, site):
            if tech.i[kind, X_ROLE] == GAS and state.ui[b, i, I_QUEUED] == 0:
                take_order(state, economy, b, i, ORDER_GATHER, site)
            else:
                next_order(state, b, i)
        return
    reach = static.kind_f[kind, K_INNER_RADIUS] + static.kind_f[state.ui[b, i, I_KIND], K_INNER_RADIUS]
    if not approach(state, b, i, x, y, reach):
        return
    if tag == 0:
        site = begin_building(state, static, tech, economy, b, i, kind, x, y)
        if site < 0:
            next_order(state, b, i)
            return
        ei[b, E_SITE, i] = site
        ei[b, E_SITE_TAG, i] = state.ui[b, site, I_TAG]
    builds = tech.i[state.ui[b, i, I_KIND], X_BUILDS]
    if builds == STAYS:
        ei[b, E_PHASE, i] = CONSTRUCTING
        stay(state, b, i)
    else:
        ei[b, E_ALONE, site] = 1
        if builds == CONSUMED:
            kill_unit(state, b, i)
        else:
            next_order(state, b, i)
