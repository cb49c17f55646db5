"""Stopping a run between two steps, all of its processes after the same one.

The command asks (`request`). Process 0 sees that before a step and announces the last step to all. Gradients are
averaged in every step, so no process is more than a step ahead: the announcement reaches all in time.
"""

from __future__ import annotations

from pathlib import Path

from multimodal.common.records import write_atomically

REQUESTED = "stop-requested"
ANNOUNCED = "stop-after"


def request(folder: Path) -> None:
    """Ask the training in `folder` to save and end."""
    (folder / REQUESTED).touch()


def clear(folder: Path) -> None:
    """Forget earlier requests; process 0 does that before the first step."""
    for name in (REQUESTED, ANNOUNCED):
        (folder / name).unlink(missing_ok=True)


class StopWatch:
    """What a process looks at before each step."""

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        self._requested, self._announced = folder / REQUESTED, folder / ANNOUNCED
        self._leads = rank == 0
        self._ahead = 0 if world_size == 1 else 2
        self._last: int | None = None

    def ends_before(self, step: int) -> bool:
        """Whether the run ends before `step` is made."""
        if self._last is None:
            if self._leads and self._requested.exists():
                self._last = step + self._ahead
                write_atomically(self._announced, str(self._last))
            elif not self._leads and self._announced.exists():
                self._last = int(self._announced.read_text())
        return self._last is not None and step >= self._last
