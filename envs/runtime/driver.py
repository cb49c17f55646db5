"""The phases of an environment step, each over a range of worlds.

`SC2VectorEnv.step` calls them in this order:

1. orders: one phase per action view, then `command_opponents`;
2. game loops: `advance_battles` or `advance_games`;
3. `score_worlds`;
4. for what ended: `start_battles` or `start_games`, then `open_episodes`;
5. the observers of the views in use.

A phase takes the whole environment as one `Context`. A view that nobody uses is never compiled.
"""

from __future__ import annotations

from numba.experimental import structref

from envs.engine.state.compilation import entry, inline_kernel
from envs.engine.step import ONE_LOOP, advance_worlds
from envs.engine.vision import update_vision
from envs.rules.minigames import play_game, start_game
from envs.rules.opponents import command_opponent, form_intents, write_player_actions
from envs.rules.scoring import open_episode, score_world
from envs.rules.starts import start_battle
from envs.runtime.phases import Phase
from envs.runtime.struct_fields import StructureType, fields_of
from envs.scenarios.compiled import (
    E_DONE,
    E_FINAL_STEP,
    E_OPPONENT,
    E_WON_1,
    E_WON_2,
    EF_FINAL_SCORE,
    P_AGENTS,
    SECOND,
)
from envs.views.commands import (
    first_illegal_function,
    first_illegal_unit,
    give_function_orders,
    give_smac_orders,
    give_unit_orders,
    write_function_masks,
    write_smac_mask,
    write_unit_masks,
)
from envs.views.frames import write_frame
from envs.views.observation import write_entities
from envs.views.smac_view import write_agent_observations, write_global_state


@structref.register
class _ContextType(StructureType):
    pass


class Context(structref.StructRefProxy):
    """One environment for the compiled phases, see `envs.engine.state.layout` and `envs.scenarios.compiled`."""


structref.define_proxy(Context, _ContextType, ["state", "static", "compiled", "episode", "action", "result", "restart"])


@structref.register
class _OutputType(StructureType):
    pass


class OutputRef(structref.StructRefProxy):
    """One `Output` for the compiled observers."""


structref.define_proxy(OutputRef, _OutputType, ["arrays"])


@entry
def make_context(*fields):
    """A `Context` of its fields in their order."""
    return Context(*fields)


@entry
def make_output(arrays):
    """An `OutputRef` of an `Output`."""
    return OutputRef(arrays)


# --- orders -------------------------------------------------------------------------------------------------


@Phase
def command_units(context, first, last):
    """The agents' orders in the unit view."""
    state, static, compiled, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_unit_orders(state, static, compiled, episode, action, b)


@Phase
def command_smac(context, first, last):
    """The agents' orders in SMAC's view."""
    state, static, compiled, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_smac_orders(state, static, compiled, episode, action, b)


@Phase
def command_functions(context, first, last):
    """The agents' structured actions."""
    state, static, compiled, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        if episode.i[b, E_DONE] == 0:
            give_function_orders(state, static, compiled, episode, action, b)


@Phase
def command_opponents(context, first, last):
    """The scripted opponents' orders."""
    state, static, compiled, episode, _, _, _ = fields_of(context)
    for b in range(first, last):
        policy = episode.i[b, E_OPPONENT]
        if episode.i[b, E_DONE] == 0 and policy != 0:
            form_intents(state, static, compiled, episode, b, SECOND, policy)
            command_opponent(state, static, compiled, episode, b, policy)


@Phase
def write_scripted_actions(context, view, player, policy, first, last):
    """Writes a policy's actions for `player` into the context's action arrays."""
    state, static, compiled, episode, action, _, _ = fields_of(context)
    for b in range(first, last):
        form_intents(state, static, compiled, episode, b, player, policy)
        write_player_actions(state, static, compiled, episode, action, view, b, player)


@entry
def find_illegal_units(context, view, found):
    """Fills found [4] with (world, player, slot, order) of the first illegal unit order; found[0] = -1 if there is
    none."""
    state, static, compiled, action = context.state, context.static, context.compiled, context.action
    found[0] = -1
    for b in range(state.w.shape[0]):
        if context.episode.i[b, E_DONE] == 0 and found[0] < 0:
            player, unit, order = first_illegal_unit(state, static, compiled, action, view, b)
            if player >= 0:
                found[0], found[1], found[2], found[3] = b, player, unit, order


