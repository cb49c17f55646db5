"""The rows as a table in a terminal, as JSON, and as a page with both sides' distributions drawn over each other."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from envs.fidelity.verdicts import Figure, Row

WIDTH, HEIGHT, BINS = 260, 60, 24
COLOURS = {"inside": "#2e7d32", "open": "#b26a00", "outside": "#b71c1c"}


def number(value: float) -> str:
    """A number in at most five characters where that tells enough."""
    if value == int(value) and abs(value) < 1e5:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def told(figure: Figure) -> str:
    """A figure with its interval."""
    if figure.interval is None:
        return number(figure.value)
    low, high = figure.interval
    return f"{number(figure.value)} ({number(low)} to {number(high)})"


def line(row: Row, width: int) -> str:
    """A row as one line of the table."""
    band = number(row.band[0]) if row.band[0] == row.band[1] else f"{number(row.band[0])} to {number(row.band[1])}"
    cells = f"{row.name:{width}s} {told(row.real):>26s} {band:>18s} {told(row.ours):>26s}  {row.verdict:7s}"
    return f"{cells}  {row.note}".rstrip()


def heading(width: int) -> str:
    """The line over the table."""
    return f"{'':{width}s} {'game':>26s} {'counts as equal':>18s} {'simulator':>26s}  verdict"


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows have which verdict."""
    return {verdict: sum(row.verdict == verdict for row in rows) for verdict in COLOURS}


def as_json(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, with the single observations; `facts` say how it was measured."""
    return {**facts, "counts": counts(rows), "rows": [{**asdict(row), "verdict": row.verdict} for row in rows]}


def as_page(rows: Sequence[Row], facts: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]) -> str:
    """A page that needs nothing else: the tables, a drawing a row, and where the figures come from."""
    parts = [PAGE_HEAD, "<h1>The simulator beside the real game</h1>"]
    told_facts = ", ".join(f"{key}: {value}" for key, value in facts.items())
    parts.append(f"<p>{html.escape(told_facts)}. {html.escape(_told_counts(rows))}.</p>")
    parts.append("<p>Green band: what counts as equal. Grey: the game. Blue: the simulator.</p>")
    for group, members in itertools.groupby(rows, key=lambda row: row.group):
        parts.append(f"<h2>{html.escape(group)}</h2><table><tr><th></th><th>game</th><th>simulator</th><th>unit</th>")
        parts.append("<th>verdict</th><th>rule</th><th></th></tr>")
        parts.extend(_page_row(row) for row in members)
        parts.append("</table>")
    parts.append("<h2>Sources</h2><table><tr><th>figures</th><th>patch</th><th>source</th><th>what</th></tr>")
    for name, source in sources.items():
        cells = (name, source["patch"], source["source"], source["what"])
        parts.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    parts.append("</table></body></html>")
    return "\n".join(parts)


def _told_counts(rows: Sequence[Row]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in counts(rows).items())


def _page_row(row: Row) -> str:
    colour = COLOURS[row.verdict]
    cells = [row.name, told(row.real), told(row.ours), row.unit]
    escaped = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    verdict = f'<td style="color:{colour}">{row.verdict}</td>'
    rule = f"<td>{html.escape(row.rule)}<br><small>{html.escape(row.note)}</small></td>"
    return f"<tr>{escaped}{verdict}{rule}<td>{drawing(row)}</td></tr>"


def drawing(row: Row) -> str:
    """An SVG of both sides: histograms where there are observations, else intervals; the band behind them."""
    values = [*row.real.values, *row.ours.values, row.real.value, row.ours.value, *row.band]
    for figure in (row.real, row.ours):
        values += figure.interval or ()
    values = [value for value in values if math.isfinite(value)]
    low, high = min(values), max(values)
    if high <= low:
        return ""
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return min(max((value - low) / (high - low), 0.0), 1.0) * WIDTH

    left, right = at(row.band[0]), at(row.band[1])
    pieces = [
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f'<rect x="{left:.1f}" y="0" width="{max(right - left, 1):.1f}" height="{HEIGHT}" fill="#c8e6c9"/>',
    ]
    for figure, fill, stroke in ((row.real, "#9e9e9e88", "#616161"), (row.ours, "#1e88e555", "#1565c0")):
        if len(figure.values) > 1:
            pieces.append(_histogram(figure.values, low, high, fill))
        if figure.interval is not None:
            y = HEIGHT - 3 if figure is row.real else HEIGHT - 8
            first, last = (at(value) for value in figure.interval)
            pieces.append(f'<line x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}" stroke="{stroke}"/>')
        x = at(figure.value)
        pieces.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT}" stroke="{stroke}" stroke-width="2"/>')
    return "".join(pieces) + "</svg>"


def _histogram(values: Sequence[float], low: float, high: float, fill: str) -> str:
    bins = [0] * BINS
    for value in values:
        bins[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
    width, tallest = WIDTH / BINS, max(bins)
    return "".join(
        f'<rect x="{n * width:.1f}" y="{HEIGHT - (HEIGHT - 12) * count / tallest:.1f}" width="{width:.1f}" '
        f'height="{(HEIGHT - 12) * count / tallest:.1f}" fill="{fill}"/>'
        for n, count in enumerate(bins)
        if count
    )


PAGE_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Fidelity</title><style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; } table { border-collapse: collapse; }
td, th { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: middle; }
small { color: #555; } h2 { margin-top: 1.5em; }
</style></head><body>"""
