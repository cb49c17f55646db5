"""What the agent learns, how fast, over seeds: trains presets, keeps curves and results as small files.

    python -m benchmarks.learning --presets 3m 8m --seeds 0 1 2

A preset and seed that has a result is left alone, one that was interrupted is resumed, so the benchmark can be stopped
and started at will. Results: `benchmarks/results/learning/<preset>-<seed>.json` with the win rate over held-out seeds,
its interval, wall time, env-steps, the curve, and what the scripted policies reach in the agent's place.
"""

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from agents.checkpoints import RunFolder
from agents.evaluate import FIRST_SEED, play, summarise
from agents.presets import WorldConfig, preset
from agents.progress import read_metrics

# Points kept of a curve.
_CURVE_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class LearningBenchmark:
    """What to train."""

    presets: tuple[str, ...] = ("3m",)
    seeds: tuple[int, ...] = (0, 1, 2)
    runs: Path = Path("runs/learning")
    results: Path = Path(__file__).parent / "results" / "learning"
    scripted: tuple[str, ...] = ("attack-wave", "attack-move", "focus-fire")
    """Policies that play in the agent's place, for comparison."""
    scripted_episodes: int = 400
    arguments: tuple[str, ...] = ()
    """More arguments for the training command, e.g. `--budget.minutes 10`."""


def train_and_collect(benchmark: LearningBenchmark, name: str, seed: int) -> dict[str, Any]:
    """Trains (or resumes) one preset with one seed by the command that users call; returns the result."""
    folder = benchmark.runs / f"{name}-{seed}"
    command = [sys.executable, "-m", "agents.train"]
    if (folder / "config.json").exists():
        command += ["--resume", str(folder)]
    else:
        command += ["--preset", name, "--seed", str(seed), "--run", str(folder), *benchmark.arguments]
    subprocess.run(command, check=True)
    run = RunFolder.open(folder)
    evaluation = json.loads((sorted((folder / "evaluations").iterdir())[-1] / "evaluation.json").read_text())
    records = read_metrics(folder / "metrics.jsonl")
    stride = max(1, len(records) // _CURVE_POINTS)
    kept = ("seconds", "env_steps", "return", "win_rate", "score")
    return {
        "preset": name,
        "seed": seed,
        "learning": dataclasses.asdict(run.config.learning),
        "network": dataclasses.asdict(run.config.network),
        "training": evaluation["training"],
        "results": evaluation["results"],
        "curve": [{key: record[key] for key in kept} for record in records[::stride]],
    }


def scripted_scores(benchmark: LearningBenchmark, world: WorldConfig) -> dict[str, Any]:
    """What scripted policies reach in the agent's place on the evaluation's seeds."""
    num_envs = 50
    rounds = -(-benchmark.scripted_episodes // num_envs)
    return {
        policy: dataclasses.asdict(
            summarise(
                world.scenario, world.opponent, play(policy, world, num_envs=num_envs, rounds=rounds, seed=FIRST_SEED)
            )
        )
        for policy in benchmark.scripted
    }


def main(benchmark: LearningBenchmark) -> None:
    benchmark.results.mkdir(parents=True, exist_ok=True)
    for name in benchmark.presets:
        for seed in benchmark.seeds:
            file = benchmark.results / f"{name}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(train_and_collect(benchmark, name, seed), indent=1))
        scripted = benchmark.results / f"{name}-scripted.json"
        if not scripted.exists():
            scripted.write_text(json.dumps(scripted_scores(benchmark, preset(name).world), indent=1))
        for seed in benchmark.seeds:
            content = json.loads((benchmark.results / f"{name}-{seed}.json").read_text())
            result, training = content["results"][0], content["training"]
            low, high = result["win_rate_interval"]
            print(
                f"{name} seed {seed}: won {result['win_rate']:.1%} ({low:.1%} to {high:.1%}), score "
                f"{result['score_mean']:.1f}, {training['env_steps']:,} steps in {training['seconds'] / 60:.1f} min"
            )
        for policy, result in json.loads(scripted.read_text()).items():
            print(f"{name} {policy}: won {result['win_rate']:.1%}, score {result['score_mean']:.1f}")


if __name__ == "__main__":
    main(tyro.cli(LearningBenchmark))
