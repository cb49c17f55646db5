"""The training loop as an RLlib algorithm: references from env runners to learners, weights the other way.

The driver never touches a fragment. Each request to an env runner carries the newest weights by reference and returns a
fragment by reference; each update sends references to the learners and gets new weights by reference. Everything that
may fail is waited for with a deadline, so a lost process ends in recovery or in an error, never in a hang.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_EPISODES_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune.registry import register_env

from agents import rllib_private
from agents.checkpoints import load_weights
from agents.configuration import with_overrides
from agents.league import MIRROR, League
from agents.presets import TrainConfig
from agents.rllib_learner import AgentLearner
from agents.rllib_module import AgentModule
from agents.rllib_runner import BatchedEnvRunner
from agents.rollout import Episodes

# The name under which RLlib validates "an environment"; env runners make the worlds from `config.agent.world`.
_ENV_ID = "perceiver_agents_worlds"
# How long one wait for env runners or learners lasts before the loop looks after the lost ones.
_WAIT_SECONDS = 0.5
# How long Ray may take to notice that a learner's process is gone.
_LEARNER_DEATH_SECONDS = 10.0
# Updates queued at remote learners: one running, one whose fragments are being fetched meanwhile.
_UPDATES_IN_FLIGHT = 2
# Episodes that the reported means go over.
_EPISODE_WINDOW = 200


class EnvRunnersLostError(RuntimeError):
    """No env runner has answered for `cluster.runner_recovery_seconds`."""


class LearnerLostError(RuntimeError):
    """A learner died; its group cannot go on without it."""


class EntityAgentConfig(AlgorithmConfig):
    """RLlib's side of a `TrainConfig`.

    `agent_overrides` replaces dotted fields of it, so that Ray Tune can sample them:
    `param_space={"agent": config, "agent_overrides": {"learning.vtrace.discount": tune.uniform(0.9, 1.0)}}`.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or EntityAgent)
        self.agent: TrainConfig = TrainConfig()
        self.agent_overrides: dict[str, Any] = {}
        self._dont_auto_sync_env_runner_states = True
        self.from_agent(self.agent)

    def from_agent(self, agent: TrainConfig) -> "EntityAgentConfig":
        """Sets what RLlib has to know from the run's config."""
        register_env(_ENV_ID, lambda context: None)
        cluster, learning = agent.cluster, agent.learning
        self.agent = agent
        self.environment(env=_ENV_ID, disable_env_checking=True)
        self.env_runners(
            env_runner_cls=BatchedEnvRunner,
            num_env_runners=cluster.num_env_runners,
            num_cpus_per_env_runner=cluster.cpus_per_env_runner,  # type: ignore[arg-type]
            num_envs_per_env_runner=agent.world.num_envs,
            rollout_fragment_length=learning.fragment_length,
            create_local_env_runner=cluster.num_env_runners == 0,
            validate_env_runners_after_construction=True,
        )
        self.learners(
            num_learners=cluster.num_learners,
            num_gpus_per_learner=cluster.gpus_per_learner,
            num_cpus_per_learner=cluster.cpus_per_learner,
        )
        # The buffers are constants.
        self.torch_ddp_kwargs = {"broadcast_buffers": False}
        self.training(
            lr=learning.learning_rate.start,
            train_batch_size_per_learner=(
                learning.fragment_length * agent.world.num_envs * learning.fragments_per_update
            ),
        )
        # A lost env runner is started again by Ray and found by `EntityAgent.restore_env_runners`.
        self.fault_tolerance(restart_failed_env_runners=True)
        self.debugging(seed=agent.seed, log_level="ERROR")
        return self

    def update_from_dict(self, config_dict: Any) -> "EntityAgentConfig":
        super().update_from_dict(config_dict)
        if "agent" in config_dict or "agent_overrides" in config_dict:
            self.from_agent(with_overrides(self.agent, self.agent_overrides))
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=AgentModule, model_config={"network": self.agent.network})

    def get_default_learner_class(self) -> type[AgentLearner]:
        return AgentLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}


@dataclass
class _Update:
    """An update that remote learners work on."""

    metrics: list[ray.ObjectRef]
    weights: ray.ObjectRef
    env_steps: int
    seq_no: int
    pending: list[ray.ObjectRef] = field(default_factory=list)


