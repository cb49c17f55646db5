"""The training loop of every modality, in one process of a distributed run. Nothing here knows of Ray.

A modality is a `Task`: it builds the model, makes batches, computes named losses and shows a preview. The loop does
the rest: it resumes from the newest checkpoint, inside an epoch too; accumulates gradients; takes steps; logs; saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from multimodal.common import stopping
from multimodal.common.checkpoints import restore, save_checkpoint
from multimodal.common.errors import NonFiniteLoss
from multimodal.common.optimizers import Optimizers
from multimodal.common.records import METRICS_FILE, Problem, append_lines, forget_after, record_problems
from multimodal.common.run_folder import claim, steps_done
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
        """Scalars by name. `total` is minimised, the others are logged; a batch may lack some of those.

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
        agree: gives all processes what process 0 says; called by each in every step.
    """

    rank: int
    world_size: int
    device: torch.device
    wrap: Callable[[nn.Module], nn.Module]
    barrier: Callable[[], None]
    agree: Callable[[bool], bool]


def alone(device: str = "cpu") -> Place:
    """The only process of a run."""
    return Place(
        rank=0,
        world_size=1,
        device=torch.device(device),
        wrap=lambda model: model,
        barrier=lambda: None,
        agree=lambda said: said,
    )


def distributed_place(device: torch.device, wrap: Callable[[nn.Module], nn.Module]) -> Place:
    """This process's place in the group that torch.distributed was initialised with, if it was."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return replace(alone(), device=device, wrap=wrap)
    # Of its own, on the CPU: a GPU need not finish its step before the processes agree on the next one.
    group = torch.distributed.new_group(backend="gloo")

    def agree(said: bool) -> bool:
        flag = torch.tensor([said])
        torch.distributed.broadcast(flag, src=0, group=group)  # type: ignore[arg-type]
        return bool(flag)

    def wait_for_all() -> None:
        torch.distributed.barrier()

    return Place(
        rank=torch.distributed.get_rank(),
        world_size=torch.distributed.get_world_size(),
        device=device,
        wrap=wrap,
        barrier=wait_for_all,
        agree=agree,
    )


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
        NonFiniteLoss: the loss is infinite or no number.
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
    stretch = _Stretch(settings.batch_size / settings.accumulate)
    means: dict[str, float] = {}
    step, saved = done, done
    while step < last and not place.agree(writes and stopping.requested(folder)):
        for accumulated in range(settings.accumulate):
            batch = _next(loader, stretch, folder, place.device)
            last_round = accumulated == settings.accumulate - 1
            turn = Turn(step=step, part=order.part(accumulated))
            # Gradients of the earlier rounds stay local: one all-reduce a step.
            holds_back = isinstance(model, DistributedDataParallel) and not last_round
            with model.no_sync() if holds_back else nullcontext():  # type: ignore[operator]
                losses = _losses(task, place, model, core, batch, turn)
                (losses["total"] / settings.accumulate).backward()
            stretch.add({name: value.detach() for name, value in losses.items()})
        nn.utils.clip_grad_norm_(core.parameters(), settings.optimizer.max_gradient_norm)
        optimizers.step(step, settings.steps)
        step += 1
        due = step % settings.checkpoint_every == 0 or step == last
        if due or step % settings.log_every == 0:
            means = _log(stretch, writer, folder, step)
        if due:
            if writer is not None:
                save_checkpoint(folder, core, optimizers, step)
                task.preview(core, writer, place.device, step)
            saved = step
            place.barrier()
            stretch.restart_clock()
    if step > saved:  # asked to stop between two checkpoints
        if stretch.steps:
            means = _log(stretch, writer, folder, step)
        if writes:
            save_checkpoint(folder, core, optimizers, step)
        place.barrier()
    if writer is not None:
        writer.close()
    return means


def _next(loader: Iterator[Batch], stretch: _Stretch, folder: Path, device: torch.device) -> Batch:
    """The next batch on the device; the time that it was waited for is counted, its problems are listed."""
    began = time.perf_counter()
    batch = next(loader)
    stretch.waited += time.perf_counter() - began
    record_problems(folder, batch.problems)
    return batch.to(device)


def _losses(
    task: Task, place: Place, model: nn.Module, core: HubModel, batch: Batch, turn: Turn
) -> Mapping[str, Tensor]:
    """The losses of the task. What the model draws at random (dropout) follows from the turn, so resumed runs agree."""
    settings = task.settings
    numbers = (settings.seed, turn.step, turn.part.start)
    chance = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
    # Of the devices in use alone: `torch.manual_seed` also records a stack trace for GPUs that are not.
    torch.default_generator.manual_seed(chance)
    if place.device.type == "cuda":
        torch.cuda.manual_seed(chance)
    with torch.autocast(place.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return task.losses(model, core, batch, turn)


def _log(stretch: _Stretch, writer: SummaryWriter | None, folder: Path, step: int) -> dict[str, float]:
    """Close the stretch at `step`; its means go to the run folder and to TensorBoard.

    Raises:
        NonFiniteLoss: the loss is infinite or no number. It is raised before a checkpoint would keep such weights.
    """
    means = stretch.close()
    if not math.isfinite(means["total"]):
        raise NonFiniteLoss(
            f"the loss is {means['total']} at step {step}; nothing was saved since step {steps_done(folder)}. Begin "
            "another run with a lower --optimizer.learning-rate"
        )
    if writer is not None:
        append_lines(folder / METRICS_FILE, [{"step": step, **means}])
        for name, value in means.items():
            writer.add_scalar(f"training/{name}", value, step)
    return means


class _Stretch:
    """Means over the steps since the last log line. Losses stay tensors until then: reading one waits for the GPU."""

    def __init__(self, samples: float) -> None:
        """`samples` of all processes go with a batch of this one."""
        self.samples = samples
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to measure time anew: what came before was not training."""
        self.began = time.perf_counter()
        self.waited = 0.0
        self.timed = 0

    @property
    def steps(self) -> int:
        """Batches since the last log line."""
        return self.counts.get("total", 0)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count the losses of a batch; a batch need not have every one (where tasks take turns)."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.timed += 1

    def close(self) -> dict[str, float]:
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        passed = time.perf_counter() - self.began
        means["samples_per_second"] = self.timed * self.samples / passed
        means["waiting_share"] = self.waited / passed
        self.restart()
        return means
