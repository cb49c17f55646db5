"""Units of an observation, as the bytes of protobuf messages."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.economy.buildings import BEGUN
from envs.economy.tables import (
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
    R_WORKERS,
    WORKER,
    X_ABILITY,
    X_BUFF_MINERALS,
    X_BUFF_VESPENE,
    X_ROLE,
    X_TIME,
    Economy,
    Tech,
)
from envs.engine.state.compilation import inline_kernel, kernel
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
    NEUTRAL,
    ORDER_BUILD,
    ORDER_SIEGE,
    ORDER_STOP,
    W_ALIVE,
    State,
    Static,
)
from envs.engine.state.units import facing_angle
from envs.protocol.message_keys import (
    CLOAKED,
    CLOAKED_ALLIED,
    CLOAKED_DETECTED,
    CLOAKED_UNKNOWN,
    ENEMY,
    HALF_WAY,
    HIDDEN,
    MARAUDER,
    NEUTRAL_ALLIANCE,
    NOT_BEGUN,
    NOT_CLOAKED,
    NOWHERE,
    O_ABILITY,
    O_POINT,
    O_PROGRESS,
    O_TAG,
    P_X,
    P_Y,
    P_Z,
    RAW_UNIT,
    SELF,
    SNAPSHOT,
    STIMPACK_MARAUDER,
    STIMPACK_MARINE,
    U_ACTIVE,
    U_ALLIANCE,
    U_ASSIGNED,
    U_BLIP,
    U_BUFF,
    U_BUILD_PROGRESS,
    U_BURROWED,
    U_CLOAK,
    U_COOLDOWN,
    U_DETECTION,
    U_DISPLAY,
    U_ENERGY,
    U_ENERGY_MAX,
    U_FACING,
    U_FLYING,
    U_HALLUCINATION,
    U_HEALTH,
    U_HEALTH_MAX,
    U_IDEAL,
    U_MINERALS,
    U_ON_SCREEN,
    U_ORDER,
    U_OWNER,
    U_POS,
    U_POWERED,
    U_RADIUS,
    U_SELECTED,
    U_SHIELD,
    U_SHIELD_MAX,
    U_TAG,
    U_TARGET,
    U_TYPE,
    U_VESPENE,
    VISIBLE,
)
from envs.protocol.tables import (
    M_ABILITY,
    M_ABILITY_TARGET,
    M_BUFF_1,
    M_BUFF_2,
    M_ILLUSION_KNOWN,
    SEES_ALL,
    SEES_CLOAKED,
    UnitTables,
    tag_of,
)
from envs.protocol.wire import put_field, put_flag, put_float, put_key, put_varint


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
def put_economy(out, n, game, i, own):
    """What an economy adds to a unit: contents, buffs of cargo, harvesters."""
    state, tech, economy = game.state, game.tech, game.economy
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
def put_orders(out, n, game, i, offset, has_economy):
    """A unit's orders, for its player and for an observer."""
    state, tech, economy = game.state, game.tech, game.economy
    marks, points, change = game.units.marks, game.units.points, game.units.change
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
        # A change of mode that goes on under a later order is reported as an order on the unit itself.
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
        n = put_order(out, n, game.units.ability[kind, order], ox, uf[i, F_ORDER_Y], tag, progress)
    for q in range(ui[i, I_QUEUED]):
        order, t = state.queue_i[0, i, q, 0], state.queue_i[0, i, q, 1]
        tag = tag_of(ui, t, offset) if t >= 0 else 0
        builds = order >= ORDER_BUILD
        told = (
            tech.i[order - ORDER_BUILD, X_ABILITY] if builds else game.units.ability[kind, min(order, ORDER_BUILD - 1)]
        )
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


class GameArrays(NamedTuple):
    """The arrays that a unit's message is made of."""

    state: State
    static: Static
    tech: Tech
    economy: Economy
    units: UnitTables


