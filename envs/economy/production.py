"""Buildings that train units."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.buildings import FAST
from envs.economy.gathering import gatherable
from envs.economy.purchases import pay, purchase_problem
from envs.economy.supply import supply_left
from envs.economy.tables import (
    B_SUPPLY_USED,
    B_VALUE_UNITS,
    CHEAT_FAST,
    E_QUEUE,
    E_QUEUED,
    E_RALLY,
    E_RALLY_SLOT,
    E_RALLY_TAG,
    E_STARTED,
    E_UNFINISHED,
    EF_PROGRESS,
    EF_RALLY_X,
    EF_RALLY_Y,
    FINE,
    NO_RALLY,
    NO_SUPPLY,
    NOT_MADE_HERE,
    QUEUE_FULL,
    R_QUEUE,
    RALLY_POINT,
    RALLY_UNIT,
    UNFINISHED,
    WORKER,
    X_MAKER,
    X_MINERALS,
    X_ROLE,
    X_TIME,
    X_VESPENE,
    XF_SUPPLY,
)
from envs.economy.units import cheats, is_unit, refresh
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_FACING_X,
    F_FACING_Y,
    F_X,
    F_Y,
    FLAG_FLYING,
    FLAG_PASSING,
    I_FLAGS,
    I_KIND,
    I_OWNER,
    I_TAG,
    K_INNER_RADIUS,
    ORDER_GATHER,
    ORDER_MOVE,
    W_ALIVE,
)
from envs.engine.state.orders import issue_order
from envs.engine.state.units import create_unit_in

SPOTS = 32  # places around a building where a new unit is tried


@entry
def train_problem(state, tech, economy, b, slot, kind):
    """Why the building in `slot` cannot take a unit of `kind` into production now; FINE if it can."""
    refresh(state, tech, economy, b, slot)
    owner = state.ui[b, slot, I_OWNER]
    if tech.i[kind, X_MAKER] != state.ui[b, slot, I_KIND]:
        return NOT_MADE_HERE
    if economy.i[b, E_UNFINISHED, slot] != 0:
        return UNFINISHED
    if economy.i[b, E_QUEUED, slot] >= int(tech.limits[R_QUEUE]):
        return QUEUE_FULL
    problem = purchase_problem(state, tech, economy, b, owner, kind)
    if problem != FINE:
        return problem
    if economy.i[b, E_QUEUED, slot] == 0 and tech.f[kind, XF_SUPPLY] > supply_left(tech, economy, b, owner):
        return NO_SUPPLY
    return FINE


@entry
def train(state, tech, economy, b, slot, kind):
    """Takes a unit into production and pays for it; True if it did."""
    if train_problem(state, tech, economy, b, slot, kind) != FINE:
        return False
    owner = state.ui[b, slot, I_OWNER]
    pay(tech, economy, b, owner, kind, 1.0)
    economy.i[b, E_QUEUE + economy.i[b, E_QUEUED, slot], slot] = kind
    economy.i[b, E_QUEUED, slot] += 1
    return True


@entry
def cancel_training(state, tech, economy, b, slot, place):
    """Takes the unit at `place` of the queue out of it (-1: the last) and gives its cost back; True if there is one."""
    refresh(state, tech, economy, b, slot)
    ei = economy.i
    count = ei[b, E_QUEUED, slot]
    if place < 0:
        place = count - 1
    if place < 0 or place >= count:
        return False
    pay(tech, economy, b, state.ui[b, slot, I_OWNER], ei[b, E_QUEUE + place, slot], -1.0)
    for n in range(place, count - 1):
        ei[b, E_QUEUE + n, slot] = ei[b, E_QUEUE + n + 1, slot]
    ei[b, E_QUEUED, slot] = count - 1
    if place == 0:
        ei[b, E_STARTED, slot] = 0
        economy.f[b, EF_PROGRESS, slot] = 0.0
    return True


@kernel
def crowded(state, static, b, kind, x, y):
    """Whether a new unit of `kind` at (x, y) would stand in another one or off the ground."""
    radius = static.kind_f[kind, K_INNER_RADIUS]
    bounds = static.bounds
    if x < bounds[0] + radius or y < bounds[1] + radius or x > bounds[2] - radius or y > bounds[3] - radius:
        return True
    if static.pathable[int(y), int(x)] == 0:
        return True
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        if state.ui[b, slot, I_FLAGS] & (FLAG_FLYING | FLAG_PASSING) == 0:
            dx, dy = state.uf[b, slot, F_X] - x, state.uf[b, slot, F_Y] - y
            reach = radius + static.kind_f[state.ui[b, slot, I_KIND], K_INNER_RADIUS]
            if dx * dx + dy * dy < reach * reach * np.float32(0.98):
                return True
    return False


@kernel
def create_beside(state, static, b, slot, kind, angle):
    """A new unit of `kind` beside the building in `slot`, as near to the direction `angle` as there is room.

    Returns its slot, or -1.
    """
    owner = state.ui[b, slot, I_OWNER]
    x, y = state.uf[b, slot, F_X], state.uf[b, slot, F_Y]
    reach = static.kind_f[state.ui[b, slot, I_KIND], K_INNER_RADIUS] + static.kind_f[kind, K_INNER_RADIUS] + 0.05
    made = -1
    for ring in range(3):
        for n in range(SPOTS):
            # At 0, +1, -1, +2, -2 ... steps from the way to the rally point.
            turn = ((n + 1) // 2 if n % 2 == 1 else -(n // 2)) * (2.0 * np.pi / SPOTS)
            distance = reach + ring * 2.0 * static.kind_f[kind, K_INNER_RADIUS]
            px = np.float32(x + distance * np.cos(angle + turn))
            py = np.float32(y + distance * np.sin(angle + turn))
            if made < 0 and not crowded(state, static, b, kind, px, py):
                made = create_unit_in(state, static, b, kind, owner, px, py, 0, state.ui.shape[1])
    return made


@kernel
def hand_over(state, static, tech, economy, b, slot, kind):
    """A trained unit leaves the building, towards its rally point or else to the south.

    False if there is no room.
    """
    owner = state.ui[b, slot, I_OWNER]
    x, y = state.uf[b, slot, F_X], state.uf[b, slot, F_Y]
    rally, target = economy.i[b, E_RALLY, slot], np.int64(-1)
    gx, gy = x, y - np.float32(1.0)
    if rally == RALLY_UNIT:
        target = np.int64(economy.i[b, E_RALLY_SLOT, slot])
        if is_unit(state, b, target, economy.i[b, E_RALLY_TAG, slot]):
            gx, gy = state.uf[b, target, F_X], state.uf[b, target, F_Y]
        else:
            rally, target = NO_RALLY, np.int64(-1)
    elif rally == RALLY_POINT:
        gx, gy = economy.f[b, EF_RALLY_X, slot], economy.f[b, EF_RALLY_Y, slot]
    angle = np.arctan2(gy - y, gx - x)
    made = create_beside(state, static, b, slot, kind, angle)
    if made < 0:
        return False
    state.uf[b, made, F_FACING_X] = np.float32(np.cos(angle))
    state.uf[b, made, F_FACING_Y] = np.float32(np.sin(angle))
    refresh(state, tech, economy, b, made)
    economy.made[b, owner, kind] += 1
    economy.bank[b, owner, B_VALUE_UNITS] += tech.i[kind, X_MINERALS] + tech.i[kind, X_VESPENE]
    order = np.int64(ORDER_MOVE)
    gathers = rally == RALLY_UNIT and tech.i[kind, X_ROLE] == WORKER
    if gathers and gatherable(state, tech, economy, b, owner, target, state.ui[b, target, I_TAG]) > 0:
        order = np.int64(ORDER_GATHER)
    else:
        target = np.int64(-1)
    if rally != NO_RALLY:
        issue_order(state, static, b, np.int64(made), order, target, gx, gy, False)
    return True


@kernel
def run_production(state, static, tech, economy, b, slot):
    """A loop of the first unit in production."""
    ei = economy.i
    owner = state.ui[b, slot, I_OWNER]
    kind = ei[b, E_QUEUE, slot]
    if ei[b, E_STARTED, slot] == 0:
        if tech.f[kind, XF_SUPPLY] > supply_left(tech, economy, b, owner):
            return
        ei[b, E_STARTED, slot] = 1
        economy.f[b, EF_PROGRESS, slot] = 0.0
        economy.bank[b, owner, B_SUPPLY_USED] += tech.f[kind, XF_SUPPLY]
    work = np.float32(FAST if cheats(economy, b, owner, CHEAT_FAST) else 1.0)
    economy.f[b, EF_PROGRESS, slot] = min(economy.f[b, EF_PROGRESS, slot] + work, np.float32(tech.i[kind, X_TIME]))
    if economy.f[b, EF_PROGRESS, slot] < tech.i[kind, X_TIME]:
        return
    if hand_over(state, static, tech, economy, b, slot, kind):
        ei[b, E_QUEUED, slot] -= 1
        for n in range(ei[b, E_QUEUED, slot]):
            ei[b, E_QUEUE + n, slot] = ei[b, E_QUEUE + n + 1, slot]
        ei[b, E_STARTED, slot] = 0
        economy.f[b, EF_PROGRESS, slot] = 0.0
