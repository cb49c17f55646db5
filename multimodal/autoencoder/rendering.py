"""A media file of any length through a trained autoencoder, window by window, into a file of the same length."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from multimodal.autoencoder.commands import ReconstructConfig, check_reconstruction
from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.autoencoder.runs import load_model
from multimodal.clips.clip import ClipFormat, check_long_enough, decoding_short_side, evaluation_transform
from multimodal.clips.loader import ClipBatch
from multimodal.clips.media import MediaInfo, probe, read_window
from multimodal.clips.writing import ClipWriter, Encoding, check_writable
from multimodal.common.errors import DataError
from multimodal.common.report import spectrogram_figure
from perceiver_core.folding import fold_for_inference
from perceiver_core.model import PerceiverIO

SPECTROGRAM_SECONDS = 60.0  # longer ones show nothing that can be seen
# The rates that AAC knows (ISO/IEC 14496-3, sampling frequency index).
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
DECODED = ("video", "audio", "label")


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
            result = reconstruct(
                self.model, self.sizes, batch.to(device), hide=self.hide, ask=DECODED, decoder=self.decoder
            )
            self._sum += result["label"].double().softmax(dim=1).sum(dim=0).cpu()
            self._windows += len(batch)
            for row in range(len(batch)):
                video = video_fade.add(result["video"][row].permute(0, 2, 3, 1).cpu().numpy())
                audio = audio_fade.add(result["audio"][row].cpu().numpy())
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


def _write_spectrogram(path: str, media: MediaInfo, heard: np.ndarray, clip: ClipFormat) -> None:
    """Spectrograms of as much of the file as was reconstructed in `heard`."""
    heard = heard[: round(SPECTROGRAM_SECONDS * clip.sample_rate)]
    original = read_window(
        media.path,
        start=0.0,
        num_frames=max(1, round(len(heard) / clip.samples_per_frame)),
        frame_rate=clip.frame_rate,
        sample_rate=clip.sample_rate,
        short_side=decoding_short_side(clip),
    ).sound
    figure = spectrogram_figure(np.zeros_like(heard) if original is None else original, heard, clip.sample_rate)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(config: ReconstructConfig) -> list[tuple[str, float]]:
    """Reconstruct a file.

    Returns:
        Class names and probabilities, likeliest first.

    Raises:
        DataError: no run, an output that cannot be written, a file without the modality that is to be shown.
        UnreadableMedia: the file cannot be read or is too short.
    """
    check_reconstruction(config)
    out = Path(config.out)
    try:
        check_writable(out)
        if config.spectrogram is not None:
            check_writable(config.spectrogram)
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
    sound_alone = out.suffix.lower() == ".wav"
    if not sound_alone and clip.sample_rate not in AAC_RATES:
        raise DataError(f"the model's {clip.sample_rate} Hz cannot be stored as AAC; train at one of {AAC_RATES} Hz")
    model = model.to(config.device)
    hide = ["video"] if config.from_audio_only else ["audio"] if config.from_video_only else []
    work = Reconstructor(model, info.model, len(info.classes), hide)
    width = clip.width * (2 if config.side_by_side else 1)
    # 4:2:0 needs even sizes; odd ones are kept exactly in 4:4:4.
    encoding = Encoding(
        pixel_format="yuv420p" if width % 2 == 0 and clip.height % 2 == 0 else "yuv444p",
        audio_codec="pcm_s16le" if sound_alone else "aac",
    )
    heard: list[np.ndarray] = []
    with ClipWriter(
        out,
        width=width,
        height=clip.height,
        frame_rate=None if sound_alone else clip.frame_rate,
        sample_rate=clip.sample_rate,
        encoding=encoding,
    ) as writer:
        sections = work.sections(media, config.batch_size)
        for section in track(
            sections, total=num_windows(media, clip), description="windows", console=Console(stderr=True)
        ):
            if not sound_alone:
                pictures = (section.original, section.video) if config.side_by_side else (section.video,)
                writer.write_frames(np.concatenate(pictures, axis=2))
            writer.write_sound(section.audio)
            if config.spectrogram is not None and sum(map(len, heard)) < SPECTROGRAM_SECONDS * clip.sample_rate:
                heard.append(section.audio)
    if config.spectrogram is not None:
        _write_spectrogram(config.spectrogram, media, np.concatenate(heard), clip)
    order = torch.argsort(work.probabilities, descending=True)
    return [(info.classes[int(number)], float(work.probabilities[number])) for number in order]