class PlayerView(NamedTuple):
    """Who looks at a game, and what its screen shows."""

    player: int  # 0 = an observer of everything
    sees: int  # SEES_*
    offset: int  # what is added to the engine's tags
    memory: np.ndarray  # int32 [N]: tags of the buildings that the player has seen
    x0: float  # the part of the map on the screen
    y0: float
    x1: float
    y1: float


@inline_kernel
def shown_as(game, view, i, seen):
    """How unit `i` is shown: (DISPLAY, CLOAK, with details); the first is 0 if it is not listed."""
    ui = game.state.ui[0]
    owner, flags = ui[i, I_OWNER], ui[i, I_FLAGS]
    own = owner == view.player
    cloak = NOT_CLOAKED
    if flags & FLAG_CLOAKED:
        cloak = CLOAKED_ALLIED if own or view.player == 0 else (CLOAKED_DETECTED if seen else CLOAKED)
    if seen:
        return VISIBLE, cloak, True
    ghost = flags & FLAG_CLOAKED != 0 and flags & FLAG_BURROWED == 0 and owner != NEUTRAL
    if ghost and view.sees & SEES_CLOAKED != 0 and near_own(game.state, game.static, view.player, i):
        return HIDDEN, cloak, False
    if view.sees & SEES_ALL != 0:
        return HIDDEN, CLOAKED_UNKNOWN, True
    if owner == NEUTRAL or view.memory[i] == ui[i, I_TAG]:
        # As it was last seen; resources are known from the start.
        return SNAPSHOT, CLOAKED_UNKNOWN, False
    return 0, cloak, False


@inline_kernel
def put_appearance(out, n, game, view, i, seen, shown, cloak, has_economy):
    """The fields of every unit that is shown: what it is, whose, and where."""
    uf, ui = game.state.uf[0], game.state.ui[0]
    owner, kind = ui[i, I_OWNER], ui[i, I_KIND]
    own = owner == view.player
    x, y = uf[i, F_X], uf[i, F_Y]
    n = put_flag(out, n, U_DISPLAY, shown)
    n = put_flag(out, n, U_ALLIANCE, SELF if own else (NEUTRAL_ALLIANCE if owner == NEUTRAL else ENEMY))
    n = put_field(out, n, U_TAG, tag_of(ui, i, view.offset))
    n = put_field(out, n, U_TYPE, game.units.types[0 if owner == 1 else 1, kind])
    n = put_flag(out, n, U_OWNER, owner)
    n = put_flag(out, n, U_POS, 15)
    n = put_float(out, n, P_X, x)
    n = put_float(out, n, P_Y, y)
    n = put_float(out, n, P_Z, uf[i, F_Z])
    n = put_float(out, n, U_FACING, facing_angle(uf[i, F_FACING_X], uf[i, F_FACING_Y]))
    n = put_float(out, n, U_RADIUS, uf[i, F_RADIUS])
    progress = np.float32(1.0)
    if has_economy and game.economy.i[0, E_UNFINISHED, i] != 0:
        progress = game.economy.f[0, EF_PROGRESS, i] / np.float32(max(game.tech.i[kind, X_TIME], 1))
    n = put_float(out, n, U_BUILD_PROGRESS, progress)
    n = put_flag(out, n, U_CLOAK, cloak)
    n = put_flag(out, n, U_SELECTED, own and game.units.selected[i])
    n = put_flag(out, n, U_ON_SCREEN, seen and view.x0 <= x <= view.x1 and view.y0 <= y <= view.y1)
    return put_flag(out, n, U_BLIP, 0)


