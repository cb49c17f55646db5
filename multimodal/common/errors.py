"""Errors that a user can mend."""

from __future__ import annotations


class DataError(ValueError):
    """The data cannot be used as asked; the message names the path and the remedy."""
