"""The structured action distributions against brute-force enumeration."""

import itertools

import pytest
import torch
from torch import Tensor

from agents.models.distributions import TargetedOrders, masked_log_softmax, sample_categorical
from agents.models.network import AgentNetwork
from tests.agents.synthetic import FUNCTION_TAKES, ORDER_TARGET_CLASS, TINY, network, observations

DEEP_SETS = type(TINY)(encoder="deep_sets", channels=16, num_layers=1)


def evaluate_each(
    net: AgentNetwork, observation: dict[str, Tensor], actions: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [A, U] of A actions in the one world of `observation`."""
    count = len(next(iter(actions.values())))
    repeated = {name: array.expand(count, *array.shape[1:])[None] for name, array in observation.items()}
    stacked = {name: array[None] for name, array in actions.items()}
    out = net.evaluate(repeated, stacked, {}, torch.zeros(1, count, dtype=torch.bool))
    return out.log_prob[0], out.entropy[0]


@pytest.mark.parametrize("seed", range(4))
def test_unit_orders_sum_to_one_and_match_enumeration(seed: int) -> None:
    torch.manual_seed(seed)
    units, entities = 3, 4
    net = network("unit", units, entities, DEEP_SETS)
    observation = observations("unit", 1, units, entities, torch.Generator().manual_seed(seed))
    pairs = [
        (order, target)
        for order, target_class in enumerate(ORDER_TARGET_CLASS)
        for target in range(entities if target_class >= 0 else 1)
    ]
    order, target = (torch.tensor(column)[:, None].expand(-1, units) for column in zip(*pairs, strict=True))
    log_prob, entropy = evaluate_each(net, observation, {"order": order, "target": target})
    probability = log_prob.double().exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(units, dtype=torch.float64), atol=1e-6, rtol=0)
    exact = -torch.where(probability > 0, probability * probability.log(), 0.0).sum(0)
    torch.testing.assert_close(entropy[0].double(), exact, atol=1e-6, rtol=1e-6)
    for row, (o, t) in enumerate(pairs):
        legal = observation["order_mask"][0, :, o].clone()
        if ORDER_TARGET_CLASS[o] >= 0:
            legal &= observation["target_mask"][0, :, ORDER_TARGET_CLASS[o], t]
        assert torch.equal(probability[row] > 0, legal), (o, t)  # illegal: exactly 0, legal: more than 0


@pytest.mark.parametrize("usable", [(), (0,), (1,), (0, 1)])
def test_orders_that_no_unit_may_give_need_no_pointers(
    usable: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probabilities, entropies and gradients are those with all pointers, whichever targeted orders are legal."""
    units, entities, worlds = 3, 4, 5
    torch.manual_seed(1)
    net = network("unit", units, entities, DEEP_SETS)
    observation = observations("unit", worlds, units, entities, torch.Generator().manual_seed(1))
    targeted = [order for order, target_class in enumerate(ORDER_TARGET_CLASS) if target_class >= 0]
    for row, order in enumerate(targeted):
        observation["order_mask"][..., order] &= row in usable
    observation["order_mask"][..., 0] = True  # an order without a target
    action = net.act(observation, {}, torch.ones(worlds, dtype=torch.bool)).action
    arguments = (
        {name: array[None] for name, array in observation.items()},
        {name: array[None] for name, array in action.items()},
        {},
        torch.ones(1, worlds, dtype=torch.bool),
    )
    found = []
    for every_row in (False, True):
        if every_row:
            monkeypatch.setattr(TargetedOrders, "rows_in_use", lambda self, mask: torch.arange(len(self.row_order)))
        out = net.evaluate(*arguments)
        gradients = torch.autograd.grad(
            out.log_prob.sum() + out.entropy.sin().sum(), list(net.head.parameters()), materialize_grads=True
        )
        found.append([out.log_prob, out.entropy, *gradients])
    for fewer, every in zip(*found, strict=True):
        torch.testing.assert_close(fewer, every, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_smac_actions_sum_to_one_and_illegal_ones_are_zero(seed: int) -> None:
    torch.manual_seed(seed)
    units, entities = 3, 5
    net = network("smac", units, entities, DEEP_SETS)
    observation = observations("smac", 1, units, entities, torch.Generator().manual_seed(seed))
    count = 6 + entities - units
    repeated = {name: array.expand(count, *array.shape[1:])[None] for name, array in observation.items()}
    action = torch.arange(count)[None, :, None].expand(1, count, units)
    out = net.evaluate(repeated, action, {}, torch.zeros(1, count, dtype=torch.bool))
    probability = out.log_prob[0].double().exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(units, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.equal(probability > 0, observation["action_mask"][0].T)
    exact = -torch.where(probability > 0, probability * probability.log(), 0.0).sum(0)
    torch.testing.assert_close(out.entropy[0, 0].double(), exact, atol=1e-6, rtol=1e-6)


def all_functions(units: int, entities: int, points: int) -> dict[str, Tensor]:
    """Every distinct action of view "function": arguments that a function does not take are 0."""
    rows = []
    for function, (queued, selection, unit, point) in enumerate(FUNCTION_TAKES):
        rows += list(
            itertools.product(
                [function],
                range(2 if queued else 1),
                itertools.product((0, 1), repeat=units) if selection else [(0,) * units],
                range(entities if unit else 1),
                range(points if point else 1),
            )
        )
    names = ("function", "queued", "selected", "target_unit", "target_point")
    return {name: torch.tensor(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_function_action_sums_to_one_and_path_entropy_is_unbiased(seed: int) -> None:
    torch.manual_seed(seed)
    units, entities, points = 3, 4, 3
    net = network("function", units, entities, DEEP_SETS, points)
    observation = observations("function", 1, units, entities, torch.Generator().manual_seed(seed))
    actions = all_functions(units, entities, points)
    log_prob, entropy = evaluate_each(net, observation, actions)
    probability = log_prob[:, 0].double().exp()
    assert abs(probability.sum().item() - 1.0) < 1e-5
    exact = -torch.where(probability > 0, probability * log_prob[:, 0].double(), 0.0).sum()
    torch.testing.assert_close((probability * entropy[:, 0].double()).sum(), exact, atol=1e-5, rtol=1e-5)

    selected = actions["selected"].bool()
    takes = torch.as_tensor(FUNCTION_TAKES)[actions["function"]]
    function = actions["function"]
    legal = observation["function_mask"][0, function]
    legal = legal & (~(selected & ~observation["selected_mask"][0, function]).any(-1) & selected.any(-1) | ~takes[:, 1])
    of_target = observation["target_unit_mask"][0, function].gather(1, actions["target_unit"][:, None]).squeeze(1)
    assert torch.equal(probability > 0, legal & (of_target | ~takes[:, 2]))


@pytest.mark.parametrize("view", ["unit", "smac", "function"])
def test_samples_are_legal_and_as_frequent_as_their_probability(view: str) -> None:
    torch.manual_seed(0)
    units, entities, draws = 2, 4, 20_000
    net = network(view, units, entities, DEEP_SETS, points=2)
    world = observations(view, 1, units, entities, torch.Generator().manual_seed(3))
    observation = {name: array.expand(draws, *array.shape[1:]) for name, array in world.items()}
    step = net.act(observation, {}, torch.zeros(draws, dtype=torch.bool))
    action = step.action if isinstance(step.action, dict) else {"action": step.action}
    columns = torch.cat([array.reshape(draws, -1).long() for array in action.values()], dim=1)
    log_prob = step.log_prob.sum(-1).double()
    _, inverse, counts = columns.unique(dim=0, return_inverse=True, return_counts=True)
    # The log-probability that came with each sample predicts how often that joint action was drawn.
    expected = torch.zeros(len(counts), dtype=torch.float64)
    expected[inverse] = log_prob.exp()
    frequency = counts.double() / draws
    deviation = (frequency - expected).abs() / (expected * (1 - expected) / draws).sqrt().clamp_min(1e-9)
    assert deviation[expected * draws > 20].max() < 5.0
    evaluated = net.evaluate(
        {name: array[None] for name, array in observation.items()},
        {name: array[None] for name, array in action.items()} if view != "smac" else step.action[None],
        {},
        torch.zeros(1, draws, dtype=torch.bool),
    )
    torch.testing.assert_close(evaluated.log_prob[0], step.log_prob, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("view", ["unit", "smac", "function"])
def test_worlds_without_any_choice_give_finite_losses_and_gradients(view: str) -> None:
    torch.manual_seed(0)
    net = network(view, 3, 5, DEEP_SETS)
    observation = observations(view, 4, 3, 5, torch.Generator().manual_seed(0))
    for name, array in observation.items():
        array[1:] = 0
        if name in ("order_mask", "action_mask", "function_mask"):
            array[1:, ..., 0] = True
    step = net.act(observation, {}, torch.zeros(4, dtype=torch.bool))
    action = {k: v[None] for k, v in step.action.items()} if isinstance(step.action, dict) else step.action[None]
    out = net.evaluate({k: v[None] for k, v in observation.items()}, action, {}, torch.zeros(1, 4, dtype=torch.bool))
    assert not out.unit_mask[0, 1:].any()
    assert torch.equal(out.log_prob[0, 1:], torch.zeros_like(out.log_prob[0, 1:]))
    assert out.entropy[0, 1:].abs().max() == 0
    (out.log_prob.sum() + out.entropy.sum() + out.value.sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_masked_softmax_of_extreme_logits_stays_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[False, True, True], [False, False, False]])
    log_probs = masked_log_softmax(logits, mask)
    assert log_probs[0].exp().tolist() == [0.0, 0.0, 1.0]
    log_probs[0, 1:].sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[0, 0] == 0


def test_sampling_never_draws_a_masked_entry() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(100_000, 8, dtype=torch.bool)
    mask[:, 5] = True
    assert (sample_categorical(masked_log_softmax(torch.randn(100_000, 8), mask)) == 5).all()


def test_samples_have_the_probabilities_they_are_drawn_from() -> None:
    """Within five standard errors of each frequency; impossible entries first, between others and last never come."""
    torch.manual_seed(0)
    draws = 200_000
    probability = torch.tensor([0.0, 0.5, 0.0, 1e-3, 0.299, 0.2, 0.0])
    log_probs = masked_log_softmax(probability.clamp_min(1e-30).log(), probability > 0)
    frequency = sample_categorical(log_probs.expand(draws, -1)).bincount(minlength=7) / draws
    error = (probability * (1 - probability) / draws).sqrt()
    assert ((frequency - probability).abs() <= 5 * error).all()


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-24])
def test_the_smallest_and_largest_numbers_draw_possible_entries(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(torch, "rand_like", lambda total: torch.full_like(total, number))
    mask = torch.rand(100_000, 9) < 0.5
    mask[:, 4] = True
    drawn = sample_categorical(masked_log_softmax(30 * torch.randn(100_000, 9), mask))
    assert mask.gather(-1, drawn[:, None]).all()
