"""Damaged media files through the loader: what is read, what is refused, what ends or holds up a process, what leaks.

    python -m benchmarks.media_fuzz [--files 2000] [--seed 0] [--keep DIR]

Good files of several containers and codecs are damaged where their structure is: boxes of MP4, elements of Matroska,
chunks of AVI, tags of FLV, packets of MPEG-TS; bytes of all of them. The loader of the evaluation reads them in its
worker processes. A table tells the outcomes by container. The command fails if a file raised an error that would end a
training, if one held up its process for longer than `--patience`, if the memory of a process grew by more than
`--growth`, or if the loader lost a file.
"""

from __future__ import annotations

import os
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import EvaluationBatches, EvaluationClips, Sample
from multimodal.clips.writing import Encoding, write_clip
from multimodal.common.records import append_lines, read_lines
from multimodal.common.workers import BatchLoader

FORMAT = ClipFormat(num_frames=8, frame_rate=25, height=32, width=32, sample_rate=8_000)
ENCODINGS: dict[str, Encoding | None] = {
    "mp4": Encoding(),
    "mov": Encoding(video_codec="mpeg4", video_options=(), audio_codec="pcm_s16le"),
    "mkv": Encoding(video_codec="libvpx-vp9", video_options=(("deadline", "realtime"),), audio_codec="libopus"),
    "webm": Encoding(video_codec="libvpx", video_options=(("deadline", "realtime"),), audio_codec="libopus"),
    "avi": Encoding(video_codec="mpeg4", video_options=(), audio_codec="libmp3lame"),
    "ts": Encoding(video_codec="mpeg2video", video_options=(), audio_codec="mp2"),
    "flv": Encoding(video_codec="flv", video_options=(), audio_codec="libmp3lame"),
    "wmv": Encoding(video_codec="wmv2", video_options=(), audio_codec="wmav2", audio_bit_rate=64_000),
    "gif": None,
}
MP4_FOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf")
# Segment, Cluster, Tracks, TrackEntry, Video, Audio, Cues, CuePoint, SeekHead, Info, EBML header.
EBML_FOLDERS = (
    0x18538067,
    0x1F43B675,
    0x1654AE6B,
    0xAE,
    0xE0,
    0xE1,
    0x1C53BB6B,
    0xBB,
    0x114D9B74,
    0x1549A966,
    0x1A45DFA3,
)
RAISED = "raised"
ODD_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Part:
    """A box, element, chunk, tag or packet: header and payload by their places in the file."""

    start: int
    payload: int
    end: int


