"""The state of many StarCraft II-like battles in a few arrays, and the tables that rule them.

Layout. A battle ("world") `b` of a batch of `B` holds `N` unit slots. A unit is one row of `State.uf`
`[B, N, FLOAT_ROW]` and one of `State.ui` `[B, N, INT_ROW]`, four cache lines in all, so that a kernel that looks at a
unit touches no others. `state.uf[b, i, F_X]` is the x of unit `i`; from Python `state.f[:, F_X]` is the `[B, N]` view
of it. Names that start with `F_` index float rows, `I_` integer rows, `W_` index `w`; `K_`/`KI_` index the tables of
unit kinds, `WF_`/`WI_` those of weapons.

A *kind* is a row of the tables in `Static`: a unit type with the scenario's overrides; `Static.kind_i[k, KI_UNIT_TYPE]`
is the game's own unit type id. Positions are in world units, time in game loops (16 loops = one "Normal" second).

Use, from Python or from any `@njit` function:

    rules = envs.scenarios.units.Rules(["Marine", "Zealot"], map_spec=MapSpec(32, 32), players=2)
    state = new_state(rules.static, num_worlds=1024, max_units=6, seed=0)
    for b in range(1024):                                         # in practice inside `@njit(parallel=True)`, prange(B)
        reset_world(state, b, seed)                               # empty world, loop 0, RNG key = seed
        i = create_unit(state, rules.static, b, rules.kind["Marine"], owner=1, x=9.0, y=16.0)   # slot, -1 when full
        issue_order(state, rules.static, b, i, ORDER_ATTACK_MOVE, -1, 23.0, 16.0, False)
        advance_world(state, rules.static, b, 8)                  # envs.engine.step

Orders, kinds, clocks and flags of a unit are changed by these functions, or by code that sets `I_WAKE` of the unit to
0: a unit with nothing to decide (quiet.py) would not notice. Places, health, shields and energy may be written.

Players are 1..players, NEUTRAL is 16. Slots are reused after a death; the tag is not. `alive` lists the slots in use:
`for n in range(state.w[b, W_ALIVE]): i = state.alive[b, n]`, in the order of the slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit

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
    F_SPEED,  # of the last loop, where the kind accelerates
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
    # Led by the economy (`envs.economy.economy`); the battle walks them only, to the target point, and never ends them.
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
    N_PUSH_X,  # what others do to it, see `lanes.collide_lanes`
    N_PUSH_Y,
    N_WALL_X,
    N_WALL_Y,
    N_SIDE,
    N_WANTED_X,  # its step without the pushes
    N_WANTED_Y,
    N_ABOUT,  # how near another's edge must be to be met, later to limit the step
    N_SHARE,  # of the step, what others leave room for
    # Of blocks of sixteen places: at place k the rectangle around the units of the k-th block, and whose they are.
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
    NI_NUMBER,  # which it is of those that it is compared with
    NI_SEEN,  # whose units see it, see `lanes.see_lanes`
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
HAND_TURN = 1  # the unit's turn to go around to the left
LANES = 16  # places that one vector operation looks at; the arrays are that much longer than the units
FEW_UNITS = 64  # up to here units are listed in the order of their slots, more are sorted by place
FINEST, MOST_CELLS = 4, 1024  # of the grid that they are sorted by: size of a cell at least, cells of all owners

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


@dataclass(frozen=True, kw_only=True)
class MapSpec:
    """A map: size in cells of one world unit, what ground units cannot cross, and terrain height.

    `pathable` [height, width] bool (None: all), `terrain` [height, width] float (None: flat). `bounds` (x0, y0, x1, y1)
    is the playable rectangle that no unit leaves (None: the whole map). `high_ground`: a unit does not see ground
    units more than one unit of height above it unless a flyer of its side does.
    """

    width: int = 32
    height: int = 32
    pathable: np.ndarray | None = None
    terrain: np.ndarray | None = None
    bounds: tuple[float, float, float, float] | None = None
    fog: bool = True
    high_ground: bool = False

    def __post_init__(self) -> None:
        if not (4 <= self.width <= 256 and 4 <= self.height <= 256):
            raise ValueError(f"map size {self.width} x {self.height} must lie between 4 and 256 cells a side")
        for name in ("pathable", "terrain"):
            grid = getattr(self, name)
            if grid is not None and np.shape(grid) != (self.height, self.width):
                raise ValueError(
                    f"{name} has shape {np.shape(grid)}, expected (height, width) = {(self.height, self.width)}"
                )
        if self.bounds is not None:
            x0, y0, x1, y1 = self.bounds
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                raise ValueError(f"bounds {self.bounds} must lie inside the map of {self.width} x {self.height}")


FIELD_SLOTS = 8
CACHE_LINE = 64  # bytes


def aligned_zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros that begin on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = np.zeros(size + CACHE_LINE, np.uint8)
    start = -block.ctypes.data % CACHE_LINE
    return block[start : start + size].view(dtype).reshape(shape)


def new_state(static: Static, num_worlds: int, max_units: int, seed: int = 0) -> State:
    """Empty worlds; world `b` gets the generator key `seed + b` until `reset_world` gives it another."""
    if num_worlds < 1:
        raise ValueError(f"num_worlds is {num_worlds}, expected at least 1")
    if not 1 <= max_units <= 1024:
        raise ValueError(f"max_units is {max_units}, expected 1 to 1024 unit slots")
    b, n = num_worlds, max_units
    if b * n * INT_ROW >= 2**31:
        raise ValueError(
            f"{b} worlds of {n} units are more than one state holds: expected below {2**31 // INT_ROW} units"
        )
    # Whole blocks, and sixteen places more that an operation may reach into. Where units are many, room for copies too.
    many = n > FEW_UNITS
    places = ((n + LANES - 1) // LANES * LANES + LANES) * (2 if many else 1)
    height, width = static.pathable.shape
    slots = FIELD_SLOTS if static.options[O_OBSTACLES] else 0
    state = State(
        uf=aligned_zeros((b, n, FLOAT_ROW), np.float32),
        ui=aligned_zeros((b, n, INT_ROW), np.int32),
        w=np.zeros((b, NUM_WORLD), np.int64),
        alive=np.zeros((b, n), np.int32),
        tally=np.zeros((b, MAX_OWNERS, NUM_TALLY), np.int32),
        queue_i=np.zeros((b, n, QUEUE, 3), np.int32),
        queue_f=np.zeros((b, n, QUEUE, 2), np.float32),
        shot_i=np.zeros((b, 3 * n, NUM_SHOT_INTS), np.int32),
        shot_f=np.zeros((b, 3 * n, NUM_SHOT_FLOATS), np.float32),
        near_f=aligned_zeros((b, NUM_NEAR_FLOATS, places), np.float32),
        near_i=aligned_zeros((b, NUM_NEAR_INTS, places), np.int32),
        cells=np.zeros((b, MOST_CELLS + 1 if many else 0), np.int32),
        fields=np.zeros((b, slots, height * width if slots else 0), np.uint8),
        field_goal=np.full((b, slots + 1), -1, np.int32),
        search=np.zeros((b, 2, height * width if slots else 0), np.int32),
    )
    for world in range(b):
        reset_world(state, world, seed + world)
    return state


# Every kernel: no GIL, errors as in NumPy (a division by zero is inf, not a branch). The arrays outlive the call, so no
# references are counted: the atomic increments would cost more than the battle.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
kernel: Callable[..., Any] = njit(cache=True, **_OPTIONS)
# The parts of a loop or of a phase are merged into it by LLVM: a call would pass the fields of every array on the
# stack. Merging in Numba's own representation (`inline="always"`) gives the same speed, but copies the part once for
# each of its blocks.
inline_kernel: Callable[..., Any] = njit(forceinline=True, **_OPTIONS)


@kernel
def reset_world(state, b, seed):
    """Empties world `b`, sets its loop to 0 and the key of its generator to `seed`."""
    state.ui[b, :, :] = 0
    state.uf[b, :, :] = 0.0
    state.w[b, :] = 0
    state.w[b, W_NEXT_TAG] = 1
    state.w[b, W_SEED] = seed
    state.tally[b, :, :] = 0
    state.field_goal[b, :] = -1


@kernel
def random_uniform(state, b):
    """A float64 in [0, 1) from the world's own counter-based generator (SplitMix64 of key and counter)."""
    counter = state.w[b, W_COUNTER]
    state.w[b, W_COUNTER] = counter + 1
    z = np.uint64(state.w[b, W_SEED]) * np.uint64(0xD1342543DE82EF95) + np.uint64(counter + 1) * np.uint64(
        0x9E3779B97F4A7C15
    )
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


