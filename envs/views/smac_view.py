"""Writes SMAC's per-agent observation and global state (`envs.scenarios.smac` gives their layout and sizes)."""

from __future__ import annotations

import numpy as np

from envs.actions import SMAC_SIGHT_RANGE
from envs.engine.state.compilation import inline_kernel
from envs.engine.state.layout import (
    F_COOLDOWN,
    F_ENERGY,
    F_ENERGY_MAX,
    F_HEALTH,
    F_HEALTH_MAX,
    F_SHIELD,
    F_SHIELD_MAX,
    F_X,
    F_Y,
    I_ALIVE,
    I_KIND,
    K_HEAL_RATE,
    WF_COOLDOWN,
)
from envs.scenarios.compiled import (
    P_AGENTS,
    P_MAP_HEIGHT,
    P_MAP_WIDTH,
    P_SMAC_ACTIONS,
    P_SMAC_BITS,
    P_SMAC_SHIELD_1,
    P_SMAC_SHIELD_2,
)
from envs.views.commands import can_step, own_slots, sees, smac_range
from envs.views.observation import ratio

SIGHT = np.float32(SMAC_SIGHT_RANGE)


@inline_kernel
def _shield(compiled, side):
    """Whether entries of the side's units have a shield; with two agents both sides' arrays have one size."""
    if compiled.i[P_AGENTS] == 2:
        return max(compiled.i[P_SMAC_SHIELD_1], compiled.i[P_SMAC_SHIELD_2])
    return compiled.i[P_SMAC_SHIELD_1] if side == 0 else compiled.i[P_SMAC_SHIELD_2]


@inline_kernel
def _write_body(state, compiled, b, i, shield, out, at):
    """Health, shield and type bits of unit `i` from out[at] on."""
    out[at] = ratio(state.uf[b, i, F_HEALTH], state.uf[b, i, F_HEALTH_MAX])
    at += 1
    if shield != 0:
        out[at] = ratio(state.uf[b, i, F_SHIELD], state.uf[b, i, F_SHIELD_MAX])
        at += 1
    if compiled.i[P_SMAC_BITS] > 0:
        bit = compiled.type_bit[state.ui[b, i, I_KIND]]
        if bit >= 0:
            out[at + bit] = 1.0


@inline_kernel
def _write_other(state, compiled, b, i, j, first_value, shield, out, at):
    out[at] = first_value
    dx = state.uf[b, j, F_X] - state.uf[b, i, F_X]
    dy = state.uf[b, j, F_Y] - state.uf[b, i, F_Y]
    out[at + 1] = np.sqrt(dx * dx + dy * dy) / SIGHT
    out[at + 2] = dx / SIGHT
    out[at + 3] = dy / SIGHT
    _write_body(state, compiled, b, j, shield, out, at + 4)


@inline_kernel
def write_agent_observations(state, static, compiled, b, player, agent_obs):
    """agent_obs [U, observation] of one player; a dead agent's row is zero."""
    agent_obs[:, :] = 0.0
    bits = compiled.i[P_SMAC_BITS]
    first, last = own_slots(compiled, player)
    enemy_first, enemy_last = own_slots(compiled, 1 - player)
    own_shield, enemy_shield = _shield(compiled, player), _shield(compiled, 1 - player)
    own_width = 5 + own_shield + bits
    enemy_width = 5 + enemy_shield + bits
    units = agent_obs.shape[0]
    enemy_entries = (agent_obs.shape[1] - 4 - (units - 1) * own_width - (own_width - 4)) // enemy_width
    for u in range(last - first):
        i = first + u
        if state.ui[b, i, I_ALIVE] == 0:
            continue
        out = agent_obs[u]
        for n in range(4):
            out[n] = 1.0 if can_step(state, static, compiled, b, i, compiled.smac_moves[n]) else 0.0
        at = 4
        for j in range(enemy_first, enemy_last):
            dx = state.uf[b, j, F_X] - state.uf[b, i, F_X]
            dy = state.uf[b, j, F_Y] - state.uf[b, i, F_Y]
            d2 = dx * dx + dy * dy
            if sees(state, b, player, j) and d2 < SIGHT * SIGHT:
                reach = smac_range(compiled, state.ui[b, i, I_KIND], state.ui[b, j, I_KIND])
                available = np.float32(1.0) if d2 <= reach * reach else np.float32(0.0)
                _write_other(state, compiled, b, i, j, available, enemy_shield, out, at)
            at += enemy_width
        at = 4 + enemy_entries * enemy_width
        for j in range(first, last):
            if j == i:
                continue
            dx = state.uf[b, j, F_X] - state.uf[b, i, F_X]
            dy = state.uf[b, j, F_Y] - state.uf[b, i, F_Y]
            if state.ui[b, j, I_ALIVE] != 0 and dx * dx + dy * dy < SIGHT * SIGHT:
                _write_other(state, compiled, b, i, j, np.float32(1.0), own_shield, out, at)
            at += own_width
        at = 4 + enemy_entries * enemy_width + (units - 1) * own_width
        _write_body(state, compiled, b, i, own_shield, out, at)


@inline_kernel
def write_global_state(state, static, compiled, episode, b, player, out):
    """SMAC's global state [state] from one player's side: everything, fog or not; for centralised training only."""
    out[:] = 0.0
    bits = compiled.i[P_SMAC_BITS]
    width, height = np.float32(compiled.i[P_MAP_WIDTH]), np.float32(compiled.i[P_MAP_HEIGHT])
    half = np.float32(0.5)
    units = episode.last_action.shape[2]
    at = 0
    for side in range(2):
        team = player if side == 0 else 1 - player
        first, last = own_slots(compiled, team)
        shield = _shield(compiled, team)
        entry = (4 if side == 0 else 3) + shield + bits
        for i in range(first, last):
            if state.ui[b, i, I_ALIVE] != 0:
                kind = state.ui[b, i, I_KIND]
                place = at + 1
                if side == 0:
                    if static.kind_f[kind, K_HEAL_RATE] > 0.0:
                        out[place] = ratio(state.uf[b, i, F_ENERGY], state.uf[b, i, F_ENERGY_MAX])
                    else:
                        out[place] = ratio(state.uf[b, i, F_COOLDOWN], static.weapon_f[kind, 0, WF_COOLDOWN])
                    place += 1
                out[place] = state.uf[b, i, F_X] / width - half
                out[place + 1] = state.uf[b, i, F_Y] / height - half
                # Health stands first, shield and type bits after the place.
                out[at] = ratio(state.uf[b, i, F_HEALTH], state.uf[b, i, F_HEALTH_MAX])
                if shield != 0:
                    out[place + 2] = ratio(state.uf[b, i, F_SHIELD], state.uf[b, i, F_SHIELD_MAX])
                if bits > 0 and compiled.type_bit[kind] >= 0:
                    out[place + 2 + shield + compiled.type_bit[kind]] = 1.0
            at += entry
        if compiled.i[P_AGENTS] == 2:
            at = (side + 1) * units * (4 + shield + bits) - side * units
    n_actions = compiled.i[P_SMAC_ACTIONS]
    at = out.shape[0] - units * n_actions
    for u in range(units):
        action = episode.last_action[b, player, u]
        if 0 <= action < n_actions:
            out[at + u * n_actions + action] = 1.0
