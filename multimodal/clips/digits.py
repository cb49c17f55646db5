"""Moving handwritten digits with spoken names: a small data set of real signals made of what is installed.

The pictures are scikit-learn's 1,797 scanned digits (8 x 8 pixels), enlarged and drifting over the frame; a scan serves
either training or held-out clips, never both. The sound is the digit's name spoken by espeak-ng with a random voice,
speed and pitch, where that program is installed; elsewhere the clips have no sound track.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from sklearn.datasets import load_digits

from multimodal.clips.writing import Encoding, write_clip
from multimodal.common.errors import DataError

CLASSES = tuple(str(digit) for digit in range(10))
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-us+m7", "en-gb+f2")
HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """What to write.

    Attributes:
        max_clips: clips in all; None takes each of the 1,797 scans once.
        seconds, size, frame_rate, sample_rate: length in s, height and width in pixels (even), frames/s, Hz.
        seed: of motion and voices.
    """

    max_clips: int | None = None
    seconds: float = 0.64
    size: int = 64
    frame_rate: float = 12.5
    sample_rate: int = 8_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size is {self.size}; it must be even (4:2:0 video) and at least 16")


def speech_program() -> str | None:
    """Path of espeak-ng, or None where it is not installed."""
    return shutil.which("espeak-ng")


def speak(text: str, program: str, *, voice: str, speed: int, pitch: int, sample_rate: int) -> np.ndarray:
    """float32 `[S]`: `text` in a voice of espeak-ng at `speed` words a minute and `pitch` 0..99, without its pauses."""
    command = [program, "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wave = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate)
    with av.open(io.BytesIO(wave), "r") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    heard = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    return sound[heard[0] : heard[-1] + 1] if len(heard) else sound


def _frames(scan: np.ndarray, chance: np.random.Generator, config: DigitsConfig) -> np.ndarray:
    """uint8 `[T, size, size, 3]`: a scan `[8, 8]` in [0, 1], bilinear at half the frame's size, bouncing off its
    edges.
    """
    num_frames = max(1, round(config.seconds * config.frame_rate))
    side = config.size // 2
    grid = np.clip((np.arange(side) + 0.5) * 8 / side - 0.5, 0, 7)
    low = np.minimum(grid.astype(int), 6)
    share = grid - low
    rows = scan[low] * (1 - share)[:, None] + scan[low + 1] * share[:, None]
    digit = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    ink, paper = chance.uniform(0.6, 1.0, 3), chance.uniform(0.0, 0.3, 3)
    room = config.size - side
    place, speed = chance.uniform(0, room, 2), chance.uniform(-1.0, 1.0, 2) * room
    frames = np.empty((num_frames, config.size, config.size, 3), np.uint8)
    for number in range(num_frames):
        unfolded = (place + speed * number / config.frame_rate) % (2 * room)
        top, left = np.rint(np.minimum(unfolded, 2 * room - unfolded)).astype(int)
        canvas = np.zeros((config.size, config.size))
        canvas[top : top + side, left : left + side] = digit
        frames[number] = np.rint(255 * (paper + canvas[..., None] * (ink - paper)))
    return frames


def _sound(digit: int, program: str, chance: np.random.Generator, config: DigitsConfig) -> np.ndarray:
    """float32 `[S]`: the digit's name, at a random time if it is shorter than the clip."""
    spoken = speak(
        NAMES[digit],
        program,
        voice=VOICES[int(chance.integers(len(VOICES)))],
        speed=int(chance.integers(150, 260)),
        pitch=int(chance.integers(20, 80)),
        sample_rate=config.sample_rate,
    )
    num_frames = max(1, round(config.seconds * config.frame_rate))
    sound = np.zeros(round(num_frames / config.frame_rate * config.sample_rate), np.float32)
    spoken = spoken[: len(sound)]
    first = int(chance.integers(len(sound) - len(spoken) + 1))
    sound[first : first + len(spoken)] = spoken
    return sound


def write_digits(root: str | Path, config: DigitsConfig) -> int:
    """Write `root/{train,val}/<digit>/<scan>.mp4`, spoken where espeak-ng is installed.

    Returns:
        Number of clips.

    Raises:
        DataError: `root` has something in it.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder; write the digits somewhere else or remove it first")
    scans, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(config.seed).permutation(len(scans))[: config.max_clips]
    num_held_out = max(1, round(HELD_OUT * len(order)))
    program = speech_program()
    for split in ("train", "val"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
    for position, scan in enumerate(order):
        chance = np.random.default_rng([config.seed, int(scan)])
        split = "val" if position < num_held_out else "train"
        frames = _frames(scans[scan].reshape(8, 8) / 16, chance, config)
        sound = _sound(int(digits[scan]), program, chance, config) if program is not None else None
        path = root / split / str(digits[scan]) / f"{scan:04d}.mp4"
        write_clip(
            path,
            frames,
            sound,
            frame_rate=config.frame_rate,
            sample_rate=config.sample_rate,
            encoding=Encoding(audio_bit_rate=64_000),
        )
    return len(order)
