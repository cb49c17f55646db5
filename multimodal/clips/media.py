"""Exact reading of picture and sound from media files with PyAV.

Time is the file's presentation time in seconds, with zero at the first instant of the earliest stream. `read_window`
returns the picture a player would show at each asked-for instant (the latest frame whose time stamp has come, so that
variable frame rates need no special case) and the sound of the same instants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from multimodal.clips.picture import MAX_PIXELS, TIME_TOLERANCE, Picture, pixel_aspect, shown_size
from multimodal.clips.sound import MAX_CHANNELS, Resampling, Sound, settle_layout

MEDIA_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"})

# Decoders need packets before the window: AAC and MP3 overlap neighbouring blocks, Opus takes 80 ms (RFC 7845).
SOUND_PREROLL = 0.25
# Seeking aims this long before the window, earlier if a container puts us behind it, at last at the beginning.
SEEK_LEADS = (SOUND_PREROLL, 4.0, 30.0)
# A header that claims other rates is damaged or not meant for us.
SAMPLE_RATES = range(1_000, 400_000)
OPEN_TIMEOUT = 20.0
# How long to search, after the window, for packets of a stream that is stored late (badly interleaved files).
INTERLEAVING = 10.0


class UnreadableMedia(Exception):
    """A file that cannot give the asked-for clip: damaged, of an unknown kind, or without the asked-for time."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What the headers of a file say.

    Attributes:
        duration: seconds from the first instant to the end of the picture (of the sound where there is no picture).
        width, height: pixels as shown, after rotation metadata and pixel aspect ratio; None without a picture.
        frame_rate: mean frames per second; None without a picture or where the file does not say.
        sample_rate: sound samples per second; None without sound.
        channels: sound channels; None without sound.
    """

    path: str
    duration: float
    width: int | None
    height: int | None
    frame_rate: float | None
    sample_rate: int | None
    channels: int | None

    @property
    def has_video(self) -> bool:
        return self.width is not None

    @property
    def has_audio(self) -> bool:
        return self.sample_rate is not None


@dataclass(frozen=True, kw_only=True)
class Window:
    """Picture and sound of one stretch of time.

    Attributes:
        frames: uint8 `[T, H, W, 3]` RGB, or None if the file has no picture.
        sound: float32 `[S]` mono in [-1, 1], or None if the file has no sound; 0 where the sound track has a gap.
        frame_times: float64 `[T]`, the time stamp of the frame in each slot, in seconds; empty without a picture.
        frames_covered: how many slots lie before the end of the last frame; the rest repeats that frame.
        sound_covered: share of the samples that the sound track has.
    """

    frames: np.ndarray | None
    sound: np.ndarray | None
    frame_times: np.ndarray
    frames_covered: int
    sound_covered: float


@contextmanager
def _open(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a file for reading; every way in which FFmpeg or PyAV refuses it becomes `UnreadableMedia`."""
    try:
        with av.open(str(path), timeout=OPEN_TIMEOUT, metadata_errors="replace") as container:
            yield container
    except UnreadableMedia:
        raise
    except FileNotFoundError as error:
        raise UnreadableMedia(path, "no such file") from error
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableMedia(path, f"cannot be decoded ({reason})") from error


@dataclass(frozen=True)
class _Tracks:
    """The picture and the sound that are read, at least one of them, and the mixing weights of the sound's layout."""

    video: av.VideoStream | None
    audio: av.AudioStream | None
    weights: dict[str, np.ndarray]

    @property
    def channels(self) -> int | None:
        """Sound channels that the header names."""
        return len(next(iter(self.weights.values()))) if self.weights else None


