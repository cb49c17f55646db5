"""Compiles a scenario: its unit kinds and map into the engine's tables, the rest into a `CompiledScenario`."""

from __future__ import annotations

import numpy as np

from envs import actions
from envs.engine.state import layout as st
from envs.engine.state.layout import Static
from envs.engine.state.maps import MapSpec
from envs.scenarios.choices import GAME_PARAMETERS, RULES
from envs.scenarios.compiled import (
    MAX_GAME_PARAMETERS,
    NUM_PARAMETERS,
    P_AGENTS,
    P_AUTORESET,
    P_KIND_NEUTRAL,
    P_MAP_HEIGHT,
    P_MAP_WIDTH,
    P_NEUTRAL_END,
    P_OBEDIENT,
    P_OWN,
    P_RANDOM_1,
    P_RANDOM_2,
    P_RANDOM_TEAMS,
    P_ROWS,
    P_RULES,
    P_SMAC_ACTIONS,
    P_SMAC_BITS,
    P_SMAC_SHIELD_1,
    P_SMAC_SHIELD_2,
    P_SMAC_TRUE_RANGE,
    P_STEP_LIMIT,
    P_STEP_MUL,
    P_TEAM_1_END,
    P_TEAM_2_END,
    CompiledScenario,
)
from envs.scenarios.scenario import Scenario
from envs.scenarios.smac import smac_actions, smac_unit_types, team_has_shields
from envs.scenarios.units import Rules, unit_data


def unit_kinds(scenario: Scenario) -> list[str]:
    """Names of the unit types that can appear in a scenario; a name's place is its kind."""
    names = {unit.unit_type for team in scenario.teams for unit in team.units}
    if scenario.random_teams is not None:
        names |= set(scenario.random_teams.types)
    data = unit_data()
    for name in sorted(names):
        while data[name]["changes_to"] is not None and data[name]["changes_to"] not in names:
            name = data[name]["changes_to"]
            names.add(name)
    ordered = sorted(names)
    neutral = {"beacon": ["Beacon"], "shards": ["MineralShard"]}.get(scenario.rules, [])
    return ordered + neutral


