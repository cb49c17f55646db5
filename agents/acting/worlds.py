"""Worlds of any backend: how they are made, saved and restored."""

import importlib
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from agents.acting.pysc2_worlds import make_pysc2_worlds
from agents.configuration import ConfigError
from agents.presets import WorldConfig


class WorldsChangedError(ValueError):
    """Saved worlds do not fit the worlds of today: their episodes cannot go on."""


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
        if players == 1:
            return make(num_envs=num_envs, seed=seed)
        takes = inspect.signature(make).parameters.values()
        if not any(one.name == "players" or one.kind is one.VAR_KEYWORD for one in takes):
            raise ConfigError(
                f"world.scenario {world.scenario!r} makes worlds of one player: self-play calls the factory with "
                "players=2, which it does not take; add that argument, or leave --self-play.enabled out"
            )
        return make(num_envs=num_envs, seed=seed, players=players)
    opponent = world.opponent if is_battle(world.scenario) else None
    if world.backend == "pysc2":
        # In self-play nobody is scripted.
        return make_pysc2_worlds(world, num_envs, seed, players, opponent if players == 1 else None)
    from envs import SC2VectorEnv

    return SC2VectorEnv(
        world.scenario,
        num_envs=num_envs,
        seed=seed,
        action_view=world.action_view,
        num_threads=world.num_threads,
        opponent=opponent,
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

    The last is for worlds that hold compiled structures over their arrays, like the simulator's. What they name as
    their `work_space` is left out, so that another version may use it otherwise. Worlds that are games in other
    processes (`in_other_processes`) cannot be saved; nothing is.
    """
    if getattr(env, "in_other_processes", False):
        return {}
    if hasattr(env, "get_state"):
        return {"state": env.get_state()}
    try:
        return {"pickle": pickle.dumps(env)}
    except TypeError:
        plain = {name: value for name, value in vars(env).items() if isinstance(value, bool | int | float | str)}
        return {"plain": plain, "arrays": {path: array.copy() for path, array in _saved_arrays(env).items()}}


def restore_worlds(env: Any, saved: dict[str, Any]) -> Any:
    """Worlds as `save_worlds` found them: `env`, made the same way, or what replaces it.

    Raises `WorldsChangedError`, and leaves `env` as it was, if these worlds have other arrays than the saved ones.
    """
    if "state" in saved:
        env.set_state(saved["state"])
        return env
    if "pickle" in saved:
        return pickle.loads(saved["pickle"])
    arrays = _saved_arrays(env)
    if {path: _form(array) for path, array in saved["arrays"].items()} != {
        path: _form(array) for path, array in arrays.items()
    }:
        raise WorldsChangedError("the worlds have other arrays than when they were saved")
    vars(env).update(saved["plain"])
    for path, array in arrays.items():
        values = saved["arrays"][path]
        if not np.array_equal(array, values, equal_nan=array.dtype.kind == "f"):
            array[...] = values
    return env


def _form(array: np.ndarray) -> tuple[tuple[int, ...], str]:
    return array.shape, array.dtype.str


def _saved_arrays(env: Any) -> dict[str, np.ndarray]:
    """The arrays of the worlds by their path, but for their work space."""
    work_space = {id(array) for array in getattr(env, "work_space", ())}
    return {path: array for path, array in _arrays_of(vars(env)) if id(array) not in work_space}


def _arrays_of(structure: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in a nest of dicts, lists and tuples, with their paths (`state.3`)."""
    if isinstance(structure, np.ndarray) and structure.dtype != object:
        yield path, structure
    elif isinstance(structure, dict | list | tuple):
        for name, part in structure.items() if isinstance(structure, dict) else enumerate(structure):
            yield from _arrays_of(part, f"{path}.{name}" if path else str(name))
