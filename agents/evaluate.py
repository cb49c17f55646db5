"""`perceiver-evaluate-agent RUN`: how often a trained agent wins, against whom, and how sure that is.

Every world of an evaluation plays the same number of episodes, fixed beforehand: taking the first N episodes to finish
would count short ones (quick defeats, say) more often than they occur.
"""

import dataclasses
import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from agents.acting.pysc2_worlds import check_backend, resolve_transport
from agents.acting.rollout import EpisodeCounter, Episodes, make_worlds, to_arrays, to_tensors
from agents.acting.scripted import scripted_action
from agents.configuration import ConfigError, config_to_dict
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import ClusterConfig, EvaluationConfig, TrainConfig, WorldConfig
from agents.runs.checkpoints import RunFolder, load_weights, read_info, read_standings

# Worlds of evaluations are seeded from here on; training stays below (`agents.rllib.runner`), and the client protocol
# ends at 2^32.
FIRST_SEED = 2**31
# 97.5% quantile of the normal distribution: the intervals hold 95%.
_Z = 1.959963984540054


def wilson_interval(wins: int, episodes: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927, as in Brown, Cai and DasGupta 2001, section 3)."""
    if episodes == 0:
        return 0.0, 1.0
    share, z2 = wins / episodes, _Z * _Z
    centre = (share + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = _Z / (1 + z2 / episodes) * math.sqrt(share * (1 - share) / episodes + z2 / (4 * episodes**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # At the ends the exact bound is the share itself; floating point would miss it by a hair.
    return (0.0 if wins == 0 else low), (1.0 if wins == episodes else high)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One scenario against one opponent."""

    scenario: str
    opponent: str
    episodes: int
    wins: int
    win_rate: float
    win_rate_interval: tuple[float, float]
    return_mean: float
    return_standard_error: float
    score_mean: float
    score_standard_error: float
    length_mean: float


def summarise(scenario: str, opponent: str, episodes: Episodes) -> Result:
    """Means, standard errors and the win rate's interval of finished episodes."""

    def mean(values: list[Any]) -> float:
        return float(np.mean(values)) if values else math.nan

    def standard_error(values: list[float]) -> float:
        return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan

    return Result(
        scenario=scenario,
        opponent=opponent,
        episodes=len(episodes.won),
        wins=sum(episodes.won),
        win_rate=mean(episodes.won),
        win_rate_interval=wilson_interval(sum(episodes.won), len(episodes.won)),
        return_mean=mean(episodes.returns),
        return_standard_error=standard_error(episodes.returns),
        score_mean=mean(episodes.scores),
        score_standard_error=standard_error(episodes.scores),
        length_mean=mean(episodes.lengths),
    )


def play(
    network: AgentNetwork | str,
    world: WorldConfig,
    *,
    num_envs: int,
    rounds: int,
    seed: int,
    deterministic: bool = False,
) -> Episodes:
    """Plays `rounds` episodes in each of `num_envs` worlds.

    network: an agent, or the name of a scripted policy (`agents.acting.scripted`) that plays in its place.
    """
    env = make_worlds(world, num_envs, seed)
    observation, _ = env.reset(seed=seed)
    counter, kept = EpisodeCounter(num_envs), Episodes()
    played = np.zeros(num_envs, dtype=np.int64)
    is_first = np.ones(num_envs, dtype=bool)
    state = {} if isinstance(network, str) else network.initial_state(num_envs)
    # The draws of an evaluation are its own: it must not depend on, or disturb, whoever calls.
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        while (played < rounds).any():
            if isinstance(network, str):
                action = scripted_action(env, observation, network)
            else:
                step = network.act(
                    to_tensors(observation), state, torch.as_tensor(is_first), deterministic=deterministic
                )
                action, state = to_arrays(step.action), step.state
            observation, reward, terminated, truncated, infos = env.step(action)
            is_first = terminated | truncated
            finished = counter.step(np.asarray(reward), is_first, infos)
            within = [index for index, slot in enumerate(finished.slots) if played[slot] < rounds]
            played[finished.slots] += 1
            kept.extend(Episodes(**{name: [values[i] for i in within] for name, values in vars(finished).items()}))
    env.close()
    return kept


def play_weights(
    network: NetworkConfig, weights: dict[str, np.ndarray], world: WorldConfig, job: dict[str, Any]
) -> Episodes:
    """`play` in a process that has nothing yet: builds the network for `world`, loads the weights, plays."""
    torch.set_num_threads(1)
    return play(build_network(network, world, weights), world, **job)


def build_network(config: NetworkConfig, world: WorldConfig, weights: dict[str, np.ndarray] | Path) -> AgentNetwork:
    """The network for `world`'s spaces with weights from a checkpoint or from arrays."""
    env = make_worlds(world, 1, 0)
    network = AgentNetwork(config, env.single_observation_space, env.single_action_space)
    env.close()
    if isinstance(weights, Path):
        load_weights(weights, network)
    else:
        network.load_state_dict({name: torch.as_tensor(np.array(array)) for name, array in weights.items()})
    return network.eval()


def evaluate(
    config: TrainConfig, weights: dict[str, np.ndarray], evaluation: EvaluationConfig, *, workers: int
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
    """Shares the worlds out; world i plays the same episodes whoever gets it."""
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
    from safetensors.numpy import load_file

    from agents.runs.report import write_report

    started = time.monotonic()
    config = run.config if world is None else dataclasses.replace(run.config, world=world)
    first = dataclasses.replace(config.world, scenario=(evaluation.scenarios or (config.world.scenario,))[0])
    network = build_network(config.network, first, checkpoint)
    results = evaluate(config, load_file(checkpoint / "weights.safetensors"), evaluation, workers=workers)
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
    write_report(folder / "report.html", run, content, network)
    return folder


def _new_folder(parent: Path) -> Path:
    """The first free of `parent/001`, `parent/002`, ..."""
    number = 1 + max((int(path.name) for path in parent.glob("[0-9]*") if path.name.isdigit()), default=0)
    folder = parent / f"{number:03d}"
    folder.mkdir(parents=True)
    return folder


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
    cluster: ClusterConfig = field(default_factory=lambda: ClusterConfig(num_env_runners=0))
    evaluation: tyro.conf.OmitArgPrefixes[EvaluationConfig] = field(default_factory=EvaluationConfig)


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


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-evaluate-agent`."""
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

            connect(dataclasses.replace(options.cluster, num_env_runners=options.workers))
        folder = evaluate_run(run, checkpoint, options.evaluation, console, workers=options.workers, world=world)
    except ConfigError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(2)
    console.print(f"report: {folder / 'report.html'}", highlight=False)


if __name__ == "__main__":
    main()
