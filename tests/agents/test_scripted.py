"""Scripted policies in the agent's place: when `withdraw` steps back, and what that gains."""

import numpy as np
import pytest

from agents.acting.scripted import DANGER, HURT, RELOADING, scripted_action
from agents.acting.worlds import make_worlds
from agents.evaluation.playing import FIRST_SEED, play
from agents.presets import WorldConfig
from envs.actions import DIRECTIONS, MOVE_NORTH
from envs.views.observation import (
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


def test_withdrawing_is_for_the_unit_view_only():
    env = make_worlds(WorldConfig(scenario="3m", action_view="smac"), 1, 0)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="action view 'unit' only"):
        scripted_action(env, observation, "withdraw")
