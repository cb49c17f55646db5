"""Position encodings over index grids of any rank: Fourier features and trainable tables.

An encoding maps flat indices into its grid to features; without indices it gives the whole grid, row-major.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.attention import init_linear
from perceiver_core.checks import check_indices, check_positive, check_tensor
from perceiver_core.config import config_class

Spacing = Literal["closed", "half_open"]


def axis_positions(size: int, spacing: Spacing, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates [size] of one axis in [-1, 1].

    `"closed"` is `linspace(-1, 1)` with both ends. `"half_open"` is `-1 + 2 i / size`, which never reaches 1. The
    reference encodes whole grids in the first way and subsampled output queries in the second. The weights of the
    video-audio-label autoencoder were trained on subsampled queries, so they expect the second for every query.
    """
    if spacing == "closed":
        return torch.linspace(-1.0, 1.0, size, device=device)
    return -1 + 2 * torch.arange(size, device=device) / size


def fourier_axis_features(positions: Tensor, num_bands: int, resolution: int) -> Tensor:
    """Sines, then cosines, of one axis: `sin(pi f x)`, `cos(pi f x)` for f linear from 1 to `resolution / 2`.

    The upper end is the Nyquist frequency of a grid with `resolution` points (arXiv 2103.03206).

    Args:
        positions: [n] in [-1, 1].

    Returns:
        [n, 2, num_bands].
    """
    # Float32 in this order of operations, as the published weights saw it. At 15,360 half-waves (audio) the rounding of
    # the phase reaches 1e-3, so a more exact phase would be another encoding.
    frequencies = torch.linspace(1.0, resolution / 2, num_bands, device=positions.device)
    phase = math.pi * (positions[:, None] * frequencies)
    return torch.stack([phase.sin(), phase.cos()], dim=1)


class PositionEncoding(nn.Module):
    """Features of the places of an index grid."""

    shape: tuple[int, ...]
    channels: int

    @property
    def count(self) -> int:
        """Number of places in the grid."""
        return math.prod(self.shape)

    def forward(
        self,
        positions: Tensor | None = None,
        shape: Sequence[int] | None = None,
        *,
        interpolate: bool = False,
    ) -> Tensor:
        """Encode places.

        Args:
            positions: integers [...], flat row-major indices into the grid; None: the whole grid.
            shape: another grid than the configured one. Fourier features are made for it on the same range [-1, 1].
            interpolate: let a trainable table over a picture serve another grid, resized by bicubic interpolation;
                otherwise it refuses. Fourier features need no such leave.

        Returns:
            [..., channels], or [prod(shape), channels] for the whole grid.
        """
        raise NotImplementedError


