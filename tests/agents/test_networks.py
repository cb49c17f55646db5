"""The whole agent: act and evaluate agree, states reset, bad spaces are refused."""

import dataclasses

import gymnasium
import pytest
import torch
from torch import Tensor

from agents.models.encoders import ENCODERS
from agents.models.network import AgentNetwork, NetworkConfig
from tests.agents.synthetic import TINY, VOCABULARY, network, observations, spaces

STEPS, BATCH, UNITS, ENTITIES = 6, 5, 3, 7
VIEWS = ("unit", "smac", "function")


def roll(net: AgentNetwork, view: str, is_first: Tensor):
    """Acts for STEPS steps on random observations: stacked observations, actions, log-probabilities, values."""
    generator = torch.Generator().manual_seed(0)
    state, rows = net.initial_state(BATCH), []
    for t in range(STEPS):
        observation = observations(view, BATCH, UNITS, ENTITIES, generator)
        step = net.act(observation, state, is_first[t])
        state = step.state
        rows.append((observation, step))

    def stack(parts):
        if isinstance(parts[0], dict):
            return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        return torch.stack(parts)

    observation, action = stack([o for o, _ in rows]), stack([s.action for _, s in rows])
    return observation, action, stack([s.log_prob for _, s in rows]), stack([s.value for _, s in rows])


@pytest.mark.parametrize("lstm", [0, 12])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("view", VIEWS)
def test_evaluate_repeats_what_act_said(view: str, encoder: str, lstm: int) -> None:
    torch.manual_seed(0)
    net = network(view, UNITS, ENTITIES, dataclasses.replace(TINY, encoder=encoder, lstm_channels=lstm))
    is_first = torch.rand(STEPS, BATCH) < 0.3
    observation, action, log_prob, value = roll(net, view, is_first)
    out = net.evaluate(observation, action, net.initial_state(BATCH), is_first)
    torch.testing.assert_close(out.log_prob, log_prob, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.value, value, atol=1e-5, rtol=1e-5)
    assert (out.entropy[out.unit_mask] > 0).all()
    assert (out.log_prob[~out.unit_mask].abs() < 1e-6).all()

    # With a step more of observations there is a value more, and nothing else changes.
    shorter = {k: v[:-1] for k, v in action.items()} if isinstance(action, dict) else action[:-1]
    longer = net.evaluate(observation, shorter, net.initial_state(BATCH), is_first)
    torch.testing.assert_close(longer.value, out.value, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(longer.log_prob, out.log_prob[:-1], atol=1e-5, rtol=1e-5)


def test_recurrent_state_is_cleared_where_an_episode_begins() -> None:
    torch.manual_seed(0)
    net = network("unit", UNITS, ENTITIES, dataclasses.replace(TINY, lstm_channels=8))
    is_first = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    observation, action, _, _ = roll(net, "unit", is_first)
    is_first[3, 0] = True
    state = {name: torch.randn(BATCH, 8) for name in ("h", "c")}
    whole = net.evaluate(observation, action, state, is_first)
    tail = {k: v[3:] for k, v in observation.items()}, {k: v[3:] for k, v in action.items()}
    fresh = net.evaluate(*tail, net.initial_state(BATCH), is_first[3:])
    torch.testing.assert_close(whole.value[3:, 0], fresh.value[:, 0])  # the past is forgotten
    assert not torch.allclose(whole.value[3:, 1], fresh.value[:, 1])  # and only there


def test_gradients_do_not_cross_the_beginning_of_an_episode() -> None:
    torch.manual_seed(0)
    net = network("unit", UNITS, ENTITIES, dataclasses.replace(TINY, lstm_channels=8))
    is_first = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    observation, action, _, _ = roll(net, "unit", is_first)
    is_first[3] = True
    observation["scalars"].requires_grad_()
    out = net.evaluate(observation, action, net.initial_state(BATCH), is_first)
    (gradient,) = torch.autograd.grad(out.value[3:].sum(), observation["scalars"])
    assert gradient[:3].abs().max() == 0 and gradient[3:].abs().max() > 0


@pytest.mark.parametrize("view", VIEWS)
def test_deterministic_actions_are_the_same_every_time(view: str) -> None:
    torch.manual_seed(0)
    net = network(view, UNITS, ENTITIES)
    observation = observations(view, BATCH, UNITS, ENTITIES, torch.Generator().manual_seed(0))
    first = torch.zeros(BATCH, dtype=torch.bool)
    steps = [net.act(observation, {}, first, deterministic=True) for _ in range(2)]
    for a, b in zip(*(s.action.values() if isinstance(s.action, dict) else [s.action] for s in steps), strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(net.value(observation, {}, first), steps[0].value)


@pytest.mark.parametrize("view", VIEWS)
def test_every_parameter_gets_a_gradient(view: str) -> None:
    torch.manual_seed(0)
    net = network(view, UNITS, ENTITIES, dataclasses.replace(TINY, lstm_channels=8))
    is_first = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    observation, action, _, _ = roll(net, view, is_first)
    out = net.evaluate(observation, action, net.initial_state(BATCH), is_first)
    (out.log_prob.sum() + out.entropy.sum() + out.value.sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_actions_fit_the_action_space() -> None:
    for view in VIEWS:
        net = network(view, UNITS, ENTITIES)
        _, action_space = spaces(view, UNITS, ENTITIES)
        observation = observations(view, BATCH, UNITS, ENTITIES, torch.Generator().manual_seed(0))
        action = net.act(observation, {}, torch.zeros(BATCH, dtype=torch.bool)).action
        for b in range(BATCH):
            if view == "smac":
                assert action_space.contains(action[b].numpy())
            else:
                one = {k: v[b].numpy() for k, v in action.items()}
                one["selected"] = one["selected"].astype("int8") if "selected" in one else None
                assert isinstance(action_space, gymnasium.spaces.Dict)
                for name, space in action_space.items():
                    value = one[name]
                    assert space.contains(int(value) if value.ndim == 0 else value), (name, value)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"encoder": "gru"}, "'gru'"),
        ({"channels": 10, "num_heads": 4}, "channels"),
        ({"num_latents": 0}, "num_latents"),
        ({"lstm_channels": -1}, "lstm_channels"),
    ],
)
def test_impossible_sizes_are_refused(bad: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        NetworkConfig(**bad)


def test_unknown_spaces_are_refused() -> None:
    observation_space, action_space = spaces("unit", UNITS, ENTITIES)
    with pytest.raises(ValueError, match="'unit', 'smac' or 'function'"):
        AgentNetwork(TINY, observation_space, gymnasium.spaces.Discrete(3), VOCABULARY)
    with pytest.raises(ValueError, match="entities"):
        AgentNetwork(TINY, gymnasium.spaces.Discrete(3), action_space, VOCABULARY)
