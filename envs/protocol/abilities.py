"""The game's ability ids and the engine's orders: what a command means for a unit, and what a unit can do."""

from __future__ import annotations

from dataclasses import dataclass

from s2clientprotocol import error_pb2

from envs.economy.buildings import build_problem, cancel_building
from envs.economy.gathering import can_gather
from envs.economy.placement import grid_place
from envs.economy.production import cancel_training, train, train_problem
from envs.economy.purchases import purchase
from envs.economy.tables import (
    BAD_PLACE,
    E_CARRIES,
    FINE,
    GAS,
    HALL,
    NEAR_RESOURCES,
    NO_GEYSER,
    NO_MINERALS,
    NO_POWER,
    NO_SUPPLY,
    NO_TECH,
    NO_VESPENE,
    NOT_MADE_HERE,
    QUEUE_FULL,
    UNFINISHED,
    WORKER,
    X_ABILITY,
    X_GATHER,
    X_RALLY,
    X_RETURN,
    X_ROLE,
    X_WIDTH,
)
from envs.engine.state import layout as st
from envs.engine.state.orders import issue_order
from envs.protocol.kinds import SCAN_MOVE
from envs.protocol.spells import CANCEL_BEAM, CASTERS, ENERGY, GRAVITON_BEAM
from envs.protocol.world import World

SMART = 1
STOP, HOLD, MOVE, ATTACK, PATROL, HEAL, STIM, BLINK, CHANGE, GATHER, RETURN, RALLY, CANCEL, CANCEL_LAST, HALT = range(
    2, 17
)
VERBS: dict[int, int] = {
    1: SMART,
    4: STOP,
    3665: STOP,
    18: HOLD,
    3793: HOLD,
    16: MOVE,
    3794: MOVE,
    23: ATTACK,
    3674: ATTACK,
    SCAN_MOVE: ATTACK,
    17: PATROL,
    3795: PATROL,
    386: HEAL,
    380: STIM,
    253: STIM,
    3675: STIM,
    1442: BLINK,
    3687: BLINK,
    3666: GATHER,
    295: GATHER,
    298: GATHER,
    1183: GATHER,
    3667: RETURN,
    296: RETURN,
    299: RETURN,
    1184: RETURN,
    3673: RALLY,
    3690: RALLY,
    195: RALLY,
    203: RALLY,
    207: RALLY,
    211: RALLY,
    212: RALLY,
    3659: CANCEL,
    314: CANCEL,
    3671: CANCEL_LAST,
    304: CANCEL_LAST,
    306: CANCEL_LAST,
    308: CANCEL_LAST,
    3660: HALT,
    315: HALT,
    348: HALT,
}
CANCEL_BUILDING, CANCEL_QUEUE, HALT_BUILDING = 314, 306, 348
BURROW_DOWN, BURROW_UP = 3661, 3662
SUCCESS = error_pb2.Success
# Commands that the engine has no order for.
DO_TRAIN, DO_RALLY, DO_CANCEL_BUILDING, DO_CANCEL_LAST, DO_CAST = range(-5, 0)
REFUSALS = {
    NOT_MADE_HERE: error_pb2.NotSupported,
    NO_MINERALS: error_pb2.NotEnoughMinerals,
    NO_VESPENE: error_pb2.NotEnoughVespene,
    NO_SUPPLY: error_pb2.NotEnoughFood,
    NO_TECH: error_pb2.BuildTechRequirementsNotMet,
    QUEUE_FULL: error_pb2.QueueIsFull,
    BAD_PLACE: error_pb2.CantBuildLocationInvalid,
    NEAR_RESOURCES: error_pb2.CantBuildTooCloseToResources,
    NO_GEYSER: error_pb2.CantBuildOnThat,
    NO_POWER: error_pb2.CantBuildTooFarFromBuildPowerSource,
    UNFINISHED: error_pb2.BuildingIsUnderConstruction,
}


@dataclass(frozen=True)
class Command:
    """An order for one unit: the engine's, or one of DO_*; `target` a slot or -1, for DO_TRAIN the kind; `ability` the
    specific id that it is reported under."""

    slot: int
    order: int
    target: int
    x: float
    y: float
    ability: int