def scenario_rules(scenario: Scenario) -> Rules:
    """The engine's tables for a scenario: its unit kinds with overrides, and its map."""
    width, height = scenario.map_size
    pathable = np.ones((height, width), np.uint8)
    for x0, y0, x1, y1 in scenario.obstacles:
        pathable[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
    spec = MapSpec(
        width=width,
        height=height,
        pathable=None if pathable.all() else pathable,
        bounds=scenario.playable,
        fog=scenario.fog,
    )
    kinds = [(name, dict(scenario.unit_overrides.get(name, {}))) for name in unit_kinds(scenario)]
    return Rules(kinds, spec, players=2)


def _change_orders(rules: Rules) -> np.ndarray:
    """Which order of the unit view changes each kind's mode, -1 where it has none."""
    static = rules.static
    orders = np.full(len(rules.entries), -1, np.int32)
    for kind in range(len(orders)):
        other = int(static.kind_i[kind, st.KI_CHANGES_TO])
        if other < 0:
            continue
        if static.kind_i[other, st.KI_FLAGS] & st.FLAG_BURROWED:
            orders[kind] = actions.BURROW
        elif static.kind_i[kind, st.KI_FLAGS] & st.FLAG_BURROWED:
            orders[kind] = actions.UNBURROW
        else:
            # The sieged mode of a pair is the one with the longer range, or else with the later name.
            ranges = [float(static.weapon_f[k, :, st.WF_RANGE].max()) for k in (kind, other)]
            names = [rules.entries[k]["name"] for k in (kind, other)]
            orders[kind] = actions.SIEGE if (ranges[0], names[0]) < (ranges[1], names[1]) else actions.UNSIEGE
    return orders


def _reach(static: Static) -> tuple[np.ndarray, np.ndarray]:
    """(can_hit [T, T], range [T, T]) of every kind against every kind."""
    count = static.kind_i.shape[0]
    can_hit = np.zeros((count, count), np.bool_)
    reach = np.zeros((count, count), np.float32)
    for kind in range(count):
        for other in range(count):
            flags = int(static.kind_i[other, st.KI_FLAGS])
            planes = st.TARGET_AIR if flags & st.FLAG_FLYING else st.TARGET_GROUND
            planes = st.TARGET_AIR | st.TARGET_GROUND if flags & st.FLAG_COLOSSUS else planes
            for weapon in range(int(static.kind_i[kind, st.KI_WEAPONS])):
                if static.weapon_i[kind, weapon, st.WI_TARGETS] & planes:
                    can_hit[kind, other] = True
                    reach[kind, other] = max(reach[kind, other], static.weapon_f[kind, weapon, st.WF_RANGE])
    return can_hit, reach


def _centre(scenario: Scenario, team: int) -> tuple[float, float]:
    units = scenario.teams[team].units
    if scenario.rules != "battle" or scenario.random_teams is not None or not units:
        x0, y0, x1, y1 = scenario.playable
        return (x0 + x1) / 2, (y0 + y1) / 2
    x, y = np.mean([unit.position for unit in units], axis=0)
    return float(x), float(y)


def compile_scenario(scenario: Scenario, rules: Rules, *, agents: int, autoreset: bool) -> CompiledScenario:
    """Compiles a scenario for `agents` (1 or 2) agents.

    With `autoreset` a finished world starts anew in the same step.
    """
    static = rules.static
    start_kind, start = _starts(scenario, rules)
    slot_of_row, row_of_slot = _rows(scenario, agents)

    game = np.zeros(MAX_GAME_PARAMETERS)
    numbers = [number for key in GAME_PARAMETERS[scenario.rules] for number in scenario.game[key]]
    game[: len(numbers)] = numbers

    target = np.array([_centre(scenario, 1), _centre(scenario, 0)])
    for side, team in enumerate(scenario.teams):
        if team.attack_target is not None:
            target[side] = team.attack_target

    can_hit, reach = _reach(static)
    heals = static.kind_f[:, st.K_HEAL_RATE] > 0
    biological = (static.kind_i[:, st.KI_ATTRIBUTES] >> st.ATTRIBUTES.index("biological")) & 1 == 1

    random = scenario.random_teams
    weights = np.array(random.weights if random else [1.0])
    type_bit = np.full(len(rules.entries), -1, np.int32)
    for bit, name in enumerate(smac_unit_types(scenario)):
        type_bit[rules.kind[name]] = bit

    return CompiledScenario(
        i=_parameters(scenario, rules, agents, autoreset),
        game=game,
        start_kind=start_kind,
        start=start,
        jitter=np.array([scenario.start_jitter]),
        target=target,
        random_kind=np.array([rules.kind[name] for name in random.types] if random else [-1], np.int32),
        random_weight=np.cumsum(weights) / weights.sum(),
        random_alone=np.array([name not in random.never_alone for name in random.types] if random else [True]),
        random_surround=np.array([random.surround_probability if random else 0.0]),
        can_hit=can_hit,
        can_heal=heals[:, None] & (biological & ~heals)[None, :],
        reach=reach,
        change_order=_change_orders(rules),
        type_bit=type_bit,
        slot_of_row=slot_of_row,
        row_of_slot=row_of_slot,
        order_target=actions.ORDER_TARGET_CLASS,
        directions=actions.DIRECTIONS,
        smac_moves=actions.SMAC_MOVE_DIRECTIONS,
    )


def _sizes(scenario: Scenario, agents: int) -> tuple[int, int, int]:
    """(slots of all entities, unit slots of an agent, rows of an observation)."""
    first, second = scenario.teams
    neutral = scenario.neutral_slots
    slots = first.slots + neutral + second.slots
    own = first.slots if agents == 1 else max(first.slots, second.slots)
    return slots, own, slots if agents == 1 else 2 * own + neutral


def _parameters(scenario: Scenario, rules: Rules, agents: int, autoreset: bool) -> np.ndarray:
    """[NUM_PARAMETERS]: P_*."""
    first, second = scenario.teams
    i = np.zeros(NUM_PARAMETERS, np.int64)
    i[P_TEAM_2_END], i[P_OWN], i[P_ROWS] = _sizes(scenario, agents)
    i[P_RULES] = RULES.index(scenario.rules)
    i[P_AGENTS] = agents
    i[P_TEAM_1_END] = first.slots
    i[P_NEUTRAL_END] = first.slots + scenario.neutral_slots
    i[P_STEP_LIMIT] = scenario.step_limit
    i[P_STEP_MUL] = scenario.step_mul
    i[P_OBEDIENT] = scenario.agent_units_obedient
    i[P_SMAC_ACTIONS] = smac_actions(scenario, agents)
    i[P_SMAC_TRUE_RANGE] = scenario.smac_true_range
    i[P_SMAC_BITS] = len(smac_unit_types(scenario))
    i[P_SMAC_SHIELD_1], i[P_SMAC_SHIELD_2] = (team_has_shields(scenario, team) for team in (0, 1))
    i[P_KIND_NEUTRAL] = rules.kind.get("Beacon", rules.kind.get("MineralShard", -1))
    i[P_MAP_WIDTH], i[P_MAP_HEIGHT] = scenario.map_size
    i[P_RANDOM_TEAMS] = scenario.random_teams is not None
    i[P_RANDOM_1], i[P_RANDOM_2] = first.slots, second.slots
    i[P_AUTORESET] = autoreset
    return i


def _starts(scenario: Scenario, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """(kind [slots], -1 = starts empty; place [slots, 2])."""
    first, second = scenario.teams
    slots = first.slots + scenario.neutral_slots + second.slots
    kinds, places = np.full(slots, -1, np.int32), np.zeros((slots, 2))
    for team, offset in ((first, 0), (second, first.slots + scenario.neutral_slots)):
        for index, unit in enumerate(team.units):
            kinds[offset + index] = rules.kind[unit.unit_type]
            places[offset + index] = unit.position
    return kinds, places


def _rows(scenario: Scenario, agents: int) -> tuple[np.ndarray, np.ndarray]:
    """(slot_of_row [P, N], row_of_slot [P, slots]): see `envs.scenarios.compiled`."""
    slots, own, rows = _sizes(scenario, agents)
    first, neutral = scenario.teams[0].slots, scenario.neutral_slots
    slot_of_row = np.full((agents, rows), -1, np.int32)
    row_of_slot = np.full((agents, slots), -1, np.int32)
    teams = [range(first), range(first + neutral, slots)]
    for player in range(agents):
        blocks = (
            (0, teams[player]),
            (own, range(first, first + neutral)),
            (own + neutral, teams[1 - player]),
        )
        for offset, span in blocks:
            for index, slot in enumerate(span):
                slot_of_row[player, offset + index] = slot
                row_of_slot[player, slot] = offset + index
    return slot_of_row, row_of_slot
