"""Measure a run on labelled tasks: `perceiver-evaluate-text RUN`.

Prints a table and writes `evaluation.json` and `evaluation.html` to the output folder.
"""

from __future__ import annotations

import sys

import tyro
from rich.console import Console
from rich.table import Table

from multimodal.common.command import exit_with_sentence
from multimodal.common.run_folder import newest_checkpoint, read_run
from multimodal.language.commands import EvaluateConfig
from multimodal.language.settings import MODALITY
from perceiver_agents import answer_version

PROGRAM = "perceiver-evaluate-text"


def show(config: EvaluateConfig) -> None:
    """Evaluate, and print the table.

    Raises:
        DataError: no such run, or data that does not fit its tasks.
    """
    read_run(config.run, MODALITY)
    newest_checkpoint(config.run)
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.language.evaluation import evaluate, output_folder
    from multimodal.language.report import below_baseline, result_rows, write_report

    results = evaluate(config)
    page = output_folder(config) / "evaluation.html"
    write_report(page, config.run, results)
    header, rows = result_rows(results)
    shown = Table(*header)
    for row in rows:
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    for sentence in below_baseline(results):
        console.print(f"[red]{sentence}[/red]", highlight=False)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-evaluate-text`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        show(tyro.cli(EvaluateConfig, prog=PROGRAM, description=__doc__, args=arguments))

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
