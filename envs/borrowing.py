"""The fields of a structref without counting references.

Numba counts who holds an array, with an atomic increment for each array of a structref that is taken out of it. A
phase takes out some fifty; with two threads at the same counters that was most of a step of few worlds (0.9
microseconds a phase with one thread, 6 with two). So phases get a pointer to the fields (`borrow`), and kernels that
count nothing take the fields from there (`fields_of`). Whoever calls the phase holds the structref meanwhile.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.experimental.structref import _Utils
from numba.extending import intrinsic

_operation: Any = intrinsic


@_operation
def borrow(typingctx, struct):  # type: ignore[no-untyped-def]
    """Pointer to the fields of a structref."""
    signature = types.CPointer(struct.get_data_type())(struct)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _Utils(context, builder, signature.args[0]).get_data_pointer(args[0])

    return signature, codegen


@_operation
def fields_of(typingctx, pointer):  # type: ignore[no-untyped-def]
    """A tuple of the fields behind a pointer from `borrow`; only for kernels that count no references."""
    payload = pointer.dtype
    signature = types.Tuple(list(payload.field_dict.values()))(pointer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.data_model_manager[payload].get_value_type()
        place = builder.bitcast(args[0], kind.as_pointer())
        fields = cgutils.create_struct_proxy(payload)(context, builder, ref=place)
        values = [getattr(fields, name) for name in payload.field_dict]
        return context.make_tuple(builder, signature.return_type, values)

    return signature, codegen
