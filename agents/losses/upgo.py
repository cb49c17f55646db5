"""Upgoing policy updates (AlphaStar, Vinyals et al. 2019, methods): learn from what went better than expected.

    G_t = r_t + gamma * (G_{t+1}  if r_{t+1} + gamma V(x_{t+2}) >= V(x_{t+1})  else  V(x_{t+1}))

The return follows the trajectory while the actions turn out at least as good as the value function thought. Where they
turn out worse, it bootstraps.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def upgo_returns(
    reward: Tensor,
    value: Tensor,
    *,
    terminated: Tensor,
    truncated: Tensor,
    final_value: Tensor,
    discount: float,
) -> Tensor:
    """Upgoing returns [T, B] of reward [T, B] and value [T+1, B]; terminated, truncated, final_value [T, B] as in
    V-trace.
    """
    ended = terminated | truncated
    next_value = torch.where(truncated & ~terminated, final_value, value[1:]) * ~terminated
    better = reward + discount * next_value >= value[:-1]  # the action taken at t did at least as well as expected
    returns = torch.empty_like(reward)
    following = next_value[-1]
    for t in reversed(range(len(reward))):
        following = torch.where(ended[t], next_value[t], following)
        returns[t] = reward[t] + discount * following
        following = torch.where(better[t], returns[t], value[t])
    return returns
