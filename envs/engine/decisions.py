"""What every unit does in a loop: clocks, orders, targets, attacks begun and fired, and the displacement it wants.

Reads positions as they were when the loop began and writes only the unit's own fields and new projectiles, so that the
order of the units does not matter. Damage is done later in the loop (damage.py).
"""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.pathing import way_point
from envs.engine.state import inline_kernel, next_order, set_kind
from envs.engine.targeting import acquire, acquire_wounded, can_heal, lost

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
CLOSE = np.float32(0.05)  # a chase ends this far inside the range
ARRIVED = np.float32(1e-3)
LEASH = np.float32(8.0)  # an idle unit chases no farther from its post (memory: no public source)
CHASE_SLACK = np.float32(3.0)  # a target this far out of scan range is let go (memory: no public source)
GRUDGE = 80  # loops for which an attacker is chased however far it is (memory: no public source)
FACING_SLACK = np.float32(0.98)  # cosine of the game's ArcSlop of 11.25 degrees
TURN_FIRST = np.float32(0.5)  # a unit that faces more than 60 degrees away turns on the spot
SCAN_PERIOD = 4  # loops between two looks for a target
RESCAN_PERIOD = 8  # ... of a unit that has one out of range
PATH_PERIOD = 4  # loops between two looks for a way point

# Mobility of a unit in this loop.
ANCHORED, IDLE, MOVING, TELEPORT = range(4)


@inline_kernel
def turn(state, static, b, i, flags, ux, uy):
    """Turns unit `i` towards the unit vector (ux, uy) by at most its turn rate."""
    f = state.uf
    kind = state.ui[b, i, st.I_KIND]
    fx, fy = f[b, i, st.F_FACING_X], f[b, i, st.F_FACING_Y]
    cos = static.kind_f[kind, st.K_TURN_COS]
    if fx * ux + fy * uy >= cos or flags & st.FLAG_OBEDIENT != 0:
        f[b, i, st.F_FACING_X] = ux
        f[b, i, st.F_FACING_Y] = uy
    else:
        sin = static.kind_f[kind, st.K_TURN_SIN]
        if fx * uy - fy * ux < ZERO:
            sin = -sin
        f[b, i, st.F_FACING_X] = cos * fx - sin * fy
        f[b, i, st.F_FACING_Y] = sin * fx + cos * fy


