"""The models of language: sizes, presets, and what is built of them.

pretraining   tokens -> latents -> a query per masked position -> logits against the tied embedding
tasks         the same tokens and latents -> a query per task, or one for all -> a linear head per task
generation    Perceiver AR (`perceiver_core.autoregressive`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from multimodal.common.errors import DataError
from multimodal.language.initial import begin_with_frequencies, begin_with_neighbourhoods
from multimodal.language.settings import Encoder
from multimodal.language.text.tokens import Bytes
from multimodal.language.transformer import TextTransformer, TextTransformerConfig
from perceiver_core import AttentionConfig, DecoderConfig, EncoderConfig, PerceiverIO, PerceiverIOConfig
from perceiver_core.autoregressive import AutoregressiveConfig, PerceiverAR
from perceiver_core.hub import HubModel
from perceiver_core.inputs import TokenInput
from perceiver_core.outputs import ClassificationOutput, MultimodalOutput, TiedEmbeddingOutput
from perceiver_core.presets import masked_language_model
from perceiver_core.queries import TaskQueries

Way = Literal["task-queries", "shared-token", "task-tokens"]
"""How tasks are told apart: a query each; a head each, on one query and one input token; an input token each."""


@dataclass(frozen=True, kw_only=True)
class LanguageSizes:
    """Sizes of a language model. A Transformer, and a Perceiver AR, have `channels` alone as their width."""

    encoder: Encoder = "perceiver"
    """What reads the tokens."""
    vocabulary: int
    """V, tokens."""
    max_length: int
    """M, longest text in tokens."""
    channels: int
    """C, width of embeddings and output queries."""
    num_latents: int
    """N."""
    latent_channels: int
    """D."""
    num_self_attends: int
    """Layers over the latents; of a Transformer, over the tokens."""
    num_heads: int
    """Heads of every layer."""
    place_channels: int
    """Query and key channels of a head of both cross-attentions."""
    latent_qk_channels: int
    """Query and key channels of the layers over the latents, over all heads."""
    widening_factor: int
    """Hidden width of the feed-forward networks over that of the layer."""
    gain: float | None
    """How peaked the cross-attentions begin (see `multimodal.language.initial`); None: as published."""
    n_grams: tuple[int, ...] = ()
    """Lengths of the n-grams of tokens that are embedded beside them; published models have none."""
    task_decoder: Literal["masked", "classifier"] = "masked"
    """What decodes the queries of tasks: what decodes masked tokens, or the decoder of published classifiers."""


# A small model has no layers to spare for spelling: the words come with the bytes.
N_GRAMS = (3, 4, 5, 6)


def preset(name: str, vocabulary: int, max_length: int | None = None, num_latents: int | None = None) -> LanguageSizes:
    """The sizes of a preset, with another row length or number of latents if given.

    Raises:
        ValueError: no such preset.
    """
    n_grams = N_GRAMS if vocabulary == Bytes.vocabulary else ()  # pieces are words already
    if name == "tiny":
        sizes = LanguageSizes(
            vocabulary=vocabulary,
            max_length=256,
            channels=128,
            num_latents=128,
            latent_channels=128,
            num_self_attends=2,
            num_heads=8,
            place_channels=16,
            latent_qk_channels=128,
            widening_factor=2,
            gain=12.0,
            n_grams=n_grams,
        )
    elif name == "small":
        sizes = LanguageSizes(
            vocabulary=vocabulary,
            max_length=1024,
            channels=512,
            num_latents=256,
            latent_channels=512,
            num_self_attends=8,
            num_heads=8,
            place_channels=32,
            latent_qk_channels=512,
            widening_factor=4,
            gain=12.0,
            n_grams=n_grams,
        )
    elif name == "paper":
        sizes = LanguageSizes(
            vocabulary=vocabulary,
            max_length=2048,
            channels=768,
            num_latents=256,
            latent_channels=1280,
            num_self_attends=26,
            num_heads=8,
            place_channels=32,
            latent_qk_channels=256,
            widening_factor=1,
            gain=None,
        )
    else:
        raise ValueError(f"no preset {name!r}; there are tiny, small, paper")
    return replace(sizes, max_length=max_length or sizes.max_length, num_latents=num_latents or sizes.num_latents)


def _encoder(sizes: LanguageSizes) -> EncoderConfig:
    reading = AttentionConfig(
        num_heads=sizes.num_heads,
        qk_channels=sizes.num_heads * sizes.place_channels,
        v_channels=sizes.latent_channels,
        widening_factor=sizes.widening_factor,
    )
    return EncoderConfig(
        num_latents=sizes.num_latents,
        latent_channels=sizes.latent_channels,
        num_self_attends=sizes.num_self_attends,
        cross_attention=reading,
        self_attention=replace(reading, qk_channels=sizes.latent_qk_channels),
    )


def _decoder(sizes: LanguageSizes) -> AttentionConfig:
    return AttentionConfig(
        num_heads=sizes.num_heads,
        qk_channels=sizes.num_heads * sizes.place_channels,
        v_channels=sizes.channels,
        widening_factor=sizes.widening_factor,
        query_residual=False,
    )


def _transformer(sizes: LanguageSizes, tasks: Mapping[str, int] | None = None) -> TextTransformer:
    return TextTransformer(
        TextTransformerConfig(
            vocabulary=sizes.vocabulary,
            max_length=sizes.max_length,
            channels=sizes.channels,
            num_layers=sizes.num_self_attends,
            n_grams=sizes.n_grams,
            num_heads=sizes.num_heads,
            widening_factor=sizes.widening_factor,
            tasks=tasks,
        )
    )


def build_masked(sizes: LanguageSizes, counts: Tensor | None = None) -> PerceiverIO | TextTransformer:
    """A freshly initialised masked language model: `model(tokens [B, L], mask, positions [B, O])` -> `[B, O, V]`.

    Args:
        sizes: of the model.
        counts: how often each token comes in the data `[V]`, for the initial output bias; None: as published.
    """
    model: PerceiverIO | TextTransformer
    if sizes.encoder == "transformer":
        model = _transformer(sizes)
    else:
        model = masked_language_model(
            vocabulary=sizes.vocabulary,
            max_length=sizes.max_length,
            token_channels=sizes.channels,
            n_grams=sizes.n_grams,
            encoder=_encoder(sizes),
            decoder_attention=_decoder(sizes),
        )
        if sizes.gain is not None:
            begin_with_neighbourhoods(model, sizes.max_length, sizes.gain)
    if counts is not None:
        assert isinstance(model.outputs, TiedEmbeddingOutput)
        begin_with_frequencies(model.outputs.bias, counts)
    return model


def build_next(sizes: LanguageSizes, counts: Tensor) -> PerceiverAR:
    """A Perceiver AR of these sizes; a Transformer's is the one whose latents are all positions."""
    model = PerceiverAR(
        AutoregressiveConfig(
            vocabulary=sizes.vocabulary,
            max_length=sizes.max_length,
            num_latents=sizes.max_length if sizes.encoder == "transformer" else sizes.num_latents,
            channels=sizes.channels,
            num_self_attends=sizes.num_self_attends,
            num_heads=sizes.num_heads,
            widening_factor=sizes.widening_factor,
        )
    )
    begin_with_frequencies(model.final.bias, counts)
    return model


