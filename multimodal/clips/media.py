"""Exact reading of picture and sound from media files with PyAV.

Time is the file's presentation time in seconds, with zero at the first instant of the earliest stream. `read_window`
returns the picture a player would show at each asked-for instant (the latest frame whose time stamp has come, so that
variable frame rates need no special case) and the sound of the same instants.

Of several pictures or sounds the one marked as default is taken, else the first. A picture that is a single frame, a
still, is shown as long as the sound lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame

from multimodal.clips.picture import MAX_PIXELS, TIME_TOLERANCE, Picture, pixel_aspect, shown_size
from multimodal.clips.sound import MAX_CHANNELS, Resampling, Sound, settle_layout

# Files that folders are searched for: containers with moving pictures.
MEDIA_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".gif", ".ts", ".mts", ".m2ts", ".flv", ".f4v"}
    | {".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".ogv"}
)

# Decoders need packets before the window: AAC and MP3 overlap neighbouring blocks, Opus takes 80 ms (RFC 7845).
SOUND_PREROLL = 0.25
# Seeking aims this long before the window, then earlier if no key frame lies there; at last all is read.
SEEK_LEADS = (SOUND_PREROLL, 4.0, 30.0)
# Packets in which a picture may begin, its signature and first key frame included.
PRIMING_PACKETS = 16
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
        duration: seconds from the first instant to the end of the picture, or of the sound where there is no picture or
            only a still.
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
        frames_covered: how many slots lie before the end of the last frame (of a still: of the sound); the rest repeats
            that frame.
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


AnyStream = TypeVar("AnyStream", av.VideoStream, av.AudioStream)


@dataclass(frozen=True)
class _Tracks:
    """The picture and the sound that are read, at least one of them, and the mixing weights of the sound's layout.

    To be used while the container is open: PyAV reads memory of a closed one without asking.
    """

    video: av.VideoStream | None
    audio: av.AudioStream | None
    weights: dict[str, np.ndarray]
    format: str

    @property
    def streams(self) -> list[av.VideoStream | av.AudioStream]:
        return [stream for stream in (self.video, self.audio) if stream is not None]

    @property
    def guide(self) -> av.VideoStream | av.AudioStream:
        """The stream that says where in the file a time is: the picture, where there is one."""
        return self.streams[0]

    @cached_property
    def origin(self) -> float:
        """The file's first instant on its own clock, in seconds."""
        starts = [_seconds(stream.start_time, stream.time_base) for stream in self.streams]
        return min((start for start in starts if start is not None), default=0.0)

    @property
    def unaligned(self) -> bool:
        """Whether packets may begin in the middle of a frame, and only some bear a time stamp."""
        return self.format in ("mpegts", "mpeg")

    @property
    def counted(self) -> bool:
        """Whether the times of frames follow from their number only.

        AVI stores no times of presentation. FFmpeg reckons them for codecs whose frames are at most one place out of
        order, and gives those of other codecs the times of decoding.
        """
        return self.format == "avi" and self.video is not None and self.video.codec_context.name in ("h264", "hevc")

    @property
    def channels(self) -> int | None:
        """Sound channels that the header names."""
        return len(next(iter(self.weights.values()))) if self.weights else None


def _preferred(streams: Iterable[AnyStream]) -> AnyStream | None:
    """The stream that is marked as default, else the first."""
    candidates = list(streams)
    marked = [stream for stream in candidates if stream.disposition & Disposition.default]
    return next(iter(marked or candidates), None)


def _tracks(container: av.container.InputContainer, path: str | Path) -> _Tracks:
    """The picture and sound to read, of those that can be decoded (cover images are no picture)."""
    pictures = (
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and stream.codec_context.width > 0
        and stream.codec_context.height > 0
        and not stream.disposition & Disposition.attached_pic
    )
    video = _preferred(pictures)
    audio = _preferred(stream for stream in container.streams.audio if stream.codec_context is not None)
    if video is not None and video.codec_context.width * video.codec_context.height > MAX_PIXELS:
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
    tracks = _Tracks(video, audio, weights, container.format.name)
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


def _last_packet_end(path: str | Path, kind: str) -> float:
    """End of the last packet of the "video" or the "audio", for files whose headers do not say.

    The whole file is read, not decoded.
    """
    with _open(path) as container:
        tracks = _tracks(container, path)
        end = 0.0
        for packet in _packets(container, [stream for stream in tracks.streams if stream.type == kind]):
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


def _packets(container: av.container.InputContainer, streams: Sequence[Any]) -> Iterator[av.Packet]:
    """Packets of the streams.

    Raises:
        OSError: a stream appeared in the middle of the file: PyAV lists those of the beginning, and fails.
    """
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            raise OSError("a stream begins in the middle of the file") from None
        if packet is None:
            return
        yield packet


def _end(stream: av.VideoStream | av.AudioStream) -> float | None:
    """When a stream ends by its header, in seconds on the container's clock."""
    return _seconds((stream.start_time or 0) + stream.duration if stream.duration else None, stream.time_base)


