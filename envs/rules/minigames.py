"""The rules of PySC2's mini-games: what appears where, and what scores; checked every game loop.

Numbers come from the scenario's `[game]` table (`CompiledScenario.game`).
"""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import kernel
from envs.engine.state.layout import F_X, F_Y, I_ALIVE, I_TAG, NEUTRAL, ORDER_STOP, T_ALIVE
from envs.engine.state.orders import issue_order
from envs.engine.state.units import kill_unit
from envs.rules.starts import empty_world, place, place_near, uniform
from envs.scenarios.choices import GAME_PARAMETERS
from envs.scenarios.compiled import (
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

MARINE_SPACING = 1.0
ATTEMPTS = 1000


def _start_of(rules: str, key: str) -> int:
    """Index in `CompiledScenario.game` of the first number of a `[game]` key."""
    keys = GAME_PARAMETERS[rules]
    return sum(count for name, count in list(keys.items())[: list(keys).index(key)])


# An area is four numbers: x0, y0, x1, y1; a circle three: x, y, radius; a ring two: the smallest distance, the largest.
BEACON_AREA = _start_of("beacon", "beacon_area")
BEACON_EXCLUDED_CIRCLE = _start_of("beacon", "beacon_excluded_circle")
BEACON_DISTANCE = _start_of("beacon", "beacon_distance")
HIT_RADIUS = _start_of("beacon", "hit_radius")
SCORE_PER_BEACON = _start_of("beacon", "score_per_beacon")
SHARD_AREA = _start_of("shards", "shard_area")
SHARD_DISTANCE = _start_of("shards", "shard_distance")
PICKUP_RADIUS = _start_of("shards", "pickup_radius")
SCORE_PER_SHARD = _start_of("shards", "score_per_shard")
FIRST_ZERGLINGS = _start_of("hunt", "first_zerglings")
FIRST_RING = _start_of("hunt", "first_ring")
OTHERS_DISTANCE = _start_of("hunt", "others_distance")
SPACING = _start_of("hunt", "spacing")
RESPAWN_DISTANCE = _start_of("hunt", "respawn_distance")
HUNT_PER_KILL = _start_of("hunt", "score_per_kill")
HUNT_PER_LOSS = _start_of("hunt", "score_per_loss")
LEFT_AREA = _start_of("waves", "left_area")
RIGHT_AREA = _start_of("waves", "right_area")
ENEMY_SPACING = _start_of("waves", "enemy_spacing")
REINFORCEMENTS = _start_of("waves", "reinforcements")
WAVES_PER_KILL = _start_of("waves", "score_per_kill")
WAVES_PER_LOSS = _start_of("waves", "score_per_loss")


@kernel
def _draw_place(state, game, b, area):
    """A point (x, y) anywhere in the area that begins at game[area]."""
    x = uniform(state, b, game[area], game[area + 2])
    return x, uniform(state, b, game[area + 1], game[area + 3])


@kernel
def nearest_own(state, compiled, b, x, y):
    """Squared distance from (x, y) to the agent's nearest unit, infinite if it has none."""
    best = np.inf
    for i in range(compiled.i[P_TEAM_1_END]):
        if state.ui[b, i, I_ALIVE] != 0:
            dx, dy = state.uf[b, i, F_X] - x, state.uf[b, i, F_Y] - y
            best = min(best, np.float64(dx * dx + dy * dy))
    return best


@kernel
def _place_beacon(state, static, compiled, b):
    game = compiled.game
    x, y = 0.0, 0.0
    for _ in range(ATTEMPTS):
        x, y = _draw_place(state, game, b, BEACON_AREA)
        cx, cy = x - game[BEACON_EXCLUDED_CIRCLE], y - game[BEACON_EXCLUDED_CIRCLE + 1]
        outside = cx * cx + cy * cy >= game[BEACON_EXCLUDED_CIRCLE + 2] ** 2
        if outside and nearest_own(state, compiled, b, x, y) >= game[BEACON_DISTANCE] ** 2:
            break
    place(
        state,
        static,
        compiled,
        b,
        compiled.i[P_KIND_NEUTRAL],
        NEUTRAL,
        x,
        y,
        compiled.i[P_TEAM_1_END],
        compiled.i[P_NEUTRAL_END],
    )


@kernel
def _place_shards(state, static, compiled, b):
    game = compiled.game
    for slot in range(compiled.i[P_TEAM_1_END], compiled.i[P_NEUTRAL_END]):
        x, y = 0.0, 0.0
        for _ in range(ATTEMPTS):
            x, y = _draw_place(state, game, b, SHARD_AREA)
            if nearest_own(state, compiled, b, x, y) >= game[SHARD_DISTANCE] ** 2:
                break
        place(state, static, compiled, b, compiled.i[P_KIND_NEUTRAL], NEUTRAL, x, y, slot, slot + 1)


@kernel
def _place_hunted(state, static, compiled, b, kind, slot, low, high):
    """An idle enemy between `low` and `high` from the agent's units, at least the spacing from the others if there is
    room."""
    spacing = compiled.game[SPACING]
    x, y = 0.0, 0.0
    for attempt in range(ATTEMPTS):
        x = uniform(state, b, static.bounds[0] + 0.5, static.bounds[2] - 0.5)
        y = uniform(state, b, static.bounds[1] + 0.5, static.bounds[3] - 0.5)
        distance = nearest_own(state, compiled, b, x, y)
        if distance < low * low or distance > high * high:
            continue
        crowded = False
        # The first Zerglings share a narrow ring, and late in a game there may be no room: the spacing gives way.
        room = spacing * (1.0 - attempt / ATTEMPTS)
        for j in range(compiled.i[P_NEUTRAL_END], compiled.i[P_TEAM_2_END]):
            if state.ui[b, j, I_ALIVE] != 0:
                dx, dy = state.uf[b, j, F_X] - x, state.uf[b, j, F_Y] - y
                crowded |= dx * dx + dy * dy < room * room
        if not crowded:
            break
    place(state, static, compiled, b, kind, 2, x, y, slot, slot + 1)


@kernel
def _line_up(state, static, compiled, b, marine, cx, cy, created):
    """Puts the agent's units into a column through (cx, cy), and adds `created` new ones (kind `marine`).

    The column grows outwards from there to both ends of the map. Then more columns follow beside it."""
    for slot in range(compiled.i[P_TEAM_1_END]):
        if created > 0 and state.ui[b, slot, I_ALIVE] == 0:
            place(state, static, compiled, b, marine, 1, cx, cy, slot, slot + 1)
            created -= 1
    low, high = static.bounds[1] + 0.5, static.bounds[3] - 0.5
    column, turn = 0, 0
    for slot in range(compiled.i[P_TEAM_1_END]):
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
def _start_wave(state, static, compiled, b, marine, created):
    """Draws the sides and a point on each: the agent's units line up on one, the next wave stands on the other."""
    game = compiled.game
    on_the_left = uniform(state, b, 0.0, 1.0) < 0.5
    x, y = _draw_place(state, game, b, LEFT_AREA if on_the_left else RIGHT_AREA)
    _line_up(state, static, compiled, b, marine, x, y, created)
    x, y = _draw_place(state, game, b, RIGHT_AREA if on_the_left else LEFT_AREA)
    count = compiled.i[P_TEAM_2_END] - compiled.i[P_NEUTRAL_END]
    for n in range(count):
        slot = compiled.i[P_NEUTRAL_END] + n
        if game[ENEMY_SPACING] > 0.0:
            in_line = y + game[ENEMY_SPACING] * (n + 0.5 - 0.5 * count)
            place(state, static, compiled, b, compiled.start_kind[slot], 2, x, in_line, slot, slot + 1)
        else:
            place_near(state, static, compiled, b, compiled.start_kind[slot], 2, x, y, slot)


@kernel
def start_game(state, static, compiled, episode, b):
    """Sets up the first units of the next mini-game in world `b`."""
    empty_world(state, episode, b)
    rules = compiled.i[P_RULES]
    own = compiled.i[P_TEAM_1_END]
    first_kind = compiled.start_kind
    bounds = static.bounds
    if rules in (RULES_BEACON, RULES_SHARDS):
        for slot in range(own):
            x = uniform(state, b, bounds[0] + 1.0, bounds[2] - 1.0)
            y = uniform(state, b, bounds[1] + 1.0, bounds[3] - 1.0)
            place(state, static, compiled, b, first_kind[slot], 1, x, y, slot, slot + 1)
        if rules == RULES_BEACON:
            _place_beacon(state, static, compiled, b)
        else:
            _place_shards(state, static, compiled, b)
    elif rules == RULES_HUNT:
        for slot in range(own):
            place(
                state,
                static,
                compiled,
                b,
                first_kind[slot],
                1,
                compiled.start[slot, 0],
                compiled.start[slot, 1],
                slot,
                slot + 1,
            )
        game = compiled.game
        for slot in range(compiled.i[P_NEUTRAL_END], compiled.i[P_TEAM_2_END]):
            early = slot - compiled.i[P_NEUTRAL_END] < game[FIRST_ZERGLINGS]
            low, high = (game[FIRST_RING], game[FIRST_RING + 1]) if early else (game[OTHERS_DISTANCE], np.inf)
            _place_hunted(state, static, compiled, b, np.int64(first_kind[slot]), slot, low, high)
    elif rules == RULES_WAVES:
        starting = 0
        for slot in range(own):
            starting += first_kind[slot] >= 0
        _start_wave(state, static, compiled, b, np.int64(first_kind[0]), np.int64(starting))


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
def play_game(state, static, compiled, episode, b):
    """After a game loop: scores, and what appears anew."""
    rules = compiled.i[P_RULES]
    own, neutral_end, end = compiled.i[P_TEAM_1_END], compiled.i[P_NEUTRAL_END], compiled.i[P_TEAM_2_END]
    game = compiled.game
    gained = 0.0
    if rules == RULES_BEACON:
        distance = nearest_own(state, compiled, b, np.float64(state.uf[b, own, F_X]), np.float64(state.uf[b, own, F_Y]))
        if distance <= game[HIT_RADIUS] ** 2:
            kill_unit(state, b, own)
            _place_beacon(state, static, compiled, b)
            gained = game[SCORE_PER_BEACON]
            episode.i[b, E_WAVE] += 1
    elif rules == RULES_SHARDS:
        for i in range(own, neutral_end):
            if state.ui[b, i, I_ALIVE] != 0:
                x, y = np.float64(state.uf[b, i, F_X]), np.float64(state.uf[b, i, F_Y])
                if nearest_own(state, compiled, b, x, y) <= game[PICKUP_RADIUS] ** 2:
                    kill_unit(state, b, i)
                    gained += game[SCORE_PER_SHARD]
        if state.tally[b, NEUTRAL, T_ALIVE] == 0:
            _place_shards(state, static, compiled, b)
            episode.i[b, E_WAVE] += 1
    else:
        hunt = rules == RULES_HUNT
        kill_score = game[HUNT_PER_KILL] if hunt else game[WAVES_PER_KILL]
        loss_score = game[HUNT_PER_LOSS] if hunt else game[WAVES_PER_LOSS]
        killed = _losses(state, episode, b, neutral_end, end)
        lost = _losses(state, episode, b, 0, own)
        gained = kill_score * killed + loss_score * lost
        if hunt and killed > 0:
            respawn = game[RESPAWN_DISTANCE]
            for slot in range(neutral_end, end):
                if state.ui[b, slot, I_ALIVE] == 0:
                    _place_hunted(
                        state, static, compiled, b, np.int64(compiled.start_kind[slot]), slot, respawn, np.inf
                    )
            remember_tags(state, episode, b)
        elif rules == RULES_WAVES and state.tally[b, 2, T_ALIVE] == 0 and state.tally[b, 1, T_ALIVE] > 0:
            episode.i[b, E_WAVE] += 1
            _start_wave(state, static, compiled, b, np.int64(compiled.start_kind[0]), np.int64(game[REINFORCEMENTS]))
            remember_tags(state, episode, b)
    episode.f[b, EF_SCORE] += gained
