"""One environment step of many worlds in one compiled call: orders, opponents, game loops, reward, ends, observations."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numba import njit

from envs.commands import (
    first_illegal,
    give_orders,
    own_slots,
    write_function_masks,
    write_smac_mask,
    write_unit_masks,
)
from envs.engine.state import (
    F_ENERGY,
    F_FACING_X,
    F_FACING_Y,
    F_HEALTH,
    F_HEALTH_MAX,
    F_SHIELD,
    F_SHIELD_MAX,
    F_X,
    F_Y,
    I_ALIVE,
    I_KIND,
    I_OWNER,
    I_SHOT_LOOP,
    I_SHOT_TARGET,
    I_TAG,
    I_VISIBLE,
    K_HEAL_RATE,
    W_LOOP,
    kernel,
)
from envs.engine.step import advance_world
from envs.engine.vision import update_vision
from envs.minigames import play_game, remember_tags, start_game
from envs.observation import write_entities
from envs.opponents import command_opponent
from envs.plan import (
    E_DONE,
    E_EPISODE,
    E_FINAL_STEP,
    E_ILLEGAL,
    E_NEXT_OPPONENT,
    E_OPPONENT,
    E_SEED,
    E_STEP,
    E_WAVE,
    E_WON_1,
    E_WON_2,
    EF_FINAL_SCORE,
    EF_MAX_REWARD_1,
    EF_SCORE,
    P_ACTION_VIEW,
    P_AGENTS,
    P_AUTORESET,
    P_RULES,
    P_STEP_LIMIT,
    P_STEP_MUL,
    P_TEAM_2_END,
    P_WRITE_ENTITIES,
    P_WRITE_SMAC,
    RULES_BATTLE,
    VIEW_FUNCTION,
    VIEW_SMAC,
    VIEW_UNIT,
)
from envs.smac_view import write_agent_observations, write_global_state
from envs.starts import start_battle

# SMAC's reward: damage done, 10 a kill, 200 the win, scaled so that the most is 20.
REWARD_KILL, REWARD_WIN, REWARD_SCALE = 10.0, 200.0, 20.0

# Columns of a recorded frame, see `write_frame`.
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


@kernel
def write_frame(state, b, frame):
    """frame [slots, NUM_FRAME_COLUMNS] of world `b` for rendering; tag 0 = empty slot."""
    f, ii = state.f, state.i
    for i in range(frame.shape[0]):
        frame[i, :] = 0.0
        if ii[b, I_ALIVE, i] == 0:
            continue
        frame[i, T_TAG] = ii[b, I_TAG, i]
        frame[i, T_OWNER] = ii[b, I_OWNER, i]
        frame[i, T_KIND] = ii[b, I_KIND, i]
        frame[i, T_X], frame[i, T_Y] = f[b, F_X, i], f[b, F_Y, i]
        frame[i, T_FACING_X], frame[i, T_FACING_Y] = f[b, F_FACING_X, i], f[b, F_FACING_Y, i]
        frame[i, T_HEALTH], frame[i, T_SHIELD] = f[b, F_HEALTH, i], f[b, F_SHIELD, i]
        frame[i, T_ENERGY] = f[b, F_ENERGY, i]
        frame[i, T_SHOT_TARGET] = ii[b, I_SHOT_TARGET, i]
        frame[i, T_SHOT_AGE] = state.w[b, W_LOOP] - ii[b, I_SHOT_LOOP, i]
        frame[i, T_VISIBLE] = ii[b, I_VISIBLE, i]


@kernel
def _fighters(state, static, plan, b, player):
    """Living units of a side that are not healers: SMAC ends a battle when a side has none."""
    first, last = own_slots(plan, player)
    count = 0
    for i in range(first, last):
        if state.i[b, I_ALIVE, i] != 0 and static.kind_f[state.i[b, I_KIND, i], K_HEAL_RATE] <= 0.0:
            count += 1
    return count


@kernel
def _damage_reward(state, plan, episode, b, player):
    """Health and shields that the enemies of `player` lost or regained since the last step, plus kills; unscaled."""
    first, last = own_slots(plan, 1 - player)
    damage, kills = 0.0, 0
    for i in range(first, last):
        if episode.tag[b, i] == 0:
            continue
        before = episode.health[b, i]
        if state.i[b, I_ALIVE, i] == 0:
            damage += before
            kills += 1
        else:
            damage += before - (state.f[b, F_HEALTH, i] + state.f[b, F_SHIELD, i])
    return abs(damage + REWARD_KILL * kills)


@kernel
def _remember(state, plan, episode, b):
    for i in range(plan.i[P_TEAM_2_END]):
        alive = state.i[b, I_ALIVE, i] != 0
        episode.tag[b, i] = state.i[b, I_TAG, i] if alive else 0
        episode.health[b, i] = state.f[b, F_HEALTH, i] + state.f[b, F_SHIELD, i] if alive else np.float32(0.0)


@kernel
def start_episode(state, static, plan, episode, b):
    """Starts the next episode of world `b`."""
    ei = episode.i
    start_battle(state, static, plan, episode, b)
    start_game(state, static, plan, b)
    update_vision(state, static, b)
    ei[b, E_STEP] = 0
    ei[b, E_ILLEGAL] = 0
    ei[b, E_WAVE] = 0
    ei[b, E_DONE] = 0
    ei[b, E_OPPONENT] = ei[b, E_NEXT_OPPONENT]
    ei[b, E_EPISODE] += 1
    episode.f[b, EF_SCORE] = 0.0
    episode.last_action[b, :, :] = -1
    _remember(state, plan, episode, b)
    for player in range(2):
        first, last = own_slots(plan, 1 - player)
        most = REWARD_WIN
        for i in range(first, last):
            if state.i[b, I_ALIVE, i] != 0:
                most += REWARD_KILL + state.f[b, F_HEALTH_MAX, i] + state.f[b, F_SHIELD_MAX, i]
        episode.f[b, EF_MAX_REWARD_1 + player] = most


@kernel
def observe(state, static, plan, episode, b, out):
    """Writes every array of `out` that the plan asks for."""
    for player in range(plan.i[P_AGENTS]):
        if plan.i[P_WRITE_ENTITIES] != 0:
            write_entities(
                state, static, plan, episode, b, player, out.entities[b, player], out.mask[b, player], out.scalars[b, player]
            )
        if plan.i[P_WRITE_SMAC] != 0:
            write_agent_observations(state, static, plan, b, player, out.agent_obs[b, player])
            write_global_state(state, static, plan, episode, b, player, out.state[b, player])
        view = plan.i[P_ACTION_VIEW]
        if view == VIEW_UNIT:
            write_unit_masks(state, static, plan, b, player, out.order_mask[b, player], out.target_mask[b, player])
        elif view == VIEW_SMAC:
            write_smac_mask(state, static, plan, b, player, out.action_mask[b, player])
        elif view == VIEW_FUNCTION:
            write_function_masks(
                state,
                static,
                plan,
                b,
                player,
                out.function_mask[b, player],
                out.selected_mask[b, player],
                out.target_unit_mask[b, player],
            )


@kernel
def _advance(state, static, plan, episode, b, frames):
    """The game loops of one step; returns the score gained in a mini-game. Records world 0's frames if there is room."""
    loops = plan.i[P_STEP_MUL]
    battle = plan.i[P_RULES] == RULES_BATTLE
    if battle and (b > 0 or frames.shape[0] == 0):
        advance_world(state, static, b, loops)
        return 0.0
    gained = 0.0
    for loop in range(loops):
        advance_world(state, static, b, 1)
        if not battle:
            gained += play_game(state, static, plan, episode, b)
        if b == 0 and loop < frames.shape[0]:
            write_frame(state, b, frames[loop])
    return gained


