"""The economy beside a battle: workers that gather, buildings that workers raise, units that buildings train, supply.

A battle's state knows nothing of it: worlds with an economy have one `Economy` of arrays more, and run
`advance_with_economy` in the place of `advance_world`. Its part of a loop comes before the battle's. It leads the
workers by three orders that the battle walks (`ORDER_GATHER`, `ORDER_RETURN`, `ORDER_BUILD` + the building's kind) and
creates the units.

Every number is in `data/economy.toml` with its source.
"""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import (
    F_FACING_X,
    F_FACING_Y,
    F_HEALTH,
    F_HEALTH_MAX,
    F_ORDER_X,
    F_ORDER_Y,
    F_SHIELD,
    F_SHIELD_MAX,
    F_SPEED,
    F_X,
    F_Y,
    FLAG_FLYING,
    FLAG_PASSING,
    I_ALIVE,
    I_FLAGS,
    I_KIND,
    I_ORDER,
    I_ORDER_TAG,
    I_ORDER_TARGET,
    I_OWNER,
    I_QUEUED,
    I_TAG,
    I_WAKE,
    K_INNER_RADIUS,
    LOOPS_PER_SECOND,
    MAX_OWNERS,
    ORDER_BUILD,
    ORDER_GATHER,
    ORDER_MOVE,
    ORDER_RETURN,
    ORDER_STOP,
    W_ALIVE,
    W_NEXT_TAG,
    State,
)
from envs.engine.state.orders import issue_order, next_order
from envs.engine.state.units import create_unit_in, kill_unit
from envs.engine.step import ONE_LOOP, advance_world
from envs.scenarios.units import Rules

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
FAST = 50.0  # by how much the debug command `fast_build` speeds work up

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

# In the place of a target's tag: the worker has taken the order to build in hand. Another order has another tag.
BEGUN = -7
REACH = np.float32(0.15)  # gap at which a worker is at a resource, a hall or a site
SPOTS = 32  # places around a building where a new unit is tried


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


