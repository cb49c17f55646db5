"""Phases of a step: kernels over a range of worlds, each compiled once, which take structures by pointer.

Python calls a phase with the structures themselves, through one small entry that takes the pointers. The compiled step
(`envs.runtime.stepping`) calls it by its address.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.experimental.structref import StructRefProxy

from envs.engine.state.compilation import entry, kernel
from envs.runtime.struct_fields import call_phase


# One entry for each number of arguments: where Numba packs them into a tuple itself, it finds out its type in Python in
# every call, which takes longer than a step of a small battle.
@entry
def _run_3(address, a, b, c):
    call_phase(address, (a, b, c))


@entry
def _run_4(address, a, b, c, d):
    call_phase(address, (a, b, c, d))


@entry
def _run_5(address, a, b, c, d, e):
    call_phase(address, (a, b, c, d, e))


@entry
def _run_6(address, a, b, c, d, e, f):
    call_phase(address, (a, b, c, d, e, f))


_RUN = {3: _run_3, 4: _run_4, 5: _run_5, 6: _run_6}


class Phase:
    """A kernel whose arguments are structures, whole numbers and bools, and which returns nothing."""

    def __init__(self, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self.kernel = kernel(function)
        self._addresses: dict[tuple[Any, ...], int] = {}

    def __call__(self, *arguments: Any) -> None:
        _RUN[len(arguments)](self.address(*arguments), *arguments)

    def address(self, *arguments: Any) -> int:
        """Where the machine code for arguments of these types lies; it is compiled, or loaded, if need be."""
        key = tuple(a._numba_type_ if isinstance(a, StructRefProxy) else type(a) for a in arguments)
        if key not in self._addresses:
            kinds = tuple(_kind(argument) for argument in arguments)
            self.kernel.compile(kinds)
            compiled = self.kernel.overloads[kinds]
            name = compiled.fndesc.llvm_func_name
            self._addresses[key] = int(compiled.library.get_pointer_to_function(name))
        return self._addresses[key]


def _kind(argument: Any) -> types.Type:
    if isinstance(argument, StructRefProxy):
        return types.CPointer(argument._numba_type_.get_data_type())
    if not isinstance(argument, int):
        raise TypeError(f"a phase takes structures, whole numbers and bools, not {argument!r}")
    return types.boolean if isinstance(argument, bool) else types.int64
