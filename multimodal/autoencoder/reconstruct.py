"""Send a video of any length through a trained autoencoder: `perceiver-reconstruct RUN clip.mp4 --out out.mp4`.

The file is cut into windows of the model's length that overlap by a quarter; neighbours are cross-faded there, picture
and sound with the same weights at the same instants. The output has the model's picture size, frame rate and sample
rate, and the file's length. The label is predicted from all windows together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track

from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.autoencoder.runs import load_model
from multimodal.clips.clip import ClipFormat, check_long_enough, decoding_short_side, evaluation_transform
from multimodal.clips.loader import ClipBatch
from multimodal.clips.media import MediaInfo, UnreadableMedia, probe, read_window
from multimodal.clips.writing import ClipWriter, Encoding, check_writable
from multimodal.common.errors import DataError
from perceiver_agents import answer_version
from perceiver_agents.paths import make_absolute
from perceiver_core.folding import fold_for_inference
from perceiver_core.model import PerceiverIO

OUTPUT_SUFFIXES = {".mp4", ".mkv", ".mov", ".m4v"}
# The rates that AAC knows (ISO/IEC 14496-3, sampling frequency index).
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """What to reconstruct.

    Attributes:
        run: run folder of a training.
        clip: media file of any length and kind.
        out: output file (.mp4, .mkv, .mov).
        side_by_side: the original's picture, brought to the model's format, left of the reconstruction.
        from_audio_only: hide the picture from the model.
        from_video_only: hide the sound from the model.
        batch_size: windows decoded at once.
        device: "cpu" or "cuda".
    """

    run: Annotated[str, tyro.conf.Positional]
    clip: Annotated[str, tyro.conf.Positional]
    out: str
    side_by_side: bool = False
    from_audio_only: bool = False
    from_video_only: bool = False
    batch_size: int = 4
    device: str = "cpu"

    def __post_init__(self) -> None:
        make_absolute(self, "run", "clip", "out")
        if self.from_audio_only and self.from_video_only:
            raise ValueError("--from-audio-only and --from-video-only hide everything together; give one of them")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A finished stretch of the output.

    Attributes:
        original, video: uint8 `[T, H, W, 3]`, the input in the model's format and its reconstruction.
        audio: float32 `[S]`, reconstructed.
    """

    original: np.ndarray
    video: np.ndarray
    audio: np.ndarray


def overlap_frames(clip_format: ClipFormat) -> int:
    """Frames that neighbouring windows share."""
    return clip_format.num_frames // 4


def num_windows(info: MediaInfo, clip_format: ClipFormat) -> int:
    """Windows that cover a file."""
    hop = clip_format.num_frames - overlap_frames(clip_format)
    frames = total_frames(info, clip_format)
    return max(1, math.ceil((frames - overlap_frames(clip_format)) / hop))


def total_frames(info: MediaInfo, clip_format: ClipFormat) -> int:
    """Frames of the output."""
    return max(1, round(info.duration * clip_format.frame_rate))


def read_batches(info: MediaInfo, clip_format: ClipFormat, batch_size: int) -> Iterator[ClipBatch]:
    """Overlapping windows from the beginning of a file to its end; the last one holds its last frame."""
    transform = evaluation_transform(clip_format)
    hop = clip_format.num_frames - overlap_frames(clip_format)
    count = num_windows(info, clip_format)
    per_frame = clip_format.samples_per_frame
    for first in range(0, count, batch_size):
        size = min(batch_size, count - first)
        stretch = read_window(
            info.path,
            start=first * hop / clip_format.frame_rate,
            num_frames=(size - 1) * hop + clip_format.num_frames,
            frame_rate=clip_format.frame_rate,
            sample_rate=clip_format.sample_rate,
            short_side=decoding_short_side(clip_format),
        )
        starts = [number * hop for number in range(size)]
        if stretch.frames is not None:
            frames = transform(torch.from_numpy(stretch.frames).permute(0, 3, 1, 2))
            video = torch.stack([frames[start : start + clip_format.num_frames] for start in starts])
        else:
            shape = (size, clip_format.num_frames, 3, clip_format.height, clip_format.width)
            video = torch.zeros(shape, dtype=torch.uint8)
        if stretch.sound is not None:
            sound = torch.from_numpy(stretch.sound).clamp(-1, 1)
            samples = clip_format.num_samples
            audio = torch.stack([sound[start * per_frame : start * per_frame + samples] for start in starts])
        else:
            audio = torch.zeros(size, clip_format.num_samples)
        yield ClipBatch(
            video=video,
            audio=audio,
            label=torch.zeros(size, dtype=torch.int64),
            has_video=torch.full((size,), stretch.frames is not None),
            has_audio=torch.full((size,), stretch.sound is not None),
            has_label=torch.zeros(size, dtype=torch.bool),
            index=torch.zeros(size, dtype=torch.int64),
            start=torch.tensor([(first * hop + start) / clip_format.frame_rate for start in starts]),
        )


class CrossFade:
    """Joins overlapping stretches of a signal: linear weights over the overlap, time along the first axis."""

    def __init__(self, overlap: int) -> None:
        self.overlap = overlap
        self._tail: np.ndarray | None = None

    def add(self, window: np.ndarray) -> np.ndarray:
        """What is final after another window, float."""
        window = window.astype(np.float32)
        if self._tail is not None and self.overlap:
            rise = (np.arange(self.overlap, dtype=np.float32) + 0.5) / self.overlap
            rise = rise.reshape(-1, *[1] * (window.ndim - 1))
            window[: self.overlap] = (1 - rise) * self._tail + rise * window[: self.overlap]
        ready = len(window) - self.overlap
        self._tail = window[ready:]
        return window[:ready]

    def end(self) -> np.ndarray | None:
        """The rest after the last window."""
        return self._tail


