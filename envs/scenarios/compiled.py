"""A scenario compiled for the kernels: constants (`Plan`), what an episode remembers (`Episode`), what a step writes
(`Output`).

Slots and rows. A world's entity slots lie in the order [team 1 | neutral | team 2]. A player sees them as *rows*:
its own slots
first (rows 0..U-1), then neutral, then enemies; `Plan.slot_of_row` and `Plan.row_of_slot` translate. With one agent
both are
the identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs import actions as A
from envs.engine.state import layout as S
from envs.engine.state.layout import Static
from envs.engine.state.maps import MapSpec
from envs.scenarios.scenario import GAME_PARAMETERS, RULES, Scenario
from envs.scenarios.smac import smac_actions, smac_unit_types, team_has_shields
from envs.scenarios.units import Rules, unit_data

# --- plan.i[P_*] --------------------------------------------------------------------------------------------
(
    P_RULES,
    P_AGENTS,  # 1, or 2 when both sides are agents
    P_OWN,  # U, unit slots of an agent
    P_ROWS,  # N, rows of an observation
    P_TEAM_1,  # first and one past the last slot of each team and of the neutral entities
    P_TEAM_1_END,
    P_NEUTRAL_END,
    P_TEAM_2_END,
    P_STEP_LIMIT,
    P_STEP_MUL,
    P_OBEDIENT,  # SMAC's controlled units: attack only on order, turn at once
    P_SMAC_ACTIONS,  # numbers a unit can choose from in SMAC's view
    P_SMAC_TRUE_RANGE,
    P_SMAC_BITS,
    P_SMAC_SHIELD_1,  # 1: the team has units with shields
    P_SMAC_SHIELD_2,
    P_KIND_NEUTRAL,
    P_MAP_WIDTH,
    P_MAP_HEIGHT,
    P_RANDOM_TEAMS,
    P_RANDOM_1,
    P_RANDOM_2,
    P_AUTORESET,
    NUM_PLAN_INTS,
) = range(24)

RULES_BATTLE, RULES_BEACON, RULES_SHARDS, RULES_HUNT, RULES_WAVES = range(5)
VIEW_UNIT, VIEW_SMAC, VIEW_FUNCTION = range(3)
# NumPy integers, because Numba would compile a kernel anew for every literal argument.
FIRST, SECOND = np.int64(0), np.int64(1)
MAX_GAME_PARAMETERS = 16

# --- episode.i[b, E_*] and episode.f[b, EF_*] ---------------------------------------------------------------
(
    E_SEED,
    E_EPISODE,
    E_STEP,
    E_OPPONENT,
    E_NEXT_OPPONENT,
    E_ILLEGAL,  # illegal actions in the last step
    E_WON_1,
    E_WON_2,
    E_DONE,
    E_FINAL_STEP,  # length of the last finished episode
    E_WAVE,  # waves, beacons or rounds of shards so far
    NUM_EPISODE_INTS,
) = range(12)
EF_SCORE, EF_LAST_SCORE, EF_MAX_REWARD_1, EF_MAX_REWARD_2, EF_FINAL_SCORE, NUM_EPISODE_FLOATS = range(6)


class Plan(NamedTuple):
    """What the kernels need of a scenario; read only."""

    i: np.ndarray  # int64 [NUM_PLAN_INTS]
    game: np.ndarray  # float64 [MAX_GAME_PARAMETERS], in the order of GAME_PARAMETERS
    start_kind: np.ndarray  # int32 [slots], -1: the slot starts empty
    start: np.ndarray  # float64 [slots, 2]
    jitter: np.ndarray  # float64 [1]
    target: np.ndarray  # float64 [2, 2]: where the attack of each side goes
    random_kind: np.ndarray  # int32 [R]
    random_weight: np.ndarray  # float64 [R], cumulative, the last is 1
    random_alone: np.ndarray  # bool [R]: may be the only type of a team
    random_surround: np.ndarray  # float64 [1]
    can_hit: np.ndarray  # bool [T, T]: a unit of the first kind has a weapon that reaches the second
    can_heal: np.ndarray  # bool [T, T]
    reach: np.ndarray  # float32 [T, T]: longest range of such a weapon, edge to edge
    change_order: np.ndarray  # int32 [T]: SIEGE, UNSIEGE, BURROW, UNBURROW of the unit view, or -1
    type_bit: np.ndarray  # int32 [T]: place among SMAC's unit type bits
    slot_of_row: np.ndarray  # int32 [P, N], -1: no slot
    row_of_slot: np.ndarray  # int32 [P, slots]
    order_target: np.ndarray  # int64 [K]: ORDER_TARGET_CLASS
    directions: np.ndarray  # float32 [8, 2]
    smac_moves: np.ndarray  # int64 [4]


class Episode(NamedTuple):
    """What the environment remembers beside the engine's state."""

    i: np.ndarray  # int64 [B, NUM_EPISODE_INTS]
    f: np.ndarray  # float64 [B, NUM_EPISODE_FLOATS]
    health: np.ndarray  # float32 [B, slots]: health and shield at the last step
    tag: np.ndarray  # int32 [B, slots]: tags at the last step, 0 = none
    drawn: np.ndarray  # int64 [B, slots]: work space of the draw of random teams
    last_action: np.ndarray  # int32 [B, P, U]: SMAC's global state holds the last actions
    # What a scripted policy means its units to do, from one decision to its orders (`envs.rules.opponents`).
    intent: np.ndarray  # int64 [B, slots, 2]: what, and the slot of its target
    intent_at: np.ndarray  # float32 [B, slots, 2]: where
    spent: np.ndarray  # float32 [B, slots]: damage of the shots that are already meant for a unit
    foes: np.ndarray  # int64 [B, slots]: the enemies that may be shot at
    foe_at: np.ndarray  # float32 [B, 3, slots]: x, y and radius of each


