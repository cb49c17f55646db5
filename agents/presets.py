"""Everything that a training run is told, as typed configs, and the presets that `--preset` names."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.configuration import (
    ConfigError,
    absolute_scenario,
    check_at_least,
    check_positive,
    check_shares,
)
from agents.losses.ppo import PPOConfig
from agents.losses.schedules import Schedule
from agents.losses.vtrace import VTraceConfig
from agents.models.network import NetworkConfig
from perceiver_agents.paths import make_absolute


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The worlds to act in."""

    scenario: str = "3m"
    """A scenario of the simulator (`3m`, `2s3z`, `MoveToBeacon`, ...), the path of a scenario file (`mine.toml`), or
    `module:factory` for worlds of your own."""
    opponent: str = "attack-wave"
    """The scripted opponent to train against; self-play takes its opponents from the league instead."""
    action_view: Literal["unit", "smac", "function"] = "unit"
    """How actions are given: an order and a target for each unit, SMAC's numbers, or one function for all units."""
    num_envs: int = 64
    """Worlds stepped together by each env runner, or by each learner that acts."""
    num_threads: int = 1
    """Threads that step them."""
    backend: Annotated[Literal["simulator", "pysc2"], tyro.conf.arg(prefix_name=False)] = "simulator"
    """`simulator` steps the worlds in the process; `pysc2` plays them through PySC2, each world a game of its own."""
    transport: Annotated[Literal["auto", "memory", "websocket", "game"], tyro.conf.arg(prefix_name=False)] = "auto"
    """What PySC2 plays on: `game` is the installation below SC2PATH, `memory` and `websocket` are the simulator's own
    protocol server. `auto` is `game` where SC2PATH is set, else `memory`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenario", absolute_scenario(self.scenario))
        check_at_least(self, 1, "num_envs", "num_threads")


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """The update. Schedules run over the budget."""

    algorithm: Literal["v-trace", "ppo"] = "v-trace"
    """`ppo` makes several epochs, in turns with env runners; `v-trace` lets them act meanwhile (IMPALA)."""
    vtrace: VTraceConfig = field(default_factory=VTraceConfig)
    """Settings of the loss, with `v-trace`."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """Settings of the loss, with `ppo`."""
    fragment_length: int = 32
    """Steps T of a fragment `[T, B]`."""
    fragments_per_update: int = 1
    """Fragments that each learner takes for one update."""
    learning_rate: Schedule = field(default_factory=lambda: Schedule(start=5e-4, end=5e-5))
    """Of Adam."""
    entropy_weight: Schedule = field(default_factory=lambda: Schedule(start=0.01, end=0.001))
    """Weight of the policy's entropy in the loss, which keeps it exploring."""
    adam_epsilon: float = 1e-5
    """Added to the root of Adam's second moment; larger values damp rare, large steps."""
    max_gradient_norm: float = 1.0
    """Gradients with a larger norm over all parameters are scaled down to it."""
    reward_scale: float = 1.0
    """Rewards are multiplied by it before the loss, never in reports."""
    teacher: str | None = None
    """A scripted policy (`agents.acting.scripted`) that is imitated in the beginning (`agents.losses.kickstarting`)."""
    teacher_weight: Schedule = field(default_factory=lambda: Schedule(start=1.0, end=0.0, until=0.2))
    """Weight of the imitation, beside the loss of the algorithm."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "fragment_length", "fragments_per_update")
        check_positive(self, "adam_epsilon", "max_gradient_norm", "reward_scale")


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What runs where on Ray."""

    num_env_runners: int = 1
    """Remote env runners; with 0 every learner acts in worlds of its own, in turns with learning."""
    num_learners: int = 0
    """Remote learners, data-parallel from 2 on; 0 learns in the driver."""
    ray_address: str | None = None
    """`auto` or host:port of a running cluster. Without it Ray starts here, on the loopback interface only."""
    num_cpus: int | None = None
    """CPUs that Ray may use on this machine; all of them unless given."""
    cpus_per_env_runner: float = 1.0
    """CPUs that Ray sets aside for each env runner."""
    cpus_per_learner: float = 1.0
    """CPUs that Ray sets aside for each remote learner, and its threads. With `ppo` env runners and learners take
    turns, so that both can be counted as half a CPU."""
    gpus_per_learner: float = 0.0
    """GPUs of each learner; below 1, learners share one. 0 learns on the CPU."""
    rollouts_in_flight: int = 2
    """Requests queued at each env runner (v-trace)."""
    runner_recovery_seconds: float = 120.0
    """Training stops with a resumable checkpoint when no env runner answers for that long."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "num_env_runners", "num_learners", "gpus_per_learner")
        check_at_least(self, 1, "num_cpus", "rollouts_in_flight")
        check_positive(self, "cpus_per_env_runner", "cpus_per_learner", "runner_recovery_seconds")

    @property
    def num_acting(self) -> int:
        """Processes that act, each in `world.num_envs` worlds: env runners or, without any, learners."""
        return self.num_env_runners or max(1, self.num_learners)


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """When training is over: at the first that is reached."""

    minutes: float | None = None
    """Wall-clock minutes of training, start-up left out, summed over resumes."""
    env_steps: int | None = None
    """Environment steps trained on."""

    def __post_init__(self) -> None:
        check_positive(self, "minutes", "env_steps")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How often to save, and how much to keep."""

    minutes: float | None = 1.0
    """Save every so many minutes of training."""
    updates: int | None = None
    """Save every so many updates; makes the moments of saving the same in every run."""
    keep: int = 3
    """The newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        check_positive(self, "minutes")
        check_at_least(self, 1, "updates", "keep")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation that follows training. Its seeds are never trained on."""

    episodes: int = 400
    """Episodes against each opponent in each scenario."""
    opponents: tuple[str, ...] = ("attack-wave",)
    """Scripted opponents to play against."""
    scenarios: tuple[str, ...] = ()
    """Scenarios to play; the training scenario unless given."""
    num_envs: int = 50
    """Worlds side by side; every one plays the same number of episodes, so that short ones do not count more."""
    deterministic: bool = False
    """Take the likeliest action instead of sampling."""
    videos: int = 2
    """Battles to show in the report."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenarios", tuple(absolute_scenario(scenario) for scenario in self.scenarios))
        check_at_least(self, 1, "episodes", "num_envs")
        check_at_least(self, 0, "videos")


@dataclass(frozen=True, kw_only=True)
class SelfPlayConfig:
    """Opponents from a league of past selves and scripted players (prioritised fictitious self-play)."""

    enabled: bool = False
    """Whether opponents come from a league; the worlds need a second player."""
    scripted: tuple[str, ...] = ("attack-wave",)
    """Scripted members of the league."""
    snapshot_updates: int = 200
    """Updates between two snapshots of the learner."""
    max_snapshots: int = 16
    """The league forgets the weakest snapshot beyond that."""
    weighting: Literal["hard", "even", "uniform"] = "hard"
    """PFSP weighting of an opponent beaten with probability p: (1 - p)^2, p(1 - p) or 1."""
    mirror_fraction: float = 0.3
    """Share of episodes against the learner's own newest weights."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "snapshot_updates", "max_snapshots")
        check_shares(self, "mirror_fraction")


