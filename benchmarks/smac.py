"""SMAC's interface in process beside SMAC's own code on the protocol server: steps/s with random legal actions.

    python -m benchmarks.smac --smac PATH [--maps 3m MMM 27m_vs_30m] [--seconds 5] [--rounds 3]

PATH is a checkout of SMAC's repository whose dependencies this Python has; without it only the class of this project is
timed. Both take turns in one process and the same loop: available actions, a choice, step, observations, state. The
choice is part of the time. The server runs in a process of its own, as SMAC starts it.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from envs.protocol.install import install
from envs.smac import StarCraft2Env


@dataclass(frozen=True, kw_only=True)
class SmacBenchmark:
    """What to time."""

    maps: tuple[str, ...] = ("3m", "MMM", "27m_vs_30m")
    smac: Path | None = None
    """Checkout of SMAC's repository."""
    seconds: float = 5.0
    """Of each contender in each round."""
    rounds: int = 3


def rate(env: Any, seconds: float, choose: random.Random) -> float:
    """Steps/s, the resets between episodes included."""
    env.reset()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        actions = [choose.choice([n for n, legal in enumerate(row) if legal]) for row in env.get_avail_actions()]
        _, terminated, _ = env.step(actions)
        env.get_obs()
        env.get_state()
        steps += 1
        if terminated:
            env.reset()
    return steps / (time.perf_counter() - began)


def main(config: SmacBenchmark) -> None:
    """Prints a line a map: medians of the rounds, lowest and highest, and the ratio round by round."""
    makers: dict[str, Callable[[str], Any]] = {"in process": lambda name: StarCraft2Env(name, seed=0)}
    with tempfile.TemporaryDirectory() as folder:
        if config.smac is not None:
            install(Path(folder) / "sc2")
            os.environ["SC2PATH"] = str(Path(folder) / "sc2")
            sys.path.insert(0, str(config.smac))
            from smac.env import StarCraft2Env as SmacsOwn

            makers["SMAC's own"] = lambda name: SmacsOwn(map_name=name, seed=0)
        for name in config.maps:
            envs = {label: make(name) for label, make in makers.items()}
            for env in envs.values():
                rate(env, 2.0, random.Random(0))  # both compile, or load, at their first steps
            rates: dict[str, list[float]] = {label: [] for label in envs}
            for number in range(config.rounds):
                for label, env in envs.items():
                    rates[label].append(rate(env, config.seconds, random.Random(number)))
            for env in envs.values():
                env.close()
            line = [
                f"{label} {statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"
                for label, found in rates.items()
            ]
            if len(rates) == 2:
                ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
                line.append(f"{statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})")
            print(f"{name}: {', '.join(line)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(SmacBenchmark, description=__doc__))