def _tracks(container: av.container.InputContainer, path: str | Path) -> _Tracks:
    """The first picture and sound stream that can be decoded (cover images are no picture)."""
    video = None
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic:
            video = stream
            break
    audio = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
    if video is not None:
        if video.codec_context.width <= 0 or video.codec_context.height <= 0:
            video = None
        elif video.codec_context.width * video.codec_context.height > MAX_PIXELS:
            size = f"{video.codec_context.width} x {video.codec_context.height}"
            raise UnreadableMedia(path, f"the header claims frames of {size} pixels")
    weights = {}
    if audio is not None:
        weights = settle_layout(audio)
        rate = audio.codec_context.sample_rate
        if rate not in SAMPLE_RATES and rate > 0:
            raise UnreadableMedia(path, f"the header claims {rate} sound samples a second")
        if rate <= 0 or not weights:
            audio, weights = None, {}
    if video is None and audio is None:
        raise UnreadableMedia(path, "has neither a picture nor a sound track that can be decoded")
    tracks = _Tracks(video, audio, weights)
    if (tracks.channels or 0) > MAX_CHANNELS:
        raise UnreadableMedia(path, f"has {tracks.channels} sound channels; at most {MAX_CHANNELS} can be mixed down")
    for present in (video, audio):
        if present is not None:
            # Parallelism comes from the loader's processes; threads of the decoder would only compete with them.
            present.codec_context.thread_count = 1
    return tracks


def _seconds(value: int | None, time_base: Fraction | None) -> float | None:
    # Products of Fractions cost more than decoding a small packet does.
    return None if value is None or time_base is None else value * time_base.numerator / time_base.denominator


def _origin(*streams: av.VideoStream | av.AudioStream | None) -> float:
    """The file's first instant on its own clock, in seconds."""
    starts = [_seconds(stream.start_time, stream.time_base) for stream in streams if stream is not None]
    return min((start for start in starts if start is not None), default=0.0)


def _last_packet_end(path: str | Path, video: bool) -> float:
    """End of the last packet, by reading the whole file without decoding: for files whose headers give no duration."""
    with _open(path) as container:
        stream = container.streams.video[0] if video else container.streams.audio[0]
        end = 0.0
        for packet in container.demux(stream):
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


def probe(path: str | Path) -> MediaInfo:
    """Read the headers of `path`.

    Raises:
        UnreadableMedia: the file is missing, damaged, not a media file, or has neither picture nor sound.
    """
    with _open(path) as container:
        tracks = _tracks(container, path)
        video, audio = tracks.video, tracks.audio
        origin = _origin(video, audio)
        stream = video if video is not None else audio
        assert stream is not None
        end = _seconds((stream.start_time or 0) + stream.duration if stream.duration else None, stream.time_base)
        if end is None and container.duration:
            end = float(Fraction(container.duration, av.time_base)) + (container.start_time or 0) / av.time_base
        width = height = frame_rate = None
        if video is not None:
            # Rotation stands in the display matrix, which PyAV shows on decoded frames only.
            frame = next(iter(container.decode(video)), None)
            if frame is None:
                raise UnreadableMedia(path, "not one frame of the picture can be decoded")
            width, height = shown_size(frame, pixel_aspect(video))
            frame_rate = float(video.average_rate) if video.average_rate else None
        sample_rate = audio.codec_context.sample_rate if audio is not None else None
    if end is None:
        end = _last_packet_end(path, video is not None)
    duration = end - origin
    if not (math.isfinite(duration) and duration > 0):
        raise UnreadableMedia(path, f"has no duration (the file says {duration:g} s)")
    return MediaInfo(
        path=str(path),
        duration=duration,
        width=width,
        height=height,
        frame_rate=frame_rate,
        sample_rate=sample_rate,
        channels=tracks.channels,
    )


def read_window(
    path: str | Path,
    *,
    start: float,
    num_frames: int,
    frame_rate: float,
    sample_rate: int,
    short_side: int | None = None,
) -> Window:
    """Picture at `start + i / frame_rate` for i < `num_frames`, and the sound of these `num_frames / frame_rate` s.

    Args:
        start: seconds after the file's first instant.
        num_frames: frames to return.
        frame_rate: frames per second to return, whatever the file has.
        sample_rate: sound samples per second to return, whatever the file has.
        short_side: shrink frames so that the shorter side has this many pixels; smaller frames stay as they are.

    Raises:
        UnreadableMedia: damaged file, or nothing in it at the asked-for time.
    """
    for lead in (*SEEK_LEADS, None):
        window = _read_from(path, lead, start, num_frames, frame_rate, sample_rate, short_side)
        if window is not None:
            return window
    raise AssertionError("reading from the beginning always gives a window or raises")


