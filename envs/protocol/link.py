"""Two processes, one game: the guest's process passes its requests on to the host's, over a loopback socket.

The clients of a two-player game agree on ports. The host's process listens on the first of them, and the guest's
process connects there. Each message goes over as its length (4 bytes, big-endian) and its bytes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Protocol

MAX_MESSAGE = 96 << 20


class GuestSession(Protocol):
    """What a host does for a guest, see `envs.protocol.handler.Session`."""

    def handle(self, data: bytes) -> bytes: ...

    def disconnect(self) -> None: ...


class LinkError(RuntimeError):
    """The other process cannot be reached."""


def _send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(struct.pack(">I", len(data)) + data)


def _receive(sock: socket.socket) -> bytes:
    def exactly(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = sock.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    (length,) = struct.unpack(">I", exactly(4))
    if length > MAX_MESSAGE:
        raise EOFError
    return exactly(length)


class HostLink:
    """Listens for the guests of a game and gives each a session of its own.

    Args:
        port: the game port that the clients agreed on.
        new_session: makes a guest's session.
        address: where to listen.

    Raises:
        LinkError: the port cannot be used.
    """

    def __init__(self, port: int, new_session: Callable[[], GuestSession], address: str = "127.0.0.1") -> None:
        self._new_session = new_session
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((address, port))
            self._socket.listen(4)
        except OSError as error:
            self._socket.close()
            raise LinkError(f"the game port {port} cannot be used: {error}; choose a free one") from None
        self._connections: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, name="sc2-host-link", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), name="sc2-guest", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = self._new_session()
        try:
            while True:
                _send(connection, session.handle(_receive(connection)))
        except (OSError, EOFError):
            pass
        finally:
            session.disconnect()
            connection.close()

    def close(self) -> None:
        """Stops listening, and lets the guests finish: their sessions live on until they leave."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


class GuestLink:
    """A guest's connection to the host's process."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        try:
            self._socket = socket.create_connection((address, port), timeout=1.0)
        except OSError as error:
            raise LinkError(f"no host on port {port}: {error}") from None
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, data: bytes) -> bytes:
        """Passes a request on and waits for the answer.

        Raises:
            LinkError: the host is gone.
        """
        try:
            _send(self._socket, data)
            return _receive(self._socket)
        except (OSError, EOFError):
            raise LinkError("the process that hosts the game is gone") from None

    def close(self) -> None:
        self._socket.close()
