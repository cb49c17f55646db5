"""Threads that help with compiled functions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

_Done = SimpleQueue[BaseException | None]
# What to call, and where to say that it has returned, or what it raised.
_Work = SimpleQueue[tuple[Callable[[], object], _Done | None] | None]


class Crew:
    """`helpers` threads that wait for work. They end with `close`, or when nobody holds the crew any more."""

    def __init__(self, helpers: int) -> None:
        self._helpers = helpers
        # Queues of the standard library's C code: handing over work costs a few microseconds.
        self._work: _Work = SimpleQueue()
        self._done: _Done = SimpleQueue()
        self.before_work: Callable[[], object] | None = None
        """Called by `run` first: ends what helpers do of their own accord."""
        threads = [
            threading.Thread(target=_help, args=(self._work,), name="sc2-worlds", daemon=True) for _ in range(helpers)
        ]
        for thread in threads:
            thread.start()
        self._dismiss = weakref.finalize(self, _dismiss, self._work, threads)

    def run(self, work: Callable[[], object]) -> None:
        """Calls `work` once in every thread at the same time, the caller's included; returns when all have returned.

        Raises:
            BaseException: the first that a helper raised, if the caller's own call raised none.
        """
        if self.before_work is not None:
            self.before_work()
        for _ in range(self._helpers):
            self._work.put((work, self._done))
        try:
            work()
        finally:
            errors = [self._done.get() for _ in range(self._helpers)]
        for error in errors:
            if error is not None:
                raise error

    def start(self, work: Callable[[], object]) -> None:
        """Lets a helper call `work`, which must not raise, and does not wait for it."""
        self._work.put((work, None))

    def close(self) -> None:
        self._dismiss()


def _help(queue: _Work) -> None:
    while (item := queue.get()) is not None:
        work, done = item
        error = None
        try:
            work()
        except BaseException as failure:
            error = failure
        del work, item  # what they hold may be what holds the crew
        if done is not None:
            done.put(error)
        del done


def _dismiss(queue: _Work, threads: list[threading.Thread]) -> None:
    for _ in threads:
        queue.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
