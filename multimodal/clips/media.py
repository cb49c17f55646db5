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
import torch
import torchaudio.functional
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

MEDIA_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"})

# Matroska rounds time stamps to a millisecond: a frame that is late by no more than that counts as due.
TIME_TOLERANCE = 1e-3
# Decoders need packets before the window: AAC and MP3 overlap neighbouring blocks, Opus takes 80 ms (RFC 7845).
SOUND_PREROLL = 0.25
# Seeking aims this long before the window, earlier if a container puts us behind it, at last at the beginning.
SEEK_LEADS = (SOUND_PREROLL, 4.0, 30.0)
# A header that claims more than this is damaged or not meant for us: refused before any buffer of its size exists.
MAX_PIXELS = 8192 * 8192
SAMPLE_RATES = range(1_000, 400_000)
# As many channels as FFmpeg's sample converter takes.
MAX_CHANNELS = 64
OPEN_TIMEOUT = 20.0
UNSPECIFIED_COLORSPACE = 2  # of ISO/IEC 23091-2; PyAV's enumeration has no name for it
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
        weights = _settle_layout(audio)
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
            width, height = _shown_size(frame, _pixel_aspect(video))
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


def _pixel_aspect(video: av.VideoStream) -> float:
    """Width of a pixel over its height; 1 where the header says nothing or nonsense."""
    ratio = video.sample_aspect_ratio
    return float(ratio) if ratio and Fraction(1, 8) <= ratio <= 8 else 1.0


