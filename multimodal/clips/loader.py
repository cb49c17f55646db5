"""Batches of clips from worker processes, in an order that can be resumed.

The order of samples and every random choice for a sample (window, crop, mirror image) follow from (seed, epoch, file
number) alone: neither the number of worker processes nor a restart changes them. A global batch is a stretch of the
epoch's permutation; each process of a distributed run takes its equal share. Files that do not
fill the last global batch of an epoch wait for the next epoch, so no file comes twice in one.

A file that turns out to be unreadable keeps its place in the batch with `has_video`, `has_audio` and `has_label`
False, which takes it out of every loss, and is reported in `ClipBatch.problems`. So does one that ends the process in
which it is decoded: see `multimodal.common.workers`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.clips.cache import DecodedCache
from multimodal.clips.clip import (
    Clip,
    ClipFormat,
    check_long_enough,
    clip_from_window,
    decoding_short_side,
    evaluation_transform,
    num_starts,
    read_clip,
    training_transform,
)
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.media import MediaInfo, UnreadableMedia, probe
from multimodal.clips.probing import probe_files
from multimodal.clips.settings import LoaderConfig
from multimodal.common.records import Problem
from multimodal.common.sampling import EpochBatches
from multimodal.common.workers import BatchLoader, SampleSource


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """A batch of clips.

    Attributes:
        video: uint8 `[B, T, 3, H, W]`.
        audio: float32 `[B, S]` in [-1, 1].
        label: int64 `[B]`, indices into the class list.
        has_video, has_audio, has_label: bool `[B]`, what of the sample is there.
        index: int64 `[B]`, numbers of the files in the list that the loader was made for.
        start: float64 `[B]`, seconds into the file.
        problems: files of this batch that could not be read.
    """

    video: Tensor
    audio: Tensor
    label: Tensor
    has_video: Tensor
    has_audio: Tensor
    has_label: Tensor
    index: Tensor
    start: Tensor
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def __getstate__(self) -> dict[str, Any]:
        # On the way from a loader process, pictures and sound go through shared memory and the rest by value: a shared
        # tensor costs the training process a connection of its own, which takes half a millisecond.
        small = {"label", "has_video", "has_audio", "has_label", "index", "start"}
        return {name: value.numpy() if name in small else value for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, torch.from_numpy(value) if isinstance(value, np.ndarray) else value)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> ClipBatch:
        """Called by the loader when batches go to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return ClipBatch(**tensors, problems=self.problems)


Sample = tuple[int, LabelledFile, Clip | Problem]


class _Clips(SampleSource[tuple[int, int], ClipBatch]):
    """Clips of labelled files by keys of two numbers."""

    def __init__(self, files: Sequence[LabelledFile], clip_format: ClipFormat) -> None:
        self.files = files
        self.clip_format = clip_format

    @abstractmethod
    def file_number(self, key: tuple[int, int]) -> int:
        """Which file a key stands for."""

    @abstractmethod
    def clip(self, path: str, key: tuple[int, int]) -> Clip:
        """The clip of a key.

        Raises:
            UnreadableMedia: the file cannot be used.
        """

    def sample(self, key: tuple[int, int]) -> Sample:
        number = self.file_number(key)
        file = self.files[number]
        try:
            return number, file, self.clip(file.path, key)
        except UnreadableMedia as error:
            return number, file, Problem(path=error.path, reason=error.reason)

    def without(self, key: tuple[int, int], reason: str) -> Sample:
        number = self.file_number(key)
        return number, self.files[number], Problem(path=self.files[number].path, reason=reason)

    def origin(self, key: tuple[int, int]) -> str:
        return self.files[self.file_number(key)].path

    def collate(self, samples: list[Sample]) -> ClipBatch:
        shape = (self.clip_format.num_frames, 3, self.clip_format.height, self.clip_format.width)
        blank = Clip(
            video=torch.zeros(shape, dtype=torch.uint8),
            audio=torch.zeros(self.clip_format.num_samples),
            has_video=False,
            has_audio=False,
            start=0.0,
        )
        clips = [clip if isinstance(clip, Clip) else blank for _, _, clip in samples]
        return ClipBatch(
            video=torch.stack([clip.video for clip in clips]),
            audio=torch.stack([clip.audio for clip in clips]),
            label=torch.tensor([file.label for _, file, _ in samples]),
            has_video=torch.tensor([clip.has_video for clip in clips]),
            has_audio=torch.tensor([clip.has_audio for clip in clips]),
            has_label=torch.tensor([isinstance(clip, Clip) for _, _, clip in samples]),
            index=torch.tensor([number for number, _, _ in samples]),
            start=torch.tensor([clip.start for clip in clips], dtype=torch.float64),
            problems=tuple(clip for _, _, clip in samples if isinstance(clip, Problem)),
        )


