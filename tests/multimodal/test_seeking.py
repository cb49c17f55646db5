"""A window that was sought shows what decoding from the beginning shows, bit for bit: for every codec and container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from multimodal.clips import media
from multimodal.clips.media import read_window
from tests.multimodal.material import chirp, lag_in_seconds, numbered_frames, read_numbers

RATE = 25
HEIGHT, WIDTH = 64, 96


def moving_texture(count: int, seed: int = 0) -> np.ndarray:
    """uint8 `[count, 64, 96, 3]`: coloured squares that pass by, and one of noise that wanders."""
    chance = np.random.default_rng(seed)
    colours = chance.integers(0, 256, ((HEIGHT + 40) // 8 + 1, (WIDTH + count) // 8 + 2, 3)).astype(np.uint8)
    scene = np.kron(colours, np.ones((8, 8, 1), np.uint8))
    frames = []
    for number in range(count):
        frame = scene[2 * number % 40 :, number:][:HEIGHT, :WIDTH].copy()
        top, left = 3 * number % (HEIGHT - 16), 5 * number % (WIDTH - 16)
        frame[top : top + 16, left : left + 16] = chance.integers(0, 256, (16, 16, 3))
        frames.append(frame)
    return np.stack(frames)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How a file is made: FFmpeg's names of encoder, its options, its pixel format and the sound's encoder."""

    codec: str
    options: str = "g=10"
    pixels: str = "yuv420p"
    sound: str | None = None
    frames: int = 60

    def write(self, path: Path, frames: np.ndarray | None = None) -> Path:
        frames = moving_texture(self.frames) if frames is None else frames
        options = dict(option.split("=", 1) for option in self.options.split(",") if option)
        with av.open(str(path), "w") as container:
            video = container.add_stream(self.codec, rate=RATE, options=options)
            assert isinstance(video, av.VideoStream)
            video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], self.pixels
            video.codec_context.thread_count = 1
            audio = None
            if self.sound is not None:
                audio = container.add_stream(self.sound, rate=48_000)
                assert isinstance(audio, av.AudioStream)
                audio.layout, audio.bit_rate = "mono", 64_000
            for number, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                frame = frame.reformat(format=self.pixels, threads=1)
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(video.encode(frame))
                if audio is not None and number % RATE == 0:
                    first = number * 48_000 // RATE
                    block = chirp(np.arange(first, first + 48_000) / 48_000)[None]
                    sound = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
                    sound.sample_rate, sound.pts, sound.time_base = 48_000, first, Fraction(1, 48_000)
                    container.mux(audio.encode(sound))
            container.mux(video.encode(None))
            if audio is not None:
                container.mux(audio.encode(None))
        return path


def x264(parameters: str = "", options: str = "g=10", **other: str | int) -> Stream:
    return Stream(
        codec="libx264",
        options=f"{options},x264-params={parameters}" if parameters else options,
        **other,  # type: ignore[arg-type]
    )


