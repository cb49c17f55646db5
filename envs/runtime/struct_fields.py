"""The fields of a structref without counting references.

Numba counts who holds an array: it increments an atomic counter for each array that is taken out of a structref. A
phase takes out some fifty. With two threads at the same counters that was most of a step of few worlds: 6 microseconds
a phase, 0.9 with one thread.

So a phase gets a pointer to the fields (`fields_pointer`). Kernels that count nothing read the fields there
(`fields_of`). Whoever calls the phase (`call_phase`) holds the structref meanwhile.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.experimental.structref import _Utils
from numba.extending import intrinsic

_operation: Any = intrinsic


class StructureType(types.StructRef):
    """Base of a structref's type: a field may be a number, whose type then does not hold its value."""

    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


@_operation
def fields_pointer(typingctx, struct):  # type: ignore[no-untyped-def]
    """Pointer to the fields of a structref."""
    signature = types.CPointer(struct.get_data_type())(struct)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _Utils(context, builder, signature.args[0]).get_data_pointer(args[0])

    return signature, codegen


@_operation
def fields_of(typingctx, pointer):  # type: ignore[no-untyped-def]
    """A tuple of the fields behind a pointer from `fields_pointer`; only for kernels that count no references."""
    payload = pointer.dtype
    signature = types.Tuple(list(payload.field_dict.values()))(pointer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.data_model_manager[payload].get_value_type()
        place = builder.bitcast(args[0], kind.as_pointer())
        fields = cgutils.create_struct_proxy(payload)(context, builder, ref=place)
        values = [getattr(fields, name) for name in payload.field_dict]
        return context.make_tuple(builder, signature.return_type, values)

    return signature, codegen


@_operation
def call_phase(typingctx, address, arguments):  # type: ignore[no-untyped-def]
    """Calls the phase at an address with a tuple of arguments; of structures it passes pointers to the fields."""
    passed = [types.CPointer(kind.get_data_type()) if isinstance(kind, types.StructRef) else kind for kind in arguments]
    signature = types.none(types.int64, arguments)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        for place, kind in enumerate(signature.args[1]):
            if isinstance(kind, types.StructRef):
                values[place] = _Utils(context, builder, kind).get_data_pointer(values[place])
        pointer = context.call_conv.get_function_type(types.none, passed).as_pointer()
        function = builder.inttoptr(args[0], pointer)
        status, _ = context.call_conv.call_function(builder, function, types.none, passed, values)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return signature, codegen
