"""Train the autoencoder on Ray Train: `perceiver-train-autoencoder`.

Without arguments, the preset `tiny` trains on generated clips. The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import tyro
from rich.console import Console

from multimodal.autoencoder.model import PRESETS
from multimodal.autoencoder.runs import RunInfo, check_same_run, load_run, save_run
from multimodal.autoencoder.task import AutoencoderTask, AutoencoderTrainingConfig, default_config
from multimodal.clips.datasets import check_files, find_files
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.ray_train import check_resources, train_on_ray
from multimodal.common.records import record_problems, skipped_files
from multimodal.common.run_folder import RUN_FILE, checkpoints, claim, make_folder
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import differences
from perceiver_agents import answer_version

PROGRAM = "perceiver-train-autoencoder"


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
    sizes = config.model_config()
    known = None
    if config.start_from is not None:
        start = load_run(config.start_from)
        if start.model != sizes:
            raise DataError(
                f"the run in {config.start_from} has other sizes than this one ({config.preset}); start from a run of "
                "the same preset and number of latents"
            )
        known = start.classes
    data = config.data
    if data is None:
        data = str(folder / "generated")
        if not Path(data).is_dir():
            _generate(Path(data))
    train_files = find_files(data, "train", known)
    held_out = find_files(data, "val", train_files.classes)
    EpochBatches(len(train_files.files), config.batch_size, seed=config.seed)
    problems = [*train_files.missing, *held_out.missing]
    problems += check_files(train_files, sizes.clip, data) + check_files(held_out, sizes.clip, data)
    info = RunInfo(model=sizes, classes=train_files.classes, training=config.course())
    if (folder / RUN_FILE).is_file():
        check_same_run(folder, info)
    else:
        save_run(folder, info)
    record_problems(folder, problems)
    return AutoencoderTask(config, data)


def _generate(data: Path) -> None:
    """Write the default set; it appears under its name only when it is complete."""
    clips = SyntheticConfig()
    Console(stderr=True).print(f"no --data given: generating {clips.clips_per_class} clips a class in {data}")
    for leftover in data.parent.glob(".generating-*"):  # of killed commands
        shutil.rmtree(leftover, ignore_errors=True)
    partial = generate(data.parent / f".generating-{os.getpid()}", clips, num_processes=os.cpu_count() or 1)
    partial.rename(data)


def _describe(line: Mapping[str, float]) -> str:
    return f"loss {line['total']:.4f} (video {line['video']:.4f}, audio {line['audio']:.4f}, label {line['label']:.3f})"


def run(config: AutoencoderTrainingConfig) -> dict[str, float]:
    """Train a run to its end, on Ray.

    Returns:
        The last line of `metrics.jsonl`: see `multimodal.common.training.train`.

    Raises:
        See `prepare` and `multimodal.common.ray_train.train_on_ray`.
    """
    return train_on_ray(prepare(config), _describe)


def parse(arguments: list[str]) -> AutoencoderTrainingConfig:
    """The settings that the arguments ask for, on top of the preset's recipe.

    Raises:
        ValueError: no such preset.
    """
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="tiny")
    name = chooser.parse_known_args(arguments)[0].preset
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    usual = default_config(name, f"runs/autoencoder-{name}")
    config = tyro.cli(
        AutoencoderTrainingConfig,
        default=usual,
        prog=PROGRAM,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.AvoidSubcommands,),
    )
    changed = [
        text for text in differences(config, usual) if not text.startswith(("--out", "--data", "--loader.cache"))
    ]
    recipe = f"preset {name}" + (f", but {', '.join(changed)}" if changed else "")
    Console(stderr=True).print(f"{recipe}; run folder {config.out}", highlight=False, soft_wrap=True)
    return config


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-train-autoencoder`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = parse(arguments)
        means = run(config)
        console = Console()
        console.print(
            f"trained {config.out}: loss {means['total']:.4f}; newest checkpoint {checkpoints(config.out)[-1]}"
        )
        skipped = skipped_files(config.out)
        if skipped:
            console.print(f"{len(skipped)} files could not be used: {config.out}/skipped_files.jsonl")

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
