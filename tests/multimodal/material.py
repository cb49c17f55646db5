"""Clips whose every frame and instant can be told: frames carry their number in stripes, the sound is a chirp."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from multimodal.autoencoder.settings import Loss, LossTerm
from multimodal.clips.writing import Encoding, write_clip

FAST_H264 = (("preset", "ultrafast"), ("crf", "10"))
STRIPES = 8


def numbered_frames(numbers: np.ndarray, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 `[T, height, width, 3]`: eight stripes are the bits of each number."""
    bits = (numbers[:, None] >> np.arange(STRIPES)) & 1
    row = np.repeat(bits * 255, width // STRIPES, axis=1).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[:, None, :, None], (len(numbers), height, width, 3)))


def read_numbers(frames: np.ndarray) -> np.ndarray:
    """The numbers of frames `[T, H, W, 3]`, whatever their size."""
    height, width = frames.shape[1:3]
    centres = ((np.arange(STRIPES) + 0.5) * width / STRIPES).astype(int)
    bits = frames[:, height // 2, centres].mean(axis=2) > 128
    return (bits << np.arange(STRIPES)).sum(axis=1)


def chirp(times: np.ndarray) -> np.ndarray:
    """Sound at `times` (s); its pitch tells the time."""
    return (0.5 * np.sin(2 * np.pi * (200 * times + 100 * times**2))).astype(np.float32)


def write_numbered(
    path: Path,
    *,
    num_frames: int = 50,
    frame_rate: float = 25.0,
    sample_rate: int = 48_000,
    encoding: Encoding | None = None,
    picture: bool = True,
    sound: bool = True,
) -> Path:
    """A file with frame `i` numbered `i` and the chirp."""
    samples = round(num_frames / frame_rate * sample_rate)
    write_clip(
        path,
        numbered_frames(np.arange(num_frames)) if picture else None,
        chirp(np.arange(samples) / sample_rate) if sound else None,
        frame_rate=frame_rate,
        sample_rate=sample_rate,
        encoding=encoding or Encoding(video_options=FAST_H264),
    )
    return path


def lag_in_seconds(sound: np.ndarray, start: float, sample_rate: int, reach: float = 0.02) -> float:
    """How much later than it should the chirp sounds in a window that begins at `start`."""
    times = start + np.arange(len(sound)) / sample_rate
    shifts = np.arange(-reach, reach, 0.25e-3)
    scores = [float(np.dot(chirp(times - shift), sound)) for shift in shifts]
    return float(shifts[int(np.argmax(scores))])


def replace_box(path: Path, trail: tuple[bytes, ...], content: bytes) -> None:
    """Give the last box of a trail (`b"moov", b"trak", ...`) of a QuickTime or MP4 file other contents of any length.

    The boxes after it must not be referred to by their place; FFmpeg writes `moov` last.
    """
    data = bytearray(path.read_bytes())
    starts, place = [], 0
    for name in trail:
        place = data.index(name, place)
        starts.append(place - 4)
    (size,) = struct.unpack_from(">I", data, starts[-1])
    data[starts[-1] + 8 : starts[-1] + size] = content
    for start in starts:
        (old,) = struct.unpack_from(">I", data, start)
        struct.pack_into(">I", data, start, old + len(content) + 8 - size)
    path.write_bytes(data)


def channel_layout(labels: list[int]) -> bytes:
    """Contents of a `chan` box that names each channel (1 left, 2 right, 3 centre, ...)."""
    descriptions = b"".join(struct.pack(">II3f", label, 0, 0.0, 0.0, 0.0) for label in labels)
    return struct.pack(">IIII", 0, 0, 0, len(labels)) + descriptions


def training_processes(run: Path) -> set[int]:
    """Processes that hold the lock of a run folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            handles = [os.readlink(handle) for handle in (entry / "fd").iterdir()]
        except OSError:  # ended, or another user's
            continue
        if str(run / "lock") in handles:
            found.add(int(entry.name))
    return found


def with_queries(loss: Loss, **queries: int) -> dict[str, LossTerm]:
    """A loss that asks for other numbers of outputs."""
    return {name: replace(term, queries=queries[name]) if name in queries else term for name, term in loss.items()}
