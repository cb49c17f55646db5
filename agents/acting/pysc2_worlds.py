"""Worlds behind PySC2 (`--backend pysc2`): what they are played on, what must be there, and how they are made."""

import dataclasses
import os

import gymnasium

from agents.configuration import ConfigError
from agents.presets import WorldConfig


def resolve_transport(world: WorldConfig) -> WorldConfig:
    """`world` with `auto` replaced by what this machine has, so that all processes of a run play on the same.

    Raises `ConfigError` for a transport without PySC2.
    """
    if world.backend != "pysc2":
        if world.transport != "auto":
            raise ConfigError(f"transport {world.transport!r} is for --backend pysc2; the simulator has none")
        return world
    if world.transport != "auto":
        return world
    return dataclasses.replace(world, transport="game" if os.environ.get("SC2PATH") else "memory")


def check_backend(world: WorldConfig, num_envs: int) -> None:
    """Raises `ConfigError` for what PySC2 cannot play: other people's worlds, a missing game, too many games at once.

    world: with its transport resolved. num_envs: games side by side on this machine.
    """
    from envs.pysc2.client import GameMissing, find_game

    if ":" in world.scenario:
        raise ConfigError(f"--backend pysc2 plays scenarios of the simulator; {world.scenario!r} is a factory")
    if world.transport != "game":
        return
    try:
        find_game()
    except GameMissing as error:
        raise ConfigError(f"--transport game: {error}") from error
    # A game takes about a core and a gigabyte; a default meant for the simulator would bring the machine down.
    most = 2 * (os.cpu_count() or 1)
    if num_envs > most:
        raise ConfigError(
            f"{num_envs} games side by side on {os.cpu_count()} cores: each is a process of its own; set "
            f"--world.num-envs (training) or --num-envs (evaluation) to at most {most}"
        )


def make_pysc2_worlds(
    world: WorldConfig, num_envs: int, seed: int, players: int, opponent: str | None
) -> gymnasium.vector.VectorEnv:
    """`num_envs` games behind PySC2, with the spaces of the simulator's worlds. Starts no game before `reset`."""
    from envs.pysc2.environment import PySC2VectorEnv

    transport = resolve_transport(world).transport
    try:
        return PySC2VectorEnv(
            world.scenario,
            num_envs,
            transport=transport,
            seed=seed,
            players=players,
            action_view=world.action_view,
            opponent=opponent,
            # Games are processes of their own; simulators in memory share the interpreter.
            num_threads=world.num_threads if transport == "memory" else num_envs,
            copy=False,
        )
    except ValueError as error:
        raise ConfigError(f"--backend pysc2: {error}") from error
