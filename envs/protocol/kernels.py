"""What of a game is compiled: advancing it, and writing a player's observation as protobuf bytes."""

from __future__ import annotations

import numpy as np
from numba.experimental import structref

from envs.economy.economy import (
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_IDLE_PRODUCTION,
    B_IDLE_WORKERS,
    B_MINERALS,
    B_SPENT_MINERALS,
    B_SPENT_VESPENE,
    B_SUPPLY,
    B_SUPPLY_USED,
    B_VALUE_BUILDINGS,
    B_VALUE_UNITS,
    B_VESPENE,
    BEGUN,
    CARRIES_MINERALS,
    E_ASSIGNED,
    E_CARRIES,
    E_CONTENTS,
    E_QUEUE,
    E_QUEUED,
    E_RESOURCE,
    E_RESOURCE_TAG,
    E_TAG,
    E_UNFINISHED,
    EF_PROGRESS,
    EF_SITE_X,
    EF_SITE_Y,
    GAS,
    GEYSER,
    HALL,
    L_COUNT,
    MINERALS,
    NOTHING,
    R_SEARCH,
    R_SUPPLY,
    R_WORKERS,
    WORKER,
    X_ABILITY,
    X_BUFF_MINERALS,
    X_BUFF_VESPENE,
    X_MINERALS,
    X_ROLE,
    X_TIME,
    X_VESPENE,
    XF_SUPPLY,
    advance_with_economy,
    count_workers,
)
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_BUSY,
    F_COOLDOWN,
    F_ENERGY,
    F_ENERGY_MAX,
    F_FACING_X,
    F_FACING_Y,
    F_HEALTH,
    F_HEALTH_MAX,
    F_ORDER_X,
    F_ORDER_Y,
    F_RADIUS,
    F_SHIELD,
    F_SHIELD_MAX,
    F_STIM,
    F_X,
    F_Y,
    F_Z,
    FLAG_BURROWED,
    FLAG_CLOAKED,
    FLAG_FLYING,
    FLAG_STRUCTURE,
    I_ALIVE,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_OWNER,
    I_QUEUED,
    I_TAG,
    I_TARGET,
    I_VISIBLE,
    K_DETECTION,
    K_SIGHT,
    LOOPS_PER_SECOND,
    NEUTRAL,
    ORDER_BUILD,
    ORDER_SIEGE,
    ORDER_STOP,
    W_ALIVE,
)
from envs.engine.state.units import facing_angle
from envs.protocol.wire import (
    BYTES,
    FLOAT,
    VARINT,
    key_of,
    put_bytes,
    put_field,
    put_flag,
    put_float,
    put_key,
    put_varint,
    varint_length,
)
from envs.runtime.struct_fields import StructureType

# Columns of the marks of spells (`envs.protocol.spells`), what a unit's observation tells beside the engine's state.
M_BUFF_1, M_BUFF_2, M_ILLUSION_KNOWN, M_ABILITY, M_ABILITY_TARGET, NUM_MARKS = range(6)

TAG_SHIFT = 18
TAG_MASK = (1 << TAG_SHIFT) - 1
BYTES_PER_UNIT = 640  # the longest unit message: about 150 bytes, and 30 for each of nine orders
PREFIX_BYTES = 512  # room before the raw data in an observation: twice what is written there
LOOPS_PER_WALL_SECOND = 22.4  # at the speed that games are played at

# The protocol's enumerations.
VISIBLE, SNAPSHOT, HIDDEN = 1, 2, 3
SELF, NEUTRAL_ALLIANCE, ENEMY = 1, 3, 4
CLOAKED_UNKNOWN, CLOAKED, CLOAKED_DETECTED, NOT_CLOAKED, CLOAKED_ALLIED = 0, 1, 2, 3, 4
STIMPACK_MARINE, STIMPACK_MARAUDER, MARAUDER = 27, 24, 51

NOWHERE, NOT_BEGUN, HALF_WAY = np.float32(-1.0), np.float32(0.0), np.float32(0.5)

# What a player sees, the bits of `sees`.
SEES_ALL = 1  # units out of sight are listed too, as hidden
SEES_CLOAKED = 2  # cloaked units that are not detected are listed, as hidden and without details
SEES_GRID = 4  # the whole map is in sight
SEES_RAW = 8  # asks for the raw observation
SEES_SCORE = 16  # asks for the score

