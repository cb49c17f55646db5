"""Training of the autoencoder in one process of a distributed run. Nothing here knows of Ray; see
`multimodal.autoencoder.train`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from multimodal.autoencoder.losses import LossConfig, autoencoder_loss, draw
from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, mean_psnr, psnr, top_k
from multimodal.autoencoder.model import AutoencoderConfig, build, preset, reconstruct
from multimodal.clips.cache import CacheConfig
from multimodal.clips.datasets import find_files
from multimodal.clips.loader import ClipBatch, EpochBatches, LoaderConfig, evaluation_loader, training_loader
from multimodal.common.optimizers import OptimizerConfig, Optimizers
from multimodal.common.runs import (
    append_lines,
    claim,
    forget_after,
    load_model,
    load_run,
    record_problems,
    restore,
    save_checkpoint,
)
from perceiver_agents.paths import make_absolute
from perceiver_core.model import PerceiverIO


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        out: run folder; an interrupted run in it is continued. On several machines it must be shared storage.
        data: folder with labelled clips (see `multimodal.clips.datasets`); None generates the default set under `out`.
        preset: model sizes: tiny, small or paper.
        num_latents: another number of latents than the preset's, the compression knob.
        start_from: run folder of the same sizes whose weights and class list this run begins with; None begins at
            random. `multimodal.autoencoder.published` makes one of a published checkpoint.
        steps: optimizer steps.
        batch_size: clips in a step, over all processes.
        accumulate: forward and backward passes in a step; more of them need less memory.
        precision: "bfloat16" runs matrix products in it (autocast); parameters stay float32.
        loss: terms, random subset of outputs, hidden inputs.
        optimizer: step sizes.
        loader: decoding processes, augmentation, cache.
        num_processes: data-parallel processes.
        gpu: one GPU for each process; otherwise they run on the CPU.
        cpus_per_process: CPU cores and torch threads of each process; None shares this machine's.
        ray_address: an existing Ray cluster ("auto" or host:port); None starts Ray on this machine for the run.
        checkpoint_every: steps between checkpoints (and previews for TensorBoard).
        log_every: steps between logged losses.
        max_failures: how often dead processes are replaced before the run gives up; each time it goes on from the
            last checkpoint.
        seed: of initialisation, sample order and every random choice.
    """

    out: str
    data: str | None = None
    preset: str = "tiny"
    num_latents: int | None = None
    start_from: str | None = None
    steps: int = 3000
    batch_size: int = 32
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    num_processes: int = 1
    gpu: bool = False
    cpus_per_process: int | None = None
    ray_address: str | None = None
    checkpoint_every: int = 500
    log_every: int = 10
    max_failures: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        make_absolute(self, "out", "data", "start_from")
        for name in ("steps", "batch_size", "accumulate", "num_processes", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_failures < 0:
            raise ValueError(f"max_failures is {self.max_failures}; it must be at least 0")
        parts = self.num_processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.num_processes} processes x "
                f"{self.accumulate} accumulated parts; take a multiple of {parts}"
            )
        self.model_config()

    def model_config(self) -> AutoencoderConfig:
        """Sizes of the model."""
        return preset(self.preset, self.num_latents)

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        names = ("data", "preset", "start_from", "steps", "batch_size", "precision", "seed")
        values = {name: getattr(self, name) for name in names}
        return values | {
            "loss": asdict(self.loss),
            "optimizer": asdict(self.optimizer),
            "augmentation": asdict(self.loader.augmentation),
        }


# The paper's loss weights suit Kinetics. On the generated clips picture and sound are weighted to about the same
# variance and the label is worth more; inputs are hidden so that each modality can be had from the other.
TINY_LOSS = LossConfig(
    error="squared",
    video_weight=9.0,
    audio_weight=4.5,
    label_weight=0.2,
    video_queries=128,
    hide_label=0.75,
    hide_video=0.05,
    hide_audio=0.05,
)


def default_config(name: str, out: str) -> TrainConfig:
    """The training settings that go with a model preset."""
    base = TrainConfig(out=out, preset=name)
    if name == "tiny":
        return replace(
            base,
            steps=5_000,
            batch_size=16,
            checkpoint_every=1000,
            loss=TINY_LOSS,
            optimizer=OptimizerConfig(learning_rate=1.5e-3, muon_learning_rate=3e-3, beta2=0.95),
            cpus_per_process=1,  # its products are too small to share: a second thread makes a step slower
            # Decoding anew would take as long as a training step.
            loader=LoaderConfig(num_workers=1, cache=CacheConfig(max_bytes=2**30)),
        )
    return replace(
        base, steps=100_000, batch_size=64, checkpoint_every=1000, optimizer=OptimizerConfig(warmup_steps=5000)
    )


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


def train(config: TrainConfig, data: str, place: Place, until: int | None = None) -> dict[str, float]:
    """Train from the newest checkpoint in `config.out` to the last step.

    Args:
        config: the run. Its folder must hold `run.json`.
        data: the data folder (`config.data`, or where the default set was generated).
        place: this process's place.
        until: stop after this step, for a run that is to be continued later.

    Returns:
        Means of the last logged stretch of steps: the loss, its terms, clips per second, and the share of the time
        that was spent waiting for clips.

    Raises:
        DataError: another training goes on in the folder.
    """
    with claim(Path(config.out)) if place.rank == 0 else nullcontext():
        place.barrier()
        return _train(config, data, place, until)


