"""Pieces of a report: one HTML file with everything in it, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
.example { border-top: 1px solid #ddd; padding: .8rem 0; } .strip { image-rendering: pixelated; width: 100%; }
figure { margin: 0; } figcaption { color: #666; font-size: 13px; } .warning { color: #a00; font-weight: 600; }
audio { height: 2rem; vertical-align: middle; }
"""
# Skipped files that a report names.
MOST_SKIPPED = 200


def number(value: float, digits: int = 2, unit: str = "") -> str:
    """A figure for readers; "n/a" for NaN."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f} {unit}".rstrip()


def percent(value: float) -> str:
    """A share for readers; "n/a" for NaN."""
    return "n/a" if math.isnan(value) else f"{value:.1%}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; an empty header is left out."""
    lines = ["<table>"]
    if header:
        lines.append("<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>")
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def warning(sentence: str) -> str:
    """A sentence that no reader should miss."""
    return f"<p class='warning'>{html.escape(sentence)}</p>"


def skipped_table(skipped: Mapping[str, str]) -> str:
    """Files that could not be used, and why; nothing for none."""
    if not skipped:
        return ""
    rows = list(skipped.items())[:MOST_SKIPPED]
    return f"<h2>Skipped files ({len(skipped)})</h2>" + table(("file", "reason"), rows)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture(figure: Figure, alt: str) -> str:
    """A figure, which is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return f"<figure><img src='{_data_uri(buffer.getvalue(), 'image/png')}' alt='{html.escape(alt)}'></figure>"


def side_by_side(frames: np.ndarray) -> np.ndarray:
    """Frames `[T, 1 or 3, H, W]` in [0, 1] as one picture uint8 `[H, T * W, 3]`."""
    colours = np.broadcast_to(frames, (frames.shape[0], 3, *frames.shape[2:]))
    pixels = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return np.concatenate(list(pixels.transpose(0, 2, 3, 1)), axis=1)


def strip(frames: np.ndarray, caption: str) -> str:
    """Frames `[T, 1 or 3, H, W]` in [0, 1] side by side."""
    buffer = io.BytesIO()
    plt.imsave(buffer, side_by_side(frames), format="png")
    source = _data_uri(buffer.getvalue(), "image/png")
    words = html.escape(caption)
    return f"<figure><img class='strip' src='{source}' alt='{words}'><figcaption>{words}</figcaption></figure>"


def sound(samples: np.ndarray, sample_rate: int) -> str:
    """A player for sound `[S]` in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return f"<audio controls src='{_data_uri(buffer.getvalue(), 'audio/wav')}'></audio>"


def draw_spectrogram(axis: Axes, samples: np.ndarray, sample_rate: int) -> AxesImage:
    """Levels in dB of full scale over time (s) and frequency (Hz), on one scale for all clips."""
    size = 2 ** max(5, min(9, int(math.log2(len(samples) / 12))))
    window = torch.hann_window(size)
    signal = torch.from_numpy(np.asarray(samples, np.float32))
    spectrum = torch.stft(signal, size, hop_length=size // 4, window=window, return_complex=True).abs()
    level = 20 * (spectrum * 2 / window.sum()).clamp(min=1e-5).log10()
    extent = (0.0, len(samples) / sample_rate, 0.0, sample_rate / 2)
    return axis.imshow(level.numpy(), origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=0, cmap="magma")


def spectrogram_figure(original: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> Figure:
    """Spectrograms of two sounds `[S]`."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), sharey=True, layout="constrained")
    pairs = (("original", original), ("reconstruction", reconstruction))
    for axis, (title, samples) in zip(axes, pairs, strict=True):
        image = draw_spectrogram(axis, samples, sample_rate)
        axis.set(title=title, xlabel="time in s")
    axes[0].set_ylabel("frequency in Hz")
    figure.colorbar(image, ax=axes, label="dB of full scale")
    return figure


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Confusion matrix `[true class][named class]`, rows scaled to shares of the true class."""
    counts = np.asarray(confusion, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(14.0, 2.5 + 0.45 * len(classes))
    figure, axis = plt.subplots(figsize=(side, side), layout="constrained")
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axis.set(xlabel="named class", ylabel="true class")
    if len(classes) <= 40:
        axis.set_xticks(range(len(classes)), classes, rotation=90)
        axis.set_yticks(range(len(classes)), classes)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.7)
    return figure


def curves_figure(lines: Sequence[Mapping[str, float]], names: Sequence[str]) -> Figure:
    """Losses by name over the steps of `metrics.jsonl`, on logarithmic axes; names that no line has are left out."""
    figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
    for name in names:
        points = [(line["step"], line[name]) for line in lines if line.get(name, 0) > 0]
        if points:
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8)
    return figure


def write_page(path: str | Path, title: str, parts: Iterable[str]) -> None:
    """Write the page: a heading and what the other functions of this module gave."""
    heading = html.escape(title)
    lines = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{heading}</title>",
        f"<style>{STYLE}</style></head><body><h1>{heading}</h1>",
        *parts,
        "</body></html>",
    ]
    Path(path).write_text("\n".join(lines), encoding="utf-8")
