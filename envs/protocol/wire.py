"""Protobuf's wire format: written by compiled code into an array of bytes, and pieces of it put together.

The compiled functions put something at `out[n]` on and return where the next thing goes; none looks whether there is
room.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "BYTES",
    "FLOAT",
    "VARINT",
    "header",
    "key_of",
    "put_bytes",
    "put_field",
    "put_flag",
    "put_float",
    "put_key",
    "put_varint",
    "varint_length",
    "wrap",
]

VARINT, BYTES, FLOAT = 0, 2, 5  # wire types

# Numba's decorator has no types of its own: the functions that it makes take no context.
_operation: Any = intrinsic
_BITS = {types.uint8: 8, types.uint16: 16, types.float32: 32}


@_operation
def _store(typingctx, out, n, value):  # type: ignore[no-untyped-def]
    """Stores a value as it lies in memory (little-endian) at `out[n]` on, whatever its alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, number = arguments
        kind = ir.FloatType() if value == types.float32 else ir.IntType(_BITS[value])
        base = context.make_array(signature.args[0])(context, builder, array).data
        place = builder.bitcast(builder.gep(base, [index]), kind.as_pointer())
        builder.store(number, place, align=1)
        return context.get_dummy_value()

    return types.void(out, types.int64, value), generate


def header(field: int, size: int) -> bytes:
    """What stands before the `size` bytes of a length-delimited field."""
    out = bytearray()
    for value in (field << 3 | BYTES, size):
        while value >= 128:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def wrap(field: int, payload: bytes) -> bytes:
    """A length-delimited field. Repeated occurrences of a message field are merged by every parser."""
    return header(field, len(payload)) + payload


def key_of(field: int, wire: int) -> int:
    """A field's key as it is stored: one byte, or two from field 16 on."""
    key = field << 3 | wire
    return key if key < 128 else (key & 127 | 128) | (key >> 7) << 8


# Merged into their callers: a call would pass the fields of the array on the stack.
_writer: Any = njit(forceinline=True, error_model="numpy")


@_writer
def put_key(out, n, key):
    """A key of `key_of`."""
    if key < 256:
        _store(out, n, np.uint8(key))
        return n + 1
    _store(out, n, np.uint16(key))
    return n + 2


@_writer
def put_varint(out, n, value):
    """A number of at least 0."""
    value = np.uint64(value)
    while value >= np.uint64(128):
        _store(out, n, np.uint8((value & np.uint64(127)) | np.uint64(128)))
        value >>= np.uint64(7)
        n += 1
    _store(out, n, np.uint8(value))
    return n + 1


@_writer
def put_field(out, n, key, value):
    """A field of type varint."""
    return put_varint(out, put_key(out, n, key), value)


@_writer
def put_flag(out, n, key, value):
    """A field of type varint with a value below 128."""
    n = put_key(out, n, key)
    _store(out, n, np.uint8(value))
    return n + 1


@_writer
def put_float(out, n, key, value):
    """A field of type float."""
    n = put_key(out, n, key)
    _store(out, n, np.float32(value))
    return n + 4


@_writer
def put_bytes(out, n, values):
    """The bytes `values` [count], without key or length."""
    for k in range(values.shape[0]):
        out[n + k] = values[k]
    return n + values.shape[0]


@_writer
def varint_length(value):
    """Bytes that `put_varint` writes."""
    length = 1
    while value >= 128:
        value >>= 7
        length += 1
    return length
