"""Tables and pictures of contests: ways of training beside each other, by task, with intervals over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from multimodal.common.records import write_atomically
from multimodal.common.report import picture, table, write_page
from multimodal.language.tasks.metrics import Estimate

Results = Mapping[str, Mapping[str, Estimate]]
"""Estimates of the headline metric by way and task."""


def rows_of(results: Results, metrics: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Header, and a row for each way: percent by task, and the mean over the tasks."""
    header = ["way", *(f"{task} ({metric})" for task, metric in metrics.items()), "mean"]
    rows = []
    for way, found in results.items():
        mean = float(np.mean([found[task].value for task in metrics]))
        rows.append([way, *(str(found[task]) for task in metrics), f"{100 * mean:.1f}"])
    return header, rows


def bars(results: Results, metrics: Mapping[str, str]) -> Figure:
    """The table as bars."""
    figure, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
    width = 0.8 / len(results)
    for number, (way, found) in enumerate(results.items()):
        places = np.arange(len(metrics)) + (number - (len(results) - 1) / 2) * width
        values = np.array([found[task].value for task in metrics])
        reach = np.array([max(found[task].high - found[task].value, 0.0) for task in metrics])
        axis.bar(places, 100 * values, width, yerr=100 * np.nan_to_num(reach), capsize=2, label=way)
    axis.set_xticks(range(len(metrics)), [f"{task}\n{metric}" for task, metric in metrics.items()], fontsize=8)
    axis.set_ylabel("percent")
    axis.legend(fontsize=8)
    return figure


def publish(
    folder: Path, name: str, title: str, results: Results, metrics: Mapping[str, str], more: Sequence[str] = ()
) -> None:
    """Print the table, and write `NAME.json`, `NAME.png` and `NAME.html` into a folder.

    Args:
        folder: output folder.
        name: of the files.
        title: of the page.
        results: by way and task.
        metrics: the headline metric by task.
        more: sentences for the terminal and the page.
    """
    header, rows = rows_of(results, metrics)
    shown = Table(*header)
    for row in rows:
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    for sentence in more:
        console.print(sentence, highlight=False)
    plain = {way: {task: asdict(value) for task, value in found.items()} for way, found in results.items()}
    write_atomically(folder / f"{name}.json", json.dumps({"metrics": dict(metrics), "results": plain}, indent=1) + "\n")
    figure = bars(results, metrics)
    figure.savefig(folder / f"{name}.png", dpi=110)
    paragraphs = [f"<p>{sentence}</p>" for sentence in more]
    write_page(folder / f"{name}.html", title, [table(header, rows), *paragraphs, picture(figure, title)])
    console.print(f"report: {folder / name}.html", highlight=False, soft_wrap=True)
