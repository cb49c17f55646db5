"""Worlds: their memory, an empty world, and each world's random numbers."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import kernel
from envs.engine.state.layout import (
    FEW_UNITS,
    FLOAT_ROW,
    INT_ROW,
    LANES,
    MAX_OWNERS,
    MOST_CELLS,
    NUM_NEAR_FLOATS,
    NUM_NEAR_INTS,
    NUM_SHOT_FLOATS,
    NUM_SHOT_INTS,
    NUM_TALLY,
    NUM_WORLD,
    O_OBSTACLES,
    QUEUE,
    W_COUNTER,
    W_NEXT_TAG,
    W_SEED,
    State,
    Static,
)

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
