"""The evaluation report: one HTML file with everything in it, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from multimodal.autoencoder.baselines import Row, warnings
from multimodal.autoencoder.measures import Summary
from multimodal.clips.clip import ClipFormat

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
.clip { border-top: 1px solid #ddd; padding: .8rem 0; } .strip { image-rendering: pixelated; width: 100%; }
figure { margin: 0; } figcaption { color: #666; font-size: 13px; } .warning { color: #a00; font-weight: 600; }
audio { height: 2rem; vertical-align: middle; }
"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A clip to show.

    Attributes:
        path, start: file, and seconds into it.
        label, named: true and likeliest class; `probability` of the latter.
        video, video_out: uint8 `[T, H, W, 3]`, original and reconstruction.
        audio, audio_out: float `[S]`.
    """

    path: str
    start: float
    label: str
    named: str
    probability: float
    video: np.ndarray
    video_out: np.ndarray
    audio: np.ndarray
    audio_out: np.ndarray


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return _data_uri(buffer.getvalue(), "image/png")


def _strip(frames: np.ndarray) -> str:
    """PNG of frames `[T, H, W, 3]` side by side."""
    buffer = io.BytesIO()
    plt.imsave(buffer, np.concatenate(list(frames), axis=1), format="png")
    return _data_uri(buffer.getvalue(), "image/png")


def _sound(samples: np.ndarray, sample_rate: int) -> str:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return _data_uri(buffer.getvalue(), "audio/wav")


