"""The learner: fragments in, one update and the new weights out. Without env runners it makes the fragments itself."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ObjectLostError, OwnerDiedError
from ray.rllib.core import COMPONENT_OPTIMIZER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor

from agents.acting.arrays import map_arrays, to_tensors
from agents.acting.rollout import Fragment
from agents.losses.kickstarting import kickstarting_loss
from agents.losses.ppo import ppo_loss, prepare_ppo_batch
from agents.losses.vtrace import vtrace_loss
from agents.models.earlier_vocabulary import EARLIER_TABLES
from agents.models.network import AgentNetwork, Evaluation
from agents.models.vocabulary import Tables, map_weights
from agents.presets import AgentTrainingConfig
from agents.rllib.cluster import available_cpus
from agents.rllib.malloc import keep_freed_memory
from agents.rllib.module import VOCABULARY
from agents.rllib.runner import BatchedEnvRunner

# Fragment entries with T + 1 or T steps are cut on axis 1, the recurrent state on axis 0.
_BATCH_AXIS_OF_STATE = 0
_BATCH_AXIS = 1


class NonFiniteError(RuntimeError):
    """Training met a number that is not finite; the message names the tensor. The weights were not updated with it."""


class AgentLearner(TorchLearner):
    """Updates the agent's network from fragments by V-trace or PPO, with a teacher as long as it has weight.

    With several learners each has its share of the fragments; DDP averages the gradients, so all take the same step.
    Without env runners each learner acts in worlds of its own with the weights it has. Fragments then stay in the
    process (DD-PPO, Wijmans et al. 2020, arXiv:1911.00357).
    """

    config: Any
    _device: torch.device  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.agent: AgentTrainingConfig = self.config.agent
        self._previous: list[Fragment] = []
        self._fragments_lost = 0
        self.env_runner: BatchedEnvRunner | None = None
        torch.set_num_threads(self._num_threads())
        keep_freed_memory()

    def build(self) -> None:
        super().build()
        if self.agent.cluster.num_env_runners == 0:
            # Remote learners have the same worlds as an equal number of remote env runners.
            rank = self._learner_index + 1 if self.config.num_learners > 0 else 0
            self.env_runner = BatchedEnvRunner(config=self.config, worker_index=rank, network=self.network)

    def _num_threads(self) -> int:
        """Threads that find a core of their own.

        With one more, every operation waits at a barrier for a thread that an env runner has pushed off its core. An
        update then takes many times as long.
        """
        cluster = self.agent.cluster
        if self.config.num_learners > 0:
            return max(1, int(cluster.cpus_per_learner))
        acting = 0.0 if cluster.ray_address else cluster.num_env_runners * cluster.cpus_per_env_runner
        return max(1, min(torch.get_num_threads(), int((cluster.num_cpus or available_cpus()) - acting)))

    @property
    def network(self) -> AgentNetwork:
        """The network itself, whatever it is wrapped in."""
        module: Any = self.module[DEFAULT_MODULE_ID].unwrapped()
        return module.network

    def update(  # type: ignore[override]
        self,
        *,
        training_data: TrainingData,
        timesteps: dict[str, Any],
        return_weights: bool = True,
        **kwargs: Any,
    ) -> tuple[dict[str, float], dict[str, np.ndarray] | None]:
        """All epochs over the fragments of `training_data.batch_refs`.

        timesteps: `{"progress": share of the budget used, "update": index of this update}`; schedules depend on nothing
        else. Returns the metrics and, if asked, the new weights. Called with `num_returns=2` on remote learners.
        """
        metrics = self._learn(self._make_batch_if_necessary(training_data), timesteps)
        return metrics, self.weights() if return_weights else None

    def act_and_update(
        self, *, timesteps: dict[str, Any], matches: list[tuple[str, Any]]
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Makes a fragment for each of `matches` in the learner's own worlds, then all epochs over them.

        timesteps: as for `update`. matches: the opponent and (a reference to) its weights, as for
        `BatchedEnvRunner.rollout`. Returns the metrics, and those of the rollouts. Called with `num_returns=2` on
        remote learners.
        """
        assert self.env_runner is not None
        seq_no = int(timesteps["update"])
        fragments, rollouts = zip(
            *(self.env_runner.rollout(None, seq_no, opponent, _resolve(weights)) for opponent, weights in matches),
            strict=True,
        )
        return self._learn(join_fragments(fragments), timesteps), list(rollouts)

    def _learn(self, fragment: Fragment, timesteps: dict[str, Any]) -> dict[str, float]:
        """All epochs over `fragment`; returns the metrics."""
        self._check_is_built()
        learning = self.agent.learning
        self._learning_rate = learning.learning_rate(timesteps["progress"])
        self._entropy_weight = learning.entropy_weight(timesteps["progress"])
        self._teacher_weight = learning.teacher_weight(timesteps["progress"]) if learning.teacher else 0.0
        batch = self._convert_batch_type(fragment)
        for optimizer in self._named_optimizers.values():
            self._set_optimizer_lr(optimizer, self._learning_rate)
        self._metrics: list[dict[str, Tensor]] = []
        self.before_gradient_based_update(timesteps=timesteps)
        for minibatch in self._minibatches(batch, int(timesteps["update"])):
            self._update({DEFAULT_MODULE_ID: minibatch})
        self._weights_seq_no += 1
        metrics = {
            name: float(torch.stack([terms[name] for terms in self._metrics]).mean()) for name in self._metrics[0]
        }
        metrics["learning_rate"] = self._learning_rate
        metrics["entropy_weight"] = self._entropy_weight
        metrics["teacher_weight"] = self._teacher_weight
        metrics["fragments_lost"] = float(self._fragments_lost)
        return metrics

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What RLlib saves, and the tables that the optimizer's numbers stand for."""
        return super().get_state(*args, **kwargs) | {VOCABULARY: self.network.tables()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes `get_state`'s output; moments of the optimizer go where the tables of today have their entries."""
        if COMPONENT_OPTIMIZER in state:
            tables = state.get(VOCABULARY, EARLIER_TABLES)
            optimizers = {
                name: optimizer | {"state": self._map_optimizer(optimizer["state"], tables)}
                for name, optimizer in state[COMPONENT_OPTIMIZER].items()
            }
            state = state | {COMPONENT_OPTIMIZER: optimizers}
        super().set_state({name: value for name, value in state.items() if name != VOCABULARY})

    def _map_optimizer(self, saved: dict[str, Any], tables: Tables) -> dict[str, Any]:
        """State of Adam by the tables of today. What is new starts without moments."""
        axes = self.network.named_axes()
        mapped = {}
        for index, (name, _) in enumerate(self.network.named_parameters()):
            moments = saved["state"].get(index)
            if moments is not None and name in axes:
                # The count of steps has no axes.
                arrays = {kind: array for kind, array in moments.items() if np.ndim(array)}
                axis_of = {kind: axes[name] for kind in arrays}
                moments = moments | map_weights(arrays, tables, axis_of, f"Adam's state of {name}", copy_new=False)
            if moments is not None:
                mapped[index] = moments
        return saved | {"state": mapped}

    def acting_state(self) -> dict[str, Any] | None:
        """State of the learner's worlds and random numbers; None where env runners act."""
        return self.env_runner.get_state() if self.env_runner is not None else None

    def set_acting_states(self, states: list[dict[str, Any]]) -> bool:
        """Goes on in the worlds that `acting_state` of the learner with the same rank described.

        Returns whether it does: there may be no such worlds, or none that fit (`Rollout.set_state`).
        """
        if self.env_runner is None or self._learner_index >= len(states) or states[self._learner_index] is None:
            return False
        self.env_runner.set_state(states[self._learner_index])
        return self.env_runner.episodes_restored

    def shutdown(self) -> None:
        if self.env_runner is not None:
            self.env_runner.stop()

    @property
    def is_first(self) -> bool:
        """Whether this is the learner that speaks for all."""
        return self._learner_index == 0

    def weights(self) -> dict[str, np.ndarray]:
        """The network's state dict as arrays that share no memory with it."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.network.state_dict().items()}

    def _make_batch_if_necessary(self, training_data: TrainingData) -> Fragment:
        """The fragments behind the references, joined on the B axis."""
        fragments = [
            fragment for reference in training_data.batch_refs or [] if (fragment := self._fetch(reference)) is not None
        ]
        if not fragments:
            # Every learner must take part in the collective of this update, or the others hang. A batch seen before
            # does no harm to an off-policy update.
            if not self._previous:
                raise RuntimeError("all fragments of the first update were lost with their nodes")
            fragments = self._previous
        if self.config.num_learners > 1:
            self._previous = fragments
        return join_fragments(fragments)

    def _fetch(self, reference: Any) -> Fragment | None:
        try:
            return _resolve(reference)
        except (ObjectLostError, OwnerDiedError):
            self._fragments_lost += 1
            return None

    def _convert_batch_type(self, batch: Fragment, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Tensors on the learner's device; to a GPU through pinned memory, so that the copies do not wait."""
        if self._device.type == "cuda":
            batch = map_arrays(lambda array: torch.from_numpy(np.ascontiguousarray(array)).pin_memory(), batch)
        return to_tensors(batch, self._device)

    def _minibatches(self, batch: dict[str, Any], update: int) -> Iterator[dict[str, Any]]:
        """One batch per optimizer step: whole trajectories where there is a recurrent state, else single steps."""
        learning = self.agent.learning
        batch["reward"] = batch["reward"] * learning.reward_scale
        if not self._teacher_weight:
            batch.pop("teacher_action", None)
        if learning.algorithm == "v-trace":
            yield batch
            return
        batch = prepare_ppo_batch(batch, learning.ppo)
        # The T + 1st step was for the bootstrap of the advantages only.
        batch["observation"] = map_arrays(lambda tensor: tensor[:-1], batch["observation"])
        batch["is_first"] = batch["is_first"][:-1]
        del batch["value"]
        # Seeded by the update, not carried along: a resumed run draws what an uninterrupted one would have.
        generator = np.random.default_rng((self.agent.seed, update, self._learner_index))
        if not batch["state"]:
            # Without recurrence steps are independent, and mixing them makes minibatches more alike.
            batch = {
                name: map_arrays(lambda tensor: tensor.flatten(0, 1)[None], value) for name, value in batch.items()
            }
        count = batch["reward"].shape[_BATCH_AXIS]
        if learning.ppo.minibatches > count:
            raise ValueError(
                f"learning.ppo.minibatches is {learning.ppo.minibatches}, but an update has {count} "
                f"{'worlds' if batch['state'] else 'steps'} to share out"
            )
        for _ in range(learning.ppo.epochs):
            order = torch.from_numpy(generator.permutation(count)).to(self._device)
            for chosen in order.tensor_split(learning.ppo.minibatches):
                yield take_columns(batch, chosen)

    def compute_loss_for_module(  # type: ignore[override]
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        evaluation = Evaluation(**fwd_out)
        learning = self.agent.learning
        if learning.algorithm == "v-trace":
            loss: Any = vtrace_loss(evaluation, batch, learning.vtrace, self._entropy_weight)
        else:
            loss = ppo_loss(evaluation, batch, learning.ppo, self._entropy_weight)
        terms, total = loss._asdict(), loss.total
        if self._teacher_weight:
            terms["teacher"] = kickstarting_loss(evaluation)
            total = terms["total"] = total + self._teacher_weight * terms["teacher"]
        self._metrics.append({name: term.detach() for name, term in terms.items()})
        self._batch, self._outputs = batch, fwd_out
        return total

    def postprocess_gradients(self, gradients_dict: dict[Any, Tensor]) -> dict[Any, Tensor]:
        """Clips by the global norm, and stops at the first number that is not finite."""
        parameters = [parameter for parameter in gradients_dict if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.agent.learning.max_gradient_norm, foreach=True)
        if not torch.isfinite(norm):
            raise NonFiniteError(self._name_non_finite())
        self._metrics[-1]["gradient_norm"] = norm
        return gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """One step; the gradients lie on the parameters already."""
        for optimizer in self._named_optimizers.values():
            optimizer.step()

    def _name_non_finite(self) -> str:
        """Names the first tensor that is not finite, in the order in which numbers flow."""
        stages: list[tuple[str, dict[str, Tensor]]] = [
            ("fragment", dict(_flatten(self._batch))),
            ("parameter", dict(self.network.named_parameters())),
            ("network output", self._outputs),
            ("loss term", self._metrics[-1]),
            ("gradient of", {n: p.grad for n, p in self.network.named_parameters() if p.grad is not None}),
        ]
        for stage, tensors in stages:
            for name, tensor in tensors.items():
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    bad = int((~torch.isfinite(tensor)).sum())
                    return f"{stage} '{name}' has {bad} of {tensor.numel()} values that are not finite"
        return "the norm of the gradients overflowed, though every gradient is finite"

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self.module[module_id])
        learning = self.agent.learning
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(
                parameters, lr=learning.learning_rate.start, eps=learning.adam_epsilon, fused=True
            ),
            params=parameters,
        )


def _resolve(value: Any) -> Any:
    return ray.get(value) if isinstance(value, ray.ObjectRef) else value


def join_fragments(fragments: Sequence[Fragment]) -> Fragment:
    """Fragments `[T, B_i, ...]` as one `[T, sum B_i, ...]`, writable and contiguous."""
    first = fragments[0]

    def join(path: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, dict):
            return {name: join((*path, name), inner) for name, inner in value.items()}
        parts = [_at(fragment, path) for fragment in fragments]
        return np.concatenate(parts, axis=_BATCH_AXIS_OF_STATE if path[0] == "state" else _BATCH_AXIS)

    return join((), first)


def take_columns(batch: dict[str, Any], chosen: Tensor) -> dict[str, Any]:
    """The columns `chosen` of the B axis of every entry."""

    def take(axis: int, value: Any) -> Any:
        return map_arrays(lambda tensor: tensor.index_select(axis, chosen), value)

    return {
        name: take(_BATCH_AXIS_OF_STATE if name == "state" else _BATCH_AXIS, value) for name, value in batch.items()
    }


def _at(structure: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        structure = structure[name]
    return structure


def _flatten(structure: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in structure.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