def build_tasks(sizes: LanguageSizes, tasks: Mapping[str, int], way: Way) -> PerceiverIO | TextTransformer:
    """A freshly initialised model of labelled tasks: `model(tokens [B, L], mask)` -> `[B, outputs]` by task.

    Args:
        sizes: of the model; `sizes.vocabulary` has no tokens of tasks.
        tasks: number of outputs of each task.
        way: how tasks are told apart; see `Way`. "task-tokens" adds a token a task to the vocabulary.
    """
    if way == "task-tokens":
        sizes = replace(sizes, vocabulary=sizes.vocabulary + len(tasks))
    if sizes.encoder == "transformer":
        return _transformer(sizes, tasks)
    decoder, width = _decoder(sizes), sizes.channels
    if sizes.task_decoder == "classifier":
        decoder, width = AttentionConfig(num_heads=1), sizes.latent_channels
    model = PerceiverIO(
        PerceiverIOConfig(
            inputs=TokenInput.Config(
                vocabulary=sizes.vocabulary,
                max_length=sizes.max_length,
                channels=sizes.channels,
                n_grams=sizes.n_grams,
            ),
            encoder=_encoder(sizes),
            queries=TaskQueries.Config(tasks=tuple(tasks), channels=width, shared=way != "task-queries"),
            decoder=DecoderConfig(attention=decoder),
            outputs=MultimodalOutput.Config(
                modalities={name: ClassificationOutput.Config(num_classes=size) for name, size in tasks.items()}
            ),
        )
    )
    if sizes.gain is not None:
        begin_with_neighbourhoods(model, sizes.max_length, sizes.gain)
    return model


@torch.no_grad()
def take_trunk(model: HubModel, pretrained: HubModel) -> None:
    """Give a model of tasks what a pretrained one has learnt: embedding, layers, and the decoder's cross-attention.

    Queries and heads of the tasks stay as they are; so do embeddings of tokens that pretraining had not. Where one
    query serves all tasks, it begins as the pretrained query of the first position, where the tasks' token stands.

    Raises:
        DataError: other sizes; names the first parameter that does not fit.
    """
    own, given = model.state_dict(), pretrained.state_dict()
    for name, value in own.items():
        if name.startswith(("queries.", "outputs.", "heads.")):
            continue
        if name == "inputs.embedding.weight" and name in given and given[name].shape[1] == value.shape[1]:
            rows = min(len(value), len(given[name]))
            value[:rows] = given[name][:rows]
            continue
        if name not in given or given[name].shape != value.shape:
            shape = list(given[name].shape) if name in given else "missing"
            raise DataError(
                f"the pretrained weights do not fit: {name} is {shape}, expected {list(value.shape)}; start from a "
                "run of the same sizes"
            )
        value.copy_(given[name])
    shared = isinstance(model, PerceiverIO) and isinstance(model.queries, TaskQueries) and model.queries.shared
    if shared and "queries.position.table" in given:
        own["queries.table"].copy_(given["queries.position.table"][:1])
