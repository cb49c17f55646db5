"""Sixteen units at once: their steps, from the place where a loop begins to the place where it ends."""

from __future__ import annotations

from typing import Any

from numba.core import types

from envs.engine.simd.collisions import CORE, EDGE
from envs.engine.simd.vectors import (
    INDEX,
    MASK,
    REAL,
    Code,
    Rows,
    dot,
    operation,
)
from envs.engine.state import layout as st
from envs.engine.state.layout import ANCHORED, MOVING, TELEPORT

PUSH_LIMIT = 0.25  # largest displacement by pushes in a loop
AHEAD = 0.2  # gap at which a unit begins to go around another
QUICKEN = 0.2  # by which the pace of a unit that had to slow down rises in a loop


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
