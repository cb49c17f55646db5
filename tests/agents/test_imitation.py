"""Cloning: the loss is the demonstrator's negative log-likelihood, and minimising it recovers a scripted expert."""

import math

import pytest
import torch

from agents.losses.imitation import ImitationConfig, imitation_accuracy, imitation_loss
from agents.models.network import Evaluation
from tests.agents.synthetic import FEATURES, network, observations

STEPS, BATCH, UNITS, ENTITIES = 1, 64, 3, 6


def test_loss_is_the_mean_over_deciding_units() -> None:
    torch.manual_seed(0)
    log_prob, entropy = -torch.rand(4, 3, 2), torch.rand(4, 3, 2)
    mask, value, target = torch.rand(4, 3, 2) < 0.5, torch.randn(4, 3), torch.randn(4, 3)
    weight = (torch.rand(4, 3) < 0.8).float()
    loss = imitation_loss(
        Evaluation(log_prob, entropy, mask, value),
        {"value_target": target, "weight": weight},
        ImitationConfig(value_weight=0.5, entropy_weight=0.1),
    )
    rows = [(t, b, u) for t, b, u in mask.nonzero().tolist() if weight[t, b]]
    nll = -sum(float(log_prob[r]) for r in rows) / len(rows)
    kept = weight.bool()
    value_loss = 0.5 * float((value[kept] - target[kept]).square().mean())
    assert float(loss.negative_log_likelihood) == pytest.approx(nll, rel=1e-5)
    assert float(loss.perplexity) == pytest.approx(math.exp(nll), rel=1e-5)
    mean_entropy = sum(float(entropy[r]) for r in rows) / len(rows)
    assert float(loss.total) == pytest.approx(nll + 0.5 * value_loss - 0.1 * mean_entropy, rel=1e-5)


def test_an_illegal_demonstration_is_refused() -> None:
    net = network("unit", UNITS, ENTITIES)
    observation = observations("unit", 2, UNITS, ENTITIES, torch.Generator().manual_seed(0))
    order = (~observation["order_mask"][0]).int().argmax(-1).expand(2, UNITS)
    assert not observation["order_mask"][0].gather(-1, order[0, :, None]).any()
    action = {"order": order[None], "target": torch.zeros_like(order)[None]}
    batch = {name: array[None] for name, array in observation.items()}
    out = net.evaluate(batch, action, {}, torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="illegal"):
        imitation_loss(out, {}, ImitationConfig())


def test_cloning_recovers_an_expert_that_attacks_the_weakest() -> None:
    """The expert's rule is a pointer: among the legal targets of order 4, the one with the least health."""
    torch.manual_seed(0)
    net = network("unit", UNITS, ENTITIES)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    first = torch.zeros(1, BATCH, dtype=torch.bool)

    def demonstrate():
        observation = observations("unit", BATCH, UNITS, ENTITIES, generator)
        health = observation["entities"][:, None, :, FEATURES.index("health")]
        target = health.masked_fill(~observation["target_mask"][:, :, 1], torch.inf).argmin(-1)
        attacks = observation["order_mask"][..., 4]
        stops = observation["order_mask"][..., 1]
        order = torch.where(attacks, 4, torch.where(stops, 1, 0))
        action = {"order": order[None], "target": torch.where(attacks, target, 0)[None]}
        return {name: array[None] for name, array in observation.items()}, action

    losses = []
    for _ in range(250):
        observation, action = demonstrate()
        loss = imitation_loss(net.evaluate(observation, action, {}, first), {}, ImitationConfig())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(float(loss.negative_log_likelihood))
    observation, action = demonstrate()
    flat = {name: array[0] for name, array in observation.items()}
    predicted = net.act(flat, {}, first[0], deterministic=True).action
    mask = net.evaluate(observation, action, {}, first).unit_mask[0]
    accuracy = imitation_accuracy(predicted, {name: array[0] for name, array in action.items()}, mask)
    print({name: round(float(value), 3) for name, value in accuracy.items()}, losses[0], losses[-1])
    assert accuracy["order"] > 0.95 and accuracy["target"] > 0.85 and accuracy["exact"] > 0.85


def test_accuracy_counts_targets_only_where_the_order_agrees() -> None:
    predicted = {"order": torch.tensor([[4, 4, 1]]), "target": torch.tensor([[5, 2, 0]])}
    demonstrated = {"order": torch.tensor([[4, 4, 4]]), "target": torch.tensor([[5, 3, 0]])}
    accuracy = imitation_accuracy(predicted, demonstrated, torch.tensor([[True, True, True]]))
    assert float(accuracy["order"]) == pytest.approx(2 / 3)
    assert float(accuracy["target"]) == pytest.approx(1 / 2)
    assert float(accuracy["exact"]) == pytest.approx(1 / 3)
