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


@entry
def _run_once(address, *arguments):
    call_phase(address, arguments)


class Phase:
    """A kernel whose arguments are structures, whole numbers and bools, and which returns nothing."""

    def __init__(self, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self.kernel = kernel(function)
        self._addresses: dict[tuple[Any, ...], int] = {}

    def __call__(self, *arguments: Any) -> None:
        _run_once(self.address(*arguments), *arguments)

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
