"""The report of a run as one HTML file: results, training curves, battles. It loads nothing from outside."""

import base64
import html
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from agents.acting.worlds import is_battle
from agents.evaluation.film import film, mp4
from agents.models.network import AgentNetwork
from agents.presets import AgentTrainingConfig
from agents.runs.checkpoints import RunFolder
from agents.runs.progress import duration, read_metrics

# Colours of the page and of the plots (dark ink on white; one accent for what matters).
_INK, _MUTED, _GRID, _ACCENT, _BAND = "#1f2430", "#6b7280", "#e5e7eb", "#2563eb", "#bfdbfe"

_STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f6f7f9; color: {_INK}; font: 16px/1.5 system-ui, "Segoe UI", sans-serif; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }}
h1 {{ font-size: 28px; margin: 0 0 4px; letter-spacing: -0.01em; }}
h2 {{ font-size: 18px; margin: 40px 0 12px; }}
.lead {{ color: {_MUTED}; margin: 0 0 24px; }}
.cards {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; }}
.card, .panel {{ background: white; border: 1px solid {_GRID}; border-radius: 10px; padding: 16px 18px; }}
.card b {{ display: block; font-size: 26px; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }}
.card span {{ color: {_MUTED}; font-size: 13px; }}
.card.main b {{ color: {_ACCENT}; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }}
th, td {{ padding: 8px 10px; text-align: right; border-bottom: 1px solid {_GRID}; white-space: nowrap; }}
th {{ color: {_MUTED}; font-weight: 500; }}
th.name, td.name {{ text-align: left; }}
tr:last-child td {{ border-bottom: 0; }}
.panel {{ overflow-x: auto; }}
.bar {{ width: 130px; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 12px; }}
.plots .panel {{ padding: 10px 12px 6px; }}
.plots svg {{ width: 100%; height: auto; display: block; }}
.battles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 12px; }}
.battles video, .battles img {{ width: 100%; border-radius: 6px; display: block; background: #111; }}
.battles p {{ margin: 8px 0 0; font-size: 14px; color: {_MUTED}; }}
details {{ margin-top: 32px; }} summary {{ cursor: pointer; color: {_MUTED}; }}
.payoff td {{ text-align: center; border: 1px solid white; padding: 6px 8px; font-size: 13px; }}
.payoff th {{ text-align: center; font-size: 12px; border: 0; }} .payoff th.name {{ text-align: left; }}
.payoff td.none {{ background: #f3f4f6; color: {_MUTED}; }}
.note {{ color: {_MUTED}; font-size: 14px; margin: 10px 0 0; }}
pre {{ background: white; border: 1px solid {_GRID}; border-radius: 10px; padding: 16px; overflow-x: auto; }}
"""

# Plots: title, key in metrics.jsonl, axis label. A curve that the run has no numbers for is left out.
_CURVES = (
    ("Win rate in training", "win_rate", "share of episodes"),
    ("Return in training", "return", "return"),
    ("Score in training", "score", "score"),
    ("Elo in the league", "elo", "rating of the learner"),
    ("Speed", "steps_per_second", "trained env-steps per second"),
    ("Entropy of the policy", "learner/entropy", "nats"),
    ("Value: explained variance", "learner/explained_variance", "share"),
    ("Value loss", "learner/value", "loss"),
    ("Gradient norm", "learner/gradient_norm", "before clipping"),
    ("Learning rate", "learner/learning_rate", "Adam"),
)


def write_report(path: Path, run: RunFolder, content: dict[str, Any], network: AgentNetwork, videos: int) -> None:
    """Writes the report of an evaluation to `path`.

    content: of `evaluation.json` (`agents.evaluation.scoring.evaluate_run`). videos: battles to show.
    """
    config, training, results = run.config, content["training"], content["results"]
    first = results[0]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    low, high = first["win_rate_interval"]
    if is_battle(first["scenario"]):
        main = _card("main", f"{first['win_rate']:.1%}", f"win rate (95%: {low:.1%} to {high:.1%})")
    else:
        main = _card("main", f"{first['score_mean']:.1f}", f"score ± {first['score_standard_error']:.1f}")
    cards = [
        main,
        _card("", f"{first['return_mean']:.2f}", f"return ± {first['return_standard_error']:.2f}"),
        _card("", duration(training["seconds"]), "training, wall clock"),
        _card("", f"{training['env_steps']:,}", "environment steps"),
        _card("", f"{training['env_steps'] / max(training['seconds'], 1e-9):,.0f}", "steps per second"),
        _card("", f"{parameters / 1e3:,.0f}k", f"parameters, {config.network.encoder}"),
    ]
    body = f"""
<h1>{html.escape(config.name)}: {html.escape(config.network.encoder)} on {html.escape(config.world.scenario)}</h1>
<p class="lead">{html.escape(content["checkpoint"])} of {html.escape(str(run.path))}. {first["episodes"]} episodes
on seeds never trained on, the same number in every world{_played_on(content)}.</p>
<div class="cards">{"".join(cards)}</div>
<h2>Results</h2>
<div class="panel">{_results(results)}</div>
{_league(content["league"])}
{_battles(content, config, network, videos)}
<h2>Training</h2>
<div class="plots">{_curves(read_metrics(run.path / "metrics.jsonl"))}</div>
<details><summary>Config of the run</summary><pre>{html.escape((run.path / "config.json").read_text())}</pre></details>
"""
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{html.escape(config.name)}</title><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _played_on(content: dict[str, Any]) -> str:
    if content["backend"] == "simulator":
        return ""
    where = "the game" if content["transport"] == "game" else "the simulator behind the client protocol"
    return f", played through PySC2 on {where}"


def _card(kind: str, figure: str, label: str) -> str:
    return f'<div class="card {kind}"><b>{html.escape(figure)}</b><span>{html.escape(label)}</span></div>'


def _results(results: list[dict[str, Any]]) -> str:
    head = (
        '<tr><th class="name">scenario</th><th class="name">opponent</th><th>win rate</th><th class="bar"></th>'
        "<th>95% interval</th><th>return</th><th>score</th><th>length</th><th>episodes</th></tr>"
    )
    rows = []
    for result in results:
        low, high = result["win_rate_interval"]
        rows.append(
            f'<tr><td class="name">{html.escape(result["scenario"])}</td>'
            f'<td class="name">{html.escape(result["opponent"])}</td>'
            f"<td><b>{result['win_rate']:.1%}</b></td><td>{_interval_bar(result['win_rate'], low, high)}</td>"
            f"<td>{low:.1%} to {high:.1%}</td>"
            f"<td>{result['return_mean']:.2f} ± {result['return_standard_error']:.2f}</td>"
            f"<td>{result['score_mean']:.1f} ± {result['score_standard_error']:.1f}</td>"
            f"<td>{result['length_mean']:.1f}</td><td>{result['episodes']}</td></tr>"
        )
    return f"<table>{head}{''.join(rows)}</table>"


def _league(standings: dict[str, Any] | None) -> str:
    """Payoff matrix and Elo of self-play, strongest rows first; nothing without a league."""
    if standings is None:
        return ""
    elo, payoff = standings["elo"], standings["payoff"]
    rows = sorted(payoff, key=lambda name: -elo[name])
    columns = sorted((name for name in elo if any(name in payoff[row] for row in rows)), key=lambda name: -elo[name])

    def cell(record: list[float] | None) -> str:
        if record is None:
            return '<td class="none">-</td>'
        win_rate, games = record
        return f'<td style="background:{_shade(win_rate)}" title="{games:.0f} games">{win_rate:.0%}</td>'

    def short(name: str) -> str:
        return html.escape(name.replace("snapshot-", "#"))

    head = "".join(f"<th>{short(name)}</th>" for name in columns)
    body = "".join(
        f'<tr><th class="name">{short(row)}</th><td>{elo[row]:.0f}</td>'
        f"{''.join(cell(payoff[row].get(column)) for column in columns)}</tr>"
        for row in rows
    )
    rest = ", ".join(f"{short(name)} {elo[name]:.0f}" for name in columns if name not in payoff)
    return f"""
<h2>League</h2>
<div class="panel"><table class="payoff">
<tr><th class="name">row against column</th><th>Elo</th>{head}</tr>{body}</table>
<p class="note">Estimated chance of the row's player to beat the column's, from {standings["games"]:,} games in
training, older ones counting less; #n is the n-th snapshot, its row as it stood when it was taken. Elo of the scripted
players: {rest}.</p></div>"""


def _shade(win_rate: float) -> str:
    """From white (never wins) to the accent's light tone (always)."""
    low, high = (255, 255, 255), (96, 165, 250)
    mixed = (round(a + (b - a) * win_rate) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _interval_bar(value: float, low: float, high: float) -> str:
    """The win rate on a line from 0 to 1, with its interval."""
    mark = min(117.0, max(0.0, 120 * value - 1.5))
    return (
        '<svg viewBox="0 0 120 14" width="120" height="14" role="img">'
        f'<rect x="0" y="6" width="120" height="2" fill="{_GRID}"/>'
        f'<rect x="{120 * low:.1f}" y="3" width="{max(2.0, 120 * (high - low)):.1f}" height="8" rx="2" fill="{_BAND}"/>'
        f'<rect x="{mark:.1f}" y="0" width="3" height="14" rx="1.5" fill="{_ACCENT}"/>'
        "</svg>"
    )


def _curves(records: list[dict[str, Any]]) -> str:
    panels = []
    for title, key, label in _CURVES:
        points = [(r["env_steps"], r[key]) for r in records if isinstance(r.get(key), int | float)]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if len(points) >= 2:
            panels.append(f'<div class="panel">{_plot(title, label, points, unit_range=key == "win_rate")}</div>')
    return "".join(panels) or "<p>Too short a run for curves.</p>"


def _plot(title: str, label: str, points: list[tuple[float, float]], unit_range: bool) -> str:
    """One curve over environment steps, as inline SVG: the reports, and their running mean where there are many."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x, y = np.array(points).T
    with plt.rc_context({"svg.fonttype": "path", "font.size": 9, "font.family": "DejaVu Sans"}):
        figure, axes = plt.subplots(figsize=(4.6, 2.7), layout="constrained")
        window = len(y) // 20
        if window >= 3:
            axes.plot(x, y, color=_BAND, linewidth=1.0)
            kernel = np.ones(window) / window
            axes.plot(x[window - 1 :], np.convolve(y, kernel, mode="valid"), color=_ACCENT, linewidth=1.8)
        else:
            axes.plot(x, y, color=_ACCENT, linewidth=1.8)
        axes.set_title(title, loc="left", color=_INK, fontsize=10.5)
        axes.set_ylabel(label, color=_MUTED)
        axes.set_xlabel("environment steps", color=_MUTED)
        axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        if unit_range:
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        else:
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5))
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_MUTED, length=0)
        axes.spines[:].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _battles(content: dict[str, Any], config: AgentTrainingConfig, network: AgentNetwork, count: int) -> str:
    """Videos of `count` of the agent's battles on seeds of the evaluation, inside the page."""
    result = content["results"][0]
    if count == 0 or ":" in result["scenario"]:
        return ""
    if content["backend"] != "simulator":
        return ""  # a film of the simulator would not show the battles that were scored
    panels = []
    for number in range(count):
        seed = content["first_seed"] + number
        frames, summary = film(network, config, result["scenario"], result["opponent"], seed)
        video = f'<video controls muted loop autoplay playsinline src="{_data_uri(mp4(frames), "video/mp4")}"></video>'
        panels.append(f'<div class="panel">{video}<p>{html.escape(summary)}</p></div>')
    return f'<h2>Battles</h2><div class="battles">{"".join(panels)}</div>'


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
