"""Quality against compression: `python -m multimodal.autoencoder.compression RUN [RUN ...] --out DIR`.

Takes runs with different numbers of latents on the same data and measures each on the held-out clips, beside two ways
to spend the same code: principal components (as many numbers as the latent array has, fitted on the training clips),
and H.264 with Opus (as many bytes as the latent array has with 16 bits a number; elementary streams, no container).
Writes `compression.json` and `compression.png`.
"""

from __future__ import annotations

import sys

import tyro
from rich.console import Console
from rich.table import Table

from multimodal.autoencoder.commands import CompressionConfig, check_comparison
from multimodal.common.command import exit_with_sentence

PROGRAM = "multimodal.autoencoder.compression"


def _show(config: CompressionConfig) -> None:
    """Compare, and print the table."""
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.autoencoder.comparison import compare

    points = compare(config)
    table = Table("latents", "compression", "code", "video dB", "audio dB", "top-1", "bytes")
    for point in points:
        ways = (("Perceiver IO", point.perceiver), ("PCA", point.pca), ("H.264 + Opus", point.codec))
        for number, (name, quality) in enumerate(ways):
            first = number == 0
            cells = (
                (f"{quality.video_psnr:.2f}", f"{quality.audio_psnr:.2f}") if quality is not None else ("n/a", "n/a")
            )
            table.add_row(
                str(point.num_latents) if first else "",
                f"{point.compression:.0f}x" if first else "",
                name,
                *cells,
                f"{point.top1:.1%}" if first else "",
                f"{quality.code_bytes:.0f}" if quality is not None else "",
            )
    console = Console()
    console.print(table)
    console.print(f"chance {points[0].chance:.1%}; plot: {config.out}/compression.png")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        config = tyro.cli(CompressionConfig, prog=PROGRAM, description=__doc__, args=arguments)
        check_comparison(config)
        _show(config)

    exit_with_sentence(f"python -m {PROGRAM}", arguments, work)


if __name__ == "__main__":
    main()