def verb_of(world: World, kind: int, ability: int) -> int | None:
    """What an ability id means for a unit kind, None if the simulator does not know it."""
    if ability in VERBS:
        return VERBS[ability]
    change = int(world.kinds.change[kind])
    if change and ability == change:
        return CHANGE
    if change and ability in (BURROW_DOWN, BURROW_UP):
        burrowed = bool(world.static.kind_i[kind, st.KI_FLAGS] & st.FLAG_BURROWED)
        other = int(world.static.kind_i[kind, st.KI_CHANGES_TO])
        goes_down = other >= 0 and bool(world.static.kind_i[other, st.KI_FLAGS] & st.FLAG_BURROWED)
        if (ability == BURROW_DOWN and goes_down) or (ability == BURROW_UP and burrowed):
            return CHANGE
    return None


def interpret(
    world: World, slot: int, ability: int, target: int = -1, point: tuple[float, float] | None = None
) -> Command | int:
    """The engine order that an ability with a target or a place means, or the ActionResult that refuses it."""
    state, static = world.state, world.static
    kind = int(state.i[0, st.I_KIND, slot])
    owner = int(state.i[0, st.I_OWNER, slot])
    if ability in CASTERS:
        return _spell(world, slot, ability, target)
    if world.has_economy:
        command = _economy_command(world, slot, ability, target, point)
        if command is not None:
            return command
    verb = verb_of(world, kind, ability)
    if verb is None or verb >= GATHER:
        return error_pb2.NotSupported
    armed = static.kind_i[kind, st.KI_WEAPONS] > 0
    heals = static.kind_f[kind, st.K_HEAL_RATE] > 0
    mobile = static.kind_f[kind, st.K_SPEED] > 0
    if target >= 0 and point is None:
        point = float(state.f[0, st.F_X, target]), float(state.f[0, st.F_Y, target])
    other = int(state.i[0, st.I_OWNER, target]) if target >= 0 else 0
    if verb == SMART:
        if target >= 0 and other not in (owner, st.NEUTRAL) and armed:
            verb = ATTACK
        elif target >= 0 and other == owner and heals:
            verb = HEAL
        else:
            verb = MOVE
    if verb in (MOVE, ATTACK, PATROL, BLINK) and point is None:
        return error_pb2.MustTargetVisibleLocation
    if verb in (MOVE, PATROL) and not mobile:
        return error_pb2.UnitCantMove
    if state.i[0, st.I_FLAGS, slot] & st.FLAG_BURROWED and verb in (MOVE, PATROL, ATTACK):
        return error_pb2.UnitCantMove
    here = float(state.f[0, st.F_X, slot]), float(state.f[0, st.F_Y, slot])
    x, y = here if point is None else point
    order, chosen = st.ORDER_STOP, -1
    if verb == HOLD:
        order = st.ORDER_HOLD
    elif verb == MOVE:
        order, chosen = st.ORDER_MOVE, target if target != slot else -1
    elif verb == PATROL:
        order = st.ORDER_PATROL
    elif verb == ATTACK:
        if target >= 0 and armed:
            if target == slot or state.i[0, st.I_FLAGS, target] & st.FLAG_INVULNERABLE:
                return error_pb2.CantTargetThatUnit
            order, chosen, (x, y) = st.ORDER_ATTACK, target, here
        elif not mobile:
            return error_pb2.MustTargetUnit if armed else error_pb2.CantAttackWeaponsDisabled
        else:
            order = st.ORDER_ATTACK_MOVE
    elif verb == HEAL:
        if not heals:
            return error_pb2.NotSupported
        if target < 0:
            return error_pb2.MustTargetUnit
        order, chosen, (x, y) = st.ORDER_HEAL, target, here
    elif verb == STIM:
        cost = static.kind_f[kind, st.K_STIM_COST]
        if cost <= 0:
            return error_pb2.NotSupported
        if state.f[0, st.F_HEALTH, slot] <= cost:
            return error_pb2.NotEnoughLife
        order = st.ORDER_STIM
    elif verb == BLINK:
        if static.kind_f[kind, st.K_BLINK_RANGE] <= 0:
            return error_pb2.NotSupported
        if state.f[0, st.F_BLINK_COOLDOWN, slot] > 0:
            return error_pb2.Cooldown
        order = st.ORDER_BLINK
    elif verb == CHANGE:
        if state.f[0, st.F_BUSY, slot] > 0:
            return error_pb2.NotWhileOccupied
        order = st.ORDER_SIEGE
    specific = int(world.kinds.change[kind]) if order == st.ORDER_SIEGE else int(world.kinds.ability[kind, order])
    return Command(slot, order, chosen, x, y, specific or ability)


