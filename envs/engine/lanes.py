"""Sixteen units at once: which of them lie within reach of a point, and how they push a unit among them.

Numba does not turn such loops into vector code by itself, so both operations are written in LLVM's own terms; LLVM
makes of them what the processor has (one instruction per operation with AVX-512, two to four without). No rounding
differs between processors: nothing is fused, and sums are taken in a fixed order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from envs.engine.state import LANES

__all__ = ["ANCHORED", "IDLE", "MOVING", "TELEPORT", "collide_lanes", "first_bit", "free_share", "lanes_in_reach"]

# Mobility of a unit in a loop.
ANCHORED, IDLE, MOVING, TELEPORT = range(4)
EDGE = 1e-3
SAME_PLACE = 1e-8  # squared distance
CORE = 0.75  # of their inner radii: two units never come nearer

# Numba's decorator has no types of its own: the functions that it makes take no context.
_operation: Any = intrinsic
first_bit: Any = trailing_zeros  # index of the lowest bit set, of an integer that is not 0

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_index, _real, _int = types.int64, types.float32, types.int32


def _splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_INTS, None))


def _constant(value: float | int) -> Any:
    kind = _FLOATS if isinstance(value, float) else _INTS
    return ir.Constant(kind, [value] * LANES)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _load(builder: Any, base: Any, offset: Any, kind: ir.VectorType) -> Any:
    pointer = builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())
    return builder.load(pointer, align=4)


def _fold(builder: Any, vector: Any, combine: Any) -> Any:
    """One lane of all: the halves are combined until one lane is left."""
    width = LANES
    while width > 1:
        width //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        order = ir.VectorType(ir.IntType(32), width)
        low = builder.shuffle_vector(vector, undefined, ir.Constant(order, list(range(width))))
        high = builder.shuffle_vector(vector, undefined, ir.Constant(order, list(range(width, 2 * width))))
        vector = combine(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _sum(builder: Any, vector: Any) -> Any:
    return _fold(builder, vector, builder.fadd)


def _dot(builder: Any, ax: Any, bx: Any, ay: Any, by: Any) -> Any:
    return builder.fadd(builder.fmul(ax, bx), builder.fmul(ay, by))


def _root(builder: Any, vector: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS])
    return builder.call(builder.module.declare_intrinsic(f"llvm.sqrt.v{LANES}f32", fnty=kind), [vector])


@_operation
def lanes_in_reach(typingctx, floats, ints, at_x, at_y, at_radius, at_key, x, y, reach, wanted):  # type: ignore[no-untyped-def]
    """Bit n is set where lane n lies within reach of (x, y) and is wanted.

    Lane n: `floats` and `ints` are C-contiguous arrays, read as flat from `at_x + n`, `at_y + n`, `at_radius + n` and
    `at_key + n` on. Within reach: the distance is at most `reach` plus the lane's radius. Wanted: the lane's key and
    `wanted` have a bit in common. Returns int64.
    """
    signature = types.int64(floats, ints, _index, _index, _index, _index, _real, _real, _real, _int)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        f = _data(context, builder, signature.args[0], args[0])
        i = _data(context, builder, signature.args[1], args[1])
        dx = builder.fsub(_load(builder, f, args[2], _FLOATS), _splat(builder, args[6]))
        dy = builder.fsub(_load(builder, f, args[3], _FLOATS), _splat(builder, args[7]))
        reach = builder.fadd(_load(builder, f, args[4], _FLOATS), _splat(builder, args[8]))
        within = builder.fcmp_ordered("<=", _dot(builder, dx, dx, dy, dy), builder.fmul(reach, reach))
        common = builder.and_(_load(builder, i, args[5], _INTS), _splat(builder, args[9]))
        chosen = builder.and_(within, builder.icmp_unsigned("!=", common, _constant(0)))
        return builder.zext(builder.bitcast(chosen, ir.IntType(LANES)), ir.IntType(64))

    return signature, codegen


@_operation
def collide_lanes(
    typingctx, floats, ints, at_x, at_y, at_vx, at_vy, at_radius, at_key, at_mobility, at_slot, found, x, y, radius,
    ux, uy, key, moving, target, before,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """What the lanes in `found` do to a unit at (x, y): (push x, push y, wall x, wall y, side, bits).

    The lanes are read as in `lanes_in_reach`; `at_vx`, `at_vy`: the steps that led there. (`ux`, `uy`) is the direction
    that the unit moves in, 0 for one at rest; `moving` is 1 where it is on its way; `key` holds the bit of its owner;
    `target` is the slot of its target; `before` of the lanes stand before it in the list. Push: of two allies on their
    way the one yields that walks into the other, both half-way where both do or neither does; one that is anchored does
    not yield, another at rest half-way; enemies do not yield to a moving unit. Wall: what of (`ux`, `uy`) goes into
    enemies, into allies that do not move and into those that come the other way, as a vector, and as `side` signed by
    the side that they are on: the left for those that come the other way. Bits: allies at rest that it touches.
    """
    signature = types.Tuple((_real, _real, _real, _real, _real, types.int64))(
        floats, ints, _index, _index, _index, _index, _index, _index, _index, _index, types.int64, _real, _real, _real,
        _real, _real, _int, _int, _int, _int,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        f = _data(context, builder, signature.args[0], args[0])
        i = _data(context, builder, signature.args[1], args[1])
        mobility = _load(builder, i, args[8], _INTS)
        slot = _load(builder, i, args[9], _INTS)
        active = builder.bitcast(builder.trunc(args[10], ir.IntType(LANES)), _BITS)
        active = builder.and_(active, builder.icmp_signed("!=", mobility, _constant(TELEPORT)))
        their_key = _load(builder, i, args[7], _INTS)
        allied = builder.icmp_signed("!=", builder.and_(their_key, _splat(builder, args[16])), _constant(0))
        rests = builder.icmp_signed("==", mobility, _constant(IDLE))
        moves = builder.icmp_signed("==", mobility, _constant(MOVING))
        self_moves = builder.icmp_signed("!=", args[17], ir.Constant(ir.IntType(32), 0))

        dx = builder.fsub(_splat(builder, args[11]), _load(builder, f, args[2], _FLOATS))
        dy = builder.fsub(_splat(builder, args[12]), _load(builder, f, args[3], _FLOATS))
        near = _dot(builder, dx, dx, dy, dy)
        # Two on the same place part along a line that both derive from their places in the list.
        same = builder.fcmp_ordered("<", near, _constant(SAME_PLACE))
        lane = ir.Constant(_INTS, list(range(LANES)))
        first = builder.icmp_signed("<", lane, _splat(builder, args[19]))
        apart = builder.select(first, _constant(EDGE), _constant(-EDGE))
        dx, dy = builder.select(same, apart, dx), builder.select(same, apart, dy)
        square = builder.select(same, _constant(2 * EDGE * EDGE), near)
        inverse = builder.fdiv(_constant(1.0), _root(builder, square))

        reach = builder.fadd(_load(builder, f, args[6], _FLOATS), _splat(builder, args[13]))
        touches = builder.and_(active, builder.fcmp_ordered("<", near, builder.fmul(reach, reach)))

        def scalar(if_moving: float, if_resting: float) -> Any:
            kind = ir.FloatType()
            chosen = builder.select(self_moves, ir.Constant(kind, if_moving), ir.Constant(kind, if_resting))
            return _splat(builder, chosen)

        ux, uy = _splat(builder, args[14]), _splat(builder, args[15])
        into = builder.fmul(builder.fneg(_dot(builder, ux, dx, uy, dy)), inverse)
        presses = builder.fcmp_ordered(">", into, _constant(0.0))
        vx, vy = _load(builder, f, args[4], _FLOATS), _load(builder, f, args[5], _FLOATS)
        pressed = builder.fcmp_ordered(">", _dot(builder, vx, dx, vy, dy), _constant(0.0))
        facing = builder.and_(builder.and_(presses, pressed), builder.and_(moves, allied))
        even = builder.icmp_unsigned("==", presses, pressed)
        even = builder.or_(even, builder.or_(builder.not_(moves), builder.not_(_splat(builder, self_moves))))
        ally = builder.select(even, _constant(0.5), builder.select(presses, _constant(1.0), _constant(0.0)))
        foe = builder.select(moves, scalar(0.5, 0.0), builder.select(rests, scalar(1.0, 0.5), scalar(1.0, 0.0)))
        anchored = builder.icmp_signed("==", mobility, _constant(ANCHORED))
        share = builder.select(allied, builder.select(anchored, _constant(1.0), ally), foe)
        depth = builder.fsub(builder.fmul(reach, inverse), _constant(1.0))
        push = builder.select(touches, builder.fmul(share, depth), _constant(0.0))

        solid = builder.or_(builder.or_(builder.not_(moves), builder.not_(allied)), facing)
        solid = builder.and_(solid, builder.icmp_signed("!=", slot, _splat(builder, args[18])))
        ahead = builder.and_(builder.and_(active, solid), presses)
        into = builder.select(ahead, into, _constant(0.0))
        wall = builder.fmul(into, inverse)
        right = builder.or_(facing, builder.fcmp_ordered(">", builder.fmul(uy, dx), builder.fmul(ux, dy)))
        side = builder.select(right, builder.fneg(into), into)

        bits = builder.and_(builder.and_(touches, allied), rests)
        values = [
            _sum(builder, builder.fmul(push, dx)),
            _sum(builder, builder.fmul(push, dy)),
            builder.fneg(_sum(builder, builder.fmul(wall, dx))),
            builder.fneg(_sum(builder, builder.fmul(wall, dy))),
            _sum(builder, side),
            builder.zext(builder.bitcast(bits, ir.IntType(LANES)), ir.IntType(64)),
        ]
        return context.make_tuple(builder, signature.return_type, values)

    return signature, codegen


@_operation
def free_share(typingctx, floats, ints, at_x, at_y, at_radius, at_mobility, found, x, y, radius, mx, my):  # type: ignore[no-untyped-def]
    """The share, 0 to 1, of a step (`mx`, `my`) from (x, y) that brings no two cores together.

    Looks at the lanes in `found`. Towards each of them the step may take half of what lies between the cores, since
    the other may take the other half. Cores have `CORE` of the radii.
    """
    signature = _real(floats, ints, _index, _index, _index, _index, types.int64, _real, _real, _real, _real, _real)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        f = _data(context, builder, signature.args[0], args[0])
        i = _data(context, builder, signature.args[1], args[1])
        active = builder.bitcast(builder.trunc(args[6], ir.IntType(LANES)), _BITS)
        mobility = _load(builder, i, args[5], _INTS)
        active = builder.and_(active, builder.icmp_signed("!=", mobility, _constant(TELEPORT)))
        dx = builder.fsub(_load(builder, f, args[2], _FLOATS), _splat(builder, args[7]))
        dy = builder.fsub(_load(builder, f, args[3], _FLOATS), _splat(builder, args[8]))
        distance = _root(builder, _dot(builder, dx, dx, dy, dy))
        radii = builder.fadd(_load(builder, f, args[4], _FLOATS), _splat(builder, args[9]))
        gap = builder.fsub(distance, builder.fmul(radii, _constant(CORE)))
        gap = builder.select(builder.fcmp_ordered(">", gap, _constant(0.0)), gap, _constant(0.0))
        # The room along the line between the two, and what the step takes of it, both times the distance.
        room = builder.fmul(builder.fmul(gap, _constant(0.5)), distance)
        taken = _dot(builder, _splat(builder, args[10]), dx, _splat(builder, args[11]), dy)
        limited = builder.and_(active, builder.fcmp_ordered(">", taken, room))
        share = builder.select(limited, builder.fdiv(room, taken), _constant(1.0))
        return _fold(builder, share, lambda a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))

    return signature, codegen