@dataclass(frozen=True, kw_only=True)
class AgentTrainingConfig:
    """A training run of an entity-encoder agent."""

    run: Path | None = None
    """Folder of the run; `runs/<name>-<date>` unless given. It must not exist: nothing is overwritten."""
    name: str = "agent"
    """What reports call the run; the first part of the folder's name."""
    seed: int = 0
    """Of the first weights, the worlds and all draws."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """The worlds to act in."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Architecture of the agent."""
    learning: LearningConfig = field(default_factory=LearningConfig)
    """The update."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """What runs where on Ray."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """When training is over."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """How often to save, and how much to keep."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """The evaluation that follows training."""
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    """Opponents from a league of past selves."""
    initial_weights: Path | None = None
    """A checkpoint folder or `weights.safetensors` to start from, e.g. a cloned policy."""

    def __post_init__(self) -> None:
        make_absolute(self, "run", "initial_weights")


# For two cores: an env runner on one acts while the learner in the driver learns on the other.
_TWO_CORES = ClusterConfig(num_env_runners=1, num_learners=0)
# For two cores: each has a learner that acts in worlds of its own; neither waits for the other's kind of work.
_TWO_ACTING = ClusterConfig(num_env_runners=0, num_learners=2)
# Acting and learning in turns, in the driver, each on both cores.
_IN_TURNS = ClusterConfig(num_env_runners=0, num_learners=0)
_SMALL_NETWORK = NetworkConfig(channels=64, num_heads=2, num_layers=1, num_latents=8)


def _battle(scenario: str, budget: BudgetConfig) -> AgentTrainingConfig:
    return AgentTrainingConfig(
        name=scenario,
        world=WorldConfig(scenario=scenario, num_envs=64),
        network=_SMALL_NETWORK,
        # Many small updates: 512 steps each learnt faster per second of a core than larger ones, and than PPO.
        learning=LearningConfig(
            algorithm="v-trace",
            fragment_length=8,
            learning_rate=Schedule(start=1e-3, end=1e-4),
            entropy_weight=Schedule(start=0.005, end=0.0005),
            reward_scale=0.15,
        ),
        cluster=_TWO_CORES,
        budget=budget,
    )


def _taught(
    scenario: str,
    teacher: str,
    env_steps: int | None,
    *,
    minutes: float | None = None,
    reward_scale: float = 0.15,
    until: float,
    epochs: int = 2,
) -> AgentTrainingConfig:
    """PPO that imitates a scripted teacher until a share of training is over."""
    return AgentTrainingConfig(
        name=scenario,
        world=WorldConfig(scenario=scenario, num_envs=64),
        network=_SMALL_NETWORK,
        learning=LearningConfig(
            algorithm="ppo",
            ppo=PPOConfig(epochs=epochs, minibatches=4),
            fragment_length=32,
            learning_rate=Schedule(start=1e-3, end=1e-5),
            entropy_weight=Schedule(start=0.01, end=0.0005),
            reward_scale=reward_scale,
            teacher=teacher,
            teacher_weight=Schedule(start=1.0, end=0.0, until=until),
        ),
        cluster=_IN_TURNS,
        budget=BudgetConfig(env_steps=env_steps, minutes=minutes),
    )


def _mini_game(scenario: str, env_steps: int, reward_scale: float) -> AgentTrainingConfig:
    config = _battle(scenario, BudgetConfig(env_steps=env_steps))
    learning = dataclasses.replace(config.learning, reward_scale=reward_scale, fragment_length=16)
    return dataclasses.replace(config, learning=learning)


PRESETS: dict[str, AgentTrainingConfig] = {
    "3m": dataclasses.replace(_taught("3m", "withdraw", None, minutes=3.0, until=0.4), cluster=_TWO_ACTING),
    "8m": _taught("8m", "withdraw", 350_000, until=0.7, epochs=4),
    "2s3z": _taught("2s3z", "withdraw", 350_000, until=0.4),
    "3s5z": _taught("3s5z", "withdraw", 300_000, until=0.4),
    # The teacher loses most of these battles. Its lesson is soon learnt, and more epochs gain more after it.
    "5m_vs_6m": _taught("5m_vs_6m", "withdraw", 600_000, until=0.15, epochs=4),
    "10m_vs_11m": _taught("10m_vs_11m", "withdraw", 600_000, until=0.15, epochs=4),
    "MoveToBeacon": _mini_game("MoveToBeacon", 300_000, 0.3),
    "CollectMineralShards": _taught("CollectMineralShards", "focus-fire", 60_000, reward_scale=0.03, until=1.0),
    "DefeatRoaches": _taught("DefeatRoaches", "withdraw", 200_000, reward_scale=0.05, until=0.5),
    "DefeatZerglingsAndBanelings": _taught(
        "DefeatZerglingsAndBanelings", "withdraw", 60_000, reward_scale=0.05, until=0.8
    ),
    # Against past selves; the scripted opponents stay in the league as yardsticks.
    "3m-self-play": dataclasses.replace(
        _battle("3m", BudgetConfig(minutes=20.0)),
        self_play=SelfPlayConfig(enabled=True, scripted=("attack-wave", "focus-fire")),
        evaluation=EvaluationConfig(opponents=("attack-wave", "focus-fire")),
    ),
}


def preset(name: str) -> AgentTrainingConfig:
    """The preset called `name`; an unknown name gets an error that lists them."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: expected one of {', '.join(sorted(PRESETS))}")
    return dataclasses.replace(PRESETS[name], name=name)
