"""The action vocabulary of every world: three views onto the same orders.

* ``"unit"``: one order and one target entity for each of the agent's `U` unit slots,
  ``{"order": [U] in K, "target": [U] in N}`` (default).
* ``"smac"``: one number per unit slot, as SMAC numbers them. 0 is no-op (dead units only), 1 stop, 2-5 move north,
  south, east, west. 6 + j attacks enemy j; a Medivac heals ally j.
* ``"function"``: one structured action for all units, as in AlphaStar: a function, its selection of units and its
  arguments.

Compass directions: north is +y, east is +x. A compass move goes `MOVE_AMOUNT` world units. As in SMAC, it is legal if
the place half-way is pathable. Masks are exact: what a mask allows is carried out, and all else is an illegal action.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOVE_AMOUNT = 2.0
COMPASS = ("north", "north_east", "east", "south_east", "south", "south_west", "west", "north_west")
_DIAGONAL = np.sqrt(0.5)
# Unit vectors [8, 2] of COMPASS.
DIRECTIONS = np.array(
    [
        (0, 1),
        (_DIAGONAL, _DIAGONAL),
        (1, 0),
        (_DIAGONAL, -_DIAGONAL),
        (0, -1),
        (-_DIAGONAL, -_DIAGONAL),
        (-1, 0),
        (-_DIAGONAL, _DIAGONAL),
    ],
    dtype=np.float32,
)

UNIT_ORDERS = (
    "no_op",  # goes on with what the unit does; the only legal order of a dead or absent unit
    "stop",
    "hold_position",
    *(f"move_{direction}" for direction in COMPASS),
    "move_to",
    "attack",
    "heal",
    "stim",
    "blink_north",
    "blink_east",
    "blink_south",
    "blink_west",
    "siege",
    "unsiege",
    "burrow",
    "unburrow",
)
NO_OP, STOP, HOLD_POSITION, MOVE_NORTH = 0, 1, 2, 3
MOVE_TO = UNIT_ORDERS.index("move_to")
ATTACK = UNIT_ORDERS.index("attack")
HEAL = UNIT_ORDERS.index("heal")
STIM = UNIT_ORDERS.index("stim")
BLINK_NORTH = UNIT_ORDERS.index("blink_north")
SIEGE = UNIT_ORDERS.index("siege")
UNSIEGE = UNIT_ORDERS.index("unsiege")
BURROW = UNIT_ORDERS.index("burrow")
UNBURROW = UNIT_ORDERS.index("unburrow")
NUM_ORDERS = len(UNIT_ORDERS)

# The classes of targets, the middle index of `target_mask` [U, 3, N].
TARGET_CLASSES = ("move_to", "attack", "heal")
# NumPy integers, because Numba would compile a kernel anew for every literal argument.
MOVE_TARGET, ATTACK_TARGET, HEAL_TARGET = np.int64(0), np.int64(1), np.int64(2)
ORDER_TARGET_CLASS = np.full(NUM_ORDERS, -1, dtype=np.int64)
ORDER_TARGET_CLASS[[MOVE_TO, ATTACK, HEAL]] = MOVE_TARGET, ATTACK_TARGET, HEAL_TARGET

# SMAC's view.
SMAC_NO_OP, SMAC_STOP, SMAC_MOVE_NORTH, SMAC_TARGETS = 0, 1, 2, 6
SMAC_MOVES = ("north", "south", "east", "west")
SMAC_MOVE_DIRECTIONS = np.array([COMPASS.index(direction) for direction in SMAC_MOVES], dtype=np.int64)
SMAC_SHOOT_RANGE = 6.0
SMAC_SIGHT_RANGE = 9.0


class Function(NamedTuple):
    """A function of the structured view and the arguments that it takes."""

    name: str
    takes_queued: bool
    takes_selection: bool
    takes_unit: bool
    takes_point: bool


FUNCTIONS = (
    Function("no_op", False, False, False, False),
    Function("Stop_quick", False, True, False, False),
    Function("HoldPosition_quick", False, True, False, False),
    Function("Move_pt", True, True, False, True),
    Function("Move_unit", True, True, True, False),
    Function("Attack_pt", True, True, False, True),
    Function("Attack_unit", True, True, True, False),
    Function("Patrol_pt", True, True, False, True),
    Function("Effect_Heal_unit", True, True, True, False),
    Function("Effect_Stim_quick", False, True, False, False),
    Function("Effect_Blink_pt", True, True, False, True),
    Function("Morph_SiegeMode_quick", False, True, False, False),
    Function("Morph_Unsiege_quick", False, True, False, False),
    Function("BurrowDown_quick", False, True, False, False),
    Function("BurrowUp_quick", False, True, False, False),
)
NUM_FUNCTIONS = len(FUNCTIONS)
# `target_point` is a cell of a grid of this many by this many over the map: cell = row * POINT_GRID + column.
POINT_GRID = 32

ACTION_VIEWS = ("unit", "smac", "function")
