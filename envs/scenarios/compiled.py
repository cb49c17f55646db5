"""A scenario as the kernels take it, in arrays: see `envs.scenarios.compiler`.

`CompiledScenario` holds its constants, `Episode` what an episode remembers, `Action` and `Output` what goes in and out.

Slots and rows. A world's entity slots lie in the order [team 1 | neutral | team 2]. A player sees them as *rows*: its
own slots first (rows 0..U-1), then neutral, then enemies. `CompiledScenario.slot_of_row` and `row_of_slot` translate.
With one agent both are the identity.

Shapes: B worlds, P agents, U unit slots of an agent, N rows, T unit kinds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# --- parameters: compiled.i[P_*] -----------------------------------------------------------------------------
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
    NUM_PARAMETERS,
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


class CompiledScenario(NamedTuple):
    """What the kernels need of a scenario; read only."""

    i: np.ndarray  # int64 [NUM_PARAMETERS]
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
