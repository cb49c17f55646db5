"""Everything that can go wrong before a training on labelled tasks: resources, output, data, classes, sizes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from multimodal.common.errors import DataError
from multimodal.common.ray_train import check_resources
from multimodal.common.run_folder import claim, make_folder
from multimodal.common.sampling import EpochBatches
from multimodal.language.finetuning import FinetuningTask
from multimodal.language.matching import match_transformer
from multimodal.language.model import LanguageSizes, preset
from multimodal.language.published import is_run, published_classes, sizes_of
from multimodal.language.runs import RunInfo, begin_or_continue, load_run
from multimodal.language.settings import FinetuningConfig
from multimodal.language.tasks.data import check_names, load_tasks, table_name
from multimodal.language.tasks.labelled import LabelledTask
from multimodal.language.tasks.tables import Columns
from multimodal.language.text.tokens import Bytes, Tokens


def columns_of(config: FinetuningConfig) -> Columns:
    """Where a table of these settings has what."""
    return Columns(
        texts=config.text_columns,
        label=config.label_column,
        scored=config.scored,
        sign_margin=config.sign_margin,
    )


def prepare(config: FinetuningConfig) -> FinetuningTask:
    """Everything that can go wrong before training. Writes `run.json` and `tokens.json`.

    Raises:
        DataError: with the value and the remedy.
    """
    check_resources(config)
    check_names(config.tasks, config.data)
    sizes, tokens = _sizes(config)
    Console(stderr=True).print("reading labelled examples")
    labelled = load_tasks(config.tasks, config.data, columns_of(config), _published_order(config))
    folder = Path(config.out)
    make_folder(folder)
    with claim(folder):
        pass
    info = RunInfo(job="tasks", model=sizes, tasks=tuple(task.info for task in labelled), training=config.course())
    begin_or_continue(folder, info)
    tokens.save(folder)
    task = FinetuningTask(config, labelled)
    EpochBatches(task.num_samples, config.batch_size, seed=config.seed)
    _report(task, labelled)
    return task


def _sizes(config: FinetuningConfig) -> tuple[LanguageSizes, Tokens]:
    if config.start_from is None:
        sizes = preset(config.preset, Bytes.vocabulary, config.max_length, config.num_latents)
        if config.encoder == "transformer":
            sizes = match_transformer(sizes, "masked", config.match)
        return sizes, Bytes()
    sizes, tokens = sizes_of(config.start_from)
    if is_run(config.start_from) and load_run(config.start_from).job == "next":
        raise DataError(f"{config.start_from} tells next tokens; start from a run that tells masked ones")
    if config.encoder != "perceiver" and config.encoder != sizes.encoder:
        raise DataError(f"{config.start_from} is a {sizes.encoder}; leave out --encoder, or start from another run")
    return sizes, tokens


def _published_order(config: FinetuningConfig) -> dict[str, tuple[str, ...]]:
    """A published classifier keeps its own order of classes, whatever the table's is."""
    if config.start_from is None or config.data is None:
        return {}
    names = published_classes(config.start_from)
    return {table_name(config.data): names} if names and not config.scored else {}


def _report(task: FinetuningTask, labelled: list[LabelledTask]) -> None:
    console = Console(stderr=True)
    for own in labelled:
        kind = f"{len(own.info.classes)} classes" if own.info.classes else "a score"
        console.print(
            f"task {own.info.name}: {len(own.train)} train, {len(own.test)} test examples, {kind}", highlight=False
        )
        for note in own.notes:
            console.print(f"  {note}", highlight=False, soft_wrap=True)
    task.count_cut()
    for name, cut in task.cut.items():
        if cut:
            console.print(
                f"{cut} training examples of {name} are longer than the model's {task.info.model.max_length} tokens; "
                "their ends are cut, of pairs the longer text first",
                highlight=False,
            )
    if task.settings.start_from is None:
        console.print(
            "no --start-from given: the model begins at random. perceiver-pretrain-text makes a run to start from"
        )
