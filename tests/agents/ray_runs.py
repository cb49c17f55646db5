"""What the tests of training on Ray share: a small config, and one Ray per test process."""

import dataclasses
from collections.abc import Callable
from typing import Any

from agents.losses.ppo import PPOConfig
from agents.losses.schedules import Schedule
from agents.models.network import NetworkConfig
from agents.presets import (
    AgentTrainingConfig,
    BudgetConfig,
    CheckpointConfig,
    ClusterConfig,
    EvaluationConfig,
    LearningConfig,
    WorldConfig,
)
from tests.patience import PATIENCE

TINY = "tests.agents.tiny_worlds:make"
COUNTED = "tests.agents.tiny_worlds:make_counted"
NETWORK = NetworkConfig(channels=16, num_heads=2, num_layers=1, num_latents=4)


def tiny_config(
    *,
    runners: int = 0,
    learners: int = 0,
    algorithm: str = "v-trace",
    updates: int = 10,
    scenario: str = TINY,
    network: NetworkConfig = NETWORK,
    **changes: Any,
) -> AgentTrainingConfig:
    """A run of `updates` updates of 8 worlds by 8 steps per learner."""
    steps = 64 * max(1, learners) * updates
    config = AgentTrainingConfig(
        name="tiny",
        world=WorldConfig(scenario=scenario, num_envs=8),
        network=network,
        learning=LearningConfig(
            algorithm=algorithm,  # type: ignore[arg-type]
            fragment_length=8,
            learning_rate=Schedule(start=3e-3, end=1e-3),
            ppo=PPOConfig(epochs=2, minibatches=2),
        ),
        cluster=ClusterConfig(
            num_env_runners=runners, num_learners=learners, num_cpus=6, runner_recovery_seconds=PATIENCE
        ),
        budget=BudgetConfig(env_steps=steps),
        checkpoint=CheckpointConfig(minutes=None),
        evaluation=EvaluationConfig(episodes=16, num_envs=8, videos=0),
    )
    return dataclasses.replace(config, **changes)


def build(config: AgentTrainingConfig) -> Any:
    """The algorithm of `config` on this process's Ray, which is started at the first call."""
    from agents.rllib.cluster import connect
    from agents.train import build_algorithm

    connect(config.cluster)
    return build_algorithm(config, None)


def in_time(function: Callable[[], Any]) -> Any:
    """Runs `function`, which must end: fails if it hangs."""
    import threading

    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"still not done after {PATIENCE} s"
    if failure:
        raise failure[0]
    return outcome[0]
