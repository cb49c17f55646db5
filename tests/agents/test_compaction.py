"""Leaving absent rows out changes nothing but the time it takes."""

import torch

from agents.models.compaction import Compaction
from agents.models.distributions import LOWEST
from agents.models.heads import UnitHead
from tests.agents.synthetic import ORDER_TARGET_CLASS, network, observations

UNITS, ENTITIES = 5, 12
ABSENT = [1, 4, 7, 8, 11]


def sparse_observations(batch: int) -> dict[str, torch.Tensor]:
    """Worlds in none of which the rows `ABSENT` are used."""
    observation = observations("unit", batch, UNITS, ENTITIES, torch.Generator().manual_seed(0))
    observation["mask"][:, ABSENT] = False
    mask = observation["mask"]
    observation["entities"] *= mask[..., None]
    observation["target_mask"] &= mask[:, None, None] & mask[:, :UNITS, None, None]
    has_target = observation["target_mask"].any(-1)
    for order, target_class in enumerate(ORDER_TARGET_CLASS):
        if target_class >= 0:
            observation["order_mask"][..., order] &= has_target[..., target_class]
    observation["order_mask"] &= mask[:, :UNITS, None]
    observation["order_mask"][..., 0] |= ~mask[:, :UNITS]
    return observation


def test_same_outputs_and_gradients(monkeypatch):
    torch.manual_seed(0)
    net, observation = network("unit", UNITS, ENTITIES), sparse_observations(6)
    step = net.act(observation, {}, torch.ones(6, dtype=torch.bool))
    assert (step.action["order"][:, [1, 4]] == 0).all() and (step.action["target"][:, [1, 4]] == 0).all()
    fragment = {name: array.view(2, 3, *array.shape[1:]) for name, array in observation.items()}
    action = {name: array.view(2, 3, -1) for name, array in step.action.items()}
    outputs, gradients = [], []
    for _ in range(2):
        evaluation = net.evaluate(fragment, action, {}, torch.ones(2, 3, dtype=torch.bool))
        loss = evaluation.log_prob.sum() + evaluation.entropy.sum() + evaluation.value.sum()
        gradients.append(torch.autograd.grad(loss, list(net.parameters()), allow_unused=True))
        outputs.append(evaluation)
        monkeypatch.setattr(Compaction, "of", lambda *arguments: None)  # the second time with every row
    for compact, full in zip(outputs[0], outputs[1], strict=True):
        torch.testing.assert_close(compact, full, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(step.log_prob.view(2, 3, -1), outputs[1].log_prob, rtol=1e-5, atol=1e-5)
    for compact, full in zip(gradients[0], gradients[1], strict=True):
        if full is not None:
            torch.testing.assert_close(compact, full, rtol=1e-4, atol=1e-5)


def test_what_is_left_out_stays_illegal():
    """An order for a unit that is not there, and a target that nobody sees, have probability 0."""
    net, observation = network("unit", UNITS, ENTITIES), sparse_observations(1)
    is_first = torch.ones(1, 1, dtype=torch.bool)
    fragment = {name: array[None] for name, array in observation.items()}
    action = {"order": torch.zeros(1, 1, UNITS, dtype=torch.long), "target": torch.zeros(1, 1, UNITS, dtype=torch.long)}
    action["order"][0, 0, 1] = 2
    assert net.evaluate(fragment, action, {}, is_first).log_prob[0, 0, 1] == LOWEST
    action["order"][0, 0, 0], action["target"][0, 0, 0] = int((ORDER_TARGET_CLASS >= 0).argmax()), ABSENT[-1]
    assert net.evaluate(fragment, action, {}, is_first).log_prob[0, 0, 0] < -1e6


def test_full_batches_are_left_alone():
    assert Compaction.of(torch.ones(3, ENTITIES, dtype=torch.bool), UNITS, UnitHead.layout) is None
    kept = Compaction.of(torch.zeros(3, ENTITIES, dtype=torch.bool), UNITS, UnitHead.layout)
    assert kept is not None and kept.units.tolist() == [0] and kept.entities.tolist() == [0, ENTITIES - 1]
