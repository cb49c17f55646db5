"""Threads that help with a compiled function: all of them run it at the same time, the caller too."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

_Work = SimpleQueue[Callable[[], object] | None]
_Done = SimpleQueue[BaseException | None]


class Crew:
    """`helpers` threads that wait for work. They end with `close`, or when nobody holds the crew any more."""

    def __init__(self, helpers: int) -> None:
        self._helpers = helpers
        # Queues of the standard library's C code: handing over work costs a few microseconds.
        self._work: _Work = SimpleQueue()
        self._done: _Done = SimpleQueue()
        threads = [
            threading.Thread(target=_help, args=(self._work, self._done), name="sc2-worlds", daemon=True)
            for _ in range(helpers)
        ]
        for thread in threads:
            thread.start()
        self._dismiss = weakref.finalize(self, _dismiss, self._work, threads)

    def run(self, work: Callable[[], object]) -> None:
        """Calls `work` once in every thread, the caller's included; returns when all have returned.

        Raises:
            BaseException: the first that a helper raised, if the caller's own call raised none.
        """
        for _ in range(self._helpers):
            self._work.put(work)
        try:
            work()
        finally:
            errors = [self._done.get() for _ in range(self._helpers)]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        self._dismiss()


def _help(queue: _Work, done: _Done) -> None:
    while (work := queue.get()) is not None:
        error = None
        try:
            work()
        except BaseException as failure:
            error = failure
        del work  # what it holds may be what holds the crew
        done.put(error)


def _dismiss(queue: _Work, threads: list[threading.Thread]) -> None:
    for _ in threads:
        queue.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
