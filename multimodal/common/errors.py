"""Errors that a user can mend, and how a training ends early."""

from __future__ import annotations


class DataError(ValueError):
    """The data or the settings cannot be used as asked; the message names the value and the remedy."""


class NonFiniteLoss(DataError):
    """The loss is no longer a number; nothing of it was saved."""


class TrainingFailed(RuntimeError):
    """The training processes failed, and not for a reason that a user can mend; tells where the traces are."""


class Stopped(Exception):
    """The run was asked to end before its last step.

    Attributes:
        signal_number: SIGINT or SIGTERM.
        step: the step that the newest checkpoint has done.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.signal_number = signal_number
        self.step = step