@cache
def economy_data() -> dict[str, Any]:
    """The data file."""
    text = resources.files("envs.economy").joinpath("data/economy.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def source_of(table: str, name: str, key: str) -> str:
    """The source of one value in words: `source_of("trained", "Marine", "time")`."""
    data = economy_data()
    entry_ = data[table][name] if name else data[table]
    word = entry_.get("sources", {}).get(key, entry_["source"])
    return str(data["sources"][word])


def make_tech(rules: Rules) -> Tech:
    """The tables for the kinds of `rules`; kinds that the economy does not know are PLAIN."""
    data = economy_data()
    kinds = rules.kind
    count = len(rules.entries)
    i = np.zeros((count, NUM_TECH_INTS), np.int32)
    f = np.zeros((count, NUM_TECH_FLOATS), np.float32)
    i[:, X_MAKER] = i[:, X_REQUIRES] = -1
    for kind, unit in enumerate(rules.entries):
        cost = unit["cost"]
        i[kind, X_MINERALS], i[kind, X_VESPENE] = int(cost.get("minerals", 0)), int(cost.get("vespene", 0))
        f[kind, XF_SUPPLY] = max(cost.get("supply", 0), 0)
    for name, worker in data["worker"].items():
        if name in kinds:
            row = i[kinds[name]]
            row[X_ROLE] = WORKER
            row[X_GATHER], row[X_RETURN] = worker["gather"], worker["return"]
            row[X_BUFF_MINERALS], row[X_BUFF_VESPENE] = worker["carries_minerals"], worker["carries_vespene"]
            row[X_BUILDS] = ("stays", "leaves", "consumed").index(worker["builds"])
    for name, trained in data["trained"].items():
        if name in kinds and trained["at"] in kinds:
            _product(i[kinds[name]], trained, kinds[trained["at"]])
    for name, building in data["building"].items():
        if name not in kinds:
            continue
        kind = kinds[name]
        row = i[kind]
        _product(row, building, kinds.get(building["by"], -1))
        row[X_ROLE] = HALL if building.get("hall") else GAS if building.get("gas") else BUILDING
        row[X_WIDTH], row[X_HEIGHT] = building["footprint"]
        row[X_PROVIDES] = building.get("supply", 0)
        row[X_REQUIRES] = kinds.get(building.get("requires", ""), -1)
        row[X_POWERED] = building.get("power", False)
        row[X_RALLY] = building.get("rally", 0)
        f[kind, XF_POWER_RADIUS] = building.get("power_radius", 0)
        if building["by"] in kinds and row[X_MAKER] >= 0 and i[row[X_MAKER], X_BUILDS] == CONSUMED:
            # The catalog's cost holds that of the worker.
            row[X_MINERALS] -= i[row[X_MAKER], X_MINERALS]
    for name, role in (("MineralField", MINERALS), ("VespeneGeyser", GEYSER)):
        if name in kinds:
            i[kinds[name], X_ROLE] = role
            i[kinds[name], X_WIDTH], i[kinds[name], X_HEIGHT] = data["resource"][name]["footprint"]
    harvest = np.zeros((2, NUM_HARVEST), np.float32)
    for n, name in enumerate(("minerals", "vespene")):
        table = data["harvest"][name]
        harvest[n] = (
            table["amount"],
            round(table["time"] * LOOPS_PER_SECOND),
            round(table["delay"] * LOOPS_PER_SECOND),
            table["contents"],
            table["search"],
            table["workers"],
        )
    table = data["limits"]
    if table["queue"] > QUEUE_PLACES:
        raise ValueError(f"economy.toml: limits.queue is {table['queue']}, at most {QUEUE_PLACES}")
    limits = [table[key] for key in ("supply", "queue", "near_resources", "unfinished_health", "refund")]
    return Tech(i=i, f=f, harvest=harvest, limits=np.array(limits, np.float32))


def _product(row: np.ndarray, table: Mapping[str, Any], maker: int) -> None:
    row[X_MAKER], row[X_ABILITY] = maker, table["ability"]
    row[X_TIME] = round(table["time"] * LOOPS_PER_SECOND)


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


@entry
def reset_economy(economy, b):
    """Takes everything from world `b`."""
    economy.i[b, :, :] = 0
    economy.f[b, :, :] = 0.0
    economy.bank[b, :, :] = 0.0
    economy.made[b, :, :] = 0
    economy.listed[b, :] = 0


# --- looking around -------------------------------------------------------------------------------------------------


@kernel
def refresh(state, tech, economy, b, slot):
    """Forgets what the slot's last unit left, when another one is in it."""
    tag = state.ui[b, slot, I_TAG]
    if economy.i[b, E_TAG, slot] != tag:
        economy.i[b, :, slot] = 0
        economy.f[b, :, slot] = 0.0
        economy.i[b, E_TAG, slot] = tag
        role = tech.i[state.ui[b, slot, I_KIND], X_ROLE]
        if role == MINERALS:
            economy.i[b, E_CONTENTS, slot] = int(tech.harvest[0, R_CONTENTS])
        elif role == GEYSER:
            economy.i[b, E_CONTENTS, slot] = int(tech.harvest[1, R_CONTENTS])


@kernel
def list_works(state, tech, economy, b):
    """Brings `works` and `plain_supply` up to date.

    Most units of an army game are PLAIN and cost nothing here: who lives changes only with a death, after which fewer
    live, or with a new unit, which takes the next tag.
    """
    listed, count = economy.listed[b], state.w[b, W_ALIVE]
    if listed[L_NEXT_TAG] == state.w[b, W_NEXT_TAG] and listed[L_ALIVE] == count:
        return
    plain = economy.plain_supply[b]
    plain[:] = 0.0
    n = 0
    for m in range(count):
        slot = state.alive[b, m]
        kind = state.ui[b, slot, I_KIND]
        if tech.i[kind, X_ROLE] == PLAIN:
            plain[state.ui[b, slot, I_OWNER]] += tech.f[kind, XF_SUPPLY]
        else:
            refresh(state, tech, economy, b, slot)
            economy.works[b, n] = slot
            n += 1
    listed[L_COUNT] = n
    listed[L_NEXT_TAG], listed[L_ALIVE] = state.w[b, W_NEXT_TAG], count


@kernel
def is_unit(state, b, slot, tag):
    """Whether the slot still holds the living unit of that tag."""
    return slot >= 0 and state.ui[b, slot, I_ALIVE] != 0 and state.ui[b, slot, I_TAG] == tag


@kernel
def finished(state, economy, b, slot):
    return economy.i[b, E_TAG, slot] != state.ui[b, slot, I_TAG] or economy.i[b, E_UNFINISHED, slot] == 0


@kernel
def contents(economy, b, resource, role):
    """What is left in a patch, or under a gas building."""
    if role == GAS:
        return economy.i[b, E_CONTENTS, economy.i[b, E_RESOURCE, resource]]
    return economy.i[b, E_CONTENTS, resource]


@kernel
def gatherable(state, tech, economy, b, owner, slot, tag):
    """1 + the row of `tech.harvest` if a worker of `owner` can gather there, else 0."""
    if not is_unit(state, b, slot, tag):
        return 0
    role = tech.i[state.ui[b, slot, I_KIND], X_ROLE]
    if role == MINERALS:
        return 1
    if role != GAS or state.ui[b, slot, I_OWNER] != owner or not finished(state, economy, b, slot):
        return 0
    return 2 if contents(economy, b, slot, role) > 0 else 0


@kernel
def taken(state, economy, b, resource, i):
    """Whether a worker other than `i` is at the resource."""
    user = economy.i[b, E_USER, resource]
    return (
        economy.i[b, E_USER_TAG, resource] != 0
        and user != i
        and is_unit(state, b, user, economy.i[b, E_USER_TAG, resource])
        and state.ui[b, user, I_ORDER] == ORDER_GATHER
        and state.ui[b, user, I_ORDER_TARGET] == resource
        and economy.i[b, E_PHASE, user] == HARVESTING
    )


@kernel
def wanted(state, economy, b, resource, i):
    """Workers other than `i` that gather at the resource or are on the way to it."""
    count = 0
    for m in range(state.w[b, W_ALIVE]):
        n = state.alive[b, m]
        gathers = n != i and state.ui[b, n, I_ORDER] == ORDER_GATHER and economy.i[b, E_PHASE, n] != LEAVING
        count += gathers and state.ui[b, n, I_ORDER_TARGET] == resource
    return count


@kernel
def nearest_patch(state, tech, economy, b, i, x, y, only_free):
    """The mineral field nearest to (x, y) within the search radius, -1 if there is none."""
    best, most = -1, tech.harvest[0, R_SEARCH]
    nearest = most * most
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != MINERALS:
            continue
        dx, dy = state.uf[b, slot, F_X] - x, state.uf[b, slot, F_Y] - y
        if dx * dx + dy * dy < nearest:
            if only_free and wanted(state, economy, b, slot, i) > 0:
                continue
            best, nearest = slot, dx * dx + dy * dy
    return best


@kernel
def nearest_hall(state, tech, economy, b, owner, i):
    """The finished hall of `owner` nearest to unit `i`, -1 if it has none."""
    best, nearest = -1, np.float32(np.inf)
    for n in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, n]
        if state.ui[b, slot, I_OWNER] != owner or tech.i[state.ui[b, slot, I_KIND], X_ROLE] != HALL:
            continue
        dx, dy = state.uf[b, slot, F_X] - state.uf[b, i, F_X], state.uf[b, slot, F_Y] - state.uf[b, i, F_Y]
        if dx * dx + dy * dy < nearest and finished(state, economy, b, slot):
            best, nearest = slot, dx * dx + dy * dy
    return best


