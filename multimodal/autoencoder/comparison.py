"""Runs with codes of several sizes, beside PCA and H.264 with Opus of the same sizes."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from multimodal.autoencoder.baselines import load_clips
from multimodal.autoencoder.commands import CompressionConfig, check_comparison, data_folder
from multimodal.autoencoder.measures import measure_files, summarize
from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, psnr
from multimodal.autoencoder.pca import ClipPCA
from multimodal.autoencoder.runs import load_model, load_run
from multimodal.clips.clip import ClipFormat, read_clip
from multimodal.clips.datasets import find_files
from multimodal.clips.writing import Encoding, write_clip
from multimodal.common.errors import DataError

BYTES_PER_NUMBER = 2
SEI_UNIT = 6
OPUS_RATES = (6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000, 64_000, 96_000, 128_000)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """PSNR of picture and sound, mean over clips in dB, and the bytes of a clip's code (mean)."""

    video_psnr: float
    audio_psnr: float
    code_bytes: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run of the curve."""

    run: str
    num_latents: int
    compression: float
    top1: float
    chance: float
    perceiver: Quality
    pca: Quality | None
    codec: Quality


# Shares of the code for the sound that PCA of each modality by itself is tried with.
AUDIO_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


def pca_qualities(
    train: Mapping[str, Tensor], held_out: Mapping[str, Tensor], sizes: Sequence[int]
) -> list[Quality | None]:
    """Of codes of as many principal components as each of `sizes`; None where there are too few training clips.

    Joint components, and components of picture and sound by themselves in several proportions: of these the one whose
    two PSNR on the held-out clips have the greatest sum, so that the choice favours PCA.
    """
    signals = {name: train[name] for name in ("video", "audio")}
    possible = [size for size in sizes if size < len(signals["video"])]
    if not possible:
        return [None] * len(sizes)
    largest = max(possible)
    joint = ClipPCA.fit(signals, largest)
    apart = ClipPCA.fit(signals, largest, joint=False)
    qualities: list[Quality | None] = []
    for size in sizes:
        if size not in possible:
            qualities.append(None)
            continue
        ways = [joint.keep(range(size))]
        for sound in sorted({round(share * size) for share in AUDIO_SHARES}):
            ways.append(apart.keep([*range(size - sound), *range(largest, largest + sound)]))
        tried = []
        for way in ways:
            decoded = way.decode(way.encode(held_out))
            video, audio = decoded["video"].clamp(0, 1), decoded["audio"].clamp(-1, 1)
            tried.append(
                Quality(
                    video_psnr=float(psnr(video, held_out["video"], VIDEO_PEAK).mean()),
                    audio_psnr=float(psnr(audio, held_out["audio"], AUDIO_PEAK).mean()),
                    code_bytes=size * BYTES_PER_NUMBER,
                )
            )
        qualities.append(max(tried, key=lambda quality: quality.video_psnr + quality.audio_psnr))
    return qualities


def _stream_bytes(path: Path) -> int:
    """Bytes of a file's packets, without the encoder's signature (H.264 SEI units), which tells nothing of the clip."""
    total = 0
    with av.open(str(path)) as container:
        for packet in container.demux():
            data = bytes(packet)
            if packet.stream.type != "video":
                total += len(data)
                continue
            place = 0
            while place < len(data):  # units with 4 bytes of length before each (ISO/IEC 14496-15)
                length = int.from_bytes(data[place : place + 4], "big")
                if data[place + 4] & 0x1F != SEI_UNIT:
                    total += 4 + length
                place += 4 + length
    return total


def _coded_video(folder: Path, clip_format: ClipFormat, video: Tensor, crf: int) -> tuple[Tensor, int]:
    """Frames after H.264 at a constant rate factor, and their bytes."""
    path = folder / "video.mkv"
    frames = video.permute(0, 2, 3, 1).numpy()
    encoding = Encoding(video_options=(("preset", "veryslow"), ("crf", str(crf))))
    rates = {"frame_rate": clip_format.frame_rate, "sample_rate": clip_format.sample_rate}
    write_clip(path, frames, None, encoding=encoding, **rates)  # type: ignore[arg-type]
    return read_clip(path, clip_format).video, _stream_bytes(path)


def _coded_audio(folder: Path, clip_format: ClipFormat, audio: Tensor, bit_rate: int) -> tuple[Tensor, int]:
    """Sound after Opus at a bit rate, and its bytes."""
    path = folder / "audio.mkv"
    encoding = Encoding(audio_codec="libopus", audio_bit_rate=bit_rate)
    rates = {"frame_rate": clip_format.frame_rate, "sample_rate": clip_format.sample_rate}
    write_clip(path, None, audio.numpy(), encoding=encoding, **rates)  # type: ignore[arg-type]
    return read_clip(path, clip_format).audio, _stream_bytes(path)


def codec_quality(held_out: Mapping[str, Tensor], clip_format: ClipFormat, budget: int) -> Quality:
    """Of H.264 and Opus within `budget` bytes a clip.

    Opus takes the highest bit rate that fits into half of the bytes (the lowest if none does), H.264 the finest rate
    factor that fits into what is left (the coarsest if none does): the mean bytes say what it came to.
    """
    video_psnr, audio_psnr, used = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for pixels, audio in zip(held_out["video"], held_out["audio"], strict=True):
            video = (pixels * 255).round().to(torch.uint8)
            sound, sound_bytes = _coded_audio(folder, clip_format, audio, OPUS_RATES[0])
            for rate in OPUS_RATES[1:]:
                finer, finer_bytes = _coded_audio(folder, clip_format, audio, rate)
                if finer_bytes > budget / 2:
                    break
                sound, sound_bytes = finer, finer_bytes
            low, high = 0, 51
            while low < high:
                middle = (low + high) // 2
                if _coded_video(folder, clip_format, video, middle)[1] <= budget - sound_bytes:
                    high = middle
                else:
                    low = middle + 1
            frames, frame_bytes = _coded_video(folder, clip_format, video, low)
            video_psnr.append(float(psnr(frames[None] / 255, video[None] / 255, VIDEO_PEAK)))
            audio_psnr.append(float(psnr(sound[None], audio[None], AUDIO_PEAK)))
            used.append(frame_bytes + sound_bytes)
    return Quality(
        video_psnr=sum(video_psnr) / len(used), audio_psnr=sum(audio_psnr) / len(used), code_bytes=sum(used) / len(used)
    )


def compare(config: CompressionConfig) -> list[Point]:
    """Measure the runs and the two other ways.

    Raises:
        DataError: no runs, runs of different classes or clip formats, unusable data, unwritable output.
    """
    check_comparison(config)
    infos = [load_run(run) for run in config.runs]
    for run, info in zip(config.runs, infos, strict=True):
        if info.model.clip != infos[0].model.clip or info.classes != infos[0].classes:
            raise DataError(f"{run} has other clips or classes than {config.runs[0]}; compare runs of the same data")
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "compression.json").touch()
    except OSError as error:
        raise DataError(f"output folder {out} cannot be written ({error.strerror}); choose another --out") from error
    clip_format, classes = infos[0].model.clip, infos[0].classes
    data = data_folder(config.runs[0], config.data)
    held_out_files = find_files(data, "val", classes).files
    sizes = infos[0].model
    train_clips = load_clips(find_files(data, "train", classes).files, sizes, config.max_windows)
    held_out = load_clips(held_out_files, sizes, config.max_windows)
    stride = max(1, len(held_out["video"]) // config.codec_clips)
    for_codec = {name: clips[::stride][: config.codec_clips] for name, clips in held_out.items()}
    linear = pca_qualities(train_clips, held_out, [info.model.code_values for info in infos])
    points = []
    for run, pca in zip(config.runs, linear, strict=True):
        model, info = load_model(run)
        measures, _ = measure_files(model, info.model, held_out_files, max_windows=config.max_windows)
        summary = summarize(measures, info.model, len(classes))
        budget = info.model.code_values * BYTES_PER_NUMBER
        points.append(
            Point(
                run=run,
                num_latents=info.model.num_latents,
                compression=info.model.compression,
                top1=summary.top1,
                chance=summary.chance,
                perceiver=Quality(
                    video_psnr=summary.measures["video_psnr"],
                    audio_psnr=summary.measures["audio_psnr"],
                    code_bytes=float(budget),
                ),
                pca=pca,
                codec=codec_quality(for_codec, clip_format, budget),
            )
        )
    points.sort(key=lambda point: point.compression)
    (out / "compression.json").write_text(
        json.dumps([asdict(point) for point in points], indent=1) + "\n", encoding="utf-8"
    )
    plot(points, out / "compression.png")
    return points


def plot(points: Sequence[Point], path: Path) -> None:
    """PSNR of picture and sound and top-1 against compression."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    ratios = [point.compression for point in points]
    codec = "H.264 + Opus, as many bytes"
    if any(point.codec.code_bytes > point.perceiver.code_bytes for point in points):
        codec += f" ({min(point.codec.code_bytes for point in points):.0f} at least)"
    for axis, name, title in zip(axes, ("video_psnr", "audio_psnr"), ("video", "audio"), strict=False):
        for label, marker, qualities in (
            ("Perceiver IO", "o-", [point.perceiver for point in points]),
            ("PCA, as many numbers", "s--", [point.pca for point in points]),
            (codec, "^:", [point.codec for point in points]),
        ):
            values = [getattr(quality, name) if quality is not None else math.nan for quality in qualities]
            axis.plot(ratios, values, marker, label=label)
        axis.set(xlabel="compression (numbers in / numbers in code)", ylabel="PSNR in dB", title=title)
    axes[0].legend(fontsize=8)
    axes[2].plot(ratios, [100 * point.top1 for point in points], "o-", label="Perceiver IO, label hidden")
    axes[2].axhline(100 * points[0].chance, color="grey", linestyle=":", label="chance")
    axes[2].set(xlabel="compression (numbers in / numbers in code)", ylabel="top-1 in %", title="label", ylim=(0, 102))
    axes[2].legend(fontsize=8)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xticks(ratios, [f"{ratio:.0f}x" for ratio in ratios])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