# What kinds of units are to their player, and what they count for in the score's details.
ROLE_NONE, ROLE_WORKER, ROLE_ARMY = 0, 1, 2
IN_ARMY, IN_ECONOMY, IN_TECHNOLOGY, NUM_CATEGORIES = range(4)

UNSEEN, EXPLORED, SEEN = 0, 1, 2  # cells of a player's grid

# Keys of protobuf fields, by message.
U_DISPLAY, U_ALLIANCE, U_TAG, U_TYPE, U_OWNER = (key_of(n, VARINT) for n in (1, 2, 3, 4, 5))
U_POS, U_ORDER = key_of(6, BYTES), key_of(22, BYTES)
U_FACING, U_RADIUS, U_BUILD_PROGRESS = (key_of(n, FLOAT) for n in (7, 8, 9))
U_CLOAK, U_SELECTED, U_ON_SCREEN, U_BLIP = (key_of(n, VARINT) for n in (10, 11, 12, 13))
U_HEALTH, U_HEALTH_MAX, U_SHIELD, U_ENERGY = (key_of(n, FLOAT) for n in (14, 15, 16, 17))
U_MINERALS, U_VESPENE, U_FLYING, U_BURROWED = (key_of(n, VARINT) for n in (18, 19, 20, 21))
U_BUFF, U_ASSIGNED, U_IDEAL, U_TARGET, U_POWERED = (key_of(n, VARINT) for n in (27, 28, 29, 34, 35))
U_COOLDOWN, U_DETECTION, U_SHIELD_MAX, U_ENERGY_MAX = (key_of(n, FLOAT) for n in (30, 31, 36, 37))
U_HALLUCINATION, U_ACTIVE = key_of(38, VARINT), key_of(39, VARINT)
P_X, P_Y, P_Z = (key_of(n, FLOAT) for n in (1, 2, 3))
O_ABILITY, O_POINT, O_TAG, O_PROGRESS = key_of(1, VARINT), key_of(2, BYTES), key_of(3, VARINT), key_of(4, FLOAT)
RAW_PLAYER, RAW_UNIT, RAW_MAP = (key_of(n, BYTES) for n in (1, 2, 3))
CAMERA, VISIBILITY, DATA = key_of(2, BYTES), key_of(1, BYTES), key_of(3, BYTES)
OBS_COMMON, OBS_SCORE, OBS_RAW, OBS_LOOP = key_of(1, BYTES), key_of(4, BYTES), key_of(5, BYTES), key_of(9, VARINT)
RESPONSE_OBSERVATION = key_of(3, BYTES)
SCORE_TYPE, SCORE_VALUE, SCORE_DETAILS = key_of(6, VARINT), key_of(7, VARINT), key_of(8, BYTES)
(
    D_IDLE_PRODUCTION,
    D_IDLE_WORKERS,
    D_VALUE_UNITS,
    D_VALUE_STRUCTURES,
) = (key_of(n, FLOAT) for n in (1, 2, 3, 4))
D_COLLECTED_MINERALS, D_COLLECTED_VESPENE, D_RATE_MINERALS, D_RATE_VESPENE = (key_of(n, FLOAT) for n in (7, 8, 9, 10))
D_SPENT_MINERALS, D_SPENT_VESPENE = key_of(11, FLOAT), key_of(12, FLOAT)
D_FOOD_USED, D_USED_MINERALS, D_USED_VESPENE = (key_of(n, BYTES) for n in (13, 20, 21))
C_ARMY = key_of(2, FLOAT)  # economy and technology follow
C_STEP = key_of(3, FLOAT) - C_ARMY
(
    PC_ID,
    PC_MINERALS,
    PC_VESPENE,
    PC_FOOD_CAP,
    PC_FOOD_USED,
    PC_FOOD_ARMY,
    PC_FOOD_WORKERS,
    PC_IDLE_WORKERS,
    PC_ARMY,
) = (key_of(n, VARINT) for n in range(1, 10))


@structref.register
class _TablesType(StructureType):
    pass


