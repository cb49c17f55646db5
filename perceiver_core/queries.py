"""Output query generators: what to ask the latents for (arXiv 2107.14795).

Every generator is called with the asked positions and gives one query vector for each: `[B or 1, O, E]`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perceiver_core.checks import check_indices, check_names, check_positive, check_tensor
from perceiver_core.config import config_class
from perceiver_core.inputs import InputAdapter
from perceiver_core.position import PositionEncoding


class QueryGenerator(nn.Module):
    """Base of the generators.

    Attributes:
        channels: E.
        uses_inputs: whether queries are made of the input tokens.
    """

    channels: int
    uses_inputs: bool = False

    @abstractmethod
    def count(self, tokens: Tensor | None = None) -> int:
        """Number of outputs that can be asked for."""

    @abstractmethod
    def forward(self, positions: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        """Queries for the asked positions.

        Args:
            positions: integer indices [O], or [B, O] for other positions in every sample; None: all.
            tokens: the adapted inputs [B, M, C], for generators that use them.

        Returns:
            [B, O, E]; [1, O, E] where all samples have the same.
        """


def _with_batch(rows: Tensor) -> Tensor:
    return rows[None] if rows.dim() == 2 else rows


def _check_positions(positions: Tensor) -> None:
    layout = "B O" if isinstance(positions, Tensor) and positions.dim() == 2 else "O"
    check_tensor("positions", positions, layout, "integer")


class PositionQueries(QueryGenerator):
    """One query per place of an index grid: Fourier features or trainable vectors.

    A learned query array is the trainable kind over the grid `(number of queries,)`: one place for classification.
    """

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding; its grid is the output's.
        """

        position: Any

        def build(self, inputs: InputAdapter | None = None) -> PositionQueries:
            return PositionQueries(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.position: PositionEncoding = config.position.build()
        self.channels = self.position.channels

    def count(self, tokens: Tensor | None = None) -> int:
        return self.position.count

    def forward(self, positions: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        if positions is not None:
            _check_positions(positions)
        return _with_batch(self.position(positions))


class InputQueries(QueryGenerator):
    """The adapted input tokens themselves, one query per token (optical flow, StarCraft II entities)."""

    uses_inputs = True

    @config_class
    class Config:
        """Nothing to set: the width is the input adapter's."""

        def build(self, inputs: InputAdapter) -> InputQueries:
            return InputQueries(inputs.channels)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def count(self, tokens: Tensor | None = None) -> int:
        return self._tokens(tokens).shape[1]

    def _tokens(self, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            raise ValueError("these queries are made of the inputs: pass `inputs` to `decode`")
        return tokens

    def forward(self, positions: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        tokens = self._tokens(tokens)
        if positions is None:
            return tokens
        _check_positions(positions)
        check_indices("positions", positions, tokens.shape[1])
        if positions.dim() == 1:
            return tokens[:, positions]
        return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1]))


class NamedQueries(QueryGenerator):
    """Queries by name. `positions` is a mapping from the asked names to indices, or to None for all of a name."""

    names: tuple[str, ...]

    def asked(self, positions: Any) -> dict[str, Tensor | None]:
        """The asked names in the generator's order; `positions` None asks for everything."""
        if positions is None:
            return dict.fromkeys(self.names)
        if not isinstance(positions, Mapping):
            raise TypeError(
                f"`positions` must map names ({', '.join(self.names)}) to indices or None, "
                f"got {type(positions).__name__}"
            )
        check_names("positions", positions, self.names)
        if not positions:
            raise ValueError(f"`positions` asks for nothing; known names: {', '.join(self.names)}")
        return {name: positions[name] for name in self.names if name in positions}

    @abstractmethod
    def rows(self, name: str, positions: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        """Queries [B or 1, O, E] of one name."""

    @abstractmethod
    def count_name(self, name: str, tokens: Tensor | None = None) -> int:
        """Number of outputs of one name."""

    def count(self, tokens: Tensor | None = None) -> int:
        return sum(self.count_name(name, tokens) for name in self.names)

    def by_name(self, asked: Mapping[str, Tensor | None], tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Queries of every asked name."""
        return {name: self.rows(name, positions, tokens) for name, positions in asked.items()}

    def join(self, by_name: Mapping[str, Tensor]) -> Tensor:
        """Concatenate queries along their axis, [B or 1, O1 + O2 + ..., E]."""
        batch = max(rows.shape[0] for rows in by_name.values())
        return torch.cat([rows.expand(batch, -1, -1) for rows in by_name.values()], dim=1)

    def forward(self, positions: Any = None, tokens: Tensor | None = None) -> Tensor:
        return self.join(self.by_name(self.asked(positions), tokens))


class TaskQueries(NamedQueries):
    """One learned query per task, or one for all tasks (multi-task GLUE in the paper)."""

    @config_class
    class Config:
        """Args:
        tasks: names, in the order of the queries.
        channels: width of a query.
        shared: one query for all tasks, which then differ by their heads, or by an input token of their own.
        """

        tasks: tuple[str, ...]
        channels: int
        shared: bool = False

        def __post_init__(self) -> None:
            if not self.tasks or len(set(self.tasks)) != len(self.tasks):
                raise ValueError(f"`tasks` must be distinct names, got {self.tasks}")
            check_positive("TaskQueries", channels=self.channels)

        def build(self, inputs: InputAdapter | None = None) -> TaskQueries:
            return TaskQueries(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.names = config.tasks
        self.channels = config.channels
        self.shared = config.shared
        self.table = nn.Parameter(torch.empty(1 if config.shared else len(config.tasks), config.channels))
        nn.init.trunc_normal_(self.table, std=0.02, a=-0.04, b=0.04)

    def count_name(self, name: str, tokens: Tensor | None = None) -> int:
        return 1

    def rows(self, name: str, positions: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        row = 0 if self.shared else self.names.index(name)
        if positions is None:
            return self.table[None, row : row + 1]
        _check_positions(positions)
        check_indices(f"positions[{name!r}]", positions, 1)
        return _with_batch(self.table[row + positions])


class MultimodalQueries(NamedQueries):
    """Generators by modality, each padded with a learned vector of its own to a common width.

    The padding doubles as the modality's embedding: the common width exceeds the widest generator's by `min_padding`.
    """

    @config_class
    class Config:
        """Args:
        modalities: `Config` of a generator per modality; decoded in the order of sorted names.
        min_padding: learned channels of the widest modality.
        """

        modalities: Mapping[str, Any]
        min_padding: int = 2

        def __post_init__(self) -> None:
            if not self.modalities:
                raise ValueError("`modalities` must not be empty")
            check_positive("MultimodalQueries", min_padding=self.min_padding)

        def build(self, inputs: InputAdapter | None = None) -> MultimodalQueries:
            return MultimodalQueries(self, inputs)

    def __init__(self, config: Config, inputs: InputAdapter | None = None) -> None:
        super().__init__()
        self.names = tuple(sorted(config.modalities))
        self.generators = nn.ModuleDict({name: config.modalities[name].build(inputs) for name in self.names})
        self.channels = max(self._generator(name).channels for name in self.names) + config.min_padding
        self.uses_inputs = any(self._generator(name).uses_inputs for name in self.names)
        self.padding = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(self.channels - self._generator(name).channels)) for name in self.names}
        )
        for vector in self.padding.values():
            nn.init.trunc_normal_(vector, std=0.02, a=-0.04, b=0.04)

    def _generator(self, name: str) -> QueryGenerator:
        generator = self.generators[name]
        assert isinstance(generator, QueryGenerator)
        return generator

    def count_name(self, name: str, tokens: Tensor | None = None) -> int:
        return self._generator(name).count(tokens)

    def rows(self, name: str, positions: Tensor | None, tokens: Tensor | None = None) -> Tensor:
        try:
            rows = self._generator(name)(positions, tokens)
        except (TypeError, ValueError, IndexError) as error:
            raise type(error)(f"modality {name!r}: {error}") from error
        padding = self.padding[name].expand(*rows.shape[:-1], -1)
        return torch.cat([rows.to(padding.dtype), padding], dim=-1)
