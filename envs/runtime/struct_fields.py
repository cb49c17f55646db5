"""The fields of a structref without counting references.

Numba counts who holds an array, with an atomic increment for each array of a structref that is taken out of it. A
phase takes out some fifty; with two threads at the same counters that was most of a step of few worlds (0.9
microseconds a phase with one thread, 6 with two). So phases get a pointer to the fields (`borrow`), and kernels that
count nothing take the fields from there (`fields_of`). Whoever calls the phase (`run`) holds the structref meanwhile.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.experimental.structref import _Utils
from numba.extending import intrinsic

_operation: Any = intrinsic


class StructureType(types.StructRef):
    """Base of a structref's type: its fields are of any type, numbers among them of no one value."""

    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


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


@_operation
def run(typingctx, address, arguments):  # type: ignore[no-untyped-def]
    """Calls the phase at an address with a tuple of arguments; structures among them are borrowed."""
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