class Tables(structref.StructRefProxy):
    """A game for the compiled functions, as one argument.

    state, static, tech, economy: the engine's and the economy's.
    marks [N, NUM_MARKS]: of the spells.
    ability [T, orders], points [orders] (1: the order takes a place), change [T]: ability of the change of mode.
    types [2, T]: type ids of player 1's units and of the others'.
    role, category [T]: ROLE_* and IN_* of the kinds; sums [3, NUM_CATEGORIES]: work space.
    tags, witnesses [N]: of the units that lived when deaths were last listed, 0 in empty slots; who saw them (bit p:
        player p).
    gone [N, 2]: the protocol's tags of those that died since, and who saw them.
    selected [N]: of the observing player.
    map_head, map_tail: bytes of the map's part of the raw data before and behind the cells.
    out: bytes of the observation.
    """


_FIELDS = [
    "state",
    "static",
    "tech",
    "economy",
    "marks",
    "ability",
    "points",
    "change",
    "types",
    "role",
    "category",
    "sums",
    "tags",
    "witnesses",
    "gone",
    "selected",
    "map_head",
    "map_tail",
    "out",
]
structref.define_proxy(Tables, _TablesType, _FIELDS)


@entry
def make_tables(*fields):
    """`Tables` of the fields in the order of `_FIELDS`."""
    return Tables(*fields)


# --- advancing ------------------------------------------------------------------------------------------------------


@kernel
def tag_of(ui, i, offset):
    return ((np.int64(i) + 1) << TAG_SHIFT) | ((np.int64(ui[i, I_TAG]) + offset) & TAG_MASK)


@entry
def note_tags(tables):
    """From now on the units that live are those whose deaths `list_gone` tells."""
    ui, tags, witnesses = tables.state.ui[0], tables.tags, tables.witnesses
    for i in range(tags.shape[0]):
        tags[i] = ui[i, I_TAG] if ui[i, I_ALIVE] != 0 else 0
        witnesses[i] = ui[i, I_VISIBLE]


@entry
def list_gone(tables, offset, count):
    """Adds the units that died to `gone`, which has `count` already; returns how many there are then."""
    ui, tags, witnesses, gone = tables.state.ui[0], tables.tags, tables.witnesses, tables.gone
    for i in range(tags.shape[0]):
        tag = ui[i, I_TAG] if ui[i, I_ALIVE] != 0 else 0
        if tags[i] != 0 and tags[i] != tag and count < gone.shape[0]:
            gone[count, 0] = (np.int64(i + 1) << TAG_SHIFT) | ((tags[i] + offset) & TAG_MASK)
            gone[count, 1] = witnesses[i]
            count += 1
        tags[i] = tag
        witnesses[i] = ui[i, I_VISIBLE]
    return count


@entry
def advance_bases(tables, loops, offset, count):
    """Game loops of a map with an economy; returns as `list_gone`, and bit p: player p has a structure left."""
    state = tables.state
    advance_with_economy(state, tables.static, tables.tech, tables.economy, 0, loops)
    ui, standing = state.ui[0], 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if ui[i, I_FLAGS] & FLAG_STRUCTURE != 0:
            standing |= 1 << ui[i, I_OWNER]
    return list_gone(tables, offset, count), standing


# --- a unit ---------------------------------------------------------------------------------------------------------


@kernel
def put_order(out, n, ability, x, y, tag, progress):
    """A UnitOrder of an ability with a target unit (tag > 0), a target place (x >= 0) or neither."""
    start = put_key(out, n, U_ORDER) + 1
    m = put_field(out, start, O_ABILITY, ability)
    if tag > 0:
        m = put_field(out, m, O_TAG, tag)
    elif x >= NOT_BEGUN:
        m = put_flag(out, m, O_POINT, 15)
        m = put_float(out, m, P_X, x)
        m = put_float(out, m, P_Y, y)
        m = put_float(out, m, P_Z, 0.0)
    if progress > NOT_BEGUN:
        m = put_float(out, m, O_PROGRESS, progress)
    out[start - 1] = m - start
    return m


