"""A policy that plays in a vector of worlds, without learning: a network or a scripted policy."""

from typing import Any

import gymnasium
import numpy as np
import torch

from agents.acting.arrays import to_arrays, to_tensors
from agents.acting.scripted import scripted_action
from agents.models.network import AgentNetwork


class Player:
    """Gives the actions of a network, and keeps its recurrent state, or those of a scripted policy."""

    def __init__(
        self, env: gymnasium.vector.VectorEnv, policy: AgentNetwork | str, *, deterministic: bool = False
    ) -> None:
        """policy: a network, or the name of a scripted policy (`agents.acting.scripted`). deterministic: the network's
        likeliest action instead of a drawn one."""
        self.env, self.policy, self.deterministic = env, policy, deterministic
        self.state = {} if isinstance(policy, str) else policy.initial_state(env.num_envs)

    def act(self, observation: dict[str, np.ndarray], is_first: np.ndarray) -> Any:
        """Actions [B, ...] for observations [B, ...]; is_first bool [B] marks new episodes. Call it once a step."""
        if isinstance(self.policy, str):
            return scripted_action(self.env, observation, self.policy)
        step = self.policy.act(
            to_tensors(observation), self.state, torch.as_tensor(is_first), deterministic=self.deterministic
        )
        self.state = step.state
        return to_arrays(step.action)
