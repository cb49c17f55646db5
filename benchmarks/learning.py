"""What the agent learns, from how much experience, over seeds: trains presets, keeps curves and results as small files.

    python -m benchmarks.learning --presets 8m 2s3z --seeds 0 1 2
    python -m benchmarks.learning --presets 8m 2s3z --seeds 0 --no-train          # the table and the plot alone

The presets hold the recipes: `perceiver-train-agent --preset NAME --seed N` trains the same. A preset and seed that has
a result is left alone, one that was interrupted is resumed, so the benchmark can be stopped and started at will. A run
may go on from another's weights (`--arguments="--initial-weights CHECKPOINT ..."`): all such stages are in the result,
and their steps are added up.

Results: `benchmarks/results/learning/<preset>-<seed>.json` with the score over held-out seeds, its interval, env-steps,
times, the curve and the settings of every stage; `<preset>-scripted.json` with what the scripted policies reach in the
agent's place; `curves.png` of all results that are there.

Acting and learning take turns in one process, one thread: about one core, and what `cpu_seconds` counts is all of
it. The same seed gives the same weights, however often the run is interrupted.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from agents.acting.worlds import is_battle
from agents.evaluation.playing import FIRST_SEED, play
from agents.evaluation.statistics import summarise
from agents.presets import AgentTrainingConfig, WorldConfig, preset
from agents.runs.checkpoints import RunFolder, read_info
from agents.runs.earlier import upgrade_info
from agents.runs.progress import read_metrics

# Points kept of a curve.
_CURVE_POINTS = 60
_ONE_CORE = ("--cluster.num-env-runners", "0", "--cluster.num-learners", "0", "--cluster.num-cpus", "1")
_NO_VIDEOS = ("--evaluation.videos", "0")


@dataclass(frozen=True, kw_only=True)
class LearningBenchmark:
    """What to train."""

    presets: tuple[str, ...] = ("8m",)
    seeds: tuple[int, ...] = (0, 1, 2)
    runs: Path = Path("runs/learning")
    results: Path = Path(__file__).parent / "results" / "learning"
    scripted: tuple[str, ...] = ("attack-move", "focus-fire", "kite", "withdraw")
    """Policies that play in the agent's place, for comparison."""
    scripted_episodes: int = 400
    train: bool = True
    arguments: str = ""
    """More arguments for the training command, in one string: `--arguments="--budget.env-steps 1000000"`."""


def evaluated(folder: Path) -> dict[str, Any] | None:
    """The newest evaluation of a run whose budget is used up, if it has one."""
    evaluations = sorted((folder / "evaluations").glob("*/evaluation.json"))
    latest = RunFolder.open(folder).latest() if (folder / "config.json").exists() else None
    if not evaluations or latest is None:
        return None
    content = json.loads(evaluations[-1].read_text())
    return content if content["checkpoint"] == latest.name else None


def train_and_collect(benchmark: LearningBenchmark, name: str, seed: int) -> dict[str, Any]:
    """Trains (or resumes) one preset with one seed by the command that users call; returns the result."""
    folder = benchmark.runs / f"{name}-{seed}"
    if evaluated(folder) is None:
        command = [sys.executable, "-m", "agents.train"]
        if (folder / "config.json").exists():
            command += ["--resume", str(folder)]
        else:
            command += ["--preset", name, "--seed", str(seed), "--run", str(folder), *_ONE_CORE, *_NO_VIDEOS]
            command += shlex.split(benchmark.arguments)
        subprocess.run(command, check=True)
    run, evaluation = RunFolder.open(folder), evaluated(folder)
    assert evaluation is not None
    stages = stages_of(run)
    return {
        "preset": name,
        "seed": seed,
        "network": dataclasses.asdict(run.config.network),
        "stages": stages,
        "results": evaluation["results"],
        "curve": curve(run, sum(stage["training"]["env_steps"] for stage in stages[:-1])),
    }


def stages_of(run: RunFolder) -> list[dict[str, Any]]:
    """What led to a run's weights, oldest first: the runs that it started from, and itself."""
    checkpoint, start = run.latest(), run.config.initial_weights
    assert checkpoint is not None
    stage = {
        "training": dataclasses.asdict(read_info(checkpoint)),
        "learning": dataclasses.asdict(run.config.learning),
        "num_envs": run.config.world.num_envs,
    }
    return [*(stages_of(RunFolder.open(start.parent.parent)) if start else []), stage]


