"""Sixteen units at once: which of them lie within reach of a point, how they push a unit among them, how they move.

Numba does not turn such loops into vector code by itself, so these operations are written in LLVM's own terms; LLVM
makes of them what the processor has (one instruction per operation with AVX-512, two to four without). No rounding
differs between processors: nothing is fused, and sums are taken in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from envs.engine import state as st
from envs.engine.state import LANES

__all__ = [
    "ANCHORED",
    "IDLE",
    "MOVING",
    "OWNERS",
    "TELEPORT",
    "begin_steps",
    "blocked_lanes",
    "collide_lanes",
    "end_steps",
    "first_bit",
    "lanes_in_reach",
    "lanes_span",
    "lanes_that_move",
    "pack_rows",
    "push_steps",
    "see_lanes",
    "share_lanes",
    "turn_steps",
]

# Mobility of a unit in a loop.
ANCHORED, IDLE, MOVING, TELEPORT = range(4)
EDGE = 1e-3
SAME_PLACE = 1e-8  # squared distance
CORE = 0.75  # of their inner radii: two units never come nearer
PUSH_LIMIT = 0.25  # largest displacement by pushes in a loop
AHEAD = 0.2  # gap at which a unit begins to go around another
FAR = 1e9
OWNERS = (1 << st.MAX_OWNERS) - 1  # the bits of a key that say whose the unit is
QUICKEN = 0.2  # by which the pace of a unit that had to slow down rises in a loop

# Numba's decorator has no types of its own: the functions that it makes take no context.
_operation: Any = intrinsic
first_bit: Any = trailing_zeros  # index of the lowest bit set, of an integer that is not 0

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_index, _real, _int, _mask = types.int64, types.float32, types.int32, types.int64


class _Lanes:
    """Sixteen floats, integers or bits while LLVM code is written: operators act lane by lane."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _other(self, other: Any) -> Any:
        if isinstance(other, _Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * LANES)

    def _new(self, value: Any) -> _Lanes:
        return _Lanes(self.builder, value)

    def __add__(self, other: Any) -> _Lanes:
        return self._new(self.builder.fadd(self.value, self._other(other)))

    def __sub__(self, other: Any) -> _Lanes:
        return self._new(self.builder.fsub(self.value, self._other(other)))

    def __mul__(self, other: Any) -> _Lanes:
        return self._new(self.builder.fmul(self.value, self._other(other)))

    def __truediv__(self, other: Any) -> _Lanes:
        return self._new(self.builder.fdiv(self.value, self._other(other)))

    def __neg__(self) -> _Lanes:
        return self._new(self.builder.fneg(self.value))

    def __and__(self, other: Any) -> _Lanes:
        return self._new(self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Any) -> _Lanes:
        return self._new(self.builder.or_(self.value, self._other(other)))

    def __invert__(self) -> _Lanes:
        return self._new(self.builder.not_(self.value))

    def _compare(self, how: str, other: Any) -> _Lanes:
        if self.value.type.element == ir.FloatType():
            return self._new(self.builder.fcmp_ordered(how, self.value, self._other(other)))
        return self._new(self.builder.icmp_signed(how, self.value, self._other(other)))

    def __lt__(self, other: Any) -> _Lanes:
        return self._compare("<", other)

    def __le__(self, other: Any) -> _Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> _Lanes:
        return self._compare(">", other)

    def equals(self, other: Any) -> _Lanes:
        return self._compare("==", other)

    def differs(self, other: Any) -> _Lanes:
        return self._compare("!=", other)

    def choose(self, if_set: Any, if_clear: Any) -> _Lanes:
        """Of bits: lanes of `if_set` where they are set, of `if_clear` elsewhere; one of the two may be a number."""
        kind = next(value.value.type for value in (if_set, if_clear) if isinstance(value, _Lanes))
        both = [v.value if isinstance(v, _Lanes) else ir.Constant(kind, [v] * LANES) for v in (if_set, if_clear)]
        return self._new(self.builder.select(self.value, *both))

    def at_least(self, other: Any) -> _Lanes:
        return (self > other).choose(self, other)

    def at_most(self, other: Any) -> _Lanes:
        return (self < other).choose(self, other)

    def root(self) -> _Lanes:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        function = self.builder.module.declare_intrinsic(f"llvm.sqrt.v{LANES}f32", fnty=kind)
        return self._new(self.builder.call(function, [self.value]))

    def pick(self, lanes: list[int]) -> _Lanes:
        order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self._new(self.builder.shuffle_vector(self.value, self.value, order))

    def fold(self, combine: Callable[[_Lanes, _Lanes], _Lanes]) -> Any:
        """One lane of all: the halves are combined until one lane is left."""
        vector, width = self, LANES
        while width > 1:
            width //= 2
            vector = combine(vector.pick(list(range(width))), vector.pick(list(range(width, 2 * width))))
        return self.builder.extract_element(vector.value, ir.Constant(ir.IntType(32), 0))

    def at(self, lanes: _Lanes) -> _Lanes:
        """In every lane the value of the lane that `lanes` names, 0 to 15: LLVM knows the pattern, and makes one
        instruction of it where the processor has one."""
        result = ir.Constant(self.value.type, ir.Undefined)
        for n in range(LANES):
            here = ir.Constant(ir.IntType(32), n)
            lane = self.builder.extract_element(self.value, self.builder.extract_element(lanes.value, here))
            result = self.builder.insert_element(result, lane, here)
        return self._new(result)

    def plus(self, other: Any) -> _Lanes:
        """The sum of integers."""
        return self._new(self.builder.add(self.value, self._other(other)))

    def first_bits(self) -> _Lanes:
        """The number of the lowest bit set, 0 to 15; 0 where none is."""
        kind = ir.FunctionType(_INTS, [_INTS, ir.IntType(1)])
        function = self.builder.module.declare_intrinsic(f"llvm.cttz.v{LANES}i32", fnty=kind)
        zero_is_poison = ir.Constant(ir.IntType(1), 0)
        return self._new(self.builder.call(function, [self.value, zero_is_poison])) & (LANES - 1)

    def as_bit(self) -> _Lanes:
        """The integers whose only bit set is so numbered."""
        return self._new(self.builder.shl(ir.Constant(_INTS, [1] * LANES), self.value))

    def to_mask(self) -> Any:
        """Of bits: an int64 with one bit a lane."""
        return self.builder.zext(self.builder.bitcast(self.value, ir.IntType(LANES)), ir.IntType(64))


