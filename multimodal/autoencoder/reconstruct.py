"""Send a video of any length through a trained autoencoder: `perceiver-reconstruct RUN clip.mp4 --out out.mp4`.

The file is cut into windows of the model's length that overlap by a quarter; neighbours are cross-faded there, picture
and sound with the same weights at the same instants. The output has the model's picture size, frame rate and sample
rate, and the file's length. The label is predicted from all windows together.
"""

from __future__ import annotations

import sys

import tyro
from rich.console import Console

from multimodal.autoencoder.commands import ReconstructConfig, check_reconstruction
from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from perceiver_agents import answer_version

PROGRAM = "perceiver-reconstruct"
SHOWN_CLASSES = 5


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-reconstruct`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    answer_version(PROGRAM, arguments)

    def work() -> None:
        config = tyro.cli(ReconstructConfig, prog=PROGRAM, description=__doc__, args=arguments)
        check_reconstruction(config)
        # Here, not above: what is wrong with the arguments is said before seconds of imports.
        from multimodal.autoencoder.rendering import run
        from multimodal.clips.media import UnreadableMedia

        try:
            ranking = run(config)
        except UnreadableMedia as error:
            raise DataError(str(error)) from error
        console = Console()
        console.print(f"wrote {config.out}")
        for name, probability in ranking[:SHOWN_CLASSES]:
            console.print(f"  {probability:6.1%}  {name}")

    exit_with_sentence(PROGRAM, arguments, work)


if __name__ == "__main__":
    main()
