"""`perceiver-train-agent`: trains an entity-encoder agent on Ray, evaluates it, writes a report.

perceiver-train-agent --preset 3m
perceiver-train-agent --preset 3m --backend pysc2 --world.num-envs 8 --learning.teacher None
perceiver-train-agent --preset 3m --network.encoder transformer --budget.minutes 10 --cluster.num-env-runners 4
perceiver-train-agent --resume runs/3m-20260101-120000 --budget.minutes 20
"""

import argparse
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from rich.console import Console

from agents.acting.arrays import map_arrays
from agents.acting.pysc2_worlds import check_backend, resolve_transport
from agents.acting.scripted import POLICIES, WITHDRAW, scripted_action
from agents.acting.worlds import make_worlds
from agents.configuration import ConfigError
from agents.evaluation.scoring import check_worlds, evaluate_run
from agents.models.network import AgentNetwork
from agents.presets import PRESETS, AgentTrainingConfig, preset
from agents.runs.checkpoints import CheckpointInfo, RunFolder, load_weights
from agents.runs.progress import ProgressReporter, duration
from perceiver_agents import answer_version
from perceiver_agents.paths import absolute

if TYPE_CHECKING:
    from agents.rllib.algorithm import EntityAgent

# Seconds between two reports (progress line, metrics.jsonl, TensorBoard).
REPORT_SECONDS = 2.0
# Fields that a resumed run may change. The others shape what is learnt: with another value it would be another run.
_RESUMABLE = ("run", "budget", "cluster", "checkpoint", "evaluation")


