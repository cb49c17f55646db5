"""The part of an observation that every player gets: map, units, resources and score, as protobuf bytes."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.gathering import count_workers
from envs.economy.tables import (
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
    R_SUPPLY,
    X_MINERALS,
    X_VESPENE,
    XF_SUPPLY,
)
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_X,
    F_Y,
    FLAG_STRUCTURE,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_OWNER,
    I_TAG,
    I_VISIBLE,
    K_SIGHT,
    LOOPS_PER_SECOND,
    ORDER_STOP,
    W_ALIVE,
)
from envs.protocol.message_keys import (
    C_ARMY,
    C_STEP,
    CAMERA,
    D_COLLECTED_MINERALS,
    D_COLLECTED_VESPENE,
    D_FOOD_USED,
    D_IDLE_PRODUCTION,
    D_IDLE_WORKERS,
    D_RATE_MINERALS,
    D_RATE_VESPENE,
    D_SPENT_MINERALS,
    D_SPENT_VESPENE,
    D_USED_MINERALS,
    D_USED_VESPENE,
    D_VALUE_STRUCTURES,
    D_VALUE_UNITS,
    OBS_COMMON,
    OBS_LOOP,
    OBS_RAW,
    OBS_SCORE,
    P_X,
    P_Y,
    P_Z,
    PC_ARMY,
    PC_FOOD_ARMY,
    PC_FOOD_CAP,
    PC_FOOD_USED,
    PC_FOOD_WORKERS,
    PC_ID,
    PC_IDLE_WORKERS,
    PC_MINERALS,
    PC_VESPENE,
    RAW_PLAYER,
    RESPONSE_OBSERVATION,
    SCORE_DETAILS,
    SCORE_TYPE,
    SCORE_VALUE,
)
from envs.protocol.tables import (
    EXPLORED,
    LOOPS_PER_WALL_SECOND,
    NUM_CATEGORIES,
    PREFIX_BYTES,
    ROLE_ARMY,
    ROLE_WORKER,
    SEEN,
    SEES_GRID,
    SEES_RAW,
    SEES_SCORE,
)
from envs.protocol.unit_messages import GameArrays, PlayerView, put_units
from envs.protocol.wire import put_bytes, put_field, put_flag, put_float, put_key, put_varint, varint_length


@kernel
def look_around(state, static, player, grid, looked):
    """grid [height, width]: SEEN where a unit of `player` looks; what it saw before becomes EXPLORED.

    looked [N + 1, 3]: place and sight of the player's units when the grid was last brought up to date; the first row
    has their number. While nobody moves, the grid stays as it is.
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
def put_score_details(out, n, state, tech, economy, category, sums, player, loop):
    """The fields of `ScoreDetails` that an economy counts; a battle has none."""
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
        n = put_score_details(out, details, state, tech, economy, category, sums, player, loop)
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
        game = GameArrays(state, static, tech, economy, tables.units)
        n = put_units(out, n, game, PlayerView(player, sees, offset, memory, x0, y0, x1, y1))
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
