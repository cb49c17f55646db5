from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.clips.media import UnreadableMedia, probe, read_window
from multimodal.clips.writing import ClipWriter, Encoding, check_writable, write_clip
from tests.multimodal.material import (
    FAST_H264,
    channel_layout,
    chirp,
    lag_in_seconds,
    numbered_frames,
    read_numbers,
    replace_box,
    write_numbered,
)

VP9 = (("cpu-used", "8"), ("deadline", "realtime"), ("g", "20"))
FILES = {
    "h264-aac.mp4": Encoding(video_options=FAST_H264),
    "h264-bframes-stereo.mp4": Encoding(video_options=(("bf", "3"), ("g", "30")), layout="stereo"),
    "h264-10bit.mp4": Encoding(video_options=FAST_H264, pixel_format="yuv420p10le"),
    "h264-mp3.mkv": Encoding(video_options=FAST_H264, audio_codec="libmp3lame"),
    "h264-opus-5.1.mkv": Encoding(video_options=FAST_H264, audio_codec="libopus", layout="5.1"),
    "vp9-opus.webm": Encoding(video_codec="libvpx-vp9", video_options=VP9, audio_codec="libopus"),
    "mpeg4-pcm.avi": Encoding(video_codec="mpeg4", video_options=(("g", "15"),), audio_codec="pcm_s16le"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    for name, encoding in FILES.items():
        write_numbered(root / name, encoding=encoding)
    return root


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("start", [0.0, 0.52, 1.4])
def test_frames_and_sound_are_those_of_the_instant(folder: Path, name: str, start: float) -> None:
    window = read_window(folder / name, start=start, num_frames=6, frame_rate=12.5, sample_rate=16_000)
    assert window.frames is not None and window.sound is not None
    # The 2-second files end inside no window here: 1.4 + 6 / 12.5 = 1.88.
    assert read_numbers(window.frames).tolist() == [round(start * 25) + 2 * i for i in range(6)]
    assert window.frames_covered == 6
    assert len(window.sound) == 6 * 1280
    # Opus in Matroska is stamped to a millisecond; a frame lasts 40 ms.
    assert abs(lag_in_seconds(window.sound, start, 16_000)) <= 1e-3
    level = np.sqrt(np.mean(window.sound[2000:-2000] ** 2))
    assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.1), "the mix-down to mono changes the loudness"


@pytest.mark.parametrize("name", ["h264-bframes-stereo.mp4", "mpeg4-pcm.avi", "vp9-opus.webm"])
@settings(deadline=None, max_examples=12, derandomize=True)
@given(start_frame=st.integers(0, 45), rate=st.sampled_from([25.0, 12.5, 50.0]), count=st.integers(1, 8))
def test_a_window_is_a_stretch_of_the_whole(folder: Path, name: str, start_frame: int, rate: float, count: int) -> None:
    whole = read_window(folder / name, start=0.0, num_frames=125, frame_rate=50.0, sample_rate=8_000)
    start = start_frame / 25
    window = read_window(folder / name, start=start, num_frames=count, frame_rate=rate, sample_rate=8_000)
    assert whole.frames is not None and whole.sound is not None
    assert window.frames is not None and window.sound is not None
    step = round(50 / rate)
    expected = whole.frames[2 * start_frame :: step][:count]
    np.testing.assert_array_equal(window.frames, expected)
    first = round(start * 8_000)
    # The decoder was started elsewhere: lossy codecs converge after the pre-roll, not to the last bit.
    np.testing.assert_allclose(window.sound, whole.sound[first : first + len(window.sound)], atol=0.02)


def test_variable_frame_rate_shows_the_frame_whose_time_has_come(tmp_path: Path) -> None:
    times_ms = [0, 40, 80, 400, 440, 1000, 1040]
    path = tmp_path / "vfr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=dict(FAST_H264))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for rgb, time in zip(numbered_frames(np.arange(7)), times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    window = read_window(path, start=0.0, num_frames=14, frame_rate=12.5, sample_rate=8_000)
    assert window.frames is not None
    expected = [max(n for n, time in enumerate(times_ms) if time <= 80 * i) for i in range(14)]
    assert read_numbers(window.frames).tolist() == expected
    late = read_window(path, start=0.56, num_frames=4, frame_rate=12.5, sample_rate=8_000)
    assert late.frames is not None
    assert read_numbers(late.frames).tolist() == expected[7:11]


# The first four numbers of a display matrix, and the filters by which FFmpeg shows such a picture upright.
ORIENTATIONS = {
    (1, 0, 0, 1): [],
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip"],
    (-1, 0, 0, -1): ["hflip", "vflip"],
    (0, 1, -1, 0): ["transpose=clock"],
    (0, -1, 1, 0): ["transpose=cclock"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
}


def quarters(count: int) -> np.ndarray:
    """uint8 `[count, 48, 64, 3]`: each quarter of another grey, so that all eight orientations differ."""
    greys = np.array([[20, 80], [140, 230]], np.uint8)
    frame = np.repeat(np.repeat(greys, 24, axis=0), 32, axis=1)
    return np.ascontiguousarray(np.broadcast_to(frame[None, :, :, None], (count, 48, 64, 3)))


def filtered(rgb: np.ndarray, filters: list[str]) -> np.ndarray:
    """uint8 `[H, W, 3]` sent through filters of FFmpeg's."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format="rgb24", time_base=frame.time_base)]
    for text in filters:
        name, _, argument = text.partition("=")
        nodes.append(graph.add(name, argument or None))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(frame)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    return result.to_ndarray(format="rgb24")


def write_quarters(path: Path, matrix: tuple[int, int, int, int] | None = None, message: bytes = b"") -> Path:
    """A file of `quarters` with a display matrix in the container, or a message before the first picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=dict(FAST_H264))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        if matrix is not None:
            a, b, c, d = (value << 16 for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        packets = []
        for rgb in quarters(5):
            packets += stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
        packets += stream.encode(None)
        if message:
            first = av.Packet(message + bytes(packets[0]))
            first.pts, first.dts, first.time_base = packets[0].pts, packets[0].dts, packets[0].time_base
            first.stream, first.is_keyframe = stream, True
            packets[0] = first
        container.mux(packets)
    return path


@pytest.mark.parametrize("matrix", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_are_shown_upright_as_ffmpeg_does(
    tmp_path: Path, matrix: tuple[int, int, int, int], suffix: str
) -> None:
    stored = read_window(write_quarters(tmp_path / "a.mp4"), start=0.0, num_frames=2, frame_rate=25, sample_rate=8_000)
    path = write_quarters(tmp_path / f"b{suffix}", matrix)
    window = read_window(path, start=0.0, num_frames=2, frame_rate=25, sample_rate=8_000)
    assert stored.frames is not None and window.frames is not None
    np.testing.assert_array_equal(window.frames[1], filtered(stored.frames[1], ORIENTATIONS[matrix]))
    info = probe(path)
    assert (info.height, info.width) == window.frames.shape[1:3] == ((48, 64) if matrix[0] else (64, 48))


def display_orientation(mirror_columns: bool, mirror_rows: bool, quarter_turns: int) -> bytes:
    """An SEI message of H.264, D.1.27: mirror images, then quarter turns anticlockwise, of the next picture."""
    bits = f"0{mirror_columns:b}{mirror_rows:b}{quarter_turns << 14:016b}" + "010" + "0"  # repetition period 1
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\0\1\x06" + bytes([47, len(payload)]) + payload + b"\x80"


@pytest.mark.parametrize(
    ("message", "filters"),
    [
        ((True, False, 0), ["hflip"]),
        ((False, True, 0), ["vflip"]),
        ((False, False, 1), ["transpose=cclock"]),
        ((False, False, 2), ["hflip", "vflip"]),
        ((True, False, 1), ["hflip", "transpose=cclock"]),
        ((False, True, 3), ["vflip", "transpose=clock"]),
    ],
)
def test_orientation_in_the_stream_itself(tmp_path: Path, message: tuple[bool, bool, int], filters: list[str]) -> None:
    stored = read_window(write_quarters(tmp_path / "a.mp4"), start=0.0, num_frames=1, frame_rate=25, sample_rate=8_000)
    path = write_quarters(tmp_path / "b.mkv", message=display_orientation(*message))
    window = read_window(path, start=0.0, num_frames=1, frame_rate=25, sample_rate=8_000)
    assert stored.frames is not None and window.frames is not None
    np.testing.assert_array_equal(window.frames[0], filtered(stored.frames[0], filters))


# EXIF orientations 1 to 8 (JEITA CP-3451, tag 274), as the matrices that mean the same.
EXIF = [(1, 0, 0, 1), (-1, 0, 0, 1), (-1, 0, 0, -1), (1, 0, 0, -1), (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0)]
EXIF += [(0, -1, 1, 0)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_photographs(tmp_path: Path, orientation: int) -> None:
    entry = struct.pack("<HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    pictures = []
    for message in (b"", segment):
        path = tmp_path / f"photographs-{len(message)}.mov"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj444p"
            for rgb in quarters(2):
                for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                    photograph = av.Packet(bytes(packet)[:2] + message + bytes(packet)[2:])
                    photograph.pts, photograph.dts, photograph.time_base = packet.pts, packet.dts, packet.time_base
                    photograph.stream = stream
                    container.mux(photograph)
        window = read_window(path, start=0.0, num_frames=1, frame_rate=25, sample_rate=8_000)
        assert window.frames is not None
        pictures.append(window.frames[0])
    np.testing.assert_array_equal(pictures[1], filtered(pictures[0], ORIENTATIONS[EXIF[orientation - 1]]))


def test_colours_survive_for_tagged_and_untagged_video(tmp_path: Path) -> None:
    colour = np.array([200, 60, 20], np.uint8)
    for height, width in ((48, 64), (720, 1280)):
        frames = np.broadcast_to(colour, (2, height, width, 3))
        path = tmp_path / f"{height}.mp4"
        write_clip(path, frames, None, frame_rate=25, sample_rate=8_000, encoding=Encoding(video_options=FAST_H264))
        window = read_window(path, start=0, num_frames=1, frame_rate=25, sample_rate=8_000, short_side=48)
        assert window.frames is not None
        assert np.abs(window.frames[0].reshape(-1, 3).mean(0) - colour).max() < 6


def test_files_without_sound_or_picture(tmp_path: Path) -> None:
    silent = write_numbered(tmp_path / "silent.mp4", sound=False)
    window = read_window(silent, start=0.4, num_frames=4, frame_rate=25, sample_rate=8_000)
    assert window.sound is None and window.frames is not None
    assert not probe(silent).has_audio
    blind = write_numbered(tmp_path / "blind.mp4", picture=False)
    window = read_window(blind, start=0.4, num_frames=4, frame_rate=25, sample_rate=8_000)
    assert window.frames is None and window.sound is not None
    assert abs(lag_in_seconds(window.sound, 0.4, 8_000)) < 1e-3
    assert probe(blind).duration == pytest.approx(2.0, abs=0.05)


def test_beyond_the_end_the_last_frame_is_held_and_it_is_silent(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "short.mp4", num_frames=10)
    window = read_window(path, start=0.2, num_frames=10, frame_rate=25, sample_rate=8_000)
    assert window.frames is not None and window.sound is not None
    assert read_numbers(window.frames).tolist() == [5, 6, 7, 8, 9, 9, 9, 9, 9, 9]
    assert window.frames_covered == 5
    assert window.sound_covered == pytest.approx(0.5, abs=0.06)
    assert np.abs(window.sound[2000:]).max() < 0.01


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".flv"])
def test_a_still_is_shown_as_long_as_the_sound_lasts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    sound = chirp(np.arange(8 * 16_000) / 16_000)
    encoding = Encoding(video_options=FAST_H264, audio_codec="aac" if suffix != ".avi" else "pcm_s16le")
    write_clip(path, numbered_frames(np.array([5])), sound, frame_rate=25, sample_rate=16_000, encoding=encoding)
    assert probe(path).duration == pytest.approx(8.0, abs=0.1)
    for start in (0.0, 3.2, 7.0):
        window = read_window(path, start=start, num_frames=10, frame_rate=12.5, sample_rate=8_000)
        assert window.frames is not None and window.sound is not None
        assert read_numbers(window.frames).tolist() == [5] * 10
        assert window.frames_covered == 10 and window.sound_covered > 0.99
        if suffix != ".flv":  # which does not say how long the encoder's delay is
            assert abs(lag_in_seconds(window.sound, start, 8_000)) <= 2e-3
    late = read_window(path, start=7.6, num_frames=10, frame_rate=12.5, sample_rate=8_000)
    assert 4 <= late.frames_covered <= 6, "the sound ends in the middle of this window"


def test_moving_pictures_end_before_longer_sound(tmp_path: Path) -> None:
    path = tmp_path / "longer.mp4"
    sound = chirp(np.arange(8 * 16_000) / 16_000)
    encoding = Encoding(video_options=FAST_H264)
    write_clip(path, numbered_frames(np.arange(2)), sound, frame_rate=25, sample_rate=16_000, encoding=encoding)
    assert probe(path).duration == pytest.approx(0.08, abs=0.03)
    assert read_window(path, start=3.0, num_frames=5, frame_rate=25, sample_rate=8_000).frames_covered == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("default", [0, 1, None])
def test_of_several_tracks_the_default_one_is_taken(tmp_path: Path, suffix: str, default: int | None) -> None:
    path = tmp_path / f"tracks{suffix}"
    with av.open(str(path), "w") as container:
        pictures, sounds = [], []
        for _ in range(2):
            picture = container.add_stream("libx264", rate=25, options=dict(FAST_H264))
            assert isinstance(picture, av.VideoStream)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            sound = container.add_stream("aac", rate=16_000)
            assert isinstance(sound, av.AudioStream)
            sound.layout = "mono"
            pictures.append(picture)
            sounds.append(sound)
        marks = [Disposition.default if number == default else Disposition(0) for number in range(2)]
        for picture, sound, mark in zip(pictures, sounds, marks, strict=True):
            picture.disposition = sound.disposition = mark
        for track, (picture, sound) in enumerate(zip(pictures, sounds, strict=True)):
            for rgb in numbered_frames(np.full(25, 7 + track)):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            tone = (0.2 + 0.4 * track) * chirp(np.arange(16_000) / 16_000)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(sound.encode(frame))
        for stream in (*pictures, *sounds):
            container.mux(stream.encode(None))
    window = read_window(path, start=0.2, num_frames=4, frame_rate=12.5, sample_rate=16_000)
    assert window.frames is not None and window.sound is not None
    taken = default or 0
    assert read_numbers(window.frames).tolist() == [7 + taken] * 4
    level = np.sqrt(np.mean(window.sound**2)) / (0.5 / np.sqrt(2))
    assert level == pytest.approx(0.2 + 0.4 * taken, rel=0.1)


def test_sound_that_begins_late_stands_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options=dict(FAST_H264))
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=8_000)
        audio.layout = "mono"
        for number, rgb in enumerate(numbered_frames(np.arange(25))):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        times = 0.5 + np.arange(4_000) / 8_000
        block = (chirp(times) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8_000, 4_000, Fraction(1, 8_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    window = read_window(path, start=0.0, num_frames=25, frame_rate=25, sample_rate=8_000)
    assert window.sound is not None
    assert np.abs(window.sound[:3_900]).max() < 1e-3
    assert abs(lag_in_seconds(window.sound[4_000:], 0.5, 8_000)) <= 1e-3
    assert window.sound_covered == pytest.approx(0.5, abs=0.01)


def write_wav(path: Path, channels: int) -> Path:
    """Two seconds of the chirp at 16 kHz, the same in every channel; PyAV's writer is not asked."""
    samples = (chirp(np.arange(32_000) / 16_000) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes(np.repeat(samples, channels).tobytes())
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 8, 9, 16, 24, 64])
def test_any_number_of_channels_is_mixed_down(tmp_path: Path, channels: int) -> None:
    path = write_wav(tmp_path / "many.wav", channels)
    assert probe(path).channels == channels
    window = read_window(path, start=0.6, num_frames=6, frame_rate=12.5, sample_rate=16_000)
    assert window.sound is not None
    np.testing.assert_allclose(window.sound, chirp(0.6 + np.arange(7_680) / 16_000), atol=2e-3)


def test_more_channels_than_can_be_mixed_are_refused(tmp_path: Path) -> None:
    for channels in (65, 255):
        path = write_wav(tmp_path / "many.wav", channels)
        with pytest.raises(UnreadableMedia, match=f"has {channels} sound channels; at most 64 can be mixed down"):
            probe(path)
    with pytest.raises(UnreadableMedia, match="neither a picture nor a sound track that can be decoded"):
        probe(write_wav(tmp_path / "many.wav", 1_000))  # FFmpeg refuses them by itself


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.mkv", "flac"), ("a.wav", "pcm_f32le"), ("a.mov", "pcm_s24le")],
)
def test_eight_channels_of_any_codec(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    write_numbered(path, picture=False, encoding=Encoding(audio_codec=codec, audio_bit_rate=512_000, layout="7.1"))
    window = read_window(path, start=0.6, num_frames=6, frame_rate=12.5, sample_rate=16_000)
    assert probe(path).channels == 8 and window.sound is not None
    assert abs(lag_in_seconds(window.sound, 0.6, 16_000)) <= 1e-3


def test_channels_in_an_order_of_their_own(tmp_path: Path) -> None:
    """QuickTime names each channel; FFmpeg keeps an order that is not the usual one as a list beside the stream."""
    path = tmp_path / "ordered.mov"
    centre = chirp(np.arange(48_000) / 48_000)
    block = np.stack([0 * centre, centre, 0 * centre], axis=1).reshape(1, -1)  # as L, R, C is stored: only R sounds
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=48_000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "3.0"
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="3.0")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # The box says: Left, Centre, Right (labels 1, 3, 2). What was stored as right is the centre now.
    trail = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"fl32", b"chan")
    replace_box(path, trail, channel_layout([1, 3, 2]))
    for _ in range(3):
        assert probe(path).channels == 3
        window = read_window(path, start=0.2, num_frames=5, frame_rate=12.5, sample_rate=48_000)
    assert window.sound is not None
    share = np.sqrt(0.5) / (np.sqrt(0.5) + 1)
    np.testing.assert_allclose(window.sound, share * centre[9_600 : 9_600 + 19_200], atol=1e-4)