def mp4_parts(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """Boxes, those inside others too."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        yield Part(start, start + 8, start + size)
        if kind in MP4_FOLDERS:
            yield from mp4_parts(data, start + 8, start + size)
        start += size


def _vint(data: bytes, at: int, keep_mark: bool) -> tuple[int, int]:
    """A number of variable length, and its length in bytes; (0, 0) if there is none."""
    if at >= len(data) or data[at] == 0:
        return 0, 0
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return value if keep_mark else value & ((1 << 7 * length) - 1), length


def ebml_parts(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """Elements, those inside others too."""
    end = len(data) if end is None else end
    while start < end:
        kind, kind_length = _vint(data, start, keep_mark=True)
        size, size_length = _vint(data, start + kind_length, keep_mark=False)
        payload = start + kind_length + size_length
        if not kind_length or not size_length or payload > end:
            return
        last = min(payload + size, end)
        yield Part(start, payload, last)
        if kind in EBML_FOLDERS:
            yield from ebml_parts(data, payload, last)
        start = last


def riff_parts(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Part]:
    """Chunks, those inside lists too."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, start)
        last = min(start + 8 + size, end)
        yield Part(start, start + 8, last)
        if kind in (b"RIFF", b"LIST"):
            yield from riff_parts(data, start + 12, last)
        start = last + size % 2


def flv_parts(data: bytes) -> Iterator[Part]:
    """Tags."""
    at = 13
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        yield Part(at, at + 11, min(at + 11 + size, len(data)))
        at += 15 + size


def ts_parts(data: bytes) -> Iterator[Part]:
    """Packets."""
    for start in range(0, len(data) - 187, 188):
        yield Part(start, start + 4, start + 188)


def chunk_parts(data: bytes) -> Iterator[Part]:
    """Stretches of a file whose structure is not looked into."""
    for start in range(0, len(data), 64):
        yield Part(start, min(start + 8, len(data)), min(start + 64, len(data)))


PARTS: dict[str, Callable[[bytes], Iterator[Part]]] = {
    "mp4": mp4_parts,
    "mov": mp4_parts,
    "mkv": ebml_parts,
    "webm": ebml_parts,
    "avi": riff_parts,
    "ts": ts_parts,
    "flv": flv_parts,
    "wmv": chunk_parts,
    "gif": chunk_parts,
}


def damage(data: bytes, parts: Sequence[Part], chance: random.Random) -> bytes:
    """The file with one to three damages; the same for the same state of `chance`."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        part = chance.choice(parts)
        length = len(changed)
        what = chance.randrange(9)
        if what == 0:  # a number in the header: size, kind, time
            _write_number(changed, part.start, part.payload, chance)
        elif what in (1, 2):  # a number in the payload: counts, sizes, rates, times
            _write_number(changed, part.payload, min(part.end, part.payload + 256), chance)
        elif what == 3:  # bits
            for _ in range(chance.randint(1, 32)):
                if part.payload < min(part.end, length):
                    changed[chance.randrange(part.payload, min(part.end, length))] ^= 1 << chance.randrange(8)
        elif what == 4:  # the part is gone
            del changed[part.start : part.end]
        elif what == 5:  # twice
            changed[part.end : part.end] = changed[part.start : part.end]
        elif what == 6:  # in another's place
            other = chance.choice(parts)
            changed[other.start : other.end] = data[part.start : part.end]
        elif what == 7:  # the file ends here
            del changed[chance.randint(part.start, max(part.start, part.end)) :]
        else:  # the payload is noise
            stop = min(part.end, part.payload + 4096, length)
            changed[part.payload : stop] = chance.randbytes(max(stop - part.payload, 0))
    return bytes(changed)


def _write_number(data: bytearray, first: int, last: int, chance: random.Random) -> None:
    width = chance.choice((1, 2, 4))
    if last - first < width or last > len(data):
        return
    at = chance.randrange(first, last - width + 1)
    number = chance.choice(ODD_NUMBERS) if chance.random() < 0.7 else chance.getrandbits(32)
    data[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, chance.choice(("big", "little")))


def write_good(folder: Path) -> dict[str, bytes]:
    """A good file of each container: 24 moving frames of 64 x 48 and a tone, as bytes by suffix."""
    frames = np.random.default_rng(0).integers(0, 255, (24, 6, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    sound = (0.5 * np.sin(np.arange(48_000) * 0.05)).astype(np.float32)[: 24 * 48_000 // 25]
    good = {}
    for suffix, encoding in ENCODINGS.items():
        path = folder / f"good.{suffix}"
        if encoding is None:
            from PIL import Image

            first, *rest = (Image.fromarray(frame) for frame in frames)
            first.save(path, save_all=True, append_images=rest, duration=40, loop=0)
        else:
            rate = 44_100 if suffix in ("flv", "wmv") else 48_000  # as these containers want it
            write_clip(path, frames, sound[: 24 * rate // 25], frame_rate=25.0, sample_rate=rate, encoding=encoding)
        good[suffix] = path.read_bytes()
    return good


def write_damaged(folder: Path, count: int, seed: int) -> list[LabelledFile]:
    """`count` damaged files, the containers in turn; the same damages for the same seed (Matroska files draw ids)."""
    good = write_good(folder)
    parts = {suffix: list(PARTS[suffix](data)) for suffix, data in good.items()}
    suffixes = list(good)
    files = []
    for number in range(count):
        suffix = suffixes[number % len(suffixes)]
        path = folder / f"{number:05d}.{suffix}"
        path.write_bytes(damage(good[suffix], parts[suffix], random.Random(f"{seed} {number}")))
        files.append(LabelledFile(path=str(path), label=0))
    return files


class WatchedClips(EvaluationClips):
    """Notes for each clip how long it took, and the memory of the process."""

    def __init__(self, files: Sequence[LabelledFile], notes: Path) -> None:
        super().__init__(files, FORMAT)
        self.notes = notes

    def sample(self, key: tuple[int, int]) -> Sample:
        began = time.monotonic()
        try:
            sample = super().sample(key)
        except Exception as error:  # would end a training
            sample = self.without(key, f"{RAISED} {type(error).__name__}: {error}")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        note = {"process": os.getpid(), "file": key[0], "seconds": time.monotonic() - began, "memory": memory}
        append_lines(self.notes, [note])
        return sample


@dataclass(frozen=True, kw_only=True)
class FuzzConfig:
    """What to damage, and what is too much."""

    files: int = 2000
    """Damaged files."""
    seed: int = 0
    """Of the damages."""
    workers: int = 2
    """Loader processes."""
    patience: float = 60.0
    """Seconds that a clip may take."""
    growth: float = 256.0
    """MiB by which a process may grow after its first hundred clips."""
    keep: Path | None = None
    """Folder to leave the damaged files in."""


def run(config: FuzzConfig, folder: Path) -> int:
    """Reads the damaged files; prints the table; returns how many things were too much."""
    console = Console(soft_wrap=True)
    console.print(f"seed {config.seed}, {config.files} files")
    files = write_damaged(folder, config.files, config.seed)
    notes = folder / "notes.jsonl"
    batches = EvaluationBatches(files, FORMAT, batch_size=8, max_windows=2)
    outcome: dict[int, str] = {}
    began = told = time.monotonic()
    number_of = {file.path: number for number, file in enumerate(files)}
    for batch in BatchLoader(WatchedClips(files, notes), batches, num_workers=config.workers):
        for number in batch.index.tolist():
            outcome.setdefault(number, "read")
        for problem in batch.problems:
            ended = problem.reason.startswith((RAISED, "ended its process", "took longer"))
            outcome[number_of[problem.path]] = problem.reason if ended else "refused"
        if time.monotonic() - told > 10:
            told = time.monotonic()
            console.print(f"{len(outcome)} of {len(files)} files", highlight=False)
    records = read_lines(notes)
    table = Table("container", "files", "read", "refused", "raised or ended", "slowest, s")
    for suffix in ENCODINGS:
        numbers = [number for number, file in enumerate(files) if file.path.endswith(f".{suffix}")]
        found = Counter(outcome.get(number, "lost") for number in numbers)
        slowest = max((r["seconds"] for r in records if files[r["file"]].path.endswith(f".{suffix}")), default=0.0)
        others = sum(found.values()) - found["read"] - found["refused"] - found["lost"]
        table.add_row(suffix, *map(str, (len(numbers), found["read"], found["refused"], others)), f"{slowest:.2f}")
    console.print(table)
    problems = [f"{len(files) - len(outcome)} files were lost"] if len(outcome) < len(files) else []
    for number, reason in sorted(outcome.items()):
        if reason not in ("read", "refused"):
            console.print(f"{files[number].path}: {reason}", highlight=False)
            problems += [f"{files[number].path} {reason}"] if reason.startswith(RAISED) else []
    slow = [record for record in records if record["seconds"] > config.patience]
    problems += [f"{files[record['file']].path} took {record['seconds']:.0f} s" for record in slow]
    for process in {record["process"] for record in records}:
        memory = [record["memory"] for record in records if record["process"] == process]
        grown = memory[-1] - memory[min(100, len(memory) - 1)]
        console.print(f"process {process}: {len(memory)} clips, grew by {grown:.0f} MiB to {memory[-1]:.0f} MiB")
        if grown > config.growth:
            problems.append(f"process {process} grew by {grown:.0f} MiB")
    console.print(f"{time.monotonic() - began:.0f} s; {'; '.join(problems) or 'nothing too much'}")
    return len(problems)


def main(config: FuzzConfig) -> None:
    """Entry point of `python -m benchmarks.media_fuzz`."""
    if config.keep is not None:
        config.keep.mkdir(parents=True, exist_ok=True)
        sys.exit(run(config, config.keep.absolute()) > 0)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(config, Path(folder)) > 0)


if __name__ == "__main__":
    main(tyro.cli(FuzzConfig, description=__doc__))
