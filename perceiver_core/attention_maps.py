"""Where a model looks: the attention probabilities of its layers.

Fused and re-associated attention never hold the probabilities, so a recording computes them beside it, in the clear
form. A model that is not being recorded pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from perceiver_core.attention import CrossAttention, SelfAttention


class AttentionMap(NamedTuple):
    """One call of one layer: the layer's name in the model, and probabilities [B, H, O, M]."""

    layer: str
    probabilities: Tensor


@contextmanager
def record_attention(model: nn.Module) -> Iterator[list[AttentionMap]]:
    """Record the attention of all cross- and self-attention layers that run inside the context.

        with record_attention(model) as maps:
            model(inputs)

    Args:
        model: any module that holds such layers.

    Yields:
        The list that fills up, in the order in which the layers run. It takes O x M numbers a head: of a long input's
        maps, record one sample at a time.
    """
    maps: list[AttentionMap] = []

    def note(name: str) -> Callable[..., None]:
        def before(layer: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            maps.append(AttentionMap(name, layer.probabilities(*arguments, **named)))

        return before

    handles = [
        layer.register_forward_pre_hook(note(name), with_kwargs=True)
        for name, layer in model.named_modules()
        if isinstance(layer, CrossAttention | SelfAttention)
    ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
