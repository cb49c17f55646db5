"""`advance_world`: game loops of one world, in the order list, see, decide, move, land projectiles, bury."""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.damage import bury, land_projectiles
from envs.engine.decisions import decide
from envs.engine.movement import move_units
from envs.engine.neighbours import begin_places, list_places
from envs.engine.state import kernel
from envs.engine.vision import see_units

VISION_PERIOD = 4  # loops between two updates of who is seen
# `loops` of a kernel that calls `advance_world`: typed, because Numba would compile the engine anew for a literal.
ONE_LOOP = np.int64(1)


@kernel
def advance_world(state, static, b, loops):
    """Advances world `b` by `loops` game loops. Orders given before the call act from its first loop on.

    Compiled once; takes no lock and allocates nothing. What it does depends on world `b` alone.
    """
    begin_places(state, static, b)
    for _ in range(loops):
        list_places(state, static, b)
        if state.w[b, st.W_LOOP] % VISION_PERIOD == 0:
            see_units(state, static, b)
        decide(state, static, b)
        move_units(state, static, b)
        if state.w[b, st.W_SHOTS] > 0 and land_projectiles(state, static, b):
            bury(state, static, b)
        state.w[b, st.W_LOOP] += 1
