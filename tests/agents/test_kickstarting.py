"""Kickstarting: its loss against a loop, the teacher's actions in fragments, and that the learner takes them up."""

import dataclasses

import numpy as np
import pytest
import torch

from agents.acting.arrays import to_tensors
from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.losses.kickstarting import kickstarting_loss
from agents.losses.schedules import Schedule
from agents.models.distributions import LOWEST
from agents.models.network import AgentNetwork, Evaluation
from agents.presets import WorldConfig
from tests.agents.ray_runs import NETWORK, build, tiny_config
from tests.agents.test_runner import assert_equal

T, B, U = 3, 2, 4
WORLD = WorldConfig(scenario="3m", num_envs=4)


def evaluation(teacher_log_prob: torch.Tensor | None, unit_mask: torch.Tensor) -> Evaluation:
    own = torch.zeros(T, B, U, dtype=torch.float64)
    return Evaluation(own, own, unit_mask, torch.zeros(T, B, dtype=torch.float64), teacher_log_prob)


def test_loss_and_gradient_equal_a_loop_over_units():
    torch.manual_seed(0)
    log_prob = (-torch.rand(T, B, U, dtype=torch.float64)).requires_grad_()
    unit_mask = torch.rand(T, B, U) < 0.6
    kickstarting_loss(evaluation(log_prob, unit_mask)).backward()
    deciding = unit_mask.nonzero().tolist()
    expected = sum(-float(log_prob[t, b, u].detach()) for t, b, u in deciding) / len(deciding)
    assert float(kickstarting_loss(evaluation(log_prob, unit_mask)).detach()) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(log_prob.grad, -unit_mask.double() / len(deciding))


def test_a_missing_and_an_impossible_teacher_are_refused():
    everyone = torch.ones(T, B, U, dtype=torch.bool)
    with pytest.raises(ValueError, match="no teacher_log_prob"):
        kickstarting_loss(evaluation(None, everyone))
    impossible = torch.zeros(T, B, U)
    impossible[1, 0, 2] = LOWEST
    with pytest.raises(ValueError, match="illegal"):
        kickstarting_loss(evaluation(impossible, everyone))


def make_rollout(teacher: str | None) -> Rollout:
    env = make_worlds(WORLD, WORLD.num_envs, 0)
    torch.manual_seed(0)
    network = AgentNetwork(NETWORK, env.single_observation_space, env.single_action_space)
    return Rollout(env, network, fragment_length=20, seed=0, teacher=teacher)


def test_the_teacher_is_asked_at_every_step_and_changes_nothing_else():
    taught, alone = make_rollout("focus-fire"), make_rollout(None)
    torch.manual_seed(1)
    fragment, _ = taught.collect()
    torch.manual_seed(1)
    without, _ = alone.collect()
    actions = fragment.pop("teacher_action")
    assert_equal(fragment, without)
    worlds = make_worlds(WORLD, WORLD.num_envs, 0)
    worlds.reset(seed=0)
    for t in range(taught.fragment_length):
        for name, expected in worlds.scripted_action("focus-fire").items():
            np.testing.assert_array_equal(actions[name][t], expected)
        worlds.step({name: array[t] for name, array in fragment["action"].items()})


def test_teachers_log_probabilities_are_those_of_its_actions():
    rollout = make_rollout("focus-fire")
    batch = to_tensors(rollout.collect()[0])
    arguments = batch["observation"], batch["action"], batch["state"], batch["is_first"]
    taught = rollout.network.evaluate(*arguments, batch["teacher_action"])
    alone = rollout.network.evaluate(*arguments)
    of_teacher = rollout.network.evaluate(arguments[0], batch["teacher_action"], *arguments[2:])
    assert taught.teacher_log_prob is not None and alone.teacher_log_prob is None
    torch.testing.assert_close(taught.teacher_log_prob, of_teacher.log_prob)
    torch.testing.assert_close(taught.log_prob, alone.log_prob)


@pytest.mark.parametrize("algorithm", ["v-trace", "ppo"])
def test_the_learner_takes_up_what_the_teacher_does_until_its_weight_is_gone(algorithm):
    """The term falls from chance to below half of it."""
    config = tiny_config(algorithm=algorithm, updates=80, scenario="3m")
    learning = dataclasses.replace(
        config.learning, teacher="focus-fire", teacher_weight=Schedule(start=1.0, end=0.0, until=0.75)
    )
    agent = build(dataclasses.replace(config, learning=learning))
    try:
        reports = []
        while agent.progress < 1.0:
            reports.append(agent.train()["learners"]["default_policy"])
    finally:
        agent.stop()
    weights = [report["teacher_weight"] for report in reports]
    assert weights[0] == 1.0 and 0.0 < weights[59] < 0.05 and not any(weights[60:]) and len(weights) == 80
    assert np.mean([report["teacher"] for report in reports[50:60]]) < 0.5 * reports[0]["teacher"]
