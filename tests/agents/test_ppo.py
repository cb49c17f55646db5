"""PPO's advantages and loss against float64 loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.losses.ppo import PPOConfig, generalised_advantages, ppo_loss, prepare_ppo_batch
from agents.models.network import Evaluation
from tests.agents.test_vtrace import B, T, fragment


def naive_advantages(f: dict[str, np.ndarray], discount: float, lam: float) -> np.ndarray:
    """A_t = sum over l of (gamma lambda)^l delta_{t+l}, up to the end of the episode."""
    advantage = np.zeros((T, B))
    for b in range(B):
        for s in range(T):
            for t in range(s, T):
                following = f["final_value"][t, b] if f["truncated"][t, b] else f["value"][t + 1, b]
                following = 0.0 if f["terminated"][t, b] else following
                delta = f["reward"][t, b] + discount * following - f["value"][t, b]
                advantage[s, b] += (discount * lam) ** (t - s) * delta
                if f["terminated"][t, b] or f["truncated"][t, b]:
                    break
    return advantage


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), lam=st.sampled_from([0.0, 0.95, 1.0]))
def test_advantages_equal_their_definition(seed: int, lam: float) -> None:
    f = fragment(seed)
    del f["log_ratio"]
    expected = naive_advantages({k: v.numpy() for k, v in f.items()}, 0.97, lam)
    got = generalised_advantages(**f, discount=0.97, gae_lambda=lam)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_loss_and_gradient_equal_a_loop_over_units() -> None:
    torch.manual_seed(0)
    units, clip = 3, 0.2
    behaviour = -torch.rand(T, B, units, dtype=torch.float64)
    log_prob = (behaviour + 0.3 * torch.randn_like(behaviour)).requires_grad_()
    entropy = torch.rand(T, B, units, dtype=torch.float64)
    unit_mask = torch.rand(T, B, units) < 0.7
    value, target, advantage = torch.randn(3, T, B, dtype=torch.float64).unbind(0)
    config = PPOConfig(clip=clip, value_weight=0.7)
    batch = {"behaviour_log_prob": behaviour, "advantage": advantage, "value_target": target}
    loss = ppo_loss(Evaluation(log_prob, entropy, unit_mask, value), batch, config, 0.3)
    loss.total.backward()

    policy, entropies, clipped, gradient = 0.0, 0.0, 0, torch.zeros_like(behaviour)
    count = int(unit_mask.sum())
    for t, b, u in unit_mask.nonzero().tolist():
        ratio, a = float((log_prob[t, b, u].detach() - behaviour[t, b, u]).exp()), float(advantage[t, b])
        policy -= min(ratio * a, min(max(ratio, 1 - clip), 1 + clip) * a) / count
        entropies += float(entropy[t, b, u]) / count
        clipped += abs(ratio - 1) > clip
        if not (a > 0 and ratio > 1 + clip) and not (a < 0 and ratio < 1 - clip):
            gradient[t, b, u] = -ratio * a / count
    mean_square = float((value - target).square().mean())
    assert float(loss.policy) == pytest.approx(policy, rel=1e-10)
    assert float(loss.entropy) == pytest.approx(entropies, rel=1e-10)
    assert float(loss.total.detach()) == pytest.approx(policy + 0.7 * 0.5 * mean_square - 0.3 * entropies, rel=1e-10)
    assert float(loss.clip_fraction) == pytest.approx(clipped / count)
    torch.testing.assert_close(log_prob.grad, gradient)


def test_prepared_batch_has_normalised_advantages_and_unnormalised_targets() -> None:
    f = fragment(4)
    raw = generalised_advantages(**{k: v for k, v in f.items() if k != "log_ratio"}, discount=0.99, gae_lambda=0.95)
    batch = prepare_ppo_batch(f, PPOConfig(discount=0.99, gae_lambda=0.95))
    torch.testing.assert_close(batch["value_target"], raw + f["value"][:-1])
    assert abs(batch["advantage"].mean()) < 1e-12 and abs(batch["advantage"].std() - 1) < 1e-6


def test_a_batch_without_deciding_units_gives_zero_policy_loss() -> None:
    log_prob = torch.zeros(2, 2, 3, requires_grad=True)
    evaluation = Evaluation(log_prob, torch.zeros(2, 2, 3), torch.zeros(2, 2, 3, dtype=torch.bool), torch.zeros(2, 2))
    batch = {name: torch.ones(2, 2) for name in ("advantage", "value_target")}
    loss = ppo_loss(evaluation, {**batch, "behaviour_log_prob": torch.zeros(2, 2, 3)}, PPOConfig(), 0.01)
    loss.total.backward()
    assert float(loss.policy) == 0.0 and log_prob.grad is not None and log_prob.grad.abs().max() == 0


@pytest.mark.parametrize(
    "bad", [{"discount": 1.5}, {"gae_lambda": -0.1}, {"clip": 0.0}, {"epochs": 0}, {"minibatches": 0}]
)
def test_impossible_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PPOConfig(**bad)
