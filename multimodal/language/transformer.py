"""The baseline: a BERT-like encoder (arXiv 1810.04805, pre-norm) behind the calls of `PerceiverIO`.

tokens [B, L] -> [B, L, C] -> self-attends and feed-forward networks over all tokens -> rows [B, L, C]
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceiver_core.attention import AttentionConfig, SelfAttention, init_linear
from perceiver_core.checks import check_heads, check_names, check_positive
from perceiver_core.config import config_class
from perceiver_core.hub import HubModel
from perceiver_core.inputs import TokenInput
from perceiver_core.outputs import TiedEmbeddingOutput


@config_class
class TextTransformerConfig:
    """Sizes of the model.

    Args:
        vocabulary: V, number of tokens.
        max_length: M, longest text.
        channels: C, width of every layer.
        num_layers: layers.
        num_heads: heads of each.
        widening_factor: hidden width of the feed-forward networks over C.
        n_grams: lengths of n-grams that are embedded too (see `perceiver_core.inputs.TokenInput`).
        tasks: outputs of each task's head on the first token; None: logits of masked tokens.
    """

    vocabulary: int
    max_length: int
    channels: int
    num_layers: int
    num_heads: int
    widening_factor: int = 4
    n_grams: tuple[int, ...] = ()
    tasks: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        check_positive("TextTransformerConfig", channels=self.channels, num_layers=self.num_layers)
        check_heads("channels", self.channels, self.num_heads)


class TextTransformer(HubModel):
    """Token logits at positions, or class logits by task."""

    checkpoint_activations: bool = False

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = TokenInput.Config(
            vocabulary=config.vocabulary, max_length=config.max_length, channels=config.channels, n_grams=config.n_grams
        ).build()
        attention = AttentionConfig(num_heads=config.num_heads, widening_factor=config.widening_factor)
        self.layers = nn.ModuleList(
            SelfAttention(attention, channels=config.channels) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.outputs: TiedEmbeddingOutput | None = None
        self.heads: nn.ModuleDict | None = None
        if config.tasks is None:
            self.outputs = TiedEmbeddingOutput(self.inputs)
        else:
            self.heads = nn.ModuleDict(
                {name: init_linear(nn.Linear(config.channels, size)) for name, size in config.tasks.items()}
            )

    def rows(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens [B, L], and bool [B, L] with True for valid ones, to rows [B, L, C]."""
        x = self.inputs(inputs)
        for layer in self.layers:
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(layer, x, mask, use_reentrant=False)
            else:
                x = layer(x, mask)
        return self.norm(x)

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, positions: Tensor | Mapping[str, None] | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Logits.

        Args:
            inputs: integers [B, L] with L <= M.
            mask: bool [B, L], True for valid tokens.
            positions: without tasks the asked positions [O] or [B, O], None for all; with tasks a mapping from the
                asked names to None, or None for all.

        Returns:
            [B, O, V], or [B, outputs] by task.
        """
        rows = self.rows(inputs, mask)
        if self.heads is not None:
            asked = self.heads.keys() if positions is None else positions
            check_names("positions", dict.fromkeys(asked), tuple(self.heads))
            return {name: self.heads[name](rows[:, 0]) for name in asked}
        assert self.outputs is not None
        if isinstance(positions, Tensor):
            index = positions.expand(len(rows), -1)[..., None].expand(-1, -1, rows.shape[-1])
            rows = rows.gather(1, index)
        logits: Tensor = self.outputs(rows)
        return logits