def _train(config: TrainConfig, data: str, place: Place, until: int | None) -> dict[str, float]:
    folder = Path(config.out)
    sizes = config.model_config()
    info = load_run(folder)
    found = find_files(data, "train", info.classes)
    torch.manual_seed(config.seed)
    core = build(sizes, len(info.classes)).to(place.device)
    optimizers = Optimizers(core, config.optimizer)
    done = restore(folder, core, optimizers)
    if done == 0 and config.start_from is not None:
        core.load_state_dict(load_model(config.start_from)[0].state_dict())
    last = config.steps if until is None else min(until, config.steps)
    writes = place.rank == 0
    if writes:
        forget_after(folder, done)
    place.barrier()
    model = place.wrap(core)
    model.train()
    batches = EpochBatches(
        len(found.files),
        config.batch_size,
        seed=config.seed,
        rank=place.rank,
        world_size=place.world_size,
        accumulate=config.accumulate,
        first_step=done,
    )
    loading = config.loader
    if loading.cache is not None and loading.cache.folder is None:
        loading = replace(loading, cache=replace(loading.cache, folder=str(folder / "decoded")))
    loader = iter(training_loader(found.files, sizes.clip, loading, batches, pin=place.device.type == "cuda"))
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done) if writes else None
    stretch = _Stretch(config.batch_size)
    means: dict[str, float] = {}
    for step in range(done, last):
        for accumulated in range(config.accumulate):
            began = time.perf_counter()
            batch: ClipBatch = next(loader)
            stretch.waited += time.perf_counter() - began
            record_problems(folder, batch.problems)
            batch = batch.to(place.device)
            choice = draw(
                sizes,
                config.loss,
                seed=config.seed,
                step=step,
                global_batch=config.batch_size,
                part=batches.part(accumulated),
            )
            last_round = accumulated == config.accumulate - 1
            # Gradients of the earlier rounds stay local: one all-reduce a step.
            holds_back = isinstance(model, DistributedDataParallel) and not last_round
            with model.no_sync() if holds_back else nullcontext():  # type: ignore[operator]
                with torch.autocast(place.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                    losses = autoencoder_loss(model, core, sizes, config.loss, batch, choice)
                (losses.total / config.accumulate).backward()
            stretch.add({name: value.detach() for name, value in vars(losses).items()})
        nn.utils.clip_grad_norm_(core.parameters(), config.optimizer.max_gradient_norm)
        optimizers.step(step, config.steps)
        finished = step + 1
        if finished % config.log_every == 0 or finished == last:
            means = stretch.close()
            if writer is not None:
                append_lines(folder / "metrics.jsonl", [{"step": finished, **means}])
                for name, value in means.items():
                    writer.add_scalar(f"training/{name}", value, finished)
        if finished % config.checkpoint_every == 0 or finished == last:
            if writer is not None:
                save_checkpoint(folder, core, optimizers, finished)
                write_preview(writer, core, config, data, info.classes, place.device, finished)
            place.barrier()
            stretch.restart_clock()
    if writer is not None:
        writer.close()
    return means


class _Stretch:
    """Means over the steps since the last log line. Losses stay tensors until then: reading one waits for the GPU."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to measure time anew: what came before was not training."""
        self.began = time.perf_counter()
        self.waited = 0.0
        self.timed = 0

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.count += 1
        self.timed += 1

    def close(self) -> dict[str, float]:
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        passed = time.perf_counter() - self.began
        means["clips_per_second"] = self.timed * self.batch_size / passed
        means["waiting_share"] = self.waited / passed
        self.restart()
        return means


PREVIEW_CLIPS = 8


@torch.no_grad()
def write_preview(
    writer: SummaryWriter,
    model: PerceiverIO,
    config: TrainConfig,
    data: str,
    classes: tuple[str, ...],
    device: torch.device,
    step: int,
) -> None:
    """Reconstruct a few held-out clips, labels hidden: pictures above originals, sound, and measures on them."""
    sizes = config.model_config()
    files = find_files(data, "val", classes).files
    chosen = files[:: max(1, len(files) // PREVIEW_CLIPS)][:PREVIEW_CLIPS]
    loader = evaluation_loader(chosen, sizes.clip, batch_size=PREVIEW_CLIPS, max_windows=1)
    batch: ClipBatch = next(iter(loader)).to(device)
    model.eval()
    result = reconstruct(model, sizes, batch)
    model.train()
    assert result.video is not None and result.audio is not None and result.logits is not None
    truth = batch.video.float() / 255
    kept_video, kept_audio, kept_label = batch.has_video, batch.has_audio, batch.has_label
    video = psnr(result.video, truth, VIDEO_PEAK)[kept_video]
    audio = psnr(result.audio, batch.audio, AUDIO_PEAK)[kept_audio]
    hits = top_k(result.logits, batch.label, 1)[kept_label]
    writer.add_scalar("preview/video_psnr", mean_psnr(video), step)
    writer.add_scalar("preview/audio_psnr", mean_psnr(audio), step)
    writer.add_scalar("preview/top1", float(hits.float().mean()) if len(hits) else math.nan, step)
    # Frames side by side in time, reconstruction over original.
    strips = [torch.cat(list(clip.unbind(0)), dim=2) for clip in result.video]
    originals = [torch.cat(list(clip.unbind(0)), dim=2) for clip in truth]
    pairs = [torch.cat([strip, original], dim=1) for strip, original in zip(strips, originals, strict=True)]
    writer.add_image("preview/video", torch.cat(pairs, dim=1), step)
    for number in range(min(2, len(batch))):
        writer.add_audio(f"preview/audio_{number}", result.audio[number].cpu(), step, sizes.clip.sample_rate)
        writer.add_audio(f"preview/audio_{number}_original", batch.audio[number].cpu(), step, sizes.clip.sample_rate)
    writer.flush()
