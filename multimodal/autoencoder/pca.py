"""The linear autoencoder: principal components of whole clips, the baseline for a code of the same size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClipPCA:
    """Principal components of a clip's signals (picture, sound), joint or of each by itself.

    All are scaled to the same total variance over the training clips before the decomposition, so that in a joint one
    none takes the whole code because its numbers are larger or more.

    Attributes:
        mean: `[V]` of the scaled values, V numbers in a clip.
        components: `[K, V]`, orthonormal rows.
        scales: by signal, factors to scaled values.
        shapes: by signal, in the order of the values.
    """

    mean: Tensor
    components: Tensor
    scales: Mapping[str, float]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def fit(cls, signals: Mapping[str, Tensor], num_components: int, *, joint: bool = True) -> ClipPCA:
        """Fit to training clips.

        Args:
            signals: by name, `[n, ...]`.
            num_components: K; at most n - 1 components carry anything.
            joint: K components of all signals together; otherwise K of each alone, one signal after the other, of
                which `keep` makes a code.

        Raises:
            ValueError: fewer than `num_components + 1` clips.
        """
        count = len(next(iter(signals.values())))
        if count <= num_components:
            raise ValueError(
                f"{count} clips give at most {count - 1} principal components, {num_components} are asked for; fit on "
                "more clips"
            )
        flat = {name: signal.flatten(1).float() for name, signal in signals.items()}
        scales = {
            name: 1 / max(1e-12, float((rows - rows.mean(0)).square().sum(1).mean().sqrt()))
            for name, rows in flat.items()
        }
        rows = torch.cat([flat[name] * scales[name] for name in flat], dim=1)
        mean = rows.mean(0)
        rows -= mean
        if joint:
            components = _principal(rows, num_components)
        else:
            parts = rows.split([part.shape[1] for part in flat.values()], dim=1)
            components = torch.block_diag(*(_principal(part, num_components) for part in parts))
        shapes = {name: tuple(signal.shape[1:]) for name, signal in signals.items()}
        return cls(mean=mean, components=components, scales=scales, shapes=shapes)

    def keep(self, numbers: Sequence[int]) -> ClipPCA:
        """With these components alone: a code of `len(numbers)` numbers."""
        return replace(self, components=self.components[list(numbers)])

    def encode(self, signals: Mapping[str, Tensor]) -> Tensor:
        """Codes `[B, K]` of clips, by signal `[B, ...]`."""
        rows = torch.cat([signals[name].flatten(1).float() * scale for name, scale in self.scales.items()], dim=1)
        return (rows - self.mean) @ self.components.T

    def decode(self, code: Tensor) -> dict[str, Tensor]:
        """Signals `[B, ...]` of codes `[B, K]`, not clamped to their range."""
        rows = code @ self.components + self.mean
        parts = rows.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: (part / self.scales[name]).unflatten(1, shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def _principal(rows: Tensor, count: int) -> Tensor:
    """The first `count` principal components `[count, values]` of centred rows `[n, values]`."""
    # There are fewer clips than numbers in a clip: the small Gram matrix has the same spectrum as the covariance.
    variances, vectors = torch.linalg.eigh((rows @ rows.T).double())
    order = torch.argsort(variances, descending=True)[:count]
    weights = vectors[:, order] / variances[order].clamp(min=1e-12).sqrt()
    return weights.T.float() @ rows