class _Variable:
    """Lanes that a loop changes."""

    def __init__(self, value: _Lanes):
        self.builder = value.builder
        self.at = cgutils.alloca_once(self.builder, value.value.type)
        self.set(value)

    def get(self) -> _Lanes:
        return _Lanes(self.builder, self.builder.load(self.at))

    def set(self, value: _Lanes) -> None:
        self.builder.store(value.value, self.at)


class _Code:
    """The code of one operation: its arguments by number, as lanes."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any):
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args

    def splat(self, scalar: Any) -> _Lanes:
        kind = ir.VectorType(scalar.type, LANES)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        return _Lanes(self.builder, self.builder.shuffle_vector(one, one, ir.Constant(_INTS, None)))

    def spread(self, index: int) -> _Lanes:
        """The scalar argument in every lane."""
        return self.splat(self.args[index])

    def bits(self, index: int) -> _Lanes:
        """The mask argument as bits."""
        bits = self.builder.trunc(self.args[index], ir.IntType(LANES))
        return _Lanes(self.builder, self.builder.bitcast(bits, _BITS))

    def _element(self, array: int, offset: Any) -> Any:
        base = self.context.make_array(self.kinds[array])(self.context, self.builder, self.args[array]).data
        return self.builder.gep(base, [offset])

    def spread_element(self, array: int, offset: Any) -> _Lanes:
        """Element `offset` of an array argument in every lane."""
        return self.splat(self.builder.load(self._element(array, offset)))

    def load(self, array: int, offset: Any) -> _Lanes:
        """The lanes of an array argument from element `offset` on."""
        kind = _FLOATS if self.kinds[array].dtype == types.float32 else _INTS
        place = self.builder.bitcast(self._element(array, offset), kind.as_pointer())
        return _Lanes(self.builder, self.builder.load(place, align=4))

    def store(self, array: int, offset: Any, lanes: _Lanes) -> None:
        place = self.builder.bitcast(self._element(array, offset), lanes.value.type.as_pointer())
        self.builder.store(lanes.value, place, align=4)

    def constant(self, value: float | int) -> _Lanes:
        kind = _FLOATS if isinstance(value, float) else _INTS
        return _Lanes(self.builder, ir.Constant(kind, [value] * LANES))

    def numbers(self) -> _Lanes:
        return _Lanes(self.builder, ir.Constant(_INTS, list(range(LANES))))


class _Rows:
    """Sixteen units: the places from `at` on in the rows of `near_f` and `near_i`, the array arguments 0 and 1."""

    def __init__(self, code: _Code, at: Any, places: Any):
        self.code, self.start, self.places = code, at, places

    def row(self, number: Any) -> Any:
        """Where row `number`, an int or an argument, begins for these places."""
        builder = self.code.builder
        number = ir.Constant(ir.IntType(64), number) if isinstance(number, int) else number
        return builder.add(self.start, builder.mul(self.places, number))

    def load(self, number: Any) -> _Lanes:
        return self.code.load(0, self.row(number))

    def load_int(self, number: int) -> _Lanes:
        return self.code.load(1, self.row(number))

    def store(self, number: int, lanes: _Lanes) -> None:
        self.code.store(0, self.row(number), lanes)

    def store_int(self, number: int, lanes: _Lanes) -> None:
        self.code.store(1, self.row(number), lanes)

    def numbers_from(self, other: _Rows) -> _Lanes:
        """How many places each stands after the first of `other`."""
        places = self.code.builder.sub(self.start, other.start)
        return self.code.numbers().plus(self.code.splat(self.code.builder.trunc(places, ir.IntType(32))))


def _dot(ax: _Lanes, bx: _Lanes, ay: _Lanes, by: _Lanes) -> _Lanes:
    return ax * bx + ay * by


@_operation
def pack_rows(typingctx, array, first, last):  # type: ignore[no-untyped-def]
    """`array` [B, R, M]: the memory of the entries from `first` to `last - 1` as R rows, [R, (last - first) * M]."""
    kind = types.Array(array.dtype, 2, "C")
    signature = kind(array, _index, _index)

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


@_operation
def lanes_in_reach(typingctx, floats, ints, at, places, row, x, y, reach, wanted):  # type: ignore[no-untyped-def]
    """Bit n is set where the unit at place `at + n` lies within reach of (x, y) and is wanted.

    Within reach: the distance is at most `reach` plus what row `row` holds. Wanted: the unit's key and `wanted` have a
    bit in common. Returns int64.
    """
    signature = _mask(floats, ints, _index, _index, _index, _real, _real, _real, _int)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])
        dx, dy = units.load(st.N_X) - code.spread(5), units.load(st.N_Y) - code.spread(6)
        reach = units.load(args[4]) + code.spread(7)
        wanted = (units.load_int(st.NI_KEY) & code.spread(8)).differs(0)
        return ((_dot(dx, dx, dy, dy) <= reach * reach) & wanted).to_mask()

    return signature, codegen


def _each_within(
    own: _Rows, their: _Rows, many: Any, x: int, y: int, reach: int, theirs: int, also: int, look: Callable[..., None]
) -> None:
    """Calls `look(n, within, value)` in a loop over `many` others: where the n-th is within reach of the unit.

    `x`, `y`: the rows that say where units are. The distance is at most row `reach` of the unit and row `theirs` of the
    other together. `value` is what integer row `also` holds of the other, in every lane.
    """
    code, builder = own.code, own.code.builder
    here_x, here_y, here_reach = own.load(x), own.load(y), own.load(reach)
    starts = [their.row(number) for number in (x, y, theirs, also)]
    with cgutils.for_range(builder, many) as loop:
        at_x, at_y, at_reach, at_value = (builder.add(start, loop.index) for start in starts)
        dx, dy = here_x - code.spread_element(0, at_x), here_y - code.spread_element(0, at_y)
        most = here_reach + code.spread_element(0, at_reach)
        look(loop.index, _dot(dx, dx, dy, dy) <= most * most, code.spread_element(1, at_value))


@_operation
def see_lanes(typingctx, floats, ints, at, start, many, places):  # type: ignore[no-untyped-def]
    """Sets `NI_SEEN` of the units from place `at` on: the owners of those of `many` units from place `start` on whose
    sight reaches their edges."""
    signature = types.none(floats, ints, _index, _index, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        own, their = (_Rows(code, args[n], args[5]) for n in (2, 3))
        seen = _Variable(code.constant(0))

        def look(_: Any, within: _Lanes, key: _Lanes) -> None:
            seen.set(seen.get() | within.choose(key, 0))

        _each_within(own, their, args[4], st.N_X, st.N_Y, st.N_RADIUS, st.N_SIGHT, st.NI_KEY, look)
        own.store_int(st.NI_SEEN, seen.get() & OWNERS)
        return context.get_dummy_value()

    return signature, codegen


def _near(own: _Rows, their: _Rows, many: Any, x: int, y: int, asked: _Lanes) -> _Lanes:
    """Bit n of a lane that is asked is set where the n-th of `many` others is within `N_ABOUT`, edge to edge.

    `x`, `y`: the rows that say where units are. No unit is near itself, nor near those of another `NI_GROUP`.
    """
    code, builder, group = own.code, own.code.builder, own.load_int(st.NI_GROUP)
    near = _Variable(code.constant(0))

    def look(n: Any, within: _Lanes, their_group: _Lanes) -> None:
        bit = builder.shl(ir.Constant(ir.IntType(32), 1), builder.trunc(n, ir.IntType(32)))
        near.set(near.get() | (within & group.equals(their_group)).choose(code.splat(bit), 0))

    _each_within(own, their, many, x, y, st.N_ABOUT, st.N_INNER, st.NI_GROUP, look)
    number = own.numbers_from(their)
    itself = number.equals(number & (LANES - 1)).choose((number & (LANES - 1)).as_bit(), 0)
    return asked.choose(near.get() & ~itself, 0)


def _each_bit(code: _Code, masks: _Lanes, look: Callable[[_Lanes, _Lanes], None]) -> None:
    """Calls `look(number, active)` in a loop: at its n-th turn `number` is that of the n-th bit set of every lane of
    `masks`, lowest first, where `active`: where there are that many."""
    builder = code.builder
    left = _Variable(masks)
    turn, after = (builder.append_basic_block(name) for name in ("bit", "bits.end"))

    def go_on() -> None:
        any_left = builder.icmp_unsigned("!=", left.get().differs(0).to_mask(), ir.Constant(ir.IntType(64), 0))
        builder.cbranch(any_left, turn, after)

    go_on()
    builder.position_at_end(turn)
    bits = left.get()
    look(bits.first_bits(), bits.differs(0))
    left.set(bits & bits.plus(-1))
    go_on()
    builder.position_at_end(after)


@_operation
def lanes_span(typingctx, floats, at, places, x, y, lanes):  # type: ignore[no-untyped-def]
    """The rectangle around the units in `lanes` from place `at` on, and their largest `N_ABOUT`.

    `x`, `y`: the rows that say where units are. Returns (x0, x1, y0, y1, about).
    """
    signature = types.UniTuple(_real, 5)(floats, _index, _index, _index, _index, _mask)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        lanes, units = code.bits(5), _Rows(code, args[1], args[2])
        values = []
        for row in args[3:5]:
            value = units.load(row)
            values.append(lanes.choose(value, FAR).fold(lambda a, b: a.at_most(b)))
            values.append(lanes.choose(value, -FAR).fold(lambda a, b: a.at_least(b)))
        values.append(lanes.choose(units.load(st.N_ABOUT), 0.0).fold(lambda a, b: a.at_least(b)))
        return context.make_tuple(builder, signature.return_type, values)

    return signature, codegen


@_operation
def collide_lanes(typingctx, floats, ints, at, start, many, lanes, places):  # type: ignore[no-untyped-def]
    """What `many` units from place `start` on do to those in `lanes` from place `at` on.

    A unit meets the others that are within `N_ABOUT` of where its step leads, edge to edge. Added to its rows:
    `N_PUSH_X`, `N_PUSH_Y`: of two allies on their way the one yields that walks into the other, both half-way
    where both do or neither does; one that is anchored does not yield, another at rest half-way; enemies do not yield
    to a moving unit. `N_WALL_X`, `N_WALL_Y`: what of (`N_UX`, `N_UY`), the direction that it moves in, goes into
    enemies but its target, into allies that do not move and into those that come the other way, as a vector, and as
    `N_SIDE` signed by the side that they are on: the left for those that come the other way. The lowest bit of
    `NI_MET` is set where a unit has met one. Returns the lanes that touch allies at rest; `NI_TOUCHED` has a bit for
    each of these.
    """
    signature = _mask(floats, ints, _index, _index, _index, _mask, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        own, their = (_Rows(code, args[n], args[6]) for n in (2, 3))
        x, y, radius, ux, uy = (own.load(number) for number in (st.N_PX, st.N_PY, st.N_INNER, st.N_UX, st.N_UY))
        self_moves, target = own.load_int(st.NI_MOBILITY).equals(MOVING), own.load_int(st.NI_TARGET)
        owners = own.load_int(st.NI_KEY) & OWNERS
        number = own.numbers_from(their)
        found = _near(own, their, args[4], st.N_PX, st.N_PY, code.bits(5))

        rows = st.N_PUSH_X, st.N_PUSH_Y, st.N_WALL_X, st.N_WALL_Y, st.N_SIDE
        sums = [_Variable(own.load(row)) for row in rows]
        touched = _Variable(code.constant(0))
        floats = [their.load(number) for number in (st.N_PX, st.N_PY, st.N_VX, st.N_VY, st.N_INNER)]
        ints = [their.load_int(number) for number in (st.NI_KEY, st.NI_MOBILITY, st.NI_SLOT)]

        def look(other: _Lanes, active: _Lanes) -> None:
            their_x, their_y, their_vx, their_vy, their_radius = (lanes.at(other) for lanes in floats)
            key, mobility, slot = (lanes.at(other) for lanes in ints)
            active = active & mobility.differs(TELEPORT)
            allied = (key & owners).differs(0)
            rests, moves, anchored = mobility.equals(IDLE), mobility.equals(MOVING), mobility.equals(ANCHORED)

            dx, dy = x - their_x, y - their_y
            near = _dot(dx, dx, dy, dy)
            # Two on the same place part along a line that both derive from their places in the list.
            same = near < SAME_PLACE
            apart = (other < number).choose(code.constant(EDGE), -EDGE)
            dx, dy = same.choose(apart, dx), same.choose(apart, dy)
            square = same.choose(2 * EDGE * EDGE, near)
            inverse = code.constant(1.0) / square.root()

            reach = their_radius + radius
            touches = active & (near < reach * reach)

            into = -_dot(ux, dx, uy, dy) * inverse
            presses = into > 0.0
            pressed = _dot(their_vx, dx, their_vy, dy) > 0.0
            facing = presses & pressed & moves & allied
            even = presses.equals(pressed) | ~moves | ~self_moves
            half, one, none = code.constant(0.5), code.constant(1.0), code.constant(0.0)
            ally = even.choose(half, presses.choose(one, none))
            foe_moving, foe_resting = self_moves.choose(half, none), self_moves.choose(one, half)
            foe = moves.choose(foe_moving, rests.choose(foe_resting, self_moves.choose(one, none)))
            share = allied.choose(anchored.choose(one, ally), foe)
            push = touches.choose(share * (reach * inverse - 1.0), none)

            solid = (~moves | ~allied | facing) & slot.differs(target)
            into = (active & solid & presses).choose(into, none)
            wall = into * inverse
            side = (facing | (uy * dx > ux * dy)).choose(-into, into)
            for total, part in zip(sums, (push * dx, push * dy, -(wall * dx), -(wall * dy), side), strict=True):
                total.set(total.get() + part)
            touched.set(touched.get() | (touches & allied & rests).choose(other.as_bit(), 0))

        _each_bit(code, found, look)
        for row, total in zip(rows, sums, strict=True):
            own.store(row, total.get())
        own.store_int(st.NI_MET, own.load_int(st.NI_MET) | found.differs(0).choose(code.constant(1), 0))
        own.store_int(st.NI_TOUCHED, touched.get())
        return touched.get().differs(0).to_mask()

    return signature, codegen


@_operation
def share_lanes(typingctx, floats, ints, at, start, many, lanes, places):  # type: ignore[no-untyped-def]
    """Lowers `N_SHARE` of the units in `lanes`: so much of its step brings a unit's core into no other's.

    The units and the others are told as in `collide_lanes`, `N_ABOUT` is what `push_steps` leaves. Towards each of the
    others within it the step (`N_VX`, `N_VY`) may take half of what lies between the cores, since the other may take
    the other half. Cores have `CORE` of the radii.
    """
    signature = types.none(floats, ints, _index, _index, _index, _mask, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        own, their = (_Rows(code, args[n], args[6]) for n in (2, 3))
        x, y, radius, vx, vy = (own.load(number) for number in (st.N_X, st.N_Y, st.N_INNER, st.N_VX, st.N_VY))
        found = _near(own, their, args[4], st.N_X, st.N_Y, code.bits(5))
        share = _Variable(own.load(st.N_SHARE))
        floats = [their.load(number) for number in (st.N_X, st.N_Y, st.N_INNER)]
        mobility = their.load_int(st.NI_MOBILITY)

        def look(other: _Lanes, active: _Lanes) -> None:
            their_x, their_y, their_radius = (lanes.at(other) for lanes in floats)
            active = active & mobility.at(other).differs(TELEPORT)
            dx, dy = their_x - x, their_y - y
            distance = _dot(dx, dx, dy, dy).root()
            gap = (distance - (their_radius + radius) * CORE).at_least(0.0)
            # The room along the line between the two, and what the step takes of it, both times the distance.
            room = gap * 0.5 * distance
            taken = _dot(vx, dx, vy, dy)
            share.set(share.get().at_most((active & (taken > room)).choose(room / taken, 1.0)))

        _each_bit(code, found, look)
        own.store(st.N_SHARE, share.get())
        return context.get_dummy_value()

    return signature, codegen


# --- the steps of sixteen units, at the places from `at` on ----------------------------------------------------------


@_operation
def lanes_that_move(typingctx, ints, at, places):  # type: ignore[no-untyped-def]
    """Bit n is set where the unit in lane n is not anchored."""
    signature = _mask(ints, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        mobility = code.load(0, _Rows(code, args[1], args[2]).row(st.NI_MOBILITY))
        return mobility.differs(ANCHORED).to_mask()

    return signature, codegen


@_operation
def begin_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Slows the steps down to the units' pace, sets the places that they lead to, and forgets earlier collisions."""
    signature = types.none(floats, ints, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])

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