@inline_kernel
def recover(state, static, b, i, kind, loop):
    """Regeneration of health, shield and energy of unit `i`."""
    f = state.uf
    kf = static.kind_f
    since = np.float32(loop - state.ui[b, i, st.I_HURT_LOOP])
    if since >= kf[kind, st.K_HEALTH_REGEN_DELAY]:
        f[b, i, st.F_HEALTH] = min(f[b, i, st.F_HEALTH] + kf[kind, st.K_HEALTH_REGEN], f[b, i, st.F_HEALTH_MAX])
    if since >= kf[kind, st.K_SHIELD_REGEN_DELAY]:
        f[b, i, st.F_SHIELD] = min(f[b, i, st.F_SHIELD] + kf[kind, st.K_SHIELD_REGEN], f[b, i, st.F_SHIELD_MAX])
    f[b, i, st.F_ENERGY] = min(f[b, i, st.F_ENERGY] + kf[kind, st.K_ENERGY_REGEN], f[b, i, st.F_ENERGY_MAX])


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
def decide(state, static, b):
    """One pass over the units of world `b`; leaves displacement and mobility of each in `near_f`, `near_i`."""
    f, ii, near_f, near_i = state.uf, state.ui, state.near_f, state.near_i
    kf, ki, wf, wi = static.kind_f, static.kind_i, static.weapon_f, static.weapon_i
    loop = state.w[b, st.W_LOOP]
    obstacles = static.options[st.O_OBSTACLES]
    for k in range(state.w[b, st.W_ALIVE]):
        i = near_i[b, st.NI_SLOT, k]
        flags = ii[b, i, st.I_FLAGS]
        near_f[b, st.N_VX, k] = ZERO
        near_f[b, st.N_VY, k] = ZERO
        near_i[b, st.NI_MOBILITY, k] = ANCHORED
        if flags & st.FLAG_INVULNERABLE:
            continue
        kind = ii[b, i, st.I_KIND]
        x, y = near_f[b, st.N_X, k], near_f[b, st.N_Y, k]
        if ki[kind, st.KI_REGENERATES]:
            recover(state, static, b, i, kind, loop)
        speed = kf[kind, st.K_SPEED]
        rate = ONE
        stim = f[b, i, st.F_STIM]
        if stim > ZERO:
            rate = kf[kind, st.K_STIM_FACTOR]
            speed *= rate
            f[b, i, st.F_STIM] = stim - ONE
        cooldown = f[b, i, st.F_COOLDOWN]
        if cooldown > ZERO:
            cooldown = max(cooldown - rate, ZERO)
            f[b, i, st.F_COOLDOWN] = cooldown
        if f[b, i, st.F_BLINK_COOLDOWN] > ZERO:
            f[b, i, st.F_BLINK_COOLDOWN] -= ONE
        busy = f[b, i, st.F_BUSY]
        if busy > ONE:
            f[b, i, st.F_BUSY] = busy - ONE
            continue
        target = ii[b, i, st.I_TARGET]
        windup = f[b, i, st.F_WINDUP]
        if target >= 0 and lost(state, b, i, target, ii[b, i, st.I_TARGET_TAG]):
            target = -1
            ii[b, i, st.I_TARGET] = -1
            windup = ZERO
            f[b, i, st.F_WINDUP] = ZERO

        # What the order asks for: a unit to chase or to heal, or a point to go to.
        order = ii[b, i, st.I_ORDER]
        ward, chase = -1, -1
        done = False
        going, watchful, may_move = False, False, speed > ZERO
        gx, gy, near = x, y, ZERO
        if order == st.ORDER_MOVE:
            other = ii[b, i, st.I_ORDER_TARGET]
            if other < 0:
                going, gx, gy = True, f[b, i, st.F_ORDER_X], f[b, i, st.F_ORDER_Y]
            elif lost(state, b, i, other, ii[b, i, st.I_ORDER_TAG]):
                done = True
            else:
                going, gx, gy = True, f[b, other, st.F_X], f[b, other, st.F_Y]
                if ii[b, other, st.I_FLAGS] & st.FLAG_INVULNERABLE == 0:
                    near = near_f[b, st.N_RADIUS, k] + f[b, other, st.F_RADIUS]
            # Units that shoot on the move look for targets in range while they go.
            if wi[kind, 0, st.WI_FIRES_MOVING] and flags & st.FLAG_OBEDIENT == 0:
                watchful, may_move, chase = True, False, target
        elif order == st.ORDER_ATTACK:
            other = ii[b, i, st.I_ORDER_TARGET]
            if lost(state, b, i, other, ii[b, i, st.I_ORDER_TAG]):
                done = True
            else:
                chase = other
        elif order == st.ORDER_HEAL:
            other = ii[b, i, st.I_ORDER_TARGET]
            if lost(state, b, i, other, ii[b, i, st.I_ORDER_TAG]) or not can_heal(state, static, b, i, other):
                done = True
            else:
                ward = other
        elif order == st.ORDER_BLINK:
            if f[b, i, st.F_BLINK_COOLDOWN] <= ZERO:
                dx, dy = f[b, i, st.F_ORDER_X] - x, f[b, i, st.F_ORDER_Y] - y
                d = np.sqrt(dx * dx + dy * dy)
                most = kf[kind, st.K_BLINK_RANGE]
                if d > most:
                    dx, dy = dx * (most / d), dy * (most / d)
                near_f[b, st.N_VX, k] = dx
                near_f[b, st.N_VY, k] = dy
                near_i[b, st.NI_MOBILITY, k] = TELEPORT
                f[b, i, st.F_BLINK_COOLDOWN] = kf[kind, st.K_BLINK_COOLDOWN]
            done = True
        elif order == st.ORDER_SIEGE:
            if busy <= ZERO:
                f[b, i, st.F_BUSY] = max(np.ceil(kf[kind, st.K_CHANGE_TIME]), ONE)
                continue
            f[b, i, st.F_BUSY] = ZERO
            set_kind(state, static, b, i, ki[kind, st.KI_CHANGES_TO])
            done = True
        else:
            watchful = flags & st.FLAG_OBEDIENT == 0
            chase = target if watchful else -1
            if order == st.ORDER_HOLD:
                may_move = False
            elif order != st.ORDER_STOP:
                going, gx, gy = True, f[b, i, st.F_ORDER_X], f[b, i, st.F_ORDER_Y]
            elif flags & st.FLAG_RETURNING:
                going, gx, gy = True, f[b, i, st.F_HOME_X], f[b, i, st.F_HOME_Y]

        # The weapon for the target, and a better target if that is out of range.
        armed = ki[kind, st.KI_WEAPONS] > 0
        w, in_range, ready_to_look = -1, False, watchful and armed
        dx, dy, d, reach = ZERO, ZERO, ONE, ZERO
        while armed:
            in_range = False
            if chase >= 0:
                their = ii[b, chase, st.I_FLAGS]
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
                dx, dy = f[b, chase, st.F_X] - x, f[b, chase, st.F_Y] - y
                reach = wf[kind, w, st.WF_RANGE] + near_f[b, st.N_RADIUS, k] + f[b, chase, st.F_RADIUS]
                d2 = dx * dx + dy * dy
                d = np.sqrt(d2)
                in_range = d <= reach and d >= reach - wf[kind, w, st.WF_RANGE] + wf[kind, w, st.WF_MIN_RANGE]
                if wf[kind, w, st.WF_MIN_RANGE] <= ZERO:
                    in_range = d <= reach
            if not ready_to_look or in_range or windup > ZERO:
                break
            ready_to_look = False
            hurt = ii[b, i, st.I_HURT_LOOP] >= loop - 1
            beat = loop + ii[b, i, st.I_PHASE]
            due = beat % SCAN_PERIOD == 0 if chase < 0 else beat % RESCAN_PERIOD == 0
            if not due and not hurt:
                break
            scan = kf[kind, st.K_SCAN_RANGE] if may_move else wf[kind, 0, st.WF_RANGE]
            better = acquire(state, static, b, k, scan)
            if better < 0 and chase < 0 and hurt and may_move:
                # Out of sight of its scan, but it shoots: go for the attacker.
                attacker = ii[b, i, st.I_ATTACKER]
                if attacker >= 0 and not lost(state, b, i, attacker, ii[b, i, st.I_ATTACKER_TAG]):
                    better = attacker
            if better < 0 or better == chase:
                break
            chase = better
            ii[b, i, st.I_TARGET] = chase
            ii[b, i, st.I_TARGET_TAG] = ii[b, chase, st.I_TAG]
        if chase >= 0 and watchful and not in_range and windup <= ZERO:
            beyond = d - reach + wf[kind, w, st.WF_RANGE] - kf[kind, st.K_SCAN_RANGE] > CHASE_SLACK
            if chase == ii[b, i, st.I_ATTACKER] and loop - ii[b, i, st.I_HURT_LOOP] < GRUDGE:
                beyond = False
            if order == st.ORDER_STOP:
                hx, hy = x - f[b, i, st.F_HOME_X], y - f[b, i, st.F_HOME_Y]
                beyond = beyond or hx * hx + hy * hy > LEASH * LEASH
            if beyond or not may_move:
                chase = -1
                ii[b, i, st.I_TARGET] = -1
            elif order == st.ORDER_STOP:
                ii[b, i, st.I_FLAGS] |= st.FLAG_RETURNING
        if order == st.ORDER_ATTACK and chase >= 0 and target != chase:
            ii[b, i, st.I_TARGET] = chase
            ii[b, i, st.I_TARGET_TAG] = ii[b, chase, st.I_TAG]

        # The attack: windup, damage point, cooldown.
        anchored = False
        if chase >= 0:
            moving_fire = wi[kind, w, st.WI_FIRES_MOVING] != 0
            fires = False
            if windup > ZERO:
                windup -= rate
                fires = windup <= ZERO
                anchored = not moving_fire
                turn(state, static, b, i, flags, dx / max(d, ARRIVED), dy / max(d, ARRIVED))
            elif in_range:
                ux, uy = dx / max(d, ARRIVED), dy / max(d, ARRIVED)
                anchored = not moving_fire
                faces = wi[kind, w, st.WI_TURRET] != 0 or moving_fire
                if not faces:
                    turn(state, static, b, i, flags, ux, uy)
                    faces = f[b, i, st.F_FACING_X] * ux + f[b, i, st.F_FACING_Y] * uy >= FACING_SLACK
                if cooldown <= ZERO and faces:
                    windup = wf[kind, w, st.WF_DAMAGE_POINT]
                    fires = windup <= ZERO
                    ii[b, i, st.I_WEAPON] = w
            if fires:
                windup = ZERO
                if state.w[b, st.W_SHOTS] < state.shot_i.shape[1]:
                    launch(state, static, b, i, kind, ii[b, i, st.I_WEAPON], chase)
                    spent = np.ceil(wf[kind, w, st.WF_DAMAGE_POINT] / rate) * rate
                    f[b, i, st.F_COOLDOWN] = wf[kind, w, st.WF_COOLDOWN] - spent
            f[b, i, st.F_WINDUP] = windup
            if not anchored and not in_range and may_move:
                going, gx, gy, near = True, x + dx, y + dy, max(reach - CLOSE, ZERO)
            elif anchored:
                going = False
        elif windup > ZERO:
            f[b, i, st.F_WINDUP] = ZERO

        # Healing.
        if kf[kind, st.K_HEAL_RATE] > ZERO:
            if watchful:
                ward = ii[b, i, st.I_TARGET]
                if ward >= 0 and not can_heal(state, static, b, i, ward):
                    ward = -1
                if ward < 0 and (loop + ii[b, i, st.I_PHASE]) % SCAN_PERIOD == 0:
                    ward = acquire_wounded(state, static, b, k)
                ii[b, i, st.I_TARGET] = ward
                if ward >= 0:
                    ii[b, i, st.I_TARGET_TAG] = ii[b, ward, st.I_TAG]
            if ward >= 0:
                dx, dy = f[b, ward, st.F_X] - x, f[b, ward, st.F_Y] - y
                reach = kf[kind, st.K_HEAL_RANGE] + near_f[b, st.N_RADIUS, k] + f[b, ward, st.F_RADIUS]
                d = np.sqrt(dx * dx + dy * dy)
                if d <= reach:
                    going = False
                    missing = f[b, ward, st.F_HEALTH_MAX] - f[b, ward, st.F_HEALTH]
                    cost = kf[kind, st.K_HEAL_COST]
                    given = min(min(kf[kind, st.K_HEAL_RATE], missing), f[b, i, st.F_ENERGY] / cost)
                    f[b, ward, st.F_HEALTH] = min(f[b, ward, st.F_HEALTH] + given, f[b, ward, st.F_HEALTH_MAX])
                    f[b, i, st.F_ENERGY] = max(f[b, i, st.F_ENERGY] - given * cost, ZERO)
                    ii[b, i, st.I_SHOT_LOOP] = loop
                    ii[b, i, st.I_SHOT_TARGET] = ward
                    turn(state, static, b, i, flags, dx / max(d, ARRIVED), dy / max(d, ARRIVED))
                elif may_move:
                    going, gx, gy, near = True, x + dx, y + dy, max(reach - CLOSE, ZERO)

        # The displacement.
        if anchored or (order == st.ORDER_HOLD and not going) or speed <= ZERO:
            f[b, i, st.F_SPEED] = ZERO
            going = False
        elif near_i[b, st.NI_MOBILITY, k] != TELEPORT:
            near_i[b, st.NI_MOBILITY, k] = IDLE
        acceleration = kf[kind, st.K_ACCELERATION]
        if flags & st.FLAG_OBEDIENT:
            acceleration = ZERO
        if going:
            dx, dy = gx - x, gy - y
            d = np.sqrt(dx * dx + dy * dy)
            left = d - near
            if left <= ARRIVED:
                going = False
                if chase < 0 and ward < 0:
                    if order == st.ORDER_PATROL:
                        f[b, i, st.F_ORDER_X], f[b, i, st.F_HOME_X] = f[b, i, st.F_HOME_X], f[b, i, st.F_ORDER_X]
                        f[b, i, st.F_ORDER_Y], f[b, i, st.F_HOME_Y] = f[b, i, st.F_HOME_Y], f[b, i, st.F_ORDER_Y]
                    elif order == st.ORDER_STOP:
                        ii[b, i, st.I_FLAGS] &= ~st.FLAG_RETURNING
                    elif order != st.ORDER_MOVE or near <= ZERO:
                        done = True
        if going:
            if obstacles and flags & (st.FLAG_FLYING | st.FLAG_COLOSSUS) == 0:
                cell = int(gy) * static.pathable.shape[1] + int(gx)
                wx, wy = f[b, i, st.F_WAY_X] - x, f[b, i, st.F_WAY_Y] - y
                if (
                    ii[b, i, st.I_CELL] != cell
                    or (loop + ii[b, i, st.I_PHASE]) % PATH_PERIOD == 0
                    or wx * wx + wy * wy < speed * speed
                ):
                    way_point(state, static, b, i, gx, gy)
                    ii[b, i, st.I_CELL] = cell
                wx, wy = f[b, i, st.F_WAY_X], f[b, i, st.F_WAY_Y]
                if wx != gx or wy != gy:
                    dx, dy = wx - x, wy - y
                    d = max(np.sqrt(dx * dx + dy * dy), ARRIVED)
                    left = d
            ux, uy = dx / d, dy / d
            turn(state, static, b, i, flags, ux, uy)
            fx, fy = f[b, i, st.F_FACING_X], f[b, i, st.F_FACING_Y]
            along = fx * ux + fy * uy
            if acceleration > ZERO:
                speed = min(speed, f[b, i, st.F_SPEED] + acceleration)
                speed = min(speed, np.sqrt(np.float32(2.0) * acceleration * left))
                f[b, i, st.F_SPEED] = speed
            step = min(speed, left)
            if along < TURN_FIRST:
                step = ZERO
            near_f[b, st.N_VX, k] = step * fx
            near_f[b, st.N_VY, k] = step * fy
            near_i[b, st.NI_MOBILITY, k] = MOVING
        elif acceleration > ZERO and f[b, i, st.F_SPEED] > ZERO:
            speed = max(f[b, i, st.F_SPEED] - acceleration, ZERO)
            f[b, i, st.F_SPEED] = speed
            near_f[b, st.N_VX, k] = speed * f[b, i, st.F_FACING_X]
            near_f[b, st.N_VY, k] = speed * f[b, i, st.F_FACING_Y]
        if done:
            next_order(state, b, i)
