"""Sixteen units at once: which of them lie within reach of a point, how they push a unit among them, how they move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.np.arrayobj import populate_array

from envs.engine.simd.vectors import (
    INDEX,
    INT,
    INTS,
    MASK,
    REAL,
    Code,
    Lanes,
    Rows,
    Variable,
    dot,
    each_bit,
    each_set,
    operation,
)
from envs.engine.state import layout as st
from envs.engine.state.layout import LANES

__all__ = [
    "ANCHORED",
    "IDLE",
    "MOVING",
    "OWNERS",
    "RESTING",
    "TELEPORT",
    "begin_steps",
    "blocked_lanes",
    "box_lanes",
    "boxes_in_window",
    "collect_met",
    "collect_room",
    "collide_lanes",
    "end_steps",
    "first_bit",
    "lanes_in_reach",
    "lanes_in_window",
    "lanes_span",
    "lanes_that_move",
    "number_lanes",
    "owners_of_all",
    "pack_rows",
    "push_steps",
    "see_lanes",
    "share_lanes",
    "turn_steps",
]

# Mobility of a unit in a loop. One that rests is idle, and has no order.
ANCHORED, IDLE, RESTING, MOVING, TELEPORT = range(5)
EDGE = 1e-3
SAME_PLACE = 1e-8  # squared distance
CORE = 0.75  # two units never come nearer than this share of their inner radii
PUSH_LIMIT = 0.25  # largest displacement by pushes in a loop
AHEAD = 0.2  # gap at which a unit begins to go around another
FAR = 1e9
OWNERS = (1 << st.MAX_OWNERS) - 1  # the bits of a key that say whose the unit is
QUICKEN = 0.2  # by which the pace of a unit that had to slow down rises in a loop

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


def _within(own: Rows, their: Rows, n: Any, x: int, y: int, reach: int, theirs: int, also: int) -> tuple[Lanes, Lanes]:
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
            within, key = _within(own, their, n, st.N_X, st.N_Y, st.N_RADIUS, st.N_SIGHT, st.NI_KEY)
            seen.set(seen.get() | within.choose(key & OWNERS, 0))

        each_set(code, args[4], look)
        own.store_int(st.NI_SEEN, seen.get())
        return context.get_dummy_value()

    return signature, codegen


def _near(own: Rows, their: Rows, many: Any, number: Lanes, x: int, y: int, asked: Lanes) -> Lanes:
    """Bit n of a lane that is asked is set where the n-th of `many` others is within `N_ABOUT`, edge to edge.

    `x`, `y`: the rows that say where units are. No unit is near itself, which is the `number`-th of the others. Nor is
    it near units of another `NI_GROUP`.
    """
    code, builder, group = own.code, own.code.builder, own.load_int(st.NI_GROUP)
    near = Variable(code.constant(0))
    with cgutils.for_range(builder, many) as loop:
        within, their_group = _within(own, their, loop.index, x, y, st.N_ABOUT, st.N_INNER, st.NI_GROUP)
        bit = builder.shl(ir.Constant(ir.IntType(32), 1), builder.trunc(loop.index, ir.IntType(32)))
        near.set(near.get() | (within & group.equals(their_group)).choose(code.splat(bit), 0))
    itself = number.equals(number & (LANES - 1)).choose((number & (LANES - 1)).as_bit(), 0)
    return asked.choose(near.get() & ~itself, 0)


@operation
def number_lanes(typingctx, ints, at, lanes, first, places):  # type: ignore[no-untyped-def]
    """Numbers the units in `lanes` from place `at` on, one after the other from `first` on: `NI_NUMBER`.

    In NumPy:

        for n in range(LANES):
            ints[st.NI_NUMBER, at + n] = first + (lanes & (1 << n) - 1).bit_count()
    """
    signature = types.none(ints, INDEX, MASK, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[1], args[4], ints=0)
        before = Lanes(builder, ir.Constant(INTS, [(1 << n) - 1 for n in range(LANES)]))
        lanes, first = (code.splat(builder.trunc(args[n], ir.IntType(32))) for n in (2, 3))
        units.store_int(st.NI_NUMBER, (lanes & before).bits_set().plus(first))
        return context.get_dummy_value()

    return signature, codegen


@contextmanager
def _each_sixteen(own: Rows, start: Any, many: Any) -> Iterator[tuple[Rows, Any, Lanes]]:
    """The code of a loop over `many` others from place `start` on, sixteen at a time.

    Yields their rows, how many these are, and what number each unit of `own` has among them.
    """
    code = own.code
    builder, sixteen = code.builder, ir.Constant(ir.IntType(64), LANES)
    with cgutils.for_range_slice(builder, ir.Constant(many.type, 0), many, sixteen) as (index, _):
        left = builder.sub(many, index)
        more = builder.icmp_signed(">", left, sixteen)
        number = own.load_int(st.NI_NUMBER).minus(code.splat(builder.trunc(index, ir.IntType(32))))
        yield Rows(code, builder.add(start, index), own.places), builder.select(more, sixteen, left), number


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


# The rows of other units that `collide_lanes` (MET) and `share_lanes` (ROOM) read.
MET_FLOATS = st.N_PX, st.N_PY, st.N_VX, st.N_VY, st.N_INNER
MET_INTS = st.NI_SLOT, st.NI_KEY, st.NI_MOBILITY, st.NI_GROUP
ROOM_FLOATS = st.N_X, st.N_Y, st.N_INNER
ROOM_INTS = st.NI_MOBILITY, st.NI_GROUP


def _collect(code: Code, floats: tuple[int, ...], ints: tuple[int, ...]) -> Any:
    """Copies some rows of the lanes of mask argument 4 from the place in argument 2 on to that in argument 3."""
    units, to = (Rows(code, code.args[n], code.args[5]) for n in (2, 3))
    lanes = code.bits(4)
    for row in floats:
        code.store_packed(0, to.row(row), units.load(row), lanes)
    for row in ints:
        code.store_packed(1, to.row(row), units.load_int(row), lanes)
    return code.builder.ctpop(code.args[4])


@operation
def collect_met(typingctx, floats, ints, at, to, lanes, places):  # type: ignore[no-untyped-def]
    """Copies what `collide_lanes` asks of the units in `lanes` from place `at` on, side by side, to place `to` on.

    Returns how many these are. Sixteen places there are written over.

    In NumPy:

        chosen = [at + n for n in range(LANES) if lanes >> n & 1]
        for row in MET_FLOATS:
            floats[row, to : to + len(chosen)] = floats[row, chosen]
        for row in MET_INTS:
            ints[row, to : to + len(chosen)] = ints[row, chosen]
        return len(chosen)
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _collect(Code(context, builder, signature, args), MET_FLOATS, MET_INTS)

    return INDEX(floats, ints, INDEX, INDEX, MASK, INDEX), codegen


