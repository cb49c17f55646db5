"""The agent on the simulator itself, in every action view: what it draws is legal there and can be evaluated again."""

import numpy as np
import pytest
import torch

from agents.acting.arrays import to_tensors
from agents.acting.rollout import Rollout
from agents.models.network import AgentNetwork
from envs import SC2VectorEnv
from tests.agents.synthetic import TINY


@pytest.mark.parametrize("view", ["unit", "smac", "function"])
def test_drawn_actions_are_legal_in_the_simulator(view: str) -> None:
    torch.manual_seed(0)
    env = SC2VectorEnv("3m", num_envs=4, seed=0, action_view=view, illegal_actions="error")
    network = AgentNetwork(TINY, env.single_observation_space, env.single_action_space)
    fragment, _ = Rollout(env, network, fragment_length=6, seed=0).collect()
    batch = to_tensors(fragment)
    out = network.evaluate(batch["observation"], batch["action"], batch["state"], batch["is_first"])
    torch.testing.assert_close(out.log_prob, batch["behaviour_log_prob"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.value, batch["value"], atol=1e-4, rtol=1e-4)
    assert out.unit_mask.any() and np.isfinite(fragment["reward"]).all()
