"""Compiled code on disk: what makes it stale, and how the environment's entry points are compiled.

Numba stamps a cached function with its own source file only, though the machine code holds every function that it
calls. So all
kernels of the worlds get one stamp here, a digest of all their sources; after any change they are compiled anew.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.dispatcher import Dispatcher

# As the engine's kernels: no GIL, and a division by zero is inf as in NumPy.
entry: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")


def stamp_kernels(names: tuple[str, ...]) -> None:
    """Gives all kernels of the modules `names` and of the engine the digest of these modules' sources as cache
    stamp."""
    modules = [
        module for name, module in sorted(sys.modules.items()) if name in names or name.startswith("envs.engine")
    ]
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    for module in modules:
        for value in vars(module).values():
            file = getattr(getattr(value, "_cache", None), "_cache_file", None)
            if isinstance(value, Dispatcher) and file is not None:
                file._source_stamp = digest.hexdigest()
