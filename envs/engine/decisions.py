"""What every unit does in a loop: clocks, orders, targets, attacks begun and fired, and the displacement it wants.

A decision reads positions as they were when the loop began. It writes only the unit's own fields and new projectiles.
So the order of the units does not matter. Damage is done later in the loop (damage.py).

Most units have nothing to decide in most loops (quiet.py). A decision also tells whether, and until when, that is so.
"""

from __future__ import annotations

import numpy as np

from envs.engine.neighbours import describe
from envs.engine.pathing import way_point
from envs.engine.quiet import (
    ACT_CHASE,
    ACT_FIRE,
    ACT_FIRE_TURRET,
    ACT_GO,
    ACT_REST,
    ACT_STAND,
    AIMED,
    ARRIVED,
    begin_loop,
    go_on,
    recover,
)
from envs.engine.simd.lookup import first_bit
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import IDLE, MOVING, RESTING, TELEPORT
from envs.engine.state.orders import next_order
from envs.engine.state.units import set_kind
from envs.engine.targeting import acquire, acquire_wounded, can_heal, enemies_within, lost

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
CLOSE = np.float32(0.05)  # a chase ends this far inside the range
LEASH = np.float32(8.0)  # an idle unit chases no farther from its post (memory: no public source)
CHASE_SLACK = np.float32(3.0)  # a target this far out of scan range is let go (memory: no public source)
GRUDGE = 80  # loops for which an attacker is chased however far it is (memory: no public source)
FACING_SLACK = np.float32(0.98)  # cosine of the game's ArcSlop of 11.25 degrees
TURN_FIRST = np.float32(0.5)  # a unit that faces more than 60 degrees away turns on the spot
SCAN_PERIOD = 4  # loops between two looks for a target
RESCAN_PERIOD = 8  # ... of a unit that has one out of range
PATH_PERIOD = 4  # loops between two looks for a way point
FOREVER = 1 << 30


@inline_kernel
def turn(static, kind, u, flags, ux, uy):
    """Turns the unit with the row `u` towards the unit vector (ux, uy) by at most its turn rate."""
    fx, fy = u[st.F_FACING_X], u[st.F_FACING_Y]
    cos = static.kind_f[kind, st.K_TURN_COS]
    if fx * ux + fy * uy >= cos or flags & st.FLAG_OBEDIENT != 0:
        u[st.F_FACING_X] = ux
        u[st.F_FACING_Y] = uy
    else:
        sin = static.kind_f[kind, st.K_TURN_SIN]
        if fx * uy - fy * ux < ZERO:
            sin = -sin
        u[st.F_FACING_X] = cos * fx - sin * fy
        u[st.F_FACING_Y] = sin * fx + cos * fy


@inline_kernel
def aim(static, kind, u, flags, dx, dy, d2):
    """As `turn`, towards a target at (dx, dy) from here. Nothing happens if the unit faces it within a degree."""
    fx, fy = u[st.F_FACING_X], u[st.F_FACING_Y]
    aside = fx * dy - fy * dx
    if fx * dx + fy * dy <= ZERO or aside * aside > AIMED * d2:
        inverse = ONE / max(np.sqrt(d2), ARRIVED)
        turn(static, kind, u, flags, dx * inverse, dy * inverse)


@inline_kernel
def launch(state, static, b, i, kind, w, j):
    """The damage point of an attack: an entry among the projectiles, with no flight time for instant weapons."""
    f, ii = state.uf, state.ui
    loop = state.w[b, st.W_LOOP]
    n = state.w[b, st.W_SHOTS]
    flight = 0
    speed = static.weapon_f[kind, w, st.WF_PROJECTILE_SPEED]
    if speed > ZERO:
        dx, dy = f[b, j, st.F_X] - f[b, i, st.F_X], f[b, j, st.F_Y] - f[b, i, st.F_Y]
        gap = np.sqrt(dx * dx + dy * dy) - f[b, i, st.F_RADIUS] - f[b, j, st.F_RADIUS]
        flight = int(np.ceil(max(gap, ZERO) / speed))
    shot = state.shot_i
    shot[b, n, st.S_SOURCE] = i
    shot[b, n, st.S_SOURCE_TAG] = ii[b, i, st.I_TAG]
    shot[b, n, st.S_TARGET] = j
    shot[b, n, st.S_TARGET_TAG] = ii[b, j, st.I_TAG]
    shot[b, n, st.S_KIND] = kind
    shot[b, n, st.S_OWNER] = ii[b, i, st.I_OWNER]
    shot[b, n, st.S_WEAPON] = w
    shot[b, n, st.S_LEFT] = flight
    shot[b, n, st.S_FLIGHT] = flight
    state.shot_f[b, n, st.SF_X] = f[b, i, st.F_X]
    state.shot_f[b, n, st.SF_Y] = f[b, i, st.F_Y]
    state.w[b, st.W_SHOTS] = n + 1
    ii[b, i, st.I_SHOT_LOOP] = loop
    ii[b, i, st.I_SHOT_TARGET] = j
    if static.weapon_i[kind, w, st.WI_SUICIDE]:
        f[b, i, st.F_HEALTH] = ZERO
        ii[b, i, st.I_FLAGS] |= st.FLAG_EXPLODED