def _quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that bring a decoded frame upright."""
    return round(frame.rotation / 90) % 4


def _shown_size(frame: VideoFrame, pixel_aspect: float) -> tuple[int, int]:
    width, height = max(1, round(frame.width * pixel_aspect)), frame.height
    return (height, width) if _quarter_turns(frame) % 2 else (width, height)


def _to_rgb(
    frame: VideoFrame, pixel_aspect: float, short_side: int | None, reformatter: VideoReformatter
) -> np.ndarray:
    """uint8 `[H, W, 3]`, upright, square pixels, shrunk (never enlarged) so that the shorter side is `short_side`."""
    if frame.width * frame.height > MAX_PIXELS:
        raise ValueError(f"a frame of {frame.width} x {frame.height} pixels")
    width, height = max(1, round(frame.width * pixel_aspect)), frame.height
    if short_side is not None and min(width, height) > short_side:
        scale = short_side / min(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    # Untagged video of high-definition size is BT.709 by custom; swscale would take BT.601 for it.
    colorspace = frame.colorspace
    if colorspace == UNSPECIFIED_COLORSPACE:
        colorspace = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    shrinks = width < frame.width or height < frame.height
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=colorspace,
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
        threads=1,
    )
    turns = _quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns)) if turns else rgb.to_ndarray()


class _Picture:
    """Puts the frames of a stream into the slots of a window as they are decoded."""

    def __init__(self, times: np.ndarray, pixel_aspect: float, short_side: int | None, frame_length: float) -> None:
        self.times = times
        self.pixel_aspect = pixel_aspect
        self.short_side = short_side
        self.frame_length = frame_length
        self.slots: list[np.ndarray] = []
        self.stamps: list[float] = []
        self.first_stamp: float | None = None
        # One for all frames of a window: setting up a conversion takes longer than to convert a small frame.
        self._reformatter = VideoReformatter()
        self._shown: VideoFrame | None = None
        self.shown_stamp = -math.inf
        self._shown_rgb: np.ndarray | None = None

    @property
    def complete(self) -> bool:
        """Whether no later frame can change a slot."""
        return len(self.slots) == len(self.times) or self.shown_stamp >= self.times[-1] - TIME_TOLERANCE

    def add(self, frame: VideoFrame, stamp: float) -> None:
        """Take the next frame in order of presentation, shown from `stamp` on."""
        if self.first_stamp is None:
            self.first_stamp = stamp
        if stamp <= self.shown_stamp and self._shown is not None:
            return  # time stands still or runs backwards: only damaged files do
        if self._shown is None:
            self._show(frame, stamp)  # a window that begins before the first frame shows that frame
        self._fill(until=stamp - TIME_TOLERANCE)
        self._show(frame, stamp)

    def finish(self) -> tuple[np.ndarray | None, int]:
        """Frames `[T, H, W, 3]` and how many slots lie before the end of the last frame."""
        if self._shown is None:
            return None, 0
        end = self.shown_stamp + self.frame_length
        covered = max(len(self.slots), int(np.sum(self.times < end - TIME_TOLERANCE)))
        self._fill(until=math.inf)
        shape = self.slots[0].shape
        if any(slot.shape != shape for slot in self.slots):
            raise ValueError("the frame size changes inside the clip")
        return np.stack(self.slots), covered

    def _show(self, frame: VideoFrame, stamp: float) -> None:
        self._shown, self.shown_stamp, self._shown_rgb = frame, stamp, None

    def _fill(self, until: float) -> None:
        while len(self.slots) < len(self.times) and self.times[len(self.slots)] < until:
            if self._shown_rgb is None:
                assert self._shown is not None
                self._shown_rgb = _to_rgb(self._shown, self.pixel_aspect, self.short_side, self._reformatter)
            self.slots.append(self._shown_rgb)
            self.stamps.append(self.shown_stamp)


class _Sound:
    """Collects the decoded sound around a window and lays it out on one sample grid."""

    def __init__(self, sample_rate: int, tick: float, weights: dict[str, np.ndarray]) -> None:
        """`tick` is the container's unit of time in seconds; `weights` are those of known layouts, by their name."""
        self.sample_rate = sample_rate
        # Stamps are rounded to the container's tick; a larger jump is a gap or an overlap in the track.
        self.jump = max(2e-3, 1.01 * tick)
        self._runs: list[_SoundRun] = []
        self._weights = dict(weights)
        self._converter = _packed_floats()

    @property
    def first_stamp(self) -> float | None:
        return self._runs[0].start if self._runs else None

    @property
    def end(self) -> float:
        return self._runs[-1].end if self._runs else -math.inf

    def add(self, frame: av.AudioFrame, stamp: float | None) -> None:
        if frame.sample_rate != self.sample_rate:
            raise ValueError(f"the sample rate changes from {self.sample_rate} to {frame.sample_rate} inside the file")
        samples = self._mono(frame)
        if stamp is None:
            stamp = self._runs[-1].end if self._runs else 0.0
        if not self._runs or abs(stamp - self._runs[-1].end) > self.jump:
            self._runs.append(_SoundRun(self.sample_rate, stamp))
        self._runs[-1].add(samples, stamp)

    def _mono(self, frame: av.AudioFrame) -> np.ndarray:
        """float32 `[S]`, the weighted mean of the channels."""
        layout = frame.layout
        channels = layout.nb_channels
        if not 0 < channels <= MAX_CHANNELS:
            raise ValueError(f"{channels} sound channels; from 1 to {MAX_CHANNELS} can be mixed down")
        weights = self._weights.get(layout.name)
        if weights is None:
            weights = self._weights[layout.name] = _mono_weights([channel.name for channel in layout.channels])
        if frame.format.name == "fltp" and channels < PLANES:
            return weights @ frame.to_ndarray()
        frame.pts = None  # the converter must neither fill gaps nor drop overlaps: the stamps are dealt with here
        try:
            converted = self._converter.resample(frame)
        except ValueError:  # the channel layout changed: the converter is made for one
            self._converter = _packed_floats()
            converted = self._converter.resample(frame)
        parts = [part.to_ndarray().reshape(-1, channels) @ weights for part in converted]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def finish(self, start: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 `[count]` from the sample nearest to `start` on, and bool `[count]`: which of it the track has."""
        sound = np.zeros(count, np.float32)
        present = np.zeros(count, bool)
        for run in self._runs:
            samples = run.samples()
            first = round((run.aligned_start() - start) * self.sample_rate)
            lo, hi = max(0, first), min(count, first + len(samples))
            if lo < hi:
                sound[lo:hi] = samples[lo - first : hi - first]
                present[lo:hi] = True
        if not np.isfinite(sound).all():  # damaged floating-point tracks
            sound = np.nan_to_num(sound, nan=0.0, posinf=1.0, neginf=-1.0)
        return sound, present


# A frame has room for this many planes. PyAV reads planes until one is missing, hence beyond the frame where all are
# used: such sound is read packed, in a single plane.
PLANES = 8


def _packed_floats() -> av.AudioResampler:
    return av.AudioResampler(format="flt")


def _mono_weights(names: list[str]) -> np.ndarray:
    """float32 `[channels]`, sum 1: both fronts alike, centre -3 dB, surrounds -6 dB, no low-frequency effects.

    The proportions of ITU-R BS.775's stereo down-mix, its two channels averaged; stereo becomes the plain mean, and so
    do channels of which FFmpeg knows no place (`names` are its names of the channels).
    """
    if "FL" not in names:
        return np.full(len(names), 1 / len(names), np.float32)
    levels = {"FC": math.sqrt(0.5), "LFE": 0.0, "LFE2": 0.0, "FL": 0.5, "FR": 0.5}
    weights = np.array([levels.get(name, math.sqrt(0.5) / 2) for name in names], np.float32)
    return weights / weights.sum()


def _settle_layout(audio: av.AudioStream) -> dict[str, np.ndarray]:
    """Make the channel layout of a stream safe to read; weights of its channels by the layout's name.

    PyAV copies a layout without the list that one with an order of its own points to, and frees that list with every
    copy: a second free ends the process. So the decoder gets a layout that has only a number of channels, before
    anything else looks at the first.
    """
    context = audio.codec_context
    layout = context.layout
    channels = layout.nb_channels
    if channels <= 0:
        return {}
    context.layout = f"{channels}C"
    weights = _mono_weights([channel.name for channel in layout.channels])
    # Orders of their own are described as "2 channels (FR+FL)".
    if " channels (" in layout.name:
        return {f"{channels} channels": weights}
    context.layout = layout
    return {layout.name: weights}


class _SoundRun:
    """Sound without a gap, placed in time by the median over its stamps, since each is rounded to the file's tick."""

    def __init__(self, sample_rate: int, start: float) -> None:
        self.sample_rate = sample_rate
        self.start = start
        self._parts: list[np.ndarray] = []
        self._length = 0
        self._offsets: list[float] = []

    @property
    def end(self) -> float:
        return self.start + self._length / self.sample_rate

    def add(self, samples: np.ndarray, stamp: float) -> None:
        self._offsets.append(stamp - self.end)
        self._parts.append(samples)
        self._length += len(samples)

    def aligned_start(self) -> float:
        return self.start + float(np.median(self._offsets))

    def samples(self) -> np.ndarray:
        return np.concatenate(self._parts)


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
            picture = _Picture(times, _pixel_aspect(video), short_side, frame_length=1.0 / rate)
        if audio is not None:
            resampling = _Resampling(audio.codec_context.sample_rate, sample_rate)
            tick = float(audio.time_base) if audio.time_base else 0.0
            sound = _Sound(audio.codec_context.sample_rate, tick, tracks.weights)
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


class _Resampling:
    """Change of sample rate for windows: the result at the edges is what resampling the whole track would give."""

    # torchaudio's filter has one phase per output sample of the reduced ratio. The bound keeps odd rates (44,101 Hz)
    # from building gigabytes of filter, for a relative error in rate of less than 3e-7.
    MAX_PHASES = 2000
    # Taps each side at the lower of the two rates, above torchaudio's default width of 6 zero crossings.
    TAPS = 16

    def __init__(self, source_rate: int, target_rate: int) -> None:
        self.source_rate = source_rate
        ratio = Fraction(target_rate, source_rate).limit_denominator(self.MAX_PHASES)
        self.up, self.down = ratio.numerator, ratio.denominator
        needed = math.ceil(self.TAPS * max(1.0, source_rate / target_rate))
        # Whole periods of the ratio, so that the margin ends on a sample of both grids.
        self.margin_periods = math.ceil(needed / self.down)
        self.margin_seconds = self.margin_periods * self.down / source_rate

    def window(self, sound: _Sound, start: float, count: int) -> tuple[np.ndarray, float]:
        """float32 `[count]` at the target rate from `start` on, and the share of it that the track has."""
        margin = self.margin_periods * self.down
        inside = math.ceil(count * self.down / self.up)
        source, present = sound.finish(start - margin / self.source_rate, inside + 2 * margin)
        covered = float(present[margin : margin + inside].mean())
        if self.up == self.down:
            return source[margin : margin + count], covered
        resampled = torchaudio.functional.resample(torch.from_numpy(source), self.down, self.up).numpy()
        skip = self.margin_periods * self.up
        return np.ascontiguousarray(resampled[skip : skip + count]), covered
