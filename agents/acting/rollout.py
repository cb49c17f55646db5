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

import importlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from agents.acting.scripted import scripted_action
from agents.configuration import ConfigError
from agents.models.network import AgentNetwork
from agents.presets import WorldConfig

Fragment = dict[str, Any]


def make_worlds(world: WorldConfig, num_envs: int, seed: int, players: int = 1) -> gymnasium.vector.VectorEnv:
    """The vector of `num_envs` worlds that `world` describes.

    `world.scenario` is a scenario of `envs`, or `"module:factory"` for worlds of your own: `factory(num_envs=, seed=)`
    returns a Gymnasium vector environment with same-step autoreset that has the observation names of
    `envs.SC2VectorEnv`; for self-play it is also called with `players=2`. It must be picklable.
    """
    if ":" in world.scenario:
        module, _, factory = world.scenario.partition(":")
        try:
            make = getattr(importlib.import_module(module), factory)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"world.scenario {world.scenario!r} names no importable factory: {error}") from error
        return make(num_envs=num_envs, seed=seed, **({"players": players} if players > 1 else {}))
    if world.backend == "pysc2":
        from agents.acting.pysc2_worlds import make_pysc2_worlds

        return make_pysc2_worlds(world, num_envs, seed, players)
    from envs import SC2VectorEnv

    return SC2VectorEnv(
        world.scenario,
        num_envs=num_envs,
        seed=seed,
        action_view=world.action_view,
        num_threads=world.num_threads,
        opponent=world.opponent if is_battle(world.scenario) else None,
        players=players,
        # A rollout copies each observation into its fragment anyway.
        copy=False,
    )


def is_battle(scenario: str) -> bool:
    """Whether episodes are won or lost; the mini-games only have a score. Worlds of one's own count as battles."""
    if ":" in scenario:
        return True
    from envs.scenarios.scenario import load_scenario

    return load_scenario(scenario).rules == "battle"


def save_worlds(env: Any) -> dict[str, Any]:
    """All that the future of the worlds depends on: their own `get_state`, a pickle, or the content of their arrays.

    The last is for worlds that hold compiled structures over their arrays, like the simulator's; what they name as
    their `work_space` is left out, so that another version may use it otherwise. Worlds that are
    games in other processes (`in_other_processes`) cannot be saved; nothing is.
    """
    if getattr(env, "in_other_processes", False):
        return {}
    if hasattr(env, "get_state"):
        return {"state": env.get_state()}
    try:
        return {"pickle": pickle.dumps(env)}
    except TypeError:
        plain = {name: value for name, value in vars(env).items() if isinstance(value, bool | int | float | str)}
        return {"plain": plain, "arrays": [array.copy() for array in _saved_arrays(env)]}


def restore_worlds(env: Any, saved: dict[str, Any]) -> Any:
    """Worlds as `save_worlds` found them: `env`, made the same way, or what replaces it."""
    if "state" in saved:
        env.set_state(saved["state"])
        return env
    if "pickle" in saved:
        return pickle.loads(saved["pickle"])
    vars(env).update(saved["plain"])
    for array, values in zip(_saved_arrays(env), saved["arrays"], strict=True):
        if not np.array_equal(array, values, equal_nan=array.dtype.kind == "f"):
            array[...] = values
    return env


def _saved_arrays(env: Any) -> Iterator[np.ndarray]:
    """The arrays of the worlds, in a fixed order, but for their work space."""
    work_space = {id(array) for array in getattr(env, "work_space", ())}
    return (array for array in _arrays_of(vars(env)) if id(array) not in work_space)


def _arrays_of(structure: Any) -> Iterator[np.ndarray]:
    """The arrays in a nest of dicts, lists and tuples, in a fixed order."""
    if isinstance(structure, np.ndarray) and structure.dtype != object:
        yield structure
    elif isinstance(structure, dict | list | tuple):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from _arrays_of(part)


def map_arrays(function: Callable[[Any], Any], structure: Any) -> Any:
    """Applies `function` to the array, or to each array of the (nested) dict."""
    if isinstance(structure, Mapping):
        return {name: map_arrays(function, value) for name, value in structure.items()}
    return function(structure)


def to_tensors(structure: Any, device: torch.device | str = "cpu") -> Any:
    """Arrays as tensors on `device`; shares memory where the array lies on the CPU already."""
    return map_arrays(lambda array: torch.as_tensor(array).to(device, non_blocking=True), structure)


def to_arrays(structure: Any) -> Any:
    """Tensors as NumPy arrays."""
    return map_arrays(lambda tensor: tensor.detach().cpu().numpy(), structure)