# Coefficients of q, q^3, ... in the arc tangent of q, 0 <= q <= 1 (Abramowitz and Stegun 1964, 4.4.49: to 2e-8).
_ARC_TANGENT = tuple(
    np.float32(c)
    for c in (
        0.9999993329,
        -0.3332985605,
        0.1994653599,
        -0.1390853351,
        0.0964200441,
        -0.0559098861,
        0.0218612288,
        -0.0040540580,
    )
)


@inline_kernel
def facing_angle(x, y):
    """Angle of the direction (x, y), both float32, in radians: -pi to pi, 0 = east, counter-clockwise.

    To 3e-7, about as near as a float32 can be. The library's arc tangent took longer than all else that is observed of
    a unit.
    """
    wide, narrow = max(abs(x), abs(y)), min(abs(x), abs(y))
    q = narrow / wide if wide > 0.0 else np.float32(0.0)
    square, angle = q * q, np.float32(0.0)
    for n in range(len(_ARC_TANGENT) - 1, -1, -1):
        angle = angle * square + _ARC_TANGENT[n]
    angle *= q
    if abs(y) > abs(x):
        angle = np.float32(np.pi / 2) - angle
    if x < 0.0:
        angle = np.float32(np.pi) - angle
    return np.copysign(angle, y)


@kernel
def list_alive(state, b):
    """Rebuilds `alive[b]`, in the order of the slots."""
    n = 0
    for i in range(state.ui.shape[1]):
        if state.ui[b, i, I_ALIVE] != 0:
            state.alive[b, n] = i
            n += 1
    state.w[b, W_ALIVE] = n


