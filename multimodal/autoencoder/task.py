"""What the autoencoder brings to the training loop of `multimodal.common`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from multimodal.autoencoder.losses import autoencoder_loss, draw
from multimodal.autoencoder.measures import mean, measure_signals
from multimodal.autoencoder.metrics import top_k
from multimodal.autoencoder.modalities import Modality
from multimodal.autoencoder.model import AutoencoderConfig, build, preset, reconstruct
from multimodal.autoencoder.runs import RunInfo, load_run, take_weights
from multimodal.autoencoder.settings import AutoencoderTrainingConfig
from multimodal.clips.datasets import LabelledFiles, find_files
from multimodal.clips.loader import ClipBatch, evaluation_loader, training_loader
from multimodal.common.sampling import EpochBatches
from multimodal.common.training import Turn
from perceiver_core.hub import HubModel
from perceiver_core.model import PerceiverIO

PREVIEW_CLIPS = 8
PREVIEW_SOUNDS = 2


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
        return preset(self.settings.preset, self.settings.num_latents)

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
            assert isinstance(model, PerceiverIO)
            take_weights(model, self.sizes, self.settings.start_from)

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
        return autoencoder_loss(model, core, self.sizes, settings.loss, batch, choice)

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
        for name, values in measure_signals(sizes, batch, result).items():
            writer.add_scalar(f"preview/{name}", mean(values), step)
        hits = top_k(result["label"], batch.label, 1)[batch.has_label]
        writer.add_scalar("preview/top1", mean(hits.tolist()), step)
        for modality in sizes.signals:
            _show(writer, modality, result[modality.name], modality.truth(batch), sizes.clip.sample_rate, step)
        writer.flush()


def _show(
    writer: SummaryWriter, modality: Modality, decoded: Tensor, truth: Tensor, sample_rate: int, step: int
) -> None:
    name = f"preview/{modality.name}"
    if modality.view == "frames":
        # Frames side by side in time, reconstruction over original.
        pairs = [torch.cat(list(torch.cat(pair, dim=2)), dim=2) for pair in zip(decoded, truth, strict=True)]
        writer.add_image(name, torch.cat(pairs, dim=1), step)
    else:
        for number in range(min(PREVIEW_SOUNDS, len(decoded))):
            writer.add_audio(f"{name}_{number}", decoded[number].cpu(), step, sample_rate)
            writer.add_audio(f"{name}_{number}_original", truth[number].cpu(), step, sample_rate)
