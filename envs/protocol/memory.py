"""The protocol without a socket: a client in the same process, still speaking real protobuf."""

from __future__ import annotations

from typing import Any

from envs.protocol.handler import Session


class MemoryConnection:
    """Has the methods that PySC2 and `websocket-client` users call on a connection: `send`, `recv`, `close`."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = Session() if session is None else session
        self._answer: bytes | None = None

    @property
    def sock(self) -> MemoryConnection:
        """Stands for the socket that a websocket connection wraps."""
        return self

    def getpeername(self) -> tuple[str, int]:
        """There is no port."""
        return ("memory", 0)

    def settimeout(self, timeout: Any) -> None:
        """Nothing waits for a wire."""

    def send(self, data: bytes) -> None:
        """Sends the bytes of a Request."""
        self._answer = self.session.handle(data)

    def recv(self) -> bytes:
        """The bytes of the Response to the last request.

        Raises:
            RuntimeError: nothing was sent.
        """
        if self._answer is None:
            raise RuntimeError("recv before send: there is no answer")
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        """The client goes; its game ends."""
        self.session.close()
