"""A bounded cache of decoded files on disk, shared by the processes of a loader.

An entry is a whole file decoded at the clip's frame rate and sample rate, frames shrunk to the decoding size: windows
are slices of it, read without loading the rest. When the cache is full, entries that the present run has not touched
make room, oldest first; entries of the present run stay. Training visits every file once an epoch in random order,
where keeping a fixed part of the files hits as often as the bound allows, and evicting the least recently used hits
hardly ever.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from multimodal.clips.clip import ClipFormat
from multimodal.clips.media import MediaInfo, Window, read_window
from multimodal.clips.settings import CacheConfig

SUFFIX = ".clip"


class DecodedCache:
    """See the module. Safe to use from many processes at once: entries are written aside and renamed."""

    def __init__(self, config: CacheConfig, clip_format: ClipFormat, short_side: int) -> None:
        if config.folder is None:
            raise ValueError("a cache needs a folder; give CacheConfig(folder=...)")
        self.folder = Path(config.folder)
        self.max_bytes = config.max_bytes
        self.clip_format = clip_format
        self.short_side = short_side
        self.began = time.time()
        # Entries of this run only grow in number, so what found no room once never will.
        self._refused: float = math.inf
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as total:
            total.write(self.size())

    def window(self, info: MediaInfo, start_frame: int) -> Window | None:
        """The window of the clip's length at `start_frame`, stored first if there is room; None where it does not
        fit.
        """
        entry = self._entry(info)
        window = self._slice(entry, start_frame)
        if window is None and self._store(info, entry):
            window = self._slice(entry, start_frame)
        return window

    def size(self) -> int:
        """Bytes in use."""
        return sum(size for _, size, _ in self._entries())

    def _entry(self, info: MediaInfo) -> Path:
        status = os.stat(info.path)
        rates = (self.clip_format.frame_rate, self.clip_format.sample_rate, self.short_side)
        key = repr((os.path.abspath(info.path), status.st_size, status.st_mtime_ns, rates))
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + SUFFIX)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Last touch, bytes and path of every entry, oldest first."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _slice(self, entry: Path, start_frame: int) -> Window | None:
        try:
            with safe_open(entry, framework="numpy") as stored:
                frames_covered, total, samples_covered = (int(value) for value in stored.get_tensor("counts"))
                count, per_frame = self.clip_format.num_frames, self.clip_format.samples_per_frame
                frames = sound = None
                names = set(stored.keys())
                if "frames" in names:
                    frames = stored.get_slice("frames")[min(start_frame, total - 1) : min(start_frame + count, total)]
                    if len(frames) < count:
                        frames = np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
                lo, hi = start_frame * per_frame, (start_frame + count) * per_frame
                if "sound" in names:
                    sound = stored.get_slice("sound")[lo:hi].astype(np.float32) / 32767
                    sound = np.pad(sound, (0, hi - lo - len(sound)))
        except (FileNotFoundError, SafetensorError):
            return None
        os.utime(entry)
        return Window(
            frames=frames,
            sound=sound,
            frame_times=np.zeros(0),
            frames_covered=max(0, min(count, frames_covered - start_frame)),
            sound_covered=max(0, min(hi, samples_covered) - lo) / (hi - lo),
        )

    def _store(self, info: MediaInfo, entry: Path) -> bool:
        total = max(1, int(np.ceil(info.duration * self.clip_format.frame_rate - 1e-6)))
        pixels = 0
        if info.width is not None and info.height is not None:
            scale = min(1.0, self.short_side / min(info.width, info.height))
            pixels = round(info.width * scale) * round(info.height * scale) * 3
        estimate = total * (pixels + 2 * self.clip_format.samples_per_frame)
        if not self._fits(estimate):
            return False
        whole = read_window(
            info.path,
            start=0.0,
            num_frames=total,
            frame_rate=self.clip_format.frame_rate,
            sample_rate=self.clip_format.sample_rate,
            short_side=self.short_side,
        )
        samples_covered = 0
        tensors = {}
        if whole.frames is not None:
            tensors["frames"] = whole.frames
        if whole.sound is not None:
            tensors["sound"] = np.rint(np.clip(whole.sound, -1, 1) * 32767).astype(np.int16)
            samples_covered = round(whole.sound_covered * len(whole.sound))
        tensors["counts"] = np.array([whole.frames_covered, total, samples_covered], np.int64)
        partial = entry.with_name(f".{entry.name}.{os.getpid()}.partial")
        try:
            save_file(tensors, partial)
            # One process at a time weighs the cache, so that together they keep the bound.
            with self._locked() as in_use:
                size = partial.stat().st_size
                used = in_use.read()
                if used + size > self.max_bytes:
                    used = self._make_room(size)
                    in_use.write(used)
                    if used + size > self.max_bytes:
                        return False
                os.replace(partial, entry)
                in_use.write(used + size)
        finally:
            partial.unlink(missing_ok=True)
        return True

    @contextmanager
    def _locked(self) -> Iterator[_Total]:
        """The bytes in use, for one process at a time: counting the files each time would take longer than decoding."""
        with (self.folder / "total").open("a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield _Total(stream)

    def _fits(self, needed: int) -> bool:
        """Whether an entry would find room once those of earlier runs are gone."""
        if needed >= self._refused:
            return False
        with self._locked() as total:
            if total.read() + needed <= self.max_bytes:
                return True
        own = sum(size for touched, size, _ in self._entries() if touched >= self.began)
        if own + needed <= self.max_bytes:
            return True
        self._refused = needed
        return False

    def _make_room(self, needed: int) -> int:
        """Remove entries of earlier runs, oldest first, until `needed` bytes fit or none is left; bytes then in use."""
        entries = self._entries()
        used = sum(size for _, size, _ in entries)
        for touched, size, path in entries:
            if used + needed <= self.max_bytes or touched >= self.began:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used


class _Total:
    """A number in an open file."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def read(self) -> int:
        self.stream.seek(0)
        return int(self.stream.read() or 0)

    def write(self, value: int) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.stream.write(str(value))
        self.stream.flush()
