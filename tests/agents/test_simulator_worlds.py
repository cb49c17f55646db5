"""The simulator's worlds in a rollout: saved and restored, they go on bit for bit."""

import numpy as np
import torch

from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.evaluation.playing import FIRST_SEED, play
from agents.models.network import AgentNetwork
from agents.presets import WorldConfig
from tests.agents.ray_runs import NETWORK
from tests.agents.test_runner import assert_equal

WORLD = WorldConfig(scenario="3m", num_envs=4)


def make_rollout(seed: int) -> Rollout:
    env = make_worlds(WORLD, WORLD.num_envs, seed)
    torch.manual_seed(seed)
    network = AgentNetwork(NETWORK, env.single_observation_space, env.single_action_space)
    return Rollout(env, network, fragment_length=25, seed=seed)


def test_restored_worlds_go_on_bit_for_bit():
    rollout = make_rollout(0)
    rollout.collect()
    state = rollout.get_state()
    expected = [rollout.collect() for _ in range(4)]
    assert sum(len(episodes.returns) for _, episodes in expected) > 0
    restored = make_rollout(5)
    restored.network.load_state_dict(rollout.network.state_dict())
    restored.set_state(state)
    for array in restored.env.work_space:
        array[...] = 77  # it is not saved, so whatever it holds must not matter
    for fragment, episodes in expected:
        again, episodes_again = restored.collect()
        assert_equal(fragment, again)
        assert episodes == episodes_again


def test_scripted_policies_can_be_evaluated():
    first = play("focus-fire", WORLD, num_envs=4, rounds=2, seed=FIRST_SEED)
    assert np.bincount(first.slots).tolist() == [2] * 4
    assert first == play("focus-fire", WORLD, num_envs=4, rounds=2, seed=FIRST_SEED)
