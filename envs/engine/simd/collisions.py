"""Sixteen units at once: how others push them, and how much room others leave for their steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from envs.engine.simd.lookup import within_reach
from envs.engine.simd.vectors import (
    INDEX,
    INTS,
    MASK,
    Code,
    Lanes,
    Rows,
    Variable,
    dot,
    each_bit,
    operation,
)
from envs.engine.state import layout as st
from envs.engine.state.layout import ANCHORED, IDLE, LANES, MOVING, OWNERS, RESTING, TELEPORT

EDGE = 1e-3
CORE = 0.75  # two units never come nearer than this share of their inner radii
SAME_PLACE = 1e-8  # squared distance


def _near(own: Rows, their: Rows, many: Any, number: Lanes, x: int, y: int, asked: Lanes) -> Lanes:
    """Bit n of a lane that is asked is set where the n-th of `many` others is within `N_ABOUT`, edge to edge.

    `x`, `y`: the rows that say where units are. No unit is near itself, which is the `number`-th of the others. Nor is
    it near units of another `NI_GROUP`.
    """
    code, builder, group = own.code, own.code.builder, own.load_int(st.NI_GROUP)
    near = Variable(code.constant(0))
    with cgutils.for_range(builder, many) as loop:
        within, their_group = within_reach(own, their, loop.index, x, y, st.N_ABOUT, st.N_INNER, st.NI_GROUP)
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
