"""The economy's part of a game loop, before the battle's.

It leads the workers by three orders that the battle walks: `ORDER_GATHER`, `ORDER_RETURN`, and `ORDER_BUILD` + the
building's kind. It creates and removes units through the engine.
"""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

from envs.economy.buildings import lead_builder, work_on
from envs.economy.gathering import lead_carrier, lead_gatherer
from envs.economy.production import run_production
from envs.economy.supply import count_supply
from envs.economy.tables import (
    B_IDLE_PRODUCTION,
    B_IDLE_WORKERS,
    E_ALONE,
    E_PHASE,
    E_QUEUED,
    E_TAG,
    E_UNFINISHED,
    L_COUNT,
    ON_THE_WAY,
    PLAIN,
    WORKER,
    X_RALLY,
    X_ROLE,
)
from envs.economy.units import is_unit
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    FLAG_PASSING,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_OWNER,
    I_WAKE,
    ORDER_GATHER,
    ORDER_RETURN,
    ORDER_STOP,
)
from envs.engine.step import ONE_LOOP, advance_world


@kernel
def lead_worker(state, static, tech, economy, b, i):
    """A loop of a worker, by its order."""
    order = state.ui[b, i, I_ORDER]
    state.ui[b, i, I_WAKE] = 0  # its orders and flags change here
    if order < ORDER_GATHER:
        state.ui[b, i, I_FLAGS] &= ~FLAG_PASSING
        economy.i[b, E_PHASE, i] = ON_THE_WAY
        economy.bank[b, state.ui[b, i, I_OWNER], B_IDLE_WORKERS] += order == ORDER_STOP
        return
    # As in the game, workers at work walk through each other.
    state.ui[b, i, I_FLAGS] |= FLAG_PASSING
    if order == ORDER_GATHER:
        lead_gatherer(state, static, tech, economy, b, i)
    elif order == ORDER_RETURN:
        lead_carrier(state, static, tech, economy, b, i)
    else:
        lead_builder(state, static, tech, economy, b, i)


@kernel
def run_economy(state, static, tech, economy, b):
    """The economy's part of a loop of world `b`, before the battle's."""
    ei, bank = economy.i, economy.bank
    count_supply(state, tech, economy, b)
    # What is made in this loop has its turn in the next one.
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        if not is_unit(state, b, slot, ei[b, E_TAG, slot]):
            continue
        kind, owner = state.ui[b, slot, I_KIND], state.ui[b, slot, I_OWNER]
        role = tech.i[kind, X_ROLE]
        if role == WORKER:
            lead_worker(state, static, tech, economy, b, slot)
        elif ei[b, E_UNFINISHED, slot] != 0:
            if ei[b, E_ALONE, slot] != 0:
                work_on(state, tech, economy, b, slot)
        elif ei[b, E_QUEUED, slot] > 0:
            run_production(state, static, tech, economy, b, slot)
        elif role != PLAIN and tech.i[kind, X_RALLY] != 0:
            bank[b, owner, B_IDLE_PRODUCTION] += 1.0


@entry
def advance_with_economy(state, static, tech, economy, b, loops):
    """`advance_world` with an economy."""
    for _ in range(loops):
        run_economy(state, static, tech, economy, b)
        advance_world(state, static, b, ONE_LOOP)
    count_supply(state, tech, economy, b)