@inline_kernel
def decide(state, static, near, count):
    """Decides for the units at the first `count` places; leaves displacement and mobility of each in `near`."""
    width = static.pathable.shape[1] if static.options[st.O_OBSTACLES] else 0
    # Everybody recovers first, because healers read the health of others.
    for first in range(0, count, st.LANES):
        recover(near.i, state.uf, state.ui, static.kind_f, first, near.f.shape[1])
    for first in range(0, count, st.LANES):
        units, quiet, due = begin_loop(near.f, near.i, state.ui, first, near.f.shape[1], width)
        while due != 0:
            k = np.uintp(first + first_bit(due))
            if not look_around(state, static, near, k):
                quiet |= due & -due
            due &= due - 1
        if quiet != 0:
            units &= ~go_on(near.f, near.i, state.uf, state.ui, static.kind_f, first, near.f.shape[1], quiet, width)
        if units != 0:
            decide_lanes(state, static, near, first, units)


@inline_kernel
def look_around(state, static, near, k):
    """Whether the unit at place `k`, whose time it is to look around, may see a target.

    Mostly it does not, and waits for the next time.
    """
    b = near.i[st.NI_WORLD, k]
    v = state.ui[np.uintp(b), np.uintp(near.i[st.NI_SLOT, k])]
    scan = static.kind_f[np.uintp(v[st.I_KIND]), st.K_SCAN_RANGE]
    if enemies_within(state, static, near, b, k, v[st.I_OWNER], scan):
        return True
    loop = near.i[st.NI_LOOP, k]
    v[st.I_WAKE] = loop + SCAN_PERIOD - (loop + v[st.I_PHASE]) % SCAN_PERIOD
    return False