@operation
def collect_room(typingctx, floats, ints, at, to, lanes, places):  # type: ignore[no-untyped-def]
    """As `collect_met`, what `share_lanes` asks.

    In NumPy:

        chosen = [at + n for n in range(LANES) if lanes >> n & 1]
        for row in ROOM_FLOATS:
            floats[row, to : to + len(chosen)] = floats[row, chosen]
        for row in ROOM_INTS:
            ints[row, to : to + len(chosen)] = ints[row, chosen]
        return len(chosen)
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _collect(Code(context, builder, signature, args), ROOM_FLOATS, ROOM_INTS)

    return INDEX(floats, ints, INDEX, INDEX, MASK, INDEX), codegen


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


@operation
def collide_lanes(typingctx, floats, ints, at, start, many, lanes, places):  # type: ignore[no-untyped-def]
    """Adds up how `many` units from place `start` on collide with the units in `lanes` from place `at` on.

    A unit meets the others that are within `N_ABOUT` of where its step leads, edge to edge. Its rows get:

    * `N_PUSH_X`, `N_PUSH_Y`: how it gives way to units that it overlaps. Of two moving allies, the one that walks into
      the other gives way; both do half-way if both walk so, or neither. An anchored unit gives no way, an ally at rest
      half-way. Enemies give no way to a moving unit.
    * `N_WALL_X`, `N_WALL_Y`: how much of its direction (`N_UX`, `N_UY`) goes into solid units, as a vector. Solid are
      enemies but its target, allies that do not move, and allies that come the other way.
    * `N_SIDE`: the same, signed by the side on which they are; allies that come the other way count as left.

    The lowest bit of `NI_MET` is set where a unit has met another. Returns the lanes that touch allies at rest.

    In NumPy:

        touching = 0
        for n, m in ((n, m) for n in range(LANES) if lanes >> n & 1 for m in range(many)):
            f, i, other_f, other_i = floats[:, at + n], ints[:, at + n], floats[:, start + m], ints[:, start + m]
            dx, dy = f[st.N_PX] - other_f[st.N_PX], f[st.N_PY] - other_f[st.N_PY]
            near, about = dx * dx + dy * dy, f[st.N_ABOUT] + other_f[st.N_INNER]
            if m == i[st.NI_NUMBER] or i[st.NI_GROUP] != other_i[st.NI_GROUP] or near > about * about:
                continue
            i[st.NI_MET] |= 1
            mobility, moves = other_i[st.NI_MOBILITY], i[st.NI_MOBILITY] == MOVING
            if mobility == TELEPORT:
                continue
            allied = i[st.NI_KEY] & other_i[st.NI_KEY] & OWNERS != 0

            # Two on the same place part along a line that both derive from their slots.
            square = near
            if near < SAME_PLACE:
                dx = dy = np.float32(EDGE if other_i[st.NI_SLOT] < i[st.NI_SLOT] else -EDGE)
                square = np.float32(2 * EDGE * EDGE)
            inverse = 1.0 / np.sqrt(square)
            reach = other_f[st.N_INNER] + f[st.N_INNER]
            touches = near < reach * reach

            # Who walks into whom.
            ahead = -(f[st.N_UX] * dx + f[st.N_UY] * dy)
            presses, pressed = ahead > 0.0, other_f[st.N_VX] * dx + other_f[st.N_VY] * dy > 0.0
            facing = presses and pressed and mobility == MOVING and allied

            # What part of the overlap this unit gives way.
            if not touches:
                yields = 0.0
            elif allied and mobility == ANCHORED:
                yields = 1.0
            elif allied and mobility == MOVING and moves and presses != pressed:
                yields = 1.0 if presses else 0.0
            elif allied or (mobility == MOVING and moves) or (mobility in (IDLE, RESTING) and not moves):
                yields = 0.5
            else:
                yields = 1.0 if mobility != MOVING and moves else 0.0
            push = yields * (reach * inverse - 1.0)

            # What of its direction goes into something solid.
            solid = (mobility != MOVING or not allied or facing) and other_i[st.NI_SLOT] != i[st.NI_TARGET]
            into = ahead * inverse if solid and presses else 0.0
            wall = into * inverse
            f[st.N_PUSH_X] += push * dx
            f[st.N_PUSH_Y] += push * dy
            f[st.N_WALL_X] -= wall * dx
            f[st.N_WALL_Y] -= wall * dy
            f[st.N_SIDE] += -into if facing or f[st.N_UY] * dx > f[st.N_UX] * dy else into
            touching |= bool(touches and allied and mobility == RESTING) << n
        return touching
    """
    signature = MASK(floats, ints, INDEX, INDEX, INDEX, MASK, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        own = Rows(code, args[2], args[6])
        x, y, radius, ux, uy = (own.load(number) for number in (st.N_PX, st.N_PY, st.N_INNER, st.N_UX, st.N_UY))
        self_moves, target = own.load_int(st.NI_MOBILITY).equals(MOVING), own.load_int(st.NI_TARGET)
        owners, own_slot = own.load_int(st.NI_KEY) & OWNERS, own.load_int(st.NI_SLOT)
        rows = st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE
        sums = [Variable(own.load(row)) for row in rows]
        met, touched = Variable(code.constant(0)), Variable(code.constant(0))

        def look(theirs: tuple[list[Lanes], list[Lanes]], other: Lanes, active: Lanes) -> None:
            their_x, their_y, their_vx, their_vy, their_radius = (lanes.at(other) for lanes in theirs[0])
            key, mobility, slot = (lanes.at(other) for lanes in theirs[1])
            active = active & mobility.differs(TELEPORT)
            allied = (key & owners).differs(0)
            moves, anchored, rests = (mobility.equals(kind) for kind in (MOVING, ANCHORED, RESTING))
            idle = rests | mobility.equals(IDLE)

            dx, dy = x - their_x, y - their_y
            near = dot(dx, dx, dy, dy)
            # Two on the same place part along a line that both derive from their slots.
            same = near < SAME_PLACE
            apart = (slot < own_slot).choose(code.constant(EDGE), -EDGE)
            dx, dy = same.choose(apart, dx), same.choose(apart, dy)
            square = same.choose(2 * EDGE * EDGE, near)
            inverse = code.constant(1.0) / square.root()

            reach = their_radius + radius
            touches = active & (near < reach * reach)

            ahead = -dot(ux, dx, uy, dy)
            presses = ahead > 0.0
            pressed = dot(their_vx, dx, their_vy, dy) > 0.0
            facing = presses & pressed & moves & allied
            even = presses.equals(pressed) | ~moves | ~self_moves
            half, one, none = code.constant(0.5), code.constant(1.0), code.constant(0.0)
            ally = even.choose(half, presses.choose(one, none))
            foe_moving, foe_resting = self_moves.choose(half, none), self_moves.choose(one, half)
            foe = moves.choose(foe_moving, idle.choose(foe_resting, self_moves.choose(one, none)))
            share = allied.choose(anchored.choose(one, ally), foe)
            push = touches.choose(share * (reach * inverse - 1.0), none)

            solid = (~moves | ~allied | facing) & slot.differs(target)
            into = (active & solid & presses).choose(ahead, none) * inverse
            wall = into * inverse
            side = (facing | (uy * dx > ux * dy)).choose(-into, into)
            for total, part in zip(sums, (push * dx, push * dy, -(wall * dx), -(wall * dy), side), strict=True):
                total.set(total.get() + part)
            touched.set(touched.get() | (touches & allied & rests).choose(code.constant(1), 0))

        with _each_sixteen(own, args[3], args[4]) as (their, many, number):
            found = _near(own, their, many, number, st.N_PX, st.N_PY, code.bits(5))
            met.set(met.get() | found)
            floats = [their.load(number) for number in (st.N_PX, st.N_PY, st.N_VX, st.N_VY, st.N_INNER)]
            ints = [their.load_int(number) for number in (st.NI_KEY, st.NI_MOBILITY, st.NI_SLOT)]
            each_bit(code, found, partial(look, (floats, ints)))
        for row, total in zip(rows, sums, strict=True):
            own.store(row, total.get())
        own.store_int(st.NI_MET, own.load_int(st.NI_MET) | met.get().differs(0).choose(code.constant(1), 0))
        return touched.get().differs(0).to_mask()

    return signature, codegen


@operation
def share_lanes(typingctx, floats, ints, at, start, many, lanes, places):  # type: ignore[no-untyped-def]
    """Lowers `N_SHARE` of the units in `lanes`: the share of its step that keeps a unit's core out of all others.

    It takes the arguments of `collide_lanes`; `push_steps` has set `N_ABOUT`. The step (`N_VX`, `N_VY`) may take half
    of the room between the cores of two units, because the other unit may take the other half. Cores have `CORE` of the
    radii.

    In NumPy:

        for n, m in ((n, m) for n in range(LANES) if lanes >> n & 1 for m in range(many)):
            f, i, other_f, other_i = floats[:, at + n], ints[:, at + n], floats[:, start + m], ints[:, start + m]
            dx, dy = other_f[st.N_X] - f[st.N_X], other_f[st.N_Y] - f[st.N_Y]
            near, about = dx * dx + dy * dy, f[st.N_ABOUT] + other_f[st.N_INNER]
            if m == i[st.NI_NUMBER] or i[st.NI_GROUP] != other_i[st.NI_GROUP] or near > about * about:
                continue
            distance = np.sqrt(near)
            gap = max(distance - (other_f[st.N_INNER] + f[st.N_INNER]) * CORE, 0.0)
            # The room along the line between the two, and what the step takes of it, both times the distance.
            room, taken = gap * 0.5 * distance, f[st.N_VX] * dx + f[st.N_VY] * dy
            if other_i[st.NI_MOBILITY] != TELEPORT and taken > room:
                f[st.N_SHARE] = min(f[st.N_SHARE], room / taken)
    """
    signature = types.none(floats, ints, INDEX, INDEX, INDEX, MASK, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        own = Rows(code, args[2], args[6])
        x, y, radius, vx, vy = (own.load(number) for number in (st.N_X, st.N_Y, st.N_INNER, st.N_VX, st.N_VY))
        share = Variable(own.load(st.N_SHARE))

        def look(theirs: list[Lanes], other: Lanes, active: Lanes) -> None:
            their_x, their_y, their_radius, mobility = (lanes.at(other) for lanes in theirs)
            active = active & mobility.differs(TELEPORT)
            dx, dy = their_x - x, their_y - y
            distance = dot(dx, dx, dy, dy).root()
            gap = (distance - (their_radius + radius) * CORE).at_least(0.0)
            # The room along the line between the two, and what the step takes of it, both times the distance.
            room = gap * 0.5 * distance
            taken = dot(vx, dx, vy, dy)
            share.set(share.get().at_most((active & (taken > room)).choose(room / taken, 1.0)))

        with _each_sixteen(own, args[3], args[4]) as (their, many, number):
            found = _near(own, their, many, number, st.N_X, st.N_Y, code.bits(5))
            theirs = [*(their.load(number) for number in (st.N_X, st.N_Y, st.N_INNER)), their.load_int(st.NI_MOBILITY)]
            each_bit(code, found, partial(look, theirs))
        own.store(st.N_SHARE, share.get())
        return context.get_dummy_value()

    return signature, codegen


# --- the steps of sixteen units, at the places from `at` on ----------------------------------------------------------


@operation
def lanes_that_move(typingctx, ints, at, places):  # type: ignore[no-untyped-def]
    """Bit n is set where the unit in lane n is not anchored.

    In NumPy:

        return sum(1 << n for n in range(LANES) if ints[st.NI_MOBILITY, at + n] != ANCHORED)
    """
    signature = MASK(ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        mobility = code.load(0, Rows(code, args[1], args[2]).row(st.NI_MOBILITY))
        return mobility.differs(ANCHORED).to_mask()

    return signature, codegen


@operation
def begin_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Slows the steps down to the units' pace, sets the places that they lead to, and forgets earlier collisions.

    In NumPy:

        for k in range(at, at + LANES):
            f, i = floats[:, k], ints[:, k]
            f[[st.N_VX, st.N_VY]] *= f[st.N_PACE]
            f[[st.N_WANTED_X, st.N_WANTED_Y]] = f[[st.N_VX, st.N_VY]]
            f[[st.N_PX, st.N_PY]] = f[[st.N_X, st.N_Y]] + f[[st.N_VX, st.N_VY]]
            moving = i[st.NI_MOBILITY] == MOVING
            f[st.N_ABOUT] = f[st.N_INNER] + (AHEAD if moving else 0.0)
            if not (moving and f[st.N_STEP] * f[st.N_PACE] > 0.0):
                f[[st.N_UX, st.N_UY]] = 0.0
            f[[st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE]] = 0.0
            f[st.N_SHARE], i[st.NI_MET] = 1.0, 0
    """
    signature = types.none(floats, ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])

        pace = units.load(st.N_PACE)
        axes = (st.N_VX, st.N_X, st.N_PX, st.N_WANTED_X), (st.N_VY, st.N_Y, st.N_PY, st.N_WANTED_Y)
        for velocity, place, goal, wanted in axes:
            step = units.load(velocity) * pace
            units.store(velocity, step)
            units.store(goal, units.load(place) + step)
            units.store(wanted, step)
        moving = units.load_int(st.NI_MOBILITY).equals(MOVING)
        about = units.load(st.N_INNER) + moving.choose(code.constant(AHEAD), 0.0)
        units.store(st.N_ABOUT, about)
        steps = moving & (units.load(st.N_STEP) * pace > 0.0)
        for number in (st.N_UX, st.N_UY):
            units.store(number, steps.choose(units.load(number), 0.0))
        for number in (st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE):
            units.store(number, code.constant(0.0))
        units.store(st.N_SHARE, code.constant(1.0))
        units.store_int(st.NI_MET, code.constant(0))
        return context.get_dummy_value()

    return signature, codegen


