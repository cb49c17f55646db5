"""What the engine's arrays hold: names of their columns, and the tuples `Static` and `State` of arrays.

A battle ("world") `b` of a batch of `B` holds `N` unit slots. A unit is one row of `State.uf` `[B, N, FLOAT_ROW]` and
one of `State.ui` `[B, N, INT_ROW]`. These are four cache lines in all: a kernel that looks at a unit touches no others.
`state.uf[b, i, F_X]` is the x of unit `i`. From Python, `state.f[:, F_X]` is the `[B, N]` view of it.

Prefixes say which array a name indexes. Of units: `F_` floats, `I_` integers. Of worlds: `W_` (`State.w`). Of the
tables in `Static`: `K_` and `KI_` unit kinds, `WF_` and `WI_` weapons.

A *kind* is a row of the tables in `Static`: a unit type with the scenario's overrides. `Static.kind_i[k, KI_UNIT_TYPE]`
is the game's own unit type id. Positions are in world units, time is in game loops (16 loops = one "Normal" second).

Players are 1..players, NEUTRAL is 16. Slots are reused after a death; tags are not. `alive` lists the slots in use:
`for n in range(state.w[b, W_ALIVE]): i = state.alive[b, n]`, in the order of the slots.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NEUTRAL = 16
MAX_OWNERS = 17
MAX_PLAYERS = 15
QUEUE = 8
MAX_WEAPONS = 4
LOOPS_PER_SECOND = 16

# --- float fields of a unit: state.uf[b, F_*, i] ---------------------------------------------------------------------
(
    F_X,
    F_Y,
    F_Z,
    F_FACING_X,  # the facing is a unit vector; `facing_angle` gives radians
    F_FACING_Y,
    F_RADIUS,
    F_HEALTH,
    F_HEALTH_MAX,
    F_SHIELD,
    F_SHIELD_MAX,
    F_ENERGY,
    F_ENERGY_MAX,
    F_COOLDOWN,  # loops until the next attack may begin
    F_WINDUP,  # loops until the damage point of the attack under way; 0 = none under way
    F_ORDER_X,  # target point of the current order
    F_ORDER_Y,
    F_HOME_X,  # where an idle unit returns to after a chase; the other end of a patrol
    F_HOME_Y,
    F_WAY_X,  # next way point on a map with obstacles
    F_WAY_Y,
    F_STIM,  # loops of Stimpack left
    F_BUSY,  # loops until a change of mode (siege, burrow) is complete
    F_BLINK_COOLDOWN,
    F_SPEED,  # its speed in the last loop, where the kind accelerates
    F_INNER,  # radius that it collides by
    F_REACH,  # of a quiet unit (quiet.py): how far its target may be, centre to centre
    F_NEAR,  # ... and how near its goal it wants to be
    F_PACE,  # share of its steps that a moving unit takes, less than 1 in a throng
    NUM_FLOATS,
) = range(29)
FLOAT_ROW = 32  # two cache lines

# --- integer fields of a unit: state.ui[b, I_*, i] -------------------------------------------------------------------
(
    I_ALIVE,  # 1 = slot in use
    I_TAG,  # unique and increasing within a world, from 1
    I_OWNER,
    I_KIND,
    I_FLAGS,  # FLAG_*
    I_ORDER,  # ORDER_*
    I_ORDER_TARGET,  # slot, -1 = none
    I_ORDER_TAG,  # tag that the slot had when the order was given
    I_QUEUED,  # orders waiting
    I_TARGET,  # what the unit is shooting at or chasing now: slot, -1 = none
    I_TARGET_TAG,
    I_WEAPON,  # weapon chosen for the target
    I_ATTACKER,  # slot of the last attacker, -1 = none
    I_ATTACKER_TAG,
    I_HURT_LOOP,  # loop of the last damage taken
    I_SHOT_LOOP,  # loop of the last attack or heal; what rendering draws
    I_SHOT_TARGET,
    I_VISIBLE,  # bit p set: player p sees the unit
    I_PHASE,  # spreads periodic work over the loops
    I_KILLS,
    I_CELL,  # goal cell that the way point was found for, -1 = none
    I_SPOTTER,  # slot of an enemy unit that saw this one last
    I_KEY,  # KEY_* of neighbours.py
    I_ACT,  # ACT_* of quiet.py: what a quiet unit does
    I_WAKE,  # loop up to which it needs no decision; 0 = none
    I_RANK,  # what units are sorted by where there are many: owner and grid cell, see `rank`
    NUM_INTS,
) = range(27)
INT_ROW = 32

FLAG_FLYING = 1
FLAG_STRUCTURE = 2
FLAG_BURROWED = 4
FLAG_CLOAKED = 8
FLAG_OBEDIENT = 16  # SMAC's controlled units: never acquire a target by themselves, turn and accelerate at once
FLAG_BIOLOGICAL = 32
FLAG_INVULNERABLE = 64  # beacons, mineral shards
FLAG_RETURNING = 128  # an idle unit on a chase, or on the way back from one
FLAG_DETECTOR = 256
FLAG_COLOSSUS = 512  # hit by air and ground weapons, walks over ground units and obstacles
FLAG_EXPLODED = 1024  # a Baneling that has gone off
FLAG_AROUND = 2048  # going around what stands in its way
FLAG_LEFT = 4096  # ... to the left of it
FLAG_PASSING = 8192  # a worker at work: collides with nobody
FLAG_GUARDED = 16384  # under a Guardian Shield: direct hits of ranged weapons do less

# --- orders ---------------------------------------------------------------------------------------------------------
(
    ORDER_STOP,
    ORDER_HOLD,
    ORDER_MOVE,  # point, or unit when a target is given (follow)
    ORDER_ATTACK_MOVE,  # point; a Medivac heals on the way
    ORDER_ATTACK,  # unit
    ORDER_PATROL,  # point
    ORDER_HEAL,  # unit
    ORDER_STIM,  # at once, keeps the current order
    ORDER_BLINK,  # point
    ORDER_SIEGE,  # Siege mode, Assault mode, Burrow: the kind's `changes_to`
    # Of the economy (`envs.economy`). The battle only walks to their target point, and never ends them.
    ORDER_GATHER,  # unit: a mineral field or a gas building
    ORDER_RETURN,  # unit: a hall, or the nearest
    ORDER_BUILD,  # + kind; point, or unit: a geyser, or a building that is not finished
    NUM_ORDERS,
) = range(14)

# --- integers of a world: state.w[b, W_*] ---------------------------------------------------------------------------
(
    W_LOOP,
    W_NEXT_TAG,
    W_ALIVE,  # length of alive[b]
    W_SHOTS,  # projectiles under way
    W_SEED,
    W_COUNTER,  # draws made from the world's generator
    W_REVEAL,  # bit p set: player p sees everything
    W_STALE,  # 1: a unit has become another kind: places are to be listed again
    W_MANY,  # 1: its units are sorted by place
    W_WIDEST,  # largest inner radius in the battle, in 1/1024
    W_LARGEST,  # largest radius in the battle, in 1/1024
    W_FARTHEST,  # how far any of its units sees or detects, in 1/1024
    W_FASTEST,  # the longest way that any goes in a loop, in 1/1024
    W_START,  # place of its first unit
    W_PLACES,  # how many places it has: of units, some of which may have died since
    NUM_WORLD,
) = range(16)

# --- per owner: state.tally[b, owner, T_*] --------------------------------------------------------------------------
T_ALIVE, T_CREATED, T_LOST, NUM_TALLY = range(4)

# --- the units of a loop by place: near.f[N_*, k], near.i[NI_*, k], see neighbours.py --------------------------------
(
    N_X,  # when the loop began
    N_Y,
    N_RADIUS,
    N_INNER,
    N_SIGHT,
    N_PX,  # where it is to be before collisions
    N_PY,
    N_VX,
    N_VY,
    N_STEP,  # length of the step that a moving unit takes in the direction that it faces
    N_PACE,
    N_UX,  # that direction
    N_UY,
    N_PUSH_X,  # what others do to it, see `collisions.collide_lanes`
    N_PUSH_Y,
    N_WALL_X,
    N_WALL_Y,
    N_SIDE,
    N_WANTED_X,  # its step without the pushes
    N_WANTED_Y,
    N_ABOUT,  # how near another's edge must be to be met, and later to limit the step
    N_SHARE,  # the share of the step that others leave room for
    # At place k, of the k-th block of sixteen places: the rectangle around its units, and who owns them.
    N_BOX_X0,
    N_BOX_X1,
    N_BOX_Y0,
    N_BOX_Y1,
    NUM_NEAR_FLOATS,
) = range(27)
(
    NI_SLOT,
    NI_KEY,
    NI_MOBILITY,
    NI_HAND,  # FLAG_AROUND and FLAG_LEFT of a unit that moves, and HAND_TURN
    NI_MET,  # of a unit that moves: others are near, or it has arrived among them (movement.py)
    NI_TARGET,  # slot of its target
    NI_NUMBER,  # its number among the units that it is compared with
    NI_SEEN,  # whose units see it, see `lookup.see_lanes`
    NI_GROUP,  # units of one number collide
    NI_WORLD,  # the world that it is in
    NI_LOOP,  # the loop of that world, before `quiet.begin_loop` the one before
    NI_ROW,  # where its row of `uf` and `ui` begins
    NI_KIND_ROW,  # where the row of its kind begins in `kind_f`
    NI_FLAGS,
    NI_ACT,
    NI_BOX_OWNERS,
    NUM_NEAR_INTS,
) = range(17)
# NI_MOBILITY of a unit in a loop. One that rests is idle, and has no order.
ANCHORED, IDLE, RESTING, MOVING, TELEPORT = range(5)
HAND_TURN = 1  # the unit's turn to go around to the left
OWNERS = (1 << MAX_OWNERS) - 1  # the bits of NI_KEY that say whose the unit is
LANES = 16  # places that one vector operation looks at; the arrays are that much longer than the units
FEW_UNITS = 64  # up to here units are listed in the order of their slots, more are sorted by place
FINEST, MOST_CELLS = 4, 1024  # the grid that they are sorted by: smallest size of a cell, most cells of all owners

# --- projectiles: state.shot_i[b, n, S_*], state.shot_f[b, n, SF_*] -------------------------------------------------
(
    S_SOURCE,  # slot and tag of who fired
    S_SOURCE_TAG,
    S_TARGET,  # slot, -1 = the place
    S_TARGET_TAG,
    S_KIND,  # kind and owner of who fired
    S_OWNER,
    S_WEAPON,
    S_LEFT,  # loops to the impact; 0 = this loop
    S_FLIGHT,  # loops from launch to impact
    NUM_SHOT_INTS,
) = range(10)
SF_X, SF_Y, NUM_SHOT_FLOATS = range(3)  # where it was fired

# --- unit kinds: static.kind_f[k, K_*], static.kind_i[k, KI_*] ------------------------------------------------------
(
    K_HEALTH,
    K_SHIELD,
    K_ENERGY,
    K_ENERGY_START,
    K_ARMOR,
    K_SHIELD_ARMOR,
    K_RADIUS,
    K_INNER_RADIUS,
    K_SPEED,  # world units a loop
    K_ACCELERATION,  # a loop per loop; 0 = at once
    K_TURN_COS,  # of the largest turn in one loop
    K_TURN_SIN,
    K_SIGHT,
    K_DETECTION,
    K_HEALTH_REGEN,  # a loop
    K_HEALTH_REGEN_DELAY,  # loops since the last damage
    K_SHIELD_REGEN,
    K_SHIELD_REGEN_DELAY,
    K_ENERGY_REGEN,
    K_HEAL_RATE,  # health a loop; 0 = does not heal
    K_HEAL_COST,  # energy per health
    K_HEAL_RANGE,
    K_SCAN_RANGE,  # how far it looks for targets, edge to edge
    K_STIM_COST,  # health; 0 = no Stimpack
    K_STIM_TIME,  # loops
    K_STIM_FACTOR,  # of speed and rate of fire
    K_BLINK_RANGE,  # 0 = no Blink
    K_BLINK_COOLDOWN,
    K_CHANGE_TIME,  # loops that `changes_to` takes
    K_HEIGHT,  # above the ground
    NUM_KIND_FLOATS,
) = range(31)
(
    KI_UNIT_TYPE,
    KI_FLAGS,
    KI_ATTRIBUTES,  # bits of ATTRIBUTES
    KI_PRIORITY,
    KI_WEAPONS,  # how many
    KI_CHANGES_TO,  # kind, -1 = none
    KI_REGENERATES,  # 1: any of the regenerations
    KI_TARGETS,  # planes that its weapons reach: TARGET_GROUND | TARGET_AIR
    KI_EXPLODES,  # 1: dies by its own attack and goes off when killed
    NUM_KIND_INTS,
) = range(10)
ATTRIBUTES = (
    "light",
    "armored",
    "biological",
    "mechanical",
    "robotic",
    "psionic",
    "massive",
    "structure",
    "hover",
    "heroic",
    "summoned",
)

# --- weapons: static.weapon_f[k, weapon, WF_*], static.weapon_i[k, weapon, WI_*]; damage in static.damage -----------
(
    WF_RANGE,  # edge to edge
    WF_COOLDOWN,  # loops from the start of one attack to the next
    WF_DAMAGE_POINT,  # loops
    WF_PROJECTILE_SPEED,  # world units a loop; 0 = instant
    WF_SPLASH_1,  # radii and the fractions of the damage inside them
    WF_SPLASH_2,
    WF_SPLASH_3,
    WF_FRACTION_1,
    WF_FRACTION_2,
    WF_FRACTION_3,
    WF_LINE_LENGTH,  # line splash: length (across: to each side) and half width
    WF_LINE_WIDTH,
    WF_ARC_COS,  # cone splash: cosine of half the arc
    WF_BOUNCE_RANGE,
    WF_BOUNCE_FRACTION,
    WF_MIN_RANGE,
    NUM_WEAPON_FLOATS,
) = range(17)
(
    WI_TARGETS,  # TARGET_GROUND | TARGET_AIR
    WI_ATTACKS,  # hits per attack
    WI_SPLASH,  # SPLASH_*
    WI_FRIENDLY_FIRE,
    WI_SUICIDE,
    WI_BOUNCES,
    WI_MELEE,
    WI_TURRET,  # 1: fires without turning to the target
    WI_FIRES_MOVING,
    NUM_WEAPON_INTS,
) = range(10)
TARGET_GROUND, TARGET_AIR = 1, 2
(
    SPLASH_NONE,
    SPLASH_CIRCLE,  # around the target
    SPLASH_BURST,  # around the attacker
    SPLASH_CONE,  # in front of the attacker
    SPLASH_LINE,  # from the attacker through the target
    SPLASH_ACROSS,  # through the target, across the line of fire
) = range(6)

# --- options of a rule set: static.options[O_*] ---------------------------------------------------------------------
O_PLAYERS, O_FOG, O_OBSTACLES, O_HIGH_GROUND, O_TERRAIN, NUM_OPTIONS = range(6)


class Static(NamedTuple):
    """What does not change during a battle: kinds, weapons and the map. Shared by all worlds of a batch."""

    kind_f: np.ndarray  # float32 [T, NUM_KIND_FLOATS]
    kind_i: np.ndarray  # int32 [T, NUM_KIND_INTS]
    weapon_f: np.ndarray  # float32 [T, MAX_WEAPONS, NUM_WEAPON_FLOATS]
    weapon_i: np.ndarray  # int32 [T, MAX_WEAPONS, NUM_WEAPON_INTS]
    damage: np.ndarray  # float32 [T, MAX_WEAPONS, T]: damage of a hit before armor, bonus by attribute included
    enemies: np.ndarray  # int32 [MAX_OWNERS]: bit q set: owner q is an enemy
    options: np.ndarray  # int32 [NUM_OPTIONS]
    bounds: np.ndarray  # float32 [4]: playable x0, y0, x1, y1
    pathable: np.ndarray  # uint8 [height, width]; cell (y, x) covers [x, x + 1) x [y, y + 1)
    terrain: np.ndarray  # float32 [height, width]


class State(NamedTuple):
    """Everything that changes during the battles. Use `new_state`."""

    uf: np.ndarray  # float32 [B, N, FLOAT_ROW]
    ui: np.ndarray  # int32 [B, N, INT_ROW]
    w: np.ndarray  # int64 [B, NUM_WORLD]
    alive: np.ndarray  # int32 [B, N]: the first w[b, W_ALIVE] are the slots in use, increasing
    tally: np.ndarray  # int32 [B, MAX_OWNERS, NUM_TALLY]
    queue_i: np.ndarray  # int32 [B, N, QUEUE, 3]: order, target slot, target tag
    queue_f: np.ndarray  # float32 [B, N, QUEUE, 2]: target point
    shot_i: np.ndarray  # int32 [B, M, NUM_SHOT_INTS]
    shot_f: np.ndarray  # float32 [B, M, NUM_SHOT_FLOATS]
    near_f: np.ndarray  # float32 [B, NUM_NEAR_FLOATS, M]: memory for the units of a loop by place (neighbours.py)
    near_i: np.ndarray  # int32 [B, NUM_NEAR_INTS, M]
    cells: np.ndarray  # int32 [B, cells + 1]: work space of sorting units
    fields: np.ndarray  # uint8 [B, slots, height * width]: flow fields of maps with obstacles
    field_goal: np.ndarray  # int32 [B, slots + 1]: goal cell of each flow field, then the slot to replace next
    search: np.ndarray  # int32 [B, 2, height * width]: work space of the search for a flow field

    @property
    def f(self) -> np.ndarray:
        """The float fields by name, a view: `state.f[b, F_X, i]`, or `state.f[:, F_X]` for `[B, N]`."""
        return self.uf[:, :, :NUM_FLOATS].transpose(0, 2, 1)

    @property
    def i(self) -> np.ndarray:
        """The integer fields by name, a view: `state.i[b, I_TAG, i]`, or `state.i[:, I_TAG]` for `[B, N]`."""
        return self.ui[:, :, :NUM_INTS].transpose(0, 2, 1)
