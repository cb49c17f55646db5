"""Files whose decoding ends the process: they are listed, and everything else goes on as without them.

Such files exist for every version of FFmpeg until they are found and mended. Here the clips of files named `deadly*`
end their process by a signal, as a crash of native code does; the rest is as in every run.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from multimodal.autoencoder.model import PRESETS
from multimodal.autoencoder.preparation import prepare
from multimodal.autoencoder.settings import default_config
from multimodal.autoencoder.task import AutoencoderTask
from multimodal.clips import probing
from multimodal.clips.clip import Augmentation, Clip, ClipFormat
from multimodal.clips.datasets import LabelledFile, check_files, find_files
from multimodal.clips.loader import (
    ClipBatch,
    EvaluationBatches,
    EvaluationClips,
    LoaderConfig,
    TrainingClips,
    training_loader,
)
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.errors import DataError
from multimodal.common.records import read_lines, skipped_files
from multimodal.common.sampling import EpochBatches
from multimodal.common.training import alone, train
from multimodal.common.workers import BatchLoader
from tests.multimodal.material import write_numbered
from tests.multimodal.test_training import MICRO

FORMAT = ClipFormat(num_frames=8, frame_rate=25, height=32, width=32, sample_rate=8_000)
CRASH = "ended its process (signal 11, SIGSEGV), 2 times"


def die_of(path: str) -> None:
    if Path(path).name.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGSEGV)


class DeadlyTrainingClips(TrainingClips):
    def clip(self, path: str, key: tuple[int, int]) -> Clip:
        die_of(path)
        return super().clip(path, key)


class DeadlyEvaluationClips(EvaluationClips):
    def clip(self, path: str, key: tuple[int, int]) -> Clip:
        die_of(path)
        return super().clip(path, key)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    root = tmp_path_factory.mktemp("files")
    names = [f"deadly-{number}" if number in (3, 4, 11) else f"{number}" for number in range(14)]
    paths = [write_numbered(root / f"{name}.mp4", num_frames=16) for name in names]
    return [LabelledFile(path=str(path), label=number % 3) for number, path in enumerate(paths)]


def same_but(got: ClipBatch, expected: ClipBatch, lost: set[int]) -> None:
    """Assert that a batch is another one without the clips of the files `lost`."""
    assert torch.equal(got.index, expected.index) and torch.equal(got.label, expected.label)
    for row, number in enumerate(got.index.tolist()):
        flags = [bool(flag[row]) for flag in (got.has_video, got.has_audio, got.has_label)]
        if number in lost:
            assert flags == [False] * 3 and not got.video[row].any() and not got.audio[row].any()
        else:
            assert flags == [True] * 3
            assert torch.equal(got.video[row], expected.video[row])
            assert torch.equal(got.audio[row], expected.audio[row])


def test_training_goes_on_with_the_same_samples_in_the_same_order(files: list[LabelledFile]) -> None:
    config = LoaderConfig(num_workers=2, prefetch=2, augmentation=Augmentation(min_area=0.5, flip=0.5))
    steps = 5 * (len(files) // 4)
    expected = islice(
        training_loader(files, FORMAT, replace(config, num_workers=0), EpochBatches(14, 4, seed=3)), steps
    )
    clips = DeadlyTrainingClips(files, FORMAT, config, seed=3)
    loader = BatchLoader(clips, EpochBatches(14, 4, seed=3), num_workers=2, prefetch=2)
    seen = set()
    for got, whole in zip(islice(loader, steps), expected, strict=True):
        same_but(got, whole, {3, 4, 11})
        named = {Path(problem.path).name: problem.reason for problem in got.problems}
        assert set(named) == {f"deadly-{number}.mp4" for number in got.index.tolist() if number in (3, 4, 11)}
        assert set(named.values()) <= {CRASH}
        seen |= set(named)
    assert len(seen) == 3


def test_evaluation_goes_on(files: list[LabelledFile]) -> None:
    batches = EvaluationBatches(files, FORMAT, batch_size=5, max_windows=2)
    whole = BatchLoader(EvaluationClips(files, FORMAT), batches, num_workers=0)
    got = list(BatchLoader(DeadlyEvaluationClips(files, FORMAT), batches, num_workers=1))
    assert torch.cat([batch.index for batch in got]).tolist() == [number for number in range(14) for _ in range(2)]
    for batch, expected in zip(got, whole, strict=True):
        same_but(batch, expected, {3, 4, 11})
    assert {problem.reason for batch in got for problem in batch.problems} == {CRASH}


@dataclass
class DeadlyTask(AutoencoderTask):
    def batches(self, order: EpochBatches, device: torch.device) -> Iterable[ClipBatch]:
        loading = self.settings.loader
        clips = DeadlyTrainingClips(self.files.files, self.sizes.clip, loading, order.seed)
        return BatchLoader(clips, order, num_workers=loading.num_workers, prefetch=loading.prefetch)


def test_a_run_lists_them_and_reaches_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "micro", MICRO)
    data = generate(tmp_path / "clips", SyntheticConfig(clips_per_class=3, held_out=0.3, seconds=0.4, size=16))
    victim = sorted((data / "train").rglob("*.mp4"))[2]
    deadly = victim.with_name(f"deadly-{victim.name}")
    victim.rename(deadly)
    config = replace(
        default_config("tiny", str(tmp_path / "run")),
        preset="micro",
        data=str(data),
        steps=14,
        batch_size=3,
        checkpoint_every=14,
        log_every=1,
        loader=LoaderConfig(num_workers=2),
    )
    task = prepare(config)
    train(DeadlyTask(task.settings, task.data), alone())
    assert [line["step"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 15))
    assert skipped_files(tmp_path / "run") == {str(deadly): CRASH}


DEADLY_CHILD = """
import os, signal, sys
from multimodal.clips import probing
probe = probing.probe
def deadly(path):
    if "deadly" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return probe(path)
probing.probe = deadly
probing.serve(int(sys.argv[1]))
"""


def test_headers_are_read_in_a_process_of_their_own(
    tmp_path: Path, files: list[LabelledFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, file in (("a/1", files[0]), ("a/deadly", files[1]), ("b/2", files[2])):
        target = tmp_path / "train" / f"{name}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.path, target)
    found = find_files(tmp_path, "train")
    assert check_files(found, FORMAT, tmp_path) == []
    monkeypatch.setattr(probing, "CHILD", DEADLY_CHILD)
    problems = check_files(found, FORMAT, tmp_path)
    assert [(Path(problem.path).name, problem.reason) for problem in problems] == [("deadly.mp4", CRASH)]
    windows = [key for batch in EvaluationBatches(found.files, FORMAT, batch_size=9, max_windows=2) for key in batch]
    assert windows == [(0, 0), (0, 8), (1, 0), (2, 0), (2, 8)]
    with pytest.raises(DataError, match=r"none of 1 files .* can be used; .*SIGSEGV"):
        check_files(replace(found, files=found.files[1:2]), FORMAT, tmp_path)