def _draw_spectrogram(axis: Axes, samples: np.ndarray, sample_rate: int) -> AxesImage:
    """Levels in dB of full scale over time (s) and frequency (Hz), on one scale for all clips."""
    size = 2 ** max(5, min(9, int(math.log2(len(samples) / 12))))
    window = torch.hann_window(size)
    signal = torch.from_numpy(np.asarray(samples, np.float32))
    spectrum = torch.stft(signal, size, hop_length=size // 4, window=window, return_complex=True).abs()
    level = 20 * (spectrum * 2 / window.sum()).clamp(min=1e-5).log10()
    extent = (0.0, len(samples) / sample_rate, 0.0, sample_rate / 2)
    return axis.imshow(level.numpy(), origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=0, cmap="magma")


def spectrogram_figure(example: Example, sample_rate: int) -> Figure:
    """Spectrograms of original and reconstruction."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), sharey=True, layout="constrained")
    pairs = (("original", example.audio), ("reconstruction", example.audio_out))
    for axis, (title, samples) in zip(axes, pairs, strict=True):
        image = _draw_spectrogram(axis, samples, sample_rate)
        axis.set(title=title, xlabel="time in s")
    axes[0].set_ylabel("frequency in Hz")
    figure.colorbar(image, ax=axes, label="dB of full scale")
    return figure


def write_overview(path: str, examples: Sequence[Example], sample_rate: int) -> None:
    """A picture of all examples: frames, original above reconstruction, and both spectrograms beside them."""
    rows = len(examples)
    figure, axes = plt.subplots(
        rows, 3, figsize=(11, 1.45 * rows), width_ratios=(2, 1, 1), layout="constrained", squeeze=False
    )
    for (frames, sound, sound_out), example in zip(axes, examples, strict=True):
        pair = (example.video, example.video_out)
        frames.imshow(np.concatenate([np.concatenate(list(clip), axis=1) for clip in pair]))
        frames.set_title(f"{example.label}, named {example.named} ({example.probability:.0%})", fontsize=9)
        frames.set_axis_off()
        for axis, samples in ((sound, example.audio), (sound_out, example.audio_out)):
            _draw_spectrogram(axis, samples, sample_rate)
            axis.set_ylim(0, sample_rate / 8)  # most of what is heard lies there
            axis.tick_params(labelsize=7)
    for axis, title in zip(axes[0, 1:], ("sound", "reconstruction"), strict=True):
        axis.set_title(title, fontsize=9)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def confusion_figure(summary: Summary, classes: Sequence[str]) -> Figure:
    """Confusion matrix, rows scaled to shares of the true class."""
    counts = np.asarray(summary.confusion, float)
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


def _number(value: float, digits: int = 2) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1%}"


def summary_rows(summary: Summary) -> list[tuple[str, str]]:
    """Name and value of each figure, for the terminal and the report."""
    return [
        ("clips", str(summary.clips)),
        ("compression (numbers in / numbers in code)", f"{summary.compression:.1f} x"),
        ("video PSNR", f"{_number(summary.video_psnr)} dB"),
        ("video SSIM", _number(summary.ssim, 3)),
        ("audio PSNR", f"{_number(summary.audio_psnr)} dB"),
        ("audio multi-scale spectral distance", _number(summary.spectral, 3)),
        ("audio spectral convergence (silence: 1)", _number(summary.convergence)),
        ("top-1, label hidden", _percent(summary.top1)),
        ("top-5, label hidden", _percent(summary.top5)),
        ("top-1 from picture alone", _percent(summary.top1_video)),
        ("top-1 from sound alone", _percent(summary.top1_audio)),
        ("chance (most frequent class)", _percent(summary.chance)),
    ]


def baseline_rows(found: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Name, picture PSNR, sound PSNR and spectral convergence of each way to reconstruct."""
    return [
        (row.name, f"{_number(row.video_psnr)} dB", f"{_number(row.audio_psnr)} dB", _number(row.convergence))
        for row in found
    ]


def class_rows(classes: Sequence[str], summary: Summary) -> list[tuple[str, str, str, str]]:
    """Name of each class and its top-1 from picture and sound, from the picture alone, from the sound alone."""
    shares = (summary.class_top1, summary.class_top1_video, summary.class_top1_audio)
    return [(name, *(_percent(share) for share in row)) for name, *row in zip(classes, *shares, strict=True)]  # type: ignore[misc]


def write_report(
    path: str,
    *,
    title: str,
    summary: Summary,
    classes: Sequence[str],
    examples: Sequence[Example],
    clip_format: ClipFormat,
    skipped: dict[str, str],
    baselines: Sequence[Row],
) -> None:
    """Write the report.

    Args:
        path: HTML file.
        title: heading.
        summary: figures over all clips.
        classes: class names.
        examples: clips to show, original and reconstruction.
        clip_format: their format.
        skipped: files that could not be used, and why.
        baselines: the model and what it is held against.
    """
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1><table>",
        *(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in summary_rows(summary)),
        "</table><h2>Beside other ways</h2><table>",
        "<tr><th>way</th><th>picture PSNR</th><th>sound PSNR</th><th>spectral convergence</th></tr>",
        *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in baseline_rows(baselines)),
        "</table>",
        *(f"<p class='warning'>{html.escape(sentence)}</p>" for sentence in warnings(baselines)),
        "<h2>Classes</h2>",
        f"<figure><img src='{_picture(confusion_figure(summary, classes))}' alt='confusion matrix'></figure>",
        "<table><tr><th>class</th><th>top-1</th><th>from picture</th><th>from sound</th></tr>",
    ]
    for name, *shares in class_rows(classes, summary):
        cells = "".join(f"<td>{share}</td>" for share in shares)
        parts.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    parts.append("</table><h2>Clips</h2>")
    for example in examples:
        spectra = _picture(spectrogram_figure(example, clip_format.sample_rate))
        parts += [
            f"<div class='clip'><p><b>{html.escape(example.label)}</b>, named {html.escape(example.named)} "
            f"({example.probability:.0%}); {html.escape(example.path)} at {example.start:.2f} s</p>",
            f"<figure><img class='strip' src='{_strip(example.video)}' alt='original frames'>"
            "<figcaption>original</figcaption></figure>",
            f"<figure><img class='strip' src='{_strip(example.video_out)}' alt='reconstructed frames'>"
            "<figcaption>reconstruction</figcaption></figure>",
            f"<p>original <audio controls src='{_sound(example.audio, clip_format.sample_rate)}'></audio> "
            f"reconstruction <audio controls src='{_sound(example.audio_out, clip_format.sample_rate)}'></audio></p>",
            f"<figure><img src='{spectra}' alt='spectrograms'></figure></div>",
        ]
    if skipped:
        parts.append(f"<h2>Skipped files ({len(skipped)})</h2><table><tr><th>file</th><th>reason</th></tr>")
        for file, reason in list(skipped.items())[:200]:
            parts.append(f"<tr><td>{html.escape(file)}</td><td>{html.escape(reason)}</td></tr>")
        parts.append("</table>")
    parts.append("</body></html>")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write("\n".join(parts))