def _first_frame(container: av.container.InputContainer, video: av.VideoStream) -> tuple[VideoFrame | None, bool]:
    """The first frame that can be decoded, and whether the picture has no other."""
    first, packets = None, 0
    for packet in _packets(container, [video]):
        packets += packet.size > 0
        if first is None:
            first = next(iter(_decode(packet)), None)
        if first is not None and packets > 1:
            break
    return first, packets == 1


def probe(path: str | Path) -> MediaInfo:
    """Read the headers of `path`.

    Raises:
        UnreadableMedia: the file is missing, damaged, not a media file, or has neither picture nor sound.
    """
    with _open(path) as container:
        tracks = _tracks(container, path)
        video, audio = tracks.video, tracks.audio
        end = _end(tracks.guide)
        if end is None and container.duration:
            end = float(Fraction(container.duration, av.time_base)) + (container.start_time or 0) / av.time_base
        width = height = frame_rate = None
        if video is not None:
            # Rotation stands in the display matrix, which PyAV shows on decoded frames only.
            frame, still = _first_frame(container, video)
            if frame is None:
                raise UnreadableMedia(path, "not one frame of the picture can be decoded")
            width, height = shown_size(frame, pixel_aspect(video))
            frame_rate = float(video.average_rate) if video.average_rate else None
            if still and audio is not None:
                sound_end = _end(audio) or _last_packet_end(path, "audio")
                end = max(end or sound_end, sound_end)
        sample_rate = audio.codec_context.sample_rate if audio is not None else None
        if end is None:
            end = _last_packet_end(path, tracks.guide.type)
        duration = end - tracks.origin
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
    request = _Request(start, num_frames, frame_rate, sample_rate, short_side)
    window = _read_sought(path, request) if start > SEEK_LEADS[0] else None
    return window if window is not None else _read_from_beginning(path, request)


@dataclass(frozen=True)
class _Request:
    """The arguments of `read_window`."""

    start: float
    num_frames: int
    frame_rate: float
    sample_rate: int
    short_side: int | None


def _read_from_beginning(path: str | Path, request: _Request) -> Window:
    with _open(path) as container:
        reading = _Reading(container, _tracks(container, path), request, sought=False)
        reading.run()
        window = reading.window()
    if window is None:
        raise UnreadableMedia(path, "not one frame of the picture can be decoded")
    return window


def _read_sought(path: str | Path, request: _Request) -> Window | None:
    """The window read from shortly before it, or None where only reading from the beginning gives it."""
    with _open(path) as container:
        tracks = _tracks(container, path)
        if tracks.counted:
            return None
        _prime(container, tracks.video)
        time_base = tracks.guide.time_base
        if time_base is None:
            return None
        for lead in SEEK_LEADS:
            if request.start <= lead:
                break
            target = tracks.origin + request.start - lead
            try:
                container.seek(int(target / time_base), stream=tracks.guide, backward=True)
            except av.FFmpegError:  # formats and damaged files in which nothing can be sought
                break
            reading = _Reading(container, tracks, request, sought=True)
            if reading.run():
                return reading.window()
    return None


def _prime(container: av.container.InputContainer, video: av.VideoStream | None) -> None:
    """Show the decoder the beginning of the picture, as every later picture presumes.

    Encoders sign there, and decoders do as the signature demands: x264 before its build 151 coded 4:4:4 in a way of its
    own, DivX and Xvid had errors to be imitated. Demuxers give the palette of a file with its first packet only.
    Seeking does not make the decoder forget it.
    """
    if video is None:
        return
    for packet in islice(_packets(container, [video]), PRIMING_PACKETS):
        _decode(packet)
        if packet.is_keyframe:
            return


