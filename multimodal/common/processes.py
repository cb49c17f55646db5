"""Processes that may be ended by what they read: how often that is tried, and how their ends are told."""

from __future__ import annotations

import signal

# What ended this many processes is given up.
TRIES = 2
# Nothing that is well takes as long, even on storage that stalls or on a machine that has too much to do.
LONGEST_SECONDS = 300.0


def describe_exit(exitcode: int | None) -> str:
    """Name the signal or the exit code of a process, as `multiprocessing` and `subprocess` tell it."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"
