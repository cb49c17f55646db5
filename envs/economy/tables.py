"""What the economy's arrays hold: names of their columns, and the tuples `Tech` and `Economy` of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.engine.state.layout import MAX_OWNERS, State

QUEUE_PLACES = 5

# --- what a kind is to the economy: tech.i[kind, X_*], tech.f[kind, XF_*] -------------------------------------------
(
    X_ROLE,
    X_MAKER,  # kind that builds or trains it, -1 = nobody
    X_ABILITY,  # of making it
    X_REQUIRES,  # kind of a building that must stand, -1 = none
    X_MINERALS,
    X_VESPENE,
    X_TIME,  # loops
    X_WIDTH,  # footprint in cells, 0 = none
    X_HEIGHT,
    X_PROVIDES,  # supply
    X_POWERED,  # 1: needs power
    X_BUILDS,  # what becomes of a worker that builds: STAYS, LEAVES, CONSUMED
    X_GATHER,  # abilities of a worker
    X_RETURN,
    X_RALLY,  # ability that sets a building's rally point
    X_BUFF_MINERALS,  # buffs that tell what a worker carries
    X_BUFF_VESPENE,
    NUM_TECH_INTS,
) = range(18)
XF_SUPPLY, XF_POWER_RADIUS, NUM_TECH_FLOATS = range(3)
PLAIN, WORKER, HALL, MINERALS, GEYSER, GAS, BUILDING = range(7)
STAYS, LEAVES, CONSUMED = range(3)
# tech.rules[R_*]; the values of minerals come first, then those of vespene
(
    R_AMOUNT,
    R_TIME,
    R_DELAY,
    R_CONTENTS,
    R_SEARCH,
    R_WORKERS,
    NUM_HARVEST,
) = range(7)
R_SUPPLY, R_QUEUE, R_NEAR, R_UNFINISHED, R_REFUND, NUM_LIMITS = range(6)

# --- integers of a unit: economy.i[b, E_*, slot] --------------------------------------------------------------------
(
    E_TAG,  # whose values these are; others are stale
    E_PHASE,  # of a worker's job
    E_TIMER,  # loops left of the phase
    E_RESOURCE,  # a worker's patch or gas building; a gas building's geyser: slot and tag
    E_RESOURCE_TAG,
    E_CARRIES,  # NOTHING, CARRIES_MINERALS, CARRIES_VESPENE
    E_AMOUNT,
    E_CONTENTS,  # of a resource
    E_USER,  # of a resource: the worker at it, slot and tag
    E_USER_TAG,
    E_UNFINISHED,  # 1: a building that is not finished
    E_ALONE,  # 1: its construction goes on without a worker
    E_SITE,  # what a worker builds: slot and tag
    E_SITE_TAG,
    E_QUEUED,  # units in production
    E_STARTED,  # 1: the first of them is under way
    E_RALLY,  # NO_RALLY, RALLY_POINT, RALLY_UNIT
    E_RALLY_SLOT,
    E_RALLY_TAG,
    E_ASSIGNED,  # workers that have this resource, or a resource of this hall
    E_QUEUE,  # first of the kinds in production
) = range(21)
NUM_ECONOMY_INTS = E_QUEUE + QUEUE_PLACES
(
    EF_PROGRESS,  # loops of work done on the building, or on the unit in production
    EF_RALLY_X,
    EF_RALLY_Y,
    EF_SITE_X,
    EF_SITE_Y,
    NUM_ECONOMY_FLOATS,
) = range(6)
ON_THE_WAY, WAITING, HARVESTING, LEAVING, CONSTRUCTING = range(5)
NOTHING, CARRIES_MINERALS, CARRIES_VESPENE = range(3)
NO_RALLY, RALLY_POINT, RALLY_UNIT = range(3)

# --- per owner: economy.bank[b, owner, B_*] -------------------------------------------------------------------------
(
    B_MINERALS,
    B_VESPENE,
    B_SUPPLY_USED,
    B_SUPPLY,  # provided
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_SPENT_MINERALS,
    B_SPENT_VESPENE,
    B_VALUE_UNITS,  # cost of all that was made
    B_VALUE_BUILDINGS,
    B_IDLE_WORKERS,  # loops, summed over workers
    B_IDLE_PRODUCTION,  # loops, summed over buildings that train
    B_CHEATS,  # bits of CHEAT_*
    NUM_BANK,
) = range(14)
CHEAT_FREE, CHEAT_FOOD, CHEAT_TECH, CHEAT_FAST = 1, 2, 4, 8

# --- what the list of works is of: economy.listed[b, L_*] -----------------------------------------------------------
L_COUNT, L_NEXT_TAG, L_ALIVE, NUM_LISTED = range(4)

# Why something cannot be made.
(
    FINE,
    NOT_MADE_HERE,
    NO_MINERALS,
    NO_VESPENE,
    NO_SUPPLY,
    NO_TECH,
    QUEUE_FULL,
    BAD_PLACE,
    NEAR_RESOURCES,
    NO_GEYSER,
    NO_POWER,
    UNFINISHED,
) = range(12)


class Tech(NamedTuple):
    """What the economy knows of the kinds of a `Rules`; does not change."""

    i: np.ndarray  # int32 [T, NUM_TECH_INTS]
    f: np.ndarray  # float32 [T, NUM_TECH_FLOATS]
    harvest: np.ndarray  # float32 [2, NUM_HARVEST]: minerals, vespene
    limits: np.ndarray  # float32 [NUM_LIMITS]


class Economy(NamedTuple):
    """What changes, of all worlds; see `new_economy`."""

    i: np.ndarray  # int32 [B, NUM_ECONOMY_INTS, N]
    f: np.ndarray  # float32 [B, NUM_ECONOMY_FLOATS, N]
    bank: np.ndarray  # float64 [B, MAX_OWNERS, NUM_BANK]
    made: np.ndarray  # int32 [B, MAX_OWNERS, T]: units trained and buildings finished
    works: np.ndarray  # int32 [B, N]: slots of the units that are not PLAIN, increasing
    listed: np.ndarray  # int64 [B, NUM_LISTED]: how many they are, and of which units the list is
    plain_supply: np.ndarray  # float64 [B, MAX_OWNERS]: used by the PLAIN ones


def new_economy(state: State, tech: Tech) -> Economy:
    """An economy for the worlds of `state`, without money."""
    worlds, slots, _ = state.ui.shape
    return Economy(
        i=np.zeros((worlds, NUM_ECONOMY_INTS, slots), np.int32),
        f=np.zeros((worlds, NUM_ECONOMY_FLOATS, slots), np.float32),
        bank=np.zeros((worlds, MAX_OWNERS, NUM_BANK)),
        made=np.zeros((worlds, MAX_OWNERS, tech.i.shape[0]), np.int32),
        works=np.zeros((worlds, slots), np.int32),
        listed=np.zeros((worlds, NUM_LISTED), np.int64),
        plain_supply=np.zeros((worlds, MAX_OWNERS)),
    )


def no_economy(tech: Tech) -> Economy:
    """The arrays of a world without an economy: of one world without slots."""
    return Economy(
        i=np.zeros((1, NUM_ECONOMY_INTS, 0), np.int32),
        f=np.zeros((1, NUM_ECONOMY_FLOATS, 0), np.float32),
        bank=np.zeros((1, MAX_OWNERS, NUM_BANK)),
        made=np.zeros((1, MAX_OWNERS, tech.i.shape[0]), np.int32),
        works=np.zeros((1, 0), np.int32),
        listed=np.zeros((1, NUM_LISTED), np.int64),
        plain_supply=np.zeros((1, MAX_OWNERS)),
    )
