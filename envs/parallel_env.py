"""PettingZoo parallel environment: every unit is an agent, as in SMAC, or every player is (two players)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from envs.vector_env import SC2VectorEnv


class SC2ParallelEnv(ParallelEnv):
    """One battle for multi-agent users; each unit slot of the agent's side is an agent `unit_0`, `unit_1`, ...

    Observations follow PettingZoo's convention for masked actions: `{"observation": SMAC's per-agent observation [obs],
    "action_mask": int8 [n_actions]}`. Actions are SMAC's numbers. All agents get the team's reward. An agent whose unit
    died leaves with `terminations` True. `state()` is SMAC's global state.

    Args:
        scenario: as `SC2VectorEnv`; a battle, since SMAC's view has no actions for mini-games.
        options: further arguments of `SC2VectorEnv` (`opponent`, `seed`, `illegal_actions`).
    """

    metadata = {"name": "perceiver_sc2", "render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 16}  # noqa: RUF012

    def __init__(self, scenario: Any = "3m", *, render_mode: str | None = None, **options: Any):
        self.worlds = SC2VectorEnv(
            scenario,
            1,
            render_mode=render_mode,
            action_view="smac",
            observation_view="smac",
            _autoreset=False,
            **options,
        )
        if self.worlds.scenario.rules != "battle":
            raise ValueError(f"{self.worlds.scenario.name} is a mini-game; the parallel environment plays battles")
        self.render_mode = render_mode
        shapes = self.worlds.single_observation_space.spaces  # type: ignore[attr-defined]
        self.possible_agents = [f"unit_{u}" for u in range(self.worlds.num_units)]
        self.agents: list[str] = []
        n_actions = shapes["action_mask"].shape[1]
        self._observation_space = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, shapes["agent_obs"].shape[1:], np.float32),
                "action_mask": spaces.Box(0, 1, (n_actions,), np.int8),
            }
        )
        self._action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(n_actions) for agent in self.possible_agents
        }
        self.state_space = shapes["state"]
        self._observation: dict[str, np.ndarray] = {}

    def observation_space(self, agent: str) -> spaces.Dict:
        return self._observation_space

    def action_space(self, agent: str) -> spaces.Discrete:
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict]]:
        # PettingZoo lets callers pass any options; this environment has none.
        self._observation, _ = self.worlds.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._observe(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict]]:
        """One step of all agents that are alive.

        Raises:
            ValueError: an action is missing or for an agent that is not alive.
        """
        if set(actions) != set(self.agents):
            raise ValueError(f"actions for {sorted(actions)}; expected for the living agents {sorted(self.agents)}")
        numbers = np.zeros((1, len(self.possible_agents)), np.int64)
        for agent, action in actions.items():
            numbers[0, self.possible_agents.index(agent)] = action
        self._observation, reward, terminated, truncated, _ = self.worlds.step(numbers)
        alive = {agent: self._observation["action_mask"][0, u, 0] == 0 for u, agent in enumerate(self.possible_agents)}
        over = bool(terminated[0])
        observations = self._observe()
        rewards = {agent: float(reward[0]) for agent in self.agents}
        terminations = {agent: bool(over or not alive[agent]) for agent in self.agents}
        truncations = {agent: bool(truncated[0]) for agent in self.agents}
        infos: dict[str, dict] = {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminations[agent] or truncations[agent])]
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """SMAC's global state [state]."""
        return self._observation["state"][0]

    def render(self) -> Any:
        frames = self.worlds.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        self.worlds.close()

    def _observe(self) -> dict[str, Any]:
        return {
            agent: {
                "observation": self._observation["agent_obs"][0, u],
                "action_mask": self._observation["action_mask"][0, u].astype(np.int8),
            }
            for u, agent in enumerate(self.possible_agents)
            if agent in self.agents
        }
