"""Asking a run to save and end between two steps: a file in its folder, which process 0 looks for before each step."""

from __future__ import annotations

from pathlib import Path

REQUEST_FILE = "stop-requested"


def request(folder: Path) -> None:
    """Ask the training in `folder` to save and end."""
    (folder / REQUEST_FILE).touch()


def requested(folder: Path) -> bool:
    """Whether it is asked to."""
    return (folder / REQUEST_FILE).exists()


def clear(folder: Path) -> None:
    """Forget earlier requests; process 0 does that before the first step."""
    (folder / REQUEST_FILE).unlink(missing_ok=True)