# --- what can be made -----------------------------------------------------------------------------------------------


@kernel
def snap(tech, kind, x, y):
    """The place on the grid that a building of a kind takes for (x, y): its cells are whole cells of the map."""
    width, height = tech.i[kind, X_WIDTH], tech.i[kind, X_HEIGHT]
    px = np.floor(x) + 0.5 if width % 2 == 1 else np.floor(x + 0.5)
    py = np.floor(y) + 0.5 if height % 2 == 1 else np.floor(y + 0.5)
    return np.float32(px), np.float32(py)


@kernel
def overlaps(tech, kind, x, y, other, ox, oy, margin):
    """Whether two footprints with `margin` cells between them overlap."""
    w = 0.5 * (tech.i[kind, X_WIDTH] + tech.i[other, X_WIDTH]) + margin
    h = 0.5 * (tech.i[kind, X_HEIGHT] + tech.i[other, X_HEIGHT]) + margin
    return abs(x - ox) < w - 0.01 and abs(y - oy) < h - 0.01


@kernel
def place_problem(state, static, tech, economy, b, owner, kind, x, y):
    """Why a building cannot stand with its centre at (x, y), which is on the grid; FINE if it can."""
    width, height = tech.i[kind, X_WIDTH], tech.i[kind, X_HEIGHT]
    x0, y0 = x - 0.5 * width, y - 0.5 * height
    if x0 < static.bounds[0] - 0.01 or y0 < static.bounds[1] - 0.01:
        return BAD_PLACE
    if x0 + width > static.bounds[2] + 0.01 or y0 + height > static.bounds[3] + 0.01:
        return BAD_PLACE
    for r in range(int(y0 + 0.01), int(y0 + height - 0.01) + 1):
        for c in range(int(x0 + 0.01), int(x0 + width - 0.01) + 1):
            if static.pathable[r, c] == 0:
                return BAD_PLACE
    gas = tech.i[kind, X_ROLE] == GAS
    geyser, powered = False, tech.i[kind, X_POWERED] == 0
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        other = state.ui[b, slot, I_KIND]
        ox, oy = state.uf[b, slot, F_X], state.uf[b, slot, F_Y]
        role = tech.i[other, X_ROLE]
        if not powered and state.ui[b, slot, I_OWNER] == owner and finished(state, economy, b, slot):
            reach = tech.f[other, XF_POWER_RADIUS]
            powered = (ox - x) * (ox - x) + (oy - y) * (oy - y) < reach * reach
        if tech.i[other, X_WIDTH] == 0:
            continue
        if gas and role == GEYSER and abs(ox - x) < 0.6 and abs(oy - y) < 0.6:
            geyser = True
            continue
        if overlaps(tech, kind, x, y, other, ox, oy, 0.0):
            return BAD_PLACE
        near = tech.i[kind, X_ROLE] == HALL and role in (MINERALS, GEYSER)
        if near and overlaps(tech, kind, x, y, other, ox, oy, tech.limits[R_NEAR]):
            return NEAR_RESOURCES
    if gas and not geyser:
        return NO_GEYSER
    return FINE if powered else NO_POWER


@kernel
def has_building(state, economy, b, owner, kind):
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        stands = state.ui[b, slot, I_OWNER] == owner and state.ui[b, slot, I_KIND] == kind
        if stands and finished(state, economy, b, slot):
            return True
    return False


@kernel
def cheats(economy, b, owner, which):
    return int(economy.bank[b, owner, B_CHEATS]) & which != 0


@kernel
def purchase_problem(state, tech, economy, b, owner, kind):
    """Why `owner` cannot afford or may not yet make a kind; supply is judged when production begins."""
    bank = economy.bank
    requires = tech.i[kind, X_REQUIRES]
    needs = requires >= 0 and not cheats(economy, b, owner, CHEAT_TECH)
    if needs and not has_building(state, economy, b, owner, requires):
        return NO_TECH
    if cheats(economy, b, owner, CHEAT_FREE):
        return FINE
    if bank[b, owner, B_MINERALS] < tech.i[kind, X_MINERALS]:
        return NO_MINERALS
    if bank[b, owner, B_VESPENE] < tech.i[kind, X_VESPENE]:
        return NO_VESPENE
    return FINE


@kernel
def supply_left(tech, economy, b, owner):
    if cheats(economy, b, owner, CHEAT_FOOD):
        return np.float64(tech.limits[R_SUPPLY])
    most = min(economy.bank[b, owner, B_SUPPLY], np.float64(tech.limits[R_SUPPLY]))
    return most - economy.bank[b, owner, B_SUPPLY_USED]