@_operation
def blocked_lanes(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Bit n is set where a wall stands in the way of the unit in lane n, or did so before."""
    signature = _mask(floats, ints, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])
        walls = (units.load(number).differs(0.0) for number in (st.N_WALL_X, st.N_WALL_Y))
        around = (units.load_int(st.NI_HAND) & st.FLAG_AROUND).differs(0)
        return (next(walls) | next(walls) | around).to_mask()

    return signature, codegen


@_operation
def turn_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Turns the steps along the walls that blockers form, always on the same hand until the way is clear.

    Returns the lanes whose `NI_HAND` is another now.
    """
    signature = _mask(floats, ints, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])

        wall_x, wall_y, side, ux, uy = (units.load(n) for n in (st.N_WALL_X, st.N_WALL_Y, st.N_SIDE, st.N_UX, st.N_UY))
        blocked = wall_x.differs(0.0) | wall_y.differs(0.0)
        hand = units.load_int(st.NI_HAND)
        # The hand is chosen when the way is blocked: by the side that the wall is on, or by the unit's turn.
        left = (side.at_least(-side) > EDGE).choose(side > 0.0, (hand & st.HAND_TURN).differs(0))
        begun = (hand & ~st.FLAG_LEFT) | st.FLAG_AROUND | left.choose(code.constant(st.FLAG_LEFT), 0)
        around = (hand & st.FLAG_AROUND).differs(0)
        new = blocked.choose(around.choose(hand, begun), hand & ~st.FLAG_AROUND)
        units.store_int(st.NI_HAND, new)

        inverse = code.constant(1.0) / _dot(wall_x, wall_x, wall_y, wall_y).root()
        wall_x, wall_y = wall_x * inverse, wall_y * inverse
        into = _dot(ux, wall_x, uy, wall_y).at_least(0.0)
        aside = (new & st.FLAG_LEFT).differs(0).choose(code.constant(1.0), -1.0) * into
        ax = ux - into * wall_x - aside * wall_y
        ay = uy - into * wall_y + aside * wall_x
        norm = _dot(ax, ax, ay, ay).root()
        along = blocked & (norm > EDGE)
        step = units.load(st.N_STEP) * units.load(st.N_PACE)
        for a, rows in ((ax, (st.N_VX, st.N_WANTED_X)), (ay, (st.N_VY, st.N_WANTED_Y))):
            velocity = along.choose(step * a / norm, units.load(rows[0]))
            for number in rows:
                units.store(number, velocity)
        return new.differs(hand).to_mask()

    return signature, codegen


