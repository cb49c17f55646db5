"""Acting: one vector of worlds, one network, fragments of experience `[T, B, ...]`. No Ray here.

A fragment is a dict of NumPy arrays; `B` worlds are stepped `T` times:

    observation    {name: [T + 1, B, ...]}   the last row is for the bootstrap
    action         {name: [T, B, ...]}       as the environment takes it
    behaviour_log_prob  [T, B, U]            of the actions under the acting policy, per unit
    value          [T + 1, B]                the acting network's estimates, if asked for
    reward         [T, B]
    terminated     [T, B] bool               the episode ended in the world: nothing follows
    truncated      [T, B] bool               the episode was cut off: the next state is worth `final_value`
    final_value    [T, B]                    value of the state an episode was cut off in, 0 elsewhere
    is_first       [T + 1, B] bool           this observation opens an episode (the recurrent state starts anew)
    state          {name: [B, ...]}          recurrent state before step 0
    teacher_action {name: [T, B, ...]}       what the teacher would have done; only with a teacher
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from agents.acting.arrays import map_arrays, stack_arrays, to_arrays, to_tensors
from agents.acting.episodes import EpisodeCounter, Episodes, final_observation
from agents.acting.scripted import scripted_action
from agents.acting.worlds import WorldsChangedError, restore_worlds, save_worlds
from agents.models.network import AgentNetwork

Fragment = dict[str, Any]


class Rollout:
    """Steps a vector of worlds with a network, fragment by fragment, without ever resetting by itself.

    Worlds, recurrent state and random numbers carry over from fragment to fragment. `get_state` holds them all, so that
    a restored rollout goes on bit for bit as the original would have.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv,
        network: AgentNetwork,
        *,
        fragment_length: int,
        seed: int,
        values: bool = True,
        teacher: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """values: whether fragments hold `value`. PPO needs it; V-trace estimates anew, and the last row costs as much
        as a step. teacher: a scripted policy (`agents.acting.scripted`) that is asked at every step and never acts."""
        self.env = env
        self.network = network
        self.fragment_length = fragment_length
        self.values = values
        self.teacher = teacher
        self.device = torch.device(device)
        self.num_envs = env.num_envs
        self.observation, _ = env.reset(seed=seed)
        self.observation = map_arrays(np.array, self.observation)
        self.is_first = np.ones(self.num_envs, dtype=bool)
        self.state: dict[str, Tensor] = network.initial_state(self.num_envs)
        self.episodes = EpisodeCounter(self.num_envs)

    def collect(self) -> tuple[Fragment, Episodes]:
        """Steps all worlds `fragment_length` times; returns the fragment and the episodes that finished in it."""
        length = self.fragment_length
        fragment = self._empty_fragment()
        actions, log_probs, taught = [], [], []
        finished = Episodes()
        with torch.inference_mode():
            for t in range(length):
                self._record(fragment, t)
                step = self.network.act(*self._seen())
                action = to_arrays(step.action)
                actions.append(action)
                log_probs.append(step.log_prob.cpu().numpy())
                if self.values:
                    fragment["value"][t] = step.value.cpu().numpy()
                self.state = step.state
                if self.teacher is not None:
                    taught.append(scripted_action(self.env, self.observation, self.teacher))
                self.observation, reward, terminated, truncated, infos = self.env.step(action)
                done = terminated | truncated
                fragment["reward"][t] = reward
                fragment["terminated"][t], fragment["truncated"][t] = terminated, truncated
                cut = truncated & ~terminated
                if cut.any():
                    fragment["final_value"][t, cut] = self._final_value(infos, np.flatnonzero(cut))
                self.is_first = done
                finished.extend(self.episodes.step(reward, done, infos))
            self._record(fragment, length)
            if self.values:
                fragment["value"][length] = self.network.value(*self._seen()).cpu().numpy()
        self.observation = map_arrays(lambda array: array[length].copy(), fragment["observation"])
        fragment["action"] = stack_arrays(actions)
        fragment["behaviour_log_prob"] = np.stack(log_probs)
        if self.teacher is not None:
            fragment["teacher_action"] = stack_arrays(taught)
        return fragment, finished

    def _empty_fragment(self) -> Fragment:
        """Arrays for a fragment, and the recurrent state that it starts from."""
        length, batch = self.fragment_length, self.num_envs
        fragment: Fragment = {
            "observation": map_arrays(
                lambda array: np.empty((length + 1, *array.shape), dtype=array.dtype), self.observation
            ),
            "reward": np.empty((length, batch), dtype=np.float32),
            "terminated": np.empty((length, batch), dtype=bool),
            "truncated": np.empty((length, batch), dtype=bool),
            "final_value": np.zeros((length, batch), dtype=np.float32),
            "is_first": np.empty((length + 1, batch), dtype=bool),
            "state": to_arrays(map_arrays(torch.clone, self.state)),
        }
        if self.values:
            fragment["value"] = np.empty((length + 1, batch), dtype=np.float32)
        return fragment

    def _seen(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """What the network takes at this step: observation, recurrent state, and which episodes have just begun."""
        is_first = torch.as_tensor(self.is_first, device=self.device)
        return to_tensors(self.observation, self.device), self.state, is_first

    def _record(self, fragment: Fragment, t: int) -> None:
        for name, array in self.observation.items():
            fragment["observation"][name][t] = array
        fragment["is_first"][t] = self.is_first

    def _final_value(self, infos: dict[str, Any], rows: np.ndarray) -> np.ndarray:
        value = self.network.value(
            to_tensors(final_observation(infos, rows), self.device),
            map_arrays(lambda tensor: tensor[torch.from_numpy(rows)], self.state),
            torch.zeros(len(rows), dtype=torch.bool, device=self.device),
        )
        return value.cpu().numpy()

    def get_state(self) -> dict[str, Any]:
        """Everything that the next fragment depends on, the network's weights and games of PySC2 aside."""
        return {
            "worlds": save_worlds(self.env),
            "observation": map_arrays(np.copy, self.observation),
            "is_first": self.is_first.copy(),
            "state": map_arrays(np.copy, to_arrays(self.state)),
            "returns": self.episodes.returns.copy(),
            "lengths": self.episodes.lengths.copy(),
            "random": torch.get_rng_state().numpy(),
        }

    def set_state(self, state: dict[str, Any]) -> bool:
        """Goes on from `get_state`'s output; returns whether the episodes go on too, or those just started are played.

        Games in other processes are not saved, and worlds of another version may not fit.
        """
        torch.set_rng_state(torch.from_numpy(np.array(state["random"])))
        if not state["worlds"]:
            return False
        try:
            self.env = restore_worlds(self.env, state["worlds"])
        except WorldsChangedError:
            return False
        self.observation = map_arrays(np.copy, state["observation"])
        self.is_first = np.copy(state["is_first"])
        self.state = to_tensors(map_arrays(np.copy, state["state"]), self.device)
        self.episodes.returns, self.episodes.lengths = np.copy(state["returns"]), np.copy(state["lengths"])
        return True
