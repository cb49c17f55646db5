"""Supply: what is used, provided and left."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.tables import (
    B_SUPPLY,
    B_SUPPLY_USED,
    CHEAT_FOOD,
    E_QUEUE,
    E_QUEUED,
    E_STARTED,
    E_UNFINISHED,
    L_COUNT,
    R_SUPPLY,
    X_PROVIDES,
    XF_SUPPLY,
)
from envs.economy.units import cheats, list_works
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import I_KIND, I_OWNER


@kernel
def supply_left(tech, economy, b, owner):
    if cheats(economy, b, owner, CHEAT_FOOD):
        return np.float64(tech.limits[R_SUPPLY])
    most = min(economy.bank[b, owner, B_SUPPLY], np.float64(tech.limits[R_SUPPLY]))
    return most - economy.bank[b, owner, B_SUPPLY_USED]


@entry
def count_supply(state, tech, economy, b):
    """Supply used, by living units and by units in production, and supply provided."""
    ei, bank = economy.i, economy.bank
    list_works(state, tech, economy, b)
    for owner in range(bank.shape[1]):
        bank[b, owner, B_SUPPLY_USED] = economy.plain_supply[b, owner]
        bank[b, owner, B_SUPPLY] = 0.0
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        owner, kind = state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND]
        bank[b, owner, B_SUPPLY_USED] += tech.f[kind, XF_SUPPLY]
        if ei[b, E_UNFINISHED, slot] == 0:
            bank[b, owner, B_SUPPLY] += tech.i[kind, X_PROVIDES]
        if ei[b, E_QUEUED, slot] > 0 and ei[b, E_STARTED, slot] != 0:
            bank[b, owner, B_SUPPLY_USED] += tech.f[ei[b, E_QUEUE, slot], XF_SUPPLY]
