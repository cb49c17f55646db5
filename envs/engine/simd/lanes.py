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
CORE = 0.75  # of their inner radii: two units never come nearer
PUSH_LIMIT = 0.25  # largest displacement by pushes in a loop
AHEAD = 0.2  # gap at which a unit begins to go around another
FAR = 1e9
OWNERS = (1 << st.MAX_OWNERS) - 1  # the bits of a key that say whose the unit is
QUICKEN = 0.2  # by which the pace of a unit that had to slow down rises in a loop

first_bit: Any = trailing_zeros  # index of the lowest bit set, of an integer that is not 0


@operation
def pack_rows(typingctx, array, first, last):  # type: ignore[no-untyped-def]
    """`array` [B, R, M]: the memory of the entries from `first` to `last - 1` as R rows, [R, (last - first) * M]."""
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
    """Adds to `NI_SEEN` of the units from place `at` on the owners of those whose sight reaches their edges.

    Of those from place `start` on that the mask `others` tells.
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

    `x`, `y`: the rows that say where units are. No unit is near itself, the `number`-th of the others, nor near those
    of another `NI_GROUP`.
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
    """Numbers the units in `lanes` from place `at` on, one after the other from `first` on: `NI_NUMBER`."""
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
    """Sets the box of the block of sixteen from place `at` on: nothing meets that of a block without units."""
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
    """Bit n is set where the box of block `first + n` meets the rectangle, and has units of some of the `owners`."""
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
    """The owner of the units from place `at` on, as a bit, if it is the same of all; otherwise 0."""
    signature = MASK(ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        key = Rows(code, args[1], args[2], ints=0).load_int(st.NI_KEY)
        common = key.differs(0).choose(key, OWNERS).fold(lambda a, b: a & b)
        return builder.and_(builder.zext(common, ir.IntType(64)), ir.Constant(ir.IntType(64), OWNERS))

    return signature, codegen


# What collisions, and the room that steps have, ask of the others.
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
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _collect(Code(context, builder, signature, args), MET_FLOATS, MET_INTS)

    return INDEX(floats, ints, INDEX, INDEX, MASK, INDEX), codegen


@operation
def collect_room(typingctx, floats, ints, at, to, lanes, places):  # type: ignore[no-untyped-def]
    """As `collect_met`, what `share_lanes` asks."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _collect(Code(context, builder, signature, args), ROOM_FLOATS, ROOM_INTS)

    return INDEX(floats, ints, INDEX, INDEX, MASK, INDEX), codegen


@operation
def lanes_span(typingctx, floats, at, places, x, y, lanes):  # type: ignore[no-untyped-def]
    """The rectangle around the units in `lanes` from place `at` on, and their largest `N_ABOUT`.

    `x`, `y`: the rows that say where units are. Returns (x0, x1, y0, y1, about).
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
    """What `many` units from place `start` on do to those in `lanes` from place `at` on.

    A unit meets the others that are within `N_ABOUT` of where its step leads, edge to edge. Added to its rows:
    `N_PUSH_X`, `N_PUSH_Y`: of two allies on their way the one yields that walks into the other, both half-way
    where both do or neither does; one that is anchored does not yield, another at rest half-way; enemies do not yield
    to a moving unit. `N_WALL_X`, `N_WALL_Y`: what of (`N_UX`, `N_UY`), the direction that it moves in, goes into
    enemies but its target, into allies that do not move and into those that come the other way, as a vector, and as
    `N_SIDE` signed by the side that they are on: the left for those that come the other way. The lowest bit of
    `NI_MET` is set where a unit has met one. Returns the lanes that touch allies that rest.
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
    """Lowers `N_SHARE` of the units in `lanes`: so much of its step brings a unit's core into no other's.

    The units and the others are told as in `collide_lanes`, `N_ABOUT` is what `push_steps` leaves. Towards each of the
    others within it the step (`N_VX`, `N_VY`) may take half of what lies between the cores, since the other may take
    the other half. Cores have `CORE` of the radii.
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
    """Bit n is set where the unit in lane n is not anchored."""
    signature = MASK(ints, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        mobility = code.load(0, Rows(code, args[1], args[2]).row(st.NI_MOBILITY))
        return mobility.differs(ANCHORED).to_mask()

    return signature, codegen


@operation
def begin_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Slows the steps down to the units' pace, sets the places that they lead to, and forgets earlier collisions."""
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
    """Bit n is set where a wall stands in the way of the unit in lane n, or did so before."""
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

    Who is held up steps less far from now on, so that a throng does not press itself together. Returns the lanes that
    are still to be brought to (`N_PX`, `N_PY`): none where `free` is set, otherwise all that are elsewhere now, but for
    those that walk inside their cell.
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
