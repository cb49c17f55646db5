"""The game's ability ids and the engine's orders: what a command means for a unit, and what a unit can do."""

from __future__ import annotations

from dataclasses import dataclass

from s2clientprotocol import error_pb2

from envs.engine import state as st
from envs.engine.state import issue_order
from envs.protocol.world import SCAN_MOVE, World

SMART = 1
STOP, HOLD, MOVE, ATTACK, PATROL, HEAL, STIM, BLINK, CHANGE = range(2, 11)
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
}
BURROW_DOWN, BURROW_UP = 3661, 3662
SUCCESS = error_pb2.Success
# General ability ids of the specific ones, for `Data` and for clients that compare.
GENERAL = {4: 3665, 18: 3793, 16: 3794, 23: 3674, SCAN_MOVE: 3674, 17: 3795, 380: 3675, 253: 3675, 1442: 3687}


@dataclass(frozen=True)
class Command:
    """An engine order for one unit: `target` a slot or -1; `ability` the specific id that it is reported under."""

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
    change = int(world.change[kind])
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
    verb = verb_of(world, kind, ability)
    if verb is None:
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
    specific = int(world.change[kind]) if order == st.ORDER_SIEGE else int(world.ability[kind, order])
    return Command(slot, order, chosen, x, y, specific or ability)


def carry_out(world: World, command: Command, queued: bool) -> bool:
    """Gives the engine the order; False when it does not take it (the unit died meanwhile, its queue is full)."""
    return bool(
        issue_order(
            world.state, world.static, 0, command.slot, command.order, command.target, command.x, command.y, queued
        )
    )


def available(world: World, slot: int) -> list[tuple[int, bool]]:
    """(ability id, takes a place or unit) of what a unit can do now."""
    state, static = world.state, world.static
    kind = int(state.i[0, st.I_KIND, slot])
    if state.f[0, st.F_BUSY, slot] > 0:
        return []
    result: list[tuple[int, bool]] = []
    burrowed = bool(state.i[0, st.I_FLAGS, slot] & st.FLAG_BURROWED)
    if not burrowed:
        result.append((4, False))
    if static.kind_f[kind, st.K_SPEED] > 0 and not burrowed:
        attack = int(world.ability[kind, st.ORDER_ATTACK_MOVE])
        result += [(1, True), (16, True), (17, True), (18, False), (attack, True)]
    elif static.kind_i[kind, st.KI_WEAPONS] > 0 and not burrowed:
        result.append((23, True))
    if static.kind_f[kind, st.K_HEAL_RATE] > 0:
        result.append((386, True))
    cost = static.kind_f[kind, st.K_STIM_COST]
    if 0 < cost < state.f[0, st.F_HEALTH, slot]:
        result.append((int(world.ability[kind, st.ORDER_STIM]), False))
    if static.kind_f[kind, st.K_BLINK_RANGE] > 0 and state.f[0, st.F_BLINK_COOLDOWN, slot] <= 0:
        result.append((1442, True))
    if world.change[kind]:
        result.append((int(world.change[kind]), False))
    return result
