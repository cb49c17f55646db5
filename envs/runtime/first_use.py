"""The first use of an environment on a machine: its kernels are compiled, which takes a minute, and kept on disk.

Whatever of ours Numba compiles is told on stderr once it has taken a second. An environment compiles its phases
together (`compile_together`), and the longest of them in a second process at the same time where there are two cores:
Numba compiles one function at a time in a process. The second process leaves its result in the cache on disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from numba.core import event

QUIET_SECONDS = 1.0  # what takes less is not told
LINE_SECONDS = 10.0  # between two lines where stderr is a file
_PACKAGE = __name__.removesuffix("runtime.first_use")  # "envs.", or a longer name (`perceiver_agents.imports`)
LOOK_SECONDS = 0.25  # between two changes of a terminal's line, and between two looks at the second process


class _Announcer(event.Listener):
    """Tells on stderr that kernels are compiled, how many are done, and for how long it has taken."""

    def __init__(self) -> None:
        self.depth = 0  # kernels of ours that are compiled just now, one for the sake of the other
        self.began = 0.0
        self.told = 0.0  # when something was told last; 0: nothing yet
        self.done, self.total = 0, 0  # of `compile_together`; total 0: a kernel by itself
        self.at_first: Callable[[], None] | None = None  # called when the first kernel is found to be missing

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if self.depth == 0 and not str(function.__module__).startswith(_PACKAGE):
            return
        self.depth += 1
        if self.depth == 1 and self.began == 0.0:
            self.began = time.monotonic()
        if self.at_first is not None:
            at_first, self.at_first = self.at_first, None
            at_first()
        self.tell()

    def on_end(self, event: event.Event) -> None:
        if self.depth == 0:
            return
        self.depth -= 1
        if self.depth == 0 and self.total == 0:
            self.finish()

    def tell(self) -> None:
        """Says how far it is: again and again in the same line of a terminal, now and then in a line of a file."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if self.began == 0.0 or now - self.began < QUIET_SECONDS:
            return
        if self.told == 0.0 or now - self.told >= (LOOK_SECONDS if terminal else LINE_SECONDS):
            count = f"{self.done} of {self.total}, " if self.total else ""
            text = f"compiling the simulator's kernels (once): {count}{now - self.began:.0f} s"
            print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
            self.told = now

    def finish(self) -> None:
        if self.told:
            start = "\n" if sys.stderr.isatty() else ""
            print(f"{start}compiled in {time.monotonic() - self.began:.0f} s", file=sys.stderr, flush=True)
        self.began = self.told = 0.0
        self.done = self.total = 0


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Ticker(event.Listener):
    """Tells the time in a long kernel, between two steps of the compiler."""

    def on_start(self, event: event.Event) -> None:
        if _announcer.depth:
            _announcer.tell()

    on_end = on_start


_announcer = _Announcer()
event.register("numba:compile", _announcer)
event.register("numba:run_pass", _Ticker())


def compile_together(compilers: Sequence[Callable[[], object]], longest: Callable[[], object], code: str) -> None:
    """Compiles, or loads from disk, what an environment needs.

    Args:
        compilers: each compiles one kernel.
        longest: compiles the kernel that takes longest.
        code: what Python runs in a second process to compile that kernel, from when one of the others is missing.
    """
    announcer = _announcer
    if announcer.total:  # within another call, or in another thread: that one tells
        for compile_one in (*compilers, longest):
            compile_one()
        return
    second: list[subprocess.Popen[bytes]] = []
    if cores() > 1:
        announcer.at_first = lambda: second.append(_start(code))
    announcer.total = len(compilers) + 1
    try:
        for compile_one in compilers:
            compile_one()
            announcer.done += 1
        announcer.at_first = None
        while second and second[0].poll() is None:
            announcer.tell()
            time.sleep(LOOK_SECONDS)
        longest()  # from disk, unless the second process failed
    finally:
        for process in second:
            process.kill()
            process.wait()
        announcer.at_first = None
        announcer.finish()


def _start(code: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        # Nothing from the working directory, which may have an `envs` of its own.
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