def _read_from(
    path: str | Path,
    lead: float | None,
    start: float,
    num_frames: int,
    frame_rate: float,
    sample_rate: int,
    short_side: int | None,
) -> Window | None:
    """`read_window` from one seek, `lead` s ahead (None: from the beginning). Returns None if it led behind `start`."""
    with _open(path) as container:
        tracks = _tracks(container, path)
        video, audio = tracks.video, tracks.audio
        origin = _origin(video, audio)
        opening = origin + start
        closing = opening + num_frames / frame_rate
        from_beginning = lead is None or start <= lead
        if not from_beginning:
            assert lead is not None
            guide = video if video is not None else audio
            assert guide is not None and guide.time_base is not None
            container.seek(int((opening - lead) / guide.time_base), stream=guide, backward=True)

        picture = sound = None
        resampling = None
        if video is not None:
            rate = float(video.average_rate) if video.average_rate else 25.0
            times = opening + np.arange(num_frames) / frame_rate
            picture = Picture(times, pixel_aspect(video), short_side, frame_length=1.0 / rate)
        if audio is not None:
            resampling = Resampling(audio.codec_context.sample_rate, sample_rate)
            tick = float(audio.time_base) if audio.time_base else 0.0
            sound = Sound(audio.codec_context.sample_rate, tick, tracks.weights)
        sound_margin = resampling.margin_seconds if resampling is not None else 0.0

        wanted = [stream for stream in (video, audio) if stream is not None]
        video_base = video.time_base if video is not None else None
        audio_base = audio.time_base if audio is not None else None
        for packet in container.demux(wanted):
            picture_done = picture is None or picture.complete
            sound_done = sound is None or sound.end >= closing + sound_margin
            if picture_done and sound_done:
                break
            is_video = packet.stream is video
            time_base = video_base if is_video else audio_base
            time = _seconds(packet.pts if packet.pts is not None else packet.dts, time_base)
            if time is not None and time > closing + INTERLEAVING:
                break
            if is_video and not picture_done:
                assert picture is not None
                for frame in _decode(packet):
                    picture.add(frame, _stamp(frame, time_base, picture.shown_stamp, picture.frame_length))
                if not from_beginning and (picture.first_stamp or -math.inf) > opening + TIME_TOLERANCE:
                    return None
            elif not is_video and not sound_done:
                assert sound is not None
                if time is not None and time < opening - sound_margin - SOUND_PREROLL:
                    continue
                for frame in _decode(packet):
                    sound.add(frame, _seconds(frame.pts, time_base))
        if not from_beginning and (picture is None or picture.first_stamp is None) and video is not None:
            return None
        if not from_beginning and sound is not None and (sound.first_stamp or math.inf) > opening - sound_margin:
            return None

        frames, frames_covered = picture.finish() if picture is not None else (None, 0)
        if picture is not None and frames is None:
            raise UnreadableMedia(path, "not one frame of the picture can be decoded")
        samples, sound_covered = None, 0.0
        if sound is not None and resampling is not None:
            count = round(num_frames * sample_rate / frame_rate)
            samples, sound_covered = resampling.window(sound, opening, count)
        return Window(
            frames=frames,
            sound=samples,
            frame_times=np.asarray(picture.stamps if picture is not None else []) - origin,
            frames_covered=frames_covered,
            sound_covered=sound_covered,
        )


def _decode(packet: av.Packet) -> list:
    """Frames of a packet; a packet that cannot be decoded gives none (its time shows the frame before, or silence)."""
    try:
        return list(packet.decode())
    except av.FFmpegError:
        return []


def _stamp(frame: VideoFrame, time_base: Fraction | None, previous: float, frame_length: float) -> float:
    stamp = _seconds(frame.pts if frame.pts is not None else frame.dts, time_base)
    if stamp is not None:
        return stamp
    return previous + frame_length if math.isfinite(previous) else 0.0
