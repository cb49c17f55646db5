"""Orders of a unit: given, queued, and finished."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.layout import (
    F_HEALTH,
    F_HOME_X,
    F_HOME_Y,
    F_ORDER_X,
    F_ORDER_Y,
    F_STIM,
    F_WINDUP,
    F_X,
    F_Y,
    FLAG_COLOSSUS,
    FLAG_FLYING,
    FLAG_RETURNING,
    I_ALIVE,
    I_CELL,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_QUEUED,
    I_TAG,
    I_TARGET,
    I_WAKE,
    K_BLINK_RANGE,
    K_HEAL_RATE,
    K_SPEED,
    K_STIM_COST,
    K_STIM_TIME,
    KI_CHANGES_TO,
    KI_WEAPONS,
    O_OBSTACLES,
    ORDER_ATTACK,
    ORDER_BLINK,
    ORDER_BUILD,
    ORDER_GATHER,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_PATROL,
    ORDER_SIEGE,
    ORDER_STIM,
    ORDER_STOP,
    QUEUE,
)
from envs.engine.state.maps import nearest_pathable


@inline_kernel
def _set_order(state, b, i, order, target, tag, x, y):
    ii = state.ui
    ii[b, i, I_ORDER] = order
    ii[b, i, I_ORDER_TARGET] = target
    ii[b, i, I_ORDER_TAG] = tag
    state.uf[b, i, F_ORDER_X] = x
    state.uf[b, i, F_ORDER_Y] = y
    state.uf[b, i, F_HOME_X] = state.uf[b, i, F_X]
    state.uf[b, i, F_HOME_Y] = state.uf[b, i, F_Y]
    ii[b, i, I_CELL] = -1
    ii[b, i, I_WAKE] = 0
    ii[b, i, I_FLAGS] &= ~FLAG_RETURNING
    if order != ORDER_ATTACK or ii[b, i, I_TARGET] != target:
        # A new order before the damage point cancels the attack, and its cooldown is not spent.
        state.uf[b, i, F_WINDUP] = 0.0
        ii[b, i, I_TARGET] = -1


@inline_kernel
def issue_order(state, static, b, i, order, target, x, y, queued):
    """Gives unit `i` an order: `target` is a slot or -1, (`x`, `y`) a point; `queued` appends it to its queue.

    Returns True when the unit took it: the target exists, the kind can do it, the queue has room. The same order again
    changes nothing (an attack under way goes on).
    """
    ii = state.ui
    if ii[b, i, I_ALIVE] == 0 or order < 0 or order >= ORDER_BUILD + static.kind_i.shape[0]:
        return False
    tag = 0
    if target >= 0:
        if target >= ii.shape[1] or ii[b, target, I_ALIVE] == 0 or target == i:
            return False
        tag = ii[b, target, I_TAG]
    elif order in (ORDER_ATTACK, ORDER_HEAL, ORDER_GATHER):
        return False
    kind = ii[b, i, I_KIND]
    if order == ORDER_ATTACK and static.kind_i[kind, KI_WEAPONS] == 0:
        return False
    if order == ORDER_HEAL and static.kind_f[kind, K_HEAL_RATE] <= 0.0:
        return False
    if order == ORDER_BLINK and static.kind_f[kind, K_BLINK_RANGE] <= 0.0:
        return False
    if order == ORDER_SIEGE and static.kind_i[kind, KI_CHANGES_TO] < 0:
        return False
    if order >= ORDER_MOVE and order <= ORDER_PATROL and order != ORDER_ATTACK and static.kind_f[kind, K_SPEED] <= 0.0:
        return False
    if order == ORDER_STIM:
        cost = static.kind_f[kind, K_STIM_COST]
        if cost <= 0.0 or state.uf[b, i, F_HEALTH] <= cost:
            return False
        state.uf[b, i, F_HEALTH] -= cost
        state.uf[b, i, F_STIM] = static.kind_f[kind, K_STIM_TIME]
        ii[b, i, I_WAKE] = 0
        return True
    px = min(max(np.float32(x), static.bounds[0]), static.bounds[2])
    py = min(max(np.float32(y), static.bounds[1]), static.bounds[3])
    if static.options[O_OBSTACLES] and ii[b, i, I_FLAGS] & (FLAG_FLYING | FLAG_COLOSSUS) == 0:
        px, py = nearest_pathable(static, px, py)
    if queued and (ii[b, i, I_ORDER] != ORDER_STOP or ii[b, i, I_QUEUED] > 0):
        n = ii[b, i, I_QUEUED]
        if n >= QUEUE:
            return False
        state.queue_i[b, i, n, 0] = order
        state.queue_i[b, i, n, 1] = target
        state.queue_i[b, i, n, 2] = tag
        state.queue_f[b, i, n, 0] = px
        state.queue_f[b, i, n, 1] = py
        ii[b, i, I_QUEUED] = n + 1
        return True
    ii[b, i, I_QUEUED] = 0
    same = ii[b, i, I_ORDER] == order and ii[b, i, I_ORDER_TARGET] == target and ii[b, i, I_ORDER_TAG] == tag
    if same and (target >= 0 or (state.uf[b, i, F_ORDER_X] == px and state.uf[b, i, F_ORDER_Y] == py)):
        return True
    _set_order(state, np.int64(b), np.int64(i), np.int64(order), np.int64(target), np.int64(tag), px, py)
    return True


@kernel
def next_order(state, b, i):
    """The current order is done: the unit takes the next one of its queue, or stands idle where it is."""
    ii = state.ui
    # The slot may be an int32; one type for all callers, because Numba compiles a kernel anew for every other.
    world, slot = np.int64(b), np.int64(i)
    n = ii[b, i, I_QUEUED]
    if n == 0:
        x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
        _set_order(state, world, slot, np.int64(ORDER_STOP), np.int64(-1), np.int64(0), x, y)
        return
    q, qf = state.queue_i, state.queue_f
    order, target, tag = np.int64(q[b, i, 0, 0]), np.int64(q[b, i, 0, 1]), np.int64(q[b, i, 0, 2])
    _set_order(state, world, slot, order, target, tag, qf[b, i, 0, 0], qf[b, i, 0, 1])
    for k in range(1, n):
        for c in range(3):
            q[b, i, k - 1, c] = q[b, i, k, c]
        for c in range(2):
            qf[b, i, k - 1, c] = qf[b, i, k, c]
    ii[b, i, I_QUEUED] = n - 1
