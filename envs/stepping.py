"""A whole environment step as one compiled call per thread.

The phases of `envs.driver` are compiled one by one, those of the views in use only, and called here through their
addresses: fusing them into one function would compile all of them anew for every combination of views. Threads take the
next few worlds from one counter and lead them through all phases, so that none waits for another before the step's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.extending import intrinsic

from envs.compilation import entry, stamp_kernels

# Worlds that go through the phases together, at most; fewer where threads share few worlds. With 16 a step of 3m took a
# tenth longer than with 128: every phase has to come back into the processor's caches. With more nothing was gained.
PORTION = 128
PORTIONS_PER_THREAD = 4

_operation: Any = intrinsic


@_operation
def take_ticket(typingctx, counter):  # type: ignore[no-untyped-def]
    """Adds 1 to counter[0] (int64), atomically; returns what it was."""
    signature = types.int64(counter)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return signature, codegen


def _call(result: Any) -> Any:
    """Code that calls the compiled function at an address (the first argument) with the other arguments."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.call_conv.get_function_type(result, signature.args[1:])
        function = builder.inttoptr(args[0], kind.as_pointer())
        status, value = context.call_conv.call_function(builder, function, result, signature.args[1:], args[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return value

    return codegen


@_operation
def run_phase(typingctx, address, context, first, last):  # type: ignore[no-untyped-def]
    """Calls a phase of `envs.driver` on the worlds [first, last)."""
    return types.none(types.int64, context, types.int64, types.int64), _call(types.none)


@_operation
def run_count(typingctx, address, context, first, last):  # type: ignore[no-untyped-def]
    """As `run_phase`, for `score_worlds`: returns how many worlds are to start anew."""
    return types.int64(types.int64, context, types.int64, types.int64), _call(types.int64)


@_operation
def run_loops(typingctx, address, context, loops, first, last):  # type: ignore[no-untyped-def]
    """As `run_phase`, for `advance_battles` and `advance_games`."""
    return types.none(types.int64, context, types.int64, types.int64, types.int64), _call(types.none)


@_operation
def run_observer(typingctx, address, context, output, only_ended, first, last):  # type: ignore[no-untyped-def]
    """As `run_phase`, for an observer."""
    signature = types.none(types.int64, context, output, types.boolean, types.int64, types.int64)
    return signature, _call(types.none)


@entry
def step_worlds(context, output, final, addresses, observers, loops, counter, portion):
    """Takes worlds, `portion` at a time, through all phases of a step until `counter` [1] says that none is left.

    `addresses` are those of `StepPhases`, `observers` those of the observers. What the worlds that ended looked like is
    written into `final`.
    """
    worlds = context.restart.shape[0]
    command, oppose, advance, score, start, begin = addresses
    while True:
        first = take_ticket(counter) * portion
        if first >= worlds:
            break
        last = min(first + portion, worlds)
        run_phase(command, context, first, last)
        if oppose != 0:
            run_phase(oppose, context, first, last)
        run_loops(advance, context, loops, first, last)
        if run_count(score, context, first, last) != 0:
            for observe in observers:
                run_observer(observe, context, final, True, first, last)
            run_phase(start, context, first, last)
            run_phase(begin, context, first, last)
        for observe in observers:
            run_observer(observe, context, output, False, first, last)


def address_of(phase: Any, *arguments: Any) -> int:
    """Address of the code of `phase`, compiled (or loaded from the cache) for arguments of these types."""
    kinds = tuple(argument if isinstance(argument, types.Type) else typeof(argument) for argument in arguments)
    phase.compile(kinds)
    compiled = phase.overloads[kinds]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


class Stepper:
    """The compiled step of one environment.

    Args:
        context: `driver.make_context`'s.
        worlds: how many worlds it holds.
        output: any `driver.make_output` of the environment.
        command: the phase that gives the agents' orders.
        oppose: the phase that gives the scripted opponents', or None.
        advance, score, start, begin: the phases that follow, see `envs.driver`.
        observers: the observers of the views in use.
    """

    def __init__(
        self,
        context: Any,
        worlds: int,
        output: Any,
        *,
        command: Any,
        oppose: Any,
        advance: Any,
        score: Any,
        start: Any,
        begin: Any,
        observers: Sequence[Any],
    ) -> None:
        span = (types.int64, types.int64)
        self._context = context
        self._worlds = worlds
        self._addresses = (
            address_of(command, context, *span),
            0 if oppose is None else address_of(oppose, context, *span),
            address_of(advance, context, types.int64, *span),
            address_of(score, context, *span),
            address_of(start, context, *span),
            address_of(begin, context, *span),
        )
        self._observers = np.array(
            [address_of(observer, context, output, types.boolean, *span) for observer in observers], np.int64
        )
        self._counter = np.zeros(1, np.int64)

    def work(self, output: Any, final: Any, loops: int, threads: int) -> Callable[[], None]:
        """One step of all worlds, as a function that any number of threads may run at the same time, each once."""
        portion = PORTION
        if threads > 1:
            portion = max(1, min(PORTION, self._worlds // (PORTIONS_PER_THREAD * threads)))
        self._counter[0] = 0

        def run() -> None:
            step_worlds(self._context, output, final, self._addresses, self._observers, loops, self._counter, portion)

        return run


stamp_kernels(("envs.stepping",))
