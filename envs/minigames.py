"""The rules of PySC2's mini-games: what appears where, and what scores; checked every game loop.

Numbers come from the scenario's `[game]` table, in the order of `scenarios.GAME_PARAMETERS`.
"""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.engine.state import (
    F_X,
    F_Y,
    I_ALIVE,
    I_TAG,
    NEUTRAL,
    ORDER_STOP,
    T_ALIVE,
    issue_order,
    kernel,
    kill_unit,
)
from envs.plan import (
    E_WAVE,
    EF_SCORE,
    P_KIND_NEUTRAL,
    P_NEUTRAL_END,
    P_RULES,
    P_TEAM_1_END,
    P_TEAM_2_END,
    RULES_BEACON,
    RULES_HUNT,
    RULES_SHARDS,
    RULES_WAVES,
)
from envs.starts import empty_world, place, place_near, uniform

MARINE_SPACING = 1.0
ATTEMPTS = 1000


@kernel
def nearest_own(state, plan, b, x, y):
    """Squared distance from (x, y) to the agent's nearest unit, infinite if it has none."""
    best = np.inf
    for i in range(plan.i[P_TEAM_1_END]):
        if state.ui[b, i, I_ALIVE] != 0:
            dx, dy = state.uf[b, i, F_X] - x, state.uf[b, i, F_Y] - y
            best = min(best, np.float64(dx * dx + dy * dy))
    return best


@kernel
def _place_beacon(state, static, plan, b):
    game = plan.game
    x, y = 0.0, 0.0
    for _ in range(ATTEMPTS):
        x = uniform(state, b, game[0], game[2])
        y = uniform(state, b, game[1], game[3])
        cx, cy = x - game[4], y - game[5]
        if cx * cx + cy * cy >= game[6] * game[6] and nearest_own(state, plan, b, x, y) >= game[7] * game[7]:
            break
    place(state, static, plan, b, plan.i[P_KIND_NEUTRAL], NEUTRAL, x, y, plan.i[P_TEAM_1_END], plan.i[P_NEUTRAL_END])


@kernel
def _place_shards(state, static, plan, b):
    game = plan.game
    for slot in range(plan.i[P_TEAM_1_END], plan.i[P_NEUTRAL_END]):
        x, y = 0.0, 0.0
        for _ in range(ATTEMPTS):
            x = uniform(state, b, game[1], game[3])
            y = uniform(state, b, game[2], game[4])
            if nearest_own(state, plan, b, x, y) >= game[5] * game[5]:
                break
        place(state, static, plan, b, plan.i[P_KIND_NEUTRAL], NEUTRAL, x, y, slot, slot + 1)


@kernel
def _place_hunted(state, static, plan, b, kind, slot, low, high):
    """An idle enemy between `low` and `high` from the agent's units, at least the spacing from the others if there
    is room."""
    spacing = plan.game[4]
    x, y = 0.0, 0.0
    for attempt in range(ATTEMPTS):
        x = uniform(state, b, static.bounds[0] + 0.5, static.bounds[2] - 0.5)
        y = uniform(state, b, static.bounds[1] + 0.5, static.bounds[3] - 0.5)
        distance = nearest_own(state, plan, b, x, y)
        if distance < low * low or distance > high * high:
            continue
        crowded = False
        # The first Zerglings share a narrow ring, and late in a game there may be no room: the spacing gives way.
        room = spacing * (1.0 - attempt / ATTEMPTS)
        for j in range(plan.i[P_NEUTRAL_END], plan.i[P_TEAM_2_END]):
            if state.ui[b, j, I_ALIVE] != 0:
                dx, dy = state.uf[b, j, F_X] - x, state.uf[b, j, F_Y] - y
                crowded |= dx * dx + dy * dy < room * room
        if not crowded:
            break
    place(state, static, plan, b, kind, 2, x, y, slot, slot + 1)


