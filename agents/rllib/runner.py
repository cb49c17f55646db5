"""The batched env runner: acts in a vector of worlds and returns fragments `[T, B, ...]`, never per-step objects."""

from typing import Any

import gymnasium
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.checkpoints import Checkpointable

from agents.acting.arrays import to_arrays
from agents.acting.rollout import Fragment, Rollout
from agents.acting.worlds import make_worlds
from agents.league.league import MIRROR
from agents.league.self_play import OpponentWorlds, Weights
from agents.models.network import AgentNetwork
from agents.presets import AgentTrainingConfig

# Seeds of the env runners of a run lie this far apart, so that worlds of two runners never share one.
SEED_STRIDE = 100_003
# Seeds stay below those of evaluations (`agents.evaluation.playing.FIRST_SEED`).
LAST_SEED = 2**31 - 2**20


class BatchedEnvRunner(EnvRunner, Checkpointable):
    """Owns worlds, a network to act with, and the state between fragments.

    The algorithm calls `rollout` with the weights to act with, so a runner that was restarted needs no synchronising:
    its first request brings everything. A learner that acts has one of its own, with its own `network`.
    """

    config: Any
    env: Any

    def __init__(self, *, config: Any, network: AgentNetwork | None = None, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.agent: AgentTrainingConfig = self.config.agent
        self.worker_index = self.worker_index or 0
        self.weights_seq_no = -1
        self.make_env()
        if network is None:
            # A process of its own beside the learner's: more threads than worlds can use only take its cores.
            torch.set_num_threads(1)
            self.make_module()
        else:
            self.network = network
        self.make_rollout()
        # Whether the last `set_state` found its episodes going on.
        self.episodes_restored = False

    @property
    def seed(self) -> int:
        """The seed of this runner's worlds; a replacement of a lost runner plays the same worlds again."""
        return (self.agent.seed * 1_000_003 + self.worker_index * SEED_STRIDE) % LAST_SEED

    def make_env(self) -> None:
        world, self.num_envs = self.agent.world, self.agent.world.num_envs
        if not self.agent.self_play.enabled:
            self.env = make_worlds(world, self.num_envs, self.seed)
            return
        one_player = make_worlds(world, 1, self.seed)
        self.env = OpponentWorlds(
            make_worlds(world, self.num_envs, self.seed, players=2),
            self.agent.network,
            one_player.single_observation_space,
            one_player.single_action_space,
            # Until the first job arrives, with the first request.
            opponent=(self.agent.self_play.scripted or (world.opponent,))[0],
        )
        one_player.close()

    def make_module(self) -> None:
        _, (observation_space, action_space) = next(iter(self.get_spaces().items()))
        self.network = AgentNetwork(self.agent.network, observation_space, action_space)
        self.network.eval()

    def make_rollout(self) -> None:
        learning = self.agent.learning
        self._rollout = Rollout(
            self.env,
            self.network,
            fragment_length=learning.fragment_length,
            seed=self.seed,
            values=learning.algorithm == "ppo",
            teacher=learning.teacher,
            device=next(self.network.parameters()).device,
        )

    def get_spaces(self) -> dict[str, tuple[gymnasium.Space, gymnasium.Space]]:
        spaces = (self.env.single_observation_space, self.env.single_action_space)
        return {INPUT_ENV_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def rollout(
        self, weights: Weights | None, seq_no: int, opponent: str = "", opponent_weights: Weights | None = None
    ) -> tuple[Fragment, dict[str, Any]]:
        """Steps all worlds T times with `weights` (None: those it has). Returns the fragment and its metrics.

        In self-play `opponent` plays the other side of the episodes that start from now on (`OpponentWorlds.assign`);
        the mirror brings no weights.

        Called with `num_returns=2`: the fragment stays in the object store of the runner's node, owned by the caller.
        """
        if weights is not None and seq_no != self.weights_seq_no:
            self.network.load_state_dict({name: torch.as_tensor(array.copy()) for name, array in weights.items()})
        self.weights_seq_no = seq_no
        if opponent:
            mirrored = to_arrays(self.network.state_dict()) if opponent == MIRROR else None
            self.env.assign(opponent, mirrored or opponent_weights)
        fragment, episodes = self._rollout.collect()
        steps = fragment["reward"].size
        self.num_env_steps_sampled_lifetime += steps
        return fragment, {"env_steps": steps, "weights_seq_no": seq_no, "episodes": episodes}

    def sample(self, **kwargs: Any) -> MultiAgentBatch:
        """One fragment in the container that RLlib's own evaluation counts steps of."""
        fragment, _ = self.rollout(None, self.weights_seq_no)
        steps = fragment["reward"].size
        batch = SampleBatch({Columns.REWARDS: fragment["reward"].reshape(-1)})
        return MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=steps)

    def get_metrics(self) -> dict[str, Any]:
        return self.metrics.reduce()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """The state of the worlds and of the random numbers. Weights travel with the requests instead."""
        return {"rollout": self._rollout.get_state(), "weights_seq_no": self.weights_seq_no}

    def set_state(self, state: dict[str, Any]) -> None:
        # RLlib also sends learner weights and connector states this way; requests bring ours.
        if "rollout" in state:
            self.episodes_restored = self._rollout.set_state(state["rollout"])
            self.env = self._rollout.env
            self.weights_seq_no = state["weights_seq_no"]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config, "worker_index": self.worker_index}

    def assert_healthy(self) -> None:
        assert self.env is not None and self.network is not None, "the env runner has no worlds or no network"

    def stop(self) -> None:
        self.env.close()


class IdleEnvRunner(EnvRunner, Checkpointable):
    """Stands in the driver, where RLlib wants an env runner, while the learners act: it knows the spaces alone."""

    config: Any

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        env = make_worlds(self.config.agent.world, 1, 0)
        self._spaces = (env.single_observation_space, env.single_action_space)
        env.close()

    def get_spaces(self) -> dict[str, tuple[gymnasium.Space, gymnasium.Space]]:
        return {INPUT_ENV_SPACES: self._spaces, DEFAULT_MODULE_ID: self._spaces}

    def sample(self, **kwargs: Any) -> Any:
        raise NotImplementedError("the learners act; this env runner has no worlds")

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    def assert_healthy(self) -> None:
        pass
