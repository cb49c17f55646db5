"""The training loop as an RLlib algorithm: references from env runners to learners, weights the other way.

The driver never touches a fragment. Each request to an env runner carries the newest weights by reference and returns a
fragment by reference. Each update sends references to the learners and gets new weights by reference. Without env
runners the learners act themselves, and a request for an update carries only the opponents to play against. Every wait
for something that may fail has a deadline: a lost process ends in recovery or in an error, never in a hang.
"""

import time
from collections import deque
from collections.abc import Callable
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

from agents.acting.episodes import Episodes
from agents.configuration import with_overrides
from agents.league.league import MIRROR, League
from agents.models.earlier_vocabulary import EARLIER_TABLES
from agents.models.vocabulary import Tables, map_weights, same_tables
from agents.presets import AgentTrainingConfig
from agents.rllib import private as rllib_private
from agents.rllib.learner import AgentLearner
from agents.rllib.module import VOCABULARY, AgentModule
from agents.rllib.runner import BatchedEnvRunner, IdleEnvRunner
from agents.runs.checkpoints import load_weights
from agents.runs.earlier import upgrade_info

# The name under which RLlib validates "an environment"; env runners make the worlds from `config.agent.world`.
_ENV_ID = "perceiver_agents_worlds"
# How long one wait for env runners or learners lasts before the loop looks after the lost ones.
_WAIT_SECONDS = 0.5
# How long Ray may take to notice that a learner's process is gone.
_LEARNER_DEATH_SECONDS = 10.0
# How long learners may take to close their worlds in the end.
_STOP_SECONDS = 5.0
# Updates queued at remote learners: one running, one whose fragments are being fetched meanwhile. Learners that act
# find the next one waiting.
_UPDATES_IN_FLIGHT = 2
# Episodes that the reported means go over.
_EPISODE_WINDOW = 200


class EnvRunnersLostError(RuntimeError):
    """No env runner has answered for `cluster.runner_recovery_seconds`."""


class LearnerLostError(RuntimeError):
    """A learner died; its group cannot go on without it."""


