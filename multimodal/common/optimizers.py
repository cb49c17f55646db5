"""Optimizers of every modality: AdamW for everything, or Muon for the weights of its attention layers beside AdamW.

Muon (Jordan et al. 2024) steps along the orthogonalised momentum of a matrix, so rare directions of the gradient move
as fast as frequent ones. Among the generated clips every waveform is rare: with AdamW the sound stays silent long after
the picture has begun to appear, with Muon it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from multimodal.common.errors import DataError
from multimodal.common.settings import OptimizerConfig
from perceiver_core.attention import CrossAttention, SelfAttention
from perceiver_core.autoregressive import CausalLayer


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices; matrices of one shape are orthogonalised together.

    `torch.optim.Muon` takes the matrices one by one and in bfloat16, whose small products are slow on CPUs: with the
    36 matrices of `tiny` its step takes three times as long as this one.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        """Decay is decoupled, as in AdamW. The root mean square of a step's entries is about 0.2 `lr`, as AdamW's is
        (Liu et al. 2025, arXiv 2502.16982).
        """
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, matrices in by_shape.items():
                gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
                averages = [self._average(matrix) for matrix in matrices]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
                steps = orthogonalize(torch.stack(list(ahead))).unbind()
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, steps, alpha=-0.2 * math.sqrt(max(shape)) * group["lr"])

    def _average(self, matrix: torch.Tensor) -> torch.Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average: torch.Tensor = state["momentum"]
        return average


# Of Newton-Schulz's odd polynomial of degree 5, chosen by Muon's author for the steepest slope at 0: after five rounds
# singular values from 0.001 to 1 lie between about 0.7 and 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: `[K, n, m]` with all singular values brought near 1."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT).mT
    first, third, fifth = NEWTON_SCHULZ
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x


class Optimizers:
    """The optimizers of a model, as one."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        of_muon: list[nn.Parameter] = []
        if config.muon_learning_rate is not None:
            of_muon = list(dict.fromkeys(_attention_matrices(model)))
        taken = {id(parameter) for parameter in of_muon}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
        groups = [
            {"params": [parameter for parameter in rest if parameter.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [parameter for parameter in rest if parameter.dim() < 2], "weight_decay": 0.0},
        ]
        betas = (0.9, config.beta2)
        adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [(adamw, config.learning_rate)]
        if config.muon_learning_rate is not None:
            rate = config.muon_learning_rate
            self.parts.append((Muon(of_muon, lr=rate, weight_decay=config.weight_decay), rate))

    def step(self, step: int, steps: int) -> None:
        """Take step number `step` of `steps` and forget the gradients."""
        share = self.config.share(step, steps)
        for optimizer, rate in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """The states of all, in order, with the names of the parameters that their numbers stand for."""
        return [{**optimizer.state_dict(), "names": self._names_of(optimizer)} for optimizer, _ in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` gave, by the names of the parameters. Version 0.1 kept none: there, by their order.

        Raises:
            DataError: the states are of other parameters, or of other shapes. The optimizers' own step would read
                beyond them.
        """
        for (optimizer, _), stored in zip(self.parts, states, strict=True):
            names, parameters = self._names_of(optimizer), _parameters(optimizer)
            given = list(stored.get("names", names))
            if sorted(given) != sorted(names):
                differ = ", ".join(sorted(set(given) ^ set(names)))
                raise DataError(f"the checkpoint's optimizer is of other parameters than this model's: {differ}")
            place = {name: number for number, name in enumerate(given)}
            state = {}
            for number, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
                kept = stored["state"].get(place[name], {})
                shapes = {tuple(value.shape) for value in kept.values() if torch.is_tensor(value) and value.dim()}
                if shapes - {tuple(parameter.shape)}:
                    raise DataError(
                        f"the checkpoint's optimizer has values of shape {shapes} for {name}, whose shape is "
                        f"{tuple(parameter.shape)}"
                    )
                if kept:
                    state[number] = kept
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def _names_of(self, optimizer: torch.optim.Optimizer) -> list[str]:
        return [self._names[id(parameter)] for parameter in _parameters(optimizer)]


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """In the order of their numbers in its state."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _attention_matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of all linear maps in attention layers."""
    for layer in model.modules():
        if isinstance(layer, CrossAttention | SelfAttention | CausalLayer):
            for part in layer.modules():
                if isinstance(part, nn.Linear):
                    assert isinstance(part.weight, nn.Parameter)
                    yield part.weight