@kernel
def put_economy(out, n, state, tech, economy, i, own):
    """What an economy adds to a unit: contents, buffs of cargo, harvesters."""
    uf, ui, ei = state.uf[0], state.ui[0], economy.i[0]
    kind = ui[i, I_KIND]
    role = tech.i[kind, X_ROLE]
    if role == MINERALS:
        n = put_field(out, n, U_MINERALS, ei[E_CONTENTS, i])
    elif role == GEYSER:
        n = put_field(out, n, U_VESPENE, ei[E_CONTENTS, i])
    elif role == GAS and ei[E_RESOURCE_TAG, i] != 0:
        n = put_field(out, n, U_VESPENE, ei[E_CONTENTS, ei[E_RESOURCE, i]])
    elif role == WORKER and ei[E_CARRIES, i] != NOTHING:
        buff = X_BUFF_MINERALS if ei[E_CARRIES, i] == CARRIES_MINERALS else X_BUFF_VESPENE
        n = put_field(out, n, U_BUFF, tech.i[kind, buff])
    if own and role in (GAS, HALL) and ei[E_UNFINISHED, i] == 0:
        ideal = tech.harvest[1, R_WORKERS]
        if role == HALL:
            ideal = np.float32(0.0)
            search = tech.harvest[0, R_SEARCH] * tech.harvest[0, R_SEARCH]
            for k in range(economy.listed[0, L_COUNT]):
                j = economy.works[0, k]
                if tech.i[ui[j, I_KIND], X_ROLE] == MINERALS:
                    dx, dy = uf[i, F_X] - uf[j, F_X], uf[i, F_Y] - uf[j, F_Y]
                    if dx * dx + dy * dy < search:
                        ideal += tech.harvest[0, R_WORKERS]
        n = put_field(out, n, U_ASSIGNED, ei[E_ASSIGNED, i])
        n = put_field(out, n, U_IDEAL, int(ideal))
    return n


@kernel
def put_orders(out, n, state, tech, economy, marks, ability, points, change, i, offset, has_economy):
    """What is told of a unit's orders to its player, and to an observer."""
    uf, ui = state.uf[0], state.ui[0]
    kind, order = ui[i, I_KIND], ui[i, I_ORDER]
    if marks[i, M_ABILITY] != 0:
        held = tag_of(ui, marks[i, M_ABILITY_TARGET] - 1, offset)
        n = put_order(out, n, marks[i, M_ABILITY], NOWHERE, NOWHERE, held, NOT_BEGUN)
    if has_economy:
        for q in range(economy.i[0, E_QUEUED, i]):
            product = economy.i[0, E_QUEUE + q, i]
            progress = NOT_BEGUN
            if q == 0:
                progress = economy.f[0, EF_PROGRESS, i] / np.float32(max(tech.i[product, X_TIME], 1))
            n = put_order(out, n, tech.i[product, X_ABILITY], NOWHERE, NOWHERE, 0, progress)
    busy = uf[i, F_BUSY] > 0.0 and change[kind] > 0
    if busy and order != ORDER_SIEGE:
        # A change of mode that goes on under a later order is told as an order on the unit itself.
        n = put_order(out, n, change[kind], NOWHERE, NOWHERE, tag_of(ui, i, offset), HALF_WAY)
    t = ui[i, I_ORDER_TARGET]
    tag = tag_of(ui, t, offset) if t >= 0 else 0
    if order >= ORDER_BUILD:
        ox, oy = uf[i, F_ORDER_X], uf[i, F_ORDER_Y]
        if has_economy and ui[i, I_ORDER_TAG] == BEGUN:
            ox, oy = economy.f[0, EF_SITE_X, i], economy.f[0, EF_SITE_Y, i]
        n = put_order(out, n, tech.i[order - ORDER_BUILD, X_ABILITY], ox, oy, tag, NOT_BEGUN)
    elif order != ORDER_STOP and marks[i, M_ABILITY] == 0:
        ox = uf[i, F_ORDER_X] if points[order] != 0 else NOWHERE
        progress = HALF_WAY if busy and order == ORDER_SIEGE else NOT_BEGUN
        n = put_order(out, n, ability[kind, order], ox, uf[i, F_ORDER_Y], tag, progress)
    for q in range(ui[i, I_QUEUED]):
        order, t = state.queue_i[0, i, q, 0], state.queue_i[0, i, q, 1]
        tag = tag_of(ui, t, offset) if t >= 0 else 0
        builds = order >= ORDER_BUILD
        told = tech.i[order - ORDER_BUILD, X_ABILITY] if builds else ability[kind, min(order, ORDER_BUILD - 1)]
        ox = state.queue_f[0, i, q, 0] if builds or points[min(order, ORDER_BUILD - 1)] != 0 else NOWHERE
        n = put_order(out, n, told, ox, state.queue_f[0, i, q, 1], tag, NOT_BEGUN)
    return n