def curve(run: RunFolder, steps_before: int) -> list[dict[str, float]]:
    """Some points of the training curve, each the mean over the reports since the one before."""
    records = read_metrics(run.path / "metrics.jsonl")
    start = run.config.initial_weights
    points = []
    if start is not None:
        earlier = RunFolder.open(start.parent.parent)
        last = earlier.latest()
        assert last is not None
        points = curve(earlier, steps_before - read_info(last).env_steps)
    for part in np.array_split(np.arange(len(records)), min(_CURVE_POINTS, len(records))):
        point = {"env_steps": steps_before + records[part[-1]]["env_steps"]}
        for key in ("return", "win_rate", "score"):
            values = [records[i][key] for i in part if records[i][key] is not None]
            if values:
                point[key] = round(float(np.mean(values)), 4)
        points.append(point)
    return points


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


def line(result: dict[str, Any]) -> str:
    """`won 93.0% (90.1% to 95.1%)` or `score 26.1 ± 0.1`."""
    if is_battle(result["scenario"]):
        low, high = result["win_rate_interval"]
        return f"won {result['win_rate']:.1%} ({low:.1%} to {high:.1%})"
    half = 1.96 * result["score_standard_error"]
    return f"score {result['score_mean']:.1f} ({result['score_mean'] - half:.1f} to {result['score_mean'] + half:.1f})"


def print_table(benchmark: LearningBenchmark) -> None:
    """Everything that has a result, preset by preset."""
    for name in benchmark.presets:
        for file in sorted(benchmark.results.glob(f"{name}-*.json")):
            content = json.loads(file.read_text())
            if file.stem.endswith("-scripted"):
                for policy, result in content.items():
                    print(f"{name:28s} {policy:14s} {line(result)}")
                continue
            steps, processor, wall = (
                sum(upgrade_info(stage["training"])[key] for stage in content["stages"])
                for key in ("env_steps", "cpu_seconds", "seconds")
            )
            print(
                f"{name:28s} seed {content['seed']}         {line(content['results'][0])}, {steps:,} steps, "
                f"{processor / 60:.1f} processor minutes, {wall / 60:.1f} on the wall"
            )


def plot(results: Path) -> None:
    """All curves, a panel a preset, with the best scripted policy as a line: `curves.png`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(results.glob("*-[0-9].json")):
        content = json.loads(file.read_text())
        runs.setdefault(content["preset"], []).append(content)
    if not runs:
        return
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.9 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(runs) :]:
        axis.set_visible(False)
    for axis, (name, contents) in zip(axes.flat, runs.items(), strict=False):
        battle = is_battle(preset(name).world.scenario)
        key, measured = ("win_rate", "win_rate") if battle else ("score", "score_mean")
        for content in contents:
            points = [(p["env_steps"] / 1e6, p[key]) for p in content["curve"] if key in p]
            (drawn,) = axis.plot(*np.array(points).reshape(-1, 2).T, label=f"seed {content['seed']}", linewidth=1.4)
            last = sum(stage["training"]["env_steps"] for stage in content["stages"]) / 1e6
            final = content["results"][0][measured]
            axis.plot(last, final, "o", color=drawn.get_color(), markersize=5, clip_on=False)
        scripted = json.loads((results / f"{name}-scripted.json").read_text())
        best = max(scripted, key=lambda policy: scripted[policy][measured])
        level = scripted[best][measured]
        axis.axhline(level, color="0.5", linestyle="--", linewidth=1, label=f"scripted: {best}")
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_xlabel("million environment steps", fontsize=8)
        axis.set_ylabel("win rate" if battle else "score", fontsize=8)
        axis.set_xlim(left=0.0)
        axis.set_ylim(bottom=0.0, top=1.02 if battle else None)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, frameon=False)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(results / "curves.png", dpi=110)
    plt.close(figure)


def main(benchmark: LearningBenchmark) -> None:
    benchmark.results.mkdir(parents=True, exist_ok=True)
    configs: dict[str, AgentTrainingConfig] = {name: preset(name) for name in benchmark.presets}
    for name, config in configs.items():
        scripted = benchmark.results / f"{name}-scripted.json"
        if not scripted.exists():
            scripted.write_text(json.dumps(scripted_scores(benchmark, config.world), indent=1))
        for seed in benchmark.seeds if benchmark.train else ():
            file = benchmark.results / f"{name}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(train_and_collect(benchmark, name, seed), indent=1))
    print_table(benchmark)
    plot(benchmark.results)


if __name__ == "__main__":
    main(tyro.cli(LearningBenchmark))
