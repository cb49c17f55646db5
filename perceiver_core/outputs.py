"""Output adapters: from decoded rows [B, O, F] to what a task wants.

`forward` works on each row by itself, so it can be applied to chunks; `assemble` then gives the result its shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.attention import init_linear
from perceiver_core.checks import check_positive
from perceiver_core.config import config_class
from perceiver_core.inputs import InputAdapter, TokenInput, merge_patches


class OutputAdapter(nn.Module):
    """Base of the adapters: leaves rows and shape as they are."""

    def forward(self, rows: Tensor) -> Tensor:
        """[B, O, F] -> [B, O, G], row by row."""
        return rows

    def assemble(self, rows: Tensor, *, whole: bool) -> Tensor:
        """Shape the rows [B, O, G]; `whole` says that all positions were decoded, in order."""
        return rows


class IdentityOutput(OutputAdapter):
    """Rows [B, O, F] as the decoder made them."""

    @config_class
    class Config:
        """Nothing to set."""

        def build(self, channels: int, inputs: InputAdapter) -> IdentityOutput:
            return IdentityOutput()


class ProjectionOutput(OutputAdapter):
    """A linear map of every row, e.g. to the three colours of a pixel: [B, O, channels]."""

    @config_class
    class Config:
        """Args:
        channels: output width.
        """

        channels: int

        def __post_init__(self) -> None:
            check_positive("ProjectionOutput", channels=self.channels)

        def build(self, channels: int, inputs: InputAdapter) -> ProjectionOutput:
            return ProjectionOutput(channels, self.channels)

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.projection = init_linear(nn.Linear(in_channels, out_channels))

    def forward(self, rows: Tensor) -> Tensor:
        return self.projection(rows)


class ClassificationOutput(OutputAdapter):
    """Class logits [B, K] of a single query."""

    @config_class
    class Config:
        """Args:
        num_classes: K; None: the decoder's final map already gives the logits.
        """

        num_classes: int | None = None

        def __post_init__(self) -> None:
            if self.num_classes is not None:
                check_positive("ClassificationOutput", num_classes=self.num_classes)

        def build(self, channels: int, inputs: InputAdapter) -> ClassificationOutput:
            return ClassificationOutput(channels, self.num_classes)

    def __init__(self, in_channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.projection: nn.Module = (
            nn.Identity() if num_classes is None else init_linear(nn.Linear(in_channels, num_classes))
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.projection(rows)

    def assemble(self, rows: Tensor, *, whole: bool) -> Tensor:
        if rows.shape[1] != 1:
            raise ValueError(f"a classification output takes one query, got {rows.shape[1]}")
        return rows[:, 0]


class AudioPatchOutput(OutputAdapter):
    """Patches of samples, laid end to end: [B, O * samples_per_patch]."""

    @config_class
    class Config:
        """Args:
        samples_per_patch: samples of one query.
        """

        samples_per_patch: int

        def __post_init__(self) -> None:
            check_positive("AudioPatchOutput", samples_per_patch=self.samples_per_patch)

        def build(self, channels: int, inputs: InputAdapter) -> AudioPatchOutput:
            return AudioPatchOutput(channels, self.samples_per_patch)

    def __init__(self, in_channels: int, samples_per_patch: int) -> None:
        super().__init__()
        self.projection = init_linear(nn.Linear(in_channels, samples_per_patch))

    def forward(self, rows: Tensor) -> Tensor:
        return self.projection(rows)

    def assemble(self, rows: Tensor, *, whole: bool) -> Tensor:
        return rows.flatten(1)


class VideoPatchOutput(OutputAdapter):
    """Patches of pixels: a whole grid becomes [B, T, C, H, W], a part stays [B, O, pt * ph * pw * C]."""

    @config_class
    class Config:
        """Args:
        shape: (frames, height, width) of the video.
        patch: (frames, height, width) of the patch of one query.
        channels: colours.
        """

        shape: tuple[int, int, int]
        patch: tuple[int, int, int]
        channels: int = 3

        def __post_init__(self) -> None:
            check_positive("VideoPatchOutput", channels=self.channels)
            if any(size % part for size, part in zip(self.shape, self.patch, strict=True)):
                raise ValueError(f"`shape` {self.shape} must be a multiple of `patch` {self.patch} on every axis")

        def build(self, channels: int, inputs: InputAdapter) -> VideoPatchOutput:
            return VideoPatchOutput(self, channels)

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = init_linear(nn.Linear(in_channels, math.prod(config.patch) * config.channels))

    def forward(self, rows: Tensor) -> Tensor:
        return self.projection(rows)

    def assemble(self, rows: Tensor, *, whole: bool) -> Tensor:
        return merge_patches(rows, self.config.shape, self.config.patch) if whole else rows


class FlowOutput(OutputAdapter):
    """Optical flow in pixels: [B, H, W, 2] for the whole grid, [B, O, 2] for a part."""

    @config_class
    class Config:
        """Args:
        shape: (height, width).
        scale: factor on the decoder's output; published: 1 / 100.
        """

        shape: tuple[int, int]
        scale: float = 0.01

        def build(self, channels: int, inputs: InputAdapter) -> FlowOutput:
            if channels != 2:
                raise ValueError(f"optical flow needs a decoder with `output_channels` = 2, got {channels}")
            return FlowOutput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.config.scale

    def assemble(self, rows: Tensor, *, whole: bool) -> Tensor:
        return rows.unflatten(1, self.config.shape) if whole else rows


class TiedEmbeddingOutput(OutputAdapter):
    """Token logits [B, O, V] against the input embedding, plus a bias."""

    @config_class
    class Config:
        """Nothing to set: the embedding is the token input's."""

        def build(self, channels: int, inputs: InputAdapter) -> TiedEmbeddingOutput:
            if not isinstance(inputs, TokenInput):
                raise ValueError(f"tied-embedding logits need a TokenInput, got {type(inputs).__name__}")
            if channels != inputs.channels:
                raise ValueError(
                    f"tied-embedding logits need decoder outputs of width {inputs.channels}, got {channels}"
                )
            return TiedEmbeddingOutput(inputs)

    def __init__(self, inputs: TokenInput) -> None:
        super().__init__()
        # Kept in a tuple so that the embedding is registered, saved and moved once: with the input adapter.
        self._inputs = (inputs,)
        self.bias = nn.Parameter(torch.zeros(inputs.embedding.num_embeddings))

    def forward(self, rows: Tensor) -> Tensor:
        return F.linear(rows, self._inputs[0].embedding.weight, self.bias)


