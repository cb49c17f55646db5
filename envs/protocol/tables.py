"""A game as compiled code takes it, and advancing it: the tables, tags, and the units that died."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.experimental import structref

from envs.economy.step import advance_with_economy
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import FLAG_STRUCTURE, I_ALIVE, I_FLAGS, I_OWNER, I_TAG, I_VISIBLE, W_ALIVE
from envs.runtime.struct_fields import StructureType

# Columns of the marks of spells (`envs.protocol.spells`), which go into a unit's message.
M_BUFF_1, M_BUFF_2, M_ILLUSION_KNOWN, M_ABILITY, M_ABILITY_TARGET, NUM_MARKS = range(6)

TAG_SHIFT = 18
TAG_MASK = (1 << TAG_SHIFT) - 1
BYTES_PER_UNIT = 640  # the longest unit message: about 150 bytes, and 30 for each of nine orders
PREFIX_BYTES = 512  # room before the raw data in an observation: twice what is written there
LOOPS_PER_WALL_SECOND = 22.4  # at the speed that games are played at

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
# A game is the only world of its state. Typed, because Numba would compile the engine anew for a literal.
WORLD = np.int64(0)


class UnitTables(NamedTuple):
    """What a unit's message needs beside the engine's and the economy's arrays."""

    marks: np.ndarray  # int32 [N, NUM_MARKS]: of the spells
    ability: np.ndarray  # [T, orders]: what an order of a kind is called
    points: np.ndarray  # int8 [orders]: 1: the order takes a place
    change: np.ndarray  # [T]: ability of the change of mode
    types: np.ndarray  # [2, T]: type ids of player 1's units and of the others'
    selected: np.ndarray  # bool [N]: of the observing player


@structref.register
class _TablesType(StructureType):
    pass


class Tables(structref.StructRefProxy):
    """A game for the compiled functions, as one argument.

    state, static, tech, economy: the engine's and the economy's.
    units: see `UnitTables`.
    role, category [T]: ROLE_* and IN_* of the kinds.
    sums [3, NUM_CATEGORIES]: work space.
    tags [N]: the units that lived when deaths were last listed, 0 in empty slots.
    witnesses [N]: who saw them then (bit p: player p).
    gone [N, 2]: the protocol's tags of the units that died since, and who saw them.
    map_head, map_tail: bytes of the map's part of the raw data before and behind the cells.
    out: bytes of the observation.
    """


_FIELDS = [
    "state",
    "static",
    "tech",
    "economy",
    "units",
    "role",
    "category",
    "sums",
    "tags",
    "witnesses",
    "gone",
    "map_head",
    "map_tail",
    "out",
]
structref.define_proxy(Tables, _TablesType, _FIELDS)


@entry
def make_tables(*fields):
    """`Tables` of the fields in the order of `_FIELDS`."""
    return Tables(*fields)


@kernel
def tag_of(ui, i, offset):
    return ((np.int64(i) + 1) << TAG_SHIFT) | ((np.int64(ui[i, I_TAG]) + offset) & TAG_MASK)


@entry
def note_tags(tables):
    """From now on `list_gone` lists the deaths of the units that live now."""
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
    advance_with_economy(state, tables.static, tables.tech, tables.economy, WORLD, loops)
    ui, standing = state.ui[0], 0
    for k in range(state.w[0, W_ALIVE]):
        i = state.alive[0, k]
        if ui[i, I_FLAGS] & FLAG_STRUCTURE != 0:
            standing |= 1 << ui[i, I_OWNER]
    return list_gone(tables, offset, count), standing
