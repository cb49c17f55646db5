"""What a player may order, and the orders it gives: legality, masks and decoding of the action views.

Masks and decoding call the same predicates, so a mask cannot promise what decoding would refuse.
"""

from __future__ import annotations

import numpy as np

from envs.actions import (
    ATTACK,
    ATTACK_TARGET,
    BLINK_NORTH,
    HEAL,
    HEAL_TARGET,
    HOLD_POSITION,
    MOVE_AMOUNT,
    MOVE_NORTH,
    MOVE_TARGET,
    MOVE_TO,
    NO_OP,
    NUM_FUNCTIONS,
    NUM_ORDERS,
    POINT_GRID,
    SIEGE,
    SMAC_MOVE_NORTH,
    SMAC_NO_OP,
    SMAC_SHOOT_RANGE,
    SMAC_STOP,
    SMAC_TARGETS,
    STIM,
    STOP,
    UNBURROW,
)
from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import (
    F_BLINK_COOLDOWN,
    F_BUSY,
    F_ENERGY,
    F_HEALTH,
    F_X,
    F_Y,
    FLAG_BURROWED,
    FLAG_FLYING,
    FLAG_INVULNERABLE,
    I_ALIVE,
    I_FLAGS,
    I_KIND,
    I_OWNER,
    I_VISIBLE,
    K_BLINK_RANGE,
    K_HEAL_RATE,
    K_SPEED,
    K_STIM_COST,
    KI_WEAPONS,
    O_OBSTACLES,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_BLINK,
    ORDER_HEAL,
    ORDER_HOLD,
    ORDER_MOVE,
    ORDER_PATROL,
    ORDER_SIEGE,
    ORDER_STIM,
    ORDER_STOP,
)
from envs.engine.state.orders import issue_order
from envs.scenarios.compiled import (
    E_ILLEGAL,
    P_AGENTS,
    P_MAP_HEIGHT,
    P_MAP_WIDTH,
    P_NEUTRAL_END,
    P_OWN,
    P_ROWS,
    P_SMAC_ACTIONS,
    P_SMAC_TRUE_RANGE,
    P_TEAM_1_END,
    P_TEAM_2_END,
    VIEW_UNIT,
)

# Functions of the structured view, in the order of actions.FUNCTIONS.
(
    FN_NO_OP,
    FN_STOP,
    FN_HOLD,
    FN_MOVE_POINT,
    FN_MOVE_UNIT,
    FN_ATTACK_POINT,
    FN_ATTACK_UNIT,
    FN_PATROL_POINT,
    FN_HEAL_UNIT,
    FN_STIM,
    FN_BLINK_POINT,
    FN_SIEGE,
    FN_UNSIEGE,
    FN_BURROW,
    FN_UNBURROW,
) = range(15)
BLINK_STEP = np.float32(8.0)
HALF_MOVE = np.float32(MOVE_AMOUNT / 2)
FULL_MOVE = np.float32(MOVE_AMOUNT)


@inline_kernel
def own_slots(compiled, player):
    """First and one past the last slot of a player's team (player 0 or 1)."""
    if player == 0:
        return np.int64(0), compiled.i[P_TEAM_1_END]
    return compiled.i[P_NEUTRAL_END], compiled.i[P_TEAM_2_END]


@inline_kernel
def sees(state, b, player, j):
    """Slot `j` holds a living entity that the player sees."""
    return j >= 0 and state.ui[b, j, I_ALIVE] != 0 and (state.ui[b, j, I_VISIBLE] >> (player + 1)) & 1 != 0


@inline_kernel
def pathable_at(state, static, b, i, x, y):
    """Whether unit `i` may be at (x, y)."""
    bounds = static.bounds
    if x < bounds[0] or y < bounds[1] or x >= bounds[2] or y >= bounds[3]:
        return False
    return state.ui[b, i, I_FLAGS] & FLAG_FLYING != 0 or static.pathable[np.int64(y), np.int64(x)] != 0


@inline_kernel
def can_move(state, static, b, i):
    return (
        static.kind_f[state.ui[b, i, I_KIND], K_SPEED] > 0.0
        and state.ui[b, i, I_FLAGS] & FLAG_BURROWED == 0
        and state.uf[b, i, F_BUSY] <= 0.0
    )


