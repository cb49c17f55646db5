"""Clips of one fixed format cut out of media files: what the autoencoder takes.

Rules for files that do not fill a clip:

- A file without a sound track gives silence with `has_audio` False; without a picture, black with `has_video` False.
  The model masks that modality at its input and no loss or metric counts it.
- A picture of a single frame (a still, as of music with a photograph) is shown as long as the sound lasts.
- A file shorter than the clip is extended: the last frame is held and the sound is silent. A file shorter than half
  the clip (`MIN_COVERED`) is too short and counts as unreadable; so does one whose contents end there, whatever its
  header says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from multimodal.clips.media import SAMPLE_RATES, MediaInfo, UnreadableMedia, Window, read_window
from multimodal.clips.settings import Augmentation

MIN_COVERED = 0.5


@dataclass(frozen=True, kw_only=True)
class ClipFormat:
    """Shape and rates of a clip.

    Attributes:
        num_frames: frames in a clip.
        frame_rate: frames per second.
        height, width: pixels.
        sample_rate: sound samples per second, a whole multiple of `frame_rate` (each frame has as many samples).
    """

    num_frames: int
    frame_rate: float
    height: int
    width: int
    sample_rate: int

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a clip needs at least 1")
        if not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise ValueError(f"frame_rate is {self.frame_rate}; it must be a positive number of frames per second")
        if self.sample_rate not in SAMPLE_RATES:
            raise ValueError(
                f"sample_rate is {self.sample_rate} Hz; it must be from {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1}"
            )
        per_frame = self.sample_rate / self.frame_rate
        if abs(per_frame - round(per_frame)) > 1e-6:
            nearest = round(round(per_frame) * self.frame_rate)
            raise ValueError(
                f"sample_rate {self.sample_rate} Hz gives {per_frame:g} samples a frame at {self.frame_rate:g} "
                f"frames/s; "
                f"it must be a whole number: take e.g. {nearest} Hz (files are resampled whatever their rate)"
            )

    @property
    def samples_per_frame(self) -> int:
        return round(self.sample_rate / self.frame_rate)

    @property
    def num_samples(self) -> int:
        return self.num_frames * self.samples_per_frame

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.frame_rate

    @property
    def values(self) -> int:
        """Numbers in a clip: pixels x 3 + sound samples."""
        return self.num_frames * self.height * self.width * 3 + self.num_samples


def decoding_short_side(clip_format: ClipFormat, min_area: float = 1.0) -> int:
    """Shorter side, in pixels, to which frames may be shrunk while decoding so that no crop needs enlarging."""
    return math.ceil(max(clip_format.height, clip_format.width) / math.sqrt(min_area))


def evaluation_transform(clip_format: ClipFormat) -> v2.Transform:
    """The largest central crop of the clip's shape, resized to it; same for all frames. uint8 `[T, 3, H, W]`."""
    return _CentralCrop(clip_format.height, clip_format.width)


def training_transform(clip_format: ClipFormat, augmentation: Augmentation) -> v2.Transform:
    """One random crop, mirror image and colour change for all frames of a clip. uint8 `[T, 3, H, W]`."""
    steps: list[v2.Transform] = [_RandomCrop(clip_format.height, clip_format.width, augmentation.min_area)]
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.jitter:
        strength = augmentation.jitter
        steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    return v2.Compose(steps)


def _largest_crop(height: int, width: int, out_height: int, out_width: int) -> tuple[float, float]:
    """Height and width of the largest rectangle of the output's shape in a frame."""
    scale = min(height / out_height, width / out_width)
    return out_height * scale, out_width * scale


def _cut(frames: Tensor, top: int, left: int, height: int, width: int, out: tuple[int, int]) -> Tensor:
    if (height, width) == out:
        return v2.functional.crop(frames, top, left, height, width)
    return v2.functional.resized_crop(frames, top, left, height, width, list(out), antialias=True)


