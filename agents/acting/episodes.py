"""Finished episodes: what came of them, and the last observation of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Episodes:
    """Finished episodes, one entry each."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    won: list[bool] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    opponents: list[str] = field(default_factory=list)
    """Who played the other side, in self-play; else empty strings."""
    outcomes: list[float] = field(default_factory=list)
    """1 won, 1/2 drawn, 0 lost."""

    def extend(self, other: "Episodes") -> None:
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


class EpisodeCounter:
    """Accumulates return and length per world and hands out the episodes that finish."""

    def __init__(self, num_envs: int) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)

    def step(self, reward: np.ndarray, done: np.ndarray, infos: dict[str, Any]) -> Episodes:
        """Takes one step of all worlds (`reward [B]`, `done [B]`, the step's `infos`)."""
        self.returns += reward
        self.lengths += 1
        finished = Episodes()
        if not done.any():
            return finished
        final = infos.get("final_info", {})
        won, score = final.get("battle_won"), final.get("score")
        opponent, outcome = final.get("opponent"), final.get("outcome")
        for slot in np.flatnonzero(done):
            finished.returns.append(float(self.returns[slot]))
            finished.lengths.append(int(self.lengths[slot]))
            finished.won.append(bool(won[slot]) if won is not None else False)
            finished.scores.append(float(score[slot]) if score is not None else float(self.returns[slot]))
            finished.slots.append(int(slot))
            finished.opponents.append(str(opponent[slot]) if opponent is not None else "")
            finished.outcomes.append(float(outcome[slot]) if outcome is not None else float(finished.won[-1]))
        self.returns[done] = 0.0
        self.lengths[done] = 0
        return finished


def final_observation(infos: dict[str, Any], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The last observations `[len(rows), ...]` of the episodes that ended in worlds `rows` (same-step autoreset)."""
    final = infos["final_obs"]
    if isinstance(final, Mapping):
        return {name: np.asarray(values)[rows] for name, values in final.items()}
    return {name: np.stack([final[row][name] for row in rows]) for name in final[rows[0]]}
