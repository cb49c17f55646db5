"""How an episode starts: fixed formations, SMACv2-style random teams, and the first units of the mini-games."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import kernel
from envs.engine.state.layout import (
    F_RADIUS,
    F_X,
    F_Y,
    FLAG_INVULNERABLE,
    FLAG_OBEDIENT,
    I_ALIVE,
    I_FLAGS,
    I_VISIBLE,
    K_INNER_RADIUS,
    K_RADIUS,
    NEUTRAL,
)
from envs.engine.state.units import create_unit_in
from envs.engine.state.worlds import random_uniform, reset_world
from envs.scenarios.compiled import (
    E_EPISODE,
    E_SEED,
    P_AGENTS,
    P_NEUTRAL_END,
    P_OBEDIENT,
    P_RANDOM_1,
    P_RANDOM_2,
    P_RANDOM_TEAMS,
    P_TEAM_1,
    P_TEAM_1_END,
)

# Engine owners of the two sides, typed so that Numba does not compile a kernel anew for each.
OWNERS = np.array([1, 2])


@kernel
def episode_key(seed, episode):
    """The generator key of an episode: a hash of the world's seed and the episode's number, so never of the batch."""
    z = np.uint64(seed) + np.uint64(episode + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(1))


@kernel
def uniform(state, b, low, high):
    return low + (high - low) * random_uniform(state, b)


@kernel
def is_free(state, static, b, kind, x, y):
    """The place is on the map, pathable, and no unit stands there."""
    radius = static.kind_f[kind, K_INNER_RADIUS]
    bounds = static.bounds
    if x < bounds[0] + radius or y < bounds[1] + radius or x > bounds[2] - radius or y > bounds[3] - radius:
        return False
    if static.pathable[np.int64(y), np.int64(x)] == 0:
        return False
    for i in range(state.ui.shape[1]):
        if state.ui[b, i, I_ALIVE] != 0:
            dx = state.uf[b, i, F_X] - x
            dy = state.uf[b, i, F_Y] - y
            gap = 0.8 * (state.uf[b, i, F_RADIUS] + static.kind_f[kind, K_RADIUS])
            if dx * dx + dy * dy < gap * gap:
                return False
    return True


@kernel
def place(state, static, compiled, b, kind, owner, x, y, first, last):
    """Creates a unit in the slots [first, last), with the flags of its side; its slot, or -1 when all are taken."""
    i = create_unit_in(
        state, static, b, np.int64(kind), np.int64(owner), np.float32(x), np.float32(y), np.int64(first), np.int64(last)
    )
    if i >= 0:
        if owner == NEUTRAL:
            state.ui[b, i, I_FLAGS] |= FLAG_INVULNERABLE
            # Both players see it from its first loop on; the engine's vision takes over from there.
            state.ui[b, i, I_VISIBLE] |= 2 | 4
        elif owner <= compiled.i[P_AGENTS] and compiled.i[P_OBEDIENT] != 0:
            state.ui[b, i, I_FLAGS] |= FLAG_OBEDIENT
    return i


@kernel
def _start_fixed(state, static, compiled, b):
    jitter = compiled.jitter[0]
    for slot in range(compiled.start_kind.shape[0]):
        kind = compiled.start_kind[slot]
        if kind >= 0:
            owner = np.int64(1 if slot < compiled.i[P_TEAM_1_END] else 2)
            x = compiled.start[slot, 0] + uniform(state, b, -jitter, jitter)
            y = compiled.start[slot, 1] + uniform(state, b, -jitter, jitter)
            place(state, static, compiled, b, kind, owner, x, y, slot, slot + 1)


@kernel
def _draw_type(state, compiled, b):
    u = random_uniform(state, b)
    for r in range(compiled.random_kind.shape[0] - 1):
        if u < compiled.random_weight[r]:
            return r
    return compiled.random_kind.shape[0] - 1


@kernel
def place_near(state, static, compiled, b, kind, owner, x, y, slot):
    """At (x, y) if that is free, else at the nearest of random places in growing circles."""
    px, py = x, y
    for attempt in range(200):
        if is_free(state, static, b, kind, px, py):
            break
        reach = 0.5 + 0.05 * attempt
        px = x + uniform(state, b, -reach, reach)
        py = y + uniform(state, b, -reach, reach)
    place(state, static, compiled, b, kind, owner, px, py, slot, slot + 1)


@kernel
def _start_random_teams(state, static, compiled, episode, b):
    """SMACv2: both teams get the same draw, the larger one more; starts surround or reflect."""
    n1, n2 = compiled.i[P_RANDOM_1], compiled.i[P_RANDOM_2]
    first_1, first_2 = compiled.i[P_TEAM_1], compiled.i[P_NEUTRAL_END]
    types = episode.drawn[b]
    while True:
        proper = False
        for n in range(min(n1, n2)):
            types[n] = _draw_type(state, compiled, b)
            proper |= compiled.random_alone[types[n]]
        if proper:
            break
    for n in range(min(n1, n2), max(n1, n2)):
        types[n] = _draw_type(state, compiled, b)
    x0, y0, x1, y1 = static.bounds[0], static.bounds[1], static.bounds[2], static.bounds[3]
    cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    if random_uniform(state, b) < compiled.random_surround[0]:
        for n in range(n1):
            place_near(state, static, compiled, b, compiled.random_kind[types[n]], OWNERS[0], cx, cy, first_1 + n)
        # One to four groups, each on its own diagonal, at one distance.
        groups = 1 + np.int64(4.0 * random_uniform(state, b))
        turn = np.int64(4.0 * random_uniform(state, b))
        distance = uniform(state, b, 0.5, 0.85) * 0.5 * min(x1 - x0, y1 - y0)
        for n in range(n2):
            corner = (turn + n % groups) % 4
            x = cx + (distance if corner == 0 or corner == 3 else -distance)
            y = cy + (distance if corner < 2 else -distance)
            place_near(state, static, compiled, b, compiled.random_kind[types[n]], OWNERS[1], x, y, first_2 + n)
    else:
        for n in range(max(n1, n2)):
            x = uniform(state, b, x0 + 1.0, cx - 1.0)
            y = uniform(state, b, y0 + 1.0, y1 - 1.0)
            kind = compiled.random_kind[types[n]]
            if n < n1:
                place_near(state, static, compiled, b, kind, OWNERS[0], x, y, first_1 + n)
            if n < n2:
                place_near(state, static, compiled, b, kind, OWNERS[1], x0 + x1 - x, y, first_2 + n)


@kernel
def empty_world(state, episode, b):
    """Empties world `b` and keys its generator for the next episode."""
    reset_world(state, b, episode_key(episode.i[b, E_SEED], episode.i[b, E_EPISODE]))


@kernel
def start_battle(state, static, compiled, episode, b):
    """Sets up the units of the next battle in world `b`."""
    empty_world(state, episode, b)
    if compiled.i[P_RANDOM_TEAMS] != 0:
        _start_random_teams(state, static, compiled, episode, b)
    else:
        _start_fixed(state, static, compiled, b)
