"""`advance_worlds`: game loops of some worlds, in the order list, see, decide, move, land projectiles, bury."""

from __future__ import annotations

import numpy as np

from envs.engine.damage import bury, land_projectiles
from envs.engine.decisions import decide
from envs.engine.movement import move_units
from envs.engine.neighbours import (
    begin_places,
    box_places,
    leave_dead,
    leave_places,
    list_again,
    list_places,
    near_units,
)
from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.vision import see_units

VISION_PERIOD = 4  # loops between two updates of who is seen
PACK = 32  # most units in worlds that share lanes
# Typed, because Numba would compile what is called with a literal anew for it: `loops` of a kernel that calls these.
ONE_LOOP = np.int64(1)


@kernel
def advance_worlds(state, static, first, last, loops):
    """Advances the worlds from `first` to `last - 1` by `loops` game loops. Orders given before act from the first on.

    Compiled once; takes no lock and allocates nothing. What happens in a world depends on that world alone, to the bit.
    Small worlds are led together only to fill the lanes of vector operations.
    """
    while first < last:
        end = first + 1
        if not led_alone(state, first):
            units = state.w[first, st.W_ALIVE]
            while end < last and not led_alone(state, end) and units + state.w[end, st.W_ALIVE] <= PACK:
                units += state.w[end, st.W_ALIVE]
                end += 1
        advance_pack(state, static, first, end, loops)
        first = end


@inline_kernel
def led_alone(state, b):
    """Whether world `b` shares its lanes with no other: it has many units, or may get many in this call."""
    return state.w[b, st.W_MANY] | (state.w[b, st.W_ALIVE] > st.FEW_UNITS)


@kernel
def advance_pack(state, static, first, last, loops):
    """`advance_worlds` of worlds that share the lanes of vector operations."""
    near = near_units(state, first, last)
    count = np.int64(0)
    for b in range(first, last):
        begin_places(state, static, b)
        # A world that does not find room in the lanes that are left begins with the next ones.
        left = -count & (st.LANES - 1)
        if state.w[b, st.W_ALIVE] > left:
            leave_places(near, b - 1, count, left)
            count += left
        state.w[b, st.W_START] = count
        list_places(state, static, near, b)
        count += state.w[b, st.W_PLACES]
    leave_places(near, last - 1, count, -count & (st.LANES - 1))
    for loop in range(loops):
        for b in range(first, last):
            if loop > 0:
                list_again(state, static, near, b)
        box_places(state, near, first, count)
        for b in range(first, last):
            if state.w[b, st.W_LOOP] % VISION_PERIOD == 0:
                see_units(state, static, near, b)
        decide(state, static, near, count)
        move_units(state, static, near, count)
        for b in range(first, last):
            if state.w[b, st.W_SHOTS] > 0 and land_projectiles(state, static, b):
                bury(state, static, b)
                leave_dead(state, near, b)
            state.w[b, st.W_LOOP] += 1


@kernel
def advance_world(state, static, b, loops):
    """`advance_worlds` of world `b` alone."""
    advance_pack(state, static, b, b + 1, loops)