@kernel
def _line_up(state, static, plan, b, marine, cx, cy, created):
    """Puts the agent's units into a column through (cx, cy), from there outwards to both ends of the map, then into
    more columns beside it; adds `created` new ones (kind `marine`)."""
    for slot in range(plan.i[P_TEAM_1_END]):
        if created > 0 and state.ui[b, slot, I_ALIVE] == 0:
            place(state, static, plan, b, marine, 1, cx, cy, slot, slot + 1)
            created -= 1
    low, high = static.bounds[1] + 0.5, static.bounds[3] - 0.5
    column, turn = 0, 0
    for slot in range(plan.i[P_TEAM_1_END]):
        if state.ui[b, slot, I_ALIVE] != 0:
            y = cy
            while True:
                # 0, +1, -1, +2, -2 ... spacings from the middle.
                y = cy + MARINE_SPACING * ((turn + 1) // 2 if turn % 2 == 1 else -(turn // 2))
                turn += 1
                if low <= y <= high:
                    break
                if MARINE_SPACING * turn > 2.0 * (high - low):
                    column, turn = column + 1, 0
            offset = (column + 1) // 2 if column % 2 == 1 else -(column // 2)
            x = np.float32(cx + MARINE_SPACING * offset)
            state.uf[b, slot, F_X] = x
            state.uf[b, slot, F_Y] = y
            issue_order(state, static, b, slot, ORDER_STOP, -1, x, np.float32(y), False)


@kernel
def _start_wave(state, static, plan, b, marine, created):
    """Draws the sides and a point on each: the agent's units line up on one, the next wave stands on the other."""
    game = plan.game
    side = np.int64(0 if uniform(state, b, 0.0, 1.0) < 0.5 else 4)
    other = 4 - side
    x, y = uniform(state, b, game[side], game[side + 2]), uniform(state, b, game[side + 1], game[side + 3])
    _line_up(state, static, plan, b, marine, x, y, created)
    x, y = uniform(state, b, game[other], game[other + 2]), uniform(state, b, game[other + 1], game[other + 3])
    count = plan.i[P_TEAM_2_END] - plan.i[P_NEUTRAL_END]
    for n in range(count):
        slot = plan.i[P_NEUTRAL_END] + n
        if game[8] > 0.0:
            in_line = y + game[8] * (n + 0.5 - 0.5 * count)
            place(state, static, plan, b, plan.start_kind[slot], 2, x, in_line, slot, slot + 1)
        else:
            place_near(state, static, plan, b, plan.start_kind[slot], 2, x, y, slot)


@kernel
def start_game(state, static, plan, episode, b):
    """Sets up the first units of the next mini-game in world `b`."""
    empty_world(state, episode, b)
    rules = plan.i[P_RULES]
    own = plan.i[P_TEAM_1_END]
    first_kind = plan.start_kind
    bounds = static.bounds
    if rules in (RULES_BEACON, RULES_SHARDS):
        for slot in range(own):
            x = uniform(state, b, bounds[0] + 1.0, bounds[2] - 1.0)
            y = uniform(state, b, bounds[1] + 1.0, bounds[3] - 1.0)
            place(state, static, plan, b, first_kind[slot], 1, x, y, slot, slot + 1)
        if rules == RULES_BEACON:
            _place_beacon(state, static, plan, b)
        else:
            _place_shards(state, static, plan, b)
    elif rules == RULES_HUNT:
        for slot in range(own):
            place(state, static, plan, b, first_kind[slot], 1, plan.start[slot, 0], plan.start[slot, 1], slot, slot + 1)
        for slot in range(plan.i[P_NEUTRAL_END], plan.i[P_TEAM_2_END]):
            early = slot - plan.i[P_NEUTRAL_END] < plan.game[0]
            low, high = (plan.game[1], plan.game[2]) if early else (plan.game[3], np.inf)
            _place_hunted(state, static, plan, b, np.int64(first_kind[slot]), slot, low, high)
    elif rules == RULES_WAVES:
        starting = 0
        for slot in range(own):
            starting += first_kind[slot] >= 0
        _start_wave(state, static, plan, b, np.int64(first_kind[0]), np.int64(starting))


@kernel
def _losses(state, episode, b, first, last):
    """Units of the slots that died since the last call."""
    lost = 0
    for i in range(first, last):
        if episode.tag[b, i] != 0 and (state.ui[b, i, I_ALIVE] == 0 or state.ui[b, i, I_TAG] != episode.tag[b, i]):
            lost += 1
        episode.tag[b, i] = state.ui[b, i, I_TAG] if state.ui[b, i, I_ALIVE] != 0 else 0
    return lost


@kernel
def remember_tags(state, episode, b):
    for i in range(episode.tag.shape[1]):
        episode.tag[b, i] = state.ui[b, i, I_TAG] if state.ui[b, i, I_ALIVE] != 0 else 0


@kernel
def play_game(state, static, plan, episode, b):
    """After a game loop: scores, and what appears anew."""
    rules = plan.i[P_RULES]
    own, neutral_end, end = plan.i[P_TEAM_1_END], plan.i[P_NEUTRAL_END], plan.i[P_TEAM_2_END]
    game = plan.game
    gained = 0.0
    if rules == RULES_BEACON:
        distance = nearest_own(state, plan, b, np.float64(state.uf[b, own, F_X]), np.float64(state.uf[b, own, F_Y]))
        if distance <= game[8] * game[8]:
            kill_unit(state, b, own)
            _place_beacon(state, static, plan, b)
            gained = game[9]
            episode.i[b, E_WAVE] += 1
    elif rules == RULES_SHARDS:
        for i in range(own, neutral_end):
            if state.ui[b, i, I_ALIVE] != 0:
                x, y = np.float64(state.uf[b, i, F_X]), np.float64(state.uf[b, i, F_Y])
                if nearest_own(state, plan, b, x, y) <= game[6] * game[6]:
                    kill_unit(state, b, i)
                    gained += game[7]
        if state.tally[b, NEUTRAL, T_ALIVE] == 0:
            _place_shards(state, static, plan, b)
            episode.i[b, E_WAVE] += 1
    else:
        kill_score, loss_score = (game[6], game[7]) if rules == RULES_HUNT else (game[10], game[11])
        killed = _losses(state, episode, b, neutral_end, end)
        lost = _losses(state, episode, b, 0, own)
        gained = kill_score * killed + loss_score * lost
        if rules == RULES_HUNT and killed > 0:
            for slot in range(neutral_end, end):
                if state.ui[b, slot, I_ALIVE] == 0:
                    _place_hunted(state, static, plan, b, np.int64(plan.start_kind[slot]), slot, game[5], np.inf)
            remember_tags(state, episode, b)
        elif rules == RULES_WAVES and state.tally[b, 2, T_ALIVE] == 0 and state.tally[b, 1, T_ALIVE] > 0:
            episode.i[b, E_WAVE] += 1
            _start_wave(state, static, plan, b, np.int64(plan.start_kind[0]), np.int64(game[9]))
            remember_tags(state, episode, b)
    episode.f[b, EF_SCORE] += gained
