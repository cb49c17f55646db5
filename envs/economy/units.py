"""Which units of a world the economy leads, and what it knows of them."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

from envs.economy.tables import (
    B_CHEATS,
    E_CONTENTS,
    E_TAG,
    E_UNFINISHED,
    GEYSER,
    L_ALIVE,
    L_COUNT,
    L_NEXT_TAG,
    MINERALS,
    PLAIN,
    R_CONTENTS,
    X_ROLE,
    XF_SUPPLY,
)
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import I_ALIVE, I_KIND, I_OWNER, I_TAG, W_ALIVE, W_NEXT_TAG


@entry
def reset_economy(economy, b):
    """Takes everything from world `b`."""
    economy.i[b, :, :] = 0
    economy.f[b, :, :] = 0.0
    economy.bank[b, :, :] = 0.0
    economy.made[b, :, :] = 0
    economy.listed[b, :] = 0


@kernel
def refresh(state, tech, economy, b, slot):
    """Forgets what the slot's last unit left, when another one is in it."""
    tag = state.ui[b, slot, I_TAG]
    if economy.i[b, E_TAG, slot] != tag:
        economy.i[b, :, slot] = 0
        economy.f[b, :, slot] = 0.0
        economy.i[b, E_TAG, slot] = tag
        role = tech.i[state.ui[b, slot, I_KIND], X_ROLE]
        if role == MINERALS:
            economy.i[b, E_CONTENTS, slot] = int(tech.harvest[0, R_CONTENTS])
        elif role == GEYSER:
            economy.i[b, E_CONTENTS, slot] = int(tech.harvest[1, R_CONTENTS])


@kernel
def list_works(state, tech, economy, b):
    """Brings `works` and `plain_supply` up to date.

    Most units of an army game are PLAIN, and cost nothing here. The list is made anew only when who lives has changed:
    after a death fewer units live, and a new unit takes the next tag.
    """
    listed, count = economy.listed[b], state.w[b, W_ALIVE]
    if listed[L_NEXT_TAG] == state.w[b, W_NEXT_TAG] and listed[L_ALIVE] == count:
        return
    plain = economy.plain_supply[b]
    plain[:] = 0.0
    n = 0
    for m in range(count):
        slot = state.alive[b, m]
        kind = state.ui[b, slot, I_KIND]
        if tech.i[kind, X_ROLE] == PLAIN:
            plain[state.ui[b, slot, I_OWNER]] += tech.f[kind, XF_SUPPLY]
        else:
            refresh(state, tech, economy, b, slot)
            economy.works[b, n] = slot
            n += 1
    listed[L_COUNT] = n
    listed[L_NEXT_TAG], listed[L_ALIVE] = state.w[b, W_NEXT_TAG], count


@kernel
def is_unit(state, b, slot, tag):
    """Whether the slot still holds the living unit of that tag."""
    return slot >= 0 and state.ui[b, slot, I_ALIVE] != 0 and state.ui[b, slot, I_TAG] == tag


@kernel
def finished(state, economy, b, slot):
    return economy.i[b, E_TAG, slot] != state.ui[b, slot, I_TAG] or economy.i[b, E_UNFINISHED, slot] == 0


@kernel
def cheats(economy, b, owner, which):
    return int(economy.bank[b, owner, B_CHEATS]) & which != 0
