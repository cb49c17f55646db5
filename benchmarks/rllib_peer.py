"""Stock RLlib (new API stack) on the same worlds and the same network, for `benchmarks.agents`.

RLlib's own env runner, connectors, episodes and learners; ours are only the worlds and the network. It gets the fastest
way that it offers to step many worlds: one vector environment (`gym_env_vectorize_mode="vector_entry_point"`).
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchDistribution
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env
from torch import Tensor

from agents.acting.episodes import final_observation
from agents.acting.worlds import make_worlds
from agents.models.network import AgentNetwork
from agents.presets import AgentTrainingConfig

_ENV_ID = "benchmark_worlds"


class NextStepReset(VectorEnv):
    """The worlds with the autoreset that RLlib expects: a finished world shows its last observation, and the step after
    it counts as its reset (what that step did in the new episode is reported without reward)."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, worlds: VectorEnv) -> None:
        self.worlds = worlds
        self.num_envs = worlds.num_envs
        self.single_observation_space = worlds.single_observation_space
        self.single_action_space = worlds.single_action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._ended[:] = False
        observation, _ = self.worlds.reset(seed=seed)
        return _copies(observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.worlds.step(actions)
        observation = _copies(observation)
        reset = self._ended
        reward = np.where(reset, 0.0, reward)
        terminated, truncated = terminated & ~reset, truncated & ~reset
        self._ended = terminated | truncated
        rows = np.flatnonzero(self._ended)
        if len(rows):
            for name, values in final_observation(infos, rows).items():
                observation[name][rows] = values
        return observation, reward, terminated, truncated, {}

    def close_extras(self, **kwargs: Any) -> None:
        self.worlds.close()


def _copies(observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in observation.items()}


class TeacherForced(TorchDistribution):
    """RLlib's losses ask a distribution for what the network has computed already for the recorded actions.

    inputs [N, 2]: log-probability and entropy of the joint action.
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs

    @classmethod
    def from_logits(cls, logits: Any, **kwargs: Any) -> "TeacherForced":
        return cls(logits)

    def _get_torch_distribution(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        return None

    def logp(self, value: Any, **kwargs: Any) -> Tensor:
        return self.inputs[..., 0]

    def entropy(self, **kwargs: Any) -> Tensor:
        return self.inputs[..., 1]

    @staticmethod
    def required_input_dim(space: gymnasium.Space, **kwargs: Any) -> int:
        return 2


class StockModule(TorchRLModule, ValueFunctionAPI):
    """`AgentNetwork` behind RLlib's interface: batches `[N, ...]`, actions drawn by the module itself."""

    def setup(self) -> None:
        assert isinstance(self.model_config, dict)
        assert self.observation_space is not None and self.action_space is not None
        self.network = AgentNetwork(self.model_config["network"], self.observation_space, self.action_space)
        self.action_dist_cls = TeacherForced

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation = batch[Columns.OBS]
        step = self.network.act(observation, {}, torch.zeros(len(observation["mask"]), dtype=torch.bool))
        log_prob = step.log_prob.sum(-1)
        inputs = torch.stack([log_prob, torch.zeros_like(log_prob)], dim=-1)
        return {Columns.ACTIONS: step.action, Columns.ACTION_LOGP: log_prob, Columns.ACTION_DIST_INPUTS: inputs}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation, action = (_one_step(batch[name]) for name in (Columns.OBS, Columns.ACTIONS))
        is_first = torch.zeros(observation["mask"].shape[:2], dtype=torch.bool)
        output = self.network.evaluate(observation, action, {}, is_first)
        inputs = torch.stack([output.log_prob.sum(-1)[0], output.entropy.sum(-1)[0]], dim=-1)
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.EMBEDDINGS: output.value[0]}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        if embeddings is not None:
            return embeddings
        observation = batch[Columns.OBS]
        return self.network.value(observation, {}, torch.zeros(len(observation["mask"]), dtype=torch.bool))


def _one_step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[None] for name, tensor in batch.items()}


def stock_config(algorithm: str, config: AgentTrainingConfig) -> AlgorithmConfig:
    """Stock IMPALA or PPO with one env runner and a learner in the driver: worlds, network, fragments, batch, optimizer
    and loss weights of `config`. PPO goes over its batch once, like the others, so that steps count the same."""
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.algorithms.ppo import PPOConfig

    world, learning = config.world, config.learning
    register_env(_ENV_ID, lambda context: NextStepReset(make_worlds(world, world.num_envs, seed=1)))
    worlds = make_worlds(world, 1, 0)
    spaces = worlds.single_observation_space, worlds.single_action_space
    worlds.close()
    steps = world.num_envs * learning.fragment_length
    stock: Any = IMPALAConfig() if algorithm == "impala" else PPOConfig()
    stock.environment(
        _ENV_ID,
        observation_space=spaces[0],
        action_space=spaces[1],
        disable_env_checking=True,
    )
    stock.env_runners(
        num_env_runners=1,
        num_envs_per_env_runner=world.num_envs,
        rollout_fragment_length=learning.fragment_length,
        gym_env_vectorize_mode="vector_entry_point",
    )
    stock.learners(num_learners=0)
    stock.rl_module(rl_module_spec=RLModuleSpec(module_class=StockModule, model_config={"network": config.network}))
    stock.training(
        train_batch_size_per_learner=steps,
        lr=learning.learning_rate.start,
        gamma=learning.vtrace.discount,
        grad_clip=learning.max_gradient_norm,
        entropy_coeff=learning.entropy_weight.start,
        vf_loss_coeff=learning.vtrace.value_weight,
    )
    if algorithm == "ppo":
        stock.training(num_epochs=1, minibatch_size=steps, use_kl_loss=False)
    stock.reporting(min_time_s_per_iteration=1)
    stock.debugging(log_level="ERROR")
    return stock


def trained_steps(result: dict[str, Any]) -> int:
    """Environment steps that the learner has trained on, over the algorithm's life; 0 before the first update."""
    learners = result.get("learners", {})
    return int(learners.get("__all_modules__", {}).get("num_env_steps_trained_lifetime", 0))
