"""Paths as users type them, made absolute where they enter: workers and later commands run in other folders."""

from __future__ import annotations

import os
from typing import Any


def absolute(path: str) -> str:
    """`path` from the root; `~` is the home folder. Symbolic links are kept."""
    return os.path.abspath(os.path.expanduser(path))


def make_absolute(config: Any, *names: str) -> None:
    """Make the paths in the fields `names` of a frozen dataclass absolute; called by its `__post_init__`.

    A field may be None, or a tuple of paths.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple):
            object.__setattr__(config, name, tuple(absolute(path) for path in value))
        elif value is not None:
            object.__setattr__(config, name, absolute(value))