@entry
def find_illegal_functions(context, found):
    """As `find_illegal_units` for the structured view; the slot is -1."""
    state, static, compiled, action = context.state, context.static, context.compiled, context.action
    found[0] = -1
    for b in range(state.w.shape[0]):
        if context.episode.i[b, E_DONE] == 0 and found[0] < 0:
            player, order = first_illegal_function(state, static, compiled, action, b)
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
    """Game loops of the worlds that are not done."""
    state, static, _, episode, _, _, _ = fields_of(context)
    while first < last:
        end = _end_of_playing(episode, first, last)
        advance_worlds(state, static, first, end, loops)
        first = end + 1


@Phase
def advance_games(context, loops, first, last):
    """As `advance_battles`, for mini-games: their rules act after every game loop."""
    state, static, compiled, episode, _, _, _ = fields_of(context)
    while first < last:
        end = _end_of_playing(episode, first, last)
        for _ in range(loops):
            advance_worlds(state, static, first, end, ONE_LOOP)
            for b in range(first, end):
                play_game(state, static, compiled, episode, b)
        first = end + 1


@entry
def record_frame(context, b, frame):
    """frame [slots, NUM_FRAME_COLUMNS] of world `b`."""
    write_frame(context.state, b, frame)


# --- rewards, ends and starts -------------------------------------------------------------------------------


@Phase
def score_worlds(context, first, last):
    """Rewards, termination and truncation; marks in `restart` what is to start anew."""
    state, static, compiled, episode, _, result, restart = fields_of(context)
    for b in range(first, last):
        restart[b] = score_world(state, static, compiled, episode, result, b)


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
    state, static, compiled, episode, _, _, restart = fields_of(context)
    for b in range(first, last):
        if restart[b]:
            start_battle(state, static, compiled, episode, b)


@Phase
def start_games(context, first, last):
    """As `start_battles`, for mini-games."""
    state, static, compiled, episode, _, _, restart = fields_of(context)
    for b in range(first, last):
        if restart[b]:
            start_game(state, static, compiled, episode, b)


@Phase
def open_episodes(context, first, last):
    """What every new episode needs once its units are there."""
    state, static, compiled, episode, _, _, restart = fields_of(context)
    for b in range(first, last):
        if restart[b]:
            update_vision(state, static, b)
            open_episode(state, compiled, episode, b)


# --- observers: write into `output`, of all worlds or of those marked in `restart` only ---------------------


@Phase
def observe_entities(context, output, only_ended, first, last):
    """Entities, mask and scalars."""
    state, static, compiled, episode, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(compiled.i[P_AGENTS]):
            write_entities(
                state,
                static,
                compiled,
                episode,
                b,
                player,
                out.entities[b, player],
                out.mask[b, player],
                out.scalars[b, player],
            )


@Phase
def observe_smac(context, output, only_ended, first, last):
    """SMAC's observations and global state."""
    state, static, compiled, episode, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(compiled.i[P_AGENTS]):
            write_agent_observations(state, static, compiled, b, player, out.agent_obs[b, player])
            write_global_state(state, static, compiled, episode, b, player, out.state[b, player])


@Phase
def observe_unit_masks(context, output, only_ended, first, last):
    """Masks of the unit view."""
    state, static, compiled, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(compiled.i[P_AGENTS]):
            write_unit_masks(state, static, compiled, b, player, out.order_mask[b, player], out.target_mask[b, player])


@Phase
def observe_smac_mask(context, output, only_ended, first, last):
    """Mask of SMAC's view."""
    state, static, compiled, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(compiled.i[P_AGENTS]):
            write_smac_mask(state, static, compiled, b, player, out.action_mask[b, player])


@Phase
def observe_function_masks(context, output, only_ended, first, last):
    """Masks of the structured view."""
    state, static, compiled, _, _, _, restart = fields_of(context)
    (out,) = fields_of(output)
    for b in range(first, last):
        if only_ended and not restart[b]:
            continue
        for player in range(compiled.i[P_AGENTS]):
            write_function_masks(
                state,
                static,
                compiled,
                b,
                player,
                out.function_mask[b, player],
                out.selected_mask[b, player],
                out.target_unit_mask[b, player],
            )
