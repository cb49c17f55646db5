"""The league: who the learner plays against, how it fares, how strong everybody is.

Members are scripted policies and frozen snapshots of the learner. Opponents are drawn by prioritised fictitious
self-play (AlphaStar, Vinyals et al. 2019, methods, "Prioritized fictitious self-play"): with probability in proportion
to f(p), p being the learner's chance to beat the member,

    f_hard(p) = (1 - p)^2        f_even(p) = p (1 - p)        f_uniform(p) = 1

No Ray and no torch here: weights are arrays, held for the checkpoint.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.presets import SelfPlayConfig

# The learner itself, as an opponent.
MIRROR = "learner"
# The learner changes, so old results count less: each new game of a pair multiplies the weight of the older ones.
_MEMORY = 0.99
# Elo: 400 points are odds of 10 to 1; a game moves the rating by at most K points.
_ELO_SCALE, _ELO_K, _ELO_START = 400.0, 8.0, 1000.0


@dataclass
class Record:
    """Games of one against another; decayed counts."""

    games: float = 0.0
    points: float = 0.0
    """Wins, and half of the draws."""

    def add(self, outcome: float) -> None:
        self.games = _MEMORY * self.games + 1.0
        self.points = _MEMORY * self.points + outcome

    @property
    def win_rate(self) -> float:
        """Estimated chance to win; 1/2 before the first game, and two games' worth of doubt after it."""
        return (self.points + 1.0) / (self.games + 2.0)


@dataclass
class League:
    """Members, payoff matrix and ratings."""

    config: SelfPlayConfig
    snapshots: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Weights by name, oldest first."""
    payoff: dict[str, dict[str, Record]] = field(default_factory=lambda: {MIRROR: {}})
    """`payoff[a][b]`: games of a against b; rows are the learner and, as they were at the time, the snapshots."""
    elo: dict[str, float] = field(default_factory=lambda: {MIRROR: _ELO_START})
    num_snapshots: int = 0
    """Snapshots taken so far, the forgotten ones included."""
    games: int = 0

    def __post_init__(self) -> None:
        for name in self.config.scripted:
            self.elo.setdefault(name, _ELO_START)

    @property
    def members(self) -> list[str]:
        """Everyone the learner can meet, itself left out."""
        return [*self.config.scripted, *self.snapshots]

    def win_rate(self, member: str) -> float:
        """The learner's estimated chance to beat `member`."""
        return self.payoff[MIRROR].get(member, Record()).win_rate

    def probabilities(self) -> dict[str, float]:
        """With what probability each opponent is drawn, the mirror included."""
        members = self.members
        if not members:
            return {MIRROR: 1.0}
        p = np.array([self.win_rate(name) for name in members])
        weight = {"hard": (1.0 - p) ** 2, "even": p * (1.0 - p), "uniform": np.ones_like(p)}[self.config.weighting]
        weight = (1.0 - self.config.mirror_fraction) * weight / weight.sum()
        return {MIRROR: self.config.mirror_fraction} | dict(zip(members, weight.tolist(), strict=True))

    def draw(self, random: np.random.Generator) -> str:
        """An opponent for the episodes that start next."""
        probabilities = self.probabilities()
        return str(random.choice(list(probabilities), p=list(probabilities.values())))

    def record(self, opponent: str, outcome: float) -> None:
        """Counts a game of the learner: outcome 1 for a win, 1/2 for a draw, 0 for a defeat.

        A game against itself says nothing about strength; one against a snapshot forgotten meanwhile is not counted.
        """
        if opponent == MIRROR or opponent not in self.elo:
            return
        self.games += 1
        self.payoff[MIRROR].setdefault(opponent, Record()).add(outcome)
        expected = 1.0 / (1.0 + 10.0 ** ((self.elo[opponent] - self.elo[MIRROR]) / _ELO_SCALE))
        change = _ELO_K * (outcome - expected)
        self.elo[MIRROR] += change
        self.elo[opponent] -= change

    def add_snapshot(self, weights: dict[str, np.ndarray]) -> str:
        """Freezes the learner as a new member with its rating and its results; forgets the weakest beyond the limit."""
        self.num_snapshots += 1
        name = f"snapshot-{self.num_snapshots:04d}"
        self.snapshots[name] = weights
        self.elo[name] = self.elo[MIRROR]
        self.payoff[name] = {other: Record(**vars(record)) for other, record in self.payoff[MIRROR].items()}
        if len(self.snapshots) > self.config.max_snapshots:
            weakest = min(list(self.snapshots)[:-1], key=lambda member: self.elo[member])
            for table in (self.snapshots, self.elo, self.payoff, *self.payoff.values()):
                table.pop(weakest, None)  # type: ignore[attr-defined]
        return name

    def standings(self) -> dict[str, Any]:
        """What reports show, as JSON values: `elo {name: rating}`, `games` counted so far, and
        `payoff {row: {column: [estimated win rate, decayed number of games]}}`."""
        return {
            "elo": dict(self.elo),
            "games": self.games,
            "payoff": {
                row: {column: [record.win_rate, record.games] for column, record in records.items()}
                for row, records in self.payoff.items()
            },
        }

    def get_state(self) -> dict[str, Any]:
        """Plain values and arrays, for the checkpoint."""
        return {
            "snapshots": dict(self.snapshots),
            "payoff": {a: {b: vars(record).copy() for b, record in row.items()} for a, row in self.payoff.items()},
            "elo": dict(self.elo),
            "num_snapshots": self.num_snapshots,
            "games": self.games,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes `get_state`'s output."""
        self.snapshots = dict(state["snapshots"])
        self.payoff = {a: {b: Record(**record) for b, record in row.items()} for a, row in state["payoff"].items()}
        self.elo = dict(state["elo"])
        self.num_snapshots, self.games = state["num_snapshots"], state["games"]