@kernel
def near_own(state, static, player, i):
    """Whether a unit of `player` is as near to unit `i` as it can see."""
    uf, ui = state.uf[0], state.ui[0]
    for k in range(state.w[0, W_ALIVE]):
        j = state.alive[0, k]
        if ui[j, I_OWNER] == player:
            reach = static.kind_f[ui[j, I_KIND], K_SIGHT] + uf[i, F_RADIUS]
            dx, dy = uf[i, F_X] - uf[j, F_X], uf[i, F_Y] - uf[j, F_Y]
            if dx * dx + dy * dy <= reach * reach:
                return True
    return False


@kernel
def put_units(
    out,
    total,
    state,
    static,
    tech,
    economy,
    marks,
    ability,
    points,
    change,
    types,
    selected,
    memory,
    player,
    sees,
    offset,
    x0,
    y0,
    x1,
    y1,
):
    """`ObservationRaw.units` as seen by a player, whose screen shows x0, y0 to x1, y1; see `Tables`.

    memory [N]: tags of the buildings that the player has seen.
    """
    uf, ui = state.uf[0], state.ui[0]
    economies = economy.i.shape[2] > 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        owner, kind, flags = ui[i, I_OWNER], ui[i, I_KIND], ui[i, I_FLAGS]
        own = owner == player
        seen = player == 0 or own or (ui[i, I_VISIBLE] >> player) & 1 != 0
        cloak, shown, details = NOT_CLOAKED, VISIBLE, True
        if flags & FLAG_CLOAKED:
            cloak = CLOAKED_ALLIED if own or player == 0 else (CLOAKED_DETECTED if seen else CLOAKED)
        if not seen:
            shown = HIDDEN
            ghost = flags & FLAG_CLOAKED != 0 and flags & FLAG_BURROWED == 0 and owner != NEUTRAL
            if ghost and sees & SEES_CLOAKED != 0 and near_own(state, static, player, i):
                details = False
            elif sees & SEES_ALL != 0:
                cloak = CLOAKED_UNKNOWN
            elif owner == NEUTRAL or memory[i] == ui[i, I_TAG]:
                # As it was last seen; resources are known from the start.
                shown, cloak, details = SNAPSHOT, CLOAKED_UNKNOWN, False
            else:
                continue
        has_economy = economies and economy.i[0, E_TAG, i] == ui[i, I_TAG]
        x, y = uf[i, F_X], uf[i, F_Y]
        start = put_key(out, total, RAW_UNIT) + 1
        n = put_flag(out, start, U_DISPLAY, shown)
        n = put_flag(out, n, U_ALLIANCE, SELF if own else (NEUTRAL_ALLIANCE if owner == NEUTRAL else ENEMY))
        n = put_field(out, n, U_TAG, tag_of(ui, i, offset))
        unit_type = types[0 if owner == 1 else 1, kind]
        n = put_field(out, n, U_TYPE, unit_type)
        n = put_flag(out, n, U_OWNER, owner)
        n = put_flag(out, n, U_POS, 15)
        n = put_float(out, n, P_X, x)
        n = put_float(out, n, P_Y, y)
        n = put_float(out, n, P_Z, uf[i, F_Z])
        n = put_float(out, n, U_FACING, facing_angle(uf[i, F_FACING_X], uf[i, F_FACING_Y]))
        n = put_float(out, n, U_RADIUS, uf[i, F_RADIUS])
        progress = np.float32(1.0)
        if has_economy and economy.i[0, E_UNFINISHED, i] != 0:
            progress = economy.f[0, EF_PROGRESS, i] / np.float32(max(tech.i[kind, X_TIME], 1))
        n = put_float(out, n, U_BUILD_PROGRESS, progress)
        n = put_flag(out, n, U_CLOAK, cloak)
        n = put_flag(out, n, U_SELECTED, own and selected[i])
        n = put_flag(out, n, U_ON_SCREEN, seen and x0 <= x <= x1 and y0 <= y <= y1)
        n = put_flag(out, n, U_BLIP, 0)
        if details:
            if owner != NEUTRAL:
                n = put_float(out, n, U_HEALTH, uf[i, F_HEALTH])
                n = put_float(out, n, U_HEALTH_MAX, uf[i, F_HEALTH_MAX])
                if uf[i, F_SHIELD_MAX] > 0.0:
                    n = put_float(out, n, U_SHIELD, uf[i, F_SHIELD])
                    n = put_float(out, n, U_SHIELD_MAX, uf[i, F_SHIELD_MAX])
                if uf[i, F_ENERGY_MAX] > 0.0:
                    n = put_float(out, n, U_ENERGY, uf[i, F_ENERGY])
                    n = put_float(out, n, U_ENERGY_MAX, uf[i, F_ENERGY_MAX])
                if uf[i, F_STIM] > 0.0:
                    n = put_field(out, n, U_BUFF, STIMPACK_MARAUDER if unit_type == MARAUDER else STIMPACK_MARINE)
            for buff in (M_BUFF_1, M_BUFF_2):
                if marks[i, buff] != 0:
                    n = put_field(out, n, U_BUFF, marks[i, buff])
            if (marks[i, M_ILLUSION_KNOWN] >> player) & 1:
                n = put_flag(out, n, U_HALLUCINATION, 1)
            active = ui[i, I_ORDER] != ORDER_STOP or ui[i, I_TARGET] >= 0
            if has_economy:
                n = put_economy(out, n, state, tech, economy, i, own)
                active |= economy.i[0, E_QUEUED, i] > 0
            n = put_flag(out, n, U_FLYING, flags & FLAG_FLYING != 0)
            n = put_flag(out, n, U_BURROWED, flags & FLAG_BURROWED != 0)
            n = put_flag(out, n, U_POWERED, 1)
            n = put_flag(out, n, U_ACTIVE, active)
            detection = static.kind_f[kind, K_DETECTION]
            if detection > 0.0:
                n = put_float(out, n, U_DETECTION, detection)
            if (own or player == 0) and owner != NEUTRAL:
                n = put_float(out, n, U_COOLDOWN, uf[i, F_COOLDOWN])
                if ui[i, I_TARGET] >= 0:
                    n = put_field(out, n, U_TARGET, tag_of(ui, ui[i, I_TARGET], offset))
                orders = ui[i, I_ORDER] != ORDER_STOP or ui[i, I_QUEUED] > 0 or marks[i, M_ABILITY] != 0
                orders |= has_economy and economy.i[0, E_QUEUED, i] > 0
                if orders or (uf[i, F_BUSY] > 0.0 and change[kind] > 0):
                    n = put_orders(out, n, state, tech, economy, marks, ability, points, change, i, offset, has_economy)
        size = n - start
        if size >= 128:
            # The length takes two bytes.
            for m in range(size):
                out[n - m] = out[n - m - 1]
            n += 1
        put_varint(out, start - 1, size)
        total = n
    return total