def new_episode(worlds: int, slots: int, agents: int, own: int) -> Episode:
    """B = `worlds` with `slots` units of the teams (P_TEAM_2_END), P = `agents` and U = `own`."""
    return Episode(
        i=np.zeros((worlds, NUM_EPISODE_INTS), np.int64),
        f=np.zeros((worlds, NUM_EPISODE_FLOATS)),
        health=np.zeros((worlds, slots), np.float32),
        tag=np.zeros((worlds, slots), np.int32),
        drawn=np.zeros((worlds, slots), np.int64),
        last_action=np.zeros((worlds, agents, own), np.int32),
        intent=np.zeros((worlds, slots, 2), np.int64),
        intent_at=np.zeros((worlds, slots, 2), np.float32),
        spent=np.zeros((worlds, slots), np.float32),
        foes=np.zeros((worlds, slots), np.int64),
        foe_at=np.zeros((worlds, 3, slots), np.float32),
    )


class Action(NamedTuple):
    """The actions of a step in the environment's own memory; the arrays of the views not in use are empty."""

    order: np.ndarray  # int64 [B, P, U]: unit view's order, or SMAC's number
    target: np.ndarray  # int64 [B, P, U]
    function: np.ndarray  # int64 [B, P, 4]: function, queued, target_unit, target_point
    selected: np.ndarray  # bool [B, P, U]


class Output(NamedTuple):
    """What a step writes; the arrays of the views not in use are empty."""

    entities: np.ndarray  # float32 [B, P, N, F]
    mask: np.ndarray  # bool [B, P, N]
    scalars: np.ndarray  # float32 [B, P, S]
    order_mask: np.ndarray  # bool [B, P, U, K]
    target_mask: np.ndarray  # bool [B, P, U, 3, N]
    action_mask: np.ndarray  # bool [B, P, U, A]
    function_mask: np.ndarray  # bool [B, P, Fn]
    selected_mask: np.ndarray  # bool [B, P, Fn, U]
    target_unit_mask: np.ndarray  # bool [B, P, Fn, N]
    agent_obs: np.ndarray  # float32 [B, P, U, obs]
    state: np.ndarray  # float32 [B, P, state]


class StepResult(NamedTuple):
    """Per-world results of a step."""

    reward: np.ndarray  # float64 [B, P]
    terminated: np.ndarray  # bool [B]
    truncated: np.ndarray  # bool [B]


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
        other = int(static.kind_i[kind, S.KI_CHANGES_TO])
        if other < 0:
            continue
        if static.kind_i[other, S.KI_FLAGS] & S.FLAG_BURROWED:
            orders[kind] = A.BURROW
        elif static.kind_i[kind, S.KI_FLAGS] & S.FLAG_BURROWED:
            orders[kind] = A.UNBURROW
        else:
            # Of a pair of modes the one with the longer range, else the later name, is the sieged one.
            ranges = [float(static.weapon_f[k, :, S.WF_RANGE].max()) for k in (kind, other)]
            names = [rules.entries[k]["name"] for k in (kind, other)]
            orders[kind] = A.SIEGE if (ranges[0], names[0]) < (ranges[1], names[1]) else A.UNSIEGE
    return orders


def _reach(static: Static) -> tuple[np.ndarray, np.ndarray]:
    """(can_hit [T, T], range [T, T]) of every kind against every kind."""
    count = static.kind_i.shape[0]
    can_hit = np.zeros((count, count), np.bool_)
    reach = np.zeros((count, count), np.float32)
    for kind in range(count):
        for other in range(count):
            flags = int(static.kind_i[other, S.KI_FLAGS])
            planes = S.TARGET_AIR if flags & S.FLAG_FLYING else S.TARGET_GROUND
            planes = S.TARGET_AIR | S.TARGET_GROUND if flags & S.FLAG_COLOSSUS else planes
            for weapon in range(int(static.kind_i[kind, S.KI_WEAPONS])):
                if static.weapon_i[kind, weapon, S.WI_TARGETS] & planes:
                    can_hit[kind, other] = True
                    reach[kind, other] = max(reach[kind, other], static.weapon_f[kind, weapon, S.WF_RANGE])
    return can_hit, reach


