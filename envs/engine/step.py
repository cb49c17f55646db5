"""`advance_world`: game loops of one world, in the order sort, see, decide, move, land projectiles, bury."""

from __future__ import annotations

from envs.engine import state as st
from envs.engine.damage import bury, land_projectiles
from envs.engine.decisions import decide
from envs.engine.movement import move_units
from envs.engine.neighbours import sort_by_cell
from envs.engine.state import kernel
from envs.engine.vision import update_vision

VISION_PERIOD = 4  # loops between two updates of who is seen


@kernel
def advance_world(state, static, b, loops):
    """Advances world `b` by `loops` game loops. Orders given before the call act from its first loop on.

    Compiled once; takes no lock and allocates nothing. What it does depends on world `b` alone.
    """
    for _ in range(loops):
        if state.w[b, st.W_LOOP] % VISION_PERIOD == 0:
            update_vision(state, static, b)
        sort_by_cell(state, static, b)
        decide(state, static, b)
        move_units(state, static, b)
        if state.w[b, st.W_SHOTS] > 0 and land_projectiles(state, static, b):
            bury(state, static, b)
        state.w[b, st.W_LOOP] += 1
