"""Every use of RLlib that its documentation does not promise, in one place.

Written against ray==2.60.0. `tests/agents/test_rllib_contract.py` checks each assumption made here and fails loudly on
another Ray.
"""

from typing import Any

from ray.actor import ActorHandle
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

RAY_VERSION = "2.60.0"


def healthy_env_runners(group: EnvRunnerGroup) -> dict[int, ActorHandle]:
    """Handles of the env runners not known to be lost, by id.

    The manager's own calls return one reference per call. A rollout needs two (`num_returns=2`): the fragment stays
    where it is while its metrics travel.
    """
    manager = group._worker_manager
    return {runner_id: manager._actors[runner_id] for runner_id in manager.healthy_actor_ids()}


def mark_env_runner_lost(group: EnvRunnerGroup, runner_id: int) -> None:
    """Tells the manager that a call to the runner failed; it is pinged until its replacement answers."""
    group._worker_manager.set_actor_state(runner_id, healthy=False)


def lost_env_runners(group: EnvRunnerGroup) -> dict[int, ActorHandle]:
    """Handles of the env runners that are known to be lost; Ray may be starting them again."""
    manager = group._worker_manager
    healthy = set(manager.healthy_actor_ids())
    return {runner_id: handle for runner_id, handle in manager._actors.items() if runner_id not in healthy}


def mark_env_runner_found(group: EnvRunnerGroup, runner_id: int) -> None:
    """Tells the manager that a lost runner answers again."""
    group._worker_manager.set_actor_state(runner_id, healthy=True)


def learner_actors(group: LearnerGroup) -> list[ActorHandle]:
    """Handles of the remote learners, in rank order. Empty if the learner is local."""
    return list(group._workers or [])


def local_learner(group: LearnerGroup) -> Any:
    """The learner that lives in this process."""
    return group._learner


def abandon_learners(group: LearnerGroup) -> None:
    """Kills the remote learners at once.

    The regular shutdown asks each to leave its process group, which hangs while a survivor waits in a collective
    for the dead learner.
    """
    if group.is_remote and not group._is_shut_down:
        group._backend_executor.shutdown(graceful_termination=False)
        group._is_shut_down = True