@kernel
def pay(tech, economy, b, owner, kind, share):
    """Takes `share` of what a kind costs; a negative share is given back."""
    if cheats(economy, b, owner, CHEAT_FREE) and share > 0.0:
        return
    bank = economy.bank
    minerals, vespene = share * tech.i[kind, X_MINERALS], share * tech.i[kind, X_VESPENE]
    bank[b, owner, B_MINERALS] -= minerals
    bank[b, owner, B_VESPENE] -= vespene
    bank[b, owner, B_SPENT_MINERALS] += minerals
    bank[b, owner, B_SPENT_VESPENE] += vespene


@entry
def train_problem(state, tech, economy, b, slot, kind):
    """Why the building in `slot` cannot take a unit of `kind` into production now; FINE if it can."""
    refresh(state, tech, economy, b, slot)
    owner = state.ui[b, slot, I_OWNER]
    if tech.i[kind, X_MAKER] != state.ui[b, slot, I_KIND]:
        return NOT_MADE_HERE
    if economy.i[b, E_UNFINISHED, slot] != 0:
        return UNFINISHED
    if economy.i[b, E_QUEUED, slot] >= int(tech.limits[R_QUEUE]):
        return QUEUE_FULL
    problem = purchase_problem(state, tech, economy, b, owner, kind)
    if problem != FINE:
        return problem
    if economy.i[b, E_QUEUED, slot] == 0 and tech.f[kind, XF_SUPPLY] > supply_left(tech, economy, b, owner):
        return NO_SUPPLY
    return FINE


@entry
def train(state, tech, economy, b, slot, kind):
    """Takes a unit into production and pays for it; True if it did."""
    if train_problem(state, tech, economy, b, slot, kind) != FINE:
        return False
    owner = state.ui[b, slot, I_OWNER]
    pay(tech, economy, b, owner, kind, 1.0)
    economy.i[b, E_QUEUE + economy.i[b, E_QUEUED, slot], slot] = kind
    economy.i[b, E_QUEUED, slot] += 1
    return True


@entry
def cancel_training(state, tech, economy, b, slot, place):
    """Takes the unit at `place` of the queue out of it (-1: the last) and gives its cost back; True if there is one."""
    refresh(state, tech, economy, b, slot)
    ei = economy.i
    count = ei[b, E_QUEUED, slot]
    if place < 0:
        place = count - 1
    if place < 0 or place >= count:
        return False
    pay(tech, economy, b, state.ui[b, slot, I_OWNER], ei[b, E_QUEUE + place, slot], -1.0)
    for n in range(place, count - 1):
        ei[b, E_QUEUE + n, slot] = ei[b, E_QUEUE + n + 1, slot]
    ei[b, E_QUEUED, slot] = count - 1
    if place == 0:
        ei[b, E_STARTED, slot] = 0
        economy.f[b, EF_PROGRESS, slot] = 0.0
    return True


@entry
def cancel_building(state, tech, economy, b, slot):
    """Takes an unfinished building down and gives part of its cost back; True if there is one."""
    refresh(state, tech, economy, b, slot)
    if economy.i[b, E_UNFINISHED, slot] == 0:
        return False
    pay(tech, economy, b, state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND], -np.float64(tech.limits[R_REFUND]))
    kill_unit(state, b, slot)
    return True


@entry
def build_problem(state, static, tech, economy, b, slot, kind, x, y):
    """Why the worker in `slot` cannot be sent to build at (x, y), which is on the grid; FINE if it can."""
    refresh(state, tech, economy, b, slot)
    if tech.i[kind, X_MAKER] != state.ui[b, slot, I_KIND] or tech.i[kind, X_WIDTH] == 0:
        return NOT_MADE_HERE
    owner = state.ui[b, slot, I_OWNER]
    problem = purchase_problem(state, tech, economy, b, owner, kind)
    return problem if problem != FINE else place_problem(state, static, tech, economy, b, owner, kind, x, y)


@entry
def purchase(state, tech, economy, b, owner, kind):
    """`purchase_problem` for other modules."""
    return purchase_problem(state, tech, economy, b, owner, kind)


@entry
def site_problem(state, static, tech, economy, b, owner, kind, x, y):
    """`place_problem` for other modules."""
    return place_problem(state, static, tech, economy, b, owner, kind, x, y)


@entry
def grid_place(tech, kind, x, y):
    """`snap` for other modules."""
    return snap(tech, kind, x, y)


@entry
def can_gather(state, tech, economy, b, slot, target):
    """Whether the unit in `slot` is a worker and `target` something that it can gather from."""
    if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != WORKER:
        return False
    refresh(state, tech, economy, b, target)
    return gatherable(state, tech, economy, b, state.ui[b, slot, I_OWNER], target, state.ui[b, target, I_TAG]) > 0


# --- a loop ---------------------------------------------------------------------------------------------------------


@kernel
def stay(state, b, i):
    """Stands still at once."""
    state.uf[b, i, F_ORDER_X] = state.uf[b, i, F_X]
    state.uf[b, i, F_ORDER_Y] = state.uf[b, i, F_Y]
    state.uf[b, i, F_SPEED] = 0.0


@kernel
def approach(state, b, i, x, y, reach):
    """Sends the worker to within `reach` of a place, by the shortest way; True when it is there."""
    f = state.uf
    dx, dy = f[b, i, F_X] - x, f[b, i, F_Y] - y
    d = np.sqrt(dx * dx + dy * dy)
    if d <= reach + REACH:
        stay(state, b, i)
        return True
    f[b, i, F_ORDER_X] = x + dx * (reach + np.float32(0.5) * REACH) / d
    f[b, i, F_ORDER_Y] = y + dy * (reach + np.float32(0.5) * REACH) / d
    return False