def _spell(world: World, slot: int, ability: int, target: int) -> Command | int:
    state = world.state
    kind = int(state.i[0, st.I_KIND, slot])
    if world.rules.entries[kind]["label"] != CASTERS[ability]:
        return error_pb2.NotSupported
    if state.f[0, st.F_ENERGY, slot] < ENERGY.get(ability, 0):
        return error_pb2.NotEnoughEnergy
    if not world.spells.ready(world, slot, ability):
        return error_pb2.Cooldown
    if ability == GRAVITON_BEAM:
        if target < 0:
            return error_pb2.MustTargetUnit
        attributes = world.rules.entries[int(state.i[0, st.I_KIND, target])]["attributes"]
        flags = int(state.i[0, st.I_FLAGS, target])
        if target == slot or flags & (st.FLAG_INVULNERABLE | st.FLAG_STRUCTURE) or "massive" in attributes:
            return error_pb2.CantTargetThatUnit
        if flags & st.FLAG_FLYING:
            return error_pb2.CantTargetAirUnits
    return Command(slot, DO_CAST, target, 0.0, 0.0, ability)


def _economy_command(
    world: World, slot: int, ability: int, target: int, point: tuple[float, float] | None
) -> Command | int | None:
    """What an ability means to workers and buildings; None if it is nothing of the economy's."""
    state, tech = world.state, world.tech
    kind, owner = int(state.i[0, st.I_KIND, slot]), int(state.i[0, st.I_OWNER, slot])
    row = tech.i[kind]
    here = float(state.f[0, st.F_X, slot]), float(state.f[0, st.F_Y, slot])
    product = world.kinds.product(kind, ability)
    if product >= 0:
        return _make(world, slot, product, ability, target, point)
    verb = VERBS.get(ability)
    worker = row[X_ROLE] == WORKER
    if verb == SMART and worker and target >= 0:
        if can_gather(state, tech, world.economy, 0, slot, target):
            verb = GATHER
        elif int(state.i[0, st.I_OWNER, target]) == owner:
            role = tech.i[int(state.i[0, st.I_KIND, target]), X_ROLE]
            if world.unfinished(target) and world.kinds.product(kind, world.ability_of(target)) >= 0:
                site = float(state.f[0, st.F_X, target]), float(state.f[0, st.F_Y, target])
                order = st.ORDER_BUILD + int(state.i[0, st.I_KIND, target])
                return Command(slot, order, target, *site, world.ability_of(target))
            if role == HALL and world.economy.i[0, E_CARRIES, slot]:
                verb = RETURN
    if verb == SMART and not worker and row[X_RALLY] and (target >= 0 or point is not None):
        verb = RALLY
    if verb == GATHER and worker:
        if target < 0:
            return error_pb2.MustTargetUnit
        if not can_gather(state, tech, world.economy, 0, slot, target):
            return error_pb2.MustTargetResources
        return Command(slot, st.ORDER_GATHER, target, *here, int(row[X_GATHER]))
    if verb == RETURN and worker:
        if not world.economy.i[0, E_CARRIES, slot]:
            return error_pb2.NotSupported
        return Command(slot, st.ORDER_RETURN, -1, *here, int(row[X_RETURN]))
    if verb == HALT and worker and int(state.i[0, st.I_ORDER, slot]) >= st.ORDER_BUILD:
        return Command(slot, st.ORDER_STOP, -1, *here, HALT_BUILDING)
    if verb == RALLY and row[X_RALLY]:
        if target < 0 and point is None:
            return error_pb2.MustTargetVisibleLocation
        if target >= 0:
            point = float(state.f[0, st.F_X, target]), float(state.f[0, st.F_Y, target])
        return Command(slot, DO_RALLY, target, *(point or here), int(row[X_RALLY]))
    if verb == CANCEL and world.unfinished(slot):
        return Command(slot, DO_CANCEL_BUILDING, -1, *here, CANCEL_BUILDING)
    if verb in (CANCEL_LAST, CANCEL) and world.production(slot):
        return Command(slot, DO_CANCEL_LAST, -1, *here, CANCEL_QUEUE)
    return None


def _make(
    world: World, slot: int, product: int, ability: int, target: int, point: tuple[float, float] | None
) -> Command | int:
    state, tech = world.state, world.tech
    if not tech.i[product, X_WIDTH]:
        problem = train_problem(state, tech, world.economy, 0, slot, product)
        if problem != FINE:
            return REFUSALS[problem]
        return Command(slot, DO_TRAIN, product, 0.0, 0.0, ability)
    if target >= 0:
        point = float(state.f[0, st.F_X, target]), float(state.f[0, st.F_Y, target])
    if point is None:
        gas = tech.i[product, X_ROLE] == GAS
        return error_pb2.MustTargetUnit if gas else error_pb2.MustTargetVisibleLocation
    x, y = grid_place(tech, product, *point)
    problem = build_problem(state, world.static, tech, world.economy, 0, slot, product, x, y)
    if problem != FINE:
        return REFUSALS[problem]
    return Command(slot, st.ORDER_BUILD + product, target, float(x), float(y), ability)


