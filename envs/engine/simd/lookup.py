"""Sixteen units at once: which of them lie within reach of a point, in a window, or in sight."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.np.arrayobj import populate_array

from envs.engine.simd.vectors import (
    INDEX,
    INT,
    MASK,
    REAL,
    Code,
    Lanes,
    Rows,
    Variable,
    dot,
    each_set,
    operation,
)
from envs.engine.state import layout as st
from envs.engine.state.layout import LANES, OWNERS

FAR = 1e9

first_bit: Any = trailing_zeros  # index of the lowest bit set, of an integer that is not 0


@operation
def pack_rows(typingctx, array, first, last):  # type: ignore[no-untyped-def]
    """`array` [B, R, M]: the memory of the entries from `first` to `last - 1` as R rows, [R, (last - first) * M].

    In NumPy:

        return array[first:last].reshape(array.shape[1], -1)
    """
    kind = types.Array(array.dtype, 2, "C")
    signature = kind(array, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = context.make_array(signature.args[0])(context, builder, args[0])
        _, rows, places = cgutils.unpack_tuple(builder, whole.shape, 3)
        size = context.get_constant(types.intp, array.dtype.bitwidth // 8)
        begin = builder.mul(args[1], builder.mul(rows, places))
        places = builder.mul(builder.sub(args[2], args[1]), places)
        packed = context.make_array(kind)(context, builder)
        populate_array(
            packed,
            data=builder.gep(whole.data, [begin]),
            shape=[rows, places],
            strides=[builder.mul(places, size), size],
            itemsize=size,
            meminfo=None,
        )
        return packed._getvalue()

    return signature, codegen


@operation
def lanes_in_reach(typingctx, floats, ints, at, places, row, x, y, reach, wanted):  # type: ignore[no-untyped-def]
    """Bit n is set where the unit at place `at + n` lies within reach of (x, y) and is wanted.

    Within reach: the distance is at most `reach` plus what row `row` holds. Wanted: the unit's key and `wanted` have a
    bit in common. Returns int64.

    In NumPy:

        mask = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            dx, dy, most = f[st.N_X] - x, f[st.N_Y] - y, f[row] + reach
            mask |= bool(dx * dx + dy * dy <= most * most and i[st.NI_KEY] & wanted) << n
        return mask
    """
    signature = MASK(floats, ints, INDEX, INDEX, INDEX, REAL, REAL, REAL, INT)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])
        dx, dy = units.load(st.N_X) - code.spread(5), units.load(st.N_Y) - code.spread(6)
        reach = units.load(args[4]) + code.spread(7)
        wanted = (units.load_int(st.NI_KEY) & code.spread(8)).differs(0)
        return ((dot(dx, dx, dy, dy) <= reach * reach) & wanted).to_mask()

    return signature, codegen


def within_reach(
    own: Rows, their: Rows, n: Any, x: int, y: int, reach: int, theirs: int, also: int
) -> tuple[Lanes, Lanes]:
    """Whether the n-th other is within reach of the unit, and what integer row `also` holds of it, in every lane.

    `x`, `y`: the rows that say where units are. The distance is at most row `reach` of the unit and row `theirs` of the
    other together.
    """
    code, builder = own.code, own.code.builder
    at_x, at_y, at_reach, at_value = (builder.add(their.row(number), n) for number in (x, y, theirs, also))
    dx, dy = own.load(x) - code.spread_element(0, at_x), own.load(y) - code.spread_element(0, at_y)
    most = own.load(reach) + code.spread_element(0, at_reach)
    return dot(dx, dx, dy, dy) <= most * most, code.spread_element(1, at_value)


@operation
def see_lanes(typingctx, floats, ints, at, start, others, places):  # type: ignore[no-untyped-def]
    """Adds to `NI_SEEN` of the units from place `at` on who sees them: the owners of units whose sight reaches them.

    The mask `others` says which units from place `start` on look.

    In NumPy:

        for n in range(at, at + LANES):
            for m in range(LANES):
                dx = floats[st.N_X, n] - floats[st.N_X, start + m]
                dy = floats[st.N_Y, n] - floats[st.N_Y, start + m]
                most = floats[st.N_RADIUS, n] + floats[st.N_SIGHT, start + m]
                if others >> m & 1 and dx * dx + dy * dy <= most * most:
                    ints[st.NI_SEEN, n] |= ints[st.NI_KEY, start + m] & OWNERS
    """
    signature = types.none(floats, ints, INDEX, INDEX, MASK, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        own, their = (Rows(code, args[n], args[5]) for n in (2, 3))
        seen = Variable(own.load_int(st.NI_SEEN))

        def look(n: Any) -> None:
            within, key = within_reach(own, their, n, st.N_X, st.N_Y, st.N_RADIUS, st.N_SIGHT, st.NI_KEY)
            seen.set(seen.get() | within.choose(key & OWNERS, 0))

        each_set(code, args[4], look)
        own.store_int(st.NI_SEEN, seen.get())
        return context.get_dummy_value()

    return signature, codegen


@operation
def lanes_in_window(typingctx, floats, ints, at, places, x, y, x0, x1, y0, y1, wanted):  # type: ignore[no-untyped-def]
    """Bit n is set where the unit at place `at + n` lies in the rectangle and is wanted.

    `x`, `y`: the rows that say where units are. Wanted: the unit's key and `wanted` have a bit in common.

    In NumPy:

        mask = 0
        for n in range(LANES):
            inside = x0 <= floats[x, at + n] <= x1 and y0 <= floats[y, at + n] <= y1
            mask |= bool(inside and ints[st.NI_KEY, at + n] & wanted) << n
        return mask
    """
    signature = MASK(floats, ints, INDEX, INDEX, INDEX, INDEX, REAL, REAL, REAL, REAL, INT)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])
        x, y = units.load(args[4]), units.load(args[5])
        inside = (x >= code.spread(6)) & (x <= code.spread(7)) & (y >= code.spread(8)) & (y <= code.spread(9))
        wanted = (units.load_int(st.NI_KEY) & code.spread(10)).differs(0)
        return (inside & wanted).to_mask()

    return signature, codegen


@operation
def box_lanes(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Sets the box of the block of sixteen from place `at` on. Nothing meets the box of a block without units.

    In NumPy:

        block = at // LANES
        there = [k for k in range(at, at + LANES) if ints[st.NI_KEY, k] != 0]
        for row, low, high in ((st.N_X, st.N_BOX_X0, st.N_BOX_X1), (st.N_Y, st.N_BOX_Y0, st.N_BOX_Y1)):
            floats[low, block] = floats[row, there].min(initial=FAR)
            floats[high, block] = floats[row, there].max(initial=-FAR)
        ints[st.NI_BOX_OWNERS, block] = np.bitwise_or.reduce(ints[st.NI_KEY, there]) & OWNERS
    """
    signature = types.none(floats, ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])
        key = units.load_int(st.NI_KEY)
        there = key.differs(0)
        boxes = Rows(code, builder.udiv(args[2], ir.Constant(ir.IntType(64), LANES)), args[3])
        for row, low, high in ((st.N_X, st.N_BOX_X0, st.N_BOX_X1), (st.N_Y, st.N_BOX_Y0, st.N_BOX_Y1)):
            value = units.load(row)
            code.store_element(0, boxes.row(low), there.choose(value, FAR).fold(lambda a, b: a.at_most(b)))
            code.store_element(0, boxes.row(high), there.choose(value, -FAR).fold(lambda a, b: a.at_least(b)))
        code.store_element(1, boxes.row(st.NI_BOX_OWNERS), (key & OWNERS).fold(lambda a, b: a | b))
        return context.get_dummy_value()

    return signature, codegen