def _centre(scenario: Scenario, team: int) -> tuple[float, float]:
    units = scenario.teams[team].units
    if scenario.rules != "battle" or scenario.random_teams is not None or not units:
        x0, y0, x1, y1 = scenario.playable
        return (x0 + x1) / 2, (y0 + y1) / 2
    x, y = np.mean([unit.position for unit in units], axis=0)
    return float(x), float(y)


def compile_scenario(scenario: Scenario, rules: Rules, *, agents: int, autoreset: bool) -> Plan:
    """Compiles a scenario for `agents` (1 or 2) agents; with `autoreset` a finished world starts anew in the same
    step."""
    first, second = scenario.teams
    neutral = scenario.neutral_slots
    slots = first.slots + neutral + second.slots
    own = first.slots if agents == 1 else max(first.slots, second.slots)
    rows = slots if agents == 1 else 2 * own + neutral
    static = rules.static

    start_kind = np.full(slots, -1, np.int32)
    start = np.zeros((slots, 2))
    for team, offset in ((first, 0), (second, first.slots + neutral)):
        for index, unit in enumerate(team.units):
            start_kind[offset + index] = rules.kind[unit.unit_type]
            start[offset + index] = unit.position

    slot_of_row = np.full((agents, rows), -1, np.int32)
    row_of_slot = np.full((agents, slots), -1, np.int32)
    spans = [range(first.slots), range(first.slots + neutral, slots)]
    for player in range(agents):
        blocks = (
            (0, spans[player]),
            (own, range(first.slots, first.slots + neutral)),
            (own + neutral, spans[1 - player]),
        )
        for offset, span in blocks:
            for index, slot in enumerate(span):
                slot_of_row[player, offset + index] = slot
                row_of_slot[player, slot] = offset + index

    game = np.zeros(MAX_GAME_PARAMETERS)
    numbers = [number for key in GAME_PARAMETERS[scenario.rules] for number in scenario.game[key]]
    game[: len(numbers)] = numbers

    target = np.array([_centre(scenario, 1), _centre(scenario, 0)])
    for side, team in enumerate(scenario.teams):
        if team.attack_target is not None:
            target[side] = team.attack_target

    can_hit, reach = _reach(static)
    heals = static.kind_f[:, S.K_HEAL_RATE] > 0
    biological = (static.kind_i[:, S.KI_ATTRIBUTES] >> S.ATTRIBUTES.index("biological")) & 1 == 1

    random = scenario.random_teams
    weights = np.array(random.weights if random else [1.0])
    bits = smac_unit_types(scenario)
    type_bit = np.full(len(rules.entries), -1, np.int32)
    for bit, name in enumerate(bits):
        type_bit[rules.kind[name]] = bit

    i = np.zeros(NUM_PLAN_INTS, np.int64)
    i[P_RULES] = RULES.index(scenario.rules)
    i[P_AGENTS] = agents
    i[P_OWN] = own
    i[P_ROWS] = rows
    i[P_TEAM_1_END] = first.slots
    i[P_NEUTRAL_END] = first.slots + neutral
    i[P_TEAM_2_END] = slots
    i[P_STEP_LIMIT] = scenario.step_limit
    i[P_STEP_MUL] = scenario.step_mul
    i[P_OBEDIENT] = scenario.agent_units_obedient
    i[P_SMAC_ACTIONS] = smac_actions(scenario, agents)
    i[P_SMAC_TRUE_RANGE] = scenario.smac_true_range
    i[P_SMAC_BITS] = len(bits)
    shielded = [team_has_shields(scenario, team) for team in (0, 1)]
    i[P_SMAC_SHIELD_1], i[P_SMAC_SHIELD_2] = shielded
    i[P_KIND_NEUTRAL] = rules.kind.get("Beacon", rules.kind.get("MineralShard", -1))
    i[P_MAP_WIDTH], i[P_MAP_HEIGHT] = scenario.map_size
    i[P_RANDOM_TEAMS] = random is not None
    i[P_RANDOM_1], i[P_RANDOM_2] = first.slots, second.slots
    i[P_AUTORESET] = autoreset
    return Plan(
        i=i,
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
        order_target=A.ORDER_TARGET_CLASS,
        directions=A.DIRECTIONS,
        smac_moves=A.SMAC_MOVE_DIRECTIONS,
    )