@inline_kernel
def rank_grid(static):
    """Cell size, columns and rows of the grid that units are ranked by, and for how many owners."""
    owners = static.options[O_PLAYERS] + 1
    size = FINEST
    while True:
        columns = (static.pathable.shape[1] + size - 1) // size
        rows = (static.pathable.shape[0] + size - 1) // size
        if columns * rows * owners <= MOST_CELLS:
            return size, columns, rows, owners
        size *= 2


@inline_kernel
def rank(grid, owner, x, y):
    """The number of the cell of (x, y) among those of all owners: these one after the other, neutral units last."""
    size, columns, rows, owners = grid
    scale = np.float32(1.0) / np.float32(size)
    return ((min(owner, owners) - 1) * rows + int(y * scale)) * columns + int(x * scale)


@kernel
def set_kind(state, static, b, i, kind):
    """Makes unit `i` one of `kind` (Siege mode and back); health, orders and place stay."""
    f = state.uf
    f[b, i, F_RADIUS] = static.kind_f[kind, K_RADIUS]
    f[b, i, F_HEALTH_MAX] = static.kind_f[kind, K_HEALTH]
    f[b, i, F_SHIELD_MAX] = static.kind_f[kind, K_SHIELD]
    f[b, i, F_ENERGY_MAX] = static.kind_f[kind, K_ENERGY]
    f[b, i, F_Z] = static.terrain[int(f[b, i, F_Y]), int(f[b, i, F_X])] + static.kind_f[kind, K_HEIGHT]
    state.ui[b, i, I_KIND] = kind
    state.ui[b, i, I_WAKE] = 0
    state.ui[b, i, I_FLAGS] = static.kind_i[kind, KI_FLAGS] | (state.ui[b, i, I_FLAGS] & FLAG_OBEDIENT)


