"""Compiled code on disk: what makes it stale, and how the environment's entry points are compiled.

Numba stamps a cached function with its own source file only, though the machine code holds every function that it
calls. So all kernels of the worlds get one stamp here, a digest of their sources and of the engine's; after any change
they are compiled anew. The engine's own kernels have the engine's stamp (`envs.engine`), so that a process that uses
the engine alone and one that uses the worlds share the same compiled code.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from envs.engine import source_digest, stamp_modules

# As the engine's kernels: no GIL, and a division by zero is inf as in NumPy.
entry: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")


def stamp_kernels(names: tuple[str, ...]) -> None:
    """Ties the cached kernels of the modules `names` to the sources of these modules and of the engine."""
    modules = [sys.modules[name] for name in sorted(names) if name in sys.modules]
    digest = hashlib.sha256(source_digest().encode())
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    stamp_modules(modules, digest.hexdigest())