@kernel
def _step_world(state, static, plan, episode, action, out, final, result, frames, b, intent_i, intent_f, spent):
    ei = episode.i
    agents = plan.i[P_AGENTS]
    battle = plan.i[P_RULES] == RULES_BATTLE
    if ei[b, E_DONE] != 0:
        # Without autoreset a finished world stays as it is until it is reset.
        result.reward[b, :] = 0.0
        return
    give_orders(state, static, plan, episode, action, plan.i[P_ACTION_VIEW], b)
    if agents == 1:
        command_opponent(state, static, plan, episode, b, 1, intent_i, intent_f, spent)
    gained = _advance(state, static, plan, episode, b, frames)
    ei[b, E_STEP] += 1

    fighters_1 = _fighters(state, static, plan, b, 0)
    won_1 = won_2 = False
    if battle:
        fighters_2 = _fighters(state, static, plan, b, 1)
        terminated = fighters_1 == 0 or fighters_2 == 0
        won_1 = fighters_2 == 0 and fighters_1 > 0
        won_2 = fighters_1 == 0 and fighters_2 > 0
        for player in range(agents):
            won = won_1 if player == 0 else won_2
            reward = _damage_reward(state, plan, episode, b, player) + (REWARD_WIN if won else 0.0)
            result.reward[b, player] = reward * REWARD_SCALE / episode.f[b, EF_MAX_REWARD_1 + player]
        episode.f[b, EF_SCORE] += result.reward[b, 0]
        _remember(state, plan, episode, b)
    else:
        terminated = fighters_1 == 0
        for player in range(agents):
            result.reward[b, player] = gained if player == 0 else -gained
    result.terminated[b] = terminated
    result.truncated[b] = not terminated and ei[b, E_STEP] >= plan.i[P_STEP_LIMIT]
    if result.terminated[b] or result.truncated[b]:
        ei[b, E_WON_1], ei[b, E_WON_2] = won_1, won_2
        ei[b, E_FINAL_STEP] = ei[b, E_STEP]
        episode.f[b, EF_FINAL_SCORE] = episode.f[b, EF_SCORE]
        ei[b, E_DONE] = 1
        if plan.i[P_AUTORESET] != 0:
            observe(state, static, plan, episode, b, final)
            illegal = ei[b, E_ILLEGAL]
            start_episode(state, static, plan, episode, b)
            ei[b, E_ILLEGAL] = illegal
    observe(state, static, plan, episode, b, out)


