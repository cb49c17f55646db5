"""A game's units as protobuf bytes, written by compiled code."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numba import float32, int64, njit, uint8

from envs import economy as economy_module
from envs.compilation import entry
from envs.economy import (
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
)
from envs.engine import state as state_module
from envs.engine.state import (
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
    NEUTRAL,
    ORDER_BUILD,
    ORDER_SIEGE,
    ORDER_STOP,
    W_ALIVE,
)

# Columns of the marks of spells (`envs.protocol.spells`), what a unit's observation tells beside the engine's state.
M_BUFF_1, M_BUFF_2, M_ILLUSION_KNOWN, M_ABILITY, M_ABILITY_TARGET, NUM_MARKS = range(6)

TAG_SHIFT = 18
TAG_MASK = (1 << TAG_SHIFT) - 1
BYTES_PER_UNIT = 640  # the longest unit message: about 150 bytes, and 30 for each of nine orders

# The protocol's enumerations.
VISIBLE, SNAPSHOT, HIDDEN = 1, 2, 3
SELF, NEUTRAL_ALLIANCE, ENEMY = 1, 3, 4
CLOAKED_UNKNOWN, CLOAKED, CLOAKED_DETECTED, NOT_CLOAKED, CLOAKED_ALLIED = 0, 1, 2, 3, 4
STIMPACK_MARINE, STIMPACK_MARAUDER, MARAUDER = 27, 24, 51

NOWHERE, NOT_BEGUN, HALF_WAY = np.float32(-1.0), np.float32(0.0), np.float32(0.5)

# What `write_units` is asked: options[...]
(
    SEE_PLAYER,  # the observing player, 0 = an observer of everything
    SEE_REVEALED,  # 1: units out of sight are listed too, as hidden
    SEE_CLOAKED,  # 1: cloaked units that are not detected are listed, as hidden and without details
    SEE_TAG_OFFSET,
    SEE_ORDERS_OF_ALL,
    NUM_SEE,
) = range(6)

# What kinds of units are to their player, and what `count_units` counts.
ROLE_NONE, ROLE_WORKER, ROLE_ARMY = 0, 1, 2
COUNT_SUPPLY, COUNT_WORKER_SUPPLY, COUNT_IDLE_WORKERS, COUNT_ARMY, NUM_COUNTS = range(5)


def writer(signature: Any) -> Any:
    """A compiled function of one signature: without it each writer is compiled for every mixture of integer types."""
    return njit(signature, cache=True, nogil=True, error_model="numpy")


def stamp(*functions: Any) -> None:
    """Makes functions on disk stale when the engine's layout changes.

    Numba keys a cached function by its own file alone, though it holds the constants of the modules that it imports.
    """
    digest = hashlib.sha256()
    for source in (state_module, economy_module, sys.modules[functions[0].__module__]):
        digest.update(Path(str(source.__file__)).read_bytes())
    for function in functions:
        file = getattr(getattr(function, "_cache", None), "_cache_file", None)
        if file is not None:
            file._source_stamp = digest.hexdigest()


@writer(int64(uint8[::1], int64, int64))
def varint(out, n, value):
    value = np.uint64(value)
    while value >= np.uint64(128):
        out[n] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        n += 1
    out[n] = np.uint8(value)
    return n + 1


@writer(int64(uint8[::1], int64, int64, int64))
def put_int(out, n, field, value):
    """Field `field` of type varint."""
    return varint(out, varint(out, n, field << 3), value)


@writer(int64(uint8[::1], int64, int64, float32, float32[::1], uint8[::1]))
def put_float(out, n, field, value, word, word_bytes):
    n = varint(out, n, (field << 3) | 5)
    word[0] = value
    for k in range(4):
        out[n + k] = word_bytes[k]
    return n + 4


@writer(int64(uint8[::1], int64, int64, float32, float32, int64, float32, float32[::1], uint8[::1]))
def put_order(out, n, ability, x, y, tag, progress, word, word_bytes):
    """Field 22, a UnitOrder, of an ability with a target unit (tag > 0), a target place (x >= 0) or neither."""
    start = n + 3
    m = put_int(out, start, 1, ability)
    if tag > 0:
        m = put_int(out, m, 3, tag)
    elif x >= 0.0:
        out[m] = np.uint8(18)
        out[m + 1] = np.uint8(15)
        m = put_float(out, m + 2, 1, x, word, word_bytes)
        m = put_float(out, m, 2, y, word, word_bytes)
        m = put_float(out, m, 3, np.float32(0.0), word, word_bytes)
    if progress > 0.0:
        m = put_float(out, m, 4, progress, word, word_bytes)
    n = varint(out, n, (22 << 3) | 2)
    out[n] = np.uint8(m - start)
    return m


@entry
def tag_of(state, i, offset):
    return ((np.int64(i) + 1) << TAG_SHIFT) | ((np.int64(state.ui[0, i, I_TAG]) + offset) & TAG_MASK)


@entry
def build_progress(state, tech, economy, i):
    """From 0 to 1; 1 of everything that is not under construction."""
    if economy.i.shape[2] == 0 or economy.i[0, E_TAG, i] != state.ui[0, i, I_TAG] or economy.i[0, E_UNFINISHED, i] == 0:
        return np.float32(1.0)
    return economy.f[0, EF_PROGRESS, i] / np.float32(max(tech.i[state.ui[0, i, I_KIND], X_TIME], 1))


@entry
def put_economy(out, n, state, tech, economy, i, own):
    """What an economy adds to a unit: contents, buffs of cargo, harvesters."""
    kind = state.ui[0, i, I_KIND]
    role = tech.i[kind, X_ROLE]
    if economy.i[0, E_TAG, i] != state.ui[0, i, I_TAG]:
        return n
    if role == MINERALS:
        n = put_int(out, n, 18, economy.i[0, E_CONTENTS, i])
    elif role == GEYSER:
        n = put_int(out, n, 19, economy.i[0, E_CONTENTS, i])
    elif role == GAS and economy.i[0, E_RESOURCE_TAG, i] != 0:
        n = put_int(out, n, 19, economy.i[0, E_CONTENTS, economy.i[0, E_RESOURCE, i]])
    elif role == WORKER and economy.i[0, E_CARRIES, i] != NOTHING:
        buff = X_BUFF_MINERALS if economy.i[0, E_CARRIES, i] == CARRIES_MINERALS else X_BUFF_VESPENE
        n = put_int(out, n, 27, tech.i[kind, buff])
    if own and role in (GAS, HALL) and economy.i[0, E_UNFINISHED, i] == 0:
        ideal = tech.harvest[1, R_WORKERS]
        if role == HALL:
            ideal = np.float32(0.0)
            for k in range(state.w[0, W_ALIVE]):
                j = state.alive[0, k]
                if tech.i[state.ui[0, j, I_KIND], X_ROLE] == MINERALS:
                    dx, dy = state.uf[0, i, F_X] - state.uf[0, j, F_X], state.uf[0, i, F_Y] - state.uf[0, j, F_Y]
                    if dx * dx + dy * dy < tech.harvest[0, R_SEARCH] * tech.harvest[0, R_SEARCH]:
                        ideal += tech.harvest[0, R_WORKERS]
        n = put_int(out, n, 28, economy.i[0, E_ASSIGNED, i])
        n = put_int(out, n, 29, int(ideal))
    return n


@entry
def write_units(
    state,
    static,
    tech,
    economy,
    marks,
    memory,
    ability,
    points,
    change,
    types,
    selected,
    camera,
    see,
    out,
):
    """`ObservationRaw.units` (field 2, repeated) as seen by a player; returns the number of bytes.

    ability [T, orders], points [orders] (1: the order takes a place), change [T]: ability of the change of mode;
    types [2, T]: type ids of player 1's units and of the others'; selected [N]; camera x0, y0, x1, y1;
    marks [N, NUM_MARKS] of the spells; memory [N]: tags of the buildings that the player has seen, kept up here.
    """
    f, ii = state.uf, state.ui
    player = see[SEE_PLAYER]
    word = np.zeros(1, np.float32)
    word_bytes = word.view(np.uint8)
    scratch = np.empty(BYTES_PER_UNIT, np.uint8)
    total = 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        owner = ii[0, i, I_OWNER]
        kind = ii[0, i, I_KIND]
        flags = ii[0, i, I_FLAGS]
        own = owner == player
        seen = player == 0 or own or (ii[0, i, I_VISIBLE] >> player) & 1 != 0
        hidden = flags & (FLAG_CLOAKED | FLAG_BURROWED) != 0 and not own and owner != NEUTRAL and player != 0
        cloak = NOT_CLOAKED
        details = True
        if flags & FLAG_CLOAKED:
            cloak = CLOAKED_ALLIED if own or player == 0 else (CLOAKED_DETECTED if seen else CLOAKED)
        shown = VISIBLE if seen else HIDDEN
        has_economy = economy.i.shape[2] > 0 and economy.i[0, E_TAG, i] == ii[0, i, I_TAG]
        if seen and flags & FLAG_STRUCTURE:
            memory[i] = ii[0, i, I_TAG]
        if not seen:
            near = False
            if hidden:
                for m in range(state.w[0, W_ALIVE]):
                    j = state.alive[0, m]
                    if ii[0, j, I_OWNER] == player:
                        reach = static.kind_f[ii[0, j, I_KIND], K_SIGHT] + f[0, i, F_RADIUS]
                        dx, dy = f[0, i, F_X] - f[0, j, F_X], f[0, i, F_Y] - f[0, j, F_Y]
                        near |= dx * dx + dy * dy <= reach * reach
            if near and see[SEE_CLOAKED] != 0 and flags & FLAG_BURROWED == 0:
                details = False
            elif see[SEE_REVEALED] != 0:
                cloak = CLOAKED_UNKNOWN
            elif owner == NEUTRAL or memory[i] == ii[0, i, I_TAG]:
                # As it was last seen; resources are known from the start.
                shown, cloak, details = SNAPSHOT, CLOAKED_UNKNOWN, False
            else:
                continue
        n = 0
        n = put_int(scratch, n, 1, shown)
        n = put_int(scratch, n, 2, SELF if own else (NEUTRAL_ALLIANCE if owner == NEUTRAL else ENEMY))
        n = put_int(scratch, n, 3, tag_of(state, i, see[SEE_TAG_OFFSET]))
        unit_type = types[0 if owner == 1 else 1, kind]
        n = put_int(scratch, n, 4, unit_type)
        n = put_int(scratch, n, 5, owner)
        scratch[n] = np.uint8(50)
        scratch[n + 1] = np.uint8(15)
        n = put_float(scratch, n + 2, 1, f[0, i, F_X], word, word_bytes)
        n = put_float(scratch, n, 2, f[0, i, F_Y], word, word_bytes)
        n = put_float(scratch, n, 3, f[0, i, F_Z], word, word_bytes)
        angle = np.float32(np.arctan2(f[0, i, F_FACING_Y], f[0, i, F_FACING_X]))
        n = put_float(scratch, n, 7, angle, word, word_bytes)
        n = put_float(scratch, n, 8, f[0, i, F_RADIUS], word, word_bytes)
        n = put_float(scratch, n, 9, build_progress(state, tech, economy, i), word, word_bytes)
        n = put_int(scratch, n, 10, cloak)
        x, y = f[0, i, F_X], f[0, i, F_Y]
        on_screen = camera[0] <= x <= camera[2] and camera[1] <= y <= camera[3] and seen
        n = put_int(scratch, n, 11, 1 if own and selected[i] else 0)
        n = put_int(scratch, n, 12, 1 if on_screen else 0)
        n = put_int(scratch, n, 13, 0)
        if details:
            if owner != NEUTRAL:
                n = put_float(scratch, n, 14, f[0, i, F_HEALTH], word, word_bytes)
                n = put_float(scratch, n, 15, f[0, i, F_HEALTH_MAX], word, word_bytes)
                if f[0, i, F_SHIELD_MAX] > 0.0:
                    n = put_float(scratch, n, 16, f[0, i, F_SHIELD], word, word_bytes)
                    n = put_float(scratch, n, 36, f[0, i, F_SHIELD_MAX], word, word_bytes)
                if f[0, i, F_ENERGY_MAX] > 0.0:
                    n = put_float(scratch, n, 17, f[0, i, F_ENERGY], word, word_bytes)
                    n = put_float(scratch, n, 37, f[0, i, F_ENERGY_MAX], word, word_bytes)
                if f[0, i, F_STIM] > 0.0:
                    buff = STIMPACK_MARAUDER if unit_type == MARAUDER else STIMPACK_MARINE
                    n = put_int(scratch, n, 27, buff)
            for buff in (M_BUFF_1, M_BUFF_2):
                if marks[i, buff] != 0:
                    n = put_int(scratch, n, 27, marks[i, buff])
            if (marks[i, M_ILLUSION_KNOWN] >> player) & 1:
                n = put_int(scratch, n, 38, 1)
            if has_economy:
                n = put_economy(scratch, n, state, tech, economy, i, own)
            n = put_int(scratch, n, 20, 1 if flags & FLAG_FLYING else 0)
            n = put_int(scratch, n, 21, 1 if flags & FLAG_BURROWED else 0)
            n = put_int(scratch, n, 35, 1)
            active = ii[0, i, I_ORDER] != ORDER_STOP or ii[0, i, I_TARGET] >= 0
            active |= has_economy and economy.i[0, E_QUEUED, i] > 0
            n = put_int(scratch, n, 39, 1 if active else 0)
            detection = static.kind_f[kind, K_DETECTION]
            if detection > 0.0:
                n = put_float(scratch, n, 31, detection, word, word_bytes)
            if (own or see[SEE_ORDERS_OF_ALL] != 0) and owner != NEUTRAL:
                n = put_float(scratch, n, 30, f[0, i, F_COOLDOWN], word, word_bytes)
                target = ii[0, i, I_TARGET]
                if target >= 0:
                    n = put_int(scratch, n, 34, tag_of(state, target, see[SEE_TAG_OFFSET]))
                if marks[i, M_ABILITY] != 0:
                    held = tag_of(state, marks[i, M_ABILITY_TARGET] - 1, see[SEE_TAG_OFFSET])
                    n = put_order(scratch, n, marks[i, M_ABILITY], NOWHERE, NOWHERE, held, NOT_BEGUN, word, word_bytes)
                if has_economy:
                    for q in range(economy.i[0, E_QUEUED, i]):
                        product = economy.i[0, E_QUEUE + q, i]
                        progress = NOT_BEGUN
                        if q == 0:
                            progress = economy.f[0, EF_PROGRESS, i] / np.float32(max(tech.i[product, X_TIME], 1))
                        made_by = np.int64(tech.i[product, X_ABILITY])
                        none = np.int64(0)
                        n = put_order(scratch, n, made_by, NOWHERE, NOWHERE, none, progress, word, word_bytes)
                busy = f[0, i, F_BUSY] > 0.0 and change[kind] > 0
                order = ii[0, i, I_ORDER]
                if busy and order != ORDER_SIEGE:
                    # A change of mode that goes on under a later order is told as an order on the unit itself.
                    own_tag = tag_of(state, i, see[SEE_TAG_OFFSET])
                    n = put_order(scratch, n, change[kind], NOWHERE, NOWHERE, own_tag, HALF_WAY, word, word_bytes)
                if order >= ORDER_BUILD:
                    t = ii[0, i, I_ORDER_TARGET]
                    tag = tag_of(state, t, see[SEE_TAG_OFFSET]) if t >= 0 else np.int64(0)
                    built_by = np.int64(tech.i[order - ORDER_BUILD, X_ABILITY])
                    led = has_economy and ii[0, i, I_ORDER_TAG] == BEGUN
                    ox = economy.f[0, EF_SITE_X, i] if led else f[0, i, F_ORDER_X]
                    oy = economy.f[0, EF_SITE_Y, i] if led else f[0, i, F_ORDER_Y]
                    n = put_order(scratch, n, built_by, ox, oy, tag, NOT_BEGUN, word, word_bytes)
                elif order != ORDER_STOP and marks[i, M_ABILITY] == 0:
                    t = ii[0, i, I_ORDER_TARGET]
                    tag = tag_of(state, t, see[SEE_TAG_OFFSET]) if t >= 0 else np.int64(0)
                    ox = f[0, i, F_ORDER_X] if points[order] != 0 else np.float32(-1)
                    oy = f[0, i, F_ORDER_Y]
                    progress = HALF_WAY if busy and order == ORDER_SIEGE else NOT_BEGUN
                    n = put_order(scratch, n, ability[kind, order], ox, oy, tag, progress, word, word_bytes)
                for q in range(ii[0, i, I_QUEUED]):
                    order = state.queue_i[0, i, q, 0]
                    t = state.queue_i[0, i, q, 1]
                    tag = tag_of(state, t, see[SEE_TAG_OFFSET]) if t >= 0 else np.int64(0)
                    told = np.int64(tech.i[order - ORDER_BUILD, X_ABILITY] if order >= ORDER_BUILD else 0)
                    if order < ORDER_BUILD:
                        told = np.int64(ability[kind, order])
                    takes_place = order >= ORDER_BUILD or points[min(order, ORDER_BUILD)] != 0
                    ox = state.queue_f[0, i, q, 0] if takes_place else np.float32(-1)
                    oy = state.queue_f[0, i, q, 1]
                    n = put_order(scratch, n, told, ox, oy, tag, NOT_BEGUN, word, word_bytes)
        total = varint(out, total, (2 << 3) | 2)
        total = varint(out, total, n)
        for m in range(n):
            out[total + m] = scratch[m]
        total += n
    return total


@entry
def count_units(state, supply, role, player, counts):
    """counts [NUM_COUNTS] of a player's living units; supply and role [T] by kind."""
    counts[:] = 0.0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if state.ui[0, i, I_OWNER] != player:
            continue
        kind = state.ui[0, i, I_KIND]
        counts[COUNT_SUPPLY] += supply[kind]
        if role[kind] == ROLE_WORKER:
            counts[COUNT_WORKER_SUPPLY] += supply[kind]
            counts[COUNT_IDLE_WORKERS] += state.ui[0, i, I_ORDER] == ORDER_STOP
        elif role[kind] == ROLE_ARMY:
            counts[COUNT_ARMY] += 1.0


@entry
def note_tags(state, tags):
    """tags [N]: of the units that live now, 0 in empty slots."""
    for i in range(tags.shape[0]):
        tags[i] = state.ui[0, i, I_TAG] if state.ui[0, i, I_ALIVE] != 0 else 0


@entry
def list_gone(state, tags, offset, out):
    """Protocol tags of the units of `note_tags` that live no more, into out [N]; returns how many they are."""
    count = 0
    for i in range(tags.shape[0]):
        if tags[i] != 0 and (state.ui[0, i, I_ALIVE] == 0 or state.ui[0, i, I_TAG] != tags[i]):
            out[count] = (np.int64(i + 1) << TAG_SHIFT) | ((tags[i] + offset) & TAG_MASK)
            count += 1
    return count


@entry
def count_structures(state, counts):
    """counts [owners]: living structures by owner."""
    counts[:] = 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if state.ui[0, i, I_FLAGS] & FLAG_STRUCTURE != 0:
            counts[state.ui[0, i, I_OWNER]] += 1


stamp(tag_of, build_progress, put_economy, write_units, count_units, note_tags, list_gone, count_structures)