def carry_out(world: World, command: Command, queued: bool) -> bool:
    """Gives the order; False when it is not taken (the unit died meanwhile, its queue is full)."""
    slot, target = command.slot, command.target
    tables = (world.state, world.tech, world.economy, 0, slot)
    if command.order >= 0:
        place = command.x, command.y
        return bool(issue_order(world.state, world.static, 0, slot, command.order, target, *place, queued))
    if command.order == DO_TRAIN:
        return bool(train(*tables, target))
    if command.order == DO_CANCEL_BUILDING:
        return bool(cancel_building(*tables))
    if command.order == DO_CANCEL_LAST:
        return bool(cancel_training(*tables, -1))
    if command.order == DO_RALLY:
        world.set_rally(slot, target, command.x, command.y)
        return True
    if command.ability == GRAVITON_BEAM:
        world.order(slot, st.ORDER_MOVE, target)
    return world.spells.cast(world, slot, command.ability, target)


def available(world: World, slot: int) -> list[tuple[int, bool]]:
    """(ability id, takes a place or unit) of what a unit can do now."""
    state, static = world.state, world.static
    kind = int(state.i[0, st.I_KIND, slot])
    if state.f[0, st.F_BUSY, slot] > 0:
        return []
    result: list[tuple[int, bool]] = []
    burrowed = bool(state.i[0, st.I_FLAGS, slot] & st.FLAG_BURROWED)
    if world.has_economy:
        result += _economy_abilities(world, slot, kind)
    if world.is_structure(slot) and not static.kind_i[kind, st.KI_WEAPONS]:
        return result
    for ability, caster in CASTERS.items():
        casts = caster == world.rules.entries[kind]["label"] and ability != CANCEL_BEAM
        if casts and state.f[0, st.F_ENERGY, slot] >= ENERGY[ability] and world.spells.ready(world, slot, ability):
            result.append((ability, ability == GRAVITON_BEAM))
    if not burrowed:
        result.append((4, False))
    if static.kind_f[kind, st.K_SPEED] > 0 and not burrowed:
        attack = int(world.kinds.ability[kind, st.ORDER_ATTACK_MOVE])
        result += [(1, True), (16, True), (17, True), (18, False), (attack, True)]
    elif static.kind_i[kind, st.KI_WEAPONS] > 0 and not burrowed:
        result.append((23, True))
    if static.kind_f[kind, st.K_HEAL_RATE] > 0:
        result.append((386, True))
    cost = static.kind_f[kind, st.K_STIM_COST]
    if 0 < cost < state.f[0, st.F_HEALTH, slot]:
        result.append((int(world.kinds.ability[kind, st.ORDER_STIM]), False))
    if static.kind_f[kind, st.K_BLINK_RANGE] > 0 and state.f[0, st.F_BLINK_COOLDOWN, slot] <= 0:
        result.append((1442, True))
    if world.kinds.change[kind]:
        result.append((int(world.kinds.change[kind]), False))
    return result


def _economy_abilities(world: World, slot: int, kind: int) -> list[tuple[int, bool]]:
    """What a worker or a building can do now: what it can pay for, and what its tech allows."""
    state, tech, row = world.state, world.tech, world.tech.i[kind]
    result: list[tuple[int, bool]] = []
    if world.unfinished(slot):
        return [(CANCEL_BUILDING, False)]
    if row[X_ROLE] == WORKER:
        result.append((int(row[X_GATHER]), True))
        if world.economy.i[0, E_CARRIES, slot]:
            result.append((int(row[X_RETURN]), False))
        if int(state.i[0, st.I_ORDER, slot]) >= st.ORDER_BUILD:
            result.append((HALT_BUILDING, False))
    owner = int(state.i[0, st.I_OWNER, slot])
    for product in world.kinds.products[kind]:
        building = bool(tech.i[product, X_WIDTH])
        if building:
            problem = purchase(state, tech, world.economy, 0, owner, product)
        else:
            problem = train_problem(state, tech, world.economy, 0, slot, product)
        if problem == FINE:
            result.append((int(tech.i[product, X_ABILITY]), building))
    if row[X_RALLY]:
        result.append((int(row[X_RALLY]), True))
    if world.production(slot):
        result.append((CANCEL_QUEUE, False))
    return result
