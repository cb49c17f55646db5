"""Generate text, shown as it comes: `perceiver-generate-text RUN --prompt "The function returns"`."""

from __future__ import annotations

import codecs
import sys
from itertools import islice

import tyro

from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.run_folder import newest_checkpoint, read_run
from multimodal.language.commands import GenerateConfig
from multimodal.language.settings import MODALITY
from perceiver_agents import answer_version

PROGRAM = "perceiver-generate-text"


def _show(config: GenerateConfig) -> None:
    identity = read_run(config.run, MODALITY)
    newest_checkpoint(config.run)
    if identity["job"] != "next":
        raise DataError(
            f"{config.run} has the job {identity['job']!r}; give a run of perceiver-pretrain-text --objective next"
        )
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    import numpy as np
    import torch

    from multimodal.language.runs import load_model
    from multimodal.language.text.tokens import load_tokens
    from perceiver_core.autoregressive import PerceiverAR

    tokens = load_tokens(config.run)
    model, _ = load_model(config.run)
    assert isinstance(model, PerceiverAR)
    model.to(config.device)
    prompt = tokens.encode(config.prompt.encode("utf-8", errors="surrogateescape")).astype(np.int64)
    if len(prompt) == 0:
        raise DataError("the prompt is empty; give at least one character")
    generator = torch.Generator(config.device).manual_seed(config.seed)
    stream = model.stream(
        torch.from_numpy(prompt)[None].to(config.device),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        generator=generator,
    )
    sys.stdout.write(config.prompt)
    if tokens.kind == "bytes":
        # A character may be several bytes: it is shown when it is whole.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in islice(stream, config.num_tokens):
            sys.stdout.write(decoder.decode(tokens.decode([int(token[0])])))
            sys.stdout.flush()
        sys.stdout.write(decoder.decode(b"", final=True))
    else:
        # Pieces are joined by what follows them, so all so far are decoded anew, and what is new is shown.
        numbers, shown = list(prompt), len(tokens.decode(prompt))
        for token in islice(stream, config.num_tokens):
            numbers.append(int(token[0]))
            text = tokens.decode(numbers)
            sys.stdout.write(text[shown:].decode(errors="replace"))
            sys.stdout.flush()
            shown = len(text)
    sys.stdout.write("\n")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-generate-text`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)
    exit_with_sentence(
        PROGRAM,
        arguments,
        lambda: _show(tyro.cli(GenerateConfig, prog=PROGRAM, description=__doc__, args=arguments)),
    )


if __name__ == "__main__":
    main()
