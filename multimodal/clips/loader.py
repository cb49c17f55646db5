"""Batches of clips from worker processes, in an order that can be resumed.

The order of samples and every random choice for a sample (window, crop, mirror image) follow from (seed, epoch, file
number) alone: neither the number of worker processes nor a restart changes them. A global batch is a stretch of the
epoch's permutation; each process of a distributed run takes its equal share. Files that do not
fill the last global batch of an epoch wait for the next epoch, so no file comes twice in one.

A file that turns out to be unreadable keeps its place in the batch with `has_video`, `has_audio` and `has_label`
False, which takes it out of every loss, and is reported in `ClipBatch.problems`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

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
from multimodal.clips.settings import LoaderConfig
from multimodal.common.records import Problem
from multimodal.common.sampling import EpochBatches


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
        """Called by the data loader when batches go to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return ClipBatch(**tensors, problems=self.problems)


class TrainingClips(Dataset):
    """A random window of a file for each (epoch, file number)."""

    def __init__(self, files: Sequence[LabelledFile], clip_format: ClipFormat, config: LoaderConfig, seed: int) -> None:
        self.files = files
        self.clip_format = clip_format
        self.seed = seed
        self.short_side = decoding_short_side(clip_format, config.augmentation.min_area)
        self.transform = training_transform(clip_format, config.augmentation)
        self.cache = DecodedCache(config.cache, clip_format, self.short_side) if config.cache is not None else None
        self._infos: dict[str, MediaInfo] = {}

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, LabelledFile, Clip | Problem]:
        epoch, number = key
        file = self.files[number]
        chance = np.random.default_rng([self.seed, epoch, number])
        try:
            return number, file, self._clip(file.path, chance)
        except UnreadableMedia as error:
            return number, file, Problem(path=error.path, reason=error.reason)

    def _clip(self, path: str, chance: np.random.Generator) -> Clip:
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


class EvaluationClips(Dataset):
    """The windows of all files, one after another, from the beginning of each; central crops."""

    def __init__(self, files: Sequence[LabelledFile], clip_format: ClipFormat, max_windows: int) -> None:
        """`max_windows` bounds the windows taken of one file, spread evenly over it.

        Files that cannot be probed stand with one window, which then reports the reason.
        """
        self.files = files
        self.clip_format = clip_format
        self.transform = evaluation_transform(clip_format)
        self.windows: list[tuple[int, int]] = []
        for number, file in enumerate(files):
            try:
                info = probe(file.path)
                starts = np.arange(0, num_starts(info.duration, clip_format), clip_format.num_frames)
            except UnreadableMedia:
                starts = np.zeros(1, int)
            chosen = starts[np.linspace(0, len(starts) - 1, min(max_windows, len(starts))).round().astype(int)]
            self.windows += [(number, int(start)) for start in chosen]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, position: int) -> tuple[int, LabelledFile, Clip | Problem]:
        number, start_frame = self.windows[position]
        file = self.files[number]
        try:
            check_long_enough(probe(file.path), self.clip_format)
            return number, file, read_clip(file.path, self.clip_format, start_frame, self.transform)
        except UnreadableMedia as error:
            return number, file, Problem(path=error.path, reason=error.reason)


class _Collate:
    """Stacks samples to a `ClipBatch`."""

    def __init__(self, clip_format: ClipFormat) -> None:
        shape = (clip_format.num_frames, 3, clip_format.height, clip_format.width)
        self.blank = Clip(
            video=torch.zeros(shape, dtype=torch.uint8),
            audio=torch.zeros(clip_format.num_samples),
            has_video=False,
            has_audio=False,
            start=0.0,
        )

    def __call__(self, samples: list[tuple[int, LabelledFile, Clip | Problem]]) -> ClipBatch:
        clips = [clip if isinstance(clip, Clip) else self.blank for _, _, clip in samples]
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


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _process_options(num_workers: int, prefetch: int) -> dict[str, object]:
    if num_workers == 0:
        return {}
    # Not fork: the training process has threads (Ray, torch) whose locks a forked child would inherit in any state.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["multimodal.clips.loader"])
    return {
        "num_workers": num_workers,
        "prefetch_factor": prefetch,
        "multiprocessing_context": context,
        "worker_init_fn": _one_thread,
    }


def training_loader(
    files: Sequence[LabelledFile],
    clip_format: ClipFormat,
    config: LoaderConfig,
    batches: EpochBatches,
    pin: bool = False,
) -> DataLoader:
    """Endless `ClipBatch`es in the order of `batches`. `pin` puts them into page-locked memory for a GPU."""
    return DataLoader(
        TrainingClips(files, clip_format, config, batches.seed),
        batch_sampler=batches,
        collate_fn=_Collate(clip_format),
        pin_memory=pin,
        **_process_options(config.num_workers, config.prefetch),  # type: ignore[arg-type]
    )


def evaluation_loader(
    files: Sequence[LabelledFile],
    clip_format: ClipFormat,
    *,
    batch_size: int,
    num_workers: int = 0,
    max_windows: int = 64,
) -> DataLoader:
    """`ClipBatch`es of all windows of `files`, in order; the last batch may be smaller."""
    return DataLoader(
        EvaluationClips(files, clip_format, max_windows),
        batch_size=batch_size,
        collate_fn=_Collate(clip_format),
        **_process_options(num_workers, 2),  # type: ignore[arg-type]
    )
