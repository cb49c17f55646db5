"""Writing pictures and sound to media files with PyAV."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How to store a clip. The container follows the file name's suffix.

    Attributes:
        video_codec: FFmpeg encoder name ("libx264", "libvpx-vp9", "mpeg4", ...).
        video_options: encoder options by FFmpeg name.
        pixel_format: FFmpeg pixel format.
        audio_codec: FFmpeg encoder name ("aac", "libopus", "libmp3lame", "pcm_s16le", ...).
        audio_bit_rate: bits per second; None takes the encoder's default.
        layout: channel layout of the stored sound; mono sound is copied to all its channels.
    """

    video_codec: str = "libx264"
    video_options: tuple[tuple[str, str], ...] = (("preset", "veryfast"), ("crf", "18"))
    pixel_format: str = "yuv420p"
    audio_codec: str = "aac"
    audio_bit_rate: int | None = None
    layout: str = "mono"


def check_writable(path: str | Path) -> None:
    """Refuse an output path that cannot be written, before any work.

    Raises:
        ValueError: the folder is missing or not writable, or a folder stands where the file should go.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"output {path} is a folder; give a file name, e.g. {path / 'out.mp4'}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder of output {path} does not exist; create it with: mkdir -p {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"output {path} cannot be written ({error.strerror}); choose --out in a folder you own"
        ) from error


class ClipWriter:
    """Streams frames and sound into one file; the file appears under its name only when it is complete.

    Use as a context manager. An exception inside leaves no file behind.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        frame_rate: float | None,
        sample_rate: int | None,
        encoding: Encoding | None = None,
    ) -> None:
        """`frame_rate` None writes no picture, `sample_rate` None no sound. Pixel sizes must be even for 4:2:0."""
        self.path = Path(path)
        self.encoding = encoding if encoding is not None else Encoding()
        # The temporary name keeps the suffix: FFmpeg takes the container from it.
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}.partial{self.path.suffix}")
        self._container = av.open(str(self._partial), "w")
        try:
            self._video = self._add_video(width, height, frame_rate) if frame_rate is not None else None
            self._audio = self._add_audio(sample_rate) if sample_rate is not None else None
        except BaseException:
            self._abandon()
            raise
        self._sample_rate = sample_rate
        self._next_frame = 0
        self._next_sample = 0

    def _add_video(self, width: int, height: int, frame_rate: float) -> av.VideoStream:
        self._frame_rate = Fraction(frame_rate).limit_denominator(60_000)
        stream = self._container.add_stream(
            self.encoding.video_codec, rate=self._frame_rate, options=dict(self.encoding.video_options)
        )
        assert isinstance(stream, av.VideoStream), f"{self.encoding.video_codec} is no video encoder"
        stream.width, stream.height, stream.pix_fmt = width, height, self.encoding.pixel_format
        stream.codec_context.colorspace = Colorspace.ITU601.value
        stream.codec_context.color_range = ColorRange.MPEG.value
        stream.codec_context.thread_count = 1
        return stream

    def _add_audio(self, sample_rate: int) -> av.AudioStream:
        stream = self._container.add_stream(self.encoding.audio_codec, rate=sample_rate)
        assert isinstance(stream, av.AudioStream), f"{self.encoding.audio_codec} is no audio encoder"
        stream.layout = self.encoding.layout
        if self.encoding.audio_bit_rate is not None:
            stream.bit_rate = self.encoding.audio_bit_rate
        return stream

    def write_frames(self, frames: np.ndarray) -> None:
        """Append uint8 `[T, H, W, 3]` RGB frames."""
        assert self._video is not None, "the writer was made without a picture"
        for rgb in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(
                format=self.encoding.pixel_format,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base = self._next_frame, 1 / self._frame_rate
            self._next_frame += 1
            self._container.mux(self._video.encode(frame))

    def write_sound(self, sound: np.ndarray) -> None:
        """Append float `[S]` mono sound in [-1, 1]."""
        assert self._audio is not None and self._sample_rate is not None, "the writer was made without sound"
        if len(sound) == 0:
            return
        channels = self._audio.layout.nb_channels
        # Packed: of eight channels or more PyAV takes no planes.
        block = np.repeat(np.clip(sound, -1.0, 1.0).astype(np.float32), channels)[None]
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=self.encoding.layout)
        frame.sample_rate = self._sample_rate
        frame.pts, frame.time_base = self._next_sample, Fraction(1, self._sample_rate)
        self._next_sample += len(sound)
        self._container.mux(self._audio.encode(frame))

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            for stream in (self._video, self._audio):
                if stream is not None:
                    self._container.mux(stream.encode(None))
            self._container.close()
            os.replace(self._partial, self.path)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        # FFmpeg may refuse to close a file it could not begin; the half-written file goes either way.
        try:
            self._container.close()
        except (av.FFmpegError, ValueError):
            pass
        finally:
            self._partial.unlink(missing_ok=True)


def write_clip(
    path: str | Path,
    frames: np.ndarray | None,
    sound: np.ndarray | None,
    *,
    frame_rate: float,
    sample_rate: int,
    encoding: Encoding | None = None,
) -> None:
    """Write uint8 `[T, H, W, 3]` frames and float `[S]` mono sound as one file; None leaves that track out."""
    height, width = frames.shape[1:3] if frames is not None else (0, 0)
    with ClipWriter(
        path,
        width=width,
        height=height,
        frame_rate=frame_rate if frames is not None else None,
        sample_rate=sample_rate if sound is not None else None,
        encoding=encoding,
    ) as writer:
        if frames is None:
            writer.write_sound(sound if sound is not None else np.zeros(0))
            return
        # Picture and sound in turn, a second at a time, so that the file is interleaved.
        block = max(1, round(frame_rate))
        for first in range(0, len(frames), block):
            writer.write_frames(frames[first : first + block])
            if sound is not None:
                lo = round(first / frame_rate * sample_rate)
                last = first + block >= len(frames)
                hi = len(sound) if last else round((first + block) / frame_rate * sample_rate)
                writer.write_sound(sound[lo:hi])
