"""The report of a run on labelled tasks: curves, tables beside baselines, confusion, mistakes, where latents look."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.report import confusion_figure, curves_figure, picture, table, warning, write_page
from multimodal.language.evaluation import MODEL, N_GRAMS, TaskResult
from multimodal.language.finetuning import HELD_OUT_FILE, first_token, read_examples
from multimodal.language.pretraining_report import attention_picture
from multimodal.language.runs import load_model
from multimodal.language.text.tokens import load_tokens
from perceiver_core.model import PerceiverIO

SHOWN_MISTAKES = 8


def result_rows(results: Sequence[TaskResult]) -> tuple[list[str], list[list[str]]]:
    """Header, and a row for each task and metric: every way's figure in percent with its interval."""
    ways = list(results[0].by_way)
    header = ["task", "metric", "examples", *ways]
    rows = [
        [result.info.name, name, str(result.examples), *(str(result.by_way[way][name]) for way in ways)]
        for result in results
        for name in result.info.metrics
    ]
    return header, rows


def below_baseline(results: Sequence[TaskResult]) -> list[str]:
    """A sentence for each task in which the model is below the regression on n-grams."""
    sentences = []
    for result in results:
        name = result.info.metrics[0]
        if N_GRAMS in result.by_way and result.by_way[MODEL][name].value < result.by_way[N_GRAMS][name].value:
            sentences.append(f"{result.info.name}: the {N_GRAMS} is better by {name}")
    return sentences


def _held_out_figure(run: str, names: Sequence[str]) -> Figure:
    lines = read_lines(Path(run) / HELD_OUT_FILE)
    figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), "o-", label=name, markersize=4)
    axis.set(xlabel="step", ylabel="headline metric")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def _mistakes(result: TaskResult) -> str:
    rows = []
    for example, said, sure in result.mistakes[:SHOWN_MISTAKES]:
        label = example.label if isinstance(example.label, str) else f"{example.label:.2f}"
        second = "" if example.second is None else f"<br>{html.escape(example.second[:300])}"
        measure = f"{sure:.0%} sure" if result.info.classes else f"off by {sure:.2f}"
        rows.append(
            f"<p class='example'><b>{html.escape(str(label))}</b>, told {html.escape(said)} ({measure})<br>"
            f"{html.escape(example.first[:300])}{second}</p>"
        )
    return "\n".join(rows)


def write_report(path: Path, run: str, results: Sequence[TaskResult]) -> None:
    """Write the report of an evaluation."""
    model, info = load_model(run)
    names = [task.name for task in info.tasks]
    parts = [
        "<p>Percent, with 95% intervals over test examples.</p>",
        table(*result_rows(results)),
        *map(warning, below_baseline(results)),
    ]
    cut = [f"{result.cut} of {result.info.name}" for result in results if result.cut]
    if cut:
        parts.append(f"<p>Longer than {info.model.max_length} tokens, and cut: {html.escape(', '.join(cut))}.</p>")
    lines = read_lines(Path(run) / METRICS_FILE)
    if lines:
        parts += ["<h2>Training</h2>", picture(curves_figure(lines, ("total", *names)), "losses")]
        parts.append(picture(_held_out_figure(run, names), "test examples over steps"))
    for result in results:
        parts.append(f"<h2>{html.escape(result.info.name)}</h2>")
        if result.confusion:
            parts.append(picture(confusion_figure(result.confusion, result.info.classes), "confusion matrix"))
        parts += ["<h3>Mistakes</h3>", _mistakes(result)]
    if isinstance(model, PerceiverIO) and results[0].mistakes:
        tokens = load_tokens(run)
        first = first_token(info.training["way"], info.model.vocabulary, 0)
        rows, _ = read_examples([results[0].mistakes[0][0]], tokens, info.model.max_length, first)
        looks = attention_picture(model, rows[0], tokens)
        parts += ["<h2>Where the latents look</h2>", picture(looks, "attention of the latents")]
    write_page(path, f"Labelled tasks: {Path(run).name}", parts)