class _CentralCrop(v2.Transform):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.out = (height, width)

    def forward(self, frames: Tensor) -> Tensor:  # type: ignore[override]
        full_height, full_width = frames.shape[-2:]
        height, width = (max(1, round(side)) for side in _largest_crop(full_height, full_width, *self.out))
        return _cut(frames, (full_height - height) // 2, (full_width - width) // 2, height, width, self.out)


class _RandomCrop(v2.Transform):
    def __init__(self, height: int, width: int, min_area: float) -> None:
        super().__init__()
        self.out = (height, width)
        self.min_area = min_area

    def forward(self, frames: Tensor) -> Tensor:  # type: ignore[override]
        full_height, full_width = frames.shape[-2:]
        area, down, right = torch.rand(3).tolist()
        scale = math.sqrt(self.min_area + (1 - self.min_area) * area)
        largest = _largest_crop(full_height, full_width, *self.out)
        height, width = (max(1, round(side * scale)) for side in largest)
        top, left = round((full_height - height) * down), round((full_width - width) * right)
        return _cut(frames, top, left, height, width, self.out)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip.

    Attributes:
        video: uint8 `[T, 3, H, W]`.
        audio: float32 `[S]` in [-1, 1].
        has_video, has_audio: whether the file has that modality at this time.
        start: seconds into the file.
    """

    video: Tensor
    audio: Tensor
    has_video: bool
    has_audio: bool
    start: float


def check_long_enough(info: MediaInfo, clip_format: ClipFormat) -> None:
    """Refuse a file that cannot fill half a clip.

    Raises:
        UnreadableMedia: the file is too short.
    """
    if info.duration < MIN_COVERED * clip_format.duration:
        raise UnreadableMedia(
            info.path,
            f"lasts {info.duration:.3f} s, too short for clips of {clip_format.duration:.3f} s (at least half "
            f"is needed)",
        )


def num_starts(duration: float, clip_format: ClipFormat) -> int:
    """How many clip starts, one frame apart, a file of `duration` seconds has; 1 if it is not longer than a clip."""
    return max(0, math.floor((duration - clip_format.duration) * clip_format.frame_rate + 1e-6)) + 1


def read_clip(
    path: str | Path,
    clip_format: ClipFormat,
    start_frame: int = 0,
    transform: v2.Transform | None = None,
    short_side: int | None = None,
) -> Clip:
    """The clip that begins at `start_frame / frame_rate` seconds.

    Args:
        path: a media file.
        clip_format: format of the result, whatever the file has.
        start_frame: beginning, in frames of the clip's rate.
        transform: picture transform to the clip's size; by default the central crop.
        short_side: see `decoding_short_side`, the default.

    Raises:
        UnreadableMedia: damaged file, or less than half of the clip is there.
    """
    window = read_window(
        path,
        start=start_frame / clip_format.frame_rate,
        num_frames=clip_format.num_frames,
        frame_rate=clip_format.frame_rate,
        sample_rate=clip_format.sample_rate,
        short_side=short_side or decoding_short_side(clip_format),
    )
    return clip_from_window(path, window, clip_format, start_frame, transform)


def clip_from_window(
    path: str | Path, window: Window, clip_format: ClipFormat, start_frame: int, transform: v2.Transform | None = None
) -> Clip:
    """Bring a window of `clip_format`'s length and rates to its size, by the rules above.

    Raises:
        UnreadableMedia: less than half of the clip is there.
    """
    start = start_frame / clip_format.frame_rate
    has_video, has_audio = window.frames is not None, window.sound is not None and window.sound_covered > 0
    covered = window.frames_covered / clip_format.num_frames if has_video else window.sound_covered
    if covered < MIN_COVERED:
        raise UnreadableMedia(
            path, f"has only {covered:.0%} of the clip of {clip_format.duration:.3f} s at {start:.3f} s"
        )
    if window.frames is not None:
        frames = torch.from_numpy(window.frames).permute(0, 3, 1, 2)
        video = (transform or evaluation_transform(clip_format))(frames).contiguous()
    else:
        video = torch.zeros(clip_format.num_frames, 3, clip_format.height, clip_format.width, dtype=torch.uint8)
    sound = window.sound if window.sound is not None else np.zeros(clip_format.num_samples, np.float32)
    audio = torch.from_numpy(sound).clamp(-1.0, 1.0)
    return Clip(video=video, audio=audio, has_video=has_video, has_audio=has_audio, start=start)