class Reconstructor:
    """Reconstructs a file section by section; `probabilities` holds the label's distribution so far."""

    def __init__(
        self, model: PerceiverIO, sizes: AutoencoderConfig, num_classes: int, hide: Collection[str] = ()
    ) -> None:
        """`hide` names modalities not to show to the model besides the label."""
        self.model = model
        self.decoder = fold_for_inference(model)
        self.sizes = sizes
        self.hide = {"label", *hide}
        self._sum = torch.zeros(num_classes, dtype=torch.float64)
        self._windows = 0

    @property
    def probabilities(self) -> torch.Tensor:
        """Mean over the windows, `[K]`."""
        return self._sum / max(1, self._windows)

    def sections(self, info: MediaInfo, batch_size: int) -> Iterator[Section]:
        """Picture and sound of `info`'s file from its beginning to its end."""
        clip = self.sizes.clip
        device = next(self.model.parameters()).device
        overlap = overlap_frames(clip)
        hop = clip.num_frames - overlap
        video_fade, audio_fade = CrossFade(overlap), CrossFade(overlap * clip.samples_per_frame)
        frames_left = total_frames(info, clip)
        original_tail = np.zeros(0)
        for batch in read_batches(info, clip, batch_size):
            result = reconstruct(self.model, self.sizes, batch.to(device), hide=self.hide, decoder=self.decoder)
            assert result.video is not None and result.audio is not None and result.logits is not None
            self._sum += result.logits.double().softmax(dim=1).sum(dim=0).cpu()
            self._windows += len(batch)
            for row in range(len(batch)):
                video = video_fade.add(result.video[row].permute(0, 2, 3, 1).cpu().numpy())
                audio = audio_fade.add(result.audio[row].cpu().numpy())
                original = batch.video[row].permute(0, 2, 3, 1).numpy()
                original_tail = original[hop:]
                yield self._section(original[:hop], video, audio, frames_left)
                frames_left = max(0, frames_left - hop)
        video_end, audio_end = video_fade.end(), audio_fade.end()
        if frames_left and video_end is not None and audio_end is not None:
            yield self._section(original_tail, video_end, audio_end, frames_left)

    def _section(self, original: np.ndarray, video: np.ndarray, audio: np.ndarray, frames_left: int) -> Section:
        keep = min(len(video), frames_left)
        pixels = np.rint(np.clip(video[:keep], 0, 1) * 255).astype(np.uint8)
        return Section(original=original[:keep], video=pixels, audio=audio[: keep * self.sizes.clip.samples_per_frame])


def run(config: ReconstructConfig) -> list[tuple[str, float]]:
    """Reconstruct a file.

    Returns:
        Class names and probabilities, likeliest first.

    Raises:
        DataError: no run, an output that cannot be written, a file without the modality that is to be shown.
        UnreadableMedia: the file cannot be read or is too short.
    """
    out = Path(config.out)
    if out.suffix.lower() not in OUTPUT_SUFFIXES:
        raise DataError(f"output {out} must end in one of {', '.join(sorted(OUTPUT_SUFFIXES))}")
    try:
        check_writable(out)
    except ValueError as error:
        raise DataError(str(error)) from error
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise DataError(f"--device {config.device}: PyTorch finds no GPU on this machine; leave --device out")
    model, info = load_model(config.run)
    clip = info.model.clip
    media = probe(config.clip)
    check_long_enough(media, clip)
    if config.from_audio_only and not media.has_audio:
        raise DataError(f"{config.clip} has no sound track, so nothing can be made from its sound alone")
    if config.from_video_only and not media.has_video:
        raise DataError(f"{config.clip} has no picture, so nothing can be made from its picture alone")
    if clip.sample_rate not in AAC_RATES:
        raise DataError(f"the model's {clip.sample_rate} Hz cannot be stored as AAC; train at one of {AAC_RATES} Hz")
    model = model.to(config.device)
    hide = ["video"] if config.from_audio_only else ["audio"] if config.from_video_only else []
    work = Reconstructor(model, info.model, len(info.classes), hide)
    width = clip.width * (2 if config.side_by_side else 1)
    # 4:2:0 needs even sizes; odd ones are kept exactly in 4:4:4.
    encoding = Encoding(pixel_format="yuv420p" if width % 2 == 0 and clip.height % 2 == 0 else "yuv444p")
    with ClipWriter(
        out,
        width=width,
        height=clip.height,
        frame_rate=clip.frame_rate,
        sample_rate=clip.sample_rate,
        encoding=encoding,
    ) as writer:
        sections = work.sections(media, config.batch_size)
        for section in track(
            sections, total=num_windows(media, clip), description="windows", console=Console(stderr=True)
        ):
            pictures = (section.original, section.video) if config.side_by_side else (section.video,)
            writer.write_frames(np.concatenate(pictures, axis=2))
            writer.write_sound(section.audio)
    order = torch.argsort(work.probabilities, descending=True)
    return [(info.classes[int(number)], float(work.probabilities[number])) for number in order]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-reconstruct`."""
    answer_version("perceiver-reconstruct", arguments)
    try:
        config = tyro.cli(ReconstructConfig, prog="perceiver-reconstruct", description=__doc__, args=arguments)
        ranking = run(config)
    except (DataError, UnreadableMedia, ValueError) as error:
        sys.exit(f"error: {error}")
    console = Console()
    console.print(f"wrote {config.out}")
    for name, probability in ranking[:5]:
        console.print(f"  {probability:6.1%}  {name}")


if __name__ == "__main__":
    main()