@_operation
def push_steps(typingctx, floats, ints, at, places):  # type: ignore[no-untyped-def]
    """Adds the pushes to the steps, and sets `N_ABOUT`.

    Returns the lanes that met somebody and want to be elsewhere.
    """
    signature = _mask(floats, ints, _index, _index)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])

        push_x, push_y = units.load(st.N_PUSH_X), units.load(st.N_PUSH_Y)
        size = _dot(push_x, push_x, push_y, push_y).root()
        less, far = code.constant(PUSH_LIMIT) / size, size > PUSH_LIMIT
        vx = units.load(st.N_VX) + far.choose(push_x * less, push_x)
        vy = units.load(st.N_VY) + far.choose(push_y * less, push_y)
        units.store(st.N_VX, vx)
        units.store(st.N_VY, vy)
        about = units.load(st.N_INNER) * CORE + _dot(vx, vx, vy, vy).root() * 2.0
        units.store(st.N_ABOUT, about)
        met = units.load_int(st.NI_MET).differs(0)
        return (met & (vx.differs(0.0) | vy.differs(0.0))).to_mask()

    return signature, codegen


@_operation
def end_steps(typingctx, floats, ints, at, places, movers, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """Leaves in `N_PX`, `N_PY` where the lanes in `movers` end, inside the rectangle: (moved, paced).

    Who is held up steps less far from now on, so that a throng does not press itself together. Moved: the lanes that
    are elsewhere now. Paced: those whose `N_PACE` is another now.
    """
    signature = types.UniTuple(_mask, 2)(floats, ints, _index, _index, _mask, _real, _real, _real, _real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = _Code(context, builder, signature, args)
        units = _Rows(code, args[2], args[3])

        movers = code.bits(4)
        share = units.load(st.N_SHARE)
        vx, vy = units.load(st.N_VX) * share, units.load(st.N_VY) * share
        wanted_x, wanted_y = units.load(st.N_WANTED_X), units.load(st.N_WANTED_Y)
        pace = units.load(st.N_PACE)
        square = _dot(wanted_x, wanted_x, wanted_y, wanted_y)
        done = (_dot(vx, wanted_x, vy, wanted_y) / square).at_least(0.0).at_most(1.0)
        met = units.load_int(st.NI_MET).differs(0)
        moving = units.load_int(st.NI_MOBILITY).equals(MOVING)
        held = movers & moving & (met | (pace < 1.0)) & (square > 0.0)
        new = held.choose((pace * done + QUICKEN).at_most(1.0), pace)
        units.store(st.N_PACE, new)
        px = (units.load(st.N_X) + vx).at_least(code.spread(5)).at_most(code.spread(7))
        py = (units.load(st.N_Y) + vy).at_least(code.spread(6)).at_most(code.spread(8))
        units.store(st.N_PX, px)
        units.store(st.N_PY, py)
        moved = movers & (vx.differs(0.0) | vy.differs(0.0))
        return context.make_tuple(builder, signature.return_type, [moved.to_mask(), new.differs(pace).to_mask()])

    return signature, codegen
