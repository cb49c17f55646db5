"""PPO for many units (Schulman et al. 2017, arXiv:1707.06347; MAPPO, Yu et al. 2021, arXiv:2103.01955).

    ratio_u = exp(log pi(a_u|x) - log mu(a_u|x))                                  one ratio per unit, as in MAPPO
    loss = -mean_u(min(ratio_u A, clip(ratio_u, 1 - eps, 1 + eps) A))
           + value_weight * 1/2 mean((V(x) - R)^2) - entropy_weight * mean_u(H(pi_u(.|x)))

The advantage A is generalised advantage estimation (arXiv:1506.02438) of the world's common reward. Means over units
count only units that had a choice (not the dead). Truncation bootstraps from `final_value`, termination does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.configuration import check_at_least, check_positive, check_shares
from agents.models.network import Evaluation


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Settings of proximal policy optimisation."""

    discount: float = 0.99
    """Discount factor gamma of future rewards."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation: 0 trusts the value function, 1 the observed returns."""
    clip: float = 0.2
    """Epsilon: how far a unit's probability ratio may leave 1 before its gradient stops."""
    epochs: int = 4
    """Passes over the steps of an update."""
    minibatches: int = 4
    """Optimizer steps of a pass; each takes an equal part of the steps."""
    value_weight: float = 0.5
    """Weight of the value loss."""

    def __post_init__(self) -> None:
        check_shares(self, "discount", "gae_lambda")
        check_positive(self, "clip")
        check_at_least(self, 1, "epochs", "minibatches")
        check_at_least(self, 0, "value_weight")


@torch.no_grad()
def generalised_advantages(
    reward: Tensor,
    value: Tensor,
    *,
    terminated: Tensor,
    truncated: Tensor,
    final_value: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages [T, B] of reward [T, B] and the behaviour policy's value [T+1, B] (the last row for the bootstrap).

    terminated, truncated bool [T, B]; final_value [T, B]: value of the observation that ended a truncated episode.
    """
    next_value = torch.where(truncated & ~terminated, final_value, value[1:]) * ~terminated
    delta = reward + discount * next_value - value[:-1]
    carried = discount * gae_lambda * (~(terminated | truncated)).to(delta.dtype)
    advantage = torch.empty_like(delta)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + carried[t] * following
        advantage[t] = following
    return advantage


class PPOLoss(NamedTuple):
    """total is what to minimise; the others are its unweighted terms and diagnostics, all scalars."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    clip_fraction: Tensor
    kl: Tensor


def ppo_loss(evaluation: Evaluation, batch: dict[str, Tensor], config: PPOConfig, entropy_weight: float) -> PPOLoss:
    """Loss of one minibatch: `behaviour_log_prob` [T, B, U]; `advantage` (normalised by the caller) and `value_target`
    [T, B].

    evaluation: of the same observations and actions under the present parameters, with T values. entropy_weight: of the
    policy's entropy, which is maximised.
    """
    mask = evaluation.unit_mask.to(evaluation.log_prob.dtype)
    count = mask.sum().clamp_min(1.0)
    log_ratio = evaluation.log_prob - batch["behaviour_log_prob"]
    ratio = log_ratio.exp()
    advantage = batch["advantage"][..., None]
    unclipped, clipped = ratio * advantage, ratio.clamp(1.0 - config.clip, 1.0 + config.clip) * advantage
    policy = -(torch.minimum(unclipped, clipped) * mask).sum() / count
    value = 0.5 * (evaluation.value - batch["value_target"]).square().mean()
    entropy = (evaluation.entropy * mask).sum() / count
    total = policy + config.value_weight * value - entropy_weight * entropy
    with torch.no_grad():
        clip_fraction = (((ratio - 1.0).abs() > config.clip) * mask).sum() / count
        kl = ((ratio - 1.0 - log_ratio) * mask).sum() / count  # an estimate of KL(mu || pi) that is never negative
    return PPOLoss(total, policy.detach(), value.detach(), entropy.detach(), clip_fraction, kl)


def prepare_ppo_batch(fragment: dict[str, Tensor], config: PPOConfig) -> dict[str, Tensor]:
    """Adds `advantage` (mean 0, deviation 1) and `value_target` [T, B] to a fragment.

    Needs `value` [T+1, B] of the behaviour policy (the last row for the bootstrap), `reward`, `terminated`,
    `truncated`, `final_value` [T, B].
    """
    value = fragment["value"]
    advantage = generalised_advantages(
        fragment["reward"].to(value.dtype),
        value,
        terminated=fragment["terminated"].bool(),
        truncated=fragment["truncated"].bool(),
        final_value=fragment["final_value"],
        discount=config.discount,
        gae_lambda=config.gae_lambda,
    )
    normalised = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return {**fragment, "advantage": normalised, "value_target": advantage + value[:-1]}
