"""Train on labelled tasks, one or many at once, with Ray Train: `perceiver-finetune-text`.

Without arguments, five tasks that docstrings of installed packages give for free. The same command continues an
interrupted run. At the end all tasks are measured beside a regression on n-grams.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import tyro

from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.language.commands import EvaluateConfig
from multimodal.language.settings import FinetuningConfig
from perceiver_agents import answer_version

PROGRAM = "perceiver-finetune-text"


def _describe(line: Mapping[str, float]) -> str:
    apart = {"step", "total", "samples_per_second", "waiting_share"}
    losses = ", ".join(f"{name} {value:.3f}" for name, value in line.items() if name not in apart)
    return f"loss {line['total']:.4f} ({losses})"


def run(config: FinetuningConfig) -> None:
    """Train a run to its end, on Ray.

    Raises:
        See `multimodal.language.finetuning_preparation.prepare` and `multimodal.common.ray_train.train_on_ray`.
    """
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.common.ray_train import train_on_ray
    from multimodal.language.finetuning_preparation import prepare

    train_on_ray(prepare(config), _describe)


def parse(arguments: list[str]) -> FinetuningConfig:
    """The settings that the arguments ask for."""
    config = tyro.cli(
        FinetuningConfig,
        default=FinetuningConfig(out="runs/text-tasks"),
        prog=PROGRAM,
        description=__doc__,
        args=arguments,
        config=(tyro.conf.AvoidSubcommands,),
    )
    if Path(config.out).is_file():
        raise DataError(f"run folder {config.out} is a file; give another --out")
    return config


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-finetune-text`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = parse(arguments)
        run(config)
        from multimodal.language.evaluate import show

        show(EvaluateConfig(run=config.out))

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
