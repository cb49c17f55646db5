"""An evaluation of a checkpoint: scenarios against opponents, as a table, as JSON and as a report."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from agents.acting.arrays import to_arrays
from agents.acting.episodes import Episodes
from agents.acting.pysc2_worlds import check_backend
from agents.configuration import ConfigError, config_to_dict
from agents.evaluation.playing import FIRST_SEED, build_network, play, play_weights
from agents.evaluation.report import write_report
from agents.evaluation.statistics import Result, summarise
from agents.presets import AgentTrainingConfig, EvaluationConfig, WorldConfig
from agents.runs.checkpoints import RunFolder, read_info, read_standings


def check_worlds(world: WorldConfig, evaluation: EvaluationConfig) -> None:
    """Raises `ConfigError` for scenarios and opponents that do not exist."""
    from envs.scenarios.choices import OPPONENTS
    from envs.scenarios.scenario import load_scenario

    for scenario in {world.scenario, *evaluation.scenarios}:
        if ":" not in scenario:
            try:
                load_scenario(scenario)
            except (ValueError, OSError) as error:
                raise ConfigError(f"world.scenario: {error}") from error
    for opponent in {world.opponent, *evaluation.opponents}:
        if opponent not in OPPONENTS:
            raise ConfigError(f"unknown opponent {opponent!r}: expected one of {', '.join(OPPONENTS)}")
    if world.backend == "pysc2":
        check_backend(world, evaluation.num_envs)
    if evaluation.episodes < 1 or evaluation.num_envs < 1:
        raise ConfigError("evaluation.episodes and evaluation.num_envs must be at least 1")


def evaluate(
    config: AgentTrainingConfig, weights: dict[str, np.ndarray], evaluation: EvaluationConfig, *, workers: int
) -> list[Result]:
    """Every scenario against every opponent; with `workers` > 1 on that many workers of the connected Ray."""
    results = []
    for scenario in evaluation.scenarios or (config.world.scenario,):
        for opponent in evaluation.opponents:
            world = dataclasses.replace(config.world, scenario=scenario, opponent=opponent)
            jobs = _jobs(evaluation, workers)
            if workers > 1:
                from agents.rllib.cluster import parallel_map, share

                shared = share(weights)
                parts = parallel_map(play_weights, [(config.network, shared, world, job) for job in jobs])
            else:
                network = build_network(config.network, world, weights)
                parts = [play(network, world, **job) for job in jobs]
            episodes = Episodes()
            for part in parts:
                episodes.extend(part)
            results.append(summarise(scenario, opponent, episodes))
    return results


def _jobs(evaluation: EvaluationConfig, workers: int) -> list[dict[str, Any]]:
    """Shares the worlds out to workers. World i plays the same episodes on each of them."""
    num_envs = min(evaluation.num_envs, evaluation.episodes)
    rounds = math.ceil(evaluation.episodes / num_envs)
    shares = np.array_split(np.arange(num_envs), max(1, min(workers, num_envs)))
    return [
        {
            "num_envs": len(worlds),
            "rounds": rounds,
            "seed": FIRST_SEED + int(worlds[0]),
            "deterministic": evaluation.deterministic,
        }
        for worlds in shares
    ]


def results_table(results: list[Result]) -> Table:
    """The results as a table for the terminal."""
    table = Table(box=box.SIMPLE, padding=(0, 0))
    for heading in ("scenario", "opponent", "won", "95% interval", "return", "score", "steps", "episodes"):
        table.add_column(heading, justify="left" if heading in ("scenario", "opponent") else "right", no_wrap=True)
    for result in results:
        low, high = result.win_rate_interval
        table.add_row(
            result.scenario,
            result.opponent,
            f"{result.win_rate:.1%}",
            f"{low:.1%}-{high:.1%}",
            f"{result.return_mean:.2f} ± {result.return_standard_error:.2f}",
            f"{result.score_mean:.1f}",
            f"{result.length_mean:.1f}",
            str(result.episodes),
        )
    return table


def evaluate_run(
    run: RunFolder,
    checkpoint: Path,
    evaluation: EvaluationConfig,
    console: Console,
    *,
    workers: int,
    world: WorldConfig | None = None,
) -> Path:
    """Evaluates a checkpoint; writes `evaluation.json` and `report.html` into a new folder of the run. Returns it.

    world: where to play, the run's own worlds unless given.
    """
    started = time.monotonic()
    config = run.config if world is None else dataclasses.replace(run.config, world=world)
    first = dataclasses.replace(config.world, scenario=(evaluation.scenarios or (config.world.scenario,))[0])
    network = build_network(config.network, first, checkpoint)
    results = evaluate(config, to_arrays(network.state_dict()), evaluation, workers=workers)
    console.print(results_table(results))
    folder = _new_folder(run.path / "evaluations")
    content = {
        "run": str(run.path),
        "checkpoint": checkpoint.name,
        "training": dataclasses.asdict(read_info(checkpoint)),
        "evaluation": config_to_dict(evaluation),
        "backend": config.world.backend,
        "transport": config.world.transport,
        "first_seed": FIRST_SEED,
        "seconds": time.monotonic() - started,
        "results": [dataclasses.asdict(result) for result in results],
        "league": read_standings(checkpoint),
    }
    (folder / "evaluation.json").write_text(json.dumps(content, indent=2))
    write_report(folder / "report.html", run, content, network, evaluation.videos)
    return folder


def _new_folder(parent: Path) -> Path:
    """The first free of `parent/001`, `parent/002`, ..."""
    number = 1 + max((int(path.name) for path in parent.glob("[0-9]*") if path.name.isdigit()), default=0)
    folder = parent / f"{number:03d}"
    folder.mkdir(parents=True)
    return folder
