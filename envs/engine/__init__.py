"""The battle engine: state (structures of arrays), and the kernels that advance it.

Order of reading: state, step, vectors, lanes, neighbours, targeting, quiet, decisions, movement, damage, vision,
pathing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from numba.core.dispatcher import Dispatcher

from envs.engine import damage, decisions, movement, neighbours, pathing, quiet, state, step, targeting, vision
from envs.engine.simd import lanes, vectors

_MODULES = (
    state,
    step,
    vectors,
    lanes,
    neighbours,
    targeting,
    quiet,
    decisions,
    movement,
    damage,
    vision,
    pathing,
)


def source_digest() -> str:
    """Digest of the engine's sources."""
    digest = hashlib.sha256()
    for module in _MODULES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def stamp_modules(modules: Iterable[ModuleType], stamp: str) -> None:
    """Ties every cached kernel of `modules` to `stamp` in the place of its own file.

    Numba stamps a cached function with the file that it stands in only, yet its machine code holds what it calls: after
    a change in another file it would run the old code. Kernels that a module only imports keep their own stamp.
    """
    for module in modules:
        for value in vars(module).values():
            dispatcher = getattr(value, "kernel", value)  # of a phase (`envs.runtime.phases`)
            file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
            if isinstance(dispatcher, Dispatcher) and file and dispatcher.py_func.__module__ == module.__name__:
                file._source_stamp = stamp


stamp_modules(_MODULES, source_digest())
