"""Units that have nothing to decide go on with what they do, sixteen at a time: most units in most loops.

A unit that walks on, chases, reloads beside its target or waits for the next look around is *quiet* until a certain
loop (`I_WAKE`). It goes on with what it does (`I_ACT`), as long as the facts hold that this rests on. The result is
that of the full decision (decisions.py), to the bit.

A unit that walks on or rests looks around without a decision while no enemy is within its scan range. A unit that is
hurt looks around at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from envs.engine.neighbours import KEY_RECOVERS, KEY_TURN
from envs.engine.simd.vectors import INDEX, MASK, Code, Lanes, Rows, Variable, dot, operation
from envs.engine.state import layout as st
from envs.engine.state.layout import ANCHORED, MOVING, OWNERS, RESTING

ARRIVED = np.float32(1e-3)
AIMED = np.float32(0.0003)  # squared sine of one degree: a unit that shoots turns no further

UF, UI, KINDS = 2, 3, 4  # the arguments of `go_on` that hold the units' rows and the kinds'

# What a quiet unit does.
ACT_STAND, ACT_REST, ACT_GO, ACT_CHASE, ACT_FIRE, ACT_FIRE_TURRET = range(6)


def _straight(code: Code, flags: Lanes, width: Any) -> Lanes:
    """As bits, whether a unit goes straight to its goal. All do where there are no obstacles (`width` is 0)."""
    free = code.splat(code.builder.icmp_signed("==", width, ir.Constant(ir.IntType(64), 0)))
    return (flags & (st.FLAG_FLYING | st.FLAG_COLOSSUS)).differs(0) | free


@operation
def begin_loop(typingctx, floats, ints, ui, at, places, width):  # type: ignore[no-untyped-def]
    """Begins a loop for the units from place `at` on: nobody moves yet.

    Returns three masks: the lanes with units, with quiet units, and with units whose time it is to look around. The
    last are quiet if there is no target. `width` is that of a map with obstacles, or 0.

    In NumPy:

        alive = quiet = due = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            i[st.NI_LOOP] += 1
            v, loop, there = ui[i[st.NI_ROW] :], i[st.NI_LOOP], i[st.NI_KEY] != 0
            fields = st.I_ACT, st.I_WAKE, st.I_TARGET, st.I_FLAGS
            act, wake, target, flags = (v[field] if there else 0 for field in fields)
            turn = st.HAND_TURN if i[st.NI_KEY] & KEY_TURN else 0
            i[st.NI_HAND] = flags & (st.FLAG_AROUND | st.FLAG_LEFT) | turn
            i[st.NI_TARGET], i[st.NI_FLAGS], i[st.NI_ACT], i[st.NI_MOBILITY] = target, flags, act, ANCHORED
            f[st.N_VX] = f[st.N_VY] = 0.0
            straight = width == 0 or flags & (st.FLAG_FLYING | st.FLAG_COLOSSUS)
            looks = act == ACT_REST or (act == ACT_GO and straight)
            alive |= bool(there) << n
            quiet |= bool(there and loop < wake) << n
            due |= bool(there and looks and 0 < wake <= loop and target < 0) << n
        return alive, quiet, due
    """
    signature = types.UniTuple(MASK, 3)(floats, ints, ui, INDEX, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[3], args[4])
        key, rows, loop = units.load_int(st.NI_KEY), units.load_int(st.NI_ROW), units.load_int(st.NI_LOOP).plus(1)
        units.store_int(st.NI_LOOP, loop)
        alive = key.differs(0)
        act, wake, target, flags = (
            code.gather(2, rows, field, alive) for field in (st.I_ACT, st.I_WAKE, st.I_TARGET, st.I_FLAGS)
        )
        turn = (key & KEY_TURN).differs(0).choose(code.constant(st.HAND_TURN), 0)
        hand = (flags & (st.FLAG_AROUND | st.FLAG_LEFT)) | turn
        for number, value in (
            (st.NI_HAND, hand),
            (st.NI_TARGET, target),
            (st.NI_FLAGS, flags),
            (st.NI_ACT, act),
            (st.NI_MOBILITY, code.constant(ANCHORED)),
        ):
            units.store_int(number, value)
        for number in (st.N_VX, st.N_VY):
            units.store(number, code.constant(0.0))
        looks = act.equals(ACT_REST) | (act.equals(ACT_GO) & _straight(code, flags, args[5]))
        quiet = alive & (loop < wake)
        due = alive & looks & (wake > 0) & (wake <= loop) & (target < 0)
        masks = [lanes.to_mask() for lanes in (alive, quiet, due)]
        return context.make_tuple(builder, signature.return_type, masks)

    return signature, codegen


@operation
def recover(typingctx, ints, uf, ui, kinds, at, places):  # type: ignore[no-untyped-def]
    """Regeneration of health, shield and energy of the units from place `at` on, before `begin_loop`.

    In NumPy:

        for k in range(at, at + LANES):
            i = ints[:, k]
            if i[st.NI_KEY] & KEY_RECOVERS:
                u, kind = uf[i[st.NI_ROW] :], kinds[i[st.NI_KIND_ROW] :]
                since = i[st.NI_LOOP] + 1 - ui[i[st.NI_ROW] + st.I_HURT_LOOP]
                if since >= kind[st.K_HEALTH_REGEN_DELAY]:
                    u[st.F_HEALTH] = min(u[st.F_HEALTH] + kind[st.K_HEALTH_REGEN], u[st.F_HEALTH_MAX])
                if since >= kind[st.K_SHIELD_REGEN_DELAY]:
                    u[st.F_SHIELD] = min(u[st.F_SHIELD] + kind[st.K_SHIELD_REGEN], u[st.F_SHIELD_MAX])
                u[st.F_ENERGY] = min(u[st.F_ENERGY] + kind[st.K_ENERGY_REGEN], u[st.F_ENERGY_MAX])
    """
    signature = types.none(ints, uf, ui, kinds, INDEX, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units = Rows(code, args[4], args[5], ints=0)
        lanes = (units.load_int(st.NI_KEY) & KEY_RECOVERS).differs(0)
        rows, kind = units.load_int(st.NI_ROW), units.load_int(st.NI_KIND_ROW)
        loop = units.load_int(st.NI_LOOP).plus(1)
        with builder.if_then(lanes.any()):
            since = loop.minus(code.gather(2, rows, st.I_HURT_LOOP, lanes)).real()
            for field, most, regeneration, delay in (
                (st.F_HEALTH, st.F_HEALTH_MAX, st.K_HEALTH_REGEN, st.K_HEALTH_REGEN_DELAY),
                (st.F_SHIELD, st.F_SHIELD_MAX, st.K_SHIELD_REGEN, st.K_SHIELD_REGEN_DELAY),
                (st.F_ENERGY, st.F_ENERGY_MAX, st.K_ENERGY_REGEN, None),
            ):
                now = code.gather(1, rows, field, lanes)
                new = (now + code.gather(3, kind, regeneration, lanes)).at_most(code.gather(1, rows, most, lanes))
                changed = lanes & new.differs(now)
                if delay is not None:
                    changed = changed & (since >= code.gather(3, kind, delay, lanes))
                with builder.if_then(changed.any()):
                    code.scatter(1, rows, field, new, changed)
        return context.get_dummy_value()

    return signature, codegen


@operation
def go_on(typingctx, floats, ints, uf, ui, kinds, at, places, quiet, width):  # type: ignore[no-untyped-def]
    """Lets the units in the lanes `quiet` from place `at` on go on with what they do.

    Returns the lanes for which that is right; for the others nothing has been done. `width` as of `begin_loop`.

    In NumPy:

        right = 0
        for n in range(LANES):
            f, i = floats[:, at + n], ints[:, at + n]
            f[st.N_VX] = f[st.N_VY] = 0.0
            i[st.NI_MOBILITY] = ANCHORED
            if not quiet >> n & 1:
                continue
            u, v, kind = uf[i[st.NI_ROW] :], ui[i[st.NI_ROW] :], kinds[i[st.NI_KIND_ROW] :]
            act, flags, x, y = i[st.NI_ACT], i[st.NI_FLAGS], f[st.N_X], f[st.N_Y]
            walks, fires = act in (ACT_GO, ACT_CHASE), act in (ACT_FIRE, ACT_FIRE_TURRET)
            obedient, stimmed = flags & st.FLAG_OBEDIENT, u[st.F_STIM] > 0.0
            rate = kind[st.K_STIM_FACTOR] if stimmed else np.float32(1.0)
            speed = kind[st.K_SPEED] * kind[st.K_STIM_FACTOR] if stimmed else kind[st.K_SPEED]

            # Where it goes, or whom it aims at, as long as its side sees it. The dead are seen by nobody.
            gx, gy, reach = u[st.F_ORDER_X], u[st.F_ORDER_Y], 0.0
            if act > ACT_GO:
                other = i[st.NI_ROW] + (i[st.NI_TARGET] - i[st.NI_SLOT]) * st.INT_ROW
                if not ui[other + st.I_VISIBLE] & i[st.NI_KEY] & OWNERS or ui[other + st.I_TAG] != v[st.I_TARGET_TAG]:
                    continue
                gx, gy, reach = uf[other + st.F_X], uf[other + st.F_Y], u[st.F_REACH]
            dx, dy = gx - x, gy - y
            square = dx * dx + dy * dy
            d = np.sqrt(square)
            fx, fy, cos = u[st.F_FACING_X], u[st.F_FACING_Y], kind[st.K_TURN_COS]

            if fires and not (d <= reach and u[st.F_COOLDOWN] > rate):
                continue
            if walks:
                if not d > reach:
                    continue
                way_x, way_y, far, left, least = dx, dy, d, d - u[st.F_NEAR], ARRIVED
                if width and not flags & (st.FLAG_FLYING | st.FLAG_COLOSSUS):
                    # It walks to a way point, which was found for the goal's cell.
                    if v[st.I_CELL] != int(gy) * width + int(gx):
                        continue
                    if u[st.F_WAY_X] != gx or u[st.F_WAY_Y] != gy:
                        way_x, way_y = u[st.F_WAY_X] - x, u[st.F_WAY_Y] - y
                        far = left = np.sqrt(way_x * way_x + way_y * way_y)
                    least = speed  # nearer than that it looks for the next way point
                inverse = 1.0 / far
                ux, uy = way_x * inverse, way_y * inverse
                if not (left > least and (fx * ux + fy * uy >= cos or obedient)):
                    continue
                step = min(speed, left)
                u[st.F_FACING_X], u[st.F_FACING_Y] = f[st.N_UX], f[st.N_UY] = ux, uy
                f[st.N_VX], f[st.N_VY], f[st.N_STEP] = step * ux, step * uy, step
                i[st.NI_MOBILITY] = MOVING
            elif act == ACT_FIRE:
                # Who does not face its target turns.
                aside = fx * dy - fy * dx
                if fx * dx + fy * dy <= 0.0 or aside * aside > square * AIMED:
                    inverse = 1.0 / max(d, ARRIVED)
                    ax, ay = dx * inverse, dy * inverse
                    sin = -kind[st.K_TURN_SIN] if fx * ay - fy * ax < 0.0 else kind[st.K_TURN_SIN]
                    if not (fx * ax + fy * ay >= cos or obedient):
                        ax, ay = cos * fx - sin * fy, sin * fx + cos * fy
                    u[st.F_FACING_X], u[st.F_FACING_Y] = ax, ay
            elif act == ACT_REST:
                i[st.NI_MOBILITY] = RESTING

            if u[st.F_COOLDOWN] > 0.0:
                u[st.F_COOLDOWN] = max(u[st.F_COOLDOWN] - rate, 0.0)
            if stimmed:
                u[st.F_STIM] -= 1.0
            if u[st.F_BLINK_COOLDOWN] > 0.0:
                u[st.F_BLINK_COOLDOWN] -= 1.0
            right |= 1 << n
        return right
    """
    signature = MASK(floats, ints, uf, ui, kinds, INDEX, INDEX, MASK, INDEX)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code = Code(context, builder, signature, args)
        units, width = Rows(code, args[5], args[6]), args[8]
        quiet = code.bits(7)
        zero, one = code.constant(0.0), code.constant(1.0)
        rows, kind, act, flags, target = (
            units.load_int(number) for number in (st.NI_ROW, st.NI_KIND_ROW, st.NI_ACT, st.NI_FLAGS, st.NI_TARGET)
        )
        x, y = units.load(st.N_X), units.load(st.N_Y)

        def own(field: int, lanes: Lanes) -> Lanes:
            return code.gather(UF, rows, field, lanes)

        usual = code.gather(KINDS, kind, st.K_SPEED, quiet)
        stim, cooldown = own(st.F_STIM, quiet), own(st.F_COOLDOWN, quiet)
        blink = own(st.F_BLINK_COOLDOWN, quiet)
        stimmed = quiet & (stim > 0.0)
        stimmed_rate, stimmed_speed = Variable(one), Variable(usual)
        with builder.if_then(stimmed.any()):
            factor = code.gather(KINDS, kind, st.K_STIM_FACTOR, stimmed)
            stimmed_rate.set(stimmed.choose(factor, one))
            stimmed_speed.set(stimmed.choose(usual * factor, usual))
        rate, speed = stimmed_rate.get(), stimmed_speed.get()

        # What it goes to or aims at, as long as its side sees it. The dead are seen by nobody.
        goes, aims = quiet & (act > ACT_REST), quiet & (act > ACT_GO)
        fires, walks = quiet & (act > ACT_CHASE), goes & (act < ACT_FIRE)
        slot = units.load_int(st.NI_SLOT)
        other = rows.plus(target.minus(slot).times(st.INT_ROW))
        visible, tag = (code.gather(UI, other, field, aims) for field in (st.I_VISIBLE, st.I_TAG))
        known = code.gather(UI, rows, st.I_TARGET_TAG, aims)
        seen = (visible & units.load_int(st.NI_KEY) & OWNERS).differs(0) & tag.equals(known)
        # In the rows of both, of a target and of an order, y follows x.
        place = aims.choose(other.plus(st.F_X), rows.plus(st.F_ORDER_X))
        gx, gy = (code.gather(UF, place, n, goes) for n in range(2))
        reach = own(st.F_REACH, aims)
        dx, dy = gx - x, gy - y
        d2 = dot(dx, dx, dy, dy)
        d = d2.root()
        fx, fy = own(st.F_FACING_X, goes), own(st.F_FACING_Y, goes)

        holds = quiet & (~aims | seen)
        holds = holds & (~fires | ((d <= reach) & (cooldown > rate))) & (~walks | (d > reach))
        way_x, way_y, far, on_way = Variable(dx), Variable(dy), Variable(d), Variable(holds)
        way_left, way_least = Variable(d - own(st.F_NEAR, walks)), Variable(code.constant(float(ARRIVED)))
        bends = walks & ~_straight(code, flags, width)
        with builder.if_then(bends.any()):
            columns = code.splat(builder.trunc(width, ir.IntType(32)))
            cell = gy.whole().times(columns).plus(gx.whole())
            on_way.set(holds & (~bends | code.gather(UI, rows, st.I_CELL, bends).equals(cell)))
            wx, wy = own(st.F_WAY_X, bends), own(st.F_WAY_Y, bends)
            detour = bends & (wx.differs(gx) | wy.differs(gy))
            wx, wy = wx - x, wy - y
            near = dot(wx, wx, wy, wy).root()
            for variable, value in ((way_x, wx), (way_y, wy), (far, near), (way_left, near)):
                variable.set(detour.choose(value, variable.get()))
            # Nearer than that it looks for the next way point.
            way_least.set(bends.choose(speed, way_least.get()))
        holds, left, least = on_way.get(), way_left.get(), way_least.get()
        inverse = one / far.get()
        ux, uy = way_x.get() * inverse, way_y.get() * inverse
        cos = code.gather(KINDS, kind, st.K_TURN_COS, goes)
        obedient = (flags & st.FLAG_OBEDIENT).differs(0)
        ahead = dot(fx, ux, fy, uy) >= cos
        holds = holds & (~walks | ((left > least) & (ahead | obedient)))

        # Aiming: who does not face its target turns.
        moves = holds & walks
        new_x, new_y, new = Variable(ux), Variable(uy), Variable(moves)
        aside = fx * dy - fy * dx
        off = (dot(fx, dx, fy, dy) <= 0.0) | (aside * aside > d2 * float(AIMED))
        aiming = holds & act.equals(ACT_FIRE) & off
        with builder.if_then(aiming.any()):
            inverse = one / d.at_least(float(ARRIVED))
            ax, ay = dx * inverse, dy * inverse
            sin = code.gather(KINDS, kind, st.K_TURN_SIN, aiming)
            sin = (fx * ay - fy * ax < 0.0).choose(-sin, sin)
            at_once = (dot(fx, ax, fy, ay) >= cos) | obedient
            ax, ay = at_once.choose(ax, cos * fx - sin * fy), at_once.choose(ay, sin * fx + cos * fy)
            new_x.set(aiming.choose(ax, ux))
            new_y.set(aiming.choose(ay, uy))
            new.set(moves | aiming)
        code.scatter(UF, rows, st.F_FACING_X, new_x.get(), new.get())
        code.scatter(UF, rows, st.F_FACING_Y, new_y.get(), new.get())
        code.scatter(UF, rows, st.F_COOLDOWN, (cooldown - rate).at_least(0.0), holds & (cooldown > 0.0))
        late = holds & ((stim > 0.0) | (blink > 0.0))
        with builder.if_then(late.any()):
            code.scatter(UF, rows, st.F_STIM, stim - one, holds & (stim > 0.0))
            code.scatter(UF, rows, st.F_BLINK_COOLDOWN, blink - one, holds & (blink > 0.0))

        step = speed.at_most(left)
        for number, value in ((st.N_VX, step * ux), (st.N_VY, step * uy)):
            units.store(number, moves.choose(value, zero))
        for number, value in ((st.N_UX, ux), (st.N_UY, uy), (st.N_STEP, step)):
            units.store(number, value)
        mobility = moves.choose(code.constant(MOVING), ANCHORED)
        units.store_int(st.NI_MOBILITY, (holds & act.equals(ACT_REST)).choose(code.constant(RESTING), mobility))
        return holds.to_mask()

    return signature, codegen
