"""How a worker gets to its work: it walks straight to the edge of a unit or a site."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.tables import E_PHASE, ON_THE_WAY
from envs.engine.state.compilation import kernel
from envs.engine.state.layout import (
    F_ORDER_X,
    F_ORDER_Y,
    F_SPEED,
    F_X,
    F_Y,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_TAG,
    K_INNER_RADIUS,
)

REACH = np.float32(0.15)  # gap at which a worker is at a resource, a hall or a site


@kernel
def stay(state, b, i):
    """Stands still at once."""
    state.uf[b, i, F_ORDER_X] = state.uf[b, i, F_X]
    state.uf[b, i, F_ORDER_Y] = state.uf[b, i, F_Y]
    state.uf[b, i, F_SPEED] = 0.0


@kernel
def approach(state, b, i, x, y, reach):
    """Sends the worker to within `reach` of a place, by the shortest way; True when it is there."""
    f = state.uf
    dx, dy = f[b, i, F_X] - x, f[b, i, F_Y] - y
    d = np.sqrt(dx * dx + dy * dy)
    if d <= reach + REACH:
        stay(state, b, i)
        return True
    f[b, i, F_ORDER_X] = x + dx * (reach + np.float32(0.5) * REACH) / d
    f[b, i, F_ORDER_Y] = y + dy * (reach + np.float32(0.5) * REACH) / d
    return False


@kernel
def walk_to(state, static, b, i, j):
    """Sends the worker to the edge of unit `j`; True when it is there."""
    mine, theirs = state.ui[b, i, I_KIND], state.ui[b, j, I_KIND]
    reach = static.kind_f[mine, K_INNER_RADIUS] + static.kind_f[theirs, K_INNER_RADIUS]
    return approach(state, b, i, state.uf[b, j, F_X], state.uf[b, j, F_Y], reach)


@kernel
def take_order(state, economy, b, i, order, target):
    """Gives the worker an order of the economy without touching the queue of its orders."""
    state.ui[b, i, I_ORDER] = order
    state.ui[b, i, I_ORDER_TARGET] = target
    state.ui[b, i, I_ORDER_TAG] = state.ui[b, target, I_TAG] if target >= 0 else 0
    economy.i[b, E_PHASE, i] = ON_THE_WAY
