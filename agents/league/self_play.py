"""Two-player worlds seen by one player: the other side is played by networks or scripted policies. No Ray here."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from agents.acting.arrays import map_arrays, to_arrays, to_tensors
from agents.acting.episodes import final_observation
from agents.acting.worlds import restore_worlds, save_worlds
from agents.models.network import AgentNetwork, NetworkConfig

Weights = dict[str, np.ndarray]


class OpponentWorlds(VectorEnv):
    """Wraps a vector of two-player worlds: its user is player 0, and each world has an opponent of its own as player 1.

    `assign` names the opponent of the episodes that start from then on; running episodes keep theirs to their end.
    Finished episodes carry `opponent` and `outcome` (1 won, 1/2 drawn, 0 lost) in `final_info`.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  (Gymnasium's own class attribute)

    def __init__(
        self,
        env: Any,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        opponent: str,
    ) -> None:
        """env: made with `players=2`. observation_space, action_space: of one player. opponent: the first, scripted."""
        self.env = env
        self.num_envs = env.num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = gymnasium.vector.utils.batch_space(observation_space, self.num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(action_space, self.num_envs)
        self._config = network
        self._networks: dict[str, AgentNetwork] = {}
        self._next = opponent
        self.in_other_processes = getattr(env, "in_other_processes", False)
        self.opponents = np.full(self.num_envs, opponent, dtype=object)
        self._state: dict[str, Tensor] = self._make_network().initial_state(self.num_envs)

    def _make_network(self) -> AgentNetwork:
        return AgentNetwork(self._config, self.single_observation_space, self.single_action_space).eval()

    def assign(self, name: str, weights: Weights | None) -> None:
        """Sets the opponent of coming episodes: a scripted policy (no weights), or the member `name` with its weights.

        A name that is playing already goes on with the new weights (so the mirror gets better).
        """
        self._next = name
        if weights is not None:
            network = self._networks.setdefault(name, self._make_network())
            network.load_state_dict({key: torch.as_tensor(np.array(array)) for key, array in weights.items()})

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        observation, infos = self.env.reset(seed=seed, options=options)
        self.opponents[:] = self._next
        self._is_first = np.ones(self.num_envs, dtype=bool)
        return self._split(observation), infos

    def step(self, actions: Any) -> tuple[dict[str, np.ndarray], Any, Any, Any, dict[str, Any]]:
        both = _both_players(actions, self._opponents_act())
        observation, reward, terminated, truncated, infos = self.env.step(both)
        done = terminated | truncated
        if done.any():
            infos = self._own_infos(infos, np.flatnonzero(done))
            self.opponents[done] = self._next
            playing = set(self.opponents) | {self._next}
            self._networks = {name: network for name, network in self._networks.items() if name in playing}
        self._is_first = done
        return self._split(observation), np.asarray(reward)[:, 0], terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """The worlds, who plays in them and with what weights and recurrent state."""
        return {
            "worlds": save_worlds(self.env),
            "next": self._next,
            "opponents": self.opponents.copy(),
            "networks": {name: to_arrays(network.state_dict()) for name, network in self._networks.items()},
            "state": map_arrays(np.copy, to_arrays(self._state)),
            "is_first": self._is_first.copy(),
            "their_observation": map_arrays(np.copy, self._their_observation),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state`'s output."""
        self.env = restore_worlds(self.env, state["worlds"])
        for name, weights in state["networks"].items():
            self.assign(name, weights)
        self._next = state["next"]
        self.opponents = state["opponents"].copy()
        self._state = to_tensors(map_arrays(np.copy, state["state"]))
        self._is_first = state["is_first"].copy()
        self._their_observation = map_arrays(np.copy, state["their_observation"])

    def _split(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._their_observation = {name: array[:, 1] for name, array in observation.items()}
        return {name: array[:, 0] for name, array in observation.items()}

    def _opponents_act(self) -> Any:
        """The other side's actions `[B, ...]`, one forward pass per network in play."""
        actions = _no_actions(self.single_action_space, self.num_envs)
        for name in dict.fromkeys(self.opponents):
            rows = np.flatnonzero(self.opponents == name)
            if name in self._networks:
                where = torch.from_numpy(rows)
                with torch.inference_mode():
                    step = self._networks[name].act(
                        to_tensors({key: array[rows] for key, array in self._their_observation.items()}),
                        {key: tensor[where] for key, tensor in self._state.items()},
                        torch.from_numpy(self._is_first[rows]),
                    )
                for key, tensor in step.state.items():
                    self._state[key][where] = tensor.clone()
                action = to_arrays(step.action)
            else:
                action = _theirs(self.env.scripted_action(name, player=1), rows)
            _put(actions, rows, action)
        return actions

    def _own_infos(self, infos: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
        final = infos["final_info"]
        won = np.asarray(final["battle_won"])
        observation = final_observation(infos, rows)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for index, row in enumerate(rows):
            final_obs[row] = {name: array[index, 0] for name, array in observation.items()}
        score = np.asarray(final["score"])
        return {
            "final_obs": final_obs,
            "final_info": {
                "battle_won": won[:, 0],
                "score": score[:, 0] if score.ndim == 2 else score,
                "episode_length": final["episode_length"],
                "opponent": self.opponents.copy(),
                "outcome": np.where(won[:, 0], 1.0, np.where(won[:, 1], 0.0, 0.5)),
            },
        }

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()


def _no_actions(space: gymnasium.Space, num_envs: int) -> Any:
    """Zeros for the actions of `num_envs` worlds: an array, or one for each part that the space has."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: _no_actions(part, num_envs) for name, part in space.items()}
    assert space.shape is not None
    return np.zeros((num_envs, *space.shape), dtype=space.dtype)


def _both_players(ours: Any, theirs: Any) -> Any:
    if isinstance(ours, dict):
        return {name: np.stack([ours[name], theirs[name]], axis=1) for name in ours}
    return np.stack([ours, theirs], axis=1)


def _theirs(actions: Any, rows: np.ndarray) -> Any:
    return map_arrays(lambda array: array[rows, 1], actions)


def _put(target: Any, rows: np.ndarray, values: Any) -> None:
    """Writes `values` into the rows; a part that a scripted player does not know stays 0."""
    if isinstance(target, dict):
        for name in values:
            target[name][rows] = values[name]
    else:
        target[rows] = values
