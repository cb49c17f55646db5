"""Pretrain on text with Ray Train: `perceiver-pretrain-text`.

Without arguments, the preset `tiny` learns to tell masked bytes of the docstrings of installed packages. The same
command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import tyro
from rich.console import Console

from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.records import read_lines
from multimodal.common.settings import differences
from multimodal.language.settings import PRESETS, PretrainingConfig, pretraining_recipe
from perceiver_agents import answer_version

PROGRAM = "perceiver-pretrain-text"
# What differs from the preset without being another recipe.
OWN = ("--out ", "--data ", "--ray-address ")


def _describe(line: Mapping[str, float]) -> str:
    right = f", {line['right']:.0%} right" if "right" in line else ""
    return f"{line['total'] / math.log(2):.3f} bits a token{right}"


def parse(arguments: list[str]) -> PretrainingConfig:
    """The settings that the arguments ask for, on top of the preset's recipe.

    Raises:
        ValueError: no such preset.
    """
    if arguments and arguments[0] in PRESETS:
        raise DataError(f"a preset is given as --preset {arguments[0]}")
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="tiny")
    name = chooser.parse_known_args(arguments)[0].preset
    usual = pretraining_recipe(name, f"runs/text-{name}")
    config = tyro.cli(
        PretrainingConfig,
        default=usual,
        prog=PROGRAM,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.AvoidSubcommands,),
    )
    changed = [text for text in differences(config, usual) if not text.startswith(OWN)]
    recipe = f"preset {name}" + (f", but {', '.join(changed)}" if changed else "")
    Console(stderr=True).print(f"{recipe}; run folder {config.out}", highlight=False, soft_wrap=True)
    if Path(config.out).is_file():
        raise DataError(f"run folder {config.out} is a file; give another --out")
    return config


def run(config: PretrainingConfig) -> dict[str, float]:
    """Train a run to its end, on Ray, and write its report.

    Returns:
        The last held-out measure: `bits_per_byte` and `right`.

    Raises:
        See `multimodal.language.preparation.prepare` and `multimodal.common.ray_train.train_on_ray`.
    """
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.common.ray_train import train_on_ray
    from multimodal.language.preparation import prepare
    from multimodal.language.pretraining import HELD_OUT_FILE
    from multimodal.language.pretraining_report import write_pretraining_report

    train_on_ray(prepare(config), _describe)
    write_pretraining_report(config.out)
    return dict(read_lines(Path(config.out) / HELD_OUT_FILE)[-1])


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-pretrain-text`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = parse(arguments)
        found = run(config)
        console = Console()
        console.print(
            f"trained {config.out}: {found['bits_per_byte']:.3f} bits a byte on held-out text, "
            f"{found['right']:.1%} of the asked tokens right",
            highlight=False,
        )
        console.print(f"report: {config.out}/report.html", highlight=False, soft_wrap=True)

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
