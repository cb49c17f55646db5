"""The transports: websocket frames, refusals, dying clients, the installation layout and leaks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest
from s2clientprotocol import sc2api_pb2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from envs.protocol.handler import IN_GAME, LAUNCHED, MAX_REQUEST_BYTES
from envs.protocol.install import InstallError, executable, install
from envs.protocol.server import ProtocolServer, ServerError
from tests.envs.protocol.test_handler import RAW, fuzz
from tests.patience import PATIENCE


def request(client, text=False, **fields):
    """One request over a websocket, as a text frame (PySC2) or a binary one (python-sc2)."""
    data = sc2api_pb2.Request(id=1, **fields).SerializeToString()
    if text:
        client.send(data, text=True)
    else:
        client.send(data)
    answer = client.recv(decode=False)
    assert isinstance(answer, bytes)
    return sc2api_pb2.Response.FromString(answer)


def open_client(server):
    return connect(f"ws://{server.host}:{server.port}/sc2api", max_size=None, compression=None)


def start_game(client, name="3m", text=False):
    create = sc2api_pb2.RequestCreateGame(random_seed=1)
    create.local_map.map_path = name
    create.player_setup.add(type=sc2api_pb2.Participant)
    request(client, text, create_game=create)
    return request(client, text, join_game=sc2api_pb2.RequestJoinGame(race=1, options=RAW))


@pytest.mark.parametrize("text", (True, False), ids=("text frames", "binary frames"))
def test_both_kinds_of_frames_carry_protobuf(text):
    with ProtocolServer() as server, open_client(server) as client:
        assert start_game(client, text=text).status == IN_GAME
        step = sc2api_pb2.RequestStep(count=200)  # 200 is not valid UTF-8 by itself
        assert request(client, text, step=step).step.simulation_loop == 200


def test_refuses_a_port_in_use_and_other_machines():
    with ProtocolServer() as server, pytest.raises(ServerError, match=r"in use.*--port"):
        ProtocolServer(port=server.port).start()
    with pytest.raises(ServerError, match="--allow-remote"):
        ProtocolServer("0.0.0.0")


def test_a_client_that_dies_in_a_game_frees_it():
    with ProtocolServer(lone=True) as server:
        for _ in range(3):
            client = open_client(server)
            assert start_game(client).status == IN_GAME
            client.socket.shutdown(socket.SHUT_RDWR)
            client.socket.close()
        with open_client(server) as client:
            assert request(client, ping=sc2api_pb2.RequestPing()).status == LAUNCHED


def test_a_lone_session_keeps_a_created_game_for_the_next_client():
    """PySC2 creates a game for a remote agent, hangs up, and the agent joins it."""
    with ProtocolServer(lone=True) as server:
        with open_client(server) as host:
            create = sc2api_pb2.RequestCreateGame()
            create.local_map.map_path = "3m"
            create.player_setup.add(type=sc2api_pb2.Participant)
            request(host, create_game=create)
        with open_client(server) as agent:
            joined = request(agent, join_game=sc2api_pb2.RequestJoinGame(race=1, options=RAW))
            assert joined.status == IN_GAME


def test_another_path_is_not_found():
    from websockets.exceptions import InvalidStatus

    with ProtocolServer() as server, pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://{server.host}:{server.port}/other")


def test_installs_a_layout_that_launches(tmp_path):
    folder = install(tmp_path / "sc2")
    install(folder)  # again
    binary = executable(folder)
    assert os.access(binary, os.X_OK)
    assert (folder / "Maps" / "SMAC_Maps" / "3m.SC2Map").is_file()
    assert (folder / "Maps" / "mini_games" / "MoveToBeacon.SC2Map").is_file()
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    with pytest.raises(InstallError, match="not empty"):
        install(other)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        binary,
        "-listen",
        "127.0.0.1",
        "-port",
        str(port),
        "-dataDir",
        f"{folder}/",
        "-tempDir",
        f"{tmp_path}/",
    ]
    process = subprocess.Popen(arguments)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = connect(f"ws://127.0.0.1:{port}/sc2api")
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.2)
        with client:
            assert request(client, ping=sc2api_pb2.RequestPing()).ping.base_build == 75689
            client.send(sc2api_pb2.Request(quit=sc2api_pb2.RequestQuit()).SerializeToString())
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        process.kill()


@pytest.mark.slow
def test_bad_messages_over_a_websocket():
    """10,000 bad messages do not stop the server or leave the session stuck."""
    with ProtocolServer() as server, open_client(server) as client:

        def send(data):
            client.send(data)
            return client.recv(decode=False)

        # websockets sends empty messages too; the server answers them like any other
        fuzz(None, cases=10_000, seed=9, send=send)
        # One that is too long to be read closes its connection and no other.
        with open_client(server) as other:
            with contextlib.suppress(ConnectionClosed):
                other.send(bytes(MAX_REQUEST_BYTES + 1))
            with pytest.raises(ConnectionClosed):
                other.recv(timeout=PATIENCE)
        assert request(client, ping=sc2api_pb2.RequestPing()).ping.base_build == 75689


@pytest.mark.slow
def test_many_games_leak_nothing():
    """100 games one after the other and 16 at once: threads, descriptors and memory come back."""
    import resource

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def games(server, count):
        for _ in range(count):
            with open_client(server) as client:
                start_game(client)
                request(client, step=sc2api_pb2.RequestStep(count=64))

    with ProtocolServer() as server:
        games(server, 10)
        time.sleep(1)
        threads, files = threading.active_count(), descriptors()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        games(server, 100)
        parallel = [threading.Thread(target=games, args=(server, 2)) for _ in range(16)]
        for thread in parallel:
            thread.start()
        for thread in parallel:
            thread.join()
        time.sleep(1)
        assert server.clients == 0
        assert descriptors() <= files + 2
        assert threading.active_count() <= threads + 64  # the pool of request threads may have grown
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert grown < 100_000, f"{grown} KiB more after 132 games"
