"""The shared training machinery carries a modality that it has never heard of."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from multimodal.common import stopping
from multimodal.common.errors import DataError
from multimodal.common.records import METRICS_FILE, Problem, read_lines, skipped_files
from multimodal.common.run_folder import check_same_settings, checkpoints, make_folder, read_run, steps_done, write_run
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import TrainingSettings, differences
from multimodal.common.training import Turn, alone, train
from perceiver_core import AttentionConfig, DecoderConfig, EncoderConfig, PerceiverIO, PerceiverIOConfig
from perceiver_core.hub import HubModel
from perceiver_core.inputs import EntityInput
from perceiver_core.outputs import ProjectionOutput
from perceiver_core.position import FourierPosition
from perceiver_core.queries import PositionQueries

ROOT = Path(__file__).parents[2]
SAMPLES = 40


@dataclass(frozen=True)
class Points:
    """Sets of points [B, 5, 2], and the mean of each [B, 2]."""

    points: Tensor
    means: Tensor
    problems: tuple[Problem, ...] = ()

    def to(self, device: torch.device) -> Points:
        return Points(self.points.to(device), self.means.to(device), self.problems)


@dataclass
class MeanOfPoints:
    """The toy modality: tell the mean of a set of points."""

    settings: TrainingSettings
    num_samples: int = SAMPLES

    def build(self) -> PerceiverIO:
        return PerceiverIO(
            PerceiverIOConfig(
                inputs=EntityInput.Config(features=2, projection_channels=16),
                encoder=EncoderConfig(num_latents=4, latent_channels=16, num_self_attends=1),
                queries=PositionQueries.Config(position=FourierPosition.Config(shape=(1,), num_bands=2)),
                decoder=DecoderConfig(attention=AttentionConfig(num_heads=1, query_residual=False)),
                outputs=ProjectionOutput.Config(channels=2),
            )
        )

    def begin(self, model: HubModel) -> None:
        """Starts at random."""

    def batches(self, order: EpochBatches, device: torch.device) -> Iterator[Points]:
        for keys in order:
            sets = [torch.randn(5, 2, generator=torch.Generator().manual_seed(number)) for _, number in keys]
            points = torch.stack(sets)
            problems = tuple(Problem(path="sample 7", reason="a test") for epoch, number in keys if number == 7)
            yield Points(points, points.mean(1), problems)

    def losses(self, model: nn.Module, core: HubModel, batch: Points, turn: Turn) -> Mapping[str, Tensor]:
        error = (model(batch.points)[:, 0] - batch.means).square()
        return {"total": error.mean(), "x": error[:, 0].mean(), "y": error[:, 1].mean()}

    def preview(self, core: HubModel, writer: SummaryWriter, device: torch.device, step: int) -> None:
        writer.add_scalar("preview/weights", sum(float(p.detach().norm()) for p in core.parameters()), step)


def task(out: Path, **changes: Any) -> MeanOfPoints:
    settings = TrainingSettings(out=str(out), steps=23, batch_size=8, checkpoint_every=4, log_every=1)
    settings = replace(settings, **changes)
    make_folder(out)
    write_run(out, {"modality": "points", "training": settings.course()})
    return MeanOfPoints(settings)


def totals(out: Path) -> list[float]:
    lines = read_lines(out / METRICS_FILE)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["total"] for line in lines]


def test_a_toy_modality_trains_and_resumes_with_the_same_losses(tmp_path: Path) -> None:
    train(task(tmp_path / "whole"), alone())
    # An epoch has 5 steps: every break is inside one.
    for until in (3, 11, 17, None):
        train(task(tmp_path / "broken"), alone(), until=until)
    assert totals(tmp_path / "whole") == totals(tmp_path / "broken")
    assert totals(tmp_path / "whole")[-1] < totals(tmp_path / "whole")[0]
    assert steps_done(tmp_path / "broken") == 23
    assert skipped_files(tmp_path / "whole") == {"sample 7": "a test"}


def test_accumulation_changes_no_step(tmp_path: Path) -> None:
    train(task(tmp_path / "one"), alone())
    train(task(tmp_path / "four", accumulate=4), alone())
    assert totals(tmp_path / "four") == pytest.approx(totals(tmp_path / "one"), rel=1e-4)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    train(task(tmp_path / "whole"), alone())
    stopped = task(tmp_path / "stopped", checkpoint_every=1000)

    class AskedToStop(MeanOfPoints):
        def losses(self, model: nn.Module, core: HubModel, batch: Points, turn: Turn) -> Mapping[str, Tensor]:
            if turn.step == 6:
                stopping.request(tmp_path / "stopped")
            return super().losses(model, core, batch, turn)

    train(AskedToStop(stopped.settings), alone())
    assert steps_done(tmp_path / "stopped") == 7
    train(stopped, alone())
    assert totals(tmp_path / "stopped") == totals(tmp_path / "whole")


def test_all_processes_stop_after_the_same_step(tmp_path: Path) -> None:
    """Two processes in lock step, as gradients bind them; the request comes at any moment."""
    ends: list[list[int]] = []
    for moment in range(40):
        folder = tmp_path / str(moment)
        folder.mkdir()
        meet = threading.Barrier(2)
        made = [0, 0]

        def work(rank: int, folder: Path = folder, meet: threading.Barrier = meet, made: list[int] = made) -> None:
            watch = stopping.StopWatch(folder, rank, world_size=2)
            while not watch.ends_before(made[rank]):
                meet.wait(30)
                made[rank] += 1

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        while made[0] < moment:
            pass
        stopping.request(folder)
        for thread in threads:
            thread.join(30)
        ends.append(made)
    assert all(first == second for first, second in ends), ends


def test_changed_settings_are_refused_and_told(tmp_path: Path) -> None:
    begun = task(tmp_path / "run").settings.course()
    stored = read_run(tmp_path / "run", "points")["training"]
    check_same_settings(tmp_path, stored, begun)
    with pytest.raises(DataError, match=r"begun with other settings \(steps 23 -> 9\)"):
        check_same_settings(tmp_path, stored, task(tmp_path / "other", steps=9).settings.course())
    with pytest.raises(DataError, match="is a run of the points, not of the language"):
        read_run(tmp_path / "run", "language")
    usual = TrainingSettings(out="x")
    changed = replace(usual, steps=7, optimizer=replace(usual.optimizer, learning_rate=0.5))
    assert differences(changed, usual) == [
        "--steps 7 (preset: 3000)",
        "--optimizer.learning-rate 0.5 (preset: 0.001)",
    ]


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    train(task(tmp_path / "run"), alone())
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000020", "step-00000023"]


def test_common_knows_no_modality() -> None:
    check = (
        "import pkgutil, importlib, sys, multimodal.common as c\n"
        "for m in pkgutil.iter_modules(c.__path__): importlib.import_module('multimodal.common.' + m.name)\n"
        "bad = [m for m in sys.modules if m.startswith('multimodal.') and not m.startswith('multimodal.common')]\n"
        "sys.exit(', '.join(bad) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