class EntityAgent(Algorithm):
    """Trains an `AgentNetwork` on fragments from batched env runners.

    With `v-trace` env runners and learners work at the same time; with `ppo`, or without remote env runners, in turns.
    Counters, over the run's whole life: `updates`, `env_steps` trained on, `seconds` spent training, and
    `processor_seconds` of the driver's process in them.
    """

    config: EntityAgentConfig  # type: ignore[assignment]
    # RLlib declares these as optional; they exist from `setup` on.
    env_runner_group: EnvRunnerGroup  # type: ignore[assignment]
    learner_group: LearnerGroup  # type: ignore[assignment]
    metrics: MetricsLogger  # type: ignore[assignment]
    _weights: tuple[Any, int]

    @classmethod
    def get_default_config(cls) -> EntityAgentConfig:
        return EntityAgentConfig()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.agent = self.config.agent
        self.updates = 0
        self.env_steps = 0
        self.seconds = 0.0
        self.processor_seconds = 0.0
        self._rollouts: dict[ray.ObjectRef, tuple[int, ray.ObjectRef]] = {}
        self._ready: deque[tuple[Any, int]] = deque()
        self._updates_in_flight: deque[_Update] = deque()
        self._pings: dict[int, ray.ObjectRef] = {}
        self._last_fragment_at = time.monotonic()
        self._matches = 0
        self.league = League(self.agent.self_play) if self.agent.self_play.enabled else None
        self._snapshot_references: dict[str, Any] = {}
        self._publish_learner_weights()

    @property
    def progress(self) -> float:
        """Share of the budget used, 0 to 1."""
        budget = self.agent.budget
        used = [0.0]
        if budget.env_steps:
            used.append(self.env_steps / budget.env_steps)
        if budget.minutes:
            used.append(self.seconds / (60.0 * budget.minutes))
        return min(1.0, max(used))

    def training_step(self) -> None:
        """One update: gathers the fragments for it, hands them to the learners, takes what they have finished."""
        started, processor_started = time.monotonic(), time.process_time()
        learners = max(1, self.agent.cluster.num_learners)
        fragments = self._gather(self.agent.learning.fragments_per_update * learners)
        if self.agent.cluster.num_learners == 0:
            self._update_locally(fragments)
        else:
            self._dispatch_update(fragments)
        if (
            self.league is not None
            and self.updates // self.agent.self_play.snapshot_updates > self.league.num_snapshots
        ):
            self.league.add_snapshot(self.network_weights())
            kept = self.league.snapshots
            self._snapshot_references = {n: r for n, r in self._snapshot_references.items() if n in kept}
        self.seconds += time.monotonic() - started
        self.processor_seconds += time.process_time() - processor_started

    # --- env runners -----------------------------------------------------------------------------------------------

    def _gather(self, count: int) -> list[tuple[Any, int]]:
        """`count` fragments (or references to them) with their env steps."""
        if self.agent.cluster.num_env_runners == 0:
            return [self._rollout_locally() for _ in range(count)]
        in_turns = self.agent.learning.algorithm == "ppo"
        while len(self._ready) < count:
            self._request_rollouts(count - len(self._ready) if in_turns else None)
            self._collect_rollouts()
            self.restore_env_runners(self.env_runner_group)
            silent = time.monotonic() - self._last_fragment_at
            if not self._rollouts and silent > self.agent.cluster.runner_recovery_seconds:
                raise EnvRunnersLostError(
                    f"no env runner has answered for {silent:.0f} s: all {self.agent.cluster.num_env_runners} are lost "
                    "and none came back (cluster.runner_recovery_seconds sets how long to wait)"
                )
        fragments = [self._ready.popleft() for _ in range(count)]
        if not in_turns:
            self._request_rollouts(None)  # so that env runners work on while the learners do
        return fragments

    def _rollout_locally(self) -> tuple[Any, int]:
        fragment, metrics = self.env_runner.rollout(*self._weights, *self._matchmake())
        self._log_rollout(metrics)
        return fragment, metrics["env_steps"]

    def _request_rollouts(self, wanted: int | None) -> None:
        """Sends requests with the newest weights: `wanted` in all, or as many as fit in flight at every runner."""
        runners = rllib_private.healthy_env_runners(self.env_runner_group)
        load = {runner_id: 0 for runner_id in runners}
        for runner_id, _ in self._rollouts.values():
            if runner_id in load:
                load[runner_id] += 1
        limit = self.agent.cluster.rollouts_in_flight
        requests = len(load) * limit - sum(load.values()) if wanted is None else wanted - len(self._rollouts)
        for _ in range(requests if load else 0):
            runner_id = min(load, key=lambda key: load[key])
            references: Any = (
                runners[runner_id].rollout.options(num_returns=2).remote(*self._weights, *self._matchmake())
            )
            fragment, metrics = references
            self._rollouts[metrics] = (runner_id, fragment)
            load[runner_id] += 1

    def _matchmake(self) -> tuple[Any, ...]:
        """The opponent that rides on a request, with its weights by reference; nothing without a league."""
        if self.league is None:
            return ()
        name = self.league.draw(np.random.default_rng((self.agent.seed, self._matches)))
        self._matches += 1
        if name == MIRROR:
            return name, self._weights[0] if not self._shared_network else self.network_weights()
        if name not in self.league.snapshots:
            return name, None
        if name not in self._snapshot_references:
            weights = self.league.snapshots[name]
            self._snapshot_references[name] = ray.put(weights) if self._remote_runners else weights
        return name, self._snapshot_references[name]

    def _collect_rollouts(self) -> None:
        """Waits shortly for rollouts to finish; a runner that failed is marked lost and its requests are forgotten."""
        if not self._rollouts:
            time.sleep(_WAIT_SECONDS / 5)
            return
        done, _ = ray.wait(list(self._rollouts), num_returns=1, timeout=_WAIT_SECONDS)
        for reference in done:
            runner_id, fragment = self._rollouts.pop(reference)
            try:
                metrics = ray.get(reference)
            except RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except RayError:
                self._forget_env_runner(runner_id)
                continue
            self._last_fragment_at = time.monotonic()
            self._log_rollout(metrics)
            self._ready.append((fragment, metrics["env_steps"]))

    def _forget_env_runner(self, runner_id: int) -> None:
        rllib_private.mark_env_runner_lost(self.env_runner_group, runner_id)
        self._rollouts = {ref: value for ref, value in self._rollouts.items() if value[0] != runner_id}
        self.metrics.log_value((ENV_RUNNER_RESULTS, "num_env_runners_lost"), 1, reduce="lifetime_sum")

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Takes env runners back that answer again. Unlike RLlib's own, waits for none and sends them no state."""
        restored: list[int] = []
        for runner_id, handle in rllib_private.lost_env_runners(env_runner_group).items():
            ping = self._pings.setdefault(runner_id, handle.ping.remote())
            if not ray.wait([ping], timeout=0)[0]:
                continue
            del self._pings[runner_id]
            try:
                ray.get(ping)
            except RayError:
                continue
            rllib_private.mark_env_runner_found(env_runner_group, runner_id)
            restored.append(runner_id)
        return restored

    # --- learners --------------------------------------------------------------------------------------------------

    def _timesteps(self, seq_no: int) -> dict[str, Any]:
        return {"progress": self.progress, "update": seq_no}

    def _update_locally(self, fragments: list[tuple[Any, int]]) -> None:
        results: Any = self.learner_group.update(
            training_data=TrainingData(batch_refs=[fragment for fragment, _ in fragments]),
            timesteps=self._timesteps(self.updates),
            return_weights=not self._shared_network,
            # The learner resolves references itself: RLlib's own way flattens our fragments into loose arrays.
            defer_solve_refs_to_learner=True,
        )
        metrics, weights = results[0]
        self.updates += 1
        if not self._shared_network:
            self._weights = (ray.put(weights) if self.agent.cluster.num_env_runners else weights, self.updates)
        else:
            self._weights = (None, self.updates)
        self._log_update(metrics, sum(steps for _, steps in fragments))

    def _dispatch_update(self, fragments: list[tuple[Any, int]]) -> None:
        """Sends one update to all learners, then takes finished updates until there is room for another."""
        actors = rllib_private.learner_actors(self.learner_group)
        seq_no = self.updates + len(self._updates_in_flight)
        results: list[Any] = [
            actor.update.options(num_returns=2).remote(
                training_data=TrainingData(batch_refs=[fragment for fragment, _ in fragments[rank :: len(actors)]]),
                timesteps=self._timesteps(seq_no),
                return_weights=rank == 0,
            )
            for rank, actor in enumerate(actors)
        ]
        metrics: list[ray.ObjectRef] = [result[0] for result in results]
        self._updates_in_flight.append(
            _Update(metrics, results[0][1], sum(steps for _, steps in fragments), seq_no, list(metrics))
        )
        # In turns, the next fragments must come from the new weights.
        room = 0 if self.agent.learning.algorithm == "ppo" or not self._remote_runners else _UPDATES_IN_FLIGHT - 1
        while len(self._updates_in_flight) > room:
            self._finish_update()

    @property
    def _remote_runners(self) -> bool:
        return self.agent.cluster.num_env_runners > 0

    def _finish_update(self) -> None:
        """Waits for the oldest update in flight. An error of one learner ends the group: the others may wait for it."""
        update = self._updates_in_flight[0]
        while update.pending:
            done, update.pending = ray.wait(update.pending, num_returns=1, timeout=_WAIT_SECONDS)
            try:
                ray.get(done)
            except RayError as error:
                lost = isinstance(error, RayActorError) or self._any_learner_died(update)
                rllib_private.abandon_learners(self.learner_group)
                if lost:
                    raise LearnerLostError(
                        f"one of {self.agent.cluster.num_learners} learners died in the middle of an update"
                    ) from error
                assert isinstance(error, RayTaskError)
                raise error.as_instanceof_cause() from None
        self._updates_in_flight.popleft()
        self.updates += 1
        weights = update.weights if self._remote_runners else ray.get(update.weights)
        self._weights = (weights, self.updates)
        per_learner = ray.get(update.metrics)
        means = {name: sum(metrics[name] for metrics in per_learner) / len(per_learner) for name in per_learner[0]}
        self._log_update(means, update.env_steps)

    def _any_learner_died(self, update: _Update) -> bool:
        """Whether an update failed because a learner is gone, and not because of what it was given.

        The survivors see no more than a broken connection, often before Ray knows of the death.
        """
        done, _ = ray.wait(update.metrics, num_returns=len(update.metrics), timeout=_LEARNER_DEATH_SECONDS)
        for reference in done:
            try:
                ray.get(reference)
            except RayActorError:
                return True
            except RayError:
                continue
        return False

    def finish_updates(self) -> None:
        """Waits for all updates in flight, so that counters, weights and optimizer state agree (before saving)."""
        while self._updates_in_flight:
            self._finish_update()

    def _publish_learner_weights(self) -> None:
        """Makes the learners' weights those that the next requests carry."""
        self._shared_network = False
        if self.agent.cluster.num_learners == 0:
            learner = rllib_private.local_learner(self.learner_group)
            if self.agent.cluster.num_env_runners == 0 and learner.device.type == "cpu":
                self.env_runner.share_network(learner.network)
                self._shared_network = True
                self._weights = (None, self.updates)
                return
            weights = learner.weights()
        else:
            weights = ray.get(rllib_private.learner_actors(self.learner_group)[0].weights.remote())
        self._weights = (ray.put(weights) if self._remote_runners else weights, self.updates)

    def load_initial_weights(self, path: Path) -> None:
        """Starts from the weights of a checkpoint folder or file, with a fresh optimizer."""

        def load(learner: Any, _: Any = None) -> None:
            load_weights(path, learner.network)

        for result in self.learner_group.foreach_learner(load):
            if not result.ok:
                raise result.get()
        self._publish_learner_weights()

    def network_weights(self) -> dict[str, Any]:
        """The network's state dict as arrays."""
        self.finish_updates()
        if self._shared_network:
            return rllib_private.local_learner(self.learner_group).weights()
        return ray.get(self._weights[0]) if self._remote_runners else self._weights[0]

    # --- metrics and state -----------------------------------------------------------------------------------------

    def _log_rollout(self, metrics: dict[str, Any]) -> None:
        episodes: Episodes = metrics["episodes"]
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), metrics["env_steps"], reduce="lifetime_sum"
        )
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, "weights_lag"), self.updates - metrics["weights_seq_no"], window=_EPISODE_WINDOW
        )
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_EPISODES_LIFETIME), len(episodes.returns), reduce="lifetime_sum"
        )
        if self.league is not None:
            for opponent, outcome in zip(episodes.opponents, episodes.outcomes, strict=True):
                self.league.record(opponent, outcome)
            self.metrics.log_value((ENV_RUNNER_RESULTS, "elo"), self.league.elo[MIRROR], window=1)
        for key, values in (
            (EPISODE_RETURN_MEAN, episodes.returns),
            (EPISODE_LEN_MEAN, episodes.lengths),
            ("win_rate", episodes.won),
            ("score_mean", episodes.scores),
        ):
            for value in values:
                self.metrics.log_value((ENV_RUNNER_RESULTS, key), float(value), window=_EPISODE_WINDOW)

    def _log_update(self, metrics: dict[str, float], env_steps: int) -> None:
        self.env_steps += env_steps
        self.metrics.log_value(
            (LEARNER_RESULTS, ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), env_steps, reduce="lifetime_sum"
        )
        for name, value in metrics.items():
            self.metrics.log_value((LEARNER_RESULTS, DEFAULT_MODULE_ID, name), value, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.finish_updates()
        counters = {
            "updates": self.updates,
            "env_steps": self.env_steps,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "matches": self._matches,
        }
        league = self.league.get_state() if self.league is not None else None
        return super().get_state(*args, **kwargs) | {"counters": counters, "league": league}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "counters" in state:
            self.updates = state["counters"]["updates"]
            self.env_steps = state["counters"]["env_steps"]
            self.seconds = state["counters"]["seconds"]
            self.processor_seconds = state["counters"]["processor_seconds"]
            self._matches = state["counters"]["matches"]
        if self.league is not None and state.get("league") is not None:
            self.league.set_state(state["league"])

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        self._ready.clear()
        self._rollouts.clear()
        self._publish_learner_weights()

    def cleanup(self) -> None:
        rllib_private.abandon_learners(self.learner_group)
        super().cleanup()
