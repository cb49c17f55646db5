"""The phases of an environment step, each over a range of worlds.

`SC2VectorEnv.step` calls them in this order: orders (one phase per action view), `command_opponents`,
`advance_battles` or `advance_games`, `score_worlds`, `start_battles` or `start_games` and `open_episodes` for what
ended, and the observers of the views in use. A phase takes the whole environment as one `Context`; a view that nobody
uses is never compiled.
"""

from __future__ import annotations

import numpy as np
from numba.experimental import structref

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
    inline_kernel,
    kernel,
)
from envs.engine.step import ONE_LOOP, advance_worlds
from envs.engine.vision import update_vision
from envs.rules.minigames import play_game, start_game
from envs.rules.opponents import command_opponent, form_intents, write_player_actions
from envs.rules.starts import start_battle
from envs.runtime.compilation import entry, stamp_kernels
from envs.runtime.phases import Phase
from envs.runtime.struct_fields import StructureType, fields_of
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
from envs.views.commands import (
    first_illegal_function,
    first_illegal_unit,
    give_function_orders,
    give_smac_orders,
    give_unit_orders,
    own_slots,
    write_function_masks,
    write_smac_mask,
    write_unit_masks,
)
from envs.views.observation import write_entities
from envs.views.smac_view import write_agent_observations, write_global_state

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


@inline_kernel
def _fighters(state, static, plan, b, player):
    """Living units of a side that are not healers: SMAC ends a battle when a side has none."""
    first, last = own_slots(plan, player)
    count = 0
    for i in range(first, last):
        if state.ui[b, i, I_ALIVE] != 0 and static.kind_f[state.ui[b, i, I_KIND], K_HEAL_RATE] <= 0.0:
            count += 1
    return count


@inline_kernel
def _damage_reward(state, plan, episode, b, player):
    """Health and shields that the enemies of `player` lost or regained since the last step, plus kills; unscaled."""
    first, last = own_slots(plan, 1 - player)
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
def _remember(state, plan, episode, b):
    for i in range(plan.i[P_TEAM_2_END]):
        alive = state.ui[b, i, I_ALIVE] != 0
        episode.tag[b, i] = state.ui[b, i, I_TAG] if alive else 0
        episode.health[b, i] = state.uf[b, i, F_HEALTH] + state.uf[b, i, F_SHIELD] if alive else np.float32(0.0)


@structref.register
class _ContextType(StructureType):
    pass


class Context(structref.StructRefProxy):
    """One environment for the compiled phases: engine state and tables, plan, episode, action, result; see
    `envs.scenarios.compiled`."""


structref.define_proxy(Context, _ContextType, ["state", "static", "plan", "episode", "action", "result", "restart"])


@structref.register
class _OutputType(StructureType):
    pass


class OutputRef(structref.StructRefProxy):
    """One `Output` for the compiled observers."""


structref.define_proxy(OutputRef, _OutputType, ["arrays"])


@entry
def make_context(*fields):
    return Context(*fields)


@entry
def make_output(arrays):
    return OutputRef(arrays)


# --- orders -------------------------------------------------------------------------------------------------


@Phase
def command_units(context, first, last):
    """The agents' orders in the unit view."""
    state, static, plan, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_unit_orders(state, static, plan, episode, action, b)


@Phase
def command_smac(context, first, last):
    """The agents' orders in SMAC's view."""
    state, static, plan, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_smac_orders(state, static, plan, episode, action, b)


@Phase
def command_functions(context, first, last):
    """The agents' structured actions."""
    state, static, plan, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_function_orders(state, static, plan, episode, action, b)


@Phase
def command_opponents(context, first, last):
    """The scripted opponents' orders."""
    state, static, plan, episode, _, _, _ = fields_of(context)
    for b in range(first, last):
        policy = episode.i[b, E_OPPONENT]
        if episode.i[b, E_DONE] == 0 and policy != 0:
            form_intents(state, static, plan, episode, b, SECOND, policy)
            command_opponent(state, static, plan, episode, b, policy)


@Phase
def write_scripted_actions(context, view, player, policy, first, last):
    """Writes a policy's actions for `player` into the context's action arrays."""
    state, static, plan, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        form_intents(state, static, plan, episode, b, player, policy)
        write_player_actions(state, static, plan, episode, action, view, b, player)