@inline_kernel
def can_step(state, static, compiled, b, i, direction):
    """SMAC's rule for a compass move: the place half-way is pathable."""
    x = state.uf[b, i, F_X] + HALF_MOVE * compiled.directions[direction, 0]
    y = state.uf[b, i, F_Y] + HALF_MOVE * compiled.directions[direction, 1]
    return can_move(state, static, b, i) and pathable_at(state, static, b, i, x, y)


@inline_kernel
def blink_place(state, static, compiled, b, i, quarter):
    distance = min(BLINK_STEP, static.kind_f[state.ui[b, i, I_KIND], K_BLINK_RANGE])
    return (
        state.uf[b, i, F_X] + distance * compiled.directions[2 * quarter, 0],
        state.uf[b, i, F_Y] + distance * compiled.directions[2 * quarter, 1],
    )


@inline_kernel
def quick_legal(state, static, compiled, b, i, order):
    """Legality of the unit orders without a target, for a living unit `i`."""
    kind = state.ui[b, i, I_KIND]
    if order in (NO_OP, STOP, HOLD_POSITION):
        return True
    if MOVE_NORTH <= order < MOVE_NORTH + 8:
        return can_step(state, static, compiled, b, i, order - MOVE_NORTH)
    if order == STIM:
        cost = static.kind_f[kind, K_STIM_COST]
        return cost > 0.0 and state.uf[b, i, F_HEALTH] > cost
    if BLINK_NORTH <= order < BLINK_NORTH + 4:
        if static.kind_f[kind, K_BLINK_RANGE] <= 0.0 or state.uf[b, i, F_BLINK_COOLDOWN] > 0.0:
            return False
        x, y = blink_place(state, static, compiled, b, i, order - BLINK_NORTH)
        return pathable_at(state, static, b, i, x, y)
    if SIEGE <= order <= UNBURROW:
        return compiled.change_order[kind] == order and state.uf[b, i, F_BUSY] <= 0.0
    return False


@inline_kernel
def is_foe(state, b, player, j):
    """Whether the unit in slot `j` is an enemy's that can be hurt."""
    return state.ui[b, j, I_OWNER] == 2 - player and state.ui[b, j, I_FLAGS] & FLAG_INVULNERABLE == 0


@inline_kernel
def target_legal(state, static, compiled, b, player, i, target_class, j):
    """Whether living unit `i` of `player` may take slot `j` as a target of the class."""
    if j == i or not sees(state, b, player, j):
        return False
    if target_class == MOVE_TARGET:
        return can_move(state, static, b, i)
    kind, other = state.ui[b, i, I_KIND], state.ui[b, j, I_KIND]
    if target_class == ATTACK_TARGET:
        return is_foe(state, b, player, j) and compiled.can_hit[kind, other]
    return state.ui[b, j, I_OWNER] == player + 1 and compiled.can_heal[kind, other] and state.uf[b, i, F_ENERGY] > 0.0


@inline_kernel
def any_target(state, static, compiled, b, player, i, target_class):
    found = False
    for j in range(compiled.i[P_TEAM_2_END]):
        found = found or target_legal(state, static, compiled, b, player, i, target_class, j)
    return found


@inline_kernel
def give_unit_order(state, static, compiled, b, i, order, target):
    """Carries out a legal order of the unit view; `target` is a slot or -1."""
    if order == NO_OP:
        return
    x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
    engine_order, unit = np.int64(ORDER_STOP), np.int64(-1)
    if order == HOLD_POSITION:
        engine_order = np.int64(ORDER_HOLD)
    elif MOVE_NORTH <= order < MOVE_NORTH + 8:
        engine_order = np.int64(ORDER_MOVE)
        x += FULL_MOVE * compiled.directions[order - MOVE_NORTH, 0]
        y += FULL_MOVE * compiled.directions[order - MOVE_NORTH, 1]
    elif order == MOVE_TO:
        # A unit does not follow the entity: it goes to where the entity is now.
        engine_order = np.int64(ORDER_MOVE)
        x, y = state.uf[b, target, F_X], state.uf[b, target, F_Y]
    elif order == ATTACK:
        engine_order, unit = np.int64(ORDER_ATTACK), target
    elif order == HEAL:
        engine_order, unit = np.int64(ORDER_HEAL), target
    elif order == STIM:
        engine_order = np.int64(ORDER_STIM)
    elif BLINK_NORTH <= order < BLINK_NORTH + 4:
        engine_order = np.int64(ORDER_BLINK)
        x, y = blink_place(state, static, compiled, b, i, order - BLINK_NORTH)
    elif SIEGE <= order <= UNBURROW:
        engine_order = np.int64(ORDER_SIEGE)
    issue_order(state, static, b, i, engine_order, unit, x, y, False)