class EntityAgentConfig(AlgorithmConfig):
    """RLlib's side of a `AgentTrainingConfig`.

    `agent_overrides` replaces dotted fields of it, so that Ray Tune can sample them:
    `param_space={"agent": config, "agent_overrides": {"learning.vtrace.discount": tune.uniform(0.9, 1.0)}}`.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or EntityAgent)
        self.agent: AgentTrainingConfig = AgentTrainingConfig()
        self.agent_overrides: dict[str, Any] = {}
        self._dont_auto_sync_env_runner_states = True
        self.from_agent(self.agent)

    def from_agent(self, agent: AgentTrainingConfig) -> "EntityAgentConfig":
        """Sets what RLlib has to know from the run's config."""
        register_env(_ENV_ID, lambda context: None)
        cluster, learning = agent.cluster, agent.learning
        self.agent = agent
        self.environment(env=_ENV_ID, disable_env_checking=True)
        self.env_runners(
            env_runner_cls=BatchedEnvRunner if cluster.num_env_runners else IdleEnvRunner,
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
    """An update that remote learners work on. Where they act, they return `rollouts`, else the first the `weights`."""

    metrics: list[ray.ObjectRef]
    env_steps: int
    weights: ray.ObjectRef | None = None
    rollouts: list[ray.ObjectRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = list(self.metrics)


class EntityAgent(Algorithm):
    """Trains an `AgentNetwork` on fragments from batched env runners, or from learners that act.

    With `v-trace` env runners and learners work at the same time; with `ppo` in turns. Counters, over the run's whole
    life: `updates`, `env_steps` trained on, `seconds` spent training, and the driver's `cpu_seconds` in them.
    """

    config: EntityAgentConfig  # type: ignore[assignment]
    # RLlib declares these as optional; they exist from `setup` on.
    env_runner_group: EnvRunnerGroup  # type: ignore[assignment]
    learner_group: LearnerGroup  # type: ignore[assignment]
    metrics: MetricsLogger  # type: ignore[assignment]
    _weights: tuple[ray.ObjectRef, int]
    """What env runners act with, and the number of updates it has seen."""

    @classmethod
    def get_default_config(cls) -> EntityAgentConfig:
        return EntityAgentConfig()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.agent = self.config.agent
        self.updates = 0
        self.env_steps = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._rollouts: dict[ray.ObjectRef, tuple[int, ray.ObjectRef]] = {}
        self._ready: deque[tuple[ray.ObjectRef, int]] = deque()
        self._updates_in_flight: deque[_Update] = deque()
        self._pings: dict[int, ray.ObjectRef] = {}
        self._last_fragment_at = time.monotonic()
        self._recent: dict[str, deque[float]] = {}
        self._matches_drawn = 0
        # Whether the episodes of a restored checkpoint go on. Env runners always start new ones.
        self.episodes_restored = False
        self.league = League(self.agent.self_play) if self.agent.self_play.enabled else None
        self._snapshot_references: dict[str, ray.ObjectRef] = {}
        self._publish_learner_weights()

    @property
    def progress(self) -> float:
        """Share of the budget used, 0 to 1."""
        return self._progress_after(self.env_steps)

    @property
    def _planned_progress(self) -> float:
        """`progress` when the updates in flight are done: it does not depend on how many are."""
        return self._progress_after(self.env_steps + sum(update.env_steps for update in self._updates_in_flight))

    def _progress_after(self, env_steps: int) -> float:
        budget = self.agent.budget
        used = [0.0]
        if budget.env_steps:
            used.append(env_steps / budget.env_steps)
        if budget.minutes:
            used.append(self.seconds / (60.0 * budget.minutes))
        return min(1.0, max(used))

    def training_step(self) -> None:
        """One update: gathers the fragments for it, hands them to the learners, takes what they have finished."""
        started, cpu_started = time.monotonic(), time.process_time()
        if not self._learners_act:
            learners = max(1, self.agent.cluster.num_learners)
            fragments = self._gather(self.agent.learning.fragments_per_update * learners)
            if self.agent.cluster.num_learners == 0:
                self._update_locally(fragments)
            else:
                self._dispatch_update(fragments)
        elif self.agent.cluster.num_learners == 0:
            self._act_and_update_locally()
        else:
            # The next opponents are drawn by the results of the last games.
            most = _UPDATES_IN_FLIGHT if self.league is None else 1
            while not self._updates_in_flight or (len(self._updates_in_flight) < most and self._planned_progress < 1.0):
                self._dispatch_acting()
            self._finish_update()
        if (
            self.league is not None
            and self.updates // self.agent.self_play.snapshot_updates > self.league.num_snapshots
        ):
            self.league.add_snapshot(self.network_weights())
            kept = self.league.snapshots
            self._snapshot_references = {n: r for n, r in self._snapshot_references.items() if n in kept}
        self.seconds += time.monotonic() - started
        self.cpu_seconds += time.process_time() - cpu_started

    # --- env runners -----------------------------------------------------------------------------------------------

    def _gather(self, count: int) -> list[tuple[ray.ObjectRef, int]]:
        """References to `count` fragments, with their env steps."""
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

    def _matchmake(self) -> tuple[str, ray.ObjectRef | None]:
        """The opponent that rides on a request, with a snapshot's weights by reference; "" without a league."""
        if self.league is None:
            return "", None
        name = self.league.draw(np.random.default_rng((self.agent.seed, self._matches_drawn)))
        self._matches_drawn += 1
        if name not in self.league.snapshots:
            return name, None
        if name not in self._snapshot_references:
            self._snapshot_references[name] = ray.put(self.league.snapshots[name])
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

    @property
    def _learners_act(self) -> bool:
        return self.agent.cluster.num_env_runners == 0

    def _timesteps(self) -> dict[str, Any]:
        """What the next update is told of the course of training."""
        return {"progress": self._planned_progress, "update": self.updates + len(self._updates_in_flight)}

    def _act_and_update_locally(self) -> None:
        learner = rllib_private.local_learner(self.learner_group)
        metrics, rollouts = learner.act_and_update(timesteps=self._timesteps(), matches=self._matches_of_update())
        self._log_rollouts(rollouts)
        self.updates += 1
        self._log_update(metrics, sum(rollout["env_steps"] for rollout in rollouts))

    def _dispatch_acting(self) -> None:
        """Sends all learners an update from fragments of their own."""
        actors = rllib_private.learner_actors(self.learner_group)
        timesteps = self._timesteps()
        results: list[Any] = [
            actor.act_and_update.options(num_returns=2).remote(timesteps=timesteps, matches=self._matches_of_update())
            for actor in actors
        ]
        metrics, rollouts = (list(references) for references in zip(*results, strict=True))
        env_steps = self.config.train_batch_size_per_learner * len(actors)
        self._updates_in_flight.append(_Update(metrics, env_steps, rollouts=rollouts))

    def _matches_of_update(self) -> list[tuple[str, ray.ObjectRef | None]]:
        """Against whom each fragment of one learner's update is played."""
        return [self._matchmake() for _ in range(self.agent.learning.fragments_per_update)]

    def _update_locally(self, fragments: list[tuple[ray.ObjectRef, int]]) -> None:
        results: Any = self.learner_group.update(
            training_data=TrainingData(batch_refs=[fragment for fragment, _ in fragments]),
            timesteps=self._timesteps(),
            # The learner resolves references itself: RLlib's own way flattens our fragments into loose arrays.
            defer_solve_refs_to_learner=True,
        )
        metrics, weights = results[0]
        self.updates += 1
        self._weights = (ray.put(weights), self.updates)
        self._log_update(metrics, sum(steps for _, steps in fragments))

    def _dispatch_update(self, fragments: list[tuple[ray.ObjectRef, int]]) -> None:
        """Sends one update to all learners, then takes finished updates until there is room for another."""
        actors = rllib_private.learner_actors(self.learner_group)
        results: list[Any] = [
            actor.update.options(num_returns=2).remote(
                training_data=TrainingData(batch_refs=[fragment for fragment, _ in fragments[rank :: len(actors)]]),
                timesteps=self._timesteps(),
                return_weights=rank == 0,
            )
            for rank, actor in enumerate(actors)
        ]
        env_steps = sum(steps for _, steps in fragments)
        self._updates_in_flight.append(_Update([result[0] for result in results], env_steps, weights=results[0][1]))
        # In turns, the next fragments must come from the new weights.
        self.finish_updates(0 if self.agent.learning.algorithm == "ppo" else _UPDATES_IN_FLIGHT - 1)

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
                    raise self._learner_lost() from error
                assert isinstance(error, RayTaskError)
                raise error.as_instanceof_cause() from None
        self._updates_in_flight.popleft()
        for rollouts in ray.get(update.rollouts):
            self._log_rollouts(rollouts)
        self.updates += 1
        if update.weights is not None:
            self._weights = (update.weights, self.updates)
        per_learner = ray.get(update.metrics)
        means = {name: sum(metrics[name] for metrics in per_learner) / len(per_learner) for name in per_learner[0]}
        self._log_update(means, update.env_steps)

    def _any_learner_died(self, update: _Update) -> bool:
        """Whether an update failed because a learner is gone, and not because of its data.

        The survivors only see a broken connection, often before Ray knows of the death.
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

    def finish_updates(self, left: int = 0) -> None:
        """Waits until `left` updates are in flight. After the last, counters, weights and optimizer state agree."""
        while len(self._updates_in_flight) > left:
            self._finish_update()

    def _publish_learner_weights(self) -> None:
        """Lets the next requests to env runners carry the learners' weights."""
        if not self._learners_act:
            self._weights = (ray.put(self._learner_weights()), self.updates)

    def _learner_weights(self) -> dict[str, Any]:
        return self._foreach_learner(lambda learner: learner.weights() if learner.is_first else None)[0]

    def load_initial_weights(self, path: Path) -> None:
        """Starts from the weights of a checkpoint folder or file, with a fresh optimizer."""

        def load(learner: Any) -> None:
            load_weights(path, learner.network)

        self._foreach_learner(load)
        self._publish_learner_weights()

    def _foreach_learner(self, function: Callable[[Any], Any]) -> list[Any]:
        """What `function(learner)` returns, in rank order."""

        def call(learner: Any, _: Any = None) -> Any:
            return function(learner)

        results = list(self.learner_group.foreach_learner(call))
        for result in results:
            if not result.ok:
                raise self._learner_lost() if isinstance(result.get(), RayActorError) else result.get()
        return [result.get() for result in results]

    def _learner_lost(self) -> LearnerLostError:
        return LearnerLostError(f"one of {self.agent.cluster.num_learners} learners died")

    def tables(self) -> Tables:
        """What the rows and columns of the weights stand for."""
        return self._foreach_learner(lambda learner: learner.network.tables())[0]

    def network_weights(self) -> dict[str, Any]:
        """The network's state dict as arrays."""
        self.finish_updates()
        return self._learner_weights() if self._learners_act else ray.get(self._weights[0])

    # --- metrics and state -----------------------------------------------------------------------------------------

    def _log_rollouts(self, rollouts: list[dict[str, Any]]) -> None:
        for metrics in rollouts:
            self._log_rollout(metrics)

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
            # RLlib's own windows end with the iteration, and one in many iterations is reported.
            recent = self._recent.setdefault(key, deque(maxlen=_EPISODE_WINDOW))
            recent.extend(float(value) for value in values)
            if recent:
                self.metrics.log_value((ENV_RUNNER_RESULTS, key), sum(recent) / len(recent), window=1)

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
            "cpu_seconds": self.cpu_seconds,
            "matches": self._matches_drawn,
        }
        league = self.league.get_state() if self.league is not None else None
        acting = self._foreach_learner(lambda learner: learner.acting_state())
        return super().get_state(*args, **kwargs) | {
            "counters": counters,
            "league": league,
            "acting": acting,
            VOCABULARY: self.tables(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "counters" in state:
            counters = upgrade_info(state["counters"])
            self.updates = counters["updates"]
            self.env_steps = counters["env_steps"]
            self.seconds = counters["seconds"]
            self.cpu_seconds = counters["cpu_seconds"]
            self._matches_drawn = counters["matches"]
        axes = self._foreach_learner(lambda learner: learner.network.named_axes())[0]
        tables = state.get(VOCABULARY, EARLIER_TABLES)
        if self.league is not None and state.get("league") is not None:
            snapshots = {
                name: map_weights(weights, tables, axes, f"the league's {name}")
                for name, weights in state["league"]["snapshots"].items()
            }
            self.league.set_state(state["league"] | {"snapshots": snapshots})
        # Saved observations, and perhaps the worlds' own arrays, are in the order of the tables too: where the tables
        # have changed, episodes start anew.
        self.episodes_restored = False
        if VOCABULARY in state and same_tables(axes, tables):
            states = ray.put(state.get("acting", []))
            self.episodes_restored = all(
                self._foreach_learner(lambda learner: learner.set_acting_states(ray.get(states)))
            )

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, *args, **kwargs)
        self._ready.clear()
        self._rollouts.clear()
        self._publish_learner_weights()

    def cleanup(self) -> None:
        # Worlds may be games in processes of their own. A learner that waits for a dead one does not answer.
        stopped: list[Any] = [actor.shutdown.remote() for actor in rllib_private.learner_actors(self.learner_group)]
        if stopped:
            ray.wait(stopped, num_returns=len(stopped), timeout=_STOP_SECONDS)
        rllib_private.abandon_learners(self.learner_group)
        super().cleanup()
