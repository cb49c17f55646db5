"""Scripted policies for either side, in rising strength.

* ``idle`` gives no orders (units still defend themselves where the scenario lets them acquire targets);
* ``attack-wave`` is SMAC's opponent: one attack-move to the other side's start;
* ``attack-move`` goes for the nearest enemy in sight, and looks for enemies where none is;
* ``focus-fire`` lets each unit shoot the weakest enemy in reach that earlier shots of this step do not already finish;
* ``kite`` adds stepping back, while the weapon reloads, from enemies of much shorter range.

A policy sees what its player sees. It first forms one *intent* per unit. An opponent's intents become engine orders.
The intents of the agent's side become actions of the environment's view, inside its masks
(`SC2VectorEnv.scripted_action`). The function view takes one order a step, for all units with the same intent: policies
are weaker there.
"""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.actions import (
    ATTACK,
    ATTACK_TARGET,
    HEAL,
    HEAL_TARGET,
    MOVE_NORTH,
    MOVE_TARGET,
    MOVE_TO,
    NO_OP,
    POINT_GRID,
    SMAC_MOVE_NORTH,
    SMAC_STOP,
    SMAC_TARGETS,
    STOP,
)
from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import (
    F_COOLDOWN,
    F_HEALTH,
    F_HEALTH_MAX,
    F_RADIUS,
    F_SHIELD,
    F_X,
    F_Y,
    I_ALIVE,
    I_KIND,
    I_ORDER,
    I_ORDER_TARGET,
    I_TARGET,
    K_HEAL_RATE,
    K_SPEED,
    KI_WEAPONS,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_STOP,
    WI_ATTACKS,
)
from envs.engine.state.orders import issue_order
from envs.scenarios.choices import OPPONENTS
from envs.scenarios.compiled import (
    E_STEP,
    P_MAP_HEIGHT,
    P_MAP_WIDTH,
    P_NEUTRAL_END,
    P_OWN,
    P_STEP_MUL,
    P_TEAM_1_END,
    SECOND,
    VIEW_SMAC,
    VIEW_UNIT,
)
from envs.views.commands import (
    FN_ATTACK_POINT,
    FN_ATTACK_UNIT,
    FN_HEAL_UNIT,
    FN_MOVE_POINT,
    FN_NO_OP,
    can_step,
    is_foe,
    own_slots,
    sees,
    selectable,
    smac_legal,
    target_legal,
)

IDLE, ATTACK_WAVE, ATTACK_MOVE, FOCUS_FIRE, KITE = range(len(OPPONENTS))

# What a unit means to do: the first number of its `Episode.intent`.
KEEP, GO, FIGHT_TO, SHOOT, MEND = range(5)

# A step back is worth it while the weapon has at least this many loops to reload.
RELOAD = np.float32(3.0)
# ... and from enemies whose range is shorter by at least this.
RANGE_LEAD = np.float32(2.0)
# Where to run: directions are judged by the place this far ahead, by its distance to the map's edge and to an ally.
LOOK_AHEAD = np.float32(4.0)
EDGE_MARGIN, EDGE_WEIGHT = np.float32(5.0), np.float32(0.3)
COVER_DISTANCE, COVER_WEIGHT = np.float32(3.0), np.float32(0.2)
SEARCH_SPACING = 10.0
SEARCH_STEPS = 10


def opponent_id(name: str | int) -> int:
    """The number of a scripted policy; accepts the number too.

    Raises:
        ValueError: unknown policy.
    """
    if isinstance(name, str):
        if name in OPPONENTS:
            return OPPONENTS.index(name)
    elif 0 <= int(name) < len(OPPONENTS):
        return int(name)
    raise ValueError(f"unknown opponent {name!r}; expected one of {', '.join(OPPONENTS)} (or its index)")


