"""What may be bought, and paying for it."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

from envs.economy.tables import (
    B_MINERALS,
    B_SPENT_MINERALS,
    B_SPENT_VESPENE,
    B_VESPENE,
    CHEAT_FREE,
    CHEAT_TECH,
    FINE,
    NO_MINERALS,
    NO_TECH,
    NO_VESPENE,
    X_MINERALS,
    X_REQUIRES,
    X_VESPENE,
)
from envs.economy.units import cheats, finished
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import I_KIND, I_OWNER, W_ALIVE


@kernel
def has_building(state, economy, b, owner, kind):
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        stands = state.ui[b, slot, I_OWNER] == owner and state.ui[b, slot, I_KIND] == kind
        if stands and finished(state, economy, b, slot):
            return True
    return False


@kernel
def purchase_problem(state, tech, economy, b, owner, kind):
    """Why `owner` cannot afford or may not yet make a kind; supply is judged when production begins."""
    bank = economy.bank
    requires = tech.i[kind, X_REQUIRES]
    needs = requires >= 0 and not cheats(economy, b, owner, CHEAT_TECH)
    if needs and not has_building(state, economy, b, owner, requires):
        return NO_TECH
    if cheats(economy, b, owner, CHEAT_FREE):
        return FINE
    if bank[b, owner, B_MINERALS] < tech.i[kind, X_MINERALS]:
        return NO_MINERALS
    if bank[b, owner, B_VESPENE] < tech.i[kind, X_VESPENE]:
        return NO_VESPENE
    return FINE


@kernel
def pay(tech, economy, b, owner, kind, share):
    """Takes `share` of what a kind costs; a negative share is given back."""
    if cheats(economy, b, owner, CHEAT_FREE) and share > 0.0:
        return
    bank = economy.bank
    minerals, vespene = share * tech.i[kind, X_MINERALS], share * tech.i[kind, X_VESPENE]
    bank[b, owner, B_MINERALS] -= minerals
    bank[b, owner, B_VESPENE] -= vespene
    bank[b, owner, B_SPENT_MINERALS] += minerals
    bank[b, owner, B_SPENT_VESPENE] += vespene


@entry
def purchase(state, tech, economy, b, owner, kind):
    """`purchase_problem` for other modules."""
    return purchase_problem(state, tech, economy, b, owner, kind)
