from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.clips.cache import CacheConfig, DecodedCache
from multimodal.clips.clip import Augmentation, ClipFormat
from multimodal.clips.datasets import LabelledFile
from multimodal.clips.loader import ClipBatch, LoaderConfig, TrainingClips, evaluation_loader, training_loader
from multimodal.clips.media import probe
from multimodal.common.errors import DataError
from multimodal.common.sampling import EpochBatches
from tests.multimodal.material import write_numbered

FORMAT = ClipFormat(num_frames=8, frame_rate=25, height=32, width=32, sample_rate=8_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    root = tmp_path_factory.mktemp("files")
    paths = [write_numbered(root / f"{number}.mp4", num_frames=15 + number) for number in range(5)]
    broken = root / "broken.mp4"
    broken.write_bytes(b"broken")
    silent = write_numbered(root / "silent.mp4", sound=False)
    return [LabelledFile(path=str(path), label=number) for number, path in enumerate([*paths, broken, silent])]


def same(a: ClipBatch, b: ClipBatch) -> bool:
    return all(torch.equal(value, vars(b)[name]) for name, value in vars(a).items() if isinstance(value, torch.Tensor))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    num_samples=st.integers(1, 60),
    parts=st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]),
    part_size=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_order_covers_each_epoch_once_however_it_is_cut(
    num_samples: int, parts: tuple[int, int], part_size: int, seed: int
) -> None:
    world_size, accumulate = parts
    batch = part_size * world_size * accumulate
    if num_samples < batch:
        with pytest.raises(DataError, match="lower the batch size"):
            EpochBatches(num_samples, batch, seed=seed, world_size=world_size, accumulate=accumulate)
        return
    whole = EpochBatches(num_samples, batch, seed=seed)
    ranks = [
        EpochBatches(num_samples, batch, seed=seed, rank=rank, world_size=world_size, accumulate=accumulate)
        for rank in range(world_size)
    ]
    steps = 2 * whole.steps_per_epoch
    seen: dict[int, list[int]] = {0: [], 1: []}
    for step in range(steps):
        together = [key for cut in range(accumulate) for rank in ranks for key in rank.batch(step, cut)]
        assert together == whole.batch(step), "processes and accumulation change what a step sees"
        for epoch, number in together:
            seen[epoch].append(number)
    for numbers in seen.values():
        assert len(numbers) == len(set(numbers)) > num_samples - batch
    first_step = steps // 2
    resumed = EpochBatches(num_samples, batch, seed=seed, first_step=first_step)
    assert list(islice(resumed, 3)) == [whole.batch(first_step + offset) for offset in range(3)]
    if whole.steps_per_epoch * batch > 10:
        assert seen[0] != seen[1], "every epoch has the same order"


def test_batches_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="take a multiple of 4"):
        EpochBatches(100, 10, seed=0, world_size=2, accumulate=2)


def test_worker_processes_and_resuming_do_not_change_samples(files: list[LabelledFile]) -> None:
    config = LoaderConfig(num_workers=0, augmentation=Augmentation(min_area=0.5, flip=0.5, jitter=0.2))
    batches = EpochBatches(len(files), 3, seed=4)
    here = list(islice(training_loader(files, FORMAT, config, batches), 5))
    workers = LoaderConfig(num_workers=2, augmentation=config.augmentation)
    loader = iter(training_loader(files, FORMAT, workers, EpochBatches(len(files), 3, seed=4, first_step=2)))
    for expected in here[2:]:
        got = next(loader)
        assert same(got, expected)
        assert got.problems == expected.problems
    state = torch.get_rng_state()
    TrainingClips(files, FORMAT, config, seed=4).sample((0, 0))
    assert torch.equal(state, torch.get_rng_state()), "loading a sample changes the global random state"