def _sources_digest() -> str:
    """Numba's cache keys a function by its own file alone; a closure over this digest keys the drivers by all of them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _build(digest: str):
    @njit(cache=True, nogil=True, error_model="numpy")
    def step_worlds(state, static, plan, episode, action, out, final, result, frames, first, last):
        """Steps the worlds [first, last); `final` gets the last observation of those that end and start anew."""
        _ = digest
        slots = state.i.shape[2]
        intent_i = np.empty((slots, 2), np.int64)
        intent_f = np.empty((slots, 2), np.float32)
        spent = np.empty(slots, np.float32)
        for b in range(first, last):
            _step_world(state, static, plan, episode, action, out, final, result, frames, b, intent_i, intent_f, spent)

    @njit(cache=True, nogil=True, error_model="numpy")
    def reset_worlds(state, static, plan, episode, out, worlds, seeds):
        """Resets the listed worlds; a seed of -1 keeps the world's own sequence of episodes."""
        _ = digest
        for n in range(worlds.shape[0]):
            b = worlds[n]
            if seeds[n] >= 0:
                episode.i[b, E_SEED] = seeds[n]
                episode.i[b, E_EPISODE] = 0
            start_episode(state, static, plan, episode, b)
            observe(state, static, plan, episode, b, out)

    @njit(cache=True, nogil=True, error_model="numpy")
    def find_illegal(state, static, plan, episode, action, found):
        """Fills found [4] with (world, player, slot, order) of the first illegal action, found[0] = -1 if there is none."""
        _ = digest
        found[0] = -1
        for b in range(episode.i.shape[0]):
            if episode.i[b, E_DONE] != 0:
                continue
            player, unit, order = first_illegal(state, static, plan, action, plan.i[P_ACTION_VIEW], b)
            if player >= 0:
                found[0], found[1], found[2], found[3] = b, player, unit, order
                return

    return step_worlds, reset_worlds, find_illegal


step_worlds, reset_worlds, find_illegal = _build(_sources_digest())
