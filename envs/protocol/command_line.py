"""`perceiver-sc2-server`: the simulator behind StarCraft II's client protocol.

perceiver-sc2-server serve --port 5000          serves clients on 127.0.0.1:5000, each with a game of its own
perceiver-sc2-server install DIR                lays out an installation for SC2PATH=DIR
perceiver-sc2-server maps                       lists the maps
perceiver-sc2-server launched -listen H -port N what such an installation runs; takes the game's own arguments
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from envs.protocol.install import InstallError, compile_kernels, executable, install
from envs.protocol.maps import available_maps
from envs.protocol.server import ProtocolServer, ServerError
from perceiver_agents import answer_version


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serves the protocol until interrupted; every connection has a session of its own."""

    host: str = "127.0.0.1"
    """Address to listen on; other machines are refused unless allowed."""
    port: int = 5000
    """Port to listen on; 0 takes any free one."""
    allow_remote: bool = False
    """Lets other machines in. The protocol has no password: anyone who reaches the port can play and load maps."""


@dataclass(frozen=True)
class Install:
    """Lays out a folder so that SC2PATH=<folder> serves any client that launches the game itself."""

    folder: Annotated[str, tyro.conf.Positional]
    """A new or empty folder."""


@dataclass(frozen=True)
class Maps:
    """Lists the maps that the server has by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    answer_version("perceiver-sc2-server", arguments)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["launched"]:
            return _run(launched_server(words[1:]))
        command = tyro.cli(
            Serve | Install | Maps,  # type: ignore[arg-type]
            args=words,
            prog="perceiver-sc2-server",
            description=__doc__,
        )
        if isinstance(command, Install):
            folder = install(command.folder)
            print("Compiling once, for a few minutes if this is the first time ...", flush=True)
            compile_kernels()
            print(f"Installed in {folder}.\nUse it with: export SC2PATH={folder}\n(starts {executable(folder)})")
            return 0
        if isinstance(command, Maps):
            print("\n".join(available_maps()))
            return 0
        server = ProtocolServer(command.host, command.port, allow_remote=command.allow_remote)
        return _run(server, announce=True)
    except (ServerError, InstallError) as error:
        print(f"perceiver-sc2-server: {error}", file=sys.stderr)
        return 1


def launched_server(words: Sequence[str]) -> ProtocolServer:
    """The server for the arguments that clients launch the game with; most, about windows, do not matter."""
    parser = argparse.ArgumentParser(prog="SC2_x64", prefix_chars="-", add_help=False, allow_abbrev=False)
    parser.add_argument("-listen", default="127.0.0.1")
    parser.add_argument("-port", type=int, default=0)
    known, _ = parser.parse_known_args(list(words))
    return ProtocolServer(known.listen, known.port, lone=True)


def _run(server: ProtocolServer, *, announce: bool = False) -> int:
    def stop(*_: object) -> None:
        # Clients may send it twice: the second would break off the orderly end that the first began.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        server.start()
        if announce:
            print(f"Serving on ws://{server.host}:{server.port}/sc2api (Ctrl+C stops)", flush=True)
        while not server.wait(timeout=0.5):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
