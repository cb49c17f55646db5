"""At least 200 damaged or odd files: each gives a clip or a reason; no crash, no hang, no leaked file handle."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from multimodal.clips.clip import ClipFormat, check_long_enough, read_clip
from multimodal.clips.media import UnreadableMedia, probe
from multimodal.clips.writing import Encoding, write_clip
from tests.multimodal.material import FAST_H264, numbered_frames, write_numbered
from tests.patience import PATIENCE

FORMAT = ClipFormat(num_frames=8, frame_rate=12.5, height=32, width=32, sample_rate=8_000)
SEED = 20_240
SLOWEST = 20.0  # processor seconds


def good_files(root: Path) -> list[Path]:
    vp9 = (("cpu-used", "8"), ("deadline", "realtime"))
    encodings = {
        "good.mp4": Encoding(video_options=FAST_H264),
        "good.mkv": Encoding(video_options=FAST_H264, audio_codec="libmp3lame"),
        "good.webm": Encoding(video_codec="libvpx-vp9", video_options=vp9, audio_codec="libopus"),
        "good.avi": Encoding(video_codec="mpeg4", video_options=(), audio_codec="pcm_s16le"),
    }
    return [write_numbered(root / name, num_frames=25, encoding=encoding) for name, encoding in encodings.items()]


def odd_files(root: Path) -> None:
    """Files that are unusual and fine, or contain nothing of use."""
    h264 = Encoding(video_options=FAST_H264)
    write_numbered(root / "odd-8khz.mp4", sample_rate=8_000, encoding=h264)
    write_numbered(root / "odd-44.1khz.mp4", sample_rate=44_100, encoding=h264)
    write_numbered(root / "odd-no-sound.mp4", sound=False)
    write_numbered(root / "odd-no-picture.mp4", picture=False)
    write_numbered(root / "odd-1-frame.mp4", num_frames=1, encoding=h264)
    write_numbered(root / "odd-9-frames.mp4", num_frames=9, encoding=h264)
    surround = Encoding(video_options=FAST_H264, layout="5.1")
    write_numbered(root / "odd-surround.mp4", encoding=surround)
    ten_bits = Encoding(video_options=FAST_H264, pixel_format="yuv420p10le")
    write_numbered(root / "odd-10-bit.mp4", encoding=ten_bits)
    full_chroma = Encoding(video_options=FAST_H264, pixel_format="yuv444p")
    write_numbered(root / "odd-4-4-4.mp4", encoding=full_chroma)
    small = numbered_frames(np.arange(25), height=2, width=16)
    write_clip(root / "odd-16-by-2.mkv", small, None, frame_rate=25, sample_rate=8_000, encoding=h264)
    slow = numbered_frames(np.arange(3))
    write_clip(root / "odd-1-per-second.mp4", slow, None, frame_rate=1, sample_rate=8_000, encoding=h264)
    fast = numbered_frames(np.arange(240) % 256)
    write_clip(root / "odd-240-per-second.mp4", fast, None, frame_rate=240, sample_rate=8_000, encoding=h264)
    (root / "odd-zero-bytes.mp4").write_bytes(b"")
    (root / "odd-text.mp4").write_text("label,youtube_id\n")
    (root / "odd-zeros.mkv").write_bytes(bytes(5_000))
    (root / "odd-noise.avi").write_bytes(np.random.default_rng(SEED).bytes(5_000))
    (root / "odd-folder.mp4").mkdir()
    (root / "odd-dangling.mp4").symlink_to(root / "nowhere.mp4")


def damaged_files(root: Path, good: list[Path]) -> None:
    """Truncations, wrong suffixes, huge header values, overwritten and missing stretches of good files."""
    suffixes = [path.suffix for path in good]
    for path in good:
        data, kind = path.read_bytes(), path.suffix[1:]
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            (root / f"truncated-{share}-{kind}{path.suffix}").write_bytes(data[: int(share * len(data))])
        for suffix in suffixes:
            if suffix != path.suffix:
                (root / f"suffix-{kind}{suffix}").write_bytes(data)
        for number in range(36):
            chance = np.random.default_rng([SEED, suffixes.index(path.suffix), number])
            damaged = bytearray(data)
            # Half of them in the first and last two kilobytes, where headers and indices are.
            if number % 2:
                edge = min(2_000, len(data) // 2)
                places = chance.integers(0, edge, 30)
                places = np.where(chance.random(30) < 0.5, places, len(data) - 1 - places)
            else:
                places = chance.integers(0, len(data), max(20, len(data) // 200))
            for place in places:
                damaged[int(place)] = int(chance.integers(256))
            (root / f"fuzzed-{number:02d}-{kind}{path.suffix}").write_bytes(bytes(damaged))
        for number in range(4):
            chance = np.random.default_rng([SEED, 99, suffixes.index(path.suffix), number])
            first, length = chance.integers(0, len(data) - 600), chance.integers(50, 600)
            (root / f"cut-{number}-{kind}{path.suffix}").write_bytes(data[:first] + data[first + length :])
    # Frame sizes of 65,535 and a time scale of 1 in an MP4's headers; a RIFF header that claims huge frames.
    mp4, avi = good[0].read_bytes(), good[3].read_bytes()
    for box, offset, value in (
        (b"avc1", 28, b"\xff\xff\xff\xff"),
        (b"tkhd", 80, b"\xff\xff\x00\x00\xff\xff\x00\x00"),
        (b"mvhd", 16, b"\x00\x00\x00\x01\xff\xff\xff\xff"),
        (b"mdhd", 16, b"\x00\x00\x00\x01\xff\xff\xff\xff"),
        (b"stsz", 8, b"\x7f\xff\xff\xff"),
        (b"stts", 8, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        (b"stsc", 8, b"\xff\xff\xff\xff"),
        (b"stco", 8, b"\xff\xff\xff\xff"),
        (b"mp4a", 20, b"\xff\xff"),
    ):
        place = mp4.index(box) + offset
        (root / f"huge-{box.decode()}.mp4").write_bytes(mp4[:place] + value + mp4[place + len(value) :])
    place = avi.index(b"avih") + 40
    (root / "huge-avih.avi").write_bytes(avi[:place] + b"\xff\xff\xff\x7f" * 2 + avi[place + 8 :])
    place = avi.index(b"strf") + 12
    (root / "huge-strf.avi").write_bytes(avi[:place] + b"\xff\xff\x00\x00" * 2 + avi[place + 8 :])


def open_handles() -> list[str]:
    handles = []
    for number in os.listdir("/proc/self/fd"):
        try:
            handles.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the handle that listed the folder
            continue
    return handles


def try_file(path: str) -> tuple[str, float, int]:
    """Outcome of loading a file, processor seconds it took, and handles left open on it."""
    began = time.process_time()
    try:
        check_long_enough(probe(path), FORMAT)
        clip = read_clip(path, FORMAT)
        assert clip.video.shape == (8, 3, 32, 32) and clip.audio.shape == (5_120,)
        assert bool(clip.audio.isfinite().all()) and float(clip.audio.abs().max()) <= 1
        outcome = "clip" if clip.has_video and clip.has_audio else "clip, one modality"
    except UnreadableMedia as error:
        assert error.path == path
        outcome = "refused: " + (
            "too short" if "too short" in error.reason else "ends early" if "only" in error.reason else "unreadable"
        )
    leaked = sum(path in handle for handle in open_handles())
    return outcome, time.process_time() - began, leaked


def test_every_file_gives_a_clip_or_a_reason(tmp_path: Path) -> None:
    good_folder, corpus = tmp_path / "good", tmp_path / "corpus"
    good_folder.mkdir()
    corpus.mkdir()
    good = good_files(good_folder)
    odd_files(corpus)
    damaged_files(corpus, good)
    paths = sorted(str(path) for path in corpus.iterdir())
    assert len(paths) >= 200
    outcomes: dict[str, str] = {}
    # In a process of its own: a crash of the decoder fails this test and not the whole test run.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        for path in paths:
            outcome, seconds, leaked = pool.submit(try_file, path).result(timeout=PATIENCE)
            assert seconds < SLOWEST, f"{path} took {seconds:.1f} s"
            assert leaked == 0, f"{path} was left open"
            outcomes[Path(path).name] = outcome
    counts = Counter((name.split("-")[0], outcome) for name, outcome in outcomes.items())
    print(f"\nseed {SEED}, {len(paths)} files")
    for (group, outcome), count in sorted(counts.items()):
        print(f"  {group:10s} {outcome:22s} {count}")
    # What must come of the files whose right outcome is known.
    for name in ("8khz", "44.1khz", "surround", "10-bit", "4-4-4", "9-frames"):
        assert outcomes[f"odd-{name}.mp4"] == "clip", name
    for name in ("no-sound", "no-picture", "1-per-second", "240-per-second"):
        assert outcomes[f"odd-{name}.mp4"] == "clip, one modality", name
    assert outcomes["odd-1-frame.mp4"] == "refused: too short"
    for name in ("zero-bytes.mp4", "text.mp4", "zeros.mkv", "noise.avi", "folder.mp4", "dangling.mp4"):
        assert outcomes[f"odd-{name}"] == "refused: unreadable", name
    wrong_suffix = [outcome for name, outcome in outcomes.items() if name.startswith("suffix")]
    assert wrong_suffix and set(wrong_suffix) == {"clip"}, "the suffix must not matter, the contents tell"
    assert outcomes["huge-avc1.mp4"].startswith(("clip", "refused"))
    assert any(outcome == "clip" for name, outcome in outcomes.items() if name.startswith("fuzzed"))
