"""Training the autoencoder: its settings, and what it brings to the training loop of `multimodal.common`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from multimodal.autoencoder.losses import LossConfig, autoencoder_loss, draw
from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, mean_psnr, psnr, top_k
from multimodal.autoencoder.model import AutoencoderConfig, build, preset, reconstruct
from multimodal.autoencoder.runs import RunInfo, load_model, load_run
from multimodal.clips.cache import CacheConfig
from multimodal.clips.datasets import LabelledFiles, find_files
from multimodal.clips.loader import ClipBatch, LoaderConfig, evaluation_loader, training_loader
from multimodal.common.optimizers import OptimizerConfig
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import TrainingSettings
from multimodal.common.training import Turn
from perceiver_agents.paths import make_absolute
from perceiver_core.hub import HubModel
from perceiver_core.model import PerceiverIO

PREVIEW_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainingConfig(TrainingSettings):
    """A training run of the autoencoder."""

    data: str | None = None
    """Folder with labelled clips (see `multimodal.clips.datasets`); None generates the default set under `out`."""
    preset: str = "tiny"
    """Recipe: tiny (8 frames of 32 x 32, minutes on two cores), small (16 frames of 64 x 64, one GPU) or paper (the
    published configuration)."""
    num_latents: int | None = None
    """Another number of latents than the preset's: the compression knob."""
    start_from: str | None = None
    """Run folder of the same sizes whose weights and class list this run begins with; None begins at random.
    `multimodal.autoencoder.published` makes one of a published checkpoint."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Terms, random subset of outputs, hidden inputs."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """Decoding processes, augmentation, cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        make_absolute(self, "data", "start_from")
        self.model_config()

    def model_config(self) -> AutoencoderConfig:
        """Sizes of the model."""
        return preset(self.preset, self.num_latents)

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        return super().course() | {
            "data": self.data,
            "preset": self.preset,
            "start_from": self.start_from,
            "loss": asdict(self.loss),
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


def default_config(name: str, out: str) -> AutoencoderTrainingConfig:
    """The whole recipe of a preset: model, loss, rates, loader."""
    base = AutoencoderTrainingConfig(out=out, preset=name)
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


@dataclass
class AutoencoderTask:
    """The autoencoder's part of the training loop; a `multimodal.common.training.Task`.

    Attributes:
        settings: the run. Its folder must hold `run.json`.
        data: the data folder (`settings.data`, or where the default set was generated).
    """

    settings: AutoencoderTrainingConfig
    data: str

    @cached_property
    def sizes(self) -> AutoencoderConfig:
        """Sizes of the model."""
        return self.settings.model_config()

    @cached_property
    def info(self) -> RunInfo:
        """What identifies the run."""
        return load_run(self.settings.out)

    @cached_property
    def files(self) -> LabelledFiles:
        """The files to train on."""
        return find_files(self.data, "train", self.info.classes)

    @property
    def num_samples(self) -> int:
        return len(self.files.files)

    def build(self) -> PerceiverIO:
        return build(self.sizes, len(self.info.classes))

    def begin(self, model: HubModel) -> None:
        if self.settings.start_from is not None:
            model.load_state_dict(load_model(self.settings.start_from)[0].state_dict())

    def batches(self, order: EpochBatches, device: torch.device) -> Iterable[ClipBatch]:
        loading = self.settings.loader
        if loading.cache is not None and loading.cache.folder is None:
            folder = str(Path(self.settings.out) / "decoded")
            loading = replace(loading, cache=replace(loading.cache, folder=folder))
        return training_loader(self.files.files, self.sizes.clip, loading, order, pin=device.type == "cuda")

    def losses(self, model: nn.Module, core: HubModel, batch: ClipBatch, turn: Turn) -> Mapping[str, Tensor]:
        assert isinstance(core, PerceiverIO)
        settings = self.settings
        choice = draw(
            self.sizes,
            settings.loss,
            seed=settings.seed,
            step=turn.step,
            global_batch=settings.batch_size,
            part=turn.part,
        )
        return vars(autoencoder_loss(model, core, self.sizes, settings.loss, batch, choice))

    @torch.no_grad()
    def preview(self, core: HubModel, writer: SummaryWriter, device: torch.device, step: int) -> None:
        """Reconstruct a few held-out clips, labels hidden: pictures above originals, sound, and measures on them."""
        assert isinstance(core, PerceiverIO)
        sizes = self.sizes
        files = find_files(self.data, "val", self.info.classes).files
        chosen = files[:: max(1, len(files) // PREVIEW_CLIPS)][:PREVIEW_CLIPS]
        loader = evaluation_loader(chosen, sizes.clip, batch_size=PREVIEW_CLIPS, max_windows=1)
        batch: ClipBatch = next(iter(loader)).to(device)
        core.eval()
        result = reconstruct(core, sizes, batch)
        core.train()
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
        rate = sizes.clip.sample_rate
        for number in range(min(2, len(batch))):
            writer.add_audio(f"preview/audio_{number}", result.audio[number].cpu(), step, rate)
            writer.add_audio(f"preview/audio_{number}_original", batch.audio[number].cpu(), step, rate)
        writer.flush()
