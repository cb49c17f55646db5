"""The public interface as Gymnasium's and PettingZoo's own checkers see it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from pettingzoo.test import parallel_api_test

import envs
from envs.parallel_env import SC2ParallelEnv


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("3m", {}),
        ("3m", {"action_view": "smac", "observation_view": "both"}),
        ("MMM", {"action_view": "function"}),
        ("MoveToBeacon", {}),
    ],
)
def test_gymnasiums_checker_passes(name, options):
    check_env(gymnasium.make(f"perceiver_sc2/{name}-v0", **options).unwrapped, skip_render_check=True)


def test_make_vec_gives_the_batched_environment():
    env = gymnasium.make_vec("perceiver_sc2/3m-v0", num_envs=64)
    assert type(env.unwrapped) is envs.SC2VectorEnv
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert reward.shape == terminated.shape == truncated.shape == (64,)
    env.close()


def test_the_single_environment_is_a_world_of_the_batch():
    batch = gymnasium.make_vec("perceiver_sc2/3m-v0", num_envs=3)
    single = gymnasium.make("perceiver_sc2/3m-v0").unwrapped
    many, _ = batch.reset(seed=10)
    one, _ = single.reset(seed=12)
    for _ in range(40):
        for name, array in one.items():
            np.testing.assert_array_equal(array, many[name][2], err_msg=name)
        action = batch.unwrapped.scripted_action("focus-fire")
        many, reward, terminated, truncated, _ = batch.step(action)
        one, single_reward, ended, cut, info = single.step({name: value[2] for name, value in action.items()})
        assert (single_reward, ended, cut) == (reward[2], terminated[2], truncated[2])
        if ended or cut:
            assert set(info) == {"illegal_actions", "battle_won", "score", "episode_length"}
            break
    else:
        pytest.fail("no battle ended")


def test_the_vector_wrappers_of_gymnasium_work():
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec("perceiver_sc2/3m-v0", num_envs=4))
    env.reset(seed=0)
    seen = 0
    for _ in range(70):
        *_, info = env.step(env.unwrapped.scripted_action("attack-move"))
        if "episode" in info.get("final_info", {}) or "episode" in info:
            seen += 1
    assert seen > 0


@pytest.mark.parametrize("name", ["3m", "MMM"])
def test_pettingzoos_test_passes(name):
    parallel_api_test(SC2ParallelEnv(name), num_cycles=200)


def test_the_parallel_environment_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="mini-game"):
        SC2ParallelEnv("MoveToBeacon")
    env = SC2ParallelEnv("3m")
    env.reset(seed=0)
    assert env.state().shape == env.state_space.shape == (48,)
    with pytest.raises(ValueError, match="expected for the living agents"):
        env.step({"unit_0": 1})
