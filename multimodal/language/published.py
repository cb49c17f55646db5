"""Weights to start from: another run on text, or a published checkpoint of Hugging Face's byte models."""

from __future__ import annotations

from pathlib import Path

import torch

from multimodal.common.errors import DataError
from multimodal.common.run_folder import RUN_FILE
from multimodal.language.model import LanguageSizes, take_trunk
from multimodal.language.runs import load_model, load_run
from multimodal.language.text.tokens import Bytes, Tokens, load_tokens
from perceiver_core.hub import HubModel
from perceiver_core.model import PerceiverIO
from perceiver_core.pretrained import HuggingFaceConfig, PretrainedPerceiver, load
from perceiver_core.queries import TaskQueries

MASKED, CLASSIFIER = "PerceiverForMaskedLM", "PerceiverForSequenceClassification"


def is_run(source: str) -> bool:
    """Whether the weights are those of a run of ours."""
    return (Path(source) / RUN_FILE).is_file()


def sizes_of(source: str) -> tuple[LanguageSizes, Tokens]:
    """Sizes and tokens of what a run starts from.

    Raises:
        DataError: it is neither a run on text nor a published byte model.
    """
    if is_run(source):
        return load_run(source).model, load_tokens(source)
    return _published_sizes(_load(source)), Bytes()


def published_classes(source: str) -> tuple[str, ...]:
    """Names of the classes of a published classifier, in the order of its logits; of all else none."""
    if is_run(source):
        return ()
    loaded = _load(source)
    names = loaded.config.id2label
    return tuple(names[number] for number in sorted(names)) if loaded.architecture == CLASSIFIER else ()


def _load(source: str) -> PretrainedPerceiver:
    parent = Path(source).parent
    if not Path(source).exists() and parent != Path() and parent.is_dir():
        # A hub id has the form of a folder in a folder; where the outer one is there, the inner one was meant.
        raise DataError(f"--start-from {source}: no such folder; give a run folder, or a published byte model")
    try:
        loaded = load(source)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"--start-from {source}: {error}; give a run folder, or a published byte model") from error
    if loaded.architecture not in (MASKED, CLASSIFIER):
        raise DataError(f"--start-from {source} is a {loaded.architecture}; expected a {MASKED} or a {CLASSIFIER}")
    return loaded


def _published_sizes(loaded: PretrainedPerceiver) -> LanguageSizes:
    config: HuggingFaceConfig = loaded.config
    encoder = config.encoder()
    reading, among = encoder.cross_attention, encoder.self_attention
    wide, _ = reading.widths(encoder.latent_channels, config.d_model)
    width, _ = among.widths(encoder.latent_channels, encoder.latent_channels)
    same = (among.num_heads, among.widening_factor) == (reading.num_heads, reading.widening_factor)
    if encoder.num_blocks > 1 or not same:
        raise DataError(
            f"the published model has {encoder.num_blocks} blocks, {reading.num_heads} and {among.num_heads} heads, "
            f"and widening factors {reading.widening_factor} and {among.widening_factor}; expected one block, and the "
            "same in cross- and self-attention"
        )
    return LanguageSizes(
        vocabulary=config.vocab_size,
        max_length=config.max_position_embeddings,
        channels=config.d_model,
        num_latents=encoder.num_latents,
        latent_channels=encoder.latent_channels,
        num_self_attends=encoder.num_self_attends,
        num_heads=reading.num_heads,
        place_channels=wide // reading.num_heads,
        latent_qk_channels=width,
        widening_factor=reading.widening_factor,
        gain=None,
        task_decoder="classifier" if loaded.architecture == CLASSIFIER else "masked",
    )


@torch.no_grad()
def take_pretrained(model: HubModel, source: str) -> None:
    """Give a model the weights of `source`: all of them for the same job, else the trunk (see `take_trunk`).

    A published classifier of as many classes as the only task gives that task its query and head, so the logits are
    the published ones.

    Raises:
        DataError: they do not fit.
    """
    given = load_model(source)[0] if is_run(source) else _load(source).model
    stored, own = given.state_dict(), model.state_dict()
    if isinstance(model, PerceiverIO) and isinstance(model.queries, TaskQueries):
        (name, *others) = model.queries.names
        head = f"outputs.adapters.{name}.projection"
        published = {
            "decoder.final.weight": f"{head}.weight",
            "decoder.final.bias": f"{head}.bias",
            "queries.position.table": "queries.table",
        }
        renamed = {published.get(key, key): value for key, value in stored.items()}
        if not others and _shapes(renamed) == _shapes(own):
            model.load_state_dict(renamed)
            return
    if _shapes(stored) == _shapes(own):
        model.load_state_dict(stored)
    else:
        take_trunk(model, given)


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
