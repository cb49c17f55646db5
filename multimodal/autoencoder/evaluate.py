"""Measure a trained autoencoder on held-out clips: `perceiver-evaluate-autoencoder RUN --data DIR`.

Prints a table and writes `evaluation.json`, `evaluation.html`, `examples.png` and the measures of every clip to the
output folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from multimodal.autoencoder.commands import EvaluateConfig, check_evaluation
from multimodal.common.command import exit_with_sentence
from perceiver_agents import answer_version

PROGRAM = "perceiver-evaluate-autoencoder"
# More classes than this are listed in the report only.
SHOWN_CLASSES = 20


def _show(config: EvaluateConfig) -> None:
    """Evaluate, and print the tables."""
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.autoencoder.baselines import warnings
    from multimodal.autoencoder.report import baseline_table, class_table, summary_rows
    from multimodal.autoencoder.runs import load_run
    from multimodal.autoencoder.scoring import evaluate

    summary, baselines = evaluate(config)
    info = load_run(config.run)
    tables: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = [
        (("measure", "value"), summary_rows(summary, info.model)),
        baseline_table(baselines, info.model),
    ]
    if len(info.classes) <= SHOWN_CLASSES:
        tables.append(class_table(info.classes, summary))
    console = Console()
    for header, rows in tables:
        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for sentence in warnings(baselines, info.model):
        console.print(f"[red]{sentence}[/red]", highlight=False)
    console.print(f"report: {config.out or Path(config.run) / 'evaluation'}/evaluation.html")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-evaluate-autoencoder`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = tyro.cli(EvaluateConfig, prog=PROGRAM, description=__doc__, args=arguments)
        check_evaluation(config)
        _show(config)

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