def test_unreadable_files_keep_their_place_and_are_reported(files: list[LabelledFile]) -> None:
    batch = next(iter(training_loader(files, FORMAT, LoaderConfig(num_workers=0), EpochBatches(7, 7, seed=0))))
    assert batch.video.shape == (7, 8, 3, 32, 32) and batch.audio.shape == (7, 2_560)
    assert sorted(batch.index.tolist()) == list(range(7))
    assert torch.equal(batch.label, batch.index)
    rows = {int(number): row for row, number in enumerate(batch.index)}
    assert [bool(flag[rows[5]]) for flag in (batch.has_video, batch.has_audio, batch.has_label)] == [False] * 3
    assert [bool(flag[rows[6]]) for flag in (batch.has_video, batch.has_audio, batch.has_label)] == [True, False, True]
    assert [Path(problem.path).name for problem in batch.problems] == ["broken.mp4"]
    others = [rows[number] for number in range(5)]
    assert bool(batch.has_video[others].all() & batch.has_audio[others].all() & batch.has_label[others].all())


def test_random_windows_lie_on_the_frame_grid_and_differ_between_epochs(files: list[LabelledFile]) -> None:
    clips = TrainingClips(files, FORMAT, LoaderConfig(num_workers=0), seed=1)
    starts = [clips.sample((epoch, 4))[2].start * 25 for epoch in range(60)]  # type: ignore[union-attr]
    np.testing.assert_allclose(starts, np.round(starts), atol=1e-9)
    assert set(np.round(starts)) == set(range(12)), "19 frames have 12 windows of 8"


def test_evaluation_takes_all_windows_in_order(files: list[LabelledFile]) -> None:
    batches = list(evaluation_loader(files[:5], FORMAT, batch_size=4))
    # Of 15 to 19 frames; a second window of 8 fits from 16 on.
    assert torch.cat([batch.index for batch in batches]).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    limited = list(evaluation_loader(files[:5], FORMAT, batch_size=4, max_windows=1))
    assert torch.cat([batch.index for batch in limited]).tolist() == [0, 1, 2, 3, 4]


def test_cached_windows_are_those_of_the_file(files: list[LabelledFile], tmp_path: Path) -> None:
    cache = CacheConfig(folder=str(tmp_path / "cache"), max_bytes=10**8)
    plain = TrainingClips(files, FORMAT, LoaderConfig(num_workers=0), seed=2)
    cached = TrainingClips(files, FORMAT, LoaderConfig(num_workers=0, cache=cache), seed=2)
    for epoch in range(3):
        for number in (0, 3, 6):
            expected, got = plain.sample((epoch, number))[2], cached.sample((epoch, number))[2]
            assert torch.equal(got.video, expected.video)  # type: ignore[union-attr]
            # Stored with 16 bits; and decoded from the beginning where the plain reader seeks.
            assert float((got.audio - expected.audio).abs().max()) < 0.02  # type: ignore[union-attr]
            assert (got.has_audio, got.start) == (expected.has_audio, expected.start)  # type: ignore[union-attr]
    assert len(list((tmp_path / "cache").glob("*.clip"))) == 3


def test_the_cache_keeps_its_bound_and_the_entries_of_this_run(files: list[LabelledFile], tmp_path: Path) -> None:
    config = CacheConfig(folder=str(tmp_path), max_bytes=200_000)
    infos = [probe(file.path) for file in files[:5]]
    cache = DecodedCache(config, FORMAT, 32)
    served = [cache.window(info, 0) is not None for info in infos]
    assert served == [True, True, True, False, False] or served == [True, True, False, False, False], served
    assert 0 < cache.size() <= config.max_bytes
    kept = {path.name for path in tmp_path.glob("*.clip")}
    assert cache.window(infos[0], 3) is not None
    later = DecodedCache(config, FORMAT, 32)
    later.began += 10  # as if this run had begun ten seconds after the other's last touch
    assert later.window(infos[4], 0) is not None
    assert later.size() <= config.max_bytes
    assert {path.name for path in tmp_path.glob("*.clip")} != kept


def test_a_damaged_cache_entry_is_made_anew(files: list[LabelledFile], tmp_path: Path) -> None:
    cache = DecodedCache(CacheConfig(folder=str(tmp_path), max_bytes=10**8), FORMAT, 32)
    info = probe(files[0].path)
    first = cache.window(info, 2)
    entry = next(tmp_path.glob("*.clip"))
    entry.write_bytes(entry.read_bytes()[:100])
    again = cache.window(info, 2)
    assert first is not None and again is not None
    np.testing.assert_array_equal(first.frames, again.frames)
