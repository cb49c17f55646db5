"""Tiny worlds with the simulator's spaces, for tests of the training machinery: no game, learnable in seconds.

Two own units and two enemies. One enemy is "marked" (full health, the other has little): an attack on it earns 1/2 per
unit and step. An episode is terminated with probability 1/16 a step and truncated after 12 steps; it counts as won if
at least 60% of what could be earned was earned.
"""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.actions import ORDER_TARGET_CLASS, UNIT_ORDERS
from envs.views.observation import ENTITY_FEATURES, SCALARS

UNITS, ENEMIES = 2, 2
ENTITIES = UNITS + ENEMIES
LONGEST = 12
NO_OP, ATTACK = UNIT_ORDERS.index("no_op"), UNIT_ORDERS.index("attack")
COLUMN = {name: index for index, name in enumerate(ENTITY_FEATURES)}


class TinyWorlds(VectorEnv):
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  (Gymnasium's own class attribute)

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        orders = len(UNIT_ORDERS)
        self.single_observation_space = spaces.Dict(
            {
                "entities": spaces.Box(-np.inf, np.inf, (ENTITIES, len(ENTITY_FEATURES)), np.float32),
                "mask": spaces.MultiBinary(ENTITIES),
                "scalars": spaces.Box(-np.inf, np.inf, (len(SCALARS),), np.float32),
                "order_mask": spaces.MultiBinary((UNITS, orders)),
                "target_mask": spaces.MultiBinary((UNITS, 3, ENTITIES)),
            }
        )
        self.single_action_space = spaces.Dict(
            {
                "order": spaces.MultiDiscrete([orders] * UNITS),
                "target": spaces.MultiDiscrete([ENTITIES] * UNITS),
            }
        )
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.random = np.random.default_rng(seed)
        self._start(np.ones(num_envs, dtype=bool))

    def _start(self, worlds: np.ndarray) -> None:
        if worlds.all():
            self.steps = np.zeros(self.num_envs, dtype=np.int64)
            self.earned = np.zeros(self.num_envs)
            self.marked = np.zeros(self.num_envs, dtype=np.int64)
        self.steps[worlds] = 0
        self.earned[worlds] = 0.0
        self.marked[worlds] = self.random.integers(0, ENEMIES, self.num_envs)[worlds]

    def _observe(self) -> dict[str, np.ndarray]:
        batch = np.arange(self.num_envs)
        entities = np.zeros((self.num_envs, ENTITIES, len(ENTITY_FEATURES)), dtype=np.float32)
        entities[:, :, COLUMN["unit_type"]] = 48
        entities[:, :UNITS, COLUMN["alliance"]] = 1
        entities[:, UNITS:, COLUMN["alliance"]] = 4
        entities[:, :, COLUMN["x"]] = np.arange(ENTITIES)
        entities[:, :, COLUMN["health_ratio"]] = 0.1
        entities[batch, UNITS + self.marked, COLUMN["health_ratio"]] = 1.0
        order_mask = np.zeros((self.num_envs, UNITS, len(UNIT_ORDERS)), dtype=bool)
        order_mask[:, :, [order for order in range(len(UNIT_ORDERS)) if ORDER_TARGET_CLASS[order] < 0]] = True
        order_mask[:, :, NO_OP] = False
        order_mask[:, :, ATTACK] = True
        target_mask = np.zeros((self.num_envs, UNITS, 3, ENTITIES), dtype=bool)
        target_mask[:, :, ORDER_TARGET_CLASS[ATTACK], UNITS:] = True
        scalars = np.zeros((self.num_envs, len(SCALARS)), dtype=np.float32)
        scalars[:, SCALARS.index("time_fraction")] = self.steps / LONGEST
        return {
            "entities": entities,
            "mask": np.ones((self.num_envs, ENTITIES), dtype=bool),
            "scalars": scalars,
            "order_mask": order_mask,
            "target_mask": target_mask,
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self._start(np.ones(self.num_envs, dtype=bool))
        return self._observe(), {}

    def step(self, actions: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any, Any, Any, dict[str, Any]]:
        hit = (actions["order"] == ATTACK) & (actions["target"] == UNITS + self.marked[:, None])
        reward = hit.mean(axis=1)
        self.steps += 1
        self.earned += reward
        terminated = self.random.random(self.num_envs) < 1 / 16
        truncated = ~terminated & (self.steps >= LONGEST)
        done = terminated | truncated
        self.marked = self.random.integers(0, ENEMIES, self.num_envs)
        infos: dict[str, Any] = {}
        if done.any():
            won = self.earned >= 0.6 * self.steps
            infos = {
                "final_obs": self._observe(),
                "final_info": {"battle_won": won, "score": self.earned.copy(), "episode_length": self.steps.copy()},
            }
            self._start(done)
        return self._observe(), reward, terminated, truncated, infos


def make(num_envs: int, seed: int) -> TinyWorlds:
    return TinyWorlds(num_envs, seed)


# Names the file that `make_counted` worlds write to.
COUNT_FILE = "PERCEIVER_TEST_COUNT_FILE"


class CountedWorlds(TinyWorlds):
    """Add a byte to a file at every step of theirs: what a process has done is known however it ends."""

    def step(self, actions: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any, Any, Any, dict[str, Any]]:
        with open(os.environ[COUNT_FILE], "ab") as file:
            file.write(b".")
        return super().step(actions)


def make_counted(num_envs: int, seed: int) -> CountedWorlds:
    return CountedWorlds(num_envs, seed)