class _Reading:
    """Reads packets from where a container stands and decodes what a window needs of them."""

    def __init__(
        self, container: av.container.InputContainer, tracks: _Tracks, request: _Request, *, sought: bool
    ) -> None:
        """`sought`: the container does not stand at its beginning."""
        self.container = container
        self.tracks = tracks
        self.request = request
        self.sought = sought
        self.opening = tracks.origin + request.start
        self.closing = self.opening + request.num_frames / request.frame_rate
        self.picture: Picture | None = None
        self.sound: Sound | None = None
        self.sound_margin = 0.0
        if tracks.video is not None:
            rate = float(tracks.video.average_rate) if tracks.video.average_rate else 25.0
            times = self.opening + np.arange(request.num_frames) / request.frame_rate
            self.picture = Picture(times, pixel_aspect(tracks.video), request.short_side, frame_length=1.0 / rate)
        if tracks.audio is not None:
            source_rate = tracks.audio.codec_context.sample_rate
            self.resampling = Resampling(source_rate, request.sample_rate)
            self.sound_margin = self.resampling.margin_seconds
            tick = float(tracks.audio.time_base) if tracks.audio.time_base else 0.0
            self.sound = Sound(source_rate, tick, tracks.weights)
        # After seeking, decoding begins with a key frame.
        self._decodes = not sought
        self._whole = {stream.index: 0 for stream in tracks.streams}
        self._picture_packets = 0

    def run(self) -> bool:
        """Decode up to the window's end; False if a sought place proves to lie too late for the window."""
        video_base = self.tracks.video.time_base if self.tracks.video is not None else None
        audio_base = self.tracks.audio.time_base if self.tracks.audio is not None else None
        for packet in _packets(self.container, self.tracks.streams):
            picture_done = self.picture is None or self.picture.complete
            sound_done = self.sound is None or self.sound.end >= self.closing + self.sound_margin
            if picture_done and sound_done:
                break
            is_video = packet.stream is self.tracks.video
            time_base = video_base if is_video else audio_base
            time = _seconds(packet.pts if packet.pts is not None else packet.dts, time_base)
            if time is not None and time > self.closing + INTERLEAVING:
                break
            if self.sought and self.tracks.unaligned and not self._is_whole(packet):
                continue
            if is_video and not picture_done:
                if not self._add_picture(packet, time, time_base):
                    return False
            elif not is_video and not sound_done:
                self._add_sound(packet, time, time_base)
        if not self.sought:
            return True
        picture_found = self.picture is None or self.picture.first_stamp is not None
        return picture_found and (
            self.sound is None
            or (self.sound.first_stamp is not None and self.sound.first_stamp <= self.opening - self.sound_margin)
        )

    def _is_whole(self, packet: av.Packet) -> bool:
        """Whether a packet of an unaligned format bears its own time: from the second on whose place is known.

        The first may be the rest of a frame that began before, under the time stamp of the next, from which the times
        of those after it are reckoned.
        """
        if packet.pos is not None:
            self._whole[packet.stream.index] += 1
        return self._whole[packet.stream.index] > 1

    def _add_picture(self, packet: av.Packet, time: float | None, time_base: Fraction | None) -> bool:
        """Decode a packet of the picture; False if the picture begins too late."""
        picture = self.picture
        assert picture is not None
        self._picture_packets += packet.size > 0
        late = self.opening + TIME_TOLERANCE
        if not self._decodes:
            if not packet.is_keyframe:
                return time is None or time <= late
            self._decodes = True
        for frame in _decode(packet):
            stamp = self._stamp(frame, time_base)
            if self.sought and picture.first_stamp is None:
                if stamp is None or stamp > late:
                    return False
                # Containers may call any packet a key frame, the decoder knows better. What it gives out before one
                # refers to frames that it has not seen.
                if not frame.key_frame:
                    continue
            picture.add(frame, stamp if stamp is not None else 0.0)
        return True

    def _stamp(self, frame: VideoFrame, time_base: Fraction | None) -> float | None:
        """When a frame begins to be shown, in seconds on the container's clock."""
        assert self.picture is not None
        if self.tracks.counted:
            assert self.tracks.video is not None
            return _seconds((self.tracks.video.start_time or 0) + self.picture.taken, time_base)
        stamp = _seconds(frame.pts if frame.pts is not None else frame.dts, time_base)
        if stamp is None and math.isfinite(self.picture.shown_stamp):
            return self.picture.shown_stamp + self.picture.frame_length
        return stamp

    def _add_sound(self, packet: av.Packet, time: float | None, time_base: Fraction | None) -> None:
        assert self.sound is not None
        if time is not None and time < self.opening - self.sound_margin - SOUND_PREROLL:
            return
        for frame in _decode(packet):
            self.sound.add(frame, _seconds(frame.pts, time_base))

    def _is_still(self) -> bool:
        """Whether the picture is a single frame: no other was stored from the beginning to well after the window."""
        if self.picture is None or self.picture.first_stamp is None or self._picture_packets != 1:
            return False
        assert self.tracks.video is not None
        start = _seconds(self.tracks.video.start_time, self.tracks.video.time_base)
        return not self.sought or (start is not None and self.picture.first_stamp <= start + TIME_TOLERANCE)

    def window(self) -> Window | None:
        """What was read; None if not one frame of the picture could be decoded."""
        frames, frames_covered = self.picture.finish() if self.picture is not None else (None, 0)
        if self.picture is not None and frames is None:
            return None
        samples, sound_covered = None, 0.0
        if self.sound is not None:
            count = round(self.request.num_frames * self.request.sample_rate / self.request.frame_rate)
            samples, sound_covered = self.resampling.window(self.sound, self.opening, count)
            if self._is_still():
                frames_covered = max(frames_covered, round(sound_covered * self.request.num_frames))
        return Window(
            frames=frames,
            sound=samples,
            frame_times=np.asarray(self.picture.stamps if self.picture is not None else []) - self.tracks.origin,
            frames_covered=frames_covered,
            sound_covered=sound_covered,
        )


def _decode(packet: av.Packet) -> list:
    """Frames of a packet; a packet that cannot be decoded gives none (its time shows the frame before, or silence)."""
    try:
        return list(packet.decode())
    except av.FFmpegError:
        return []
