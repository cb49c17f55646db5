"""Kickstarting: reinforcement learning that also imitates a teacher, less and less (Schmitt et al. 2018,
arXiv:1803.03835).

    loss = loss of V-trace or PPO + weight * mean_u(-log pi(a_u of the teacher | x))

The learner acts, and the teacher says what it would have done there. So the states x are the learner's own, as in
DAgger (Ross et al. 2011, arXiv:1011.0686). The lessons cover the learner's own mistakes, which demonstrations do not.
Its value function learns its own returns from the first step on. The paper's teacher is a network, and its distribution
enters the cross-entropy. A scripted policy gives one action instead.
"""

from __future__ import annotations

from torch import Tensor

from agents.losses.imitation import ImitationConfig, imitation_loss
from agents.models.network import Evaluation


def kickstarting_loss(evaluation: Evaluation) -> Tensor:
    """Negative log-likelihood of the teacher's actions in nats per unit that had a choice, a scalar.

    Raises ValueError if there are no teacher's actions, or one is illegal.
    """
    if evaluation.teacher_log_prob is None:
        raise ValueError("the evaluation has no teacher_log_prob: evaluate the fragment with a teacher_action")
    return imitation_loss(evaluation._replace(log_prob=evaluation.teacher_log_prob), {}, ImitationConfig()).total
