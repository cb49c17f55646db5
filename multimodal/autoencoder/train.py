"""Train the autoencoder on Ray Train: `perceiver-train-autoencoder`.

Without arguments, the preset `tiny` trains on generated clips. The same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import tyro
from rich.console import Console

from multimodal.autoencoder.commands import check_folder, check_trained
from multimodal.autoencoder.settings import RECIPES, AutoencoderTrainingConfig, default_config
from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.records import skipped_files
from multimodal.common.run_folder import newest_checkpoint
from multimodal.common.settings import differences
from perceiver_agents import answer_version

PROGRAM = "perceiver-train-autoencoder"
# What differs from the preset without being another recipe.
OWN = ("--out ", "--data ", "--ray-address ", "--loader.cache.")


def _describe(line: Mapping[str, float]) -> str:
    apart = {"step", "total", "samples_per_second", "waiting_share"}
    terms = ", ".join(f"{name} {value:.4f}" for name, value in line.items() if name not in apart)
    return f"loss {line['total']:.4f} ({terms})"


def run(config: AutoencoderTrainingConfig) -> dict[str, float]:
    """Train a run to its end, on Ray.

    Returns:
        The last line of `metrics.jsonl`: see `multimodal.common.training.train`.

    Raises:
        See `multimodal.autoencoder.preparation.prepare` and `multimodal.common.ray_train.train_on_ray`.
    """
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.autoencoder.preparation import prepare
    from multimodal.common.ray_train import train_on_ray

    return train_on_ray(prepare(config), _describe)


def parse(arguments: list[str]) -> AutoencoderTrainingConfig:
    """The settings that the arguments ask for, on top of the preset's recipe.

    Raises:
        ValueError: no such preset.
    """
    if arguments and arguments[0] in RECIPES:
        raise DataError(f"a preset is given as --preset {arguments[0]}")
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="tiny")
    name = chooser.parse_known_args(arguments)[0].preset
    usual = default_config(name, f"runs/autoencoder-{name}")
    config = tyro.cli(
        AutoencoderTrainingConfig,
        default=usual,
        prog=PROGRAM,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.AvoidSubcommands,),
    )
    changed = [text for text in differences(config, usual) if not text.startswith(OWN)]
    recipe = f"preset {name}" + (f", but {', '.join(changed)}" if changed else "")
    Console(stderr=True).print(f"{recipe}; run folder {config.out}", highlight=False, soft_wrap=True)
    return config


def check(config: AutoencoderTrainingConfig) -> None:
    """Raises DataError for folders that are not there."""
    if config.data is not None:
        check_folder(config.data)
    if config.start_from is not None:
        check_trained(config.start_from)
    if Path(config.out).is_file():
        raise DataError(f"run folder {config.out} is a file; give another --out")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-train-autoencoder`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = parse(arguments)
        check(config)
        means = run(config)
        console = Console()
        console.print(
            f"trained {config.out}: loss {means['total']:.4f}; newest checkpoint {newest_checkpoint(config.out)}"
        )
        skipped = skipped_files(config.out)
        if skipped:
            console.print(f"{len(skipped)} files could not be used: {config.out}/skipped_files.jsonl")

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