class TrainingClips(_Clips):
    """A random window of a file for each (epoch, file number)."""

    def __init__(self, files: Sequence[LabelledFile], clip_format: ClipFormat, config: LoaderConfig, seed: int) -> None:
        super().__init__(files, clip_format)
        self.seed = seed
        self.short_side = decoding_short_side(clip_format, config.augmentation.min_area)
        self.transform = training_transform(clip_format, config.augmentation)
        self.cache = DecodedCache(config.cache, clip_format, self.short_side) if config.cache is not None else None
        self._infos: dict[str, MediaInfo] = {}

    def file_number(self, key: tuple[int, int]) -> int:
        return key[1]

    def clip(self, path: str, key: tuple[int, int]) -> Clip:
        chance = np.random.default_rng([self.seed, *key])
        info = self._infos.get(path)
        if info is None:
            info = self._infos[path] = probe(path)
        check_long_enough(info, self.clip_format)
        start_frame = int(chance.integers(num_starts(info.duration, self.clip_format)))
        # The transforms draw from torch's global generator; its state outside this sample must not matter nor change.
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone: `torch.manual_seed` also records a stack trace for GPUs that are not yet in use.
            torch.default_generator.manual_seed(int(chance.integers(2**63)))
            window = self.cache.window(info, start_frame) if self.cache is not None else None
            if window is not None:
                return clip_from_window(path, window, self.clip_format, start_frame, self.transform)
            return read_clip(path, self.clip_format, start_frame, self.transform, self.short_side)


class EvaluationClips(_Clips):
    """Central crops of the window of a file for each (file number, first frame)."""

    def __init__(self, files: Sequence[LabelledFile], clip_format: ClipFormat) -> None:
        super().__init__(files, clip_format)
        self.transform = evaluation_transform(clip_format)

    def file_number(self, key: tuple[int, int]) -> int:
        return key[0]

    def clip(self, path: str, key: tuple[int, int]) -> Clip:
        check_long_enough(probe(path), self.clip_format)
        return read_clip(path, self.clip_format, key[1], self.transform)


class EvaluationBatches:
    """Batches of (file number, first frame): the windows of all files, one after another, from the beginning of each.

    Files are probed on the way, in a process of their own. One that cannot be probed has one window, which tells why.
    """

    def __init__(
        self, files: Sequence[LabelledFile], clip_format: ClipFormat, *, batch_size: int, max_windows: int
    ) -> None:
        """`max_windows` bounds the windows taken of one file, spread evenly over it."""
        self.files = files
        self.clip_format = clip_format
        self.batch_size = batch_size
        self.max_windows = max_windows

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        windows = self._windows()
        while batch := list(islice(windows, self.batch_size)):
            yield batch

    def _windows(self) -> Iterator[tuple[int, int]]:
        for number, info in enumerate(probe_files(file.path for file in self.files)):
            starts = np.zeros(1, int)
            if isinstance(info, MediaInfo):
                starts = np.arange(0, num_starts(info.duration, self.clip_format), self.clip_format.num_frames)
            spread = np.linspace(0, len(starts) - 1, min(self.max_windows, len(starts)))
            for start in starts[spread.round().astype(int)]:
                yield number, int(start)


def training_loader(
    files: Sequence[LabelledFile],
    clip_format: ClipFormat,
    config: LoaderConfig,
    batches: EpochBatches,
    pin: bool = False,
) -> BatchLoader[tuple[int, int], ClipBatch]:
    """Endless `ClipBatch`es in the order of `batches`. `pin` puts them into page-locked memory for a GPU."""
    return BatchLoader(
        TrainingClips(files, clip_format, config, batches.seed),
        batches,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        pin=pin,
    )


def evaluation_loader(
    files: Sequence[LabelledFile],
    clip_format: ClipFormat,
    *,
    batch_size: int,
    num_workers: int = 1,
    max_windows: int = 64,
) -> BatchLoader[tuple[int, int], ClipBatch]:
    """`ClipBatch`es of all windows of `files`, in order; the last batch may be smaller."""
    batches = EvaluationBatches(files, clip_format, batch_size=batch_size, max_windows=max_windows)
    return BatchLoader(EvaluationClips(files, clip_format), batches, num_workers=num_workers)
