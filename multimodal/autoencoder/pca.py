"""The linear autoencoder: principal components of whole clips, the baseline for a code of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClipPCA:
    """Principal components of picture and sound, joint or of each by itself.

    Both are scaled to the same total variance over the training clips before the decomposition, so that in a joint one
    neither takes the whole code because its numbers are larger or more.

    Attributes:
        mean: `[V + S]` of the scaled values.
        components: `[K, V + S]`, orthonormal rows.
        video_scale, audio_scale: factors from pixels in [0, 1] and samples in [-1, 1] to scaled values.
        video_shape: (T, 3, H, W).
    """

    mean: Tensor
    components: Tensor
    video_scale: float
    audio_scale: float
    video_shape: tuple[int, ...]

    @classmethod
    def fit(cls, video: Tensor, audio: Tensor, num_components: int, *, joint: bool = True) -> ClipPCA:
        """Fit to training clips.

        Args:
            video: `[n, T, 3, H, W]` in [0, 1].
            audio: `[n, S]`.
            num_components: K; at most n - 1 components carry anything.
            joint: K components of picture and sound together; otherwise K of the picture alone, then K of the sound
                alone, of which `keep` makes a code.

        Raises:
            ValueError: fewer than `num_components + 1` clips.
        """
        if len(video) <= num_components:
            raise ValueError(
                f"{len(video)} clips give at most {len(video) - 1} principal components, {num_components} are "
                f"asked for; "
                "fit on more clips"
            )
        pictures = video.flatten(1).float()
        video_scale = 1 / float((pictures - pictures.mean(0)).square().sum(1).mean().sqrt())
        audio_scale = 1 / float((audio - audio.mean(0)).square().sum(1).mean().sqrt())
        rows = torch.cat([pictures * video_scale, audio.float() * audio_scale], dim=1)
        mean = rows.mean(0)
        rows -= mean
        if joint:
            components = _principal(rows, num_components)
        else:
            parts = rows.split([pictures.shape[1], audio.shape[1]], dim=1)
            components = torch.block_diag(*(_principal(part, num_components) for part in parts))
        return cls(
            mean=mean,
            components=components,
            video_scale=video_scale,
            audio_scale=audio_scale,
            video_shape=tuple(video.shape[1:]),
        )

    def keep(self, numbers: Sequence[int]) -> ClipPCA:
        """With these components alone: a code of `len(numbers)` numbers."""
        return replace(self, components=self.components[list(numbers)])

    def encode(self, video: Tensor, audio: Tensor) -> Tensor:
        """Codes `[B, K]` of clips `[B, T, 3, H, W]` and `[B, S]`."""
        rows = torch.cat([video.flatten(1).float() * self.video_scale, audio.float() * self.audio_scale], dim=1)
        return (rows - self.mean) @ self.components.T

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Video `[B, T, 3, H, W]` in [0, 1] and audio `[B, S]` in [-1, 1] of codes `[B, K]`."""
        rows = code @ self.components + self.mean
        values = int(torch.tensor(self.video_shape).prod())
        video = (rows[:, :values] / self.video_scale).unflatten(1, self.video_shape)
        return video.clamp(0, 1), (rows[:, values:] / self.audio_scale).clamp(-1, 1)


def _principal(rows: Tensor, count: int) -> Tensor:
    """The first `count` principal components `[count, values]` of centred rows `[n, values]`."""
    # There are fewer clips than numbers in a clip: the small Gram matrix has the same spectrum as the covariance.
    variances, vectors = torch.linalg.eigh((rows @ rows.T).double())
    order = torch.argsort(variances, descending=True)[:count]
    weights = vectors[:, order] / variances[order].clamp(min=1e-12).sqrt()
    return weights.T.float() @ rows
