"""V-trace actor-critic (IMPALA, Espeholt et al. 2018, arXiv:1802.01561), with UPGO as AlphaStar adds it.

    loss = -mean(advantage * log pi(a|x)) + value_weight * 1/2 mean((V(x) - vs)^2) - entropy_weight * mean(H(pi(.|x)))
           [- upgo_weight * mean(clipped_rho * (G_upgo - V(x)) * log pi(a|x))]

A world's action is the joint action of its units: its log-probability is the sum over units, and so is its entropy.

Fragments are time-major. Truncation bootstraps, termination does not: a step that the time limit cut off is followed by
the value of the last observation (`final_value`, zero elsewhere).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.configuration import check_at_least, check_positive, check_shares
from agents.losses.upgo import upgo_returns
from agents.models.network import Evaluation


@dataclass(frozen=True, kw_only=True)
class VTraceConfig:
    """Settings of V-trace (section 4.1 of the paper) and UPGO."""

    discount: float = 0.99
    """Discount factor gamma of future rewards."""
    trace_lambda: float = 0.95
    """Multiplies the trace coefficients c (lambda of remark 2): 0 trusts the value function, 1 the observed returns."""
    rho_clip: float = 1.0
    """Where importance ratios are cut off in targets and advantages (rho-bar)."""
    c_clip: float = 1.0
    """Where importance ratios are cut off in the trace coefficients (c-bar)."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    upgo_weight: float = 0.0
    """Weight of the upgoing policy update; 0 leaves it out."""

    def __post_init__(self) -> None:
        check_shares(self, "discount", "trace_lambda")
        check_positive(self, "rho_clip", "c_clip")
        check_at_least(self, 0, "value_weight", "upgo_weight")


class VTraceTargets(NamedTuple):
    """vs and advantage [T, B]; no gradient flows through them."""

    vs: Tensor
    advantage: Tensor


@torch.no_grad()
def vtrace_targets(
    log_ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    *,
    terminated: Tensor,
    truncated: Tensor,
    final_value: Tensor,
    discount: float,
    trace_lambda: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> VTraceTargets:
    """Corrected value targets v_s (equation 1 of the paper) and policy-gradient advantages (section 4.2).

    log_ratio [T, B]: log pi(a|x) - log mu(a|x). value [T+1, B]: under the present parameters, the last row for the
    bootstrap. final_value [T, B]: value of the observation that ended a truncated episode.
    """
    ratio = log_ratio.exp()
    rho, c = ratio.clamp(max=rho_clip), trace_lambda * ratio.clamp(max=c_clip)
    ended = terminated | truncated
    next_value = torch.where(truncated & ~terminated, final_value, value[1:]) * ~terminated
    delta = rho * (reward + discount * next_value - value[:-1])
    carried = discount * c * ~ended
    excess = torch.empty_like(delta)  # v_s - V(x_s)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + carried[t] * following
        excess[t] = following
    vs = value[:-1] + excess
    next_vs = torch.where(ended, next_value, torch.cat([vs[1:], value[-1:]]))
    return VTraceTargets(vs, rho * (reward + discount * next_vs - value[:-1]))


class VTraceLoss(NamedTuple):
    """total is what to minimise; the others are its unweighted terms and diagnostics, all scalars."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    upgo: Tensor
    mean_ratio: Tensor
    explained_variance: Tensor


def vtrace_loss(
    evaluation: Evaluation, fragment: dict[str, Tensor], config: VTraceConfig, entropy_weight: float
) -> VTraceLoss:
    """Loss of one fragment: `behaviour_log_prob` [T, B, U]; `reward`, `terminated`, `truncated`, `final_value` [T, B].

    evaluation: of the same fragment under the present parameters, with T+1 values. entropy_weight: of the policy's
    entropy, which is maximised.
    """
    log_prob = evaluation.log_prob.sum(-1)
    behaviour_log_prob = fragment["behaviour_log_prob"].sum(-1)
    reward = fragment["reward"].to(log_prob.dtype)
    terminated, truncated = fragment["terminated"].bool(), fragment["truncated"].bool()
    value = evaluation.value
    log_ratio = log_prob.detach() - behaviour_log_prob
    targets = vtrace_targets(
        log_ratio,
        reward,
        value.detach(),
        terminated=terminated,
        truncated=truncated,
        final_value=fragment["final_value"],
        discount=config.discount,
        trace_lambda=config.trace_lambda,
        rho_clip=config.rho_clip,
        c_clip=config.c_clip,
    )
    policy = -(targets.advantage * log_prob).mean()
    value_error = 0.5 * (value[:-1] - targets.vs).square().mean()
    entropy = evaluation.entropy.sum(-1).mean()
    upgo = torch.zeros_like(policy)
    if config.upgo_weight:
        returns = upgo_returns(
            reward,
            value.detach(),
            terminated=terminated,
            truncated=truncated,
            final_value=fragment["final_value"],
            discount=config.discount,
        )
        rho = log_ratio.exp().clamp(max=config.rho_clip)
        upgo = -(rho * (returns - value[:-1].detach()) * log_prob).mean()
    total = policy + config.value_weight * value_error - entropy_weight * entropy + config.upgo_weight * upgo
    unexplained = (targets.vs - value[:-1].detach()).var() / targets.vs.var().clamp_min(1e-8)
    return VTraceLoss(
        total,
        policy.detach(),
        value_error.detach(),
        entropy.detach(),
        upgo.detach(),
        log_ratio.exp().mean(),
        1 - unexplained,
    )