@kernel
def walk_to(state, static, b, i, j):
    """Sends the worker to the edge of unit `j`; True when it is there."""
    mine, theirs = state.ui[b, i, I_KIND], state.ui[b, j, I_KIND]
    reach = static.kind_f[mine, K_INNER_RADIUS] + static.kind_f[theirs, K_INNER_RADIUS]
    return approach(state, b, i, state.uf[b, j, F_X], state.uf[b, j, F_Y], reach)


@kernel
def take_order(state, economy, b, i, order, target):
    """Gives the worker an order of the economy without touching the queue of its orders."""
    state.ui[b, i, I_ORDER] = order
    state.ui[b, i, I_ORDER_TARGET] = target
    state.ui[b, i, I_ORDER_TAG] = state.ui[b, target, I_TAG] if target >= 0 else 0
    economy.i[b, E_PHASE, i] = ON_THE_WAY


@kernel
def gather_again(state, tech, economy, b, i):
    """After a delivery: on with the queue, back to the resource, or to the nearest free patch."""
    resource, tag = economy.i[b, E_RESOURCE, i], economy.i[b, E_RESOURCE_TAG, i]
    if state.ui[b, i, I_QUEUED] > 0 or tag == 0:
        next_order(state, b, i)
        return
    if gatherable(state, tech, economy, b, state.ui[b, i, I_OWNER], resource, tag) == 0:
        resource = nearest_patch(state, tech, economy, b, i, state.uf[b, i, F_X], state.uf[b, i, F_Y], False)
    if resource < 0:
        next_order(state, b, i)
    else:
        take_order(state, economy, b, i, ORDER_GATHER, resource)


@kernel
def lead_gatherer(state, static, tech, economy, b, i):
    ei = economy.i
    owner = state.ui[b, i, I_OWNER]
    resource = state.ui[b, i, I_ORDER_TARGET]
    what = gatherable(state, tech, economy, b, owner, resource, state.ui[b, i, I_ORDER_TAG])
    if what == 0 and ei[b, E_PHASE, i] != LEAVING:
        other = nearest_patch(state, tech, economy, b, i, state.uf[b, i, F_X], state.uf[b, i, F_Y], False)
        if other < 0:
            next_order(state, b, i)
        else:
            take_order(state, economy, b, i, ORDER_GATHER, other)
        return
    if what != 0 and ei[b, E_RESOURCE_TAG, i] != state.ui[b, resource, I_TAG]:
        # Told to gather somewhere else.
        ei[b, E_RESOURCE, i] = resource
        ei[b, E_RESOURCE_TAG, i] = state.ui[b, resource, I_TAG]
        if ei[b, E_PHASE, i] != LEAVING:
            ei[b, E_PHASE, i] = ON_THE_WAY
    phase = ei[b, E_PHASE, i]
    if phase == LEAVING:
        stay(state, b, i)
        ei[b, E_TIMER, i] -= 1
        if ei[b, E_TIMER, i] <= 0:
            if state.ui[b, i, I_QUEUED] > 0:
                next_order(state, b, i)
            else:
                take_order(state, economy, b, i, ORDER_RETURN, nearest_hall(state, tech, economy, b, owner, i))
        return
    if ei[b, E_CARRIES, i] != NOTHING:
        take_order(state, economy, b, i, ORDER_RETURN, nearest_hall(state, tech, economy, b, owner, i))
        return
    if phase == HARVESTING:
        stay(state, b, i)
        ei[b, E_TIMER, i] -= 1
        if ei[b, E_TIMER, i] > 0:
            return
        store = ei[b, E_RESOURCE, resource] if what == 2 else resource
        amount = min(int(tech.harvest[what - 1, R_AMOUNT]), ei[b, E_CONTENTS, store])
        ei[b, E_CONTENTS, store] -= amount
        ei[b, E_CARRIES, i] = what
        ei[b, E_AMOUNT, i] = amount
        ei[b, E_USER_TAG, resource] = 0
        ei[b, E_PHASE, i] = LEAVING
        ei[b, E_TIMER, i] = int(tech.harvest[what - 1, R_DELAY])
        if what == 1 and ei[b, E_CONTENTS, store] <= 0:
            kill_unit(state, b, resource)
        return
    if not walk_to(state, static, b, i, resource):
        ei[b, E_PHASE, i] = ON_THE_WAY
        return
    if not taken(state, economy, b, resource, i):
        ei[b, E_USER, resource] = i
        ei[b, E_USER_TAG, resource] = state.ui[b, i, I_TAG]
        ei[b, E_PHASE, i] = HARVESTING
        ei[b, E_TIMER, i] = int(tech.harvest[what - 1, R_TIME])
        return
    if phase == ON_THE_WAY and what == 1:
        # The patch is taken: to a free one, if there is one.
        x, y = state.uf[b, resource, F_X], state.uf[b, resource, F_Y]
        other = nearest_patch(state, tech, economy, b, i, x, y, True)
        if other >= 0:
            take_order(state, economy, b, i, ORDER_GATHER, other)
            return
    ei[b, E_PHASE, i] = WAITING


