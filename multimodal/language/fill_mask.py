"""Fill masks in a text: `perceiver-fill-mask RUN "The quick brown [MASK][MASK][MASK] jumps"`."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console
from rich.table import Table

from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.run_folder import newest_checkpoint, read_run
from multimodal.language.commands import FillMaskConfig
from multimodal.language.settings import MODALITY
from perceiver_agents import answer_version

PROGRAM = "perceiver-fill-mask"


def _show(config: FillMaskConfig) -> None:
    identity = read_run(config.run, MODALITY)
    newest_checkpoint(config.run)
    if identity["job"] != "masked":
        raise DataError(f"{config.run} has the job {identity['job']!r}; give a run of perceiver-pretrain-text")
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.language.filling import fill, read_masked
    from multimodal.language.pretraining_report import readable
    from multimodal.language.runs import load_model
    from multimodal.language.text.tokens import load_tokens

    tokens = load_tokens(config.run)
    model, info = load_model(config.run)
    row = read_masked(config.text, tokens, info.model.max_length)
    filled = fill(model.to(config.device), row, tokens, rounds=config.rounds, top=config.top)
    table = Table("mask", "likeliest")
    for number, candidates in enumerate(filled.candidates, start=1):
        shown = ", ".join(f"{readable(tokens.decode([token]))} {share:.0%}" for token, share in candidates)
        table.add_row(str(number), shown)
    console = Console()
    console.print(table)
    console.print(tokens.decode(filled.tokens).decode(errors="replace"), markup=False, highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-fill-mask`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)
    exit_with_sentence(
        PROGRAM,
        arguments,
        lambda: _show(tyro.cli(FillMaskConfig, prog=PROGRAM, description=__doc__, args=arguments)),
    )


if __name__ == "__main__":
    main()
