"""Faults on a real Ray: what is killed comes back, or training stops with a checkpoint and says so.

Quick ones on one node; with several nodes (`ray.cluster_utils.Cluster`) under `pytest -m slow`.
"""

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.agents.ray_runs import build, in_time, tiny_config
from tests.patience import PATIENCE


def kill_process(handle: Any) -> None:
    """Kills the actor's process as the kernel would; nobody tells Ray."""
    import ray

    os.kill(ray.get(handle.apply.remote(lambda actor: os.getpid())), signal.SIGKILL)


def env_runners(algorithm: Any) -> dict[int, Any]:
    from agents.rllib import private as rllib_private

    return rllib_private.healthy_env_runners(algorithm.env_runner_group)


def learners(algorithm: Any) -> list[Any]:
    from agents.rllib import private as rllib_private

    return rllib_private.learner_actors(algorithm.learner_group)


def train_until(algorithm: Any, condition: Any) -> None:
    def run() -> None:
        while not condition():
            algorithm.train()

    in_time(run)


def test_the_only_env_runner_is_killed():
    """Training waits for it to come back and goes on; every update has its steps counted once."""
    algorithm = build(tiny_config(runners=1, updates=10_000))
    try:
        train_until(algorithm, lambda: algorithm.updates >= 3)
        kill_process(env_runners(algorithm)[1])
        before = algorithm.updates
        train_until(algorithm, lambda: algorithm.updates >= before + 10)
        assert env_runners(algorithm).keys() == {1}
        assert algorithm.env_steps == 64 * algorithm.updates
    finally:
        algorithm.stop()


@pytest.mark.parametrize("runners", [1, 0])
def test_two_learners_stay_identical_and_a_killed_one_ends_training_with_an_error(runners):
    """DDP: both learners hold the same weights after every update, and these are what is acted with.

    When one is killed, the other waits in a collective for the dead: training must end all the same, long before the
    collective gives up.
    """
    import ray

    from agents.rllib.algorithm import LearnerLostError

    algorithm = build(tiny_config(runners=runners, learners=2, updates=10_000))
    try:
        train_until(algorithm, lambda: algorithm.updates >= 4)
        weights = algorithm.network_weights()
        assert algorithm.env_steps == 128 * algorithm.updates
        for actor in learners(algorithm):
            of_learner = ray.get(actor.weights.remote())
            assert weights.keys() == of_learner.keys()
            for name in weights:
                np.testing.assert_array_equal(weights[name], of_learner[name], err_msg=name)
        kill_process(learners(algorithm)[1])
        with pytest.raises(LearnerLostError, match="one of 2 learners died"):
            train_until(algorithm, lambda: False)
    finally:
        in_time(algorithm.stop)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A node for the driver and the learners; tests add nodes for env runners."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    from agents.rllib.cluster import quiet

    quiet()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"learner": 2}})
    cluster.connect()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def build_on(cluster: Any, *, runners: int, learners: int, recovery_seconds: float = PATIENCE) -> Any:
    """Learners on the driver's node, env runners on others."""
    import dataclasses

    from agents.rllib.algorithm import EntityAgentConfig

    config = tiny_config(runners=runners, learners=learners, updates=10_000)
    settings = dataclasses.replace(
        config.cluster, ray_address=cluster.address, runner_recovery_seconds=recovery_seconds
    )
    algorithm_config = EntityAgentConfig().from_agent(dataclasses.replace(config, cluster=settings))
    algorithm_config.env_runners(custom_resources_per_env_runner={"runner": 1})
    algorithm_config.learners(custom_resources_per_learner={"learner": 1})
    return algorithm_config.build_algo()


@pytest.mark.slow
def test_lost_node_is_survived(cluster):
    """A node dies with an env runner and its fragments; the other goes on, a new node takes its place."""
    nodes = [cluster.add_node(num_cpus=1, resources={"runner": 1}) for _ in range(2)]
    algorithm = build_on(cluster, runners=2, learners=2)
    try:
        train_until(algorithm, lambda: algorithm.updates >= 3)
        cluster.remove_node(nodes[0])
        before = algorithm.updates
        train_until(algorithm, lambda: algorithm.updates >= before + 10)
        cluster.add_node(num_cpus=1, resources={"runner": 1})
        train_until(algorithm, lambda: len(env_runners(algorithm)) == 2)
        before = algorithm.updates
        train_until(algorithm, lambda: algorithm.updates >= before + 10)
    finally:
        algorithm.stop()


@pytest.mark.slow
def test_all_nodes_of_env_runners_lost(cluster):
    """No place for env runners is left: training stops with an error that says so, and its state can be saved."""
    from agents.rllib.algorithm import EnvRunnersLostError

    node = cluster.add_node(num_cpus=1, resources={"runner": 1})
    algorithm = build_on(cluster, runners=1, learners=0, recovery_seconds=30.0)
    try:
        train_until(algorithm, lambda: algorithm.updates >= 3)
        cluster.remove_node(node)
        with pytest.raises(EnvRunnersLostError, match="no env runner has answered for"):
            train_until(algorithm, lambda: False)
        assert algorithm.network_weights().keys()
    finally:
        algorithm.stop()