@entry
def find_illegal_units(context, view, found):
    """Fills found [4] with (world, player, slot, order) of the first illegal unit order; found[0] = -1 if there is
    none."""
    state, static, plan, action = context.state, context.static, context.plan, context.action
    found[0] = -1
    for b in range(state.w.shape[0]):
        if context.episode.i[b, E_DONE] == 0 and found[0] < 0:
            player, unit, order = first_illegal_unit(state, static, plan, action, view, b)
            if player >= 0:
                found[0], found[1], found[2], found[3] = b, player, unit, order


@entry
def find_illegal_functions(context, found):
    """As `find_illegal_units` for the structured view; the slot is -1."""
    state, static, plan, action = context.state, context.static, context.plan, context.action
    found[0] = -1
    for b in range(state.w.shape[0]):
        if context.episode.i[b, E_DONE] == 0 and found[0] < 0:
            player, order = first_illegal_function(state, static, plan, action, b)
            if player >= 0:
                found[0], found[1], found[2], found[3] = b, player, -1, order


# --- game loops ---------------------------------------------------------------------------------------------


@inline_kernel
def _end_of_playing(episode, first, last):
    """The first world from `first` on that is done, or `last`."""
    while first < last and episode.i[first, E_DONE] == 0:
        first += 1
    return first


@Phase
def advance_battles(context, loops, first, last):
    state, static, _, episode, _, _, _ = fields_of(context)
    while first < last:
        end = _end_of_playing(episode, first, last)
        advance_worlds(state, static, first, end, loops)
        first = end + 1


@Phase
def advance_games(context, loops, first, last):
    """Mini-games: their rules act after every game loop."""
    state, static, plan, episode, _, _, _ = fields_of(context)
    while first < last:
        end = _end_of_playing(episode, first, last)
        for _ in range(loops):
            advance_worlds(state, static, first, end, ONE_LOOP)
            for b in range(first, end):
                play_game(state, static, plan, episode, b)
        first = end + 1


@entry
def record_frame(context, b, frame):
    """frame [slots, NUM_FRAME_COLUMNS] of world `b`."""
    write_frame(context.state, b, frame)


# --- rewards, ends and starts -------------------------------------------------------------------------------


@Phase
def score_worlds(context, first, last):
    """Rewards, termination and truncation; marks in `restart` what is to start anew."""
    state, static, plan, episode, _, result, restart = fields_of(context)
    ei = episode.i
    agents = plan.i[P_AGENTS]
    battle = plan.i[P_RULES] == RULES_BATTLE
    for b in range(first, last):
        restart[b] = False
        if ei[b, E_DONE] != 0:
            # Without autoreset a finished world stays as it is until it is reset.
            result.reward[b, :] = 0.0
            continue
        ei[b, E_STEP] += 1
        fighters_1 = _fighters(state, static, plan, b, FIRST)
        won_1 = won_2 = False
        terminated = fighters_1 == 0
        if battle:
            fighters_2 = _fighters(state, static, plan, b, SECOND)
            terminated = terminated or fighters_2 == 0
            won_1 = fighters_2 == 0 and fighters_1 > 0
            won_2 = fighters_1 == 0 and fighters_2 > 0
            for player in range(agents):
                won = won_1 if player == 0 else won_2
                reward = _damage_reward(state, plan, episode, b, player) + (REWARD_WIN if won else 0.0)
                result.reward[b, player] = reward * REWARD_SCALE / episode.f[b, EF_MAX_REWARD_1 + player]
            episode.f[b, EF_SCORE] += result.reward[b, 0]
            _remember(state, plan, episode, b)
        else:
            result.reward[b, 0] = episode.f[b, EF_SCORE] - episode.f[b, EF_LAST_SCORE]
        episode.f[b, EF_LAST_SCORE] = episode.f[b, EF_SCORE]
        truncated = not terminated and ei[b, E_STEP] >= plan.i[P_STEP_LIMIT]
        result.terminated[b] = terminated
        result.truncated[b] = truncated
        if terminated or truncated:
            ei[b, E_WON_1], ei[b, E_WON_2] = won_1, won_2
            ei[b, E_FINAL_STEP] = ei[b, E_STEP]
            episode.f[b, EF_FINAL_SCORE] = episode.f[b, EF_SCORE]
            ei[b, E_DONE] = 1
            restart[b] = plan.i[P_AUTORESET] != 0


