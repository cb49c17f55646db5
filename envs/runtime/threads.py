"""A pool of threads for compiled functions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

_Results = SimpleQueue[BaseException | None]
# What to call, and where to say that it has returned, or what it raised. None ends a thread.
_Work = SimpleQueue[tuple[Callable[[], object], _Results | None] | None]


class ThreadPool:
    """`workers` threads that wait for work. They end with `close`, or when nobody holds the pool any more.

    Unlike `concurrent.futures`, it hands over work within a few microseconds and can run one call in all threads at the
    same time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # Queues of the standard library's C code, because others take longer than the work.
        self._work: _Work = SimpleQueue()
        self._results: _Results = SimpleQueue()
        self.before_work: Callable[[], object] | None = None
        """Called by `run` first: ends what workers do of their own accord."""
        threads = [
            threading.Thread(target=_run_thread, args=(self._work,), name="sc2-worlds", daemon=True)
            for _ in range(workers)
        ]
        for thread in threads:
            thread.start()
        self._end = weakref.finalize(self, _end, self._work, threads)

    def run(self, work: Callable[[], object]) -> None:
        """Calls `work` once in every thread at the same time, the caller's included; returns when all have returned.

        Raises:
            BaseException: the first that a worker raised, if the caller's own call raised none.
        """
        if self.before_work is not None:
            self.before_work()
        for _ in range(self._workers):
            self._work.put((work, self._results))
        try:
            work()
        finally:
            errors = [self._results.get() for _ in range(self._workers)]
        for error in errors:
            if error is not None:
                raise error

    def start(self, work: Callable[[], object]) -> None:
        """Lets a worker call `work`, which must not raise, and does not wait for it."""
        self._work.put((work, None))

    def close(self) -> None:
        """Ends the threads, once they have finished their work."""
        self._end()


def _run_thread(queue: _Work) -> None:
    while (item := queue.get()) is not None:
        work, results = item
        error = None
        try:
            work()
        except BaseException as failure:
            error = failure
        del work, item  # what they hold may be what holds the pool
        if results is not None:
            results.put(error)
        del results


def _end(queue: _Work, threads: list[threading.Thread]) -> None:
    for _ in threads:
        queue.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
