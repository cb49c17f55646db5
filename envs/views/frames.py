"""What a spectator sees: one moment of a world, as rendering draws it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.engine.state.compilation import kernel
from envs.engine.state.layout import (
    F_ENERGY,
    F_FACING_X,
    F_FACING_Y,
    F_HEALTH,
    F_SHIELD,
    F_X,
    F_Y,
    I_ALIVE,
    I_KIND,
    I_OWNER,
    I_SHOT_LOOP,
    I_SHOT_TARGET,
    I_TAG,
    I_VISIBLE,
    W_LOOP,
)

# Columns of `Frame.units`.
(
    T_TAG,
    T_OWNER,
    T_KIND,
    T_X,
    T_Y,
    T_FACING_X,
    T_FACING_Y,
    T_HEALTH,
    T_SHIELD,
    T_ENERGY,
    T_SHOT_TARGET,
    T_SHOT_AGE,
    T_VISIBLE,
    NUM_FRAME_COLUMNS,
) = range(14)


class Frame(NamedTuple):
    """One moment of a world. `units` [slots, NUM_FRAME_COLUMNS]; `loop` game loops; `score` as in the info."""

    units: np.ndarray
    loop: int
    score: float


@kernel
def write_frame(state, b, frame):
    """frame [slots, NUM_FRAME_COLUMNS] of world `b` for rendering; tag 0 = empty slot."""
    f, ii = state.uf, state.ui
    for i in range(frame.shape[0]):
        frame[i, :] = 0.0
        if ii[b, i, I_ALIVE] == 0:
            continue
        frame[i, T_TAG] = ii[b, i, I_TAG]
        frame[i, T_OWNER] = ii[b, i, I_OWNER]
        frame[i, T_KIND] = ii[b, i, I_KIND]
        frame[i, T_X], frame[i, T_Y] = f[b, i, F_X], f[b, i, F_Y]
        frame[i, T_FACING_X], frame[i, T_FACING_Y] = f[b, i, F_FACING_X], f[b, i, F_FACING_Y]
        frame[i, T_HEALTH], frame[i, T_SHIELD] = f[b, i, F_HEALTH], f[b, i, F_SHIELD]
        frame[i, T_ENERGY] = f[b, i, F_ENERGY]
        frame[i, T_SHOT_TARGET] = ii[b, i, I_SHOT_TARGET]
        frame[i, T_SHOT_AGE] = state.w[b, W_LOOP] - ii[b, i, I_SHOT_LOOP]
        frame[i, T_VISIBLE] = ii[b, i, I_VISIBLE]
