"""Behavioural cloning: maximise the likelihood of demonstrated actions, the supervised setting of AlphaStar.

    loss = -sum over units with a choice of log pi(a_u|x), divided by their number  [- entropy_weight * mean_u H]

With `value_target` in the batch the value head learns the demonstrator's return as well, so that reinforcement
learning can start from both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.configuration import check_at_least
from agents.models.network import Evaluation


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Settings of behavioural cloning."""

    value_weight: float = 0.5
    """Weight of the value loss, where the batch has targets for it."""
    entropy_weight: float = 0.0
    """Weight of the policy's entropy, which keeps a clone from being certain."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "value_weight", "entropy_weight")


class ImitationLoss(NamedTuple):
    """total is what to minimise; negative_log_likelihood in nats per deciding unit; perplexity its exponential;
    scalars.
    """

    total: Tensor
    negative_log_likelihood: Tensor
    perplexity: Tensor
    value: Tensor
    entropy: Tensor


def imitation_loss(evaluation: Evaluation, batch: dict[str, Tensor], config: ImitationConfig) -> ImitationLoss:
    """Loss of a batch of demonstrations; evaluation: of the demonstrated actions, with T values.

    batch: `value_target` [T, B] (optional) and `weight` [T, B] (optional; 0 leaves a step out, as for padding).
    Raises ValueError if a demonstrated action is illegal: its likelihood is 0 and nothing can be learned from it.
    """
    mask = evaluation.unit_mask.to(evaluation.log_prob.dtype)
    weight = batch.get("weight")
    if weight is not None:
        mask = mask * weight[..., None]
    if (evaluation.log_prob.detach() * mask < ILLEGAL).any():
        raise ValueError(
            "a demonstrated action is illegal under its own mask: record masks and actions from the same step"
        )
    count = mask.sum().clamp_min(1.0)
    nll = -(evaluation.log_prob * mask).sum() / count
    entropy = (evaluation.entropy * mask).sum() / count
    value = torch.zeros_like(nll)
    if "value_target" in batch:
        error = 0.5 * (evaluation.value - batch["value_target"]).square()
        value = error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp_min(1.0)
    total = nll + config.value_weight * value - config.entropy_weight * entropy
    return ImitationLoss(total, nll.detach(), nll.detach().exp(), value.detach(), entropy.detach())


# Log-probabilities below this belong to masked actions: a float32 softmax over legal entries stays far above it.
ILLEGAL = -1e6


@torch.no_grad()
def imitation_accuracy(predicted: Any, demonstrated: Any, unit_mask: Tensor) -> dict[str, Tensor]:
    """Share of agreement for each part of the action ("order", "target", ... or "action"), over units that had a
    choice.

    predicted: the network's deterministic actions; demonstrated: the same structure; unit_mask bool [..., U] (or [...,
    1]). Parts that depend on an earlier part (targets) count only where the earlier part agrees.
    """
    if not isinstance(demonstrated, dict):
        return {"action": _share(predicted == demonstrated, unit_mask)}
    accuracy, counted = {}, unit_mask
    for name, value in demonstrated.items():
        agrees = predicted[name] == value
        if agrees.dim() < unit_mask.dim():
            agrees = agrees[..., None]
        elif agrees.shape != unit_mask.shape:
            agrees = agrees.all(-1, keepdim=True)
        accuracy[name] = _share(agrees, counted)
        counted = counted & agrees
    accuracy["exact"] = counted.sum() / unit_mask.sum().clamp_min(1)
    return accuracy


def _share(agrees: Tensor, counted: Tensor) -> Tensor:
    return (agrees & counted).sum() / counted.sum().clamp_min(1)