@kernel
def create_unit_in(state, static, b, kind, owner, x, y, first, last):
    """A unit in the lowest free slot of [first, last): the slot, or -1 when all are taken. It is idle, faces south."""
    for i in range(first, last):
        if state.ui[b, i, I_ALIVE] == 0:
            state.ui[b, i, :] = 0
            state.uf[b, i, :] = 0.0
            x0, y0 = static.bounds[0], static.bounds[1]
            x1, y1 = static.bounds[2] - np.float32(1e-3), static.bounds[3] - np.float32(1e-3)
            state.uf[b, i, F_X] = min(max(np.float32(x), x0), x1)
            state.uf[b, i, F_Y] = min(max(np.float32(y), y0), y1)
            state.uf[b, i, F_HOME_X] = state.uf[b, i, F_X]
            state.uf[b, i, F_HOME_Y] = state.uf[b, i, F_Y]
            state.uf[b, i, F_FACING_Y] = -1.0
            state.uf[b, i, F_PACE] = 1.0
            set_kind(state, static, b, i, kind)
            state.uf[b, i, F_HEALTH] = static.kind_f[kind, K_HEALTH]
            state.uf[b, i, F_SHIELD] = static.kind_f[kind, K_SHIELD]
            state.uf[b, i, F_ENERGY] = static.kind_f[kind, K_ENERGY_START]
            state.ui[b, i, I_ALIVE] = 1
            state.ui[b, i, I_OWNER] = owner
            state.ui[b, i, I_TAG] = state.w[b, W_NEXT_TAG]
            state.w[b, W_NEXT_TAG] += 1
            state.ui[b, i, I_ORDER_TARGET] = -1
            state.ui[b, i, I_TARGET] = -1
            state.ui[b, i, I_ATTACKER] = -1
            state.ui[b, i, I_SHOT_TARGET] = -1
            state.ui[b, i, I_SHOT_LOOP] = -1000
            state.ui[b, i, I_HURT_LOOP] = -1000
            state.ui[b, i, I_CELL] = -1
            state.ui[b, i, I_SPOTTER] = -1
            state.ui[b, i, I_VISIBLE] = 1 << owner
            state.ui[b, i, I_RANK] = rank(rank_grid(static), owner, state.uf[b, i, F_X], state.uf[b, i, F_Y])
            # Phases count within an owner, so that mirrored armies work in step.
            state.ui[b, i, I_PHASE] = state.tally[b, owner, T_CREATED]
            state.tally[b, owner, T_CREATED] += 1
            state.tally[b, owner, T_ALIVE] += 1
            count = state.w[b, W_ALIVE]
            while count > 0 and state.alive[b, count - 1] > i:
                state.alive[b, count] = state.alive[b, count - 1]
                count -= 1
            state.alive[b, count] = i
            state.w[b, W_ALIVE] += 1
            return i
    return -1


@kernel
def create_unit(state, static, b, kind, owner, x, y):
    """`create_unit_in` over all slots."""
    return create_unit_in(state, static, b, kind, owner, x, y, 0, state.ui.shape[1])


@kernel
def kill_unit(state, b, i):
    """Removes unit `i` (dead or taken out of the game) and frees its slot; nothing happens if the slot is free."""
    if state.ui[b, i, I_ALIVE] != 0:
        owner = state.ui[b, i, I_OWNER]
        state.ui[b, i, I_ALIVE] = 0
        state.ui[b, i, I_VISIBLE] = 0
        state.uf[b, i, F_HEALTH] = 0.0
        state.uf[b, i, F_SHIELD] = 0.0
        state.tally[b, owner, T_ALIVE] -= 1
        state.tally[b, owner, T_LOST] += 1
        list_alive(state, b)


@kernel
def nearest_pathable(static, x, y):
    """(x, y) if its cell is pathable, else the centre of the pathable cell nearest to it."""
    height, width = static.pathable.shape
    cx, cy = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
    if static.pathable[cy, cx]:
        return np.float32(x), np.float32(y)
    best_x, best_y, best_d2 = np.float32(x), np.float32(y), np.float32(1e9)
    for ring in range(1, max(width, height)):
        if best_d2 < (ring - 1) * (ring - 1):
            break
        for r in range(max(cy - ring, 0), min(cy + ring, height - 1) + 1):
            for c in range(max(cx - ring, 0), min(cx + ring, width - 1) + 1):
                if max(abs(r - cy), abs(c - cx)) == ring and static.pathable[r, c]:
                    mx, my = np.float32(c) + np.float32(0.5), np.float32(r) + np.float32(0.5)
                    d2 = (mx - np.float32(x)) ** 2 + (my - np.float32(y)) ** 2
                    if d2 < best_d2:
                        best_x, best_y, best_d2 = mx, my, d2
    return best_x, best_y


@inline_kernel
def _set_order(state, b, i, order, target, tag, x, y):
    ii = state.ui
    ii[b, i, I_ORDER] = order
    ii[b, i, I_ORDER_TARGET] = target
    ii[b, i, I_ORDER_TAG] = tag
    state.uf[b, i, F_ORDER_X] = x
    state.uf[b, i, F_ORDER_Y] = y
    state.uf[b, i, F_HOME_X] = state.uf[b, i, F_X]
    state.uf[b, i, F_HOME_Y] = state.uf[b, i, F_Y]
    ii[b, i, I_CELL] = -1
    ii[b, i, I_WAKE] = 0
    ii[b, i, I_FLAGS] &= ~FLAG_RETURNING
    if order != ORDER_ATTACK or ii[b, i, I_TARGET] != target:
        # Before its damage point an attack is lost when the unit is told something else, and its cooldown not spent.
        state.uf[b, i, F_WINDUP] = 0.0
        ii[b, i, I_TARGET] = -1