@kernel
def lead_carrier(state, static, tech, economy, b, i):
    ei = economy.i
    if ei[b, E_CARRIES, i] == NOTHING:
        gather_again(state, tech, economy, b, i)
        return
    owner = state.ui[b, i, I_OWNER]
    hall, tag = state.ui[b, i, I_ORDER_TARGET], state.ui[b, i, I_ORDER_TAG]
    if not is_unit(state, b, hall, tag) or state.ui[b, hall, I_OWNER] != owner:
        hall = nearest_hall(state, tech, economy, b, owner, i)
        if hall < 0:
            next_order(state, b, i)
            return
        take_order(state, economy, b, i, ORDER_RETURN, hall)
    if not walk_to(state, static, b, i, hall):
        return
    amount = ei[b, E_AMOUNT, i]
    if ei[b, E_CARRIES, i] == CARRIES_MINERALS:
        economy.bank[b, owner, B_MINERALS] += amount
        economy.bank[b, owner, B_COLLECTED_MINERALS] += amount
    else:
        economy.bank[b, owner, B_VESPENE] += amount
        economy.bank[b, owner, B_COLLECTED_VESPENE] += amount
    ei[b, E_CARRIES, i] = NOTHING
    ei[b, E_AMOUNT, i] = 0
    gather_again(state, tech, economy, b, i)


@kernel
def finish_building(state, tech, economy, b, slot):
    economy.i[b, E_UNFINISHED, slot] = 0
    economy.i[b, E_ALONE, slot] = 0
    economy.f[b, EF_PROGRESS, slot] = 0.0
    owner, kind = state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND]
    economy.made[b, owner, kind] += 1
    economy.bank[b, owner, B_VALUE_BUILDINGS] += tech.i[kind, X_MINERALS] + tech.i[kind, X_VESPENE]


@kernel
def work_on(state, tech, economy, b, slot):
    """A loop of construction; True when the building is finished."""
    kind, owner = state.ui[b, slot, I_KIND], state.ui[b, slot, I_OWNER]
    time = max(np.float32(tech.i[kind, X_TIME]), np.float32(1.0))
    work = np.float32(FAST if cheats(economy, b, owner, CHEAT_FAST) else 1.0)
    work = min(work, time - economy.f[b, EF_PROGRESS, slot])
    economy.f[b, EF_PROGRESS, slot] += work
    share = (np.float32(1.0) - tech.limits[R_UNFINISHED]) * work / time
    f = state.uf
    f[b, slot, F_HEALTH] = min(f[b, slot, F_HEALTH] + share * f[b, slot, F_HEALTH_MAX], f[b, slot, F_HEALTH_MAX])
    f[b, slot, F_SHIELD] = min(f[b, slot, F_SHIELD] + share * f[b, slot, F_SHIELD_MAX], f[b, slot, F_SHIELD_MAX])
    if economy.f[b, EF_PROGRESS, slot] >= time:
        finish_building(state, tech, economy, b, slot)
        return True
    return False


@kernel
def begin_building(state, static, tech, economy, b, i, kind, x, y):
    """Puts the foundations down and pays; the slot, -1 if it cannot be."""
    owner = state.ui[b, i, I_OWNER]
    if purchase_problem(state, tech, economy, b, owner, kind) != FINE:
        return -1
    if place_problem(state, static, tech, economy, b, owner, kind, x, y) != FINE:
        return -1
    slot = create_unit_in(state, static, b, kind, owner, x, y, 0, state.ui.shape[1])
    if slot < 0:
        return -1
    pay(tech, economy, b, owner, kind, 1.0)
    refresh(state, tech, economy, b, slot)
    economy.i[b, E_UNFINISHED, slot] = 1
    state.uf[b, slot, F_HEALTH] = tech.limits[R_UNFINISHED] * state.uf[b, slot, F_HEALTH_MAX]
    state.uf[b, slot, F_SHIELD] = tech.limits[R_UNFINISHED] * state.uf[b, slot, F_SHIELD_MAX]
    if tech.i[kind, X_ROLE] == GAS:
        for m in range(state.w[b, W_ALIVE]):
            other = state.alive[b, m]
            here = abs(state.uf[b, other, F_X] - x) < 0.6 and abs(state.uf[b, other, F_Y] - y) < 0.6
            if here and tech.i[state.ui[b, other, I_KIND], X_ROLE] == GEYSER:
                refresh(state, tech, economy, b, other)
                economy.i[b, E_RESOURCE, slot] = other
                economy.i[b, E_RESOURCE_TAG, slot] = state.ui[b, other, I_TAG]
    return slot


