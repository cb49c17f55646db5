"""Masked action distributions: exact log-probabilities and entropies, illegal actions with probability exactly 0.

Every function works on logits and masks with arbitrary leading axes. A masked logit becomes the lowest float32, not
-inf, and its probability underflows to exactly 0. So a row without any legal entry (a dead unit's targets) stays finite
in value and gradient. Nobody uses what such a row says: the callers multiply it by zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min


def masked_log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities [..., K] of a categorical distribution over the entries whose mask [..., K] is True."""
    return F.log_softmax(logits.float().masked_fill(~mask, LOWEST), dim=-1)


def sample_categorical(log_probs: Tensor) -> Tensor:
    """Indices [...] drawn from log-probabilities [..., K]: one uniform number a row, looked up in the row's cumulative
    sum.

    An entry of probability 0 adds nothing to the sum, so no number falls on it. The factor keeps the largest number
    below the row's total in float32 too.
    """
    cumulative = log_probs.exp().cumsum(-1)
    total = cumulative[..., -1:]
    return (cumulative <= torch.rand_like(total) * (1.0 - 2.0**-23) * total).sum(-1)


def categorical_entropy(log_probs: Tensor) -> Tensor:
    """Entropy [...] in nats of log-probabilities [..., K]. Entries of probability 0 contribute 0."""
    return -(log_probs.exp() * log_probs).sum(-1)


def log_prob_of(log_probs: Tensor, index: Tensor) -> Tensor:
    """Entry [...] of log-probabilities [..., K] at long index [...]."""
    return log_probs.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def bernoulli_log_prob(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-probability [...] that independent coins with these logits [...] fell as `chosen` (bool) [...]."""
    return -F.softplus(torch.where(chosen, -logits, logits))


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy [...] in nats of coins with these logits [...]: `softplus(l) - l * sigmoid(l)`."""
    return F.softplus(logits) - logits * logits.sigmoid()


class TargetedOrders(NamedTuple):
    """Which orders take a target, and from which class of targets.

    target_row: long [K], for a targeted order its row among the R targeted orders, otherwise 0.
    takes_target: bool [K].
    row_class: long [R], the class (index into the observation's `target_mask`) of each targeted order.
    row_order: long [R], the order of each row.
    """

    target_row: Tensor
    takes_target: Tensor
    row_class: Tensor
    row_order: Tensor

    @classmethod
    def from_classes(cls, order_target_class: Tensor) -> TargetedOrders:
        """Builds it from an int array [K] that holds -1 for an order without target and its target class otherwise."""
        takes_target = order_target_class >= 0
        row = (takes_target.long().cumsum(0) - 1).clamp_min(0)
        row_order = takes_target.nonzero().squeeze(-1)
        return cls(torch.where(takes_target, row, 0), takes_target, order_target_class[row_order].long(), row_order)

    def rows_in_use(self, order_mask: Tensor) -> Tensor:
        """The rows, long [R'], of targeted orders that some unit of a batch may give (mask bool [..., K]); at least one
        row."""
        legal = order_mask.flatten(0, -2).any(0)[self.row_order]
        legal[0] |= ~legal.any()
        return legal.nonzero().squeeze(-1)

    def only(self, rows: Tensor) -> TargetedOrders:
        """The same with these rows alone. Nobody uses what it says of an order whose row is left out."""
        place = torch.zeros_like(self.row_order)
        place[rows] = torch.arange(len(rows), device=rows.device)
        return self._replace(
            target_row=place[self.target_row], row_class=self.row_class[rows], row_order=self.row_order[rows]
        )


class UnitOrders:
    """For each of U units an order, then a target given the order: p(order) * p(target | order), independent across
    units.

    order_logits [..., U, K], order_mask bool [..., U, K].
    target_logits [..., U, R, N], one row per targeted order. target_mask bool [..., U, C, N], one row per target class.
    """

    def __init__(
        self,
        order_logits: Tensor,
        target_logits: Tensor,
        order_mask: Tensor,
        target_mask: Tensor,
        orders: TargetedOrders,
    ) -> None:
        self.orders = orders
        self.order_log_probs = masked_log_softmax(order_logits, order_mask)
        self.target_logits = target_logits
        self.target_mask = target_mask

    def sample(self, deterministic: bool = False) -> tuple[dict[str, Tensor], Tensor]:
        """Draws (or, deterministic, takes the mode of each conditional): {"order", "target"} long [..., U], and the
        log-probability [..., U]. The target of an order that takes none is 0."""
        order = self.order_log_probs.argmax(-1) if deterministic else sample_categorical(self.order_log_probs)
        target_log_probs = self._target_log_probs_given(order)
        target = target_log_probs.argmax(-1) if deterministic else sample_categorical(target_log_probs)
        takes_target = self.orders.takes_target[order]
        target = torch.where(takes_target, target, 0)
        log_prob = log_prob_of(self.order_log_probs, order)
        log_prob = log_prob + log_prob_of(target_log_probs, target) * takes_target
        return {"order": order, "target": target}, log_prob

    def log_prob(self, action: dict[str, Tensor]) -> Tensor:
        """Log-probability [..., U] of the action of each unit."""
        order, target = action["order"].long(), action["target"].long()
        of_target = log_prob_of(self._target_log_probs_given(order), target)
        return log_prob_of(self.order_log_probs, order) + torch.where(self.orders.takes_target[order], of_target, 0.0)

    def entropy(self) -> Tensor:
        """Exact entropy [..., U] of each unit's joint action: H(order) + sum over orders p(order) H(target | order)."""
        mask = self.target_mask.index_select(-2, self.orders.row_class)
        of_targets = categorical_entropy(masked_log_softmax(self.target_logits, mask))  # [..., U, R]
        of_orders = self.order_log_probs.index_select(-1, self.orders.row_order).exp()
        return categorical_entropy(self.order_log_probs) + (of_orders * of_targets).sum(-1)

    def _target_log_probs_given(self, order: Tensor) -> Tensor:
        """Log-probabilities [..., U, N] of the targets of each unit's order; unused where the order takes no target."""
        row = self.orders.target_row[order]
        logits = _select_row(self.target_logits, row)
        mask = _select_row(self.target_mask, self.orders.row_class[row])
        return masked_log_softmax(logits, mask)


def _select_row(array: Tensor, row: Tensor) -> Tensor:
    """array [..., R, N], row long [...] -> [..., N]."""
    index = row[..., None, None].expand(*row.shape, 1, array.shape[-1])
    return array.gather(-2, index).squeeze(-2)