@operation
def blocked_lanes(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Bit n is set where a wall stands in the way of the unit in lane n, or did so before.

    In NumPy:

        mask = 0
        for n in range(LANES):
            walls = floats[[st.N_WALL_X, st.N_WALL_Y], at + n]
            mask |= bool(walls.any() or ints[st.NI_HAND, at + n] & st.FLAG_AROUND) << n
        return mask
    """
    signature = MASK(floats, ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])
        walls = (units.load(number).differs(0.0) for number in (st.N_WALL_X, st.N_WALL_Y))
        around = (units.load_int(st.NI_HAND) & st.FLAG_AROUND).differs(0)
        return (next(walls) | next(walls) | around).to_mask()

    return signature, codegen


@operation
def turn_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Turns the steps along the walls that blockers form, always on the same hand until the way is clear.

    Returns the lanes whose `NI_HAND` is another now.

    In NumPy:

        turned = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            wx, wy, ux, uy, side = (f[row] for row in (st.N_WALL_X, st.N_WALL_Y, st.N_UX, st.N_UY, st.N_SIDE))
            hand = i[st.NI_HAND]
            blocked = wx != 0.0 or wy != 0.0
            new = hand
            if not blocked:
                new = hand & ~st.FLAG_AROUND
            elif not hand & st.FLAG_AROUND:
                # The hand is chosen when the way is blocked: by the side that the wall is on, or by the unit's turn.
                left = side > 0.0 if abs(side) > EDGE else hand & st.HAND_TURN
                new = hand & ~st.FLAG_LEFT | st.FLAG_AROUND | (st.FLAG_LEFT if left else 0)
            if blocked:
                inverse = 1.0 / np.sqrt(wx * wx + wy * wy)
                wx, wy = wx * inverse, wy * inverse
                into = max(ux * wx + uy * wy, 0.0)
                aside = into if new & st.FLAG_LEFT else -into
                ax, ay = ux - into * wx - aside * wy, uy - into * wy + aside * wx
                norm, step = np.sqrt(ax * ax + ay * ay), f[st.N_STEP] * f[st.N_PACE]
                if norm > EDGE:
                    f[st.N_VX], f[st.N_VY] = step * ax / norm, step * ay / norm
            f[[st.N_WANTED_X, st.N_WANTED_Y]] = f[[st.N_VX, st.N_VY]]
            i[st.NI_HAND] = new
            turned |= bool(new != hand) << n
        return turned
    """
    signature = MASK(floats, ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])

        wall_x, wall_y, side, ux, uy = (units.load(n) for n in (st.N_WALL_X, st.N_WALL_Y, st.N_SIDE, st.N_UX, st.N_UY))
        blocked = wall_x.differs(0.0) | wall_y.differs(0.0)
        hand = units.load_int(st.NI_HAND)
        # The hand is chosen when the way is blocked: by the side that the wall is on, or by the unit's turn.
        left = (side.at_least(-side) > EDGE).choose(side > 0.0, (hand & st.HAND_TURN).differs(0))
        begun = (hand & ~st.FLAG_LEFT) | st.FLAG_AROUND | left.choose(code.constant(st.FLAG_LEFT), 0)
        around = (hand & st.FLAG_AROUND).differs(0)
        new = blocked.choose(around.choose(hand, begun), hand & ~st.FLAG_AROUND)
        units.store_int(st.NI_HAND, new)

        inverse = code.constant(1.0) / dot(wall_x, wall_x, wall_y, wall_y).root()
        wall_x, wall_y = wall_x * inverse, wall_y * inverse
        into = dot(ux, wall_x, uy, wall_y).at_least(0.0)
        aside = (new & st.FLAG_LEFT).differs(0).choose(code.constant(1.0), -1.0) * into
        ax = ux - into * wall_x - aside * wall_y
        ay = uy - into * wall_y + aside * wall_x
        norm = dot(ax, ax, ay, ay).root()
        along = blocked & (norm > EDGE)
        step = units.load(st.N_STEP) * units.load(st.N_PACE)
        for a, rows in ((ax, (st.N_VX, st.N_WANTED_X)), (ay, (st.N_VY, st.N_WANTED_Y))):
            velocity = along.choose(step * a / norm, units.load(rows[0]))
            for number in rows:
                units.store(number, velocity)
        return new.differs(hand).to_mask()

    return signature, codegen


