"""Stock RLlib, the benchmark's other side, gets the same worlds and the same network."""

import numpy as np
import torch

from agents.acting.arrays import to_tensors
from tests.agents.ray_runs import NETWORK
from tests.agents.tiny_worlds import make


def test_worlds_with_the_autoreset_that_rllib_expects():
    """Where the worlds show a new episode at once, RLlib sees the last observation first, then the reset."""
    from benchmarks.rllib_peer import NextStepReset

    ours, theirs = make(8, 0), NextStepReset(make(8, 0))
    ours.reset(seed=0)
    theirs.reset(seed=0)
    space = ours.action_space
    space.seed(0)
    ended = np.zeros(8, dtype=bool)
    for _ in range(40):
        action = space.sample()
        observation, reward, terminated, truncated, infos = ours.step(action)
        seen, seen_reward, *seen_done, _ = theirs.step(action)
        done = (terminated | truncated) & ~ended
        np.testing.assert_array_equal(seen_done[0] | seen_done[1], done)
        np.testing.assert_array_equal(seen_reward, np.where(ended, 0.0, reward))
        for name, values in observation.items():
            np.testing.assert_array_equal(seen[name][~done], values[~done])
            if done.any():
                np.testing.assert_array_equal(seen[name][done], infos["final_obs"][name][done])
        ended = done


def test_module_says_the_same_of_an_action_when_acting_and_when_learning():
    from ray.rllib.core.columns import Columns

    from benchmarks.rllib_peer import StockModule, TeacherForced

    worlds = make(8, 0)
    module = StockModule(
        observation_space=worlds.single_observation_space,
        action_space=worlds.single_action_space,
        model_config={"network": NETWORK},
    )
    torch.manual_seed(0)
    batch = {Columns.OBS: to_tensors(worlds.reset(seed=0)[0])}
    acted = module.forward_exploration(batch)
    learnt = module.forward_train(batch | {Columns.ACTIONS: acted[Columns.ACTIONS]})
    distribution = TeacherForced.from_logits(learnt[Columns.ACTION_DIST_INPUTS])
    torch.testing.assert_close(distribution.logp(acted[Columns.ACTIONS]), acted[Columns.ACTION_LOGP])
    torch.testing.assert_close(module.compute_values(batch), module.compute_values(batch, learnt[Columns.EMBEDDINGS]))
    assert (distribution.entropy() > 0).all()