# --- an observation -------------------------------------------------------------------------------------------------


@kernel
def look_around(state, static, player, grid, looked):
    """grid [height, width]: SEEN where a unit of `player` looks, what was seen before becomes EXPLORED.

    looked [N + 1, 3]: place and sight of the player's units when the grid was last brought up to date (the first row
    has their number): while nobody has moved, nothing is to be done.
    """
    uf, ui, alive = state.uf[0], state.ui[0], state.alive[0]
    count, same = 0, True
    for n in range(state.w[0, W_ALIVE]):
        i = alive[n]
        if ui[i, I_OWNER] != player:
            continue
        count += 1
        row = looked[count]
        x, y, sight = uf[i, F_X], uf[i, F_Y], static.kind_f[ui[i, I_KIND], K_SIGHT]
        if row[0] != x or row[1] != y or row[2] != sight:
            row[0], row[1], row[2] = x, y, sight
            same = False
    if same and looked[0, 0] == count:
        return
    looked[0, 0] = count
    height, width = grid.shape
    for y in range(height):
        for x in range(width):
            if grid[y, x] == SEEN:
                grid[y, x] = EXPLORED
    for n in range(1, count + 1):
        cx, cy, sight = looked[n, 0], looked[n, 1], looked[n, 2]
        for y in range(max(0, int(cy - sight)), min(height, int(cy + sight) + 1)):
            dy = y + 0.5 - cy
            if dy * dy <= sight * sight:
                # The cells of a row whose middles lie within the circle, filled without looking at each.
                half = np.sqrt(sight * sight - dy * dy)
                first = max(0, int(np.ceil(cx - half - 0.5)))
                last = min(width, int(np.floor(cx + half - 0.5)) + 1)
                if first < last:
                    grid[y, first:last] = SEEN