@inline_kernel
def decide_lanes(state, static, near, first, units):
    """Decides for the units in the lanes `units` from place `first` on, one after the other.

    One long function on purpose: cut into one function per step, it was 2 to 6% slower. Its steps, with what each hands
    on:

        1 clocks           cooldown, rate, speed           Stimpack, cooldowns, a change of mode under way
        2 forget           target, windup                  a target that is dead or out of sight
        3 order            chase | ward | going to (gx, gy), watchful, may_move, done
              |
        4 look around      chase, weapon w, in_range       the weapon for the target, or a better target
        5 let go           chase                           an idle unit's target that is too far away
        6 attack           anchored, going                 windup -> damage point (a projectile) -> cooldown
        7 heal             ward, going
              |
        8 displacement     N_VX, N_VY, NI_MOBILITY         stop | turn | walk, by a way point where walls are
        9 next             the next order, or until when the unit is quiet: I_ACT, I_WAKE

    `chase` is the slot of the enemy that the unit shoots or follows, `ward` that of the unit it heals; -1 = none.
    """
    near_f, near_i = near.f, near.i
    kf, ki, wf, wi = static.kind_f, static.kind_i, static.weapon_f, static.weapon_i
    obstacles = static.options[st.O_OBSTACLES]
    while units != 0:
        k = np.uintp(first + first_bit(units))
        units &= units - 1
        b, i = np.int64(near_i[st.NI_WORLD, k]), near_i[st.NI_SLOT, k]
        uf, ui = state.uf[b], state.ui[b]
        loop = state.w[b, st.W_LOOP]
        u, v = uf[np.uintp(i)], ui[np.uintp(i)]
        x, y = near_f[st.N_X, k], near_f[st.N_Y, k]
        flags, kind = v[st.I_FLAGS], np.uintp(v[st.I_KIND])
        speed, rate = kf[kind, st.K_SPEED], ONE
        stim = u[st.F_STIM]
        if stim > ZERO:
            rate = kf[kind, st.K_STIM_FACTOR]
            speed *= rate
        # 1. Clocks.
        straight = obstacles == 0 or flags & (st.FLAG_FLYING | st.FLAG_COLOSSUS) != 0
        if flags & st.FLAG_INVULNERABLE:
            v[st.I_ACT], v[st.I_WAKE] = ACT_STAND, FOREVER
            continue
        v[st.I_WAKE] = 0
        if stim > ZERO:
            u[st.F_STIM] = stim - ONE
        cooldown = u[st.F_COOLDOWN]
        if cooldown > ZERO:
            cooldown = max(cooldown - rate, ZERO)
            u[st.F_COOLDOWN] = cooldown
        if u[st.F_BLINK_COOLDOWN] > ZERO:
            u[st.F_BLINK_COOLDOWN] -= ONE
        busy = u[st.F_BUSY]
        if busy > ONE:
            u[st.F_BUSY] = busy - ONE
            continue

        # 2. A target that is lost is forgotten, and the attack on it.
        target = v[st.I_TARGET]
        windup = u[st.F_WINDUP]
        if target >= 0 and lost(state, b, i, target, v[st.I_TARGET_TAG]):
            target = -1
            v[st.I_TARGET] = -1
            windup = ZERO
            u[st.F_WINDUP] = ZERO

        # 3. What the order asks for: a unit to chase or to heal, or a point to go to.
        order = v[st.I_ORDER]
        ward, chase = -1, -1
        done = False
        going, watchful, may_move = False, False, speed > ZERO
        gx, gy, margin = x, y, ZERO
        if order == st.ORDER_MOVE:
            other = v[st.I_ORDER_TARGET]
            if other < 0:
                going, gx, gy = True, u[st.F_ORDER_X], u[st.F_ORDER_Y]
            elif lost(state, b, i, other, v[st.I_ORDER_TAG]):
                done = True
            else:
                going, gx, gy = True, uf[np.uintp(other), st.F_X], uf[np.uintp(other), st.F_Y]
                if ui[np.uintp(other), st.I_FLAGS] & st.FLAG_INVULNERABLE == 0:
                    margin = near_f[st.N_RADIUS, k] + uf[np.uintp(other), st.F_RADIUS]
            # Units that shoot on the move look for targets in range while they go.
            if wi[kind, 0, st.WI_FIRES_MOVING] and flags & st.FLAG_OBEDIENT == 0:
                watchful, may_move, chase = True, False, target
        elif order == st.ORDER_ATTACK:
            other = v[st.I_ORDER_TARGET]
            if lost(state, b, i, other, v[st.I_ORDER_TAG]):
                done = True
            else:
                chase = other
        elif order == st.ORDER_HEAL:
            other = v[st.I_ORDER_TARGET]
            if lost(state, b, i, other, v[st.I_ORDER_TAG]) or not can_heal(state, static, b, i, other):
                done = True
            else:
                ward = other
        elif order == st.ORDER_BLINK:
            if u[st.F_BLINK_COOLDOWN] <= ZERO:
                dx, dy = u[st.F_ORDER_X] - x, u[st.F_ORDER_Y] - y
                d = np.sqrt(dx * dx + dy * dy)
                most = kf[kind, st.K_BLINK_RANGE]
                if d > most:
                    dx, dy = dx * (most / d), dy * (most / d)
                near_f[st.N_VX, k] = dx
                near_f[st.N_VY, k] = dy
                near_i[st.NI_MOBILITY, k] = TELEPORT
                u[st.F_BLINK_COOLDOWN] = kf[kind, st.K_BLINK_COOLDOWN]
            done = True
        elif order == st.ORDER_SIEGE:
            if busy <= ZERO:
                u[st.F_BUSY] = max(np.ceil(kf[kind, st.K_CHANGE_TIME]), ONE)
                continue
            u[st.F_BUSY] = ZERO
            set_kind(state, static, b, i, ki[kind, st.KI_CHANGES_TO])
            describe(static, u, v)
            state.w[b, st.W_STALE] = 1
            done = True
        elif order > st.ORDER_SIEGE:
            going, gx, gy = True, u[st.F_ORDER_X], u[st.F_ORDER_Y]
        else:
            watchful = flags & st.FLAG_OBEDIENT == 0
            chase = target if watchful else -1
            if order == st.ORDER_HOLD:
                may_move = False
            elif order != st.ORDER_STOP:
                going, gx, gy = True, u[st.F_ORDER_X], u[st.F_ORDER_Y]
            elif flags & st.FLAG_RETURNING:
                going, gx, gy = True, u[st.F_HOME_X], u[st.F_HOME_Y]

        # 4. The weapon for the target. If it is out of range, a look around for a better target, whose weapon follows.
        armed = ki[kind, st.KI_WEAPONS] > 0
        w, in_range, ready_to_look, looked = -1, False, watchful and armed, False
        dx, dy, d, d2, reach = ZERO, ZERO, ONE, ONE, ZERO
        while armed:
            in_range = False
            if chase >= 0:
                their = ui[np.uintp(chase), st.I_FLAGS]
                planes = st.TARGET_AIR if their & st.FLAG_FLYING else st.TARGET_GROUND
                if their & st.FLAG_COLOSSUS:
                    planes = st.TARGET_AIR | st.TARGET_GROUND
                w = -1
                for n in range(ki[kind, st.KI_WEAPONS]):
                    if w < 0 and wi[kind, n, st.WI_TARGETS] & planes:
                        w = n
                if w < 0 or their & st.FLAG_INVULNERABLE:
                    chase = -1
                    break
                dx, dy = uf[np.uintp(chase), st.F_X] - x, uf[np.uintp(chase), st.F_Y] - y
                reach = wf[kind, np.uintp(w), st.WF_RANGE] + near_f[st.N_RADIUS, k] + uf[np.uintp(chase), st.F_RADIUS]
                d2 = dx * dx + dy * dy
                d = np.sqrt(d2)
                nearest = wf[kind, np.uintp(w), st.WF_MIN_RANGE]
                in_range = d <= reach and (nearest <= ZERO or d >= reach - wf[kind, np.uintp(w), st.WF_RANGE] + nearest)
            if not ready_to_look or in_range or windup > ZERO:
                break
            ready_to_look = False
            hurt = v[st.I_HURT_LOOP] >= loop - 1
            beat = loop + v[st.I_PHASE]
            due = beat % SCAN_PERIOD == 0 if chase < 0 else beat % RESCAN_PERIOD == 0
            looked = due or hurt
            if not looked:
                break
            scan = kf[kind, st.K_SCAN_RANGE] if may_move else wf[kind, 0, st.WF_RANGE]
            better = acquire(state, static, near, b, k, scan)
            if better < 0 and chase < 0 and hurt and may_move:
                # Out of sight of its scan, but it shoots: go for the attacker.
                attacker = v[st.I_ATTACKER]
                if attacker >= 0 and not lost(state, b, i, attacker, v[st.I_ATTACKER_TAG]):
                    better = attacker
            if better < 0 or better == chase:
                break
            chase = better
            v[st.I_TARGET] = chase
            v[st.I_TARGET_TAG] = ui[np.uintp(chase), st.I_TAG]

        # 5. A target that the unit chose itself is let go when it is too far away.
        if chase >= 0 and watchful and not in_range and (looked or not may_move) and windup <= ZERO:
            beyond = d - reach + wf[kind, np.uintp(w), st.WF_RANGE] - kf[kind, st.K_SCAN_RANGE] > CHASE_SLACK
            if chase == v[st.I_ATTACKER] and loop - v[st.I_HURT_LOOP] < GRUDGE:
                beyond = False
            if order == st.ORDER_STOP:
                hx, hy = x - u[st.F_HOME_X], y - u[st.F_HOME_Y]
                beyond = beyond or hx * hx + hy * hy > LEASH * LEASH
            if beyond or not may_move:
                chase = -1
                v[st.I_TARGET] = -1
            elif order == st.ORDER_STOP:
                v[st.I_FLAGS] |= st.FLAG_RETURNING
        if order == st.ORDER_ATTACK and chase >= 0 and target != chase:
            v[st.I_TARGET] = chase
            v[st.I_TARGET_TAG] = ui[np.uintp(chase), st.I_TAG]

        # 6. The attack: windup, damage point, cooldown. A unit out of range goes nearer.
        anchored = False
        if chase >= 0:
            moving_fire = wi[kind, np.uintp(w), st.WI_FIRES_MOVING] != 0
            fires = False
            if windup > ZERO:
                windup -= rate
                fires = windup <= ZERO
                anchored = not moving_fire
                aim(static, kind, u, flags, dx, dy, d2)
            elif in_range:
                anchored = not moving_fire
                faces = wi[kind, np.uintp(w), st.WI_TURRET] != 0 or moving_fire
                if not faces:
                    aim(static, kind, u, flags, dx, dy, d2)
                    faces = u[st.F_FACING_X] * dx + u[st.F_FACING_Y] * dy >= FACING_SLACK * d
                if cooldown <= ZERO and faces:
                    windup = wf[kind, np.uintp(w), st.WF_DAMAGE_POINT]
                    fires = windup <= ZERO
                    v[st.I_WEAPON] = w
            if fires:
                windup = ZERO
                if state.w[b, st.W_SHOTS] < state.shot_i.shape[1]:
                    launch(state, static, b, i, kind, v[st.I_WEAPON], chase)
                    spent = np.ceil(wf[kind, np.uintp(w), st.WF_DAMAGE_POINT] / rate) * rate
                    u[st.F_COOLDOWN] = wf[kind, np.uintp(w), st.WF_COOLDOWN] - spent
            u[st.F_WINDUP] = windup
            if not anchored and not in_range and may_move:
                going, margin = True, max(reach - CLOSE, ZERO)
                gx, gy = uf[np.uintp(chase), st.F_X], uf[np.uintp(chase), st.F_Y]
            elif anchored:
                going = False
        elif windup > ZERO:
            u[st.F_WINDUP] = ZERO

        # 7. Healing.
        if kf[kind, st.K_HEAL_RATE] > ZERO:
            if watchful:
                ward = v[st.I_TARGET]
                if ward >= 0 and not can_heal(state, static, b, i, ward):
                    ward = -1
                if ward < 0 and (loop + v[st.I_PHASE]) % SCAN_PERIOD == 0:
                    ward = acquire_wounded(state, static, near, b, k)
                v[st.I_TARGET] = ward
                if ward >= 0:
                    v[st.I_TARGET_TAG] = ui[ward, st.I_TAG]
            if ward >= 0:
                dx, dy = uf[ward, st.F_X] - x, uf[ward, st.F_Y] - y
                reach = kf[kind, st.K_HEAL_RANGE] + near_f[st.N_RADIUS, k] + uf[ward, st.F_RADIUS]
                d = np.sqrt(dx * dx + dy * dy)
                if d <= reach:
                    going = False
                    missing = uf[ward, st.F_HEALTH_MAX] - uf[ward, st.F_HEALTH]
                    cost = kf[kind, st.K_HEAL_COST]
                    given = min(min(kf[kind, st.K_HEAL_RATE], missing), u[st.F_ENERGY] / cost)
                    uf[ward, st.F_HEALTH] = min(uf[ward, st.F_HEALTH] + given, uf[ward, st.F_HEALTH_MAX])
                    u[st.F_ENERGY] = max(u[st.F_ENERGY] - given * cost, ZERO)
                    v[st.I_SHOT_LOOP] = loop
                    v[st.I_SHOT_TARGET] = ward
                    aim(static, kind, u, flags, dx, dy, dx * dx + dy * dy)
                elif may_move:
                    going, gx, gy, margin = True, uf[ward, st.F_X], uf[ward, st.F_Y], max(reach - CLOSE, ZERO)

        # 8. The displacement.
        near_i[st.NI_TARGET, k] = v[st.I_TARGET]
        if anchored or (order == st.ORDER_HOLD and not going) or speed <= ZERO:
            u[st.F_SPEED] = ZERO
            going = False
        elif near_i[st.NI_MOBILITY, k] != TELEPORT:
            near_i[st.NI_MOBILITY, k] = IDLE
        acceleration = kf[kind, st.K_ACCELERATION]
        if flags & st.FLAG_OBEDIENT:
            acceleration = ZERO
        if going:
            dx, dy = gx - x, gy - y
            d = np.sqrt(dx * dx + dy * dy)
            left = d - margin
            if left <= ARRIVED:
                going = False
                if chase < 0 and ward < 0:
                    if order == st.ORDER_PATROL:
                        u[st.F_ORDER_X], u[st.F_HOME_X] = u[st.F_HOME_X], u[st.F_ORDER_X]
                        u[st.F_ORDER_Y], u[st.F_HOME_Y] = u[st.F_HOME_Y], u[st.F_ORDER_Y]
                    elif order == st.ORDER_STOP:
                        v[st.I_FLAGS] &= ~st.FLAG_RETURNING
                    elif order <= st.ORDER_SIEGE and (order != st.ORDER_MOVE or margin <= ZERO):
                        done = True
                        if margin <= ZERO and acceleration > ZERO:
                            # Exactly there, and no drifting on.
                            near_f[st.N_VX, k] = dx
                            near_f[st.N_VY, k] = dy
                            near_f[st.N_UX, k] = u[st.F_FACING_X]
                            near_f[st.N_UY, k] = u[st.F_FACING_Y]
                            near_f[st.N_STEP, k] = d
                            near_i[st.NI_MOBILITY, k] = MOVING
                            u[st.F_SPEED] = ZERO
        if going:
            if not straight:
                cell = int(gy) * static.pathable.shape[1] + int(gx)
                wx, wy = u[st.F_WAY_X] - x, u[st.F_WAY_Y] - y
                if (
                    v[st.I_CELL] != cell
                    or (loop + v[st.I_PHASE]) % PATH_PERIOD == 0
                    or wx * wx + wy * wy < speed * speed
                ):
                    way_point(state, static, b, i, gx, gy)
                    v[st.I_CELL] = cell
                wx, wy = u[st.F_WAY_X], u[st.F_WAY_Y]
                if wx != gx or wy != gy:
                    dx, dy = wx - x, wy - y
                    d = max(np.sqrt(dx * dx + dy * dy), ARRIVED)
                    left = d
            inverse = ONE / d
            ux, uy = dx * inverse, dy * inverse
            turn(static, kind, u, flags, ux, uy)
            fx, fy = u[st.F_FACING_X], u[st.F_FACING_Y]
            along = fx * ux + fy * uy
            if acceleration > ZERO:
                speed = min(speed, u[st.F_SPEED] + acceleration)
                speed = min(speed, np.sqrt(np.float32(2.0) * acceleration * left))
                u[st.F_SPEED] = speed
            step = min(speed, left)
            if along < TURN_FIRST:
                step = ZERO
            near_f[st.N_VX, k] = step * fx
            near_f[st.N_VY, k] = step * fy
            near_f[st.N_UX, k] = fx
            near_f[st.N_UY, k] = fy
            near_f[st.N_STEP, k] = step
            near_i[st.NI_MOBILITY, k] = MOVING
        else:
            u[st.F_PACE] = ONE
            near_f[st.N_PACE, k] = ONE
            if acceleration > ZERO and u[st.F_SPEED] > ZERO:
                speed = max(u[st.F_SPEED] - acceleration, ZERO)
                u[st.F_SPEED] = speed
                near_f[st.N_VX, k] = speed * u[st.F_FACING_X]
                near_f[st.N_VY, k] = speed * u[st.F_FACING_Y]

        # 9. The next order, or how long the unit has nothing to decide.
        if done:
            next_order(state, b, i)
        elif (
            windup <= ZERO
            and acceleration <= ZERO
            and kf[kind, st.K_HEAL_RATE] <= ZERO
            and not wi[kind, 0, st.WI_FIRES_MOVING]
        ):
            # Until the next look around, or for good.
            act, wake = ACT_STAND, FOREVER
            if watchful and armed and not anchored:
                period = SCAN_PERIOD if chase < 0 else RESCAN_PERIOD
                wake = loop + period - (loop + v[st.I_PHASE]) % period
            if anchored:
                act = ACT_FIRE if wi[kind, np.uintp(w), st.WI_TURRET] == 0 else ACT_FIRE_TURRET
                if wf[kind, np.uintp(w), st.WF_MIN_RANGE] > ZERO or u[st.F_COOLDOWN] <= rate:
                    wake = 0
            elif going:
                act = ACT_GO if chase < 0 else ACT_CHASE
                aimed = chase >= 0 or (
                    order in (st.ORDER_MOVE, st.ORDER_ATTACK_MOVE, st.ORDER_PATROL) and v[st.I_ORDER_TARGET] < 0
                )
                if not aimed:
                    wake = 0
                elif not straight:
                    wake = min(wake, loop + PATH_PERIOD - (loop + v[st.I_PHASE]) % PATH_PERIOD)
            elif chase < 0 and (order == st.ORDER_STOP or order == st.ORDER_HOLD):
                if near_i[st.NI_MOBILITY, k] == IDLE:
                    act = ACT_REST
            else:
                wake = 0
            u[st.F_REACH] = reach
            u[st.F_NEAR] = margin
            v[st.I_ACT] = act
            v[st.I_WAKE] = wake
        if near_i[st.NI_MOBILITY, k] == IDLE and v[st.I_ORDER] == st.ORDER_STOP:
            near_i[st.NI_MOBILITY, k] = RESTING
