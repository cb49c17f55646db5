"""Scores of fixed agents on the mini-games, played by PySC2 on the simulator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from pysc2_evolved.env import sc2_env

from envs.fidelity.agents import FIXED_AGENTS, SCREEN
from envs.fidelity.figures import Score, scores
from envs.fidelity.verdicts import Figure, Row, mean_figure, within_factor, within_spread
from envs.pysc2.client import simulator

STEP_MUL = 8
# Episodes of the economy's games are three and seven times as long, and differ little.
LONG_GAMES = {"CollectMineralsAndGas": 5, "BuildMarines": 10}


def play(map_name: str, agent: str, episodes: int, seed: int) -> list[float]:
    """Scores of episodes of one of the `FIXED_AGENTS`."""
    np.random.seed(seed)  # noqa: NPY002 - PySC2's random agent draws from NumPy's own generator
    player = FIXED_AGENTS[agent]()
    with simulator():
        env = sc2_env.SC2Env(
            map_name=map_name,
            players=[sc2_env.Agent(sc2_env.Race.terran)],
            agent_interface_format=sc2_env.AgentInterfaceFormat(
                feature_dimensions=sc2_env.Dimensions(screen=SCREEN, minimap=64), use_feature_units=True
            ),
            step_mul=STEP_MUL,
            random_seed=seed,
        )
    with env:
        player.setup(env.observation_spec()[0], env.action_spec()[0])
        return [_episode(env, player) for _ in range(episodes)]


def _episode(env: Any, player: Any) -> float:
    score = 0.0
    player.reset()
    (seen,) = env.reset()
    while not seen.last():
        (seen,) = env.step([player.step(seen)])
        score += float(seen.reward)
    return score


def minigame_rows(episodes: int, seed: int) -> Iterator[Row]:
    """A row an agent and mini-game with a published score: the band is the published spread, or a factor of 1.5."""
    published: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in scores():
        if score.agent in FIXED_AGENTS:
            published[score.map_name, score.agent].append(score)
    for (map_name, agent), entries in published.items():
        count = max(2, episodes // LONG_GAMES.get(map_name, 1))
        ours = mean_figure(play(map_name, agent, count, seed))
        first = entries[0]
        if first.deviation is not None:
            band, rule = within_spread(first.mean, first.deviation)
            count = first.episodes or 1
            real = Figure(first.mean, band, count)
        else:
            means = [entry.mean for entry in entries]
            band, rule = within_factor(means)
            real = Figure(sum(means) / len(means), None, 1)
        highest = [entry.highest for entry in entries if entry.highest is not None]
        note = f"highest {max(ours.values):g}, in the game {max(highest):g}" if highest else ""
        yield Row("minigames", f"{map_name}: {agent}", "score", real, ours, band, rule, note)