X264, OPEN_GOP = x264(options="g=10,bf=3"), x264("open-gop=1:scenecut=0:bframes=3")
REFRESH = x264("intra-refresh=1")
X265 = Stream(codec="libx265", options="x265-params=keyint=10:min-keyint=10:open-gop=1:bframes=4:log-level=none")
VP9 = Stream(codec="libvpx-vp9", options="g=10,cpu-used=5,deadline=good,lag-in-frames=8,auto-alt-ref=1")
AV1 = Stream(codec="libsvtav1", options="g=10,preset=12")
MPEG4, QPEL = Stream(codec="mpeg4", options="g=10,bf=2"), Stream(codec="mpeg4", options="g=10,flags=+qpel+mv4")
MPEG2 = Stream(codec="mpeg2video", options="g=12,bf=2")
RGB = "rgb24"
FILES: dict[str, Stream] = {
    # H.264 in the containers that people have it in.
    "h264.mp4": x264(options="g=10,bf=3", sound="aac"),
    "h264.mkv": x264(options="g=10,bf=3", sound="libopus"),
    "h264.mov": x264(options="g=10,bf=3", sound="pcm_s16le"),
    "h264.ts": x264(options="g=10,bf=3", sound="aac", frames=160),
    "h264.flv": x264(options="g=10,bf=3", sound="aac"),
    "h264.avi": x264(options="g=10,bf=3", sound="libmp3lame"),
    "h264-one-key-frame.mp4": x264(options="g=250,bf=2"),
    "h264-open-gop.mp4": OPEN_GOP,
    "h264-open-gop.ts": OPEN_GOP,
    "h264-open-gop.avi": OPEN_GOP,
    "h264-pyramid.mkv": x264("b-pyramid=strict:bframes=8:ref=8:scenecut=0:b-adapt=0", frames=80),
    "h264-intra-refresh.mp4": REFRESH,
    "h264-intra-refresh.ts": REFRESH,
    "h264-interlaced.mp4": x264("interlaced=1:tff=1"),
    "h264-4-4-4.mp4": x264(options="g=10,bf=2", pixels="yuv444p"),
    "h264-lossless.mp4": x264(options="g=10,qp=0", pixels="yuv444p"),
    "h265-open-gop.mp4": X265,
    "h265-open-gop.ts": X265,
    "vp8.webm": Stream(codec="libvpx", options="g=10,cpu-used=8,deadline=realtime", sound="libopus"),
    "vp9.webm": VP9,
    "vp9.mp4": VP9,
    "av1.webm": AV1,
    "av1.mp4": AV1,
    "mpeg4.mp4": MPEG4,
    "mpeg4.avi": Stream(codec="mpeg4", options="g=10,bf=2", sound="libmp3lame"),
    "mpeg4.ts": Stream(codec="mpeg4", options="g=10,bf=2", frames=160),
    "mpeg4.mpg": MPEG4,
    "mpeg4-qpel.avi": QPEL,
    "mpeg4-qpel.mpg": QPEL,
    "mpeg2.ts": Stream(codec="mpeg2video", options="g=12,bf=2", sound="mp2", frames=160),
    "mpeg2.mpg": Stream(codec="mpeg2video", options="g=12,bf=2", frames=160),
    "mpeg2.mkv": MPEG2,
    "mpeg1.mpg": Stream(codec="mpeg1video", options="g=12,bf=2"),
    "flv1.flv": Stream(codec="flv"),
    "h263.avi": Stream(codec="h263p"),
    "wmv1.wmv": Stream(codec="wmv1", sound="wmav2"),
    "wmv2.wmv": Stream(codec="wmv2", sound="wmav2"),
    "msmpeg4.avi": Stream(codec="msmpeg4"),
    "gif.gif": Stream(codec="gif", options="", pixels="rgb8"),
    "apng.apng": Stream(codec="apng", options="", pixels=RGB),
    "cinepak.avi": Stream(codec="cinepak", pixels=RGB),
    "cinepak.mov": Stream(codec="cinepak", pixels=RGB),
    "msvideo1.avi": Stream(codec="msvideo1", pixels="rgb555le"),
    "rpza.mov": Stream(codec="rpza", pixels="rgb555le"),
    "qtrle.mov": Stream(codec="qtrle", pixels=RGB),
    "svq1.mov": Stream(codec="svq1", pixels="yuv410p"),
    "flashsv.flv": Stream(codec="flashsv", pixels="bgr24"),
    "snow.mkv": Stream(codec="snow"),
    "rv20.rm": Stream(codec="rv20"),
    "ffv1.mkv": Stream(codec="ffv1"),
    "mjpeg.avi": Stream(codec="mjpeg", options="", pixels="yuvj420p"),
    "png.mov": Stream(codec="png", options="", pixels=RGB),
    "huffyuv.avi": Stream(codec="huffyuv", options="", pixels="yuv422p"),
    "raw.avi": Stream(codec="rawvideo", options=""),
    "raw.nut": Stream(codec="rawvideo", options=""),
}


def check_law(path: Path, frames: int, step: int = 9) -> np.ndarray:
    """Compare windows that begin at every `step`-th half frame; the whole picture, two slots a frame."""
    slots = 2 * frames
    whole = read_window(path, start=0.0, num_frames=slots, frame_rate=2 * RATE, sample_rate=8_000)
    assert whole.frames is not None
    for first in range(0, slots - 4, step):
        window = read_window(path, start=first / (2 * RATE), num_frames=4, frame_rate=2 * RATE, sample_rate=8_000)
        assert window.frames is not None
        np.testing.assert_allclose(window.frame_times, whole.frame_times[first : first + 4], atol=1e-9)
        differing = (window.frames != whole.frames[first : first + 4]).any(axis=(1, 2, 3))
        assert not differing.any(), f"slots {first + np.flatnonzero(differing)} differ from sequential decoding"
        if whole.sound is not None:
            assert window.sound is not None
            # Lossy codecs carry on what they decoded before, and stamps are rounded to a millisecond: sound is the
            # same to the ear, not to the bit.
            start = first / (2 * RATE)
            lag = lag_in_seconds(whole.sound[first * 160 : first * 160 + len(window.sound)], start, 8_000)
            assert abs(lag_in_seconds(window.sound, start, 8_000) - lag) <= 0.5e-3
    return whole.frames


