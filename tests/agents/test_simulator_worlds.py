"""The simulator's worlds in a rollout: saved and restored, they go on bit for bit."""

import gymnasium
import numpy as np
import torch

from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.evaluation.playing import FIRST_SEED, play
from agents.league import self_play
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
    assert restored.set_state(state)
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


def test_worlds_of_another_version_start_anew() -> None:
    """Saved arrays that do not fit are not forced in: the worlds that were just started are played."""
    rollout = make_rollout(0)
    rollout.collect()
    state = rollout.get_state()
    path = next(iter(state["worlds"]["arrays"]))
    state["worlds"]["arrays"][path] = np.concatenate([state["worlds"]["arrays"][path]] * 2)
    other, untouched = make_rollout(5), make_rollout(5)
    assert other.set_state(state) is False
    torch.manual_seed(1)
    expected, _ = untouched.collect()
    torch.manual_seed(1)
    assert_equal(other.collect()[0], expected)


def test_second_players_parts_are_zero_where_a_script_does_not_know_them() -> None:
    """A scripted opponent plays against agents whose actions have more parts than it gives."""
    space = gymnasium.spaces.Dict(order=gymnasium.spaces.MultiDiscrete([4, 4]), signal=gymnasium.spaces.Discrete(3))
    actions = self_play._no_actions(space, 5)
    assert actions["order"].shape == (5, 2) and actions["signal"].shape == (5,)
    self_play._put(actions, np.array([1, 3]), {"order": np.full((2, 2), 2)})
    assert actions["order"][:, 0].tolist() == [0, 2, 0, 2, 0] and not actions["signal"].any()
