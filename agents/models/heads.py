"""Action heads, one per action view of the simulator: they turn features into a masked, structured action distribution.

All heads share the interface of `ActionHead`; `HEADS` lists them. An action is an array or a dict of parts. Nothing
outside the heads looks into it, so a new head with parts of its own is a class here and a line in `HEADS`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.models.compaction import Layout
from agents.models.distributions import (
    TargetedOrders,
    UnitOrders,
    bernoulli_entropy,
    bernoulli_log_prob,
    categorical_entropy,
    log_prob_of,
    masked_log_softmax,
    sample_categorical,
)
from agents.models.vocabulary import NamedAxis, Vocabulary

POINTER_CHANNELS = 32
PAIR_CHANNELS = 16
RELATIVE_RANGE = 3.0  # world units that become 1 in a pair's geometry
PAIR_GAIN = 4.0  # logits that one unit of a pair's output stands for: sharp choices from weights of ordinary size
HEALER_TYPES = (54,)  # Medivac: its "attack" actions in SMAC's numbering heal allies


class Features(NamedTuple):
    """What heads see.

    units: [M, U, D], the own units' slots. entities: [M, N, D]. core: [M, E], the scene as a whole after the recurrent
    core.
    """

    units: Tensor
    entities: Tensor
    core: Tensor


class ActionEvaluation(NamedTuple):
    """log_prob [M, U], entropy [M, U] in nats, unit_mask bool [M, U]: True where there was a choice."""

    log_prob: Tensor
    entropy: Tensor
    unit_mask: Tensor


class ActionHead(nn.Module):
    """What the network asks of a head. Features, observation and action carry one leading axis M (worlds x steps).

    num_units: U, the unit slots of the action space.
    layout: which rows of observations and actions may be left out; None where every row must stay.
    """

    num_units: int
    layout: ClassVar[Layout | None] = None

    @classmethod
    def for_space(
        cls, action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary
    ) -> Self | None:
        """The head for that action space; None where it is another head's.

        channels: D of `Features.units` and `Features.entities`. core_channels: E of `Features.core`.
        """
        raise NotImplementedError

    def sample(self, features: Features, observation: dict[str, Tensor], deterministic: bool) -> tuple[Any, Tensor]:
        """An action and its log-probability [M, U] ([M, 1] where one action is for all units)."""
        raise NotImplementedError

    def evaluate(self, features: Features, observation: dict[str, Tensor], action: Any) -> ActionEvaluation:
        """What the policy says of a given action."""
        raise NotImplementedError

    def is_legal(self, observation: dict[str, Tensor], action: Any) -> Tensor:
        """bool [M, U], whether the masks allowed each unit's action. Only for heads with a `layout`."""
        raise NotImplementedError

    def named_axes(self) -> dict[str, NamedAxis]:
        """What the rows and columns of the parameters stand for, by the parameter's name within the head."""
        return {}


