"""The shared training machinery carries a modality that it has never heard of."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from multimodal.common import stopping, telling
from multimodal.common.errors import DataError, NonFiniteLoss
from multimodal.common.optimizers import Optimizers
from multimodal.common.records import METRICS_FILE, Problem, read_lines, skipped_files
from multimodal.common.run_folder import check_same_settings, checkpoints, make_folder, read_run, steps_done, write_run
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import OptimizerConfig, TrainingSettings, differences
from multimodal.common.training import Turn, alone, distributed_place, train
from perceiver_core import AttentionConfig, DecoderConfig, EncoderConfig, PerceiverIO, PerceiverIOConfig
from perceiver_core.hub import WEIGHTS_FILE, HubModel, read_safetensors
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


def _one_of_two(rank: int, folder: str, ends: Any) -> None:
    """One of two processes; process 0 is asked to stop in step 6."""
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)

    class AskedToStop(MeanOfPoints):
        def losses(self, model: nn.Module, core: HubModel, batch: Points, turn: Turn) -> Mapping[str, Tensor]:
            if turn.step == 6 and rank == 0:
                stopping.request(Path(folder))
            ends[rank] = turn.step
            return super().losses(model, core, batch, turn)

    place = distributed_place(torch.device("cpu"), DistributedDataParallel)
    train(AskedToStop(task(Path(folder), checkpoint_every=1000, num_processes=2).settings), place)
    torch.distributed.destroy_process_group()


def test_all_processes_stop_after_the_same_step(tmp_path: Path) -> None:
    train(task(tmp_path / "one"), alone(), until=7)
    folder = tmp_path / "two"
    task(folder, checkpoint_every=1000, num_processes=2)
    context = torch.multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        ends = manager.dict()
        torch.multiprocessing.spawn(_one_of_two, args=(str(folder), ends), nprocs=2)
        assert dict(ends) == {0: 6, 1: 6}
    assert steps_done(folder) == 7
    # The weights after a step are those of one process, though each logs the loss of its own half of the batch.
    two, one = (read_safetensors(checkpoints(run)[-1] / WEIGHTS_FILE) for run in (folder, tmp_path / "one"))
    torch.testing.assert_close(two, one, atol=2e-4, rtol=1e-3)


class Noisy(MeanOfPoints):
    """Draws at random in every step, and takes turns with its second loss."""

    def losses(self, model: nn.Module, core: HubModel, batch: Points, turn: Turn) -> Mapping[str, Tensor]:
        found = dict(super().losses(model, core, Points(batch.points + torch.randn(5, 2), batch.means), turn))
        if turn.step % 2:
            del found["y"]
        return found


def test_what_a_model_draws_is_drawn_again_after_a_break(tmp_path: Path) -> None:
    train(Noisy(task(tmp_path / "whole").settings), alone())
    for until in (3, 11, None):
        torch.manual_seed(until or 0)
        train(Noisy(task(tmp_path / "broken").settings), alone(), until=until)
    assert totals(tmp_path / "whole") == totals(tmp_path / "broken")


def test_a_loss_that_takes_turns_is_a_mean_over_its_own_turns(tmp_path: Path) -> None:
    train(Noisy(task(tmp_path / "run", log_every=4, steps=8).settings), alone())
    first = read_lines(tmp_path / "run" / METRICS_FILE)[0]
    assert first["total"] == pytest.approx((first["x"] + first["y"]) / 2, rel=0.8) and first["y"] > 0
    train(Noisy(task(tmp_path / "each", steps=8).settings), alone())
    each = read_lines(tmp_path / "each" / METRICS_FILE)
    assert [("y" in line) for line in each] == [True, False] * 4
    assert first["y"] == pytest.approx((each[0]["y"] + each[2]["y"]) / 2)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    class Breaks(MeanOfPoints):
        def losses(self, model: nn.Module, core: HubModel, batch: Points, turn: Turn) -> Mapping[str, Tensor]:
            found = super().losses(model, core, batch, turn)
            return {name: value * (math.inf if turn.step == 10 else 1.0) for name, value in found.items()}

    settings = task(tmp_path / "run", log_every=100).settings
    with pytest.raises(NonFiniteLoss, match=r"the loss is (inf|nan) at step 12; nothing was saved since step 8"):
        train(Breaks(settings), alone())
    weights = read_safetensors(checkpoints(tmp_path / "run")[-1] / WEIGHTS_FILE)
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_the_optimizer_goes_by_the_names_of_parameters_not_by_their_order() -> None:
    def trained(*names: str) -> tuple[nn.ModuleDict, Optimizers]:
        model = nn.ModuleDict({name: nn.Linear(2, int(name[1:])) for name in names})
        optimizers = Optimizers(model, OptimizerConfig())
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, float(len(parameter)))
        optimizers.step(0, 10)
        return model, optimizers

    _, begun = trained("a3", "b5")
    reversed_model, reversed_optimizers = trained("b5", "a3")
    reversed_optimizers.load_state_dict(begun.state_dict())
    ((adamw, _),) = reversed_optimizers.parts
    for name, parameter in reversed_model.named_parameters():
        average = adamw.state[parameter]["exp_avg"]
        torch.testing.assert_close(average, torch.full_like(parameter, 0.1 * len(parameter)), msg=name)
    with pytest.raises(DataError, match=r"of other parameters than this model's: b5\.bias, b5\.weight, c4\.bias"):
        trained("a3", "c4")[1].load_state_dict(begun.state_dict())
    without_names = [{key: value for key, value in state.items() if key != "names"} for state in begun.state_dict()]
    trained("a3", "b5")[1].load_state_dict(without_names)
    with pytest.raises(DataError, match=r"has values of shape \{\(3, 2\)\} for b5\.weight, whose shape is \(5, 2\)"):
        reversed_optimizers.load_state_dict(without_names)


KILLED = """
import sys, os, signal, torch
from pathlib import Path
from tests.multimodal.test_common import MeanOfPoints, task
from multimodal.common.training import alone, train

class Killed(MeanOfPoints):
    def losses(self, model, core, batch, turn):
        if turn.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().losses(model, core, batch, turn)

torch.set_num_threads(1)  # as in the tests
train(Killed(task(Path(sys.argv[1])).settings), alone())
"""


def test_a_killed_process_continues_with_the_same_losses(tmp_path: Path) -> None:
    train(task(tmp_path / "whole"), alone())
    for step in (5, 14):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(step)]
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        assert steps_done(tmp_path / "killed") == 4 * (step // 4)
    train(task(tmp_path / "killed"), alone())
    # Another process may round otherwise: kernels depend on how memory is aligned.
    assert totals(tmp_path / "killed") == pytest.approx(totals(tmp_path / "whole"), rel=1e-4)


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


def test_what_takes_long_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(telling, "LINE_SECONDS", 0.001)
    seen = ""
    with telling.Telling("looking") as tell:
        while seen.count("looking (") < 2:
            seen += capsys.readouterr().err
        tell("7 found")
        while "7 found (0 s)" not in seen:
            seen += capsys.readouterr().err
