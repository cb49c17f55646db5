"""The training loop of every modality, in one process of a distributed run. Nothing here knows of Ray.

A modality is a `Task`: it builds the model, makes batches, computes named losses and shows a preview. The loop does
the rest: it resumes from the newest checkpoint, inside an epoch too; accumulates gradients; takes steps; logs; saves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from multimodal.common import stopping
from multimodal.common.checkpoints import restore, save_checkpoint
from multimodal.common.optimizers import Optimizers
from multimodal.common.records import METRICS_FILE, Problem, append_lines, forget_after, record_problems
from multimodal.common.run_folder import claim
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import TrainingSettings
from perceiver_core.hub import HubModel


class Batch(Protocol):
    """A share of a global batch."""

    @property
    def problems(self) -> Sequence[Problem]:
        """Files of this batch that could not be used."""
        ...

    def to(self, device: torch.device) -> Self:
        """The batch with its tensors on `device`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Which part of which step a loss is computed for: random choices follow from it.

    Attributes:
        step: number of the step, from the beginning of training.
        part: where the batch lies in the step's global batch.
    """

    step: int
    part: slice


class Task(Protocol):
    """What a modality brings. Pickled into every process of a run; heavy things are made there, when first needed."""

    @property
    def settings(self) -> TrainingSettings: ...

    @property
    def num_samples(self) -> int:
        """Samples of an epoch."""
        ...

    def build(self) -> HubModel:
        """The freshly initialised model; the loop has seeded torch."""
        ...

    def begin(self, model: HubModel) -> None:
        """Called once for a run without a checkpoint: the place to load weights to start from."""
        ...

    def batches(self, order: EpochBatches, device: torch.device) -> Iterable[Any]:
        """Endless `Batch`es in the order of `order`."""
        ...

    def losses(self, model: nn.Module, core: HubModel, batch: Any, turn: Turn) -> Mapping[str, Tensor]:
        """Scalars by name. `total` is minimised, the others are logged.

        `model` is called for the forward pass: `core` itself, or its distributed wrapper.
        """
        ...

    def preview(self, core: HubModel, writer: SummaryWriter, device: torch.device, step: int) -> None:
        """Show what the model does, with every checkpoint."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """A process's place in the run.

    Attributes:
        rank: number of the process; 0 writes checkpoints, measurements and previews.
        world_size: number of processes.
        device: its device.
        wrap: makes the core a distributed model on the device.
        barrier: waits for all processes.
    """

    rank: int
    world_size: int
    device: torch.device
    wrap: Callable[[nn.Module], nn.Module]
    barrier: Callable[[], None]


def alone(device: str = "cpu") -> Place:
    """The only process of a run."""
    return Place(rank=0, world_size=1, device=torch.device(device), wrap=lambda model: model, barrier=lambda: None)


def train(task: Task, place: Place, until: int | None = None) -> dict[str, float]:
    """Train from the newest checkpoint in the run folder to the last step, or until the command asks to stop.

    Args:
        task: the modality's part. The run folder must hold `run.json`.
        place: this process's place.
        until: stop after this step, for a run that is to be continued later.

    Returns:
        Means of the last logged stretch of steps: the losses, samples per second, and the share of the time that was
        spent waiting for samples.

    Raises:
        DataError: another training goes on in the folder.
    """
    with claim(Path(task.settings.out)) if place.rank == 0 else nullcontext():
        if place.rank == 0:
            stopping.clear(Path(task.settings.out))
        place.barrier()
        return _train(task, place, until)


def _train(task: Task, place: Place, until: int | None) -> dict[str, float]:
    settings = task.settings
    folder = Path(settings.out)
    torch.manual_seed(settings.seed)
    core = task.build().to(place.device)
    optimizers = Optimizers(core, settings.optimizer)
    done = restore(folder, core, optimizers)
    if done == 0:
        task.begin(core)
    last = settings.steps if until is None else min(until, settings.steps)
    writes = place.rank == 0
    if writes:
        forget_after(folder, done)
    place.barrier()
    model = place.wrap(core)
    model.train()
    order = EpochBatches(
        task.num_samples,
        settings.batch_size,
        seed=settings.seed,
        rank=place.rank,
        world_size=place.world_size,
        accumulate=settings.accumulate,
        first_step=done,
    )
    loader = iter(task.batches(order, place.device))
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done) if writes else None
    stretch = _Stretch(settings.batch_size)
    stop = stopping.StopWatch(folder, place.rank, place.world_size)
    means: dict[str, float] = {}
    step, saved = done, done
    while step < last and not stop.ends_before(step):
        for accumulated in range(settings.accumulate):
            began = time.perf_counter()
            batch: Batch = next(loader)
            stretch.waited += time.perf_counter() - began
            record_problems(folder, batch.problems)
            batch = batch.to(place.device)
            last_round = accumulated == settings.accumulate - 1
            # Gradients of the earlier rounds stay local: one all-reduce a step.
            holds_back = isinstance(model, DistributedDataParallel) and not last_round
            with model.no_sync() if holds_back else nullcontext():  # type: ignore[operator]
                with torch.autocast(place.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                    losses = task.losses(model, core, batch, Turn(step=step, part=order.part(accumulated)))
                (losses["total"] / settings.accumulate).backward()
            stretch.add({name: value.detach() for name, value in losses.items()})
        nn.utils.clip_grad_norm_(core.parameters(), settings.optimizer.max_gradient_norm)
        optimizers.step(step, settings.steps)
        step += 1
        if step % settings.log_every == 0 or step == last:
            means = _log(stretch, writer, folder, step)
        if step % settings.checkpoint_every == 0 or step == last:
            if writer is not None:
                save_checkpoint(folder, core, optimizers, step)
                task.preview(core, writer, place.device, step)
            saved = step
            place.barrier()
            stretch.restart_clock()
    if step > saved:  # asked to stop between two checkpoints
        if stretch.count:
            means = _log(stretch, writer, folder, step)
        if writes:
            save_checkpoint(folder, core, optimizers, step)
        place.barrier()
    if writer is not None:
        writer.close()
    return means


def _log(stretch: _Stretch, writer: SummaryWriter | None, folder: Path, step: int) -> dict[str, float]:
    """Close the stretch at `step`; its means go to the run folder and to TensorBoard."""
    means = stretch.close()
    if writer is not None:
        append_lines(folder / METRICS_FILE, [{"step": step, **means}])
        for name, value in means.items():
            writer.add_scalar(f"training/{name}", value, step)
    return means


class _Stretch:
    """Means over the steps since the last log line. Losses stay tensors until then: reading one waits for the GPU."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to measure time anew: what came before was not training."""
        self.began = time.perf_counter()
        self.waited = 0.0
        self.timed = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1
        self.timed += 1

    def close(self) -> dict[str, float]:
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        passed = time.perf_counter() - self.began
        means["samples_per_second"] = self.timed * self.batch_size / passed
        means["waiting_share"] = self.waited / passed
        self.restart()
        return means