def _initialise_policy(layer: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """A small last layer, so that the first policy is close to uniform over the legal actions.

    gain: what its outputs are multiplied by afterwards.
    """
    nn.init.orthogonal_(layer.weight, 0.01 / gain)
    nn.init.zeros_(layer.bias)
    return layer


class Pairs(nn.Module):
    """Each unit's view of each entity: a vector of what the entity is and where it stands from the unit.

    The encoder tells of the scene as a whole. Who is in whose reach is a matter of pairs; embeddings that met in a few
    latents can only approximate it.
    """

    def __init__(self, channels: int, position: tuple[int, int]) -> None:
        """position: the columns of x and y in the entities."""
        super().__init__()
        self.position = list(position)
        self.place = nn.Linear(4, PAIR_CHANNELS)
        self.entity = nn.Linear(channels, PAIR_CHANNELS, bias=False)
        self.surroundings = nn.Linear(PAIR_CHANNELS, channels)
        nn.init.orthogonal_(self.surroundings.weight, 0.1)  # units start out as the encoder has them

    def forward(self, features: Features, observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """pairs [M, U, N, P], and units [M, U, D] that know of the entities around them."""
        position = observation["entities"][..., self.position].float() / RELATIVE_RANGE
        offset = position[:, None] - position[:, : features.units.shape[1], None]  # [M, U, N, 2]
        distance = offset.square().sum(-1, keepdim=True).add(1e-4).sqrt()
        place = torch.cat([offset, distance, distance.log()], dim=-1)
        pairs = F.relu(self.place(place) + self.entity(features.entities)[:, None])
        nearby = (pairs * observation["mask"][:, None, :, None]).amax(2)
        return pairs, F.relu(features.units + self.surroundings(nearby))


class TargetPointer(nn.Module):
    """Scores each entity as each unit's target: a dot product of learned features plus a function of the pair."""

    def __init__(self, channels: int, num_rows: int) -> None:
        """num_rows: R, kinds of pointing."""
        super().__init__()
        self.num_rows = num_rows
        self.query = nn.Linear(channels, num_rows * POINTER_CHANNELS)
        self.key = nn.Linear(channels, POINTER_CHANNELS)
        self.pair = _initialise_policy(nn.Linear(PAIR_CHANNELS, num_rows), PAIR_GAIN)

    def forward(self, units: Tensor, entities: Tensor, pairs: Tensor, rows: Tensor | None = None) -> Tensor:
        """units [M, U, D], entities [M, N, D], pairs [M, U, N, P] -> logits [M, U, R, N].

        rows: long [R'], for logits [M, U, R', N] of these rows alone.
        """
        batch, num_units, _ = units.shape
        query, pair = self.query, self.pair
        if rows is None:
            rows = torch.arange(self.num_rows, device=units.device)
        query_weight = query.weight.unflatten(0, (self.num_rows, -1))[rows].flatten(0, 1)
        query_bias = query.bias.unflatten(0, (self.num_rows, -1))[rows].flatten()
        queries = F.linear(units, query_weight, query_bias).view(batch, num_units * len(rows), POINTER_CHANNELS)
        logits = queries @ self.key(entities).transpose(-1, -2) * POINTER_CHANNELS**-0.5
        of_pairs = F.linear(pairs, pair.weight[rows], pair.bias[rows]) * PAIR_GAIN  # [M, U, N, R]
        return logits.view(batch, num_units, len(rows), -1) + of_pairs.transpose(-1, -2)


class UnitHead(ActionHead):
    """An order for each own unit, then a pointer to its target given the order (view "unit")."""

    layout: ClassVar[Layout | None] = Layout(
        unit_axes={"order_mask": 1, "target_mask": 1}, entity_axes={"target_mask": 3}, entity_parts=("target",)
    )

    def __init__(self, channels: int, num_units: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.num_units = num_units
        self.orders = vocabulary.orders
        target_class = torch.as_tensor(vocabulary.order_target_class)
        self.targeted = tuple(order for order, taken in zip(self.orders, target_class, strict=True) if taken >= 0)
        for name, constant in TargetedOrders.from_classes(target_class)._asdict().items():
            self.register_buffer(name, constant, persistent=False)
        self.order = _initialise_policy(nn.Linear(channels, len(self.orders)))
        self.pairs = Pairs(channels, _position(vocabulary))
        self.pointer = TargetPointer(channels, len(self.targeted))

    @classmethod
    def for_space(
        cls, action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary
    ) -> Self | None:
        if not isinstance(action_space, gymnasium.spaces.Dict) or set(action_space.spaces) != {"order", "target"}:
            return None
        order = action_space["order"]
        assert isinstance(order, gymnasium.spaces.MultiDiscrete)
        if int(order.nvec[0]) != len(vocabulary.orders):
            raise ValueError(
                f"the action space has {order.nvec[0]} orders, the vocabulary names {len(vocabulary.orders)}"
            )
        return cls(channels, len(order.nvec), vocabulary)

    def named_axes(self) -> dict[str, NamedAxis]:
        orders = NamedAxis(0, "orders", self.orders)
        targeted = NamedAxis(0, "targeted_orders", self.targeted)
        pointers = ("query.weight", "query.bias", "pair.weight", "pair.bias")
        return {"order.weight": orders, "order.bias": orders} | {f"pointer.{name}": targeted for name in pointers}

    def distribution(self, features: Features, observation: dict[str, Tensor]) -> UnitOrders:
        pairs, units = self.pairs(features, observation)
        orders = TargetedOrders(*(self.get_buffer(name) for name in TargetedOrders._fields))
        # Most armies have no use for some of the orders that take a target: these need no pointers.
        rows = orders.rows_in_use(observation["order_mask"])
        return UnitOrders(
            self.order(units),
            self.pointer(units, features.entities, pairs, rows),
            observation["order_mask"],
            observation["target_mask"],
            orders.only(rows),
        )

    def sample(
        self, features: Features, observation: dict[str, Tensor], deterministic: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        return self.distribution(features, observation).sample(deterministic)

    def evaluate(
        self, features: Features, observation: dict[str, Tensor], action: dict[str, Tensor]
    ) -> ActionEvaluation:
        distribution = self.distribution(features, observation)
        has_choice = observation["order_mask"].sum(-1) > 1
        return ActionEvaluation(distribution.log_prob(action), distribution.entropy(), has_choice)

    def is_legal(self, observation: dict[str, Tensor], action: dict[str, Tensor]) -> Tensor:
        return log_prob_of(observation["order_mask"], action["order"].long())


class SmacHead(ActionHead):
    """SMAC's numbering (view "smac"): fixed actions, then one per enemy, scored by pointing at that enemy's entity.

    A Medivac's targets are the allies instead, in the same action slots.
    """

    healers: Tensor

    def __init__(self, channels: int, num_units: int, num_actions: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.num_units, self.fixed_actions = num_units, vocabulary.smac_actions
        self.num_targets = num_actions - len(self.fixed_actions)
        self.type_column = vocabulary.entities.column("unit_type")
        self.register_buffer("healers", torch.tensor(HEALER_TYPES, dtype=torch.float32), persistent=False)
        self.fixed = _initialise_policy(nn.Linear(channels, len(self.fixed_actions)))
        self.pairs = Pairs(channels, _position(vocabulary))
        self.pointer = TargetPointer(channels, 1)

    @classmethod
    def for_space(
        cls, action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary
    ) -> Self | None:
        if not isinstance(action_space, gymnasium.spaces.MultiDiscrete):
            return None
        return cls(channels, len(action_space.nvec), int(action_space.nvec[0]), vocabulary)

    def named_axes(self) -> dict[str, NamedAxis]:
        fixed = NamedAxis(0, "smac_actions", self.fixed_actions)
        return {"fixed.weight": fixed, "fixed.bias": fixed}

    def _log_probs(self, features: Features, observation: dict[str, Tensor]) -> Tensor:
        pairs, units = self.pairs(features, observation)
        pointers = self.pointer(units, features.entities, pairs)[:, :, 0]  # [M, U, N]
        enemies = _fit(pointers[..., self.num_units :], self.num_targets)
        allies = _fit(pointers[..., : self.num_units], self.num_targets)
        unit_type = observation["entities"][:, : self.num_units, self.type_column, None]
        heals = (unit_type == self.healers).any(-1, keepdim=True)
        logits = torch.cat([self.fixed(units), torch.where(heals, allies, enemies)], dim=-1)
        return masked_log_softmax(logits, observation["action_mask"])

    def sample(self, features: Features, observation: dict[str, Tensor], deterministic: bool) -> tuple[Tensor, Tensor]:
        log_probs = self._log_probs(features, observation)
        action = log_probs.argmax(-1) if deterministic else sample_categorical(log_probs)
        return action, log_prob_of(log_probs, action)

    def evaluate(self, features: Features, observation: dict[str, Tensor], action: Tensor) -> ActionEvaluation:
        log_probs = self._log_probs(features, observation)
        has_choice = observation["action_mask"].sum(-1) > 1
        return ActionEvaluation(log_prob_of(log_probs, action.long()), categorical_entropy(log_probs), has_choice)


class FunctionHead(ActionHead):
    """AlphaStar's autoregressive action (view "function"): function, queued, selected units, target unit, target point.

    Each argument is conditioned on all earlier ones through a running context vector, and exists only where the
    function takes it. The selected units are a set: unit i is in or out given the units before it. So every legal
    subset that is not empty has one exact probability. (A sequence of pointers would count the orders in which a set
    can be picked.) The log-probability of the whole action is [M, 1].

    The entropy is the sum of the conditional entropies along the given action. If the action was drawn from the
    distribution, this is an unbiased estimate of its entropy. The exact sum would run over all subsets of units.
    """

    parts = ("function", "queued", "selected", "target_unit", "target_point")
    takes: Tensor

    def __init__(
        self, channels: int, core_channels: int, num_units: int, num_points: int, vocabulary: Vocabulary
    ) -> None:
        super().__init__()
        self.num_units, self.num_points, self.functions = num_units, num_points, vocabulary.functions
        takes = torch.as_tensor(vocabulary.function_takes, dtype=torch.bool)
        self.register_buffer("takes", takes, persistent=False)
        self.context = nn.Linear(core_channels, channels)
        self.function = _initialise_policy(nn.Linear(channels, len(takes)))
        self.function_embedding = nn.Embedding(len(takes), channels)
        self.queued = _initialise_policy(nn.Linear(channels, 1))
        self.queued_embedding = nn.Embedding(2, channels)
        self.select_unit = nn.Linear(channels, channels)
        self.select_context = nn.Linear(channels, channels)
        self.select_earlier = nn.Linear(channels, channels)
        self.select = _initialise_policy(nn.Linear(channels, 1))
        self.selection_embedding = nn.Linear(channels, channels)
        self.target_query = nn.Linear(channels, POINTER_CHANNELS)
        self.target_key = nn.Linear(channels, POINTER_CHANNELS)
        self.target_embedding = nn.Linear(channels, channels)
        self.point = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), _initialise_policy(nn.Linear(channels, num_points))
        )

    @classmethod
    def for_space(
        cls, action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary
    ) -> Self | None:
        if not isinstance(action_space, gymnasium.spaces.Dict) or set(action_space.spaces) != set(cls.parts):
            return None
        function, selected, point = (action_space[name] for name in ("function", "selected", "target_point"))
        assert isinstance(function, gymnasium.spaces.Discrete) and isinstance(point, gymnasium.spaces.Discrete)
        assert isinstance(selected, gymnasium.spaces.MultiBinary)
        if int(function.n) != len(vocabulary.functions):
            raise ValueError(
                f"the action space has {function.n} functions, the vocabulary names {len(vocabulary.functions)}"
            )
        return cls(channels, core_channels, int(np.prod(selected.n)), int(point.n), vocabulary)

    def named_axes(self) -> dict[str, NamedAxis]:
        functions = NamedAxis(0, "functions", self.functions)
        # A point's number says where it lies only together with the grid: another grid has other points.
        points = NamedAxis(0, "point_grid", (f"{self.num_points} points",))
        return {
            "function.weight": functions,
            "function.bias": functions,
            "function_embedding.weight": functions,
            "point.2.weight": points,
            "point.2.bias": points,
        }

    def sample(
        self, features: Features, observation: dict[str, Tensor], deterministic: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        action, log_prob, _ = self._walk(features, observation, None, deterministic)
        return action, log_prob[:, None]

    def evaluate(
        self, features: Features, observation: dict[str, Tensor], action: dict[str, Tensor]
    ) -> ActionEvaluation:
        _, log_prob, entropy = self._walk(features, observation, action, False)
        legal = observation["function_mask"].sum(-1, keepdim=True) > 1
        takes_any = (observation["function_mask"][..., None] & self.takes).flatten(1).any(-1, keepdim=True)
        return ActionEvaluation(log_prob[:, None], entropy[:, None], legal | takes_any)

    def _walk(
        self, features: Features, observation: dict[str, Tensor], given: dict[str, Tensor] | None, deterministic: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Goes through the arguments in order, drawing each or, with a given action, following it."""

        def choose(log_probs: Tensor, name: str) -> Tensor:
            if given is not None:
                return given[name].long()
            return log_probs.argmax(-1) if deterministic else sample_categorical(log_probs)

        context = self.context(features.core)
        log_probs = masked_log_softmax(self.function(F.relu(context)), observation["function_mask"])
        function = choose(log_probs, "function")
        log_prob, entropy = log_prob_of(log_probs, function), categorical_entropy(log_probs)
        takes_queued, takes_units, takes_target, takes_point = self.takes[function].unbind(-1)  # each [M]
        context = context + self.function_embedding(function)

        logits = self.queued(F.relu(context))
        log_probs = torch.cat([-F.softplus(logits), -F.softplus(-logits)], dim=-1)  # not queued, queued
        queued = choose(log_probs, "queued") * takes_queued
        log_prob = log_prob + torch.where(takes_queued, log_prob_of(log_probs, queued), 0.0)
        entropy = entropy + torch.where(takes_queued, categorical_entropy(log_probs), 0.0)
        context = context + self.queued_embedding(queued) * takes_queued[:, None]

        legal = _select(observation["selected_mask"], function) & takes_units[:, None]
        if given is None:
            selected, of_set, set_entropy = self._draw_set(features.units, context, legal, deterministic)
        else:
            selected = given["selected"].bool() & takes_units[:, None]
            of_set, set_entropy = self._set_log_prob(features.units, context, legal, selected)
        log_prob, entropy = log_prob + of_set, entropy + set_entropy
        chosen = (features.units * selected[..., None]).sum(1) / selected.sum(-1, keepdim=True).clamp_min(1)
        context = context + self.selection_embedding(chosen) * takes_units[:, None]

        keys = self.target_key(features.entities)
        logits = (keys @ self.target_query(F.relu(context)).unsqueeze(-1)).squeeze(-1) * POINTER_CHANNELS**-0.5
        log_probs = masked_log_softmax(logits, _select(observation["target_unit_mask"], function))
        target = choose(log_probs, "target_unit") * takes_target
        log_prob = log_prob + torch.where(takes_target, log_prob_of(log_probs, target), 0.0)
        entropy = entropy + torch.where(takes_target, categorical_entropy(log_probs), 0.0)
        context = context + self.target_embedding(_select(features.entities, target)) * takes_target[:, None]

        log_probs = F.log_softmax(self.point(F.relu(context)), dim=-1)
        point = choose(log_probs, "target_point") * takes_point
        log_prob = log_prob + torch.where(takes_point, log_prob_of(log_probs, point), 0.0)
        entropy = entropy + torch.where(takes_point, categorical_entropy(log_probs), 0.0)
        action = dict(zip(self.parts, (function, queued, selected, target, point), strict=True))
        return action, log_prob, entropy

    def _set_log_prob(self, units: Tensor, context: Tensor, legal: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability [M] of a given subset (bool [M, U]) and the entropy [M] along it, for all units at once."""
        earlier = self.select_earlier(units) * selected[..., None]
        earlier = earlier.cumsum(1) - earlier
        logits = self._selection_logits(self.select_unit(units), self.select_context(context)[:, None], earlier)
        none_before = selected.cumsum(1) - selected.long() == 0
        free = legal & ~(none_before & _is_last(legal))  # the last legal unit of an empty selection has no choice
        of_units = bernoulli_log_prob(logits, selected)
        # Anything that cannot be drawn has probability 0: an illegal unit chosen, or nobody chosen though somebody
        # could be.
        impossible = (selected & ~legal).any(-1) | (legal.any(-1) & ~selected.any(-1))
        log_prob = torch.where(free, of_units, 0.0).sum(-1).masked_fill(impossible, torch.finfo(torch.float32).min)
        return log_prob, torch.where(free, bernoulli_entropy(logits), 0.0).sum(-1)

    def _draw_set(
        self, units: Tensor, context: Tensor, legal: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draws a non-empty subset of the legal units, one unit after the other."""
        from_units, from_context = self.select_unit(units), self.select_context(context)
        contribution = self.select_earlier(units)
        threshold = (
            torch.full_like(legal, 0.5, dtype=units.dtype) if deterministic else torch.rand(legal.shape).to(units)
        )
        is_last = _is_last(legal)
        earlier, any_selected = torch.zeros_like(context), torch.zeros_like(legal[:, 0])
        selected = torch.zeros_like(legal)
        for i in range(legal.shape[1]):
            logits = self._selection_logits(from_units[:, i], from_context, earlier)
            forced = is_last[:, i] & ~any_selected
            chosen = legal[:, i] & (forced | (threshold[:, i] < logits.sigmoid()))
            selected[:, i] = chosen
            any_selected = any_selected | chosen
            earlier = earlier + contribution[:, i] * chosen[:, None]
        log_prob, entropy = self._set_log_prob(units, context, legal, selected)
        return selected, log_prob, entropy

    def _selection_logits(self, of_unit: Tensor, of_context: Tensor, earlier: Tensor) -> Tensor:
        return self.select(F.relu(of_unit + of_context + earlier)).squeeze(-1)


def _select(rows: Tensor, index: Tensor) -> Tensor:
    """rows [M, R, X], index long [M] -> [M, X]."""
    return rows[torch.arange(len(rows), device=rows.device), index]


def _is_last(legal: Tensor) -> Tensor:
    """legal bool [M, U] -> bool [M, U]: True at the last legal unit of each row."""
    after = legal.long().flip(-1).cumsum(-1).flip(-1)
    return legal & (after == 1)


def _fit(scores: Tensor, size: int) -> Tensor:
    """Cuts or zero-pads the last axis of scores to `size`; what is padded is masked by the observation."""
    return F.pad(scores, (0, size - scores.shape[-1]))


def _position(vocabulary: Vocabulary) -> tuple[int, int]:
    return vocabulary.entities.column("x"), vocabulary.entities.column("y")


# Every head; the first that takes an action space gets it.
HEADS: list[type[ActionHead]] = [UnitHead, SmacHead, FunctionHead]


def build_head(action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary) -> ActionHead:
    """The head for an action space. Raises ValueError where no head takes it."""
    for head_class in HEADS:
        head = head_class.for_space(action_space, channels, core_channels, vocabulary)
        if head is not None:
            return head
    raise ValueError(f"expected the action space of view 'unit', 'smac' or 'function', got {action_space}")
