"""Checks of arguments before any compute: an error names the argument, what came and what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["floating", "integer", "bool"]


def _is_kind(tensor: Tensor, kind: Kind) -> bool:
    if kind == "floating":
        return tensor.is_floating_point()
    if kind == "bool":
        return tensor.dtype == torch.bool
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def check_tensor(
    name: str, value: object, layout: str, kind: Kind = "floating", **sizes: int | tuple[int, ...]
) -> None:
    """Check rank, sizes and dtype of a tensor argument.

    Args:
        name: the argument's name in the caller's signature.
        layout: one letter or word per axis, e.g. `"B M C"`.
        kind: the family of dtypes.
        sizes: the size, or the allowed sizes, of named axes, e.g. `C=256`.

    Raises:
        TypeError: `value` is no tensor, or has a dtype of another kind.
        ValueError: the rank or a size is wrong.
    """
    axes = layout.split()
    limits = [
        f"{axis} = {size if isinstance(size, int) else ' or '.join(map(str, size))}" for axis, size in sizes.items()
    ]
    wanted = f"[{', '.join(axes)}]" + (f" with {', '.join(limits)}" if limits else "")
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a {kind} tensor {wanted}, got {type(value).__name__}")
    if not _is_kind(value, kind):
        raise TypeError(
            f"`{name}` must be a {kind} tensor {wanted}, got dtype {value.dtype} and shape {list(value.shape)}"
        )
    if value.dim() != len(axes):
        raise ValueError(f"`{name}` must be a tensor {wanted}, got {value.dim()} axes: shape {list(value.shape)}")
    for axis, size in sizes.items():
        allowed = (size,) if isinstance(size, int) else size
        if value.shape[axes.index(axis)] not in allowed:
            raise ValueError(
                f"`{name}` must be a tensor {wanted}, got {axis} = {value.shape[axes.index(axis)]}: "
                f"shape {list(value.shape)}"
            )


def check_indices(name: str, value: Tensor, count: int) -> None:
    """Check that integer indices lie in `[0, count)`.

    Reads the values, so it is left out of compiled and exported programs (where it would break the graph).
    """
    if torch.compiler.is_compiling() or value.numel() == 0 or value.is_meta:
        return
    low, high = value.aminmax()
    if low < 0 or high >= count:
        raise IndexError(f"`{name}` must hold indices from 0 to {count - 1}, got {int(low)} to {int(high)}")


def check_positive(owner: str, **values: int) -> None:
    """Check that configuration integers are at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{owner}: `{name}` must be a positive integer, got {value!r}")


def check_heads(name: str, channels: int, num_heads: int) -> None:
    """Check that a width splits evenly over the heads."""
    if channels % num_heads:
        raise ValueError(f"`{name}` = {channels} must be a multiple of `num_heads` = {num_heads}")


def check_names(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that every given name is known."""
    known = tuple(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f"`{name}` names unknown {', '.join(map(repr, unknown))}; known: {', '.join(map(repr, known))}"
        )