@inline_kernel
def issue_order(state, static, b, i, order, target, x, y, queued):
    """Gives unit `i` an order: `target` a slot or -1, (`x`, `y`) a point; `queued` appends it to the orders in hand.

    Returns True when the unit took it: the target exists, the kind can do it, the queue has room. The same order again
    changes nothing (an attack under way goes on).
    """
    ii = state.ui
    if ii[b, i, I_ALIVE] == 0 or order < 0 or order >= ORDER_BUILD + static.kind_i.shape[0]:
        return False
    tag = 0
    if target >= 0:
        if target >= ii.shape[1] or ii[b, target, I_ALIVE] == 0 or target == i:
            return False
        tag = ii[b, target, I_TAG]
    elif order in (ORDER_ATTACK, ORDER_HEAL, ORDER_GATHER):
        return False
    kind = ii[b, i, I_KIND]
    if order == ORDER_ATTACK and static.kind_i[kind, KI_WEAPONS] == 0:
        return False
    if order == ORDER_HEAL and static.kind_f[kind, K_HEAL_RATE] <= 0.0:
        return False
    if order == ORDER_BLINK and static.kind_f[kind, K_BLINK_RANGE] <= 0.0:
        return False
    if order == ORDER_SIEGE and static.kind_i[kind, KI_CHANGES_TO] < 0:
        return False
    if order >= ORDER_MOVE and order <= ORDER_PATROL and order != ORDER_ATTACK and static.kind_f[kind, K_SPEED] <= 0.0:
        return False
    if order == ORDER_STIM:
        cost = static.kind_f[kind, K_STIM_COST]
        if cost <= 0.0 or state.uf[b, i, F_HEALTH] <= cost:
            return False
        state.uf[b, i, F_HEALTH] -= cost
        state.uf[b, i, F_STIM] = static.kind_f[kind, K_STIM_TIME]
        ii[b, i, I_WAKE] = 0
        return True
    px = min(max(np.float32(x), static.bounds[0]), static.bounds[2])
    py = min(max(np.float32(y), static.bounds[1]), static.bounds[3])
    if static.options[O_OBSTACLES] and ii[b, i, I_FLAGS] & (FLAG_FLYING | FLAG_COLOSSUS) == 0:
        px, py = nearest_pathable(static, px, py)
    if queued and (ii[b, i, I_ORDER] != ORDER_STOP or ii[b, i, I_QUEUED] > 0):
        n = ii[b, i, I_QUEUED]
        if n >= QUEUE:
            return False
        state.queue_i[b, i, n, 0] = order
        state.queue_i[b, i, n, 1] = target
        state.queue_i[b, i, n, 2] = tag
        state.queue_f[b, i, n, 0] = px
        state.queue_f[b, i, n, 1] = py
        ii[b, i, I_QUEUED] = n + 1
        return True
    ii[b, i, I_QUEUED] = 0
    same = ii[b, i, I_ORDER] == order and ii[b, i, I_ORDER_TARGET] == target and ii[b, i, I_ORDER_TAG] == tag
    if same and (target >= 0 or (state.uf[b, i, F_ORDER_X] == px and state.uf[b, i, F_ORDER_Y] == py)):
        return True
    _set_order(state, np.int64(b), np.int64(i), np.int64(order), np.int64(target), np.int64(tag), px, py)
    return True


@kernel
def next_order(state, b, i):
    """The order in hand is done: takes the next of the queue, or stands idle where the unit is."""
    ii = state.ui
    # The slot may be an int32; one type for all callers, because Numba compiles a kernel anew for every other.
    world, slot = np.int64(b), np.int64(i)
    n = ii[b, i, I_QUEUED]
    if n == 0:
        x, y = state.uf[b, i, F_X], state.uf[b, i, F_Y]
        _set_order(state, world, slot, np.int64(ORDER_STOP), np.int64(-1), np.int64(0), x, y)
        return
    q, qf = state.queue_i, state.queue_f
    order, target, tag = np.int64(q[b, i, 0, 0]), np.int64(q[b, i, 0, 1]), np.int64(q[b, i, 0, 2])
    _set_order(state, world, slot, order, target, tag, qf[b, i, 0, 0], qf[b, i, 0, 1])
    for k in range(1, n):
        for c in range(3):
            q[b, i, k - 1, c] = q[b, i, k, c]
        for c in range(2):
            qf[b, i, k - 1, c] = qf[b, i, k, c]
    ii[b, i, I_QUEUED] = n - 1