class MultimodalOutput(OutputAdapter):
    """Splits rows by name and gives each part to its own adapter: a dict of outputs."""

    @config_class
    class Config:
        """Args:
        modalities: `Config` of an output adapter per name; names are the query generator's.
        """

        modalities: Mapping[str, Any]

        def build(self, channels: int, inputs: InputAdapter) -> MultimodalOutput:
            return MultimodalOutput({name: c.build(channels, inputs) for name, c in self.modalities.items()})

    def __init__(self, adapters: Mapping[str, OutputAdapter]) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict(adapters)

    def check_covers(self, names: tuple[str, ...]) -> None:
        """Check that adapters and queries have the same names."""
        if set(self.adapters) != set(names):
            raise ValueError(f"`outputs` are for {sorted(self.adapters)}, but `queries` for {sorted(names)}")

    def forward(self, rows: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:  # type: ignore[override]
        """[B, O1 + O2 + ..., F] with the rows of `sizes[name]` queries one name after another."""
        parts = rows.split(list(sizes.values()), dim=1)
        return {name: self.adapters[name](part) for name, part in zip(sizes, parts, strict=True)}

    def assemble_by_name(self, rows: Mapping[str, Tensor], whole: Mapping[str, bool]) -> dict[str, Tensor]:
        """`assemble` of every name's adapter."""
        assembled = {}
        for name, part in rows.items():
            adapter = self.adapters[name]
            assert isinstance(adapter, OutputAdapter)
            assembled[name] = adapter.assemble(part, whole=whole[name])
        return assembled
