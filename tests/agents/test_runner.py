"""Fragments: their layout, what carries over, and what a cut-off episode is worth."""

import numpy as np
import pytest
import torch

from agents.acting.arrays import to_tensors
from agents.acting.episodes import EpisodeCounter
from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.models.network import AgentNetwork
from tests.agents.ray_runs import NETWORK, tiny_config
from tests.agents.tiny_worlds import LONGEST, TinyWorlds


def make_rollout(seed: int = 0, fragment_length: int = 8, num_envs: int = 4, lstm: int = 0) -> Rollout:
    import dataclasses

    env = TinyWorlds(num_envs, seed)
    torch.manual_seed(seed)
    config = dataclasses.replace(NETWORK, lstm_channels=lstm)
    network = AgentNetwork(config, env.single_observation_space, env.single_action_space)
    return Rollout(env, network, fragment_length=fragment_length, seed=seed)


def assert_equal(left, right, where="fragment"):
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for name in left:
            assert_equal(left[name], right[name], f"{where}.{name}")
    else:
        np.testing.assert_array_equal(left, right, err_msg=where)


def test_fragment_layout():
    rollout = make_rollout(lstm=6)
    fragment, _ = rollout.collect()
    steps, worlds, units = 8, 4, 2
    assert fragment["observation"]["entities"].shape[:2] == (steps + 1, worlds)
    assert fragment["action"]["order"].shape == (steps, worlds, units)
    assert fragment["behaviour_log_prob"].shape == (steps, worlds, units)
    assert fragment["value"].shape == fragment["is_first"].shape == (steps + 1, worlds)
    for name in ("reward", "terminated", "truncated", "final_value"):
        assert fragment[name].shape == (steps, worlds)
    assert fragment["state"]["h"].shape == (worlds, 6)


def test_fragments_without_values_are_otherwise_the_same():
    with_values, without = make_rollout(), make_rollout()
    without.values = False
    torch.manual_seed(1)
    expected = with_values.collect()[0]
    torch.manual_seed(1)
    fragment = without.collect()[0]
    del expected["value"]
    assert_equal(fragment, expected)


@pytest.mark.parametrize("lstm", [0, 6])
def test_fragments_continue_each_other(lstm):
    """The bootstrap row of one fragment is the first row of the next, and cutting does not change what is sampled."""
    short, long = make_rollout(fragment_length=8, lstm=lstm), make_rollout(fragment_length=16, lstm=lstm)
    torch.manual_seed(1)
    first, second = short.collect()[0], short.collect()[0]
    torch.manual_seed(1)
    whole = long.collect()[0]
    assert_equal(
        {name: array[-1] for name, array in first["observation"].items()},
        {name: array[0] for name, array in second["observation"].items()},
    )
    np.testing.assert_array_equal(first["is_first"][-1], second["is_first"][0])
    for name in ("reward", "terminated", "truncated", "behaviour_log_prob", "final_value"):
        np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), whole[name], err_msg=name)


@pytest.mark.parametrize("lstm", [0, 6])
def test_learner_sees_what_the_actor_saw(lstm):
    """Re-evaluating a fragment with the acting weights gives the recorded log-probabilities and values."""
    rollout = make_rollout(lstm=lstm, fragment_length=20)
    rollout.collect()
    fragment, _ = rollout.collect()
    batch = to_tensors(fragment)
    output = rollout.network.evaluate(batch["observation"], batch["action"], batch["state"], batch["is_first"])
    chosen = output.unit_mask
    torch.testing.assert_close(output.log_prob[chosen], batch["behaviour_log_prob"][chosen], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.value, batch["value"], rtol=1e-4, atol=1e-5)


def test_only_truncation_has_a_final_value():
    rollout = make_rollout(fragment_length=40, num_envs=16, lstm=6)
    fragment, _ = rollout.collect()
    truncated = fragment["truncated"]
    assert truncated.any() and fragment["terminated"].any()
    assert not (truncated & fragment["terminated"]).any()
    assert (fragment["final_value"][truncated] != 0).all()
    assert (fragment["final_value"][~truncated] == 0).all()
    np.testing.assert_array_equal(fragment["is_first"][1:], truncated | fragment["terminated"])


def test_final_value_is_of_the_state_that_was_cut_off():
    """The final value is the network's value of the ended episode's last observation, not of the next one's first."""
    rollout = make_rollout(num_envs=2, fragment_length=1)
    for _ in range(3 * LONGEST):
        torch.manual_seed(0)
        fragment, _ = rollout.collect()
        if fragment["truncated"].any():
            break
    world = int(np.flatnonzero(fragment["truncated"][0])[0])
    # What the world looked like at the cut: TinyWorlds shows the step count in the scalars.
    first = {name: torch.as_tensor(array[1]) for name, array in fragment["observation"].items()}
    assert first["scalars"][world, 0] == 0
    value = rollout.network.value(first, {}, torch.zeros(2, dtype=torch.bool))[world]
    assert abs(float(value) - fragment["final_value"][0, world]) > 1e-6


@pytest.mark.parametrize("lstm", [0, 6])
def test_restored_rollout_goes_on_bit_for_bit(lstm):
    rollout = make_rollout(lstm=lstm)
    rollout.collect()
    state = rollout.get_state()
    expected = [rollout.collect() for _ in range(3)]
    restored = make_rollout(seed=9, lstm=lstm)
    restored.network.load_state_dict(rollout.network.state_dict())
    restored.set_state(state)
    for fragment, episodes in expected:
        again, episodes_again = restored.collect()
        assert_equal(fragment, again)
        assert episodes == episodes_again


def test_episode_counter():
    counter = EpisodeCounter(2)
    counter.step(np.array([1.0, 0.5]), np.array([False, False]), {})
    infos = {"final_info": {"battle_won": np.array([True, False]), "score": np.array([7.0, 0.0])}}
    finished = counter.step(np.array([2.0, 0.5]), np.array([True, False]), infos)
    assert (finished.returns, finished.lengths, finished.won, finished.scores) == ([3.0], [2], [True], [7.0])
    finished = counter.step(np.array([4.0, 1.0]), np.array([True, True]), infos)
    assert finished.returns == [4.0, 2.0] and finished.lengths == [1, 3]


def test_worlds_of_ones_own():
    env = make_worlds(tiny_config().world, 3, 0)
    assert isinstance(env, TinyWorlds) and env.num_envs == 3
    with pytest.raises(ValueError, match="no importable factory"):
        make_worlds(tiny_config(scenario="tests.agents.tiny_worlds:missing").world, 3, 0)