def unravel(index: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Flat row-major indices to indices per axis. As `torch.unravel_index`, whose first call imports for seconds."""
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return [index // stride % size for stride, size in zip(strides, sizes, strict=True)]


def _check_positions(positions: Tensor, count: int) -> None:
    if isinstance(positions, Tensor) and positions.dim() == 0:
        raise ValueError("`positions` must have at least one axis, got a scalar")
    axes = positions.dim() if isinstance(positions, Tensor) else 1
    check_tensor("positions", positions, " ".join(f"axis{i}" for i in range(axes)), "integer")
    check_indices("positions", positions, count)


def _check_projection(owner: str, shape: tuple[int, ...], projected_channels: int | None) -> None:
    check_positive(owner, **{f"shape[{i}]": size for i, size in enumerate(shape)})
    if projected_channels is not None:
        check_positive(owner, projected_channels=projected_channels)


class FourierPosition(PositionEncoding):
    """Fourier features: the coordinates, then all sines, then all cosines, axis by axis.

    Features of a grid are separable, so only one small table per axis is kept: `[size, 1 + 2 * num_bands]`.
    """

    @config_class
    class Config:
        """Args:
        shape: sizes of the index grid.
        num_bands: frequencies per axis.
        resolution: Nyquist resolution per axis; None: `shape`.
        spacing: where the grid's places lie in [-1, 1]; see `axis_positions`.
        projected_channels: width of a linear map behind the features; None: none.
        """

        shape: tuple[int, ...]
        num_bands: int
        resolution: tuple[int, ...] | None = None
        spacing: Spacing = "closed"
        projected_channels: int | None = None

        def __post_init__(self) -> None:
            _check_projection("FourierPosition", self.shape, self.projected_channels)
            check_positive("FourierPosition", num_bands=self.num_bands)
            if self.resolution is not None and len(self.resolution) != len(self.shape):
                raise ValueError(f"`resolution` {self.resolution} must have one entry per axis of `shape` {self.shape}")
            if self.spacing not in ("closed", "half_open"):
                raise ValueError(f"`spacing` must be 'closed' or 'half_open', got {self.spacing!r}")

        def build(self) -> FourierPosition:
            return FourierPosition(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shape = config.shape
        features = len(config.shape) * (1 + 2 * config.num_bands)
        self.channels = config.projected_channels or features
        self.projection = (
            init_linear(nn.Linear(features, config.projected_channels)) if config.projected_channels else nn.Identity()
        )
        # Constants, also where a module is built on the meta device to receive its parameters later.
        device = torch.get_default_device()
        for axis, table in enumerate(self._axis_tables(config.shape, "cpu" if device.type == "meta" else device)):
            self.register_buffer(f"axis_{axis}", table, persistent=False)

    def _axis_tables(self, shape: Sequence[int], device: torch.device | str) -> list[Tensor]:
        tables = []
        for size, resolution in zip(shape, self.config.resolution or self.shape, strict=True):
            positions = axis_positions(size, self.config.spacing, device)
            waves = fourier_axis_features(positions, self.config.num_bands, resolution)
            tables.append(torch.cat([positions[:, None], waves.flatten(1)], dim=1))
        return tables

    def axis_tables(self) -> list[Tensor]:
        """Per axis: [size, 1 + 2 * num_bands] with the coordinate, the sines and the cosines."""
        return [getattr(self, f"axis_{axis}") for axis in range(len(self.shape))]

    def forward(
        self,
        positions: Tensor | None = None,
        shape: Sequence[int] | None = None,
        *,
        interpolate: bool = False,
    ) -> Tensor:
        tables = self.axis_tables()
        if shape is not None and tuple(shape) != self.shape:
            if len(shape) != len(self.shape):
                raise ValueError(f"`shape` {tuple(shape)} must have {len(self.shape)} axes, as {self.shape}")
            tables = [t.to(tables[0]) for t in self._axis_tables(shape, tables[0].device)]
        sizes = [len(table) for table in tables]
        if positions is None:
            rows = [
                table.view(*(size if i == axis else 1 for i, size in enumerate(sizes)), -1).expand(*sizes, -1)
                for axis, table in enumerate(tables)
            ]
        else:
            _check_positions(positions, math.prod(sizes))
            rows = [table[i] for table, i in zip(tables, unravel(positions, sizes), strict=True)]
        bands = self.config.num_bands
        parts = [[row[..., :1], row[..., 1 : 1 + bands], row[..., 1 + bands :]] for row in rows]
        features = torch.cat([part[kind] for kind in range(3) for part in parts], dim=-1)
        return self.projection(features.flatten(0, -2) if positions is None else features)


class TrainablePosition(PositionEncoding):
    """A trainable vector for every place of the grid."""

    @config_class
    class Config:
        """Args:
        shape: sizes of the index grid.
        channels: width of the table.
        projected_channels: width of a linear map behind the table; None: none.
        """

        shape: tuple[int, ...]
        channels: int
        projected_channels: int | None = None

        def __post_init__(self) -> None:
            _check_projection("TrainablePosition", self.shape, self.projected_channels)
            check_positive("TrainablePosition", channels=self.channels)

        def build(self) -> TrainablePosition:
            return TrainablePosition(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.shape = config.shape
        self.channels = config.projected_channels or config.channels
        self.table = nn.Parameter(torch.empty(math.prod(config.shape), config.channels))
        nn.init.trunc_normal_(self.table, std=0.02, a=-0.04, b=0.04)
        self.projection = (
            init_linear(nn.Linear(config.channels, config.projected_channels))
            if config.projected_channels
            else nn.Identity()
        )

    def forward(
        self,
        positions: Tensor | None = None,
        shape: Sequence[int] | None = None,
        *,
        interpolate: bool = False,
    ) -> Tensor:
        shape = self.shape if shape is None else tuple(shape)
        table: Tensor = self.table
        if shape != self.shape:
            if not (interpolate and len(shape) == len(self.shape) == 2):
                remedy = "; `interpolate_pos_encoding` of a published model resizes them" if len(shape) == 2 else ""
                raise ValueError(
                    f"trainable positions exist for the grid {self.shape} only, got `shape` {shape}{remedy}"
                )
            table = self._resized(shape)
        if positions is None:
            return self.projection(table)
        _check_positions(positions, len(table))
        return self.projection(table[positions])

    def _resized(self, shape: Sequence[int]) -> Tensor:
        """The table for another picture size, [prod(shape), channels]."""
        picture = self.table.unflatten(0, self.shape).movedim(-1, 0)[None]
        resized = F.interpolate(picture, size=tuple(shape), mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T
