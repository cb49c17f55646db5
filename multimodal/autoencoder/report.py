"""The evaluation report of the autoencoder: figures, baselines, classes, and clips to look at and listen to."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from multimodal.autoencoder.baselines import Row, all_measures, warnings
from multimodal.autoencoder.measures import Summary
from multimodal.autoencoder.modalities import Modality
from multimodal.autoencoder.model import AutoencoderConfig
from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.report import (
    confusion_figure,
    curves_figure,
    draw_spectrogram,
    number,
    percent,
    picture,
    side_by_side,
    skipped_table,
    sound,
    spectrogram_figure,
    strip,
    table,
    warning,
    write_page,
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip to show.

    Attributes:
        path, start: file, and seconds into it.
        label, named: true and likeliest class; `probability` of the latter.
        original, decoded: by signal, frames `[T, 1 or 3, H, W]` in [0, 1] or sound `[S]` in [-1, 1].
    """

    path: str
    start: float
    label: str
    named: str
    probability: float
    original: Mapping[str, np.ndarray]
    decoded: Mapping[str, np.ndarray]


def _draw(axis: Axes, modality: Modality, value: np.ndarray, sample_rate: int) -> None:
    if modality.view == "frames":
        axis.imshow(side_by_side(value))
        axis.set_axis_off()
    else:
        draw_spectrogram(axis, value, sample_rate)
        axis.set_ylim(0, sample_rate / 8)  # most of what is heard lies there
        axis.tick_params(labelsize=7)


def write_overview(path: str, examples: Sequence[Example], sizes: AutoencoderConfig) -> None:
    """A picture of all examples: every signal, the original above the reconstruction."""
    signals = sizes.signals
    widths = [2 if modality.view == "frames" else 1 for modality in signals]
    figure, axes = plt.subplots(
        2 * len(examples),
        len(signals),
        figsize=(3.4 * sum(widths), 1.3 * len(examples)),
        width_ratios=widths,
        layout="constrained",
        squeeze=False,
    )
    for row, example in enumerate(examples):
        for column, modality in enumerate(signals):
            for below, values in enumerate((example.original, example.decoded)):
                axis = axes[2 * row + below, column]
                _draw(axis, modality, values[modality.name], sizes.clip.sample_rate)
        axes[2 * row, 0].set_title(
            f"{example.label}, named {example.named} ({example.probability:.0%})", fontsize=9, loc="left"
        )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def summary_rows(summary: Summary, sizes: AutoencoderConfig) -> list[tuple[str, str]]:
    """Name and value of each figure, for the terminal and the report."""
    return [
        ("clips", str(summary.clips)),
        ("compression (numbers in / numbers in code)", f"{summary.compression:.1f} x"),
        *(
            (measure.title, number(summary.measures[key], measure.digits, measure.unit))
            for key, _, measure in all_measures(sizes)
        ),
        ("top-1, label hidden", percent(summary.top1)),
        ("top-5, label hidden", percent(summary.top5)),
        *((f"top-1 from {name} alone", percent(share)) for name, share in summary.top1_alone.items()),
        ("chance (most frequent class)", percent(summary.chance)),
    ]


def baseline_table(found: Sequence[Row], sizes: AutoencoderConfig) -> tuple[list[str], list[list[str]]]:
    """Header, and the measures of each way to reconstruct."""
    columns = all_measures(sizes)
    header = ["way", *(measure.title for _, _, measure in columns)]
    rows = [
        [
            row.name,
            *(number(row.measures.get(key, float("nan")), measure.digits, measure.unit) for key, _, measure in columns),
        ]
        for row in found
    ]
    return header, rows


def class_table(classes: Sequence[str], summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Header, and each class with its top-1 from all signals and from each alone."""
    shares = (summary.class_top1, *summary.class_top1_alone.values())
    header = ["class", "top-1", *(f"from {name} alone" for name in summary.class_top1_alone)]
    rows = [[name, *map(percent, row)] for name, *row in zip(classes, *shares, strict=True)]
    return header, rows


def _example(example: Example, sizes: AutoencoderConfig) -> str:
    rate = sizes.clip.sample_rate
    parts = [
        f"<div class='example'><p><b>{html.escape(example.label)}</b>, named {html.escape(example.named)} "
        f"({example.probability:.0%}); {html.escape(example.path)} at {example.start:.2f} s</p>"
    ]
    for modality in sizes.signals:
        original, decoded = example.original[modality.name], example.decoded[modality.name]
        if modality.view == "frames":
            parts += [strip(original, f"{modality.name}, original"), strip(decoded, f"{modality.name}, reconstruction")]
        else:
            parts.append(f"<p>original {sound(original, rate)} reconstruction {sound(decoded, rate)}</p>")
            parts.append(picture(spectrogram_figure(original, decoded, rate), "spectrograms"))
    return "\n".join([*parts, "</div>"])


def write_report(
    path: str,
    *,
    title: str,
    run: str,
    summary: Summary,
    sizes: AutoencoderConfig,
    classes: Sequence[str],
    examples: Sequence[Example],
    skipped: Mapping[str, str],
    baselines: Sequence[Row],
) -> None:
    """Write the report.

    Args:
        path: HTML file.
        title: heading.
        run: run folder, for the curves of its training.
        summary: figures over all clips.
        sizes: of the model.
        classes: class names.
        examples: clips to show, original and reconstruction.
        skipped: files that could not be used, and why.
        baselines: the model and what it is held against.
    """
    lines = read_lines(Path(run) / METRICS_FILE)
    curves = ["<h2>Training</h2>", picture(curves_figure(lines, ("total", *sizes.names)), "losses")] if lines else []
    write_page(
        path,
        title,
        [
            table((), summary_rows(summary, sizes)),
            "<h2>Beside other ways</h2>",
            table(*baseline_table(baselines, sizes)),
            *map(warning, warnings(baselines, sizes)),
            *curves,
            "<h2>Classes</h2>",
            picture(confusion_figure(summary.confusion, classes), "confusion matrix"),
            table(*class_table(classes, summary)),
            "<h2>Clips</h2>",
            *(_example(example, sizes) for example in examples),
            skipped_table(skipped),
        ],
    )
