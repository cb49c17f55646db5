"""What a command says while it works: one line that changes on a terminal, a line every ten seconds in a file."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console

LINE_SECONDS = 10.0


class Telling:
    """Tells on stderr what is being done, from `with` on to its end. Quick work is told on a terminal only.

    Args:
        text: what is being done; an instance called with another text tells that from then on.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._console = Console(stderr=True)
        self._status = self._console.status(text)
        self._ended = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __call__(self, text: str) -> None:
        self._text = text
        self._status.update(text)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._console.is_terminal:
            self._status.stop()
        else:
            self._thread.join()

    def _repeat(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            print(f"{self._text} ({time.monotonic() - self._began:.0f} s)", file=sys.stderr, flush=True)
