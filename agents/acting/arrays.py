"""Arrays and tensors in (nested) dicts: what observations, actions and recurrent states are made of."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def map_arrays(function: Callable[[Any], Any], structure: Any) -> Any:
    """Applies `function` to the array, or to each array of the (nested) dict."""
    if isinstance(structure, Mapping):
        return {name: map_arrays(function, value) for name, value in structure.items()}
    return function(structure)


def to_tensors(structure: Any, device: torch.device | str = "cpu") -> Any:
    """Arrays as tensors on `device`; shares memory where the array lies on the CPU already."""
    return map_arrays(lambda array: torch.as_tensor(array).to(device, non_blocking=True), structure)


def to_arrays(structure: Any) -> Any:
    """Tensors as NumPy arrays."""
    return map_arrays(lambda tensor: tensor.detach().cpu().numpy(), structure)


def stack_arrays(structures: list[Any]) -> Any:
    """Arrays, or (nested) dicts of arrays, stacked on a new first axis."""
    if isinstance(structures[0], Mapping):
        return {name: stack_arrays([structure[name] for structure in structures]) for name in structures[0]}
    return np.stack(structures)