@kernel
def lead_builder(state, static, tech, economy, b, i):
    ei = economy.i
    kind = state.ui[b, i, I_ORDER] - ORDER_BUILD
    if state.ui[b, i, I_ORDER_TAG] != BEGUN:
        ei[b, E_PHASE, i] = ON_THE_WAY
        ei[b, E_SITE_TAG, i] = 0
        economy.f[b, EF_SITE_X, i] = state.uf[b, i, F_ORDER_X]
        economy.f[b, EF_SITE_Y, i] = state.uf[b, i, F_ORDER_Y]
        target = state.ui[b, i, I_ORDER_TARGET]
        if target >= 0 and state.ui[b, target, I_KIND] == kind:
            # Work goes on at a building that another worker left.
            ei[b, E_SITE, i] = target
            ei[b, E_SITE_TAG, i] = state.ui[b, i, I_ORDER_TAG]
        state.ui[b, i, I_ORDER_TAG] = BEGUN
    x, y = economy.f[b, EF_SITE_X, i], economy.f[b, EF_SITE_Y, i]
    site, tag = ei[b, E_SITE, i], ei[b, E_SITE_TAG, i]
    if tag != 0 and (not is_unit(state, b, site, tag) or ei[b, E_UNFINISHED, site] == 0):
        next_order(state, b, i)
        return
    if ei[b, E_PHASE, i] == CONSTRUCTING:
        stay(state, b, i)
        if work_on(state, tech, economy, b, site):
            if tech.i[kind, X_ROLE] == GAS and state.ui[b, i, I_QUEUED] == 0:
                take_order(state, economy, b, i, ORDER_GATHER, site)
            else:
                next_order(state, b, i)
        return
    reach = static.kind_f[kind, K_INNER_RADIUS] + static.kind_f[state.ui[b, i, I_KIND], K_INNER_RADIUS]
    if not approach(state, b, i, x, y, reach):
        return
    if tag == 0:
        site = begin_building(state, static, tech, economy, b, i, kind, x, y)
        if site < 0:
            next_order(state, b, i)
            return
        ei[b, E_SITE, i] = site
        ei[b, E_SITE_TAG, i] = state.ui[b, site, I_TAG]
    builds = tech.i[state.ui[b, i, I_KIND], X_BUILDS]
    if builds == STAYS:
        ei[b, E_PHASE, i] = CONSTRUCTING
        stay(state, b, i)
    else:
        ei[b, E_ALONE, site] = 1
        if builds == CONSUMED:
            kill_unit(state, b, i)
        else:
            next_order(state, b, i)


@kernel
def crowded(state, static, b, kind, x, y):
    """Whether a new unit of `kind` at (x, y) would stand in another one or off the ground."""
    radius = static.kind_f[kind, K_INNER_RADIUS]
    bounds = static.bounds
    if x < bounds[0] + radius or y < bounds[1] + radius or x > bounds[2] - radius or y > bounds[3] - radius:
        return True
    if static.pathable[int(y), int(x)] == 0:
        return True
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        if state.ui[b, slot, I_FLAGS] & (FLAG_FLYING | FLAG_PASSING) == 0:
            dx, dy = state.uf[b, slot, F_X] - x, state.uf[b, slot, F_Y] - y
            reach = radius + static.kind_f[state.ui[b, slot, I_KIND], K_INNER_RADIUS]
            if dx * dx + dy * dy < reach * reach * np.float32(0.98):
                return True
    return False


