"""Paths as users type them, made absolute where they enter: workers and later commands run in other folders.

The configs of the command lines call `make_absolute` as they are built, so configs made in Python follow the same rule.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

AnyPath = TypeVar("AnyPath", str, Path)


def absolute(path: AnyPath) -> AnyPath:
    """`path` from the root. `~` is the home folder. Symbolic links are kept unless `..` follows them."""
    full = Path.cwd() / os.path.expanduser(path)
    if ".." in full.parts:
        after_last = len(full.parts) - full.parts[::-1].index("..")
        full = Path(*full.parts[:after_last]).resolve().joinpath(*full.parts[after_last:])
    return type(path)(full)


def absolute_if_folder(name: str) -> str:
    """`name` from the root if it is that of a folder. Otherwise it names something else and stays as it is."""
    folder = absolute(name)
    return folder if os.path.isdir(folder) else name


def absolute_if_exists(name: str) -> str:
    """`name` from the root if it is that of a file or folder. Otherwise it names something else and stays as it is."""
    path = absolute(name)
    return path if os.path.exists(path) else name


def make_absolute(config: Any, *names: str) -> None:
    """Makes the paths in the fields `names` of a frozen dataclass absolute; called by its `__post_init__`.

    A field may be None, or a tuple of paths.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple):
            object.__setattr__(config, name, tuple(absolute(path) for path in value))
        elif value is not None:
            object.__setattr__(config, name, absolute(value))
