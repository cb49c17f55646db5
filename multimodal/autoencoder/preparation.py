"""Everything that can go wrong before a training: resources, output, data, classes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console

from multimodal.autoencoder.losses import check_terms
from multimodal.autoencoder.model import preset
from multimodal.autoencoder.runs import RunInfo, check_same_run, check_start, save_run
from multimodal.autoencoder.settings import AutoencoderTrainingConfig
from multimodal.autoencoder.task import AutoencoderTask
from multimodal.clips.datasets import check_files, find_files
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.ray_train import check_resources
from multimodal.common.records import record_problems
from multimodal.common.run_folder import RUN_FILE, claim, make_folder
from multimodal.common.sampling import EpochBatches
from multimodal.common.telling import Telling


def prepare(config: AutoencoderTrainingConfig) -> AutoencoderTask:
    """Everything that can go wrong before training: resources, output, data, classes. Writes `run.json`.

    Raises:
        DataError: with the value and the remedy.
    """
    check_resources(config)
    folder = Path(config.out)
    make_folder(folder)
    with claim(folder):
        pass
    sizes = preset(config.preset, config.num_latents)
    check_terms(sizes, config.loss)
    known = None if config.start_from is None else check_start(sizes, config.start_from).classes
    data = config.data
    if data is None:
        data = str(folder / "generated")
        if not Path(data).is_dir():
            _generate(Path(data))
    with Telling(f"looking for media files in {data}") as tell:
        train_files = find_files(data, "train", known, tell)
        held_out = find_files(data, "val", train_files.classes, tell)
    EpochBatches(len(train_files.files), config.batch_size, seed=config.seed)
    problems = [*train_files.missing, *held_out.missing]
    with Telling(f"trying files of {data}") as tell:
        for files in (train_files, held_out):
            problems += check_files(files, sizes.clip, data, tell)
    info = RunInfo(model=sizes, classes=train_files.classes, training=config.course())
    if (folder / RUN_FILE).is_file():
        check_same_run(folder, info)
    else:
        save_run(folder, info)
    record_problems(folder, problems)
    count = len(train_files.files) + len(held_out.files)
    summary = f"{count} files of {len(train_files.classes)} classes in {data}, {len(held_out.files)} of them held out"
    reasons = (
        f"; {len(problems)} cannot be used, the first: {problems[0].path}: {problems[0].reason}" if problems else ""
    )
    Console(stderr=True).print(f"{summary}{reasons}", highlight=False, soft_wrap=True)
    return AutoencoderTask(config, data)


def _generate(data: Path) -> None:
    """Write the default set; it appears under its name only when it is complete."""
    clips = SyntheticConfig()
    Console(stderr=True).print(f"no --data given: generating {clips.clips_per_class} clips a class in {data}")
    for leftover in data.parent.glob(".generating-*"):  # of killed commands
        shutil.rmtree(leftover, ignore_errors=True)
    partial = generate(data.parent / f".generating-{os.getpid()}", clips, num_processes=os.cpu_count() or 1)
    partial.rename(data)
