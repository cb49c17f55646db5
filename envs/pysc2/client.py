"""PySC2 on the simulator: its run configuration, its connection inside the process, and its maps.

    with simulator():                                   # or simulator("websocket")
        env = sc2_env.SC2Env(map_name="MoveToBeacon", players=[sc2_env.Agent(sc2_env.Race.terran)], ...)

PySC2 itself is not changed. It gets one more run configuration, beside its own for Windows, macOS and Linux.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # PySC2 imports pygame, which greets on standard output

from pysc2_evolved import run_configs
from pysc2_evolved.lib import remote_controller, sc_process
from pysc2_evolved.maps import lib as map_lib
from pysc2_evolved.run_configs import lib as run_config_lib

from envs.protocol.handler import BASE_BUILD, DATA_VERSION, GAME_VERSION
from envs.protocol.maps import find_map, scenario_path
from envs.protocol.memory import MemoryConnection
from envs.protocol.server import ProtocolServer
from envs.scenarios.scenario import Scenario, load_scenario, scenario_names

TRANSPORTS = ("memory", "websocket")
# What an open `simulator()` block of this thread asks for.
_TRANSPORT: ContextVar[str | None] = ContextVar("transport", default=None)


class GameMissing(RuntimeError):
    """The game is asked for and not installed; the message says how to install it."""


def find_game() -> Path:
    """The folder of the installed game that PySC2 launches: SC2PATH's, or the system's usual one.

    Raises:
        GameMissing: there is none.
    """
    token = _TRANSPORT.set(None)
    try:
        return Path(run_configs.get().data_dir)
    except (sc_process.SC2LaunchError, OSError, ValueError) as error:
        place = os.environ.get("SC2PATH")
        where = f"SC2PATH={place} holds no StarCraft II" if place else "StarCraft II is not installed"
        raise GameMissing(
            f"{where} ({error}); install the game and set SC2PATH to its folder, or play on the simulator: "
            "transport 'memory', or `perceiver-sc2-server install DIR` and SC2PATH=DIR"
        ) from error
    finally:
        _TRANSPORT.reset(token)


class MemoryController(remote_controller.RemoteController):
    """PySC2's controller over an in-memory connection."""

    def __init__(self) -> None:
        super().__init__("memory", 0)

    def _connect(self, host: str, port: Any, proc: Any, timeout_seconds: int) -> MemoryConnection:
        return MemoryConnection()


class SimulatorProcess:
    """What PySC2 takes for a launched game: a controller, and a way to close it."""

    def __init__(self, transport: str) -> None:
        self._server: ProtocolServer | None = None
        self.controller: Any = None
        if transport == "memory":
            self.controller = MemoryController()
        else:
            self._server = ProtocolServer(lone=True).start()
            self.controller = remote_controller.RemoteController(self._server.host, self._server.port, self)

    @property
    def running(self) -> bool:
        """Asked while PySC2 connects."""
        return True

    @property
    def host(self) -> str:
        return self._server.host if self._server else "memory"

    @property
    def port(self) -> int:
        return self._server.port if self._server else 0

    def close(self) -> None:
        """Ends the game and, with a websocket, its server."""
        if self.controller is not None:
            self.controller.quit()
            self.controller.close()
            self.controller = None
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Any:
        return self.controller

    def __exit__(self, *_: object) -> None:
        self.close()


class SimulatorRunConfig(run_config_lib.RunConfig):
    """PySC2's run configuration for the simulator. PySC2 chooses it inside `simulator()` and nowhere else."""

    def __init__(self, version: Any = None) -> None:
        # PySC2 documents None: the system's folder.
        tmp_dir: Any = None
        self.transport = _TRANSPORT.get()
        super().__init__(replay_dir=".", data_dir=".", tmp_dir=tmp_dir, version=version or "simulator")

    @classmethod
    def priority(cls) -> int | None:
        """Above any installed game while a `simulator()` block is open."""
        return 1000 if _TRANSPORT.get() else None

    def _get_version(self, game_version: Any) -> run_config_lib.Version:
        if game_version not in ("simulator", "latest", GAME_VERSION):
            raise ValueError(
                f"version {game_version!r} is asked for, but the simulator speaks {GAME_VERSION}; leave the version "
                "out, or play on an installed game of that version"
            )
        return run_config_lib.Version(GAME_VERSION, BASE_BUILD, DATA_VERSION, None)

    def map_data(self, map_name: str, players: int | None = None) -> bytes:
        """Nothing: the server knows its maps by name.

        Raises:
            MapError: it does not know this one.
        """
        find_map(map_name)
        return b""

    def start(self, version: Any = None, want_rgb: bool = True, **kwargs: Any) -> Any:
        """A new simulator."""
        assert self.transport is not None
        return SimulatorProcess(self.transport)


@contextlib.contextmanager
def simulator(transport: str = "memory") -> Iterator[None]:
    """Within the block PySC2 starts the simulator where it would launch the game; environments may outlive the block.

    The block is this thread's: others may be launching the game meanwhile.

    Args:
        transport: "memory", or "websocket" (a server on a free loopback port).
    """
    if transport not in TRANSPORTS:
        raise ValueError(f"transport is {transport!r}; expected one of {', '.join(TRANSPORTS)}")
    register_maps()
    token = _TRANSPORT.set(transport)
    try:
        yield
    finally:
        _TRANSPORT.reset(token)


class ScenarioMap(map_lib.Map):
    """A scenario as a map of PySC2."""

    scenario_name = ""
    scenario_file = ""
    scenario_text = b""

    @property
    def name(self) -> str:
        return self.scenario_name or type(self).__name__

    @property
    def path(self) -> str:
        return self.scenario_file

    def data(self, run_config: Any) -> bytes:
        """The scenario's text where it is a user's own, else what the run configuration has under the path."""
        return self.scenario_text or run_config.map_data(self.path, self.players)


def scenario_map_class(
    scenario: Scenario, *, players: int, text: bytes = b"", registered: bool = False
) -> type[ScenarioMap]:
    """PySC2's description of a scenario, for one or two players; `registered` lets PySC2 find it by name."""
    return type(
        scenario.name,
        (ScenarioMap,),
        {
            "filename": scenario.name if registered else None,
            "scenario_text": text,
            "scenario_name": scenario.name,
            "scenario_file": scenario_path(scenario),
            "players": players,
            "step_mul": scenario.step_mul,
            "game_steps_per_episode": scenario.step_limit * scenario.step_mul if scenario.rules == "battle" else 0,
            "score_index": -1 if scenario.rules == "battle" else 0,
        },
    )


_REGISTERED: list[type[ScenarioMap]] = []  # PySC2 finds its maps among the living subclasses


def register_maps() -> None:
    """Makes the scenarios known to PySC2 by name, unless it or another package has already registered them."""
    known = set(map_lib.get_maps())
    for name in scenario_names():
        if name not in known:
            scenario = load_scenario(name)
            _REGISTERED.append(
                scenario_map_class(scenario, players=2 if scenario.rules == "battle" else 1, registered=True)
            )
