"""The agent's network as an RLlib module: time-major, one forward pass per fragment."""

from typing import Any

import torch
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from agents.models.earlier_vocabulary import EARLIER_TABLES
from agents.models.network import AgentNetwork, NetworkConfig
from agents.models.vocabulary import map_weights

# Key of the tables (`AgentNetwork.tables`) in saved states.
VOCABULARY = "vocabulary"
_NETWORK = "network."


class AgentModule(TorchRLModule):
    """Holds an `AgentNetwork`; `model_config={"network": NetworkConfig}`.

    Training batches are fragments (`agents.acting.rollout`) of tensors. Acting takes `{"obs", "state_in", "is_first"}`.
    """

    network: AgentNetwork

    def setup(self) -> None:
        assert isinstance(self.model_config, dict), "the module needs model_config={'network': NetworkConfig}"
        assert self.observation_space is not None and self.action_space is not None
        config: NetworkConfig = self.model_config["network"]
        try:
            self.network = AgentNetwork(config, self.observation_space, self.action_space)
        except AttributeError as error:
            # RLlib swallows an AttributeError raised here and reports an unrelated deprecation instead.
            raise RuntimeError(f"building the agent's network failed: {error}") from error

    def get_initial_state(self) -> dict[str, Tensor]:
        """The recurrent state of one world, without a batch axis."""
        return {name: tensor[0] for name, tensor in self.network.initial_state(1).items()}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights, and the tables that their rows and columns stand for."""
        return super().get_state(*args, **kwargs) | {VOCABULARY: self.network.tables()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes `get_state`'s output, of tables in whatever order (`agents.models.vocabulary`)."""
        tables = state.get(VOCABULARY, EARLIER_TABLES)
        axes = {_NETWORK + name: axis for name, axis in self.network.named_axes().items()}
        weights = {name: array for name, array in state.items() if name != VOCABULARY}
        super().set_state(map_weights(weights, tables, axes, "the checkpoint"))

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """log_prob, entropy, unit_mask `[T, B, U]` of the recorded actions; value `[T, B]`.

        teacher_log_prob `[T, B, U]` where the batch has a teacher's actions.
        """
        output = self.network.evaluate(
            batch["observation"], batch["action"], batch["state"], batch["is_first"], batch.get("teacher_action")
        )
        return {name: tensor for name, tensor in output._asdict().items() if tensor is not None}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._act(batch, deterministic=False)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._act(batch, deterministic=True)

    def _act(self, batch: dict[str, Any], deterministic: bool) -> dict[str, Any]:
        with torch.no_grad():
            step = self.network.act(batch["obs"], batch["state_in"], batch["is_first"], deterministic=deterministic)
        return {"actions": step.action, "action_logp": step.log_prob, "vf_preds": step.value, "state_out": step.state}