class Interrupt:
    """Turns the first Ctrl-C (or SIGTERM) into a flag that the loop looks at; the second one interrupts as usual."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def watching(self) -> Iterator["Interrupt"]:
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True
        signal.signal(number, signal.default_int_handler)


def check_config(config: AgentTrainingConfig, checkpoint: Path | None = None) -> None:
    """Raises `ConfigError` for what could only fail later: worlds, network, weights, resources, budget.

    checkpoint: the one to resume from; its weights are checked instead of the initial ones.
    """
    from agents.rllib.cluster import check_resources

    if config.budget.minutes is None and config.budget.env_steps is None:
        raise ConfigError("no budget: set --budget.minutes or --budget.env-steps")
    if config.learning.algorithm not in ("v-trace", "ppo"):
        raise ConfigError(f"unknown learning.algorithm {config.learning.algorithm!r}: expected v-trace or ppo")
    check_resources(config.cluster)
    check_worlds(config.world, config.evaluation)
    check_teacher(config)
    if config.world.backend == "pysc2":
        check_backend(config.world, config.world.num_envs * config.cluster.num_acting)
    if config.self_play.enabled:
        make_worlds(config.world, 1, 0, players=2).close()
    env = make_worlds(config.world, 1, 0)
    try:
        network = AgentNetwork(config.network, env.single_observation_space, env.single_action_space)
    except ValueError as error:
        raise ConfigError(f"network: {error}") from error
    if config.learning.teacher is not None and not hasattr(env, "scripted_action"):
        raise ConfigError(
            f"learning.teacher needs worlds that know scripted policies (`scripted_action`), {config.world.scenario} "
            "does not: set --learning.teacher None"
        )
    # The simulator compiles what a scenario needs at its first step and keeps it on disk. This process does it once,
    # before all env runners would do it at the same time.
    observation, _ = env.reset(seed=0)
    if config.learning.teacher is not None:
        scripted_action(env, observation, config.learning.teacher)
    env.step(map_arrays(np.zeros_like, env.action_space.sample()))
    env.close()
    weights = checkpoint or config.initial_weights
    if weights is not None:
        load_weights(weights, network)


def check_teacher(config: AgentTrainingConfig) -> None:
    """Raises `ConfigError` for a teacher that does not exist or cannot be asked."""
    teacher = config.learning.teacher
    if teacher is None:
        return
    if teacher not in POLICIES:
        raise ConfigError(f"unknown learning.teacher {teacher!r}: expected one of {', '.join(POLICIES)}, or None")
    if teacher == WITHDRAW and config.world.action_view != "unit":
        raise ConfigError(
            f"learning.teacher {teacher!r} plays in the action view 'unit' only: set --learning.teacher kite"
        )
    if config.self_play.enabled:
        raise ConfigError("learning.teacher plays one-player worlds only: set --learning.teacher None for self-play")


def build_algorithm(config: AgentTrainingConfig, checkpoint: Path | None) -> "EntityAgent":
    """The algorithm at the start of a run, or where `checkpoint` left it. `connect` must have been called."""
    from agents.rllib.algorithm import EntityAgentConfig

    algorithm: Any = EntityAgentConfig().from_agent(config).build_algo()
    if checkpoint is not None:
        algorithm.restore_from_path((checkpoint / "algorithm").absolute())
    elif config.initial_weights is not None:
        algorithm.load_initial_weights(config.initial_weights)
    return algorithm


class Training:
    """The loop around the algorithm: budget, checkpoints, reports."""

    def __init__(self, run: RunFolder, algorithm: "EntityAgent", reporter: ProgressReporter) -> None:
        self.run = run
        self.algorithm = algorithm
        self.reporter = reporter
        self._saved_updates = algorithm.updates
        self._saved_seconds = algorithm.seconds
        self._reported = (algorithm.seconds, algorithm.env_steps)

    def finished(self) -> bool:
        return self.algorithm.progress >= 1.0

    def step(self) -> None:
        """One iteration of the algorithm, and what is due after it."""
        result = self.algorithm.train()
        if self.algorithm.seconds - self._reported[0] >= REPORT_SECONDS or self.finished():
            self._report(result)
        due = self.run.config.checkpoint
        minutes = (self.algorithm.seconds - self._saved_seconds) / 60.0
        updates = self.algorithm.updates - self._saved_updates
        if (due.minutes and minutes >= due.minutes) or (due.updates and updates >= due.updates):
            self.save()

    def save(self) -> Path:
        """Writes a checkpoint of this moment."""
        weights = self.algorithm.network_weights()
        info = CheckpointInfo(
            updates=self.algorithm.updates,
            env_steps=self.algorithm.env_steps,
            seconds=self.algorithm.seconds,
            cpu_seconds=self.algorithm.cpu_seconds,
        )
        league = self.algorithm.league
        path = self.run.save(
            info,
            weights,
            self.algorithm.tables(),
            lambda folder: self.algorithm.save_to_path(folder.absolute()),
            league.standings() if league is not None else None,
        )
        self._saved_updates, self._saved_seconds = info.updates, info.seconds
        return path

    def _report(self, result: dict[str, Any]) -> None:
        sampled, learnt = result["env_runners"], result["learners"].get("default_policy", {})
        seconds, env_steps = self.algorithm.seconds, self.algorithm.env_steps
        record: dict[str, Any] = {
            "seconds": seconds,
            "cpu_seconds": self.algorithm.cpu_seconds,
            "updates": self.algorithm.updates,
            "env_steps": env_steps,
            "steps_per_second": (env_steps - self._reported[1]) / max(seconds - self._reported[0], 1e-9),
            "return": _number(sampled.get("episode_return_mean")),
            "win_rate": _number(sampled.get("win_rate")),
            "score": _number(sampled.get("score_mean")),
            "episode_length": _number(sampled.get("episode_len_mean")),
            "elo": _number(sampled.get("elo")),
            "weights_lag": _number(sampled.get("weights_lag")),
            "env_runners_lost": _number(sampled.get("num_env_runners_lost")) or 0.0,
        }
        record |= {f"learner/{name}": _number(value) for name, value in learnt.items()}
        self._reported = (seconds, env_steps)
        progress = self.algorithm.progress
        left = seconds * (1.0 - progress) / progress if progress > 0 else None
        self.reporter.report(record, progress, left)


def _number(value: Any) -> float | None:
    """Plain float; None where there is nothing to report yet."""
    return None if value is None or value != value else float(value)


def train(run: RunFolder, console: Console) -> Path:
    """Trains until the budget is used up and returns the last checkpoint.

    Exits with status 130 on Ctrl-C, after saving; with 1 if training cannot go on, naming the checkpoint to go on from.
    """
    from agents.rllib.cluster import connect

    config, checkpoint = run.config, run.latest()
    console.print("starting Ray, its env runners and learners ...", highlight=False)
    connect(config.cluster)
    # After `connect`, which sets what Ray reads from the environment when it is imported.
    from agents.rllib.algorithm import EnvRunnersLostError, LearnerLostError
    from agents.rllib.learner import NonFiniteError

    algorithm = build_algorithm(config, checkpoint)
    console.print(
        f"training {config.network.encoder} on {config.world.scenario}: {config.learning.algorithm}, "
        f"{config.cluster.num_env_runners} env runners, {config.cluster.num_learners} learners, "
        f"{config.cluster.num_acting} x {config.world.num_envs} worlds; run folder {run.path}"
        + (f"; resumed at {duration(algorithm.seconds)}" if checkpoint else "")
        + ("; episodes start anew" if checkpoint and not algorithm.episodes_restored else ""),
        highlight=False,
    )
    resume = f"perceiver-train-agent --resume {run.path}"
    try:
        with (
            ProgressReporter(run.path, console, config.name, algorithm.updates) as reporter,
            Interrupt().watching() as interrupt,
        ):
            training = Training(run, algorithm, reporter)
            try:
                while not training.finished() and not interrupt.requested:
                    training.step()
            except (NonFiniteError, LearnerLostError) as error:
                console.print(f"[red]training stopped:[/red] {error}", highlight=False)
                last = run.latest()
                console.print(f"last good checkpoint: {last}\nresume with: {resume}" if last else "no checkpoint yet")
                sys.exit(1)
            except EnvRunnersLostError as error:
                training.save()
                console.print(f"[red]training stopped:[/red] {error}\nsaved; resume with: {resume}", highlight=False)
                sys.exit(1)
            saved = training.save()
        if interrupt.requested:
            console.print(f"interrupted; saved {saved}\nresume with: {resume}", highlight=False)
            sys.exit(130)
        return saved
    finally:
        algorithm.stop()


def parse(arguments: list[str]) -> tuple[AgentTrainingConfig, bool]:
    """The config that the arguments ask for, and whether it is a resumed run's."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset")
    chooser.add_argument("--resume", type=Path)
    chosen, rest = chooser.parse_known_args(arguments)
    if chosen.resume is not None:
        chosen.resume = absolute(chosen.resume)
    if chosen.preset and chosen.resume:
        raise ConfigError("--preset and --resume exclude each other: a resumed run keeps its config")
    stored = RunFolder.open(chosen.resume).config if chosen.resume else None
    default = stored or (preset(chosen.preset) if chosen.preset else AgentTrainingConfig())
    config = tyro.cli(
        AgentTrainingConfig,
        default=default,
        args=rest,
        prog="perceiver-train-agent",
        description=(
            f"Trains an entity-encoder agent.\n\n--preset NAME starts from one of: {', '.join(sorted(PRESETS))}. "
            f"--resume RUN goes on with a run; then only {', '.join(_RESUMABLE[1:])} can be changed."
        ),
    )
    config = dataclasses.replace(config, world=resolve_transport(config.world))
    if stored is not None:
        config = dataclasses.replace(config, run=chosen.resume)
        for field in dataclasses.fields(config):
            if field.name not in _RESUMABLE and getattr(config, field.name) != getattr(stored, field.name):
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} cannot change when resuming {chosen.resume}: the checkpoint is "
                    f"of another {field.name}. Start a new run with "
                    f"--initial-weights {chosen.resume}/checkpoints/<newest>."
                )
    return config, stored is not None


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-train-agent`."""
    answer_version("perceiver-train-agent", arguments)
    console = Console()
    try:
        config, resumed = parse(sys.argv[1:] if arguments is None else arguments)
        if resumed:
            assert config.run is not None
            run = RunFolder(config.run, config)
            check_config(config, run.latest())
        else:
            check_config(config)
            folder = config.run or absolute(Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}")
            run = RunFolder.create(folder, config)
        started = time.monotonic()
        from agents.rllib.cluster import total_cpus

        with run.locked():
            if resumed:
                run.write_config()
            checkpoint = train(run, console)
            console.print(f"trained in {duration(time.monotonic() - started)}. Evaluating:", highlight=False)
            folder = evaluate_run(run, checkpoint, config.evaluation, console, workers=total_cpus())
    except ConfigError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(2)
    console.print(f"report: {folder / 'report.html'}", highlight=False)


if __name__ == "__main__":
    main()