# --- the unit view ------------------------------------------------------------------------------------------


@inline_kernel
def unit_action_legal(state, static, compiled, b, player, i, order, row):
    """Legality of (order, target row) for slot `i`; the target is ignored by orders that take none."""
    if order < 0 or order >= NUM_ORDERS:
        return False
    if state.ui[b, i, I_ALIVE] == 0 or order == NO_OP:
        return order == NO_OP
    target_class = compiled.order_target[order]
    if target_class < 0:
        return quick_legal(state, static, compiled, b, i, order)
    if row < 0 or row >= compiled.i[P_ROWS]:
        return False
    return target_legal(
        state, static, compiled, b, player, i, target_class, np.int64(compiled.slot_of_row[player, row])
    )


@inline_kernel
def write_unit_masks(state, static, compiled, b, player, order_mask, target_mask):
    """order_mask [U, K] and target_mask [U, 3, N] of one player."""
    first, last = own_slots(compiled, player)
    rows = compiled.i[P_ROWS]
    enemies = compiled.i[P_OWN] + compiled.i[P_NEUTRAL_END] - compiled.i[P_TEAM_1_END]
    order_mask[:, :] = False
    target_mask[:, :, :] = False
    order_mask[:, NO_OP] = True
    bounds = static.bounds
    # All units of a player see the same, and all units of a kind may attack the same. So later units copy rows: of
    # targets to move to from the first unit that moves, of targets to attack from the last one with a new kind.
    moving, seen, armed, armed_kind = -1, 0, -1, -1
    for u in range(last - first):
        i = first + u
        if state.ui[b, i, I_ALIVE] == 0:
            continue
        kind = state.ui[b, i, I_KIND]
        orders, targets = order_mask[u], target_mask[u]
        orders[STOP] = True
        orders[HOLD_POSITION] = True
        if can_move(state, static, b, i):
            x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
            inside = x - HALF_MOVE >= bounds[0] and x + HALF_MOVE < bounds[2]
            inside = inside and y - HALF_MOVE >= bounds[1] and y + HALF_MOVE < bounds[3]
            free = inside and static.options[O_OBSTACLES] == 0
            for direction in range(8):
                orders[MOVE_NORTH + direction] = free or can_step(state, static, compiled, b, i, direction)
            if moving < 0:
                moving = u
                for n in range(rows):
                    visible = sees(state, b, player, np.int64(compiled.slot_of_row[player, n]))
                    targets[MOVE_TARGET, n] = visible
                    seen += visible
            else:
                for n in range(rows):
                    targets[MOVE_TARGET, n] = target_mask[moving, MOVE_TARGET, n]
                targets[MOVE_TARGET, compiled.row_of_slot[player, first + moving]] = True
            # All but the unit itself.
            targets[MOVE_TARGET, compiled.row_of_slot[player, i]] = False
            orders[MOVE_TO] = seen > 1
        if static.kind_i[kind, KI_WEAPONS] > 0:
            if kind == armed_kind:
                for n in range(enemies, rows):
                    targets[ATTACK_TARGET, n] = target_mask[armed, ATTACK_TARGET, n]
                orders[ATTACK] = order_mask[armed, ATTACK]
            else:
                armed, armed_kind = u, kind
                for n in range(enemies, rows):
                    j = np.int64(compiled.slot_of_row[player, n])
                    legal = target_legal(state, static, compiled, b, player, i, ATTACK_TARGET, j)
                    targets[ATTACK_TARGET, n] = legal
                    orders[ATTACK] |= legal
        if static.kind_f[kind, K_HEAL_RATE] > 0.0:
            for n in range(last - first):
                if target_legal(state, static, compiled, b, player, i, HEAL_TARGET, first + n):
                    targets[HEAL_TARGET, n] = True
                    orders[HEAL] = True
        # Orders that few kinds have.
        if static.kind_f[kind, K_STIM_COST] > 0.0:
            orders[STIM] = quick_legal(state, static, compiled, b, i, np.int64(STIM))
        if static.kind_f[kind, K_BLINK_RANGE] > 0.0:
            for quarter in range(4):
                orders[BLINK_NORTH + quarter] = quick_legal(state, static, compiled, b, i, BLINK_NORTH + quarter)
        if compiled.change_order[kind] >= 0:
            for order in range(SIEGE, UNBURROW + 1):
                orders[order] = quick_legal(state, static, compiled, b, i, order)