@pytest.mark.parametrize("name", FILES)
def test_a_sought_window_is_the_sequentially_decoded_one(tmp_path: Path, name: str) -> None:
    stream = FILES[name]
    path = stream.write(tmp_path / name)
    shown = check_law(path, stream.frames, step=9 if stream.frames <= 60 else 23)
    # The last slots may lie before a picture that is stamped late.
    assert len(np.unique(shown.reshape(len(shown), -1), axis=0)) >= stream.frames - 2, "frames are missing"


def note_of_an_old_encoder(tmp_path: Path) -> Path:
    """H.264 in 4:4:4 whose pictures depend on the encoder's note, which stands before the first of them only.

    x264 coded 4:4:4 in a way of its own before its build 151, and decoders follow the build that the note names. A note
    that names an old one is false here, yet some pictures decode by it without an error, to other pixels.
    """
    stream = Stream(
        codec="libx264", options="g=10,crf=10,x264-params=bframes=0:scenecut=0", pixels="yuv444p", frames=30
    )
    path = tmp_path / "note.mp4"
    for seed in range(60):
        stream.write(path, moving_texture(stream.frames, seed))
        true, _ = decoded(path)
        data = path.read_bytes()
        place = data.index(b"x264 - core ") + len(b"x264 - core ")
        path.write_bytes(data[:place] + b"142" + data[place + 3 :])
        by_note, errors = decoded(path)
        differing = [number for number in range(stream.frames) if not np.array_equal(true[number], by_note[number])]
        if not errors and differing and differing[-1] >= 20:
            return path
    raise AssertionError("no file depends on the note: the decoder does not follow it, or the encoder changed")


def decoded(path: Path) -> tuple[list[np.ndarray], list[str]]:
    """All frames, and what the decoder had to say."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(True) as logs, av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = [frame.to_ndarray(format="yuv444p") for frame in container.decode(video=0)]
        return frames, [message for level, _, message in logs if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)


def test_what_the_first_packet_says_holds_after_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = note_of_an_old_encoder(tmp_path)
    check_law(path, 30, step=1)
    # The file is one that tells: a decoder that is not shown the beginning goes wrong.
    monkeypatch.setattr(media, "PRIMING_PACKETS", 0)
    with pytest.raises(AssertionError, match="differ from sequential decoding"):
        check_law(path, 30, step=1)


def without_key_frame_table(data: bytes) -> bytes:
    """Without this box every frame of an MP4 file counts as a key frame."""
    assert data.count(b"stss") == 1
    return data.replace(b"stss", b"free")


@pytest.mark.parametrize("stream", [X264, OPEN_GOP, REFRESH, X265, MPEG4, VP9, AV1])
def test_containers_that_call_every_frame_a_key_frame(tmp_path: Path, stream: Stream) -> None:
    path = stream.write(tmp_path / "flags.mp4")
    path.write_bytes(without_key_frame_table(path.read_bytes()))
    check_law(path, stream.frames)


@pytest.mark.parametrize("stream", [X264, X265, MPEG4, MPEG2])
@pytest.mark.parametrize("cut", [lambda data: data[188 * 37 :], lambda data: data[188 * 37 + 50 :]])
def test_transport_streams_that_begin_in_the_middle(
    tmp_path: Path, stream: Stream, cut: Callable[[bytes], bytes]
) -> None:
    path = stream.write(tmp_path / "cut.ts")
    path.write_bytes(cut(path.read_bytes()))
    check_law(path, stream.frames - 20)


def test_h264_in_avi_shows_every_frame_at_its_time(tmp_path: Path) -> None:
    """AVI stores no times of presentation, and H.264 puts frames out of order."""
    path = X264.write(tmp_path / "numbered.avi", numbered_frames(np.arange(60), HEIGHT, WIDTH))
    window = read_window(path, start=0.4, num_frames=40, frame_rate=RATE, sample_rate=8_000)
    assert window.frames is not None
    assert read_numbers(window.frames).tolist() == list(range(10, 50))
