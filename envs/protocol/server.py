"""The protocol over websockets, at `/sc2api`, as the game serves it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from envs.protocol.handler import MAX_REQUEST_BYTES, QUIT, Session

log = logging.getLogger(__name__)

PATH = "/sc2api"
MAX_CLIENTS = 64
GRACE_SECONDS = 2.0  # how long a new client of a lone session waits for the last one to be gone


class ServerError(RuntimeError):
    """The server cannot start; the message says why and what to do."""


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return False


class ProtocolServer:
    """Serves the protocol on a port until `stop`, or, with a lone session, until its client quits.

    Args:
        host: address to listen on; anything but a loopback address needs `allow_remote`.
        port: 0 picks a free one, see `port`.
        lone: as a launched game: one session for all connections, one connection at a time. Otherwise each connection
            has a session of its own.
        allow_remote: lets other machines in. The protocol has no authentication.

    Raises (from `start`):
        ServerError: the port is in use, or the address is not a loopback one.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, lone: bool = False, allow_remote: bool = False
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ServerError(
                f"{host} can be reached from other machines and the protocol has no password; "
                "listen on 127.0.0.1, or allow remote clients explicitly (--allow-remote)"
            )
        self.host, self.port = host, port
        self._allow_remote = allow_remote
        self._lone = Session(network=True) if lone else None
        self._occupied = asyncio.Lock()
        self._clients = 0
        # Requests that wait for other clients run here; each client has at most one under way.
        self._pool = ThreadPoolExecutor(MAX_CLIENTS, thread_name_prefix="sc2-request")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    # --- life ---

    def start(self) -> ProtocolServer:
        """Starts serving in a thread of its own; returns when the port is open."""
        self._thread = threading.Thread(target=self._run, name="sc2-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Closes the port and every connection."""
        if self._loop is not None and self._done is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._done.set)
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped; False if it still runs after `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def __enter__(self) -> ProtocolServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def clients(self) -> int:
        """Connections open now."""
        return self._clients

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the thread that waits in `start`
            self._failure = error
        finally:
            self._ready.set()
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        try:
            server: WebSocketServer = await serve(
                self._client,
                self.host,
                self.port,
                process_request=self._admit,
                compression=None,
                max_size=MAX_REQUEST_BYTES,
                ping_interval=None,  # a client may think, or wait for another one, as long as it likes
                close_timeout=1,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServerError(
                    f"port {self.port} on {self.host} is in use by another program (another game?); "
                    "choose a different --port, or 0 for any free one"
                ) from None
            raise ServerError(f"cannot listen on {self.host}:{self.port}: {error}") from None
        async with server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._done.wait()
        if self._lone is not None:
            self._lone.close()

    # --- clients ---

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        address = connection.remote_address
        if not self._allow_remote and not (address and is_loopback(str(address[0]))):
            return connection.respond(HTTPStatus.FORBIDDEN, "only clients on this machine are served\n")
        if request.path.split("?")[0] != PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, f"the protocol is at {PATH}\n")
        if self._clients >= MAX_CLIENTS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CLIENTS} clients are connected\n")
        return None

    async def _client(self, connection: ServerConnection) -> None:
        if self._lone is None:
            session = Session()
            await self._talk(connection, session)
            await self._in_pool(session.close)
            return
        try:
            await asyncio.wait_for(self._occupied.acquire(), GRACE_SECONDS)
        except TimeoutError:
            await connection.close(1013, "another client is connected")
            return
        try:
            await self._talk(connection, self._lone)
            await self._in_pool(self._lone.disconnect)
            if self._lone.status == QUIT and self._done is not None:
                self._done.set()
        finally:
            self._occupied.release()

    async def _talk(self, connection: ServerConnection, session: Session) -> None:
        """Answers requests until the client is gone or quits. PySC2 sends its protobuf bytes in text frames."""
        self._clients += 1
        try:
            while session.status != QUIT:
                data = await connection.recv(decode=False)
                if session.may_block:
                    answer = await self._while_connected(connection, session, data)
                else:
                    answer = session.handle(data)
                if answer is None:
                    return
                await connection.send(answer)
        except ConnectionClosed:
            pass
        finally:
            self._clients -= 1

    async def _while_connected(self, connection: ServerConnection, session: Session, data: bytes) -> bytes | None:
        """A request that may wait for others; ends the wait if the client goes meanwhile."""
        request = asyncio.ensure_future(self._in_pool(session.handle, data))
        gone = asyncio.ensure_future(connection.wait_closed())
        try:
            await asyncio.wait((request, gone), return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                return request.result()
            await self._in_pool(session.interrupt)
            await request
            return None
        finally:
            gone.cancel()

    async def _in_pool(self, function: Any, *arguments: Any) -> Any:
        assert self._loop is not None
        return await self._loop.run_in_executor(self._pool, function, *arguments)