# --- SMAC's view --------------------------------------------------------------------------------------------


@inline_kernel
def smac_range(compiled, kind, other):
    if compiled.i[P_SMAC_TRUE_RANGE] != 0:
        return max(compiled.reach[kind, other], np.float32(2.0))
    return np.float32(SMAC_SHOOT_RANGE)


@inline_kernel
def smac_target(state, static, compiled, b, player, i, action):
    """The slot that SMAC's action `action` of unit `i` names: a healer's targets are its own side; -1 = none."""
    index = action - SMAC_TARGETS
    side = player if static.kind_f[state.ui[b, i, I_KIND], K_HEAL_RATE] > 0.0 else 1 - player
    first, last = own_slots(compiled, side)
    return first + index if first + index < last else np.int64(-1)


@inline_kernel
def smac_legal(state, static, compiled, b, player, i, action):
    """SMAC's available actions for slot `i`."""
    if action < 0 or action >= compiled.i[P_SMAC_ACTIONS]:
        return False
    if state.ui[b, i, I_ALIVE] == 0 or action == SMAC_NO_OP:
        return state.ui[b, i, I_ALIVE] == 0 and action == SMAC_NO_OP
    if action == SMAC_STOP:
        return True
    if action < SMAC_TARGETS:
        return can_step(state, static, compiled, b, i, compiled.smac_moves[action - SMAC_MOVE_NORTH])
    j = smac_target(state, static, compiled, b, player, i, action)
    heals = static.kind_f[state.ui[b, i, I_KIND], K_HEAL_RATE] > 0.0
    if not target_legal(state, static, compiled, b, player, i, HEAL_TARGET if heals else ATTACK_TARGET, j):
        return False
    dx = state.uf[b, i, F_X] - state.uf[b, j, F_X]
    dy = state.uf[b, i, F_Y] - state.uf[b, j, F_Y]
    reach = smac_range(compiled, state.ui[b, i, I_KIND], state.ui[b, j, I_KIND])
    return dx * dx + dy * dy <= reach * reach


@inline_kernel
def smac_unit_order(state, static, compiled, b, player, i, action):
    """(order, target slot or -1) of the unit view for a legal action of SMAC's."""
    if action < SMAC_STOP:
        return np.int64(NO_OP), np.int64(-1)
    if action == SMAC_STOP:
        return np.int64(STOP), np.int64(-1)
    if action < SMAC_TARGETS:
        return np.int64(MOVE_NORTH) + compiled.smac_moves[action - SMAC_MOVE_NORTH], np.int64(-1)
    heals = static.kind_f[state.ui[b, i, I_KIND], K_HEAL_RATE] > 0.0
    return np.int64(HEAL if heals else ATTACK), smac_target(state, static, compiled, b, player, i, action)


@inline_kernel
def write_smac_mask(state, static, compiled, b, player, action_mask):
    """action_mask [U, n_actions] of one player; an empty slot may only do nothing."""
    first, last = own_slots(compiled, player)
    action_mask[:, :] = False
    for u in range(action_mask.shape[0]):
        if u >= last - first or state.ui[b, first + u, I_ALIVE] == 0:
            action_mask[u, SMAC_NO_OP] = True
            continue
        for action in range(SMAC_STOP, compiled.i[P_SMAC_ACTIONS]):
            action_mask[u, action] = smac_legal(state, static, compiled, b, player, first + u, action)


# --- the structured view ------------------------------------------------------------------------------------


@inline_kernel
def function_target_class(function):
    if function == FN_MOVE_UNIT:
        return MOVE_TARGET
    if function == FN_ATTACK_UNIT:
        return ATTACK_TARGET
    return HEAL_TARGET if function == FN_HEAL_UNIT else -1


@inline_kernel
def function_quick_order(function):
    """The unit order that a function without a place or target stands for, -1 = none."""
    if function == FN_STOP:
        return STOP
    if function == FN_HOLD:
        return HOLD_POSITION
    if function == FN_STIM:
        return STIM
    if FN_SIEGE <= function <= FN_UNBURROW:
        return SIEGE + function - FN_SIEGE
    return -1


