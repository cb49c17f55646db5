"""Who has won, what a step is worth, and when an episode is over."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import F_HEALTH, F_HEALTH_MAX, F_SHIELD, F_SHIELD_MAX, I_ALIVE, I_KIND, I_TAG, K_HEAL_RATE
from envs.scenarios.compiled import (
    E_DONE,
    E_EPISODE,
    E_FINAL_STEP,
    E_NEXT_OPPONENT,
    E_OPPONENT,
    E_STEP,
    E_WAVE,
    E_WON_1,
    E_WON_2,
    EF_FINAL_SCORE,
    EF_LAST_SCORE,
    EF_MAX_REWARD_1,
    EF_SCORE,
    FIRST,
    P_AGENTS,
    P_AUTORESET,
    P_RULES,
    P_STEP_LIMIT,
    P_TEAM_2_END,
    RULES_BATTLE,
    SECOND,
)
from envs.views.commands import own_slots

# SMAC's reward: damage done, 10 a kill, 200 the win, scaled so that the most is 20.
REWARD_KILL, REWARD_WIN, REWARD_SCALE = 10.0, 200.0, 20.0


@inline_kernel
def _fighters(state, static, compiled, b, player):
    """Living units of a side that are not healers: SMAC ends a battle when a side has none."""
    first, last = own_slots(compiled, player)
    count = 0
    for i in range(first, last):
        if state.ui[b, i, I_ALIVE] != 0 and static.kind_f[state.ui[b, i, I_KIND], K_HEAL_RATE] <= 0.0:
            count += 1
    return count


@inline_kernel
def _damage_reward(state, compiled, episode, b, player):
    """Health and shields that the enemies of `player` lost or regained since the last step, plus kills; unscaled."""
    first, last = own_slots(compiled, 1 - player)
    damage, kills = 0.0, 0
    for i in range(first, last):
        if episode.tag[b, i] == 0:
            continue
        before = episode.health[b, i]
        if state.ui[b, i, I_ALIVE] == 0:
            damage += before
            kills += 1
        else:
            damage += before - (state.uf[b, i, F_HEALTH] + state.uf[b, i, F_SHIELD])
    return abs(damage + REWARD_KILL * kills)


@inline_kernel
def _remember(state, compiled, episode, b):
    for i in range(compiled.i[P_TEAM_2_END]):
        alive = state.ui[b, i, I_ALIVE] != 0
        episode.tag[b, i] = state.ui[b, i, I_TAG] if alive else 0
        episode.health[b, i] = state.uf[b, i, F_HEALTH] + state.uf[b, i, F_SHIELD] if alive else np.float32(0.0)


@inline_kernel
def score_world(state, static, compiled, episode, result, b):
    """Writes the step's reward and end of world `b` into `result`; returns whether it is to start anew."""
    ei = episode.i
    if ei[b, E_DONE] != 0:
        # Without autoreset a finished world stays as it is until it is reset.
        result.reward[b, :] = 0.0
        return False
    ei[b, E_STEP] += 1
    fighters_1 = _fighters(state, static, compiled, b, FIRST)
    won_1 = won_2 = False
    terminated = fighters_1 == 0
    if compiled.i[P_RULES] == RULES_BATTLE:
        fighters_2 = _fighters(state, static, compiled, b, SECOND)
        terminated = terminated or fighters_2 == 0
        won_1 = fighters_2 == 0 and fighters_1 > 0
        won_2 = fighters_1 == 0 and fighters_2 > 0
        for player in range(compiled.i[P_AGENTS]):
            won = won_1 if player == 0 else won_2
            reward = _damage_reward(state, compiled, episode, b, player) + (REWARD_WIN if won else 0.0)
            result.reward[b, player] = reward * REWARD_SCALE / episode.f[b, EF_MAX_REWARD_1 + player]
        episode.f[b, EF_SCORE] += result.reward[b, 0]
        _remember(state, compiled, episode, b)
    else:
        result.reward[b, 0] = episode.f[b, EF_SCORE] - episode.f[b, EF_LAST_SCORE]
    episode.f[b, EF_LAST_SCORE] = episode.f[b, EF_SCORE]
    truncated = not terminated and ei[b, E_STEP] >= compiled.i[P_STEP_LIMIT]
    result.terminated[b] = terminated
    result.truncated[b] = truncated
    if not (terminated or truncated):
        return False
    ei[b, E_WON_1], ei[b, E_WON_2] = won_1, won_2
    ei[b, E_FINAL_STEP] = ei[b, E_STEP]
    episode.f[b, EF_FINAL_SCORE] = episode.f[b, EF_SCORE]
    ei[b, E_DONE] = 1
    return compiled.i[P_AUTORESET] != 0


@inline_kernel
def open_episode(state, compiled, episode, b):
    """Clears the score of world `b`, whose units have just been placed, and finds the most that it can give."""
    ei = episode.i
    ei[b, E_STEP] = 0
    ei[b, E_WAVE] = 0
    ei[b, E_DONE] = 0
    ei[b, E_OPPONENT] = ei[b, E_NEXT_OPPONENT]
    ei[b, E_EPISODE] += 1
    episode.f[b, EF_SCORE] = 0.0
    episode.f[b, EF_LAST_SCORE] = 0.0
    episode.last_action[b, :, :] = -1
    _remember(state, compiled, episode, b)
    for player in range(2):
        enemy_first, enemy_last = own_slots(compiled, 1 - player)
        most = REWARD_WIN
        for i in range(enemy_first, enemy_last):
            if state.ui[b, i, I_ALIVE] != 0:
                most += REWARD_KILL + state.uf[b, i, F_HEALTH_MAX] + state.uf[b, i, F_SHIELD_MAX]
        episode.f[b, EF_MAX_REWARD_1 + player] = most