@inline_kernel
def put_vitals(out, n, game, i):
    """Health, shield, energy and Stimpack."""
    uf, ui = game.state.uf[0], game.state.ui[0]
    n = put_float(out, n, U_HEALTH, uf[i, F_HEALTH])
    n = put_float(out, n, U_HEALTH_MAX, uf[i, F_HEALTH_MAX])
    if uf[i, F_SHIELD_MAX] > 0.0:
        n = put_float(out, n, U_SHIELD, uf[i, F_SHIELD])
        n = put_float(out, n, U_SHIELD_MAX, uf[i, F_SHIELD_MAX])
    if uf[i, F_ENERGY_MAX] > 0.0:
        n = put_float(out, n, U_ENERGY, uf[i, F_ENERGY])
        n = put_float(out, n, U_ENERGY_MAX, uf[i, F_ENERGY_MAX])
    if uf[i, F_STIM] > 0.0:
        marauder = game.units.types[0 if ui[i, I_OWNER] == 1 else 1, ui[i, I_KIND]] == MARAUDER
        n = put_field(out, n, U_BUFF, STIMPACK_MARAUDER if marauder else STIMPACK_MARINE)
    return n


@inline_kernel
def put_details(out, n, game, view, i, has_economy):
    """The fields of a unit that the player sees in full."""
    uf, ui, marks = game.state.uf[0], game.state.ui[0], game.units.marks
    owner, kind, flags = ui[i, I_OWNER], ui[i, I_KIND], ui[i, I_FLAGS]
    own = owner == view.player
    if owner != NEUTRAL:
        n = put_vitals(out, n, game, i)
    for buff in (M_BUFF_1, M_BUFF_2):
        if marks[i, buff] != 0:
            n = put_field(out, n, U_BUFF, marks[i, buff])
    if (marks[i, M_ILLUSION_KNOWN] >> view.player) & 1:
        n = put_flag(out, n, U_HALLUCINATION, 1)
    active = ui[i, I_ORDER] != ORDER_STOP or ui[i, I_TARGET] >= 0
    if has_economy:
        n = put_economy(out, n, game, i, own)
        active |= game.economy.i[0, E_QUEUED, i] > 0
    n = put_flag(out, n, U_FLYING, flags & FLAG_FLYING != 0)
    n = put_flag(out, n, U_BURROWED, flags & FLAG_BURROWED != 0)
    n = put_flag(out, n, U_POWERED, 1)
    n = put_flag(out, n, U_ACTIVE, active)
    detection = game.static.kind_f[kind, K_DETECTION]
    if detection > 0.0:
        n = put_float(out, n, U_DETECTION, detection)
    if (own or view.player == 0) and owner != NEUTRAL:
        n = put_float(out, n, U_COOLDOWN, uf[i, F_COOLDOWN])
        if ui[i, I_TARGET] >= 0:
            n = put_field(out, n, U_TARGET, tag_of(ui, ui[i, I_TARGET], view.offset))
        orders = ui[i, I_ORDER] != ORDER_STOP or ui[i, I_QUEUED] > 0 or marks[i, M_ABILITY] != 0
        orders |= has_economy and game.economy.i[0, E_QUEUED, i] > 0
        if orders or (uf[i, F_BUSY] > 0.0 and game.units.change[kind] > 0):
            n = put_orders(out, n, game, i, view.offset, has_economy)
    return n


@kernel
def put_units(out, total, game, view):
    """`ObservationRaw.units` as seen by a player."""
    state, economy = game.state, game.economy
    ui = state.ui[0]
    economies = economy.i.shape[2] > 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        seen = view.player == 0 or ui[i, I_OWNER] == view.player or (ui[i, I_VISIBLE] >> view.player) & 1 != 0
        shown, cloak, details = shown_as(game, view, i, seen)
        if shown == 0:
            continue
        has_economy = economies and economy.i[0, E_TAG, i] == ui[i, I_TAG]
        start = put_key(out, total, RAW_UNIT) + 1
        n = put_appearance(out, start, game, view, i, seen, shown, cloak, has_economy)
        if details:
            n = put_details(out, n, game, view, i, has_economy)
        size = n - start
        if size >= 128:
            # The length takes two bytes.
            for m in range(size):
                out[n - m] = out[n - m - 1]
            n += 1
        put_varint(out, start - 1, size)
        total = n
    return total
