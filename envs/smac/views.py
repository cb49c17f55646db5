"""SMAC's arrays from the simulator's: units, available actions, observations, state, rewards. All in SMAC's doubles.

Facts of SMAC's `StarCraft2Env` (smac/env/starcraft2/starcraft2.py): what is computed, in which order, and where it is
rounded to float32. U units are the A agents in SMAC's order, then the E enemies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from envs.engine.state.compilation import entry, inline_kernel
from envs.engine.state.layout import (
    F_COOLDOWN,
    F_ENERGY,
    F_HEALTH,
    F_HEALTH_MAX,
    F_SHIELD,
    F_SHIELD_MAX,
    F_X,
    F_Y,
    I_ALIVE,
    I_KIND,
    I_TAG,
    I_VISIBLE,
    KI_WEAPONS,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_STOP,
)
from envs.engine.state.orders import issue_order

# Columns of `units`.
X, Y, HEALTH, HEALTH_MAX, SHIELD, SHIELD_MAX, ENERGY, COOLDOWN, NUM_COLUMNS = range(9)
NO_OP, STOP, NORTH, SOUTH, EAST, WEST, TARGETS = range(7)
SHOOT_RANGE, SIGHT_RANGE = 6.0, 9.0
PATHING_POINTS, HEIGHT_POINTS = 8, 9
WORLD, AGENT = 0, 1  # index of the world, number of the agents' player


class Options(NamedTuple):
    """What an environment's arrays are made of.

    Attributes:
        agents: A.
        actions: n_actions.
        bits: unit type bits.
        ally_shield, enemy_shield: 1 if entries of the side have a shield.
        all_health, own_health, last_action, pathing_grid, terrain_height, timestep: SMAC's `obs_*` options.
        state_last_action, state_timestep: SMAC's `state_*` options.
        move: how far a move goes, in world units.
        width, height: of the map.
        span_x, span_y: of its playable area.
        pathing: bool [width, height].
        terrain: float64 [width, height] in [0, 1], in SMAC's orientation.
        heals: bool [U].
        type_bit: int64 [U].
        max_cooldown, max_shield: float64 [U], SMAC's numbers.
    """

    agents: int
    actions: int
    bits: int
    ally_shield: int
    enemy_shield: int
    all_health: int
    own_health: int
    last_action: int
    pathing_grid: int
    terrain_height: int
    timestep: int
    state_last_action: int
    state_timestep: int
    move: float
    width: int
    height: int
    span_x: float
    span_y: float
    pathing: np.ndarray
    terrain: np.ndarray
    heals: np.ndarray
    type_bit: np.ndarray
    max_cooldown: np.ndarray
    max_shield: np.ndarray


@entry
def read_units(context, slots, tags, tag_offset, before, units):
    """Brings units [U, NUM_COLUMNS] up to date, and keeps what they were in `before`.

    A unit that died keeps its last values but has no health, as in SMAC. Where all died in one step the map has set up
    new ones already: `tag_offset`, the world's, tells them apart.
    """
    uf, ui = context.state.uf[WORLD], context.state.ui[WORLD]
    before[:, :] = units
    for n in range(slots.shape[0]):
        i = slots[n]
        if ui[i, I_ALIVE] == 0 or ui[i, I_TAG] + tag_offset != tags[n]:
            units[n, HEALTH] = 0.0
            continue
        units[n, X], units[n, Y] = uf[i, F_X], uf[i, F_Y]
        units[n, HEALTH], units[n, HEALTH_MAX] = uf[i, F_HEALTH], uf[i, F_HEALTH_MAX]
        units[n, SHIELD], units[n, SHIELD_MAX] = uf[i, F_SHIELD], uf[i, F_SHIELD_MAX]
        units[n, ENERGY], units[n, COOLDOWN] = uf[i, F_ENERGY], uf[i, F_COOLDOWN]


@entry
def give_actions(context, slots, units, actions, options):
    """Gives the engine the orders that SMAC sends for legal actions [A]; returns nothing.

    As on the protocol server, an order against a unit that the player does not see is not taken.
    """
    state, static = context.state, context.static
    for a in range(options.agents):
        action, i = actions[a], slots[a]
        x, y = np.float32(units[a, X]), np.float32(units[a, Y])
        order, target = ORDER_STOP, np.int64(-1)
        if action == NO_OP:
            continue
        if action == NORTH:
            order, y = ORDER_MOVE, np.float32(units[a, Y] + options.move)
        elif action == SOUTH:
            order, y = ORDER_MOVE, np.float32(units[a, Y] - options.move)
        elif action == EAST:
            order, x = ORDER_MOVE, np.float32(units[a, X] + options.move)
        elif action == WEST:
            order, x = ORDER_MOVE, np.float32(units[a, X] - options.move)
        elif action >= TARGETS:
            other = action - TARGETS + (0 if options.heals[a] else options.agents)
            target = np.int64(slots[other])
            if (state.ui[WORLD, target, I_VISIBLE] >> AGENT) & 1 == 0:
                continue
            order = ORDER_HEAL if options.heals[a] else ORDER_ATTACK
            if not options.heals[a] and static.kind_i[state.ui[WORLD, i, I_KIND], KI_WEAPONS] == 0:
                order, target = ORDER_ATTACK_MOVE, np.int64(-1)
                x, y = np.float32(units[other, X]), np.float32(units[other, Y])
        issue_order(state, static, WORLD, i, order, target, x, y, False)


@inline_kernel
def _on_map(options, x, y):
    return 0 <= x < options.width and 0 <= y < options.height


@inline_kernel
def _can_go(options, x, y):
    """Whether SMAC lets an agent move by way of a place. `int` rounds towards zero, so -0.5 is on the map."""
    column, row = int(x), int(y)
    return _on_map(options, column, row) and options.pathing[column, row]


@inline_kernel
def _distance(units, a, other):
    return math.hypot(units[other, X] - units[a, X], units[other, Y] - units[a, Y])


@entry
def write_available(units, options, available):
    """available [A, n_actions], 1 where the action is legal."""
    available[:, :] = 0
    half = options.move / 2
    for a in range(options.agents):
        if units[a, HEALTH] == 0.0:
            available[a, NO_OP] = 1
            continue
        x, y = units[a, X], units[a, Y]
        available[a, STOP] = 1
        available[a, NORTH] = _can_go(options, x, y + half)
        available[a, SOUTH] = _can_go(options, x, y - half)
        available[a, EAST] = _can_go(options, x + half, y)
        available[a, WEST] = _can_go(options, x - half, y)
        heals = options.heals[a]
        first, last = (0, options.agents) if heals else (options.agents, units.shape[0])
        for other in range(first, last):
            # Healers heal no healers.
            if units[other, HEALTH] > 0.0 and not (heals and options.heals[other]):
                available[a, TARGETS + other - first] = _distance(units, a, other) <= SHOOT_RANGE


@inline_kernel
def _write_surroundings(options, x, y, row):
    """The pathing and height of the places around (x, y), into row from its fifth number on."""
    m = int(options.move)
    column, line = int(x), int(y)
    at = 4
    for kind in range(2):
        if (kind == 0 and options.pathing_grid == 0) or (kind == 1 and options.terrain_height == 0):
            continue
        for n in range(PATHING_POINTS if kind == 0 else HEIGHT_POINTS):
            dx, dy = 0, 0
            if n < 4:  # two moves north, south, east, west
                dx, dy = (0, 2 * m) if n == 0 else ((0, -2 * m) if n == 1 else ((2 * m, 0) if n == 2 else (-2 * m, 0)))
            elif n < 8:  # a move north-east, south-west, south-east, north-west
                dx = m if n in (4, 6) else -m
                dy = m if n in (4, 7) else -m
            value = 1.0
            if _on_map(options, column + dx, line + dy):
                if kind == 0:
                    value = 1.0 if options.pathing[column + dx, line + dy] else 0.0
                else:
                    value = options.terrain[column + dx, line + dy]
            row[at] = value
            at += 1


@inline_kernel
def _write_body(units, options, n, shield, whole, row, at):
    """Health, shield (if `whole`) and type bit of unit `n` from row[at] on; returns where its bits begin."""
    if whole:
        row[at] = units[n, HEALTH] / units[n, HEALTH_MAX]
        at += 1
        if shield:
            row[at] = units[n, SHIELD] / options.max_shield[n]
            at += 1
    if options.bits > 0:
        row[at + options.type_bit[n]] = 1.0
    return at


@inline_kernel
def _write_other(units, options, a, n, first_value, shield, row, at):
    distance = _distance(units, a, n)
    row[at] = first_value
    row[at + 1] = distance / SIGHT_RANGE
    row[at + 2] = (units[n, X] - units[a, X]) / SIGHT_RANGE
    row[at + 3] = (units[n, Y] - units[a, Y]) / SIGHT_RANGE
    return _write_body(units, options, n, shield, options.all_health, row, at + 4)


@entry
def write_observations(units, options, available, last_action, progress, observations):
    """observations [A, obs]; the row of a dead agent is zero but for the time. `progress` is the share of the limit."""
    observations[:, :] = 0.0
    agents, enemies = options.agents, units.shape[0] - options.agents
    body = options.all_health
    enemy_width = 4 + body * (1 + options.enemy_shield) + options.bits
    ally_width = 4 + body * (1 + options.ally_shield) + options.bits + options.last_action * options.actions
    move_width = 4 + options.pathing_grid * PATHING_POINTS + options.terrain_height * HEIGHT_POINTS
    for a in range(agents):
        row = observations[a]
        if options.timestep:
            row[row.shape[0] - 1] = progress
        if units[a, HEALTH] == 0.0:
            continue
        for m in range(4):
            row[m] = available[a, NORTH + m]
        _write_surroundings(options, units[a, X], units[a, Y], row)
        at = move_width
        for n in range(agents, agents + enemies):
            if units[n, HEALTH] > 0.0 and _distance(units, a, n) < SIGHT_RANGE:
                # A healer's targets are allies: what stands here is whether it can heal the ally of this number.
                attackable = float(available[a, TARGETS + n - agents])
                _write_other(units, options, a, n, attackable, options.enemy_shield, row, at)
            at += enemy_width
        for n in range(agents):
            if n == a:
                continue
            if units[n, HEALTH] > 0.0 and _distance(units, a, n) < SIGHT_RANGE:
                end = _write_other(units, options, a, n, 1.0, options.ally_shield, row, at) + options.bits
                if options.last_action:
                    for k in range(options.actions):
                        row[end + k] = last_action[n, k]
            at += ally_width
        _write_body(units, options, a, options.ally_shield, options.own_health, row, at)


@entry
def write_state(units, options, last_action, progress, out):
    """SMAC's global state into out [state]."""
    out[:] = 0.0
    at = 0
    for n in range(units.shape[0]):
        ally = n < options.agents
        shield = options.ally_shield if ally else options.enemy_shield
        width = (4 if ally else 3) + shield + options.bits
        if units[n, HEALTH] > 0.0:
            out[at] = units[n, HEALTH] / units[n, HEALTH_MAX]
            place = at + 1
            if ally:
                out[place] = units[n, ENERGY if options.heals[n] else COOLDOWN] / options.max_cooldown[n]
                place += 1
            out[place] = (units[n, X] - options.width / 2) / options.span_x
            out[place + 1] = (units[n, Y] - options.height / 2) / options.span_y
            if shield:
                out[place + 2] = units[n, SHIELD] / options.max_shield[n]
            if options.bits > 0:
                out[at + width - options.bits + options.type_bit[n]] = 1.0
        at += width
    if options.state_last_action:
        for a in range(options.agents):
            for k in range(options.actions):
                out[at] = last_action[a, k]
                at += 1
    if options.state_timestep:
        out[at] = progress


@entry
def battle_reward(units, before, dead, agents, death_value, negative_scale, only_positive):
    """SMAC's reward of the last step, without those for the end and not scaled; marks the killed in dead [U].

    Shields regenerate, so damage can be negative; with `only_positive` the sign is lost, as in SMAC.
    """
    to_enemies, to_allies, deaths = 0.0, 0.0, 0.0
    for n in range(units.shape[0]):
        if dead[n]:
            continue
        damage = before[n, HEALTH] + before[n, SHIELD]
        dies = units[n, HEALTH] == 0.0
        if dies:
            dead[n] = True
        else:
            damage = damage - units[n, HEALTH] - units[n, SHIELD]
        if n >= agents:
            to_enemies += damage
            deaths += death_value if dies else 0.0
        else:
            to_allies += negative_scale * damage
            deaths -= death_value * negative_scale if dies and not only_positive else 0.0
    return abs(to_enemies + deaths) if only_positive else to_enemies + deaths - to_allies
