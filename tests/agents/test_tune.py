"""Ray Tune runs the algorithm: it samples fields of the config and resumes a trial whose learner was killed."""

import os
import signal
from typing import Any

import pytest

from agents.presets import ClusterConfig
from agents.rllib.cluster import connect
from tests.agents.ray_runs import tiny_config


@pytest.mark.slow
@pytest.mark.parametrize("runners", [1, 0])
def test_tuner_samples_fields_and_survives_a_killed_learner(tmp_path, runners):
    connect(ClusterConfig(num_env_runners=0, num_cpus=6))
    from ray import tune

    from agents.rllib import private as rllib_private
    from agents.rllib.algorithm import EntityAgent

    marker = tmp_path / "killed"

    class Killed(EntityAgent):
        """Kills its own learner once, in the middle of the first trial."""

        def training_step(self) -> None:
            if self.updates == 6 and not marker.exists():
                marker.touch()
                (learner,) = rllib_private.learner_actors(self.learner_group)
                import ray

                os.kill(ray.get(learner.apply.remote(lambda actor: os.getpid())), signal.SIGKILL)
            super().training_step()

    space: dict[str, Any] = {
        "agent": tiny_config(runners=runners, learners=1, updates=10_000),
        "agent_overrides": {"learning.vtrace.discount": tune.grid_search([0.9, 0.95])},
    }
    results = tune.Tuner(
        Killed,
        param_space=space,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"),
            name="trials",
            stop={"training_iteration": 10},
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True),
            verbose=0,
        ),
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
    ).fit()
    assert marker.exists() and not results.errors
    for result, discount in zip(results, [0.9, 0.95], strict=True):
        assert result.metrics is not None and result.metrics["training_iteration"] == 10
        assert result.config["agent_overrides"] == {"learning.vtrace.discount": discount}