@kernel
def hand_over(state, static, tech, economy, b, slot, kind):
    """A trained unit leaves the building, towards its rally point (else to the south); False if there is no room."""
    owner = state.ui[b, slot, I_OWNER]
    x, y = state.uf[b, slot, F_X], state.uf[b, slot, F_Y]
    rally, target = economy.i[b, E_RALLY, slot], np.int64(-1)
    gx, gy = x, y - np.float32(1.0)
    if rally == RALLY_UNIT:
        target = np.int64(economy.i[b, E_RALLY_SLOT, slot])
        if is_unit(state, b, target, economy.i[b, E_RALLY_TAG, slot]):
            gx, gy = state.uf[b, target, F_X], state.uf[b, target, F_Y]
        else:
            rally, target = NO_RALLY, np.int64(-1)
    elif rally == RALLY_POINT:
        gx, gy = economy.f[b, EF_RALLY_X, slot], economy.f[b, EF_RALLY_Y, slot]
    angle = np.arctan2(gy - y, gx - x)
    reach = static.kind_f[state.ui[b, slot, I_KIND], K_INNER_RADIUS] + static.kind_f[kind, K_INNER_RADIUS] + 0.05
    made = -1
    for ring in range(3):
        for n in range(SPOTS):
            # At 0, +1, -1, +2, -2 ... steps from the way to the rally point.
            turn = ((n + 1) // 2 if n % 2 == 1 else -(n // 2)) * (2.0 * np.pi / SPOTS)
            distance = reach + ring * 2.0 * static.kind_f[kind, K_INNER_RADIUS]
            px = np.float32(x + distance * np.cos(angle + turn))
            py = np.float32(y + distance * np.sin(angle + turn))
            if made < 0 and not crowded(state, static, b, kind, px, py):
                made = create_unit_in(state, static, b, kind, owner, px, py, 0, state.ui.shape[1])
    if made < 0:
        return False
    state.uf[b, made, F_FACING_X] = np.float32(np.cos(angle))
    state.uf[b, made, F_FACING_Y] = np.float32(np.sin(angle))
    refresh(state, tech, economy, b, made)
    economy.made[b, owner, kind] += 1
    economy.bank[b, owner, B_VALUE_UNITS] += tech.i[kind, X_MINERALS] + tech.i[kind, X_VESPENE]
    order = np.int64(ORDER_MOVE)
    gathers = rally == RALLY_UNIT and tech.i[kind, X_ROLE] == WORKER
    if gathers and gatherable(state, tech, economy, b, owner, target, state.ui[b, target, I_TAG]) > 0:
        order = np.int64(ORDER_GATHER)
    else:
        target = np.int64(-1)
    if rally != NO_RALLY:
        issue_order(state, static, b, np.int64(made), order, target, gx, gy, False)
    return True


@kernel
def run_production(state, static, tech, economy, b, slot):
    ei = economy.i
    owner = state.ui[b, slot, I_OWNER]
    kind = ei[b, E_QUEUE, slot]
    if ei[b, E_STARTED, slot] == 0:
        if tech.f[kind, XF_SUPPLY] > supply_left(tech, economy, b, owner):
            return
        ei[b, E_STARTED, slot] = 1
        economy.f[b, EF_PROGRESS, slot] = 0.0
        economy.bank[b, owner, B_SUPPLY_USED] += tech.f[kind, XF_SUPPLY]
    work = np.float32(FAST if cheats(economy, b, owner, CHEAT_FAST) else 1.0)
    economy.f[b, EF_PROGRESS, slot] = min(economy.f[b, EF_PROGRESS, slot] + work, np.float32(tech.i[kind, X_TIME]))
    if economy.f[b, EF_PROGRESS, slot] < tech.i[kind, X_TIME]:
        return
    if hand_over(state, static, tech, economy, b, slot, kind):
        ei[b, E_QUEUED, slot] -= 1
        for n in range(ei[b, E_QUEUED, slot]):
            ei[b, E_QUEUE + n, slot] = ei[b, E_QUEUE + n + 1, slot]
        ei[b, E_STARTED, slot] = 0
        economy.f[b, EF_PROGRESS, slot] = 0.0


@entry
def count_supply(state, tech, economy, b):
    """Supply used (living units, and those under way in production) and provided."""
    ei, bank = economy.i, economy.bank
    list_works(state, tech, economy, b)
    for owner in range(bank.shape[1]):
        bank[b, owner, B_SUPPLY_USED] = economy.plain_supply[b, owner]
        bank[b, owner, B_SUPPLY] = 0.0
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        owner, kind = state.ui[b, slot, I_OWNER], state.ui[b, slot, I_KIND]
        bank[b, owner, B_SUPPLY_USED] += tech.f[kind, XF_SUPPLY]
        if ei[b, E_UNFINISHED, slot] == 0:
            bank[b, owner, B_SUPPLY] += tech.i[kind, X_PROVIDES]
        if ei[b, E_QUEUED, slot] > 0 and ei[b, E_STARTED, slot] != 0:
            bank[b, owner, B_SUPPLY_USED] += tech.f[ei[b, E_QUEUE, slot], XF_SUPPLY]


@kernel
def count_workers(state, tech, economy, b):
    """Writes E_ASSIGNED of every patch, gas building and hall: the workers that gather there."""
    ei = economy.i
    list_works(state, tech, economy, b)
    for n in range(economy.listed[b, L_COUNT]):
        ei[b, E_ASSIGNED, economy.works[b, n]] = 0
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        if tech.i[state.ui[b, slot, I_KIND], X_ROLE] != WORKER:
            continue
        order = state.ui[b, slot, I_ORDER]
        resource, tag = ei[b, E_RESOURCE, slot], ei[b, E_RESOURCE_TAG, slot]
        if order == ORDER_GATHER:
            resource, tag = state.ui[b, slot, I_ORDER_TARGET], state.ui[b, slot, I_ORDER_TAG]
        elif order != ORDER_RETURN or tag == 0:
            continue
        if is_unit(state, b, resource, tag):
            ei[b, E_ASSIGNED, resource] += 1
            if tech.i[state.ui[b, resource, I_KIND], X_ROLE] == MINERALS:
                hall = nearest_hall(state, tech, economy, b, state.ui[b, slot, I_OWNER], resource)
                if hall >= 0:
                    ei[b, E_ASSIGNED, hall] += 1


@kernel
def run_economy(state, static, tech, economy, b):
    """The economy's part of a loop of world `b`, before the battle's."""
    ei, bank = economy.i, economy.bank
    count_supply(state, tech, economy, b)
    # What is made in this loop has its turn in the next one.
    for n in range(economy.listed[b, L_COUNT]):
        slot = economy.works[b, n]
        if not is_unit(state, b, slot, ei[b, E_TAG, slot]):
            continue
        kind, owner = state.ui[b, slot, I_KIND], state.ui[b, slot, I_OWNER]
        role = tech.i[kind, X_ROLE]
        if role == WORKER:
            order = state.ui[b, slot, I_ORDER]
            state.ui[b, slot, I_WAKE] = 0  # its orders and flags change here
            if order < ORDER_GATHER:
                state.ui[b, slot, I_FLAGS] &= ~FLAG_PASSING
                ei[b, E_PHASE, slot] = ON_THE_WAY
                bank[b, owner, B_IDLE_WORKERS] += order == ORDER_STOP
                continue
            # As in the game, workers at work walk through each other.
            state.ui[b, slot, I_FLAGS] |= FLAG_PASSING
            if order == ORDER_GATHER:
                lead_gatherer(state, static, tech, economy, b, slot)
            elif order == ORDER_RETURN:
                lead_carrier(state, static, tech, economy, b, slot)
            else:
                lead_builder(state, static, tech, economy, b, slot)
        elif ei[b, E_UNFINISHED, slot] != 0:
            if ei[b, E_ALONE, slot] != 0:
                work_on(state, tech, economy, b, slot)
        elif ei[b, E_QUEUED, slot] > 0:
            run_production(state, static, tech, economy, b, slot)
        elif role != PLAIN and tech.i[kind, X_RALLY] != 0:
            bank[b, owner, B_IDLE_PRODUCTION] += 1.0


@entry
def advance_with_economy(state, static, tech, economy, b, loops):
    """`advance_world` with an economy."""
    for _ in range(loops):
        run_economy(state, static, tech, economy, b)
        advance_world(state, static, b, ONE_LOOP)
    count_supply(state, tech, economy, b)
