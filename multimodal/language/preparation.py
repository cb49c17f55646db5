"""Everything that can go wrong before a pretraining: resources, output, text, sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from multimodal.common.errors import DataError
from multimodal.common.ray_train import check_resources
from multimodal.common.run_folder import claim, make_folder
from multimodal.common.sampling import EpochBatches
from multimodal.language.matching import match_transformer
from multimodal.language.model import LanguageSizes, preset
from multimodal.language.pretraining import PretrainingTask
from multimodal.language.published import is_run, sizes_of
from multimodal.language.runs import RunInfo, begin_or_continue
from multimodal.language.settings import PretrainingConfig
from multimodal.language.text.corpus import find_shards, read_shard
from multimodal.language.text.docstrings import read_docstrings
from multimodal.language.text.packing import Counts, pack, sample
from multimodal.language.text.tokens import Bytes, Pieces, Tokens, load_tokens


def documents(config: PretrainingConfig) -> Iterator[bytes]:
    """The documents to pretrain on, from the first one on."""
    if config.data is None:
        yield from (docstring.text.encode() for docstring in read_docstrings())
    else:
        for shard in find_shards(config.data):
            yield from read_shard(shard, config.text_column)


def prepare(config: PretrainingConfig) -> PretrainingTask:
    """Everything that can go wrong before training. Packs the text into the run folder and writes `run.json`.

    Raises:
        DataError: with the value and the remedy.
    """
    check_resources(config)
    if config.data is not None:
        find_shards(config.data)
    folder = Path(config.out)
    make_folder(folder)
    with claim(folder):
        pass
    given = None if config.start_from is None else sizes_of(config.start_from)
    _report(pack(lambda: documents(config), lambda: _tokens(config, given and given[1]), folder))
    sizes = _sizes(config, load_tokens(folder).vocabulary, given and given[0])
    info = RunInfo(job=config.objective, model=sizes, training=config.course())
    begin_or_continue(folder, info)
    task = PretrainingTask(config)
    EpochBatches(task.num_samples, config.batch_size, seed=config.seed)
    task.check_held_out()
    return task


def _tokens(config: PretrainingConfig, given: Tokens | None) -> Tokens:
    if given is not None:
        if given.kind != config.tokens:
            raise DataError(f"{config.start_from} reads {given.kind}; say --tokens {given.kind}, or start from another")
        return given
    if config.tokens == "bytes":
        return Bytes()
    Console(stderr=True).print(f"learning {config.vocabulary} pieces ({config.tokens}) from the text")
    return Pieces.learn(config.tokens, sample(documents(config)), config.vocabulary)


def _sizes(config: PretrainingConfig, vocabulary: int, given: LanguageSizes | None) -> LanguageSizes:
    sizes = preset(config.preset, vocabulary, config.max_length, config.num_latents)
    if given is not None:
        assert config.start_from is not None
        if not is_run(config.start_from) or given.encoder == config.encoder:
            return given
        raise DataError(f"{config.start_from} is a {given.encoder}; say --encoder {given.encoder}, or start elsewhere")
    if config.objective == "next":
        # The paper's shape: latents of the width of the tokens, many fewer than positions.
        sizes = replace(sizes, num_latents=config.num_latents or max(1, sizes.max_length // 8))
    if config.encoder == "transformer":
        return match_transformer(sizes, config.objective, config.match)
    return sizes


def _report(counts: Counts) -> None:
    console = Console(stderr=True)
    console.print(
        f"text: {counts.documents} documents, {counts.bytes / 2**20:.1f} MB, {counts.tokens} tokens; one document in "
        "ten is held out",
        highlight=False,
    )
    if counts.replaced:
        console.print(
            f"{counts.replaced} documents are no UTF-8; their wrong bytes are read as replacement characters. "
            "--tokens bytes reads them as they are",
            highlight=False,
        )
