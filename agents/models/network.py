"""The agent: entity embedding -> encoder -> optional LSTM -> action head and value.

`act` draws actions for a batch of worlds. `evaluate` goes over time-major fragments with the actions that were taken
(teacher-forced) and returns what the losses need. Both accept any of the simulator's action views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gymnasium
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.models.compaction import Compaction
from agents.models.encoders import ENCODERS, EntityEmbedding, ScalarEmbedding, build_encoder
from agents.models.heads import ActionEvaluation, Features, build_head
from agents.models.vocabulary import UNIT_NAMES, NamedAxis, Tables, Vocabulary, simulator_vocabulary

Observation = dict[str, Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Architecture of an agent."""

    encoder: Literal["perceiver_io", "transformer", "deep_sets"] = "perceiver_io"
    """What reads the entities; the transformer and deep sets are baselines with the same interface."""
    channels: int = 128
    """Width of every layer."""
    num_heads: int = 2
    """Attention heads of a layer (perceiver_io, transformer); they share `channels` out."""
    num_layers: int = 2
    """Self-attention blocks on the latents (perceiver_io), or layers (transformer, deep_sets)."""
    num_latents: int = 32
    """Latent vectors that perceiver_io reads the entities into; the other encoders have none."""
    lstm_channels: int = 0
    """Width of the recurrent core that remembers over steps; 0 for none."""

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {self.encoder!r}: use one of {', '.join(ENCODERS)}")
        if self.channels % self.num_heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of num_heads ({self.num_heads})")
        for name in ("channels", "num_heads", "num_layers", "num_latents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.lstm_channels < 0:
            raise ValueError(f"lstm_channels must be 0 (no recurrence) or more, not {self.lstm_channels}")


class AgentStep(NamedTuple):
    """action [B, ...], log_prob [B, U] ([B, 1] for view "function"), value [B], state for the next step."""

    action: Any
    log_prob: Tensor
    value: Tensor
    state: State


class Evaluation(NamedTuple):
    """log_prob, entropy, unit_mask [T, B, U]; value [T, B], or [T+1, B] where the observation has a step more.

    teacher_log_prob [T, B, U]: of the teacher's action, where one was given.
    """

    log_prob: Tensor
    entropy: Tensor
    unit_mask: Tensor
    value: Tensor
    teacher_log_prob: Tensor | None = None


class Scene(NamedTuple):
    """embedded and per_entity [M, N, D] (before and after the encoder), core [M, D]: summary through the recurrent
    core.
    """

    embedded: Tensor
    per_entity: Tensor
    core: Tensor


class AgentNetwork(nn.Module):
    """One network for all own units of a world (and their joint value), for the spaces of one environment.

    Raises ValueError for spaces of no action view of the simulator.
    """

    def __init__(
        self,
        config: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        if not isinstance(observation_space, gymnasium.spaces.Dict) or "entities" not in observation_space.spaces:
            raise ValueError(f"expected a Dict observation space with 'entities', got {observation_space}")
        if vocabulary is None:
            vocabulary = simulator_vocabulary()
        spaces = observation_space.spaces
        entities_shape, scalars_shape = spaces["entities"].shape, spaces["scalars"].shape
        assert entities_shape is not None and scalars_shape is not None
        if entities_shape[1] != len(vocabulary.entities.features):
            raise ValueError(
                f"entities have {entities_shape[1]} columns, the vocabulary names {len(vocabulary.entities.features)}"
            )
        if scalars_shape != (len(vocabulary.scalars),):
            raise ValueError(f"scalars have shape {scalars_shape}, the vocabulary names {vocabulary.scalars}")
        channels = config.channels
        self.embedding = EntityEmbedding(vocabulary.entities, channels)
        self.encoder = build_encoder(
            config.encoder,
            channels,
            num_heads=config.num_heads,
            num_layers=config.num_layers,
            num_latents=config.num_latents,
        )
        self.scalars = ScalarEmbedding(vocabulary.scalars, channels)
        self.lstm = nn.LSTMCell(channels, config.lstm_channels) if config.lstm_channels else None
        core_channels = config.lstm_channels or channels
        self.entity_features = nn.Linear(2 * channels, channels)
        self.unit_context = nn.Linear(core_channels, channels)
        self.value_hidden = nn.Linear(core_channels, channels)
        self.value_output = nn.Linear(channels, 1)
        nn.init.orthogonal_(self.value_output.weight, 1.0)
        nn.init.zeros_(self.value_output.bias)
        self.head = build_head(action_space, channels, core_channels, vocabulary)
        self.num_units = self.head.num_units
        self.vocabulary = vocabulary

    def named_axes(self) -> dict[str, NamedAxis]:
        """What the rows and columns of parameters stand for, by name in the state dict."""
        of_parts = {
            "embedding": self.embedding.named_axes(),
            "scalars": self.scalars.named_axes(),
            "head": self.head.named_axes(),
        }
        return {f"{part}.{name}": axis for part, axes in of_parts.items() for name, axis in axes.items()}

    def tables(self) -> Tables:
        """What is stored beside weights, so that they can be loaded when the tables have changed."""
        tables: Tables = {axis.table: axis.entries for axis in self.named_axes().values()}
        return tables | {UNIT_NAMES: self.vocabulary.entities.unit_names}

    def initial_state(self, batch_size: int) -> State:
        """Recurrent state at an episode's start: {} without recurrence, else {"h", "c"} zeros [B, lstm_channels]."""
        if self.lstm is None:
            return {}
        zeros = self.value_output.weight.new_zeros(batch_size, self.config.lstm_channels)
        return {"h": zeros, "c": zeros.clone()}

    @torch.no_grad()
    def act(self, observation: Observation, state: State, is_first: Tensor, deterministic: bool = False) -> AgentStep:
        """Draws one action per world; deterministic takes the most probable order, then its most probable target.

        observation [B, ...]; state [B, ...] as of the previous step; is_first bool [B] clears the state of new
        episodes.
        """
        kept, seen = self._compact(observation)
        scene, state = self._encode(seen, state, is_first[None])
        action, log_prob = self.head.sample(self._features(scene, kept), seen, deterministic)
        if kept:
            action = kept.full_action(action, self.num_units)
            log_prob = kept.put_back(log_prob, self.num_units)
        return AgentStep(action, log_prob, self._value(scene.core), state)

    @torch.no_grad()
    def value(self, observation: Observation, state: State, is_first: Tensor) -> Tensor:
        """Value [B] of observations [B, ...], for the last observation of truncated episodes."""
        _, seen = self._compact(observation)
        scene, _ = self._encode(seen, state, is_first[None])
        return self._value(scene.core)

    def evaluate(
        self, observation: Observation, action: Any, state: State, is_first: Tensor, teacher_action: Any = None
    ) -> Evaluation:
        """Log-probabilities, entropies and values of a fragment under the present parameters.

        observation [T, B, ...] or, to get the value after the last action too, [T+1, B, ...]; action [T, B, ...]; state
        [B, ...] at t = 0; is_first bool like the observation's first two axes. teacher_action [T, B, ...]: what another
        policy would have done at the same observations.
        """
        steps, batch = is_first.shape
        action_steps = len(next(iter(action.values())) if isinstance(action, dict) else action)
        flat = {name: array.flatten(0, 1) for name, array in observation.items()}
        kept, seen = self._compact(flat)
        scene, _ = self._encode(seen, state, is_first)
        value = self._value(scene.core).view(steps, batch)
        if action_steps < steps:  # the last step has a value only
            scene = Scene(*(array[: action_steps * batch] for array in scene))
            flat, seen = (
                {name: array[: action_steps * batch] for name, array in arrays.items()} for arrays in (flat, seen)
            )
        features = self._features(scene, kept)

        def evaluate_action(action: Any) -> list[Tensor]:
            of_action = self._evaluate_action(features, flat, seen, kept, action)
            return [array.view(action_steps, batch, -1) for array in of_action]

        log_prob, entropy, unit_mask = evaluate_action(action)
        teacher_log_prob = None if teacher_action is None else evaluate_action(teacher_action)[0]
        return Evaluation(log_prob, entropy, unit_mask, value, teacher_log_prob)

    def _evaluate_action(
        self, features: Features, flat: Observation, seen: Observation, kept: Compaction | None, action: Any
    ) -> ActionEvaluation:
        """What the head says of an action [T, B, ...], for all units.

        flat: the observation [T * B, ...]. seen: its kept rows.
        """
        if isinstance(action, dict):
            flat_action: Any = {name: array.flatten(0, 1) for name, array in action.items()}
        else:
            flat_action = action.flatten(0, 1)
        if kept is None:
            return self.head.evaluate(features, seen, flat_action)
        of_action = self.head.evaluate(features, seen, kept.action(flat_action))
        return ActionEvaluation(
            kept.full_log_prob(of_action.log_prob, self.head.is_legal(flat, flat_action)),
            kept.put_back(of_action.entropy, self.num_units),
            kept.put_back(of_action.unit_mask, self.num_units),
        )

    def _encode(self, observation: Observation, state: State, is_first: Tensor) -> tuple[Scene, State]:
        """observation with leading axis T*B, is_first bool [T, B] -> what T*B observations say, state after step T."""
        mask = observation["mask"]
        embedded = self.embedding(observation["entities"], mask)
        per_entity, summary = self.encoder(embedded, mask)
        core = F.relu(summary + self.scalars(observation["scalars"]))
        core, state = self._recur(core, state, is_first)
        return Scene(embedded, per_entity, core), state

    def _compact(self, observation: Observation) -> tuple[Compaction | None, Observation]:
        """The rows to run the network on (None: all of them), and what they show."""
        layout = self.head.layout
        kept = Compaction.of(observation["mask"], self.num_units, layout) if layout else None
        return kept, kept.observation(observation) if kept else observation

    def _features(self, scene: Scene, kept: Compaction | None) -> Features:
        entities = self.entity_features(torch.cat([scene.per_entity, scene.embedded], dim=-1))
        num_units = len(kept.units) if kept else self.num_units
        units = entities[:, :num_units] + self.unit_context(scene.core)[:, None]
        return Features(F.relu(units), F.relu(entities), scene.core)

    def _recur(self, core: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        if self.lstm is None:
            return core, {}
        h, c = state["h"], state["c"]
        outputs = []
        keep = (~is_first)[..., None].to(core.dtype)  # [T, B, 1]
        for step, kept in zip(core.view(*is_first.shape, -1), keep, strict=True):
            h, c = self.lstm(step, (h * kept, c * kept))
            outputs.append(h)
        return torch.cat(outputs), {"h": h, "c": c}

    def _value(self, core: Tensor) -> Tensor:
        return self.value_output(F.relu(self.value_hidden(core))).squeeze(-1)
