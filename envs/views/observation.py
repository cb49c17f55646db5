"""What a player observes: entities, their mask, and scalars.

Columns are named after PySC2's FeatureUnit where it has them, but exact: world units, y up, radians, not cut to
integers. As in the game's raw interface, an enemy's orders and cooldown are hidden. What the player does not see is
zero.
"""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import (
    F_COOLDOWN,
    F_ENERGY,
    F_ENERGY_MAX,
    F_FACING_X,
    F_FACING_Y,
    F_HEALTH,
    F_HEALTH_MAX,
    F_RADIUS,
    F_SHIELD,
    F_SHIELD_MAX,
    F_STIM,
    F_X,
    F_Y,
    FLAG_BURROWED,
    FLAG_CLOAKED,
    FLAG_FLYING,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_OWNER,
    I_QUEUED,
    KI_UNIT_TYPE,
    NEUTRAL,
    NUM_ORDERS,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_BLINK,
    ORDER_HEAL,
    ORDER_HOLD,
    ORDER_MOVE,
    ORDER_PATROL,
    ORDER_STOP,
)
from envs.engine.state.units import facing_angle
from envs.scenarios.compiled import E_STEP, EF_SCORE, P_NEUTRAL_END, P_OWN, P_ROWS, P_STEP_LIMIT, P_TEAM_1_END
from envs.views.commands import sees

ENTITY_FEATURES = (
    "unit_type",  # the game's own type id
    "alliance",  # 1 self, 2 ally, 3 neutral, 4 enemy
    "health",
    "shield",
    "energy",
    "health_ratio",  # of the maximum, 0 to 1
    "shield_ratio",
    "energy_ratio",
    "x",  # world units
    "y",
    "facing",  # radians, 0 = east, counter-clockwise
    "radius",
    "weapon_cooldown",  # game loops; own units only
    "order_length",  # own units only
    "order_id_0",  # PySC2's raw function id of the order under way, 0 = none; own units only
    "buff_id_0",  # 27 = Stimpack
    "cloak",  # 1 cloaked, 3 not cloaked
    "is_flying",
    "is_burrowed",
    "mineral_contents",
    "vespene_contents",
    "build_progress",  # 0 to 1
)
NUM_FEATURES = len(ENTITY_FEATURES)
(
    C_UNIT_TYPE,
    C_ALLIANCE,
    C_HEALTH,
    C_SHIELD,
    C_ENERGY,
    C_HEALTH_RATIO,
    C_SHIELD_RATIO,
    C_ENERGY_RATIO,
    C_X,
    C_Y,
    C_FACING,
    C_RADIUS,
    C_COOLDOWN,
    C_ORDER_LENGTH,
    C_ORDER_ID,
    C_BUFF,
    C_CLOAK,
    C_FLYING,
    C_BURROWED,
    C_MINERALS,
    C_VESPENE,
    C_BUILD_PROGRESS,
) = range(22)

SCALARS = (
    "time_fraction",  # of the step limit, 0 to 1
    "score",
    "own_units",
    "visible_enemies",
    "minerals",
    "vespene",
    "food_used",
    "food_cap",
)
NUM_SCALARS = len(SCALARS)

ALLIANCE_SELF, ALLIANCE_NEUTRAL, ALLIANCE_ENEMY = 1, 3, 4
BUFF_STIMPACK = 27
# PySC2's raw function ids of the engine's orders.
_ORDER_IDS = {
    ORDER_STOP: 0,
    ORDER_HOLD: 17,
    ORDER_MOVE: 13,
    ORDER_ATTACK_MOVE: 2,
    ORDER_ATTACK: 3,
    ORDER_PATROL: 15,
    ORDER_HEAL: 311,
    ORDER_BLINK: 111,
}
ORDER_IDS = np.array([_ORDER_IDS.get(order, 0) for order in range(NUM_ORDERS)], np.float32)


@inline_kernel
def ratio(value, maximum):
    return value / maximum if maximum > 0.0 else np.float32(0.0)


@inline_kernel
def write_entities(state, static, compiled, episode, b, player, entities, mask, scalars):
    """entities [N, F], mask [N] and scalars [S] of one player."""
    f, ii = state.uf, state.ui
    rows = compiled.i[P_ROWS]
    enemies = compiled.i[P_OWN] + compiled.i[P_NEUTRAL_END] - compiled.i[P_TEAM_1_END]
    own, seen = 0, 0
    entities[:, :] = 0.0
    for row in range(rows):
        i = np.int64(compiled.slot_of_row[player, row])
        visible = sees(state, b, player, i)
        mask[row] = visible
        if not visible:
            continue
        owner = ii[b, i, I_OWNER]
        flags = ii[b, i, I_FLAGS]
        entities[row, C_UNIT_TYPE] = static.kind_i[ii[b, i, I_KIND], KI_UNIT_TYPE]
        entities[row, C_X] = f[b, i, F_X]
        entities[row, C_Y] = f[b, i, F_Y]
        entities[row, C_RADIUS] = f[b, i, F_RADIUS]
        entities[row, C_BUILD_PROGRESS] = 1.0
        entities[row, C_CLOAK] = 1.0 if flags & FLAG_CLOAKED else 3.0
        if owner == NEUTRAL:
            entities[row, C_ALLIANCE] = ALLIANCE_NEUTRAL
            continue
        entities[row, C_HEALTH] = f[b, i, F_HEALTH]
        entities[row, C_SHIELD] = f[b, i, F_SHIELD]
        entities[row, C_ENERGY] = f[b, i, F_ENERGY]
        entities[row, C_HEALTH_RATIO] = ratio(f[b, i, F_HEALTH], f[b, i, F_HEALTH_MAX])
        entities[row, C_SHIELD_RATIO] = ratio(f[b, i, F_SHIELD], f[b, i, F_SHIELD_MAX])
        entities[row, C_ENERGY_RATIO] = ratio(f[b, i, F_ENERGY], f[b, i, F_ENERGY_MAX])
        entities[row, C_FACING] = facing_angle(f[b, i, F_FACING_X], f[b, i, F_FACING_Y])
        entities[row, C_BUFF] = BUFF_STIMPACK if f[b, i, F_STIM] > 0.0 else 0.0
        entities[row, C_FLYING] = 1.0 if flags & FLAG_FLYING else 0.0
        entities[row, C_BURROWED] = 1.0 if flags & FLAG_BURROWED else 0.0
        if row < enemies:
            own += 1
            order = ii[b, i, I_ORDER]
            entities[row, C_ALLIANCE] = ALLIANCE_SELF
            entities[row, C_COOLDOWN] = f[b, i, F_COOLDOWN]
            entities[row, C_ORDER_LENGTH] = ii[b, i, I_QUEUED] + (order != ORDER_STOP)
            entities[row, C_ORDER_ID] = ORDER_IDS[order]
        else:
            seen += 1
            entities[row, C_ALLIANCE] = ALLIANCE_ENEMY
    scalars[:] = 0.0
    scalars[0] = episode.i[b, E_STEP] / compiled.i[P_STEP_LIMIT]
    scalars[1] = episode.f[b, EF_SCORE] if player == 0 else -episode.f[b, EF_SCORE]
    scalars[2] = own
    scalars[3] = seen