@operation
def push_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Adds the pushes to the steps, and sets `N_ABOUT`.

    Returns the lanes that met somebody and want to be elsewhere.

    In NumPy:

        mask = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            px, py = f[st.N_PUSH_X], f[st.N_PUSH_Y]
            size = np.sqrt(px * px + py * py)
            if size > PUSH_LIMIT:
                px, py = px * (PUSH_LIMIT / size), py * (PUSH_LIMIT / size)
            f[st.N_VX] += px
            f[st.N_VY] += py
            speed = np.sqrt(f[st.N_VX] * f[st.N_VX] + f[st.N_VY] * f[st.N_VY])
            f[st.N_ABOUT] = f[st.N_INNER] * CORE + speed * 2.0
            mask |= bool(i[st.NI_MET] and (f[st.N_VX] != 0.0 or f[st.N_VY] != 0.0)) << n
        return mask
    """
    signature = MASK(floats, ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[2], args[3])

        push_x, push_y = units.load(st.N_PUSH_X), units.load(st.N_PUSH_Y)
        size = dot(push_x, push_x, push_y, push_y).root()
        less, far = code.constant(PUSH_LIMIT) / size, size > PUSH_LIMIT
        vx = units.load(st.N_VX) + far.choose(push_x * less, push_x)
        vy = units.load(st.N_VY) + far.choose(push_y * less, push_y)
        units.store(st.N_VX, vx)
        units.store(st.N_VY, vy)
        about = units.load(st.N_INNER) * CORE + dot(vx, vx, vy, vy).root() * 2.0
        units.store(st.N_ABOUT, about)
        met = units.load_int(st.NI_MET).differs(0)
        return (met & (vx.differs(0.0) | vy.differs(0.0))).to_mask()

    return signature, codegen


@operation
def end_steps(typingctx, floats, ints, uf, at, places, movers, x0, y0, x1, y1, free):  # type: ignore[no-untyped-def]
    """Brings the lanes in `movers` to where they end, inside the rectangle.

    A unit that is held up takes shorter steps from now on, so that a throng does not press itself together.

    Returns the lanes that the caller still has to bring to (`N_PX`, `N_PY`). With `free` there are none. Otherwise
    these are the units that leave their cell or blink.

    In NumPy:

        left = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            u, mover, moving = uf[i[st.NI_ROW] :], movers >> n & 1, i[st.NI_MOBILITY] == MOVING
            vx, vy = f[st.N_VX] * f[st.N_SHARE], f[st.N_VY] * f[st.N_SHARE]
            wx, wy, pace = f[st.N_WANTED_X], f[st.N_WANTED_Y], f[st.N_PACE]
            square = wx * wx + wy * wy
            if mover and moving and (i[st.NI_MET] or pace < 1.0) and square > 0.0:
                done = min(max((vx * wx + vy * wy) / square, 0.0), 1.0)
                f[st.N_PACE] = u[st.F_PACE] = min(pace * done + QUICKEN, 1.0)
            x, y = f[st.N_X], f[st.N_Y]
            px, py = min(max(x + vx, x0), x1), min(max(y + vy, y0), y1)
            f[st.N_PX], f[st.N_PY] = px, py
            if mover and (vx != 0.0 or vy != 0.0):
                inside = int(px) == int(x) and int(py) == int(y)
                if free or (inside and i[st.NI_MOBILITY] != TELEPORT):
                    f[st.N_X], f[st.N_Y] = u[st.F_X], u[st.F_Y] = px, py
                else:
                    left |= 1 << n
        return left
    """
    signature = MASK(floats, ints, uf, INDEX, INDEX, MASK, REAL, REAL, REAL, REAL, types.boolean)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[3], args[4])

        movers, rows = code.bits(5), units.load_int(st.NI_ROW)
        share = units.load(st.N_SHARE)
        vx, vy = units.load(st.N_VX) * share, units.load(st.N_VY) * share
        wanted_x, wanted_y = units.load(st.N_WANTED_X), units.load(st.N_WANTED_Y)
        pace = units.load(st.N_PACE)
        square = dot(wanted_x, wanted_x, wanted_y, wanted_y)
        done = (dot(vx, wanted_x, vy, wanted_y) / square).at_least(0.0).at_most(1.0)
        met = units.load_int(st.NI_MET).differs(0)
        moving = units.load_int(st.NI_MOBILITY).equals(MOVING)
        held = movers & moving & (met | (pace < 1.0)) & (square > 0.0)
        new = held.choose((pace * done + QUICKEN).at_most(1.0), pace)
        units.store(st.N_PACE, new)
        paced = new.differs(pace)
        with builder.if_then(paced.any()):
            code.scatter(2, rows, st.F_PACE, new, paced)

        x, y = units.load(st.N_X), units.load(st.N_Y)
        px = (x + vx).at_least(code.spread(6)).at_most(code.spread(8))
        py = (y + vy).at_least(code.spread(7)).at_most(code.spread(9))
        units.store(st.N_PX, px)
        units.store(st.N_PY, py)
        moved = movers & (vx.differs(0.0) | vy.differs(0.0))
        inside = px.whole().equals(x.whole()) & py.whole().equals(y.whole())
        walks = units.load_int(st.NI_MOBILITY).differs(TELEPORT)
        brought = moved & ((inside & walks) | code.splat(args[10]))
        units.store(st.N_X, brought.choose(px, x))
        units.store(st.N_Y, brought.choose(py, y))
        code.scatter(2, rows, st.F_X, px, brought)
        code.scatter(2, rows, st.F_Y, py, brought)
        return (moved & ~brought).to_mask()

    return signature, codegen