@inline_kernel
def function_order(function):
    """The engine's order of a function with a place or target."""
    if function in (FN_MOVE_POINT, FN_MOVE_UNIT):
        return ORDER_MOVE
    if function == FN_ATTACK_POINT:
        return ORDER_ATTACK_MOVE
    if function == FN_ATTACK_UNIT:
        return ORDER_ATTACK
    if function == FN_PATROL_POINT:
        return ORDER_PATROL
    return ORDER_HEAL if function == FN_HEAL_UNIT else ORDER_BLINK


@inline_kernel
def selectable(state, static, compiled, b, player, i, function):
    """Whether living unit `i` may be among the units that carry out the function."""
    kind = state.ui[b, i, I_KIND]
    order = function_quick_order(function)
    if order >= 0:
        return quick_legal(state, static, compiled, b, i, order)
    target_class = function_target_class(function)
    if target_class >= 0:
        return any_target(state, static, compiled, b, player, i, target_class)
    if function == FN_BLINK_POINT:
        return static.kind_f[kind, K_BLINK_RANGE] > 0.0 and state.uf[b, i, F_BLINK_COOLDOWN] <= 0.0
    if function == FN_ATTACK_POINT:
        return static.kind_i[kind, KI_WEAPONS] > 0 or static.kind_f[kind, K_HEAL_RATE] > 0.0
    return function != FN_NO_OP and can_move(state, static, b, i)


@inline_kernel
def write_function_masks(state, static, compiled, b, player, function_mask, selected_mask, target_mask):
    """function_mask [Fn], selected_mask [Fn, U], target_unit_mask [Fn, N] of one player.

    `target_unit_mask[fn]` holds the targets that some selectable unit may take; each selected unit that cannot take the
    chosen one goes without the order.
    """
    first, last = own_slots(compiled, player)
    function_mask[:] = False
    selected_mask[:, :] = False
    target_mask[:, :] = False
    function_mask[FN_NO_OP] = True
    for u in range(last - first):
        i = first + u
        if state.ui[b, i, I_ALIVE] == 0:
            continue
        for function in range(1, NUM_FUNCTIONS):
            if selectable(state, static, compiled, b, player, i, function):
                selected_mask[function, u] = True
                function_mask[function] = True
                target_class = function_target_class(function)
                if target_class >= 0:
                    for row in range(compiled.i[P_ROWS]):
                        j = np.int64(compiled.slot_of_row[player, row])
                        if not target_mask[function, row]:
                            target_mask[function, row] = target_legal(
                                state, static, compiled, b, player, i, target_class, j
                            )


@inline_kernel
def function_action_legal(state, static, compiled, b, player, function, selected):
    """`function` [4] (function, queued, target row, target cell) with the selection [U] is inside the masks."""
    fn = function[0]
    if fn < 0 or fn >= NUM_FUNCTIONS or function[1] < 0 or function[1] > 1:
        return False
    if fn == FN_NO_OP:
        return True
    if function[3] < 0 or function[3] >= POINT_GRID * POINT_GRID:
        return False
    first, last = own_slots(compiled, player)
    target_class = function_target_class(fn)
    j = np.int64(-1)
    if target_class >= 0:
        if function[2] < 0 or function[2] >= compiled.i[P_ROWS]:
            return False
        j = np.int64(compiled.slot_of_row[player, function[2]])
    chosen, takes = False, False
    for u in range(selected.shape[0]):
        if not selected[u]:
            continue
        if u >= last - first or state.ui[b, first + u, I_ALIVE] == 0:
            return False
        if not selectable(state, static, compiled, b, player, first + u, fn):
            return False
        chosen = True
    for u in range(last - first):
        if target_class < 0 or takes:
            break
        i = first + u
        takes = state.ui[b, i, I_ALIVE] != 0 and target_legal(state, static, compiled, b, player, i, target_class, j)
    return chosen and (takes or target_class < 0)