def test_odd_sample_rates_resample_without_a_giant_filter(tmp_path: Path) -> None:
    path = write_numbered(
        tmp_path / "odd.avi",
        sample_rate=11_027,
        encoding=Encoding(video_codec="mpeg4", video_options=(), audio_codec="pcm_s16le"),
    )
    window = read_window(path, start=1.0, num_frames=12, frame_rate=25, sample_rate=8_000)
    assert window.sound is not None
    assert abs(lag_in_seconds(window.sound, 1.0, 8_000)) <= 1e-3


def test_frames_shrink_to_the_short_side_and_never_grow(folder: Path) -> None:
    small = read_window(folder / "h264-aac.mp4", start=0, num_frames=1, frame_rate=25, sample_rate=8_000, short_side=24)
    large = read_window(
        folder / "h264-aac.mp4", start=0, num_frames=1, frame_rate=25, sample_rate=8_000, short_side=999
    )
    assert small.frames is not None and small.frames.shape == (1, 24, 32, 3)
    assert large.frames is not None and large.frames.shape == (1, 48, 64, 3)


def test_reading_past_the_beginning_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="no such file"):
        probe(tmp_path / "absent.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(UnreadableMedia, match="cannot be decoded"):
        read_window(text, start=0, num_frames=1, frame_rate=25, sample_rate=8_000)


def test_a_writer_leaves_no_file_behind_when_it_fails(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "x.mp4", width=64, height=48, frame_rate=25, sample_rate=None)
    with pytest.raises(RuntimeError, match="stop"), writer:
        writer.write_frames(numbered_frames(np.arange(3)))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mkdir -p"):
        check_writable(tmp_path / "absent" / "out.mp4")
    with pytest.raises(ValueError, match="is a folder"):
        check_writable(tmp_path)