@kernel
def bring_up_to_date(state, static, player, sees, grid, looked, memory):
    """A player's grid, see `look_around`, and memory [N]: tags of the buildings that the player has seen."""
    ui = state.ui[0]
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if ui[i, I_FLAGS] & FLAG_STRUCTURE != 0 and (player == 0 or (ui[i, I_VISIBLE] >> player) & 1 != 0):
            memory[i] = ui[i, I_TAG]
    if sees & SEES_GRID:
        grid[:, :] = SEEN
        looked[0, 0] = -1.0
    else:
        look_around(state, static, player, grid, looked)


@entry
def look(tables, player, sees, grid, looked, memory):
    """What a player sees and has seen of the map, see `bring_up_to_date`."""
    bring_up_to_date(tables.state, tables.static, player, sees, grid, looked, memory)


@kernel
def put_common(out, n, state, tech, economy, role, player):
    """`Observation.player_common`."""
    start = put_key(out, n, OBS_COMMON) + 1
    n = put_flag(out, start, PC_ID, player)
    if player > 0:
        ui = state.ui[0]
        used, workers, idle, army = 0.0, 0.0, 0, 0
        for k in range(state.w[0, W_ALIVE]):
            i = state.alive[0, k]
            if ui[i, I_OWNER] != player:
                continue
            kind = ui[i, I_KIND]
            used += tech.f[kind, XF_SUPPLY]
            if role[kind] == ROLE_WORKER:
                workers += tech.f[kind, XF_SUPPLY]
                idle += ui[i, I_ORDER] == ORDER_STOP
            elif role[kind] == ROLE_ARMY:
                army += 1
        cap = 200.0
        if economy.i.shape[2] > 0:
            bank = economy.bank[0, player]
            used, cap = bank[B_SUPPLY_USED], min(bank[B_SUPPLY], np.float64(tech.limits[R_SUPPLY]))
            n = put_field(out, n, PC_MINERALS, int(bank[B_MINERALS]))
            n = put_field(out, n, PC_VESPENE, int(bank[B_VESPENE]))
        n = put_field(out, n, PC_FOOD_CAP, int(cap))
        n = put_field(out, n, PC_FOOD_USED, int(used))
        n = put_field(out, n, PC_FOOD_ARMY, int(used - workers))
        n = put_field(out, n, PC_FOOD_WORKERS, int(workers))
        n = put_field(out, n, PC_IDLE_WORKERS, idle)
        n = put_field(out, n, PC_ARMY, army)
    out[start - 1] = n - start
    return n


@kernel
def put_categories(out, n, key, values):
    """A `CategoryScoreDetails`."""
    n = put_flag(out, n, key, 5 * NUM_CATEGORIES)
    for category in range(NUM_CATEGORIES):
        n = put_float(out, n, C_ARMY + category * C_STEP, values[category])
    return n


@kernel
def put_details(out, n, state, tech, economy, category, sums, player, loop):
    """The fields of `ScoreDetails` that an economy counts; nothing is told of battles."""
    bank = economy.bank[0, player]
    minutes = max(loop / (LOOPS_PER_WALL_SECOND * 60.0), 1e-6)
    n = put_float(out, n, D_IDLE_PRODUCTION, bank[B_IDLE_PRODUCTION] / LOOPS_PER_SECOND)
    n = put_float(out, n, D_IDLE_WORKERS, bank[B_IDLE_WORKERS] / LOOPS_PER_SECOND)
    n = put_float(out, n, D_VALUE_UNITS, bank[B_VALUE_UNITS])
    n = put_float(out, n, D_VALUE_STRUCTURES, bank[B_VALUE_BUILDINGS])
    n = put_float(out, n, D_COLLECTED_MINERALS, bank[B_COLLECTED_MINERALS])
    n = put_float(out, n, D_COLLECTED_VESPENE, bank[B_COLLECTED_VESPENE])
    # The mean over the game so far; the game's own is over the last minute.
    n = put_float(out, n, D_RATE_MINERALS, bank[B_COLLECTED_MINERALS] / minutes)
    n = put_float(out, n, D_RATE_VESPENE, bank[B_COLLECTED_VESPENE] / minutes)
    n = put_float(out, n, D_SPENT_MINERALS, bank[B_SPENT_MINERALS])
    n = put_float(out, n, D_SPENT_VESPENE, bank[B_SPENT_VESPENE])
    sums[:, :] = 0.0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if state.ui[0, i, I_OWNER] == player:
            kind = state.ui[0, i, I_KIND]
            sums[0, category[kind]] += tech.f[kind, XF_SUPPLY]
            sums[1, category[kind]] += tech.i[kind, X_MINERALS]
            sums[2, category[kind]] += tech.i[kind, X_VESPENE]
    n = put_categories(out, n, D_FOOD_USED, sums[0])
    n = put_categories(out, n, D_USED_MINERALS, sums[1])
    return put_categories(out, n, D_USED_VESPENE, sums[2])


