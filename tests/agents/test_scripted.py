"""Scripted policies in the agent's place: whom `ambush` lets wait, when `withdraw` steps back, what both gain."""

import numpy as np
import pytest

from agents.evaluate import FIRST_SEED, play
from agents.presets import WorldConfig
from agents.rollout import make_worlds
from agents.scripted import DANGER, HURT, RELOADING, SLACK, scripted_action
from envs.actions import ATTACK, DIRECTIONS, MOVE_NORTH, STOP
from envs.observation import (
    ALLIANCE_ENEMY,
    C_ALLIANCE,
    C_COOLDOWN,
    C_HEALTH_RATIO,
    C_SHIELD,
    C_X,
    C_Y,
)


def expected_step(observation: dict[str, np.ndarray], world: int, unit: int) -> int | None:
    """The order of a unit that withdraws, by a loop; None for one that stays."""
    entities, mask = observation["entities"][world], observation["mask"][world]
    own = entities[unit]
    if not mask[unit] or own[C_SHIELD] > 0 or own[C_HEALTH_RATIO] >= HURT or own[C_COOLDOWN] <= RELOADING:
        return None
    enemies = [e for e, seen in zip(entities, mask, strict=True) if seen and e[C_ALLIANCE] == ALLIANCE_ENEMY]
    gaps = [np.hypot(own[C_X] - e[C_X], own[C_Y] - e[C_Y]) for e in enemies]
    if not gaps or min(gaps) >= DANGER:
        return None
    nearest = enemies[int(np.argmin(gaps))]
    legal = [d for d in range(8) if observation["order_mask"][world, unit, MOVE_NORTH + d]]
    if not legal:
        return None
    away = np.array([own[C_X] - nearest[C_X], own[C_Y] - nearest[C_Y]], dtype=np.float64)
    return MOVE_NORTH + max(legal, key=lambda d: float(away @ DIRECTIONS[d]))


def test_hurt_units_step_back_while_they_reload_and_nobody_else_changes():
    env = make_worlds(WorldConfig(scenario="2s3z", num_envs=8), 8, 0)
    observation, _ = env.reset(seed=0)
    steps_back = 0
    for _ in range(60):
        action = scripted_action(env, observation, "withdraw")
        base = env.scripted_action("kite")
        for world, unit in np.ndindex(*action["order"].shape):
            step = expected_step(observation, world, unit)
            order, target = action["order"][world, unit], action["target"][world, unit]
            if step is None:
                assert (order, target) == (base["order"][world, unit], base["target"][world, unit])
            else:
                assert (order, target) == (step, 0)
                steps_back += 1
            assert observation["order_mask"][world, unit, order]
        observation, *_ = env.step(action)
    assert steps_back > 50


def test_withdrawing_wins_more_battles():
    world = WorldConfig(scenario="8m")
    won = {
        policy: np.mean(play(policy, world, num_envs=50, rounds=2, seed=FIRST_SEED).won)
        for policy in ("kite", "withdraw")
    }
    assert won["withdraw"] > 0.9 > won["kite"]


def test_in_an_ambush_all_wait_until_an_enemy_is_in_reach_of_one():
    env = make_worlds(WorldConfig(scenario="8m", num_envs=4), 4, 0)
    observation, _ = env.reset(seed=0)
    waited, fought = 0, 0
    for _ in range(40):
        action, base = scripted_action(env, observation, "ambush"), env.scripted_action("focus-fire")
        for world in range(4):
            entities = observation["entities"][world][observation["mask"][world]]
            own, enemies = (entities[entities[:, C_ALLIANCE] == side] for side in (1, ALLIANCE_ENEMY))
            # All are Marines: range 5, radius 0.375 on both sides.
            gaps = [np.hypot(o[C_X] - e[C_X], o[C_Y] - e[C_Y]) for o in own for e in enemies]
            expected = base["order"][world].copy()
            if not gaps or min(gaps) > 5.0 + 2 * 0.375 + SLACK:
                waited += (expected == ATTACK).any()
                expected[expected == ATTACK] = STOP
            else:
                fought += 1
            np.testing.assert_array_equal(action["order"][world], expected)
        observation, *_ = env.step(action)
    assert waited > 0 and fought > 0


def test_an_ambush_beats_meeting_the_roaches():
    world = WorldConfig(scenario="DefeatRoaches")
    score = {
        policy: np.mean(play(policy, world, num_envs=20, rounds=1, seed=FIRST_SEED).scores)
        for policy in ("focus-fire", "ambush")
    }
    assert score["ambush"] > 4 * score["focus-fire"]


@pytest.mark.parametrize("policy", ["ambush", "withdraw"])
def test_policies_of_units_play_in_the_unit_view_only(policy):
    env = make_worlds(WorldConfig(scenario="3m", action_view="smac"), 1, 0)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="action view 'unit' only"):
        scripted_action(env, observation, policy)