@dataclass
class Episodes:
    """Finished episodes, one entry each."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    won: list[bool] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    opponents: list[str] = field(default_factory=list)
    """Who played the other side, in self-play; else empty strings."""
    outcomes: list[float] = field(default_factory=list)
    """1 won, 1/2 drawn, 0 lost."""

    def extend(self, other: "Episodes") -> None:
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


class EpisodeCounter:
    """Accumulates return and length per world and hands out the episodes that finish."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)

    def step(self, reward: np.ndarray, done: np.ndarray, infos: dict[str, Any]) -> Episodes:
        """Takes one step of all worlds (`reward [B]`, `done [B]`, the step's `infos`)."""
        self.returns += reward
        self.lengths += 1
        finished = Episodes()
        if not done.any():
            return finished
        final = infos.get("final_info", {})
        won, score = final.get("battle_won"), final.get("score")
        opponent, outcome = final.get("opponent"), final.get("outcome")
        for slot in np.flatnonzero(done):
            finished.returns.append(float(self.returns[slot]))
            finished.lengths.append(int(self.lengths[slot]))
            finished.won.append(bool(won[slot]) if won is not None else False)
            finished.scores.append(float(score[slot]) if score is not None else float(self.returns[slot]))
            finished.slots.append(int(slot))
            finished.opponents.append(str(opponent[slot]) if opponent is not None else "")
            finished.outcomes.append(float(outcome[slot]) if outcome is not None else float(finished.won[-1]))
        self.returns[done] = 0.0
        self.lengths[done] = 0
        return finished


def final_observation(infos: dict[str, Any], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The last observations `[len(rows), ...]` of the episodes that ended in worlds `rows` (same-step autoreset)."""
    final = infos["final_obs"]
    if isinstance(final, Mapping):
        return {name: np.asarray(values)[rows] for name, values in final.items()}
    return {name: np.stack([final[row][name] for row in rows]) for name in final[rows[0]]}


class Rollout:
    """Steps a vector of worlds with a network, fragment by fragment, without ever resetting by itself.

    Worlds, recurrent state and random numbers carry over from fragment to fragment; `get_state` holds them all, so a
    restored rollout goes on bit for bit as the original would have.
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
        """values: whether fragments hold `value`, which PPO needs; V-trace estimates anew, and the last row costs as
        much as a step. teacher: a scripted policy (`agents.acting.scripted`) that is asked at every step and never
        acts."""
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
        length, batch = self.fragment_length, self.num_envs
        observations = map_arrays(
            lambda array: np.empty((length + 1, *array.shape), dtype=array.dtype), self.observation
        )
        fragment: Fragment = {
            "observation": observations,
            "reward": np.empty((length, batch), dtype=np.float32),
            "terminated": np.empty((length, batch), dtype=bool),
            "truncated": np.empty((length, batch), dtype=bool),
            "final_value": np.zeros((length, batch), dtype=np.float32),
            "is_first": np.empty((length + 1, batch), dtype=bool),
            "state": to_arrays(map_arrays(torch.clone, self.state)),
        }
        if self.values:
            fragment["value"] = np.empty((length + 1, batch), dtype=np.float32)
        actions, log_probs, taught = [], [], []
        finished = Episodes()
        with torch.inference_mode():
            for t in range(length):
                self._record(fragment, t)
                step = self.network.act(
                    to_tensors(self.observation, self.device),
                    self.state,
                    torch.as_tensor(self.is_first, device=self.device),
                )
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
                last = self.network.value(
                    to_tensors(self.observation, self.device),
                    self.state,
                    torch.as_tensor(self.is_first, device=self.device),
                )
                fragment["value"][length] = last.cpu().numpy()
        self.observation = map_arrays(lambda array: array[length].copy(), observations)
        fragment["action"] = _stack(actions)
        fragment["behaviour_log_prob"] = np.stack(log_probs)
        if self.teacher is not None:
            fragment["teacher_action"] = _stack(taught)
        return fragment, finished

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

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from `get_state`'s output."""
        torch.set_rng_state(torch.from_numpy(np.array(state["random"])))
        if not state["worlds"]:
            return  # games in other processes were not saved: those that have just been started go on
        self.env = restore_worlds(self.env, state["worlds"])
        self.observation = map_arrays(np.copy, state["observation"])
        self.is_first = np.copy(state["is_first"])
        self.state = to_tensors(map_arrays(np.copy, state["state"]), self.device)
        self.episodes.returns, self.episodes.lengths = np.copy(state["returns"]), np.copy(state["lengths"])


def _stack(structures: list[Any]) -> Any:
    if isinstance(structures[0], Mapping):
        return {name: _stack([structure[name] for structure in structures]) for name in structures[0]}
    return np.stack(structures)
