"""Lays out a folder as an installation of the game, so that clients which launch it themselves get the simulator."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from s2clientprotocol import sc2api_pb2

from envs.protocol.handler import BASE_BUILD, DATA_VERSION, GAME_VERSION, Session
from envs.protocol.maps import available_maps, map_name
from envs.scenarios.scenario import SCENARIO_FOLDER

MARK = "perceiver-agents: StarCraft II-like simulator\n"


class InstallError(RuntimeError):
    """The folder cannot be used; the message says why."""


def install(folder: str | Path) -> Path:
    """Writes the layout below `folder` and returns it: `SC2PATH=<folder>` then serves PySC2, SMAC and python-sc2.

    `Versions/Base75689/SC2_x64` starts the server with this very Python. `Maps` holds a file for each map: a scenario's
    own text, or a few words for a melee map. Installing again over an older layout is fine.

    Raises:
        InstallError: the folder holds something else, or cannot be written.
    """
    root = Path(folder).expanduser().resolve()
    mark = root / "PERCEIVER_SIMULATOR.txt"
    if root.exists() and not root.is_dir():
        raise InstallError(f"{root} is not a folder; name a new or empty one")
    if root.is_dir() and any(root.iterdir()) and not mark.is_file():
        raise InstallError(f"{root} is not empty and not such a layout; name a new or empty folder")
    try:
        binary = root / "Versions" / f"Base{BASE_BUILD}" / "SC2_x64"
        binary.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(MARK)
        package = Path(__file__).resolve().parents[2]
        lines = (
            "#!/bin/sh",
            f"# {MARK.strip()}, started as the game is: -listen HOST -port N ...",
            f'PYTHONPATH={shlex.quote(str(package))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
            "export PYTHONPATH",
            f'exec {shlex.quote(sys.executable)} -P -m envs.protocol.command_line launched "$@"',
        )
        binary.write_text("\n".join(lines) + "\n")
        binary.chmod(0o755)
        for name in ("SupportFiles", "Support", "Support64", "Replays", "Libs"):
            (root / name).mkdir(exist_ok=True)
        build = (
            "Branch!STRING:0|Active!DEC:1|Build Key!HEX:16|Version!STRING:0\n"
            f"eu|1|{DATA_VERSION.lower()}|{GAME_VERSION}\n"
        )
        (root / ".build.info").write_text(build)
        for path in available_maps():
            target = root / "Maps" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            scenario = SCENARIO_FOLDER / f"{map_name(path)}.toml"
            if scenario.is_file():
                shutil.copyfile(scenario, target)
            else:
                target.write_text(f"# the server's own map {map_name(path)}\n")
    except OSError as error:
        raise InstallError(f"{root} cannot be written: {error}") from None
    return root


def compile_kernels() -> None:
    """Plays a moment of every kind of game, so that the compiled code is on disk.

    A first game compiles for minutes where the cache is cold, longer than clients wait for an answer.
    """
    options = sc2api_pb2.InterfaceOptions(raw=True, score=True, feature_layer=sc2api_pb2.SpatialCameraSetup(width=24))
    for size in (options.feature_layer.resolution, options.feature_layer.minimap_resolution):
        size.x = size.y = 32
    for name in ("3m", "MoveToBeacon", "Simple64"):
        session = Session()
        create = sc2api_pb2.RequestCreateGame(local_map=sc2api_pb2.LocalMap(map_path=name))
        create.player_setup.add(type=sc2api_pb2.Participant)
        for request in (
            sc2api_pb2.Request(create_game=create),
            sc2api_pb2.Request(join_game=sc2api_pb2.RequestJoinGame(race=1, options=options)),
            sc2api_pb2.Request(step=sc2api_pb2.RequestStep(count=8)),
            sc2api_pb2.Request(observation=sc2api_pb2.RequestObservation()),
        ):
            session.handle(request.SerializeToString())
        session.close()


def executable(folder: str | Path) -> Path:
    """The file that clients launch."""
    return Path(os.fspath(folder)) / "Versions" / f"Base{BASE_BUILD}" / "SC2_x64"