@inline_kernel
def _search_point(static, step, i):
    """Where to look for enemies: the points of a grid over the map, each unit on its own tour of them."""
    x0, y0, x1, y1 = static.bounds[0], static.bounds[1], static.bounds[2], static.bounds[3]
    nx = max(1, np.int64(np.round((x1 - x0) / SEARCH_SPACING)))
    ny = max(1, np.int64(np.round((y1 - y0) / SEARCH_SPACING)))
    n = (step // SEARCH_STEPS + i * (nx * ny // 3 + 1)) % (nx * ny)
    row = n // nx
    column = n % nx if row % 2 == 0 else nx - 1 - n % nx
    return np.float32(x0 + (column + 0.5) * (x1 - x0) / nx), np.float32(y0 + (row + 0.5) * (y1 - y0) / ny)


@inline_kernel
def _gap(state, b, i, j):
    """Distance between the edges of two units."""
    dx, dy = state.uf[b, i, F_X] - state.uf[b, j, F_X], state.uf[b, i, F_Y] - state.uf[b, j, F_Y]
    return np.sqrt(dx * dx + dy * dy) - state.uf[b, i, F_RADIUS] - state.uf[b, j, F_RADIUS]


@inline_kernel
def _damage(state, static, b, i, j):
    """Damage of one attack of `i` on `j` with its best weapon, before armor."""
    kind, other = state.ui[b, i, I_KIND], state.ui[b, j, I_KIND]
    best = np.float32(0.0)
    for w in range(static.kind_i[kind, KI_WEAPONS]):
        best = max(best, static.damage[kind, w, other] * static.weapon_i[kind, w, WI_ATTACKS])
    return best


@inline_kernel
def _nearest(state, static, compiled, b, player, i, first, last, target_class):
    """The nearest slot of [first, last) that unit `i` may take as a target of the class, -1 = none."""
    best, least = np.int64(-1), np.float32(np.inf)
    for j in range(first, last):
        if target_legal(state, static, compiled, b, player, i, target_class, j):
            gap = _gap(state, b, i, j)
            if gap < least:
                best, least = np.int64(j), gap
    return best


@inline_kernel
def _list_foes(state, compiled, b, player, foes, foe_at):
    """Fills `Episode.foes` and `foe_at` with the enemies that `player` sees and that can be hurt: how many these are.

    Every unit looks through them: here they stand side by side.
    """
    count = 0
    first, last = own_slots(compiled, 1 - player)
    for j in range(first, last):
        if sees(state, b, player, j) and is_foe(state, b, player, j):
            foes[count] = j
            foe_at[0, count], foe_at[1, count] = state.uf[b, j, F_X], state.uf[b, j, F_Y]
            foe_at[2, count] = state.uf[b, j, F_RADIUS]
            count += 1
    return count


@inline_kernel
def _foe_gap(state, b, i, foe_at, n):
    """As `_gap`, to the n-th of the listed enemies."""
    dx, dy = state.uf[b, i, F_X] - foe_at[0, n], state.uf[b, i, F_Y] - foe_at[1, n]
    return np.sqrt(dx * dx + dy * dy) - state.uf[b, i, F_RADIUS] - foe_at[2, n]


@inline_kernel
def _nearest_foe(state, compiled, b, i, foes, foe_at, count):
    """The nearest of the listed enemies that unit `i` has a weapon against, -1 = none."""
    best, least = np.int64(-1), np.float32(np.inf)
    kind = state.ui[b, i, I_KIND]
    for n in range(count):
        gap = _foe_gap(state, b, i, foe_at, n)
        if gap < least and compiled.can_hit[kind, state.ui[b, foes[n], I_KIND]]:
            best, least = foes[n], gap
    return best


@inline_kernel
def _weakest_in_reach(state, static, compiled, b, i, foes, foe_at, count, spent):
    """The listed enemy within weapon range with the least health; -1 = none.

    Enemies that the shots of this step (`spent`) will finish do not count."""
    best, least = np.int64(-1), np.float32(np.inf)
    kind = state.ui[b, i, I_KIND]
    slack = np.float32(0.5) if static.kind_f[kind, K_SPEED] > 0.0 else np.float32(0.0)
    for n in range(count):
        j = foes[n]
        other = state.ui[b, j, I_KIND]
        if _foe_gap(state, b, i, foe_at, n) > compiled.reach[kind, other] + slack or not compiled.can_hit[kind, other]:
            continue
        left = state.uf[b, j, F_HEALTH] + state.uf[b, j, F_SHIELD] - spent[j]
        if 0.0 < left < least:
            best, least = j, left
    return best


@inline_kernel
def _worth_kiting(compiled, kind, other):
    """A unit of `kind` can be hit by one of kind `other`, and outranges it by enough to gain by keeping away."""
    return compiled.can_hit[other, kind] and compiled.reach[other, kind] + RANGE_LEAD <= compiled.reach[kind, other]


@inline_kernel
def _retreat(state, static, compiled, b, player, i):
    """The compass direction in which unit `i` runs from enemies of shorter range; -1: no need or no way.

    It runs from close enemies, unless a nearer ally of the front holds them. It keeps off the map's edges, and near the
    allies whose fire covers it."""
    first, last = own_slots(compiled, player)
    enemy_first, enemy_last = own_slots(compiled, 1 - player)
    kind = state.ui[b, i, I_KIND]
    x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
    away_x, away_y = np.float32(0.0), np.float32(0.0)
    threatened = False
    for j in range(enemy_first, enemy_last):
        if not sees(state, b, player, j):
            continue
        other = state.ui[b, j, I_KIND]
        if not _worth_kiting(compiled, kind, other):
            continue
        gap = max(_gap(state, b, i, j), np.float32(0.1))
        if gap > compiled.reach[other, kind] + 3.5:
            continue
        held = False
        for k in range(first, last):
            if k != i and state.ui[b, k, I_ALIVE] != 0 and not _worth_kiting(compiled, state.ui[b, k, I_KIND], other):
                held = held or _gap(state, b, k, j) < gap
        if held:
            continue
        threatened = True
        dx, dy = x - state.uf[b, j, F_X], y - state.uf[b, j, F_Y]
        weight = np.float32(1.0) / (gap * max(np.sqrt(dx * dx + dy * dy), np.float32(0.1)))
        away_x += dx * weight
        away_y += dy * weight
    if not threatened:
        return np.int64(-1)
    norm = max(np.sqrt(away_x * away_x + away_y * away_y), np.float32(1e-6))
    away_x, away_y = away_x / norm, away_y / norm
    bounds = static.bounds
    best, most = np.int64(-1), np.float32(-np.inf)
    for direction in range(8):
        ux, uy = compiled.directions[direction, 0], compiled.directions[direction, 1]
        px, py = x + LOOK_AHEAD * ux, y + LOOK_AHEAD * uy
        margin = min(min(px - bounds[0], py - bounds[1]), min(bounds[2] - px, bounds[3] - py))
        score = away_x * ux + away_y * uy - EDGE_WEIGHT * max(EDGE_MARGIN - margin, np.float32(0.0))
        nearest = np.float32(np.inf)
        for k in range(first, last):
            if k != i and state.ui[b, k, I_ALIVE] != 0:
                dx, dy = px - state.uf[b, k, F_X], py - state.uf[b, k, F_Y]
                nearest = min(nearest, np.sqrt(dx * dx + dy * dy))
        if nearest < np.inf:
            score -= COVER_WEIGHT * max(nearest - COVER_DISTANCE, np.float32(0.0))
        if score > most and can_step(state, static, compiled, b, i, direction):
            best, most = np.int64(direction), score
    return best


@inline_kernel
def _is_prey(state, static, compiled, b, player, i):
    """An enemy of shorter range that unit `i` cannot outrun is close, and `i` is the nearest to it: others shoot, `i`
    runs."""
    first, last = own_slots(compiled, player)
    enemy_first, enemy_last = own_slots(compiled, 1 - player)
    kind = state.ui[b, i, I_KIND]
    for j in range(enemy_first, enemy_last):
        if not sees(state, b, player, j):
            continue
        other = state.ui[b, j, I_KIND]
        if not _worth_kiting(compiled, kind, other):
            continue
        gap = _gap(state, b, i, j)
        if (
            gap > compiled.reach[other, kind] + 2.0
            or static.kind_f[kind, K_SPEED] > 1.05 * static.kind_f[other, K_SPEED]
        ):
            continue
        nearest, company = True, False
        for k in range(first, last):
            if k != i and state.ui[b, k, I_ALIVE] != 0:
                company = True
                nearest = nearest and _gap(state, b, k, j) >= gap
        if nearest and company:
            return True
    return False


@inline_kernel
def _mend(state, static, compiled, b, player, i):
    """The ally in most need of unit `i`'s healing, -1 = none."""
    first, last = own_slots(compiled, player)
    best, least = np.int64(-1), np.float32(0.999)
    for j in range(first, last):
        if target_legal(state, static, compiled, b, player, i, HEAL_TARGET, j):
            rest = state.uf[b, j, F_HEALTH] / state.uf[b, j, F_HEALTH_MAX] + np.float32(0.02) * _gap(state, b, i, j)
            if rest < least:
                best, least = np.int64(j), rest
    return best


@inline_kernel
def _follow(state, compiled, b, player, i):
    """The nearest ally of another kind, for a healer with nobody to heal; -1 = none."""
    first, last = own_slots(compiled, player)
    best, least = np.int64(-1), np.float32(np.inf)
    for j in range(first, last):
        if state.ui[b, j, I_ALIVE] != 0 and state.ui[b, j, I_KIND] != state.ui[b, i, I_KIND]:
            gap = _gap(state, b, i, j)
            if gap < least:
                best, least = np.int64(j), gap
    return best


@inline_kernel
def form_intents(state, static, compiled, episode, b, player, policy):
    """Decides what the units of `player` (0 or 1) in world `b` mean to do: `Episode.intent` and `intent_at`."""
    intent, intent_at, spent = episode.intent[b], episode.intent_at[b], episode.spent[b]
    first, last = own_slots(compiled, player)
    neutral_first, neutral_last = compiled.i[P_TEAM_1_END], compiled.i[P_NEUTRAL_END]
    foes, foe_at = episode.foes[b], episode.foe_at[b]
    count = _list_foes(state, compiled, b, player, foes, foe_at) if policy >= ATTACK_MOVE else 0
    spent[:] = 0.0
    step = episode.i[b, E_STEP]
    taken = np.int64(-1)
    for i in range(first, last):
        intent[i, 0] = KEEP
        intent[i, 1] = -1
        if policy == IDLE or state.ui[b, i, I_ALIVE] == 0:
            continue
        kind = state.ui[b, i, I_KIND]
        x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
        goal_x, goal_y = np.float32(compiled.target[player, 0]), np.float32(compiled.target[player, 1])
        if policy == ATTACK_WAVE:
            away = (goal_x - x) * (goal_x - x) + (goal_y - y) * (goal_y - y)
            if state.ui[b, i, I_ORDER] == ORDER_STOP and state.ui[b, i, I_TARGET] < 0 and away > 4.0:
                intent[i, 0] = FIGHT_TO
                intent_at[i, 0], intent_at[i, 1] = goal_x, goal_y
            continue
        if neutral_last > neutral_first:
            # Beacons and shards: the nearest that no other unit goes for.
            j = (
                _nearest(state, static, compiled, b, player, i, neutral_first, taken, MOVE_TARGET)
                if taken >= 0
                else taken
            )
            k = _nearest(
                state, static, compiled, b, player, i, max(taken + 1, neutral_first), neutral_last, MOVE_TARGET
            )
            if j < 0 or (k >= 0 and _gap(state, b, i, k) < _gap(state, b, i, j)):
                j = k
            if j >= 0:
                taken = j
                intent[i, 0] = GO
                intent[i, 1] = j
                intent_at[i, 0], intent_at[i, 1] = state.uf[b, j, F_X], state.uf[b, j, F_Y]
            continue
        if static.kind_f[kind, K_HEAL_RATE] > 0.0:
            j = _mend(state, static, compiled, b, player, i)
            if j >= 0:
                intent[i, 0] = MEND
                intent[i, 1] = j
                intent_at[i, 0], intent_at[i, 1] = state.uf[b, j, F_X], state.uf[b, j, F_Y]
            else:
                j = _follow(state, compiled, b, player, i)
                if j >= 0:
                    intent[i, 0] = GO
                    intent_at[i, 0], intent_at[i, 1] = state.uf[b, j, F_X], state.uf[b, j, F_Y]
            continue
        nearest = _nearest_foe(state, compiled, b, i, foes, foe_at, count)
        if nearest < 0:
            away = (goal_x - x) * (goal_x - x) + (goal_y - y) * (goal_y - y)
            if step >= SEARCH_STEPS and (away < 16.0 or step >= 3 * SEARCH_STEPS):
                goal_x, goal_y = _search_point(static, step, i - first)
            intent[i, 0] = FIGHT_TO
            intent_at[i, 0], intent_at[i, 1] = goal_x, goal_y
            continue
        j = nearest
        if policy >= FOCUS_FIRE:
            weak = _weakest_in_reach(state, static, compiled, b, i, foes, foe_at, count, spent)
            if weak >= 0:
                j = weak
                # One that reloads for the whole step does no damage in it.
                if state.uf[b, i, F_COOLDOWN] < compiled.i[P_STEP_MUL]:
                    spent[j] += _damage(state, static, b, i, j)
            reloading = state.uf[b, i, F_COOLDOWN] > RELOAD
            if policy == KITE and (reloading or _is_prey(state, static, compiled, b, player, i)):
                direction = _retreat(state, static, compiled, b, player, i)
                if direction >= 0:
                    intent[i, 0] = GO
                    intent_at[i, 0] = x + np.float32(2.0) * compiled.directions[direction, 0]
                    intent_at[i, 1] = y + np.float32(2.0) * compiled.directions[direction, 1]
                    continue
        intent[i, 0] = SHOOT
        intent[i, 1] = j
        intent_at[i, 0], intent_at[i, 1] = state.uf[b, j, F_X], state.uf[b, j, F_Y]


@inline_kernel
def command_opponent(state, static, compiled, episode, b, policy):
    """Turns the intents of the second side into engine orders."""
    intent, intent_at = episode.intent[b], episode.intent_at[b]
    first, last = own_slots(compiled, SECOND)
    for i in range(first, last):
        kind, j = intent[i, 0], np.int64(-1)
        if kind == KEEP:
            continue
        order = np.int64(ORDER_MOVE)
        if kind == FIGHT_TO or (kind == SHOOT and policy == ATTACK_MOVE):
            # An attack-move acquires by the engine's own rules on the way; one under way with a target is left alone.
            order = np.int64(ORDER_ATTACK_MOVE)
            if state.ui[b, i, I_TARGET] >= 0 and state.ui[b, i, I_ORDER] == ORDER_ATTACK_MOVE:
                continue
        elif kind in (SHOOT, MEND):
            order = np.int64(ORDER_ATTACK if kind == SHOOT else ORDER_HEAL)
            j = intent[i, 1]
        issue_order(state, static, b, i, order, j, intent_at[i, 0], intent_at[i, 1], False)


@inline_kernel
def _legal_direction(state, static, compiled, b, i, x, y, step):
    """The legal compass direction (every `step`-th of the eight) closest to that of (x, y); -1 = none."""
    dx, dy = x - state.uf[b, i, F_X], y - state.uf[b, i, F_Y]
    best, most = np.int64(-1), np.float32(-np.inf)
    for direction in range(0, 8, step):
        along = dx * compiled.directions[direction, 0] + dy * compiled.directions[direction, 1]
        if along > most and can_step(state, static, compiled, b, i, direction):
            best, most = np.int64(direction), along
    return best


@inline_kernel
def _unit_action(state, static, compiled, b, player, i, intent, j, x, y):
    """(order, target row) of the unit view for an intent."""
    row = np.int64(compiled.row_of_slot[player, j]) if j >= 0 else np.int64(0)
    if intent == KEEP:
        return np.int64(NO_OP), np.int64(0)
    if intent == SHOOT and target_legal(state, static, compiled, b, player, i, ATTACK_TARGET, j):
        return np.int64(ATTACK), row
    if intent == MEND and target_legal(state, static, compiled, b, player, i, HEAL_TARGET, j):
        return np.int64(HEAL), row
    if intent == GO and j >= 0 and target_legal(state, static, compiled, b, player, i, MOVE_TARGET, j):
        return np.int64(MOVE_TO), row
    direction = _legal_direction(state, static, compiled, b, i, x, y, 1)
    return (np.int64(MOVE_NORTH) + direction if direction >= 0 else np.int64(STOP)), np.int64(0)


@inline_kernel
def _smac_action(state, static, compiled, b, player, i, intent, j, x, y):
    """The action of SMAC's view for an intent: the target if it may be taken, else a move towards it."""
    if state.ui[b, i, I_ALIVE] == 0:
        return np.int64(0)
    if intent in (SHOOT, MEND):
        side = player if intent == MEND else 1 - player
        action = SMAC_TARGETS + j - own_slots(compiled, side)[0]
        if smac_legal(state, static, compiled, b, player, i, action):
            return np.int64(action)
        x, y = state.uf[b, j, F_X], state.uf[b, j, F_Y]
    if intent != KEEP:
        direction = _legal_direction(state, static, compiled, b, i, x, y, 2)
        for n in range(4):
            if compiled.smac_moves[n] == direction:
                return np.int64(SMAC_MOVE_NORTH + n)
    return np.int64(SMAC_STOP)


@inline_kernel
def _function_of(state, static, compiled, episode, b, player, i):
    """The function that unit `i` would have by itself, FN_NO_OP where it means nothing new or cannot do it."""
    meant, j = episode.intent[b, i, 0], episode.intent[b, i, 1]
    fn, order = np.int64(FN_NO_OP), np.int64(-1)
    if meant == SHOOT and target_legal(state, static, compiled, b, player, i, ATTACK_TARGET, j):
        # Units that obey only (SMAC's) look for no target on an attack-move, so they get theirs.
        fn, order = np.int64(FN_ATTACK_UNIT), np.int64(ORDER_ATTACK)
    elif meant == MEND and target_legal(state, static, compiled, b, player, i, HEAL_TARGET, j):
        fn, order = np.int64(FN_HEAL_UNIT), np.int64(ORDER_HEAL)
    elif meant in (SHOOT, FIGHT_TO):
        fn = np.int64(FN_ATTACK_POINT)
    elif meant == GO:
        fn = np.int64(FN_MOVE_POINT)
    already = state.ui[b, i, I_ORDER] == order and state.ui[b, i, I_ORDER_TARGET] == j
    if already or not selectable(state, static, compiled, b, player, i, fn):
        return np.int64(FN_NO_OP)
    return fn


@inline_kernel
def _function_action(state, static, compiled, episode, b, player, function, selected):
    """One structured action for all: what the first unit means that does not do so yet, by all that mean the same.

    Healers wait while somebody else has something new to do: their patients change at every look.
    """
    first, last = own_slots(compiled, player)
    function[:] = FN_NO_OP  # 0, as of arguments that are not taken
    selected[:] = False
    target = np.int64(-1)
    for i in range(first, last):
        fn, j = _function_of(state, static, compiled, episode, b, player, i), episode.intent[b, i, 1]
        if fn == FN_NO_OP:
            continue
        if function[0] == FN_NO_OP or (function[0] == FN_HEAL_UNIT and fn != FN_HEAL_UNIT):
            function[:] = FN_NO_OP
            function[0], target = fn, np.int64(-1)
            selected[:] = False
            if fn in (FN_ATTACK_UNIT, FN_HEAL_UNIT):
                target, function[2] = j, compiled.row_of_slot[player, j]
            else:
                column = np.int64(episode.intent_at[b, i, 0] * POINT_GRID / compiled.i[P_MAP_WIDTH])
                row = np.int64(episode.intent_at[b, i, 1] * POINT_GRID / compiled.i[P_MAP_HEIGHT])
                last_cell = POINT_GRID - 1
                function[3] = max(0, min(row, last_cell)) * POINT_GRID + max(0, min(column, last_cell))
        if fn == function[0] and (target < 0 or j == target):
            selected[i - first] = True


@inline_kernel
def write_player_actions(state, static, compiled, episode, action, view, b, player):
    """Writes the intents of `player` into `action` as actions of the view, inside its masks."""
    if view != VIEW_UNIT and view != VIEW_SMAC:
        function, selected = action.function[b, player], action.selected[b, player]
        _function_action(state, static, compiled, episode, b, player, function, selected)
        return
    first, last = own_slots(compiled, player)
    for u in range(compiled.i[P_OWN]):
        i = first + u
        order, row = np.int64(0), np.int64(0)
        if i < last and state.ui[b, i, I_ALIVE] != 0:
            meant, j = episode.intent[b, i, 0], episode.intent[b, i, 1]
            x, y = episode.intent_at[b, i, 0], episode.intent_at[b, i, 1]
            if view == VIEW_UNIT:
                order, row = _unit_action(state, static, compiled, b, player, i, meant, j, x, y)
            else:
                order = _smac_action(state, static, compiled, b, player, i, meant, j, x, y)
        action.order[b, player, u] = order
        if view == VIEW_UNIT:
            action.target[b, player, u] = row