@operation
def boxes_in_window(typingctx, floats, ints, first, places, x0, x1, y0, y1, owners):  # type: ignore[no-untyped-def]
    """Bit n is set where the box of block `first + n` meets the rectangle, and has units of some of the `owners`.

    In NumPy:

        mask = 0
        for n in range(LANES):
            f, i = floats[:, first + n], ints[:, first + n]
            meets = f[st.N_BOX_X0] <= x1 and f[st.N_BOX_X1] >= x0 and f[st.N_BOX_Y0] <= y1 and f[st.N_BOX_Y1] >= y0
            mask |= bool(meets and i[st.NI_BOX_OWNERS] & owners) << n
        return mask
    """
    signature = MASK(floats, ints, INDEX, INDEX, REAL, REAL, REAL, REAL, INT)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        boxes = Rows(code, args[2], args[3])
        x0, x1, y0, y1 = (boxes.load(row) for row in (st.N_BOX_X0, st.N_BOX_X1, st.N_BOX_Y0, st.N_BOX_Y1))
        meets = (x0 <= code.spread(5)) & (x1 >= code.spread(4)) & (y0 <= code.spread(7)) & (y1 >= code.spread(6))
        return (meets & (boxes.load_int(st.NI_BOX_OWNERS) & code.spread(8)).differs(0)).to_mask()

    return signature, codegen


@operation
def owners_of_all(typingctx, ints, at, places):  # type: ignore[no-untyped-def]
    """The owner of the units from place `at` on, as a bit, if it is the same of all; otherwise 0.

    In NumPy:

        keys = ints[st.NI_KEY, at : at + LANES]
        return np.bitwise_and.reduce(keys[keys != 0], initial=OWNERS)
    """
    signature = MASK(ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        key = Rows(code, args[1], args[2], ints=0).load_int(st.NI_KEY)
        common = key.differs(0).choose(key, OWNERS).fold(lambda a, b: a & b)
        return builder.and_(builder.zext(common, ir.IntType(64)), ir.Constant(ir.IntType(64), OWNERS))

    return signature, codegen


@operation
def lanes_span(typingctx, floats, at, places, x, y, lanes):  # type: ignore[no-untyped-def]
    """The rectangle around the units in `lanes` from place `at` on, and their largest `N_ABOUT`.

    `x`, `y`: the rows that say where units are. Returns (x0, x1, y0, y1, about).

    In NumPy:

        chosen = [at + n for n in range(LANES) if lanes >> n & 1]
        span = []
        for row in (x, y):
            span += [floats[row, chosen].min(initial=FAR), floats[row, chosen].max(initial=-FAR)]
        return *span, floats[st.N_ABOUT, chosen].max(initial=0.0)
    """
    signature = types.UniTuple(REAL, 5)(floats, INDEX, INDEX, INDEX, INDEX, MASK)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        lanes, units = code.bits(5), Rows(code, args[1], args[2])
        values = []
        for row in args[3:5]:
            value = units.load(row)
            values.append(lanes.choose(value, FAR).fold(lambda a, b: a.at_most(b)))
            values.append(lanes.choose(value, -FAR).fold(lambda a, b: a.at_least(b)))
        values.append(lanes.choose(units.load(st.N_ABOUT), 0.0).fold(lambda a, b: a.at_least(b)))
        return context.make_tuple(builder, signature.return_type, values)

    return signature, codegen
