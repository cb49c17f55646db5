"""Random play on SMAC's maps: returns, lengths, and who is left at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from envs.fidelity.figures import Episodes, random_episodes
from envs.fidelity.verdicts import Figure, Row, mean_figure, near_mean, share_band
from envs.scenarios.scenario import load_scenario
from envs.scenarios.units import unit_data
from envs.vector_env import SC2VectorEnv
from envs.views.observation import ALLIANCE_ENEMY, ALLIANCE_SELF, C_ALLIANCE

BATCH = 50


@dataclass(frozen=True)
class Played:
    """One value an episode of a map: the return in SMAC's scale, steps, units left on both sides."""

    returns: list[float]
    lengths: list[float]
    own_left: list[float]
    enemies_left: list[float]


def play(map_name: str, episodes: int, seed: int, opponent: str | None = None) -> Played:
    """Plays episodes with random legal actions of SMAC's view, every unit's drawn evenly from what it may do."""
    played = Played([], [], [], [])
    while len(played.returns) < episodes:
        batch = min(BATCH, episodes - len(played.returns))
        _play_batch(map_name, batch, seed + len(played.returns), opponent, played)
    return played


def _play_batch(map_name: str, batch: int, seed: int, opponent: str | None, played: Played) -> None:
    """The first episode of each of so many worlds, so that short episodes are not counted more often than long ones."""
    env = SC2VectorEnv(map_name, batch, action_view="smac", observation_view="entities", opponent=opponent)
    random = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    returns, running = np.zeros(batch), np.ones(batch, np.bool_)
    while running.any():
        mask = observation["action_mask"]
        actions = np.where(mask, random.random(mask.shape), -1.0).argmax(axis=-1)
        observation, reward, terminated, truncated, info = env.step(actions)
        returns += np.where(running, reward, 0.0)
        for b in np.flatnonzero((terminated | truncated) & running):
            last = info["final_obs"][b]
            alliance = last["entities"][last["mask"].astype(bool), C_ALLIANCE]
            played.returns.append(float(returns[b]))
            played.lengths.append(float(info["final_info"]["episode_length"][b]))
            played.own_left.append(float((alliance == ALLIANCE_SELF).sum()))
            played.enemies_left.append(float((alliance == ALLIANCE_ENEMY).sum()))
        running &= ~(terminated | truncated)
    env.close()


def battle_rows(episodes: int, seed: int) -> Iterator[Row]:
    """Rows of each map: return, length and losses of purely random episodes; means while epsilon fell, where logged."""
    for map_name, logged in random_episodes().items():
        played = play(map_name, episodes, seed)
        pure = [entry for entry in logged if entry.epsilon == 1.0]
        yield from _rows(map_name, pure, played)
        nearly = [entry for entry in logged if entry.epsilon < 1.0]
        if nearly:
            least = min(entry.epsilon for entry in nearly)
            yield from _rows(f"{map_name} (epsilon to {least:g})", nearly, played)


def _rows(name: str, logged: Sequence[Episodes], played: Played) -> Iterator[Row]:
    weights = [entry.episodes for entry in logged]
    yield _mean_row(
        f"{name}: return", "points of 20", [entry.episode_return for entry in logged], weights, played.returns
    )
    yield _mean_row(f"{name}: length", "steps", [entry.length for entry in logged], weights, played.lengths)
    known = [entry for entry in logged if entry.dead_allies is not None and entry.dead_enemies is not None]
    if not known:
        return
    own, enemies = (team.slots for team in load_scenario(known[0].map_name).teams)
    weights = [entry.episodes for entry in known]
    killed = [float(entry.dead_enemies or 0.0) for entry in known]
    damage = [damage_of(entry.map_name, entry.episode_return, k) for entry, k in zip(known, killed, strict=True)]
    pairs = zip(played.returns, played.enemies_left, strict=True)
    ours = [damage_of(known[0].map_name, value, enemies - left) for value, left in pairs]
    yield _mean_row(f"{name}: damage", "points", damage, weights, ours)
    if all(entry.episodes == 1 for entry in known):
        alive = sum(float(entry.dead_allies or 0.0) < own for entry in known)
        band, rule = share_band(alive, len(known))
        real = Figure(alive / len(known), band, len(known))
        mine = mean_figure([float(left > 0) for left in played.own_left])
        yield Row("smac", f"{name}: some unit survives", "share", real, mine, band, rule)


def _mean_row(name: str, unit: str, values: Sequence[float], weights: Sequence[int], played: Sequence[float]) -> Row:
    real, ours = mean_figure(values, weights), mean_figure(played)
    band, rule = near_mean(real, ours)
    return Row("smac", name, unit, real, ours, band, rule)


@cache
def _vitality(map_name: str) -> tuple[float, float]:
    """(health and shields of all enemies, greatest reward before SMAC scales it to 20) of a map."""
    total, count = 0.0, 0
    for unit in load_scenario(map_name).teams[1].units:
        entry = unit_data()[unit.unit_type]
        total += entry["health"] + entry["shield"]
        count += 1
    return total, 10.0 * count + 200.0 + total


def damage_of(map_name: str, episode_return: float, killed: float) -> float:
    """Health and shields that the enemies lost in an episode without a win, from its return and its kills."""
    return episode_return * _vitality(map_name)[1] / 20.0 - 10.0 * killed
