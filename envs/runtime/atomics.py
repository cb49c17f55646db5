"""Words of memory that threads share in compiled code: int64 arrays, element by element, with their order kept.

What a thread wrote before it stored, added or exchanged a word is there for a thread that has read that word.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_operation: Any = intrinsic
_WORD = ir.IntType(64)
_BYTES = 8
_HAS_PAUSE = platform.machine() in ("x86_64", "AMD64")


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Pointer to the element that the first two arguments name."""
    base = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(base, [args[1]])


@_operation
def add(typingctx, words, index, number):  # type: ignore[no-untyped-def]
    """Adds `number` to words[index]; returns what it was."""
    signature = types.int64(words, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, signature, args), args[2], "acq_rel")

    return signature, codegen


@_operation
def load(typingctx, words, index):  # type: ignore[no-untyped-def]
    """words[index] as it is now."""
    signature = types.int64(words, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", _BYTES)

    return signature, codegen


@_operation
def store(typingctx, words, index, value):  # type: ignore[no-untyped-def]
    """Sets words[index]."""
    signature = types.none(words, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, signature, args), "release", _BYTES)
        return context.get_dummy_value()

    return signature, codegen


@_operation
def exchange(typingctx, words, index, expected, value):  # type: ignore[no-untyped-def]
    """Sets words[index] if it is `expected`; returns whether it was."""
    signature = types.boolean(words, types.int64, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire"), 1)

    return signature, codegen


@_operation
def relax(typingctx):  # type: ignore[no-untyped-def]
    """In a loop that waits: some 50 ns in which another thread of the same core goes on (x86; nothing elsewhere)."""
    signature = types.none()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _HAS_PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return signature, codegen
