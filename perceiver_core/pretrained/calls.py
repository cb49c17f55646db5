"""What a call of a published model gives, as transformers has it: outputs, losses, attention and hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.attention import SelfAttention
from perceiver_core.attention_maps import AttentionMap, record_attention
from perceiver_core.checks import check_indices, check_tensor
from perceiver_core.model import Outputs, PerceiverEncoder

# The label of positions that count for nothing in a loss.
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class PerceiverOutput:
    """What a call gives; what was not asked for is None.

    Attributes:
        logits: of the class: a tensor, or tensors by modality; None for the bare model.
        last_hidden_state: the latents [B, N, D].
        loss: scalar, where `labels` were given.
        hidden_states: latents [B, N, D] before each self-attention layer of a block and after its last one.
        attentions: probabilities [B, H, N, N] of each self-attention layer.
        cross_attentions: probabilities [B, H, N, M] of the encoder's cross-attention, [B, H, O, N] of the decoder's.
    """

    logits: Outputs | None
    last_hidden_state: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


class Recording:
    """Attention and hidden states of the layers that run while it is open.

    Args:
        model: holds the encoder, and a decoder or none.
        encoder: the encoder.
        attentions: record attention.
        hidden_states: record the latents between the layers.
    """

    def __init__(self, model: nn.Module, encoder: PerceiverEncoder, *, attentions: bool, hidden_states: bool) -> None:
        self._model = model
        self._encoder = encoder
        self._want_attentions = attentions
        self._want_states = hidden_states
        self._maps: list[AttentionMap] = []
        self._steps: list[tuple[Tensor, Tensor]] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Record what runs inside the context."""
        layers = self._encoder.blocks.modules() if self._want_states else ()
        handles = [
            layer.register_forward_hook(lambda _, arguments, out: self._steps.append((arguments[0], out)))
            for layer in layers
            if isinstance(layer, SelfAttention)
        ]
        try:
            if self._want_attentions:
                with record_attention(self._model) as self._maps:
                    yield
            else:
                yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def hidden_states(self) -> tuple[Tensor, ...] | None:
        """See `PerceiverOutput`."""
        if not self._want_states:
            return None
        states, depth = [], self._encoder.config.num_self_attends
        for number, (before, after) in enumerate(self._steps, 1):
            states += [before, after] if number % depth == 0 else [before]
        return tuple(states)

    @property
    def attentions(self) -> tuple[Tensor, ...] | None:
        """See `PerceiverOutput`."""
        if not self._want_attentions:
            return None
        return tuple(found.probabilities for found in self._maps if ".blocks." in f".{found.layer}")

    @property
    def cross_attentions(self) -> tuple[Tensor, ...] | None:
        """See `PerceiverOutput`. Chunks of queries are joined again."""
        if not self._want_attentions:
            return None
        encoder = [found.probabilities for found in self._maps if ".cross_attends." in f".{found.layer}"]
        decoder = [found.probabilities for found in self._maps if ".cross_attend." in f".{found.layer}."]
        return (*encoder, *([torch.cat(decoder, dim=2)] if decoder else []))


def token_labels(labels: Tensor, *, batch: int, length: int, vocabulary: int) -> Tensor:
    """Labels of a language model, checked: token numbers [B, l] with l <= `length`, or `IGNORED`."""
    check_tensor("labels", labels, "B L", "integer", B=batch)
    if labels.shape[1] > length:
        raise ValueError(f"`labels` has {labels.shape[1]} positions, more than the {length} of the model")
    check_indices("labels", labels[labels != IGNORED], vocabulary)
    return labels.long()


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits [B, L, V] against `token_labels` [B, l]; `IGNORED` ones count for nothing."""
    logits = logits[:, : labels.shape[1]]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def class_labels(labels: Tensor, *, batch: int, num_labels: int, problem_type: str | None) -> tuple[Tensor, str]:
    """Labels of a classifier, checked, and what they are.

    Args:
        labels: class numbers [B]; for several classes at once, or for regression, numbers [B, K] ([B] where K is 1).
        batch: B.
        num_labels: K.
        problem_type: "regression", "single_label_classification" or "multi_label_classification". None: regression
            where K is 1, else the first kind of classification for integers and the second for other numbers.

    Returns:
        Class numbers [B] or numbers [B, K], and the problem.
    """
    if problem_type is None:
        several = isinstance(labels, Tensor) and labels.is_floating_point()
        classification = "multi_label_classification" if several else "single_label_classification"
        problem_type = "regression" if num_labels == 1 else classification
    if problem_type == "single_label_classification":
        check_tensor("labels", labels, "B", "integer", B=batch)
        check_indices("labels", labels[labels != IGNORED], num_labels)
        return labels.long(), problem_type
    if num_labels == 1 and isinstance(labels, Tensor) and labels.dim() == 1:
        labels = labels[:, None]
    check_tensor("labels", labels, "B K", B=batch, K=num_labels)
    return labels, problem_type


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str) -> Tensor:
    """Loss of logits [B, K] against `class_labels`: cross-entropy, binary cross-entropy, or mean squared error."""
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels, ignore_index=IGNORED)
    labels = labels.to(logits.dtype)
    if problem_type == "regression":
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)
