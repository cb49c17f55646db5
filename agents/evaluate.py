"""`perceiver-evaluate-agent RUN`: how often a trained agent wins, against whom, and how sure that is."""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from agents.acting.pysc2_worlds import resolve_transport
from agents.configuration import ConfigError, check_at_least
from agents.evaluation.scoring import check_worlds, evaluate_run
from agents.presets import ClusterConfig, EvaluationConfig
from agents.runs.checkpoints import RunFolder
from perceiver_agents import answer_version
from perceiver_agents.paths import make_absolute


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Evaluates a trained agent and writes a report."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    checkpoint: Path | None = None
    """A checkpoint of the run; the newest unless given."""
    backend: Literal["simulator", "pysc2"] | None = None
    """Where to play, as in training: `simulator`, or `pysc2` for games behind PySC2. The run's own unless given."""
    transport: Literal["auto", "memory", "websocket", "game"] = "auto"
    """What PySC2 plays on: `game` is the installation below SC2PATH, `memory` and `websocket` are the simulator's own
    protocol server. `auto` is `game` where SC2PATH is set, else `memory`."""
    workers: int = 1
    """Ray workers that play at the same time; 1 plays in this process, without Ray."""
    ray_address: str | None = None
    """With several workers, `auto` or host:port of a running cluster. Without it Ray starts on this machine."""
    evaluation: tyro.conf.OmitArgPrefixes[EvaluationConfig] = field(default_factory=EvaluationConfig)
    """What to play, and how often."""

    def __post_init__(self) -> None:
        make_absolute(self, "run", "checkpoint")
        check_at_least(self, 1, "workers")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-evaluate-agent`."""
    answer_version("perceiver-evaluate-agent", arguments)
    options = tyro.cli(EvaluateArguments, args=arguments, prog="perceiver-evaluate-agent")
    console = Console()
    try:
        run = RunFolder.open(options.run)
        checkpoint = options.checkpoint or run.latest()
        if checkpoint is None:
            raise ConfigError(f"{options.run} has no checkpoint yet")
        world = run.config.world
        if options.backend is not None or options.transport != "auto":
            backend = options.backend or world.backend
            world = dataclasses.replace(world, backend=backend, transport=options.transport)
        world = resolve_transport(world)
        check_worlds(world, options.evaluation)
        if options.workers > 1:
            from agents.rllib.cluster import connect

            connect(ClusterConfig(num_env_runners=options.workers, ray_address=options.ray_address))
        folder = evaluate_run(run, checkpoint, options.evaluation, console, workers=options.workers, world=world)
    except ConfigError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(2)
    console.print(f"report: {folder / 'report.html'}", highlight=False)


if __name__ == "__main__":
    main()
