"""Workers that gather: to a resource, harvesting, to a hall, and back."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.tables import (
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_MINERALS,
    B_VESPENE,
    CARRIES_MINERALS,
    E_AMOUNT,
    E_ASSIGNED,
    E_CARRIES,
    E_CONTENTS,
    E_PHASE,
    E_RESOURCE,
    E_RESOURCE_TAG,
    E_TIMER,
    E_USER,
    E_USER_TAG,
    GAS,
    HALL,
    HARVESTING,
    L_COUNT,
    LEAVING,
    MINERALS,
    NOTHING,
    ON_THE_WAY,
    R_AMOUNT,
    R_DELAY,
    R_SEARCH,
    R_TIME,
    WAITING,
    WORKER,
    X_ROLE,
)
from envs.economy.units import finished, is_unit, list_works, refresh
from envs.economy.walking import stay, take_order, walk_to
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_X,
    F_Y,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_OWNER,
    I_QUEUED,
    I_TAG,
    ORDER_GATHER,
    ORDER_RETURN,
    W_ALIVE,
)
from envs.engine.state.orders import next_order
from envs.engine.state.units import kill_unit


@kernel
def contents(economy, b, resource, role):
    """What is left in a patch, or under a gas building."""
    if role == GAS:
        return economy.i[b, E_CONTENTS, economy.i[b, E_RESOURCE, resource]]
    return economy.i[b, E_CONTENTS, resource]


@kernel
def gatherable(state, tech, economy, b, owner, slot, tag):
    """1 + the row of `tech.harvest` if a worker of `owner` can gather there, else 0."""
    if not is_unit(state, b, slot, tag):
        return 0
    role = tech.i[state.ui[b, slot, I_KIND], X_ROLE]
    if role == MINERALS:
        return 1
    if role != GAS or state.ui[b, slot, I_OWNER] != owner or not finished(state, economy, b, slot):
        return 0
    return 2 if contents(economy, b, slot, role) > 0 else 0


@kernel
def taken(state, economy, b, resource, i):
    """Whether a worker other than `i` is at the resource."""
    user = economy.i[b, E_USER, resource]
    return (
        economy.i[b, E_USER_TAG, resource] != 0
        and user != i
        and is_unit(state, b, user, economy.i[b, E_USER_TAG, resource])
        and state.ui[b, user, I_ORDER] == ORDER_GATHER
        and state.ui[b, user, I_ORDER_TARGET] == resource
        and economy.i[b, E_PHASE, user] == HARVESTING
    )


@kernel
def wanted(state, economy, b, resource, i):
    """Workers other than `i` that gather at the resource or are on the way to it."""
    count = 0
    for m in range(state.w[b, W_ALIVE]):
        n = state.alive[b, m]
        gathers = n != i and state.ui[b, n, I_ORDER] == ORDER_GATHER and economy.i[b, E_PHASE, n] != LEAVING
        count += gathers and state.ui[b, n, I_ORDER_TARGET] == resource
    return count


@kernel
def nearest_patch(state, tech, economy, b, i, x, y, only_free):
    """The mineral field nearest to (x, y) within the search radius, -1 if there is none."""
    best, most = -1, tech.harvest[0, R_SEARCH]
    nearest = most * most
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != MINERALS:
            continue
        dx, dy = state.uf[b, slot, F_X] - x, state.uf[b, slot, F_Y] - y
        if dx * dx + dy * dy < nearest:
            if only_free and wanted(state, economy, b, slot, i) > 0:
                continue
            best, nearest = slot, dx * dx + dy * dy
    return best


@kernel
def nearest_hall(state, tech, economy, b, owner, i):
    """The finished hall of `owner` nearest to unit `i`, -1 if it has none."""
    best, nearest = -1, np.float32(np.inf)
    for n in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, n]
        if state.ui[b, slot, I_OWNER] != owner or tech.i[state.ui[b, slot, I_KIND], X_ROLE] != HALL:
            continue
        dx, dy = state.uf[b, slot, F_X] - state.uf[b, i, F_X], state.uf[b, slot, F_Y] - state.uf[b, i, F_Y]
        if dx * dx + dy * dy < nearest and finished(state, economy, b, slot):
            best, nearest = slot, dx * dx + dy * dy
    return best


@entry
def can_gather(state, tech, economy, b, slot, target):
    """Whether the unit in `slot` is a worker and `target` something that it can gather from."""
    if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != WORKER:
        return False
    refresh(state, tech, economy, b, target)
    return gatherable(state, tech, economy, b, state.ui[b, slot, I_OWNER], target, state.ui[b, target, I_TAG]) > 0


@kernel
def gather_again(state, tech, economy, b, i):
    """After a delivery: on with the queue, back to the resource, or to the nearest free patch."""
    resource, tag = economy.i[b, E_RESOURCE, i], economy.i[b, E_RESOURCE_TAG, i]
    if state.ui[b, i, I_QUEUED] > 0 or tag == 0:
        next_order(state, b, i)
        return
    if gatherable(state, tech, economy, b, state.ui[b, i, I_OWNER], resource, tag) == 0:
        resource = nearest_patch(state, tech, economy, b, i, state.uf[b, i, F_X], state.uf[b, i, F_Y], False)
    if resource < 0:
        next_order(state, b, i)
    else:
        take_order(state, economy, b, i, ORDER_GATHER, resource)


@kernel
def bring_home(state, tech, economy, b, i):
    """Sends a worker to the nearest hall."""
    hall = nearest_hall(state, tech, economy, b, state.ui[b, i, I_OWNER], i)
    take_order(state, economy, b, i, ORDER_RETURN, hall)


@kernel
def leave_resource(state, tech, economy, b, i):
    """A loop of the short pause after harvesting; at its end the worker sets out."""
    stay(state, b, i)
    economy.i[b, E_TIMER, i] -= 1
    if economy.i[b, E_TIMER, i] <= 0:
        if state.ui[b, i, I_QUEUED] > 0:
            next_order(state, b, i)
        else:
            bring_home(state, tech, economy, b, i)


@kernel
def harvest(state, tech, economy, b, i, resource, what):
    """A loop of harvesting; at its end the worker has its load. `what` is 1 + the row of `tech.harvest`."""
    ei = economy.i
    stay(state, b, i)
    ei[b, E_TIMER, i] -= 1
    if ei[b, E_TIMER, i] > 0:
        return
    store = ei[b, E_RESOURCE, resource] if what == 2 else resource
    amount = min(int(tech.harvest[what - 1, R_AMOUNT]), ei[b, E_CONTENTS, store])
    ei[b, E_CONTENTS, store] -= amount
    ei[b, E_CARRIES, i] = what
    ei[b, E_AMOUNT, i] = amount
    ei[b, E_USER_TAG, resource] = 0
    ei[b, E_PHASE, i] = LEAVING
    ei[b, E_TIMER, i] = int(tech.harvest[what - 1, R_DELAY])
    if what == 1 and ei[b, E_CONTENTS, store] <= 0:
        kill_unit(state, b, resource)


@kernel
def lead_gatherer(state, static, tech, economy, b, i):
    """A loop of a worker on its way to a resource, waiting for it, harvesting or leaving."""
    ei = economy.i
    owner = state.ui[b, i, I_OWNER]
    resource = state.ui[b, i, I_ORDER_TARGET]
    what = gatherable(state, tech, economy, b, owner, resource, state.ui[b, i, I_ORDER_TAG])
    if what == 0 and ei[b, E_PHASE, i] != LEAVING:
        other = nearest_patch(state, tech, economy, b, i, state.uf[b, i, F_X], state.uf[b, i, F_Y], False)
        if other < 0:
            next_order(state, b, i)
        else:
            take_order(state, economy, b, i, ORDER_GATHER, other)
        return
    if what != 0 and ei[b, E_RESOURCE_TAG, i] != state.ui[b, resource, I_TAG]:
        # Told to gather somewhere else.
        ei[b, E_RESOURCE, i] = resource
        ei[b, E_RESOURCE_TAG, i] = state.ui[b, resource, I_TAG]
        if ei[b, E_PHASE, i] != LEAVING:
            ei[b, E_PHASE, i] = ON_THE_WAY
    phase = ei[b, E_PHASE, i]
    if phase == LEAVING:
        leave_resource(state, tech, economy, b, i)
        return
    if ei[b, E_CARRIES, i] != NOTHING:
        bring_home(state, tech, economy, b, i)
        return
    if phase == HARVESTING:
        harvest(state, tech, economy, b, i, resource, what)
        return
    if not walk_to(state, static, b, i, resource):
        ei[b, E_PHASE, i] = ON_THE_WAY
        return
    if not taken(state, economy, b, resource, i):
        ei[b, E_USER, resource] = i
        ei[b, E_USER_TAG, resource] = state.ui[b, i, I_TAG]
        ei[b, E_PHASE, i] = HARVESTING
        ei[b, E_TIMER, i] = int(tech.harvest[what - 1, R_TIME])
        return
    if phase == ON_THE_WAY and what == 1:
        # The patch is taken: to a free one, if there is one.
        x, y = state.uf[b, resource, F_X], state.uf[b, resource, F_Y]
        other = nearest_patch(state, tech, economy, b, i, x, y, True)
        if other >= 0:
            take_order(state, economy, b, i, ORDER_GATHER, other)
            return
    ei[b, E_PHASE, i] = WAITING


@kernel
def lead_carrier(state, static, tech, economy, b, i):
    """A loop of a worker that carries its load to a hall."""
    ei = economy.i
    if ei[b, E_CARRIES, i] == NOTHING:
        gather_again(state, tech, economy, b, i)
        return
    owner = state.ui[b, i, I_OWNER]
    hall, tag = state.ui[b, i, I_ORDER_TARGET], state.ui[b, i, I_ORDER_TAG]
    if not is_unit(state, b, hall, tag) or state.ui[b, hall, I_OWNER] != owner:
        hall = nearest_hall(state, tech, economy, b, owner, i)
        if hall < 0:
            next_order(state, b, i)
            return
        take_order(state, economy, b, i, ORDER_RETURN, hall)
    if not walk_to(state, static, b, i, hall):
        return
    amount = ei[b, E_AMOUNT, i]
    if ei[b, E_CARRIES, i] == CARRIES_MINERALS:
        economy.bank[b, owner, B_MINERALS] += amount
        economy.bank[b, owner, B_COLLECTED_MINERALS] += amount
    else:
        economy.bank[b, owner, B_VESPENE] += amount
        economy.bank[b, owner, B_COLLECTED_VESPENE] += amount
    ei[b, E_CARRIES, i] = NOTHING
    ei[b, E_AMOUNT, i] = 0
    gather_again(state, tech, economy, b, i)


@kernel
def count_workers(state, tech, economy, b):
    """Writes E_ASSIGNED of every patch, gas building and hall: the workers that gather there."""
    ei = economy.i
    list_works(state, tech, economy, b)
    for n in range(economy.listed[b, L_COUNT]):
        ei[b, E_ASSIGNED, economy.works[b, n]] = 0
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != WORKER:
            continue
        order = state.ui[b, slot, I_ORDER]
        resource, tag = ei[b, E_RESOURCE, slot], ei[b, E_RESOURCE_TAG, slot]
        if order == ORDER_GATHER:
            resource, tag = state.ui[b, slot, I_ORDER_TARGET], state.ui[b, slot, I_ORDER_TAG]
        elif order != ORDER_RETURN or tag == 0:
            continue
        if is_unit(state, b, resource, tag):
            ei[b, E_ASSIGNED, resource] += 1
            if tech.i[state.ui[b, resource, I_KIND], X_ROLE] == MINERALS:
                hall = nearest_hall(state, tech, economy, b, state.ui[b, slot, I_OWNER], resource)
                if hall >= 0:
                    ei[b, E_ASSIGNED, hall] += 1
