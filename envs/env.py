"""One world as an ordinary Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from envs.vector_env import SC2VectorEnv


class SC2Env(gymnasium.Env):
    """A single world; arguments, views and masks as `SC2VectorEnv`, arrays without the batch axis.

    After `reset(seed=s)` it plays exactly what world `b` of a batch plays after `reset(seed=s - b)`.
    """

    metadata = {"render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 16}  # noqa: RUF012

    def __init__(self, scenario: Any = "3m", *, render_mode: str | None = None, **options: Any):
        for name in ("num_envs", "num_threads", "copy", "players"):
            if name in options:
                raise ValueError(f"{name} is for SC2VectorEnv; SC2Env is one world with one agent")
        self.worlds = SC2VectorEnv(scenario, 1, render_mode=render_mode, _autoreset=False, **options)
        self.render_mode = render_mode
        self.scenario = self.worlds.scenario
        self.observation_space = self.worlds.single_observation_space
        self.action_space = self.worlds.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        if options:
            raise ValueError(f"unknown reset options {sorted(options)}")
        observation, _ = self.worlds.reset(seed=seed)
        return {name: array[0] for name, array in observation.items()}, {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step; at the end of an episode `info` holds `battle_won`, `score` and `episode_length`.

        Raises:
            ValueError: as `SC2VectorEnv.step`.
        """
        batch = self.worlds.add_batch_axis(action)
        observation, reward, terminated, truncated, infos = self.worlds.step(batch)
        info = {"illegal_actions": int(infos["illegal_actions"][0])}
        if "final_info" in infos:
            final = infos["final_info"]
            info |= {name: final[name][0].item() for name in ("battle_won", "score", "episode_length")}
        single = {name: array[0] for name, array in observation.items()}
        return single, float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        frames = self.worlds.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        self.worlds.close()

    def scripted_action(self, name: str) -> Any:
        """The action of a scripted policy (`envs.rules.opponents.OPPONENTS`) in this view."""
        action = self.worlds.scripted_action(name)
        return {key: value[0] for key, value in action.items()} if isinstance(action, dict) else action[0]