@kernel
def put_score(out, n, state, tech, economy, category, sums, player, loop, kind, score):
    """`Observation.score`."""
    start = put_key(out, n, OBS_SCORE) + 1
    n = put_flag(out, start, SCORE_TYPE, kind)
    n = put_field(out, n, SCORE_VALUE, score)
    details = put_key(out, n, SCORE_DETAILS) + 1
    n = details
    if economy.i.shape[2] > 0:
        n = put_details(out, details, state, tech, economy, category, sums, player, loop)
    # At most 103 bytes of details in at most 118: lengths of one byte.
    out[details - 1] = n - details
    out[start - 1] = n - start
    return n


@entry
def write_observation(tables, memory, grid, looked, player, sees, offset, loop, kind, score, cx, cy, x0, y0, x1, y1):
    """Writes `ResponseObservation.observation` of a player to `out`; returns where it begins and where it ends.

    Args:
        tables: of the game.
        memory, grid, looked: the player's, see `bring_up_to_date`.
        player: its number, 0 = an observer of everything.
        sees: SEES_*.
        offset: what is added to the engine's tags.
        loop, kind, score: game loop, type of score, score.
        cx, cy: the camera; x0, y0, x1, y1: what its screen shows.
    """
    out, state, static, tech, economy = tables.out, tables.state, tables.static, tables.tech, tables.economy
    n = PREFIX_BYTES
    if sees & SEES_RAW:
        if economy.i.shape[2] > 0:
            count_workers(state, tech, economy, 0)
        # Player: the camera, a message of 15 bytes in one of 17.
        n = put_flag(out, n, RAW_PLAYER, 17)
        n = put_flag(out, n, CAMERA, 15)
        n = put_float(out, n, P_X, cx)
        n = put_float(out, n, P_Y, cy)
        n = put_float(out, n, P_Z, 0.0)
        n = put_bytes(out, n, tables.map_head)
        bring_up_to_date(state, static, player, sees, grid, looked, memory)
        for row in range(grid.shape[0]):
            n = put_bytes(out, n, grid[row])
        n = put_bytes(out, n, tables.map_tail)
        marks, ability, points, change = tables.marks, tables.ability, tables.points, tables.change
        types, selected = tables.types, tables.selected
        n = put_units(
            out,
            n,
            state,
            static,
            tech,
            economy,
            marks,
            ability,
            points,
            change,
            types,
            selected,
            memory,
            player,
            sees,
            offset,
            x0,
            y0,
            x1,
            y1,
        )
    raw = n - PREFIX_BYTES
    # What goes before it is written first, where it is out of the way, and then moved up to it.
    m = put_field(out, 0, OBS_LOOP, loop)
    m = put_common(out, m, state, tech, economy, tables.role, player)
    if sees & SEES_SCORE:
        category, sums = tables.category, tables.sums
        m = put_score(out, m, state, tech, economy, category, sums, max(player, 1), loop, kind, score)
    if sees & SEES_RAW:
        m = put_varint(out, put_key(out, m, OBS_RAW), raw)
    for k in range(m):
        out[PREFIX_BYTES - 1 - k] = out[m - 1 - k]
    size = m + raw
    start = PREFIX_BYTES - m - varint_length(size) - 1
    put_varint(out, put_key(out, start, RESPONSE_OBSERVATION), size)
    return start, n