@inline_kernel
def give_function(state, static, compiled, b, player, function, selected):
    """Carries out a legal structured action."""
    fn, queued = function[0], function[1] != 0
    if fn == FN_NO_OP:
        return
    first, _ = own_slots(compiled, player)
    x = np.float32((function[3] % POINT_GRID + 0.5) * compiled.i[P_MAP_WIDTH] / POINT_GRID)
    y = np.float32((function[3] // POINT_GRID + 0.5) * compiled.i[P_MAP_HEIGHT] / POINT_GRID)
    target_class = function_target_class(fn)
    for u in range(selected.shape[0]):
        if not selected[u]:
            continue
        i = first + u
        order = function_quick_order(fn)
        if order >= 0:
            give_unit_order(state, static, compiled, b, i, order, np.int64(-1))
            continue
        j, px, py = np.int64(-1), x, y
        if target_class >= 0:
            j = np.int64(compiled.slot_of_row[player, function[2]])
            if not target_legal(state, static, compiled, b, player, i, target_class, j):
                continue
            px, py = state.uf[b, j, F_X], state.uf[b, j, F_Y]
        issue_order(state, static, b, i, function_order(fn), j, px, py, queued)


# --- all views ----------------------------------------------------------------------------------------------


@inline_kernel
def first_illegal_unit(state, static, compiled, action, view, b):
    """(player, unit slot, order) of the first illegal unit order of world `b`; player -1 if there is none."""
    for player in range(compiled.i[P_AGENTS]):
        first, last = own_slots(compiled, player)
        for u in range(compiled.i[P_OWN]):
            order = action.order[b, player, u]
            if u >= last - first:
                legal = order == NO_OP
            elif view == VIEW_UNIT:
                legal = unit_action_legal(
                    state, static, compiled, b, player, first + u, order, action.target[b, player, u]
                )
            else:
                legal = smac_legal(state, static, compiled, b, player, first + u, order)
            if not legal:
                return player, u, order
    return np.int64(-1), np.int64(-1), np.int64(-1)


@inline_kernel
def first_illegal_function(state, static, compiled, action, b):
    """(player, function) of the first illegal structured action of world `b`; player -1 if there is none."""
    for player in range(compiled.i[P_AGENTS]):
        function = action.function[b, player]
        if not function_action_legal(state, static, compiled, b, player, function, action.selected[b, player]):
            return player, function[0]
    return np.int64(-1), np.int64(-1)


# An illegal action does nothing and is counted in `episode.i[b, E_ILLEGAL]`. No order changes whether another unit's is
# legal, so all are judged by the state that the masks described.


@inline_kernel
def give_unit_orders(state, static, compiled, episode, action, b):
    """Carries out the unit view's actions of world `b`."""
    illegal = 0
    for player in range(compiled.i[P_AGENTS]):
        first, last = own_slots(compiled, player)
        for u in range(compiled.i[P_OWN]):
            order = action.order[b, player, u]
            if order == NO_OP:
                continue
            row = action.target[b, player, u]
            i = first + u
            if i < last and unit_action_legal(state, static, compiled, b, player, i, order, row):
                j = np.int64(-1)
                if compiled.order_target[order] >= 0:
                    j = np.int64(compiled.slot_of_row[player, row])
                give_unit_order(state, static, compiled, b, i, order, j)
            else:
                illegal += 1
    episode.i[b, E_ILLEGAL] = illegal


@inline_kernel
def give_smac_orders(state, static, compiled, episode, action, b):
    """Carries out SMAC's actions of world `b` and remembers them for the global state."""
    illegal = 0
    for player in range(compiled.i[P_AGENTS]):
        first, last = own_slots(compiled, player)
        for u in range(compiled.i[P_OWN]):
            chosen = action.order[b, player, u]
            i = first + u
            if i < last and smac_legal(state, static, compiled, b, player, i, chosen):
                episode.last_action[b, player, u] = chosen
                order, j = smac_unit_order(state, static, compiled, b, player, i, chosen)
                give_unit_order(state, static, compiled, b, i, order, j)
            else:
                illegal += chosen != SMAC_NO_OP or i < last
                episode.last_action[b, player, u] = SMAC_NO_OP
    episode.i[b, E_ILLEGAL] = illegal


@inline_kernel
def give_function_orders(state, static, compiled, episode, action, b):
    """Carries out the structured actions of world `b`."""
    illegal = 0
    for player in range(compiled.i[P_AGENTS]):
        function, selected = action.function[b, player], action.selected[b, player]
        if function_action_legal(state, static, compiled, b, player, function, selected):
            give_function(state, static, compiled, b, player, function, selected)
        else:
            illegal += 1
    episode.i[b, E_ILLEGAL] = illegal
