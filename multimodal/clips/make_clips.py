"""Write a data set of generated clips: `python -m multimodal.clips.make_clips {synthetic,digits} --out DIR`."""

from __future__ import annotations

import os
import sys

import tyro
from rich.console import Console

from multimodal.clips.digits import DigitsConfig, speech_program, write_digits
from multimodal.clips.synthetic import CLASSES, SyntheticConfig, generate
from multimodal.common.errors import DataError
from perceiver_agents.paths import absolute


def synthetic(out: str, clips: SyntheticConfig) -> None:
    """Sprites and tones in eight classes; four of them show only in the correlation of picture and sound.

    Args:
        out: a folder that does not exist yet or is empty.
        clips: what to generate.
    """
    out = absolute(out)
    generate(out, clips, num_processes=os.cpu_count() or 1)
    Console().print(f"wrote {clips.clips_per_class * len(CLASSES)} clips of {len(CLASSES)} classes to {out}")


def digits(out: str, clips: DigitsConfig) -> None:
    """Moving handwritten digits of scikit-learn, with their names spoken by espeak-ng where it is installed.

    Args:
        out: a folder that does not exist yet or is empty.
        clips: what to write.
    """
    out = absolute(out)
    count = write_digits(out, clips)
    program = speech_program()
    Console().print(f"wrote {count} clips to {out}, {f'spoken by {program}' if program else 'silent: no espeak-ng'}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"synthetic": synthetic, "digits": digits},
            prog="multimodal.clips.make_clips",
            description=__doc__,
            args=arguments,
        )
    except (DataError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