@entry
def list_ended(context, done, ended, won, score, length):
    """Which worlds ended in the last step, and how: done [B] (bool), and, zero elsewhere, won [B, 2] (bool), score [B]
    and length [B] (steps). Writes their numbers into the first places of ended [B] and returns how many they are.
    """
    result, ei = context.result, context.episode.i
    count = 0
    for b in range(done.shape[0]):
        done[b] = result.terminated[b] or result.truncated[b]
        won[b, 0] = done[b] and ei[b, E_WON_1] != 0
        won[b, 1] = done[b] and ei[b, E_WON_2] != 0
        score[b] = context.episode.f[b, EF_FINAL_SCORE] if done[b] else 0.0
        length[b] = ei[b, E_FINAL_STEP] if done[b] else 0
        if done[b]:
            ended[count] = b
            count += 1
    return count


@Phase
def start_battles(context, first, last):
    """Sets up the next episode of the worlds that are marked in `restart`."""
    state, static, plan, episode, _, _, restart = fields_of(context)
    for b in range(first, last):
        if restart[b]:
            start_battle(state, static, plan, episode, b)


@Phase
def start_games(context, first, last):
    """As `start_battles`, for mini-games."""
    state, static, plan, episode, _, _, restart = fields_of(context)
    for b in range(first, last):
        if restart[b]:
            start_game(state, static, plan, episode, b)


@Phase
def open_episodes(context, first, last):
    """What every new episode needs once its units are there."""
    state, static, plan, episode, _, _, restart = fields_of(context)
    ei = episode.i
    for b in range(first, last):
        if not restart[b]:
            continue
        update_vision(state, static, b)
        ei[b, E_STEP] = 0
        ei[b, E_WAVE] = 0
        ei[b, E_DONE] = 0
        ei[b, E_OPPONENT] = ei[b, E_NEXT_OPPONENT]
        ei[b, E_EPISODE] += 1
        episode.f[b, EF_SCORE] = 0.0
        episode.f[b, EF_LAST_SCORE] = 0.0
        episode.last_action[b, :, :] = -1
        _remember(state, plan, episode, b)
        for player in range(2):
            enemy_first, enemy_last = own_slots(plan, 1 - player)
            most = REWARD_WIN
            for i in range(enemy_first, enemy_last):
                if state.ui[b, i, I_ALIVE] != 0:
                    most += REWARD_KILL + state.uf[b, i, F_HEALTH_MAX] + state.uf[b, i, F_SHIELD_MAX]
            episode.f[b, EF_MAX_REWARD_1 + player] = most


# --- observers: write into `output`, of all worlds or of those marked in `restart` only ---------------------


@Phase
def observe_entities(context, output, only_ended, first, last):
    state, static, plan, episode, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(plan.i[P_AGENTS]):
            write_entities(
                state,
                static,
                plan,
                episode,
                b,
                player,
                out.entities[b, player],
                out.mask[b, player],
                out.scalars[b, player],
            )


@Phase
def observe_smac(context, output, only_ended, first, last):
    state, static, plan, episode, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(plan.i[P_AGENTS]):
            write_agent_observations(state, static, plan, b, player, out.agent_obs[b, player])
            write_global_state(state, static, plan, episode, b, player, out.state[b, player])


@Phase
def observe_unit_masks(context, output, only_ended, first, last):
    state, static, plan, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(plan.i[P_AGENTS]):
            write_unit_masks(state, static, plan, b, player, out.order_mask[b, player], out.target_mask[b, player])


@Phase
def observe_smac_mask(context, output, only_ended, first, last):
    state, static, plan, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(plan.i[P_AGENTS]):
            write_smac_mask(state, static, plan, b, player, out.action_mask[b, player])


@Phase
def observe_function_masks(context, output, only_ended, first, last):
    state, static, plan, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(plan.i[P_AGENTS]):
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


stamp_kernels(
    (
        "envs.actions",
        "envs.rules.minigames",
        "envs.rules.opponents",
        "envs.rules.starts",
        "envs.runtime.driver",
        "envs.runtime.struct_fields",
        "envs.scenarios.compiled",
        "envs.views.commands",
        "envs.views.observation",
        "envs.views.smac_view",
    )
)
