"""What pretraining on text brings to the training loop of `multimodal.common`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from multimodal.common.records import Problem, append_lines
from multimodal.common.sampling import EpochBatches
from multimodal.common.training import Turn
from multimodal.language.model import build_masked, build_next
from multimodal.language.published import take_pretrained
from multimodal.language.runs import RunInfo, load_run
from multimodal.language.settings import PretrainingConfig
from multimodal.language.text.masking import Masked, mask_rows
from multimodal.language.text.packing import FOLDER, HELD_OUT, TRAIN, Rows
from multimodal.language.text.tokens import Tokens, load_tokens
from perceiver_core.autoregressive import PerceiverAR
from perceiver_core.hub import HubModel

HELD_OUT_FILE = "held_out.jsonl"
# Rows whose token frequencies the output bias begins with.
COUNTED_ROWS = 2000
MEASURED_AT_ONCE = 32
# Next tokens are measured at the last positions of a row, one in so many: there every model has a long context.
LAST_SHARE = 8


@dataclass(frozen=True, kw_only=True)
class MaskedBatch:
    """A share of a global batch for the masked objective; the fields are those of `Masked`, as tensors."""

    tokens: Tensor
    positions: Tensor
    targets: Tensor
    counts: Tensor
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, masked: Masked) -> MaskedBatch:
        return cls(
            tokens=torch.from_numpy(masked.tokens),
            positions=torch.from_numpy(masked.positions),
            targets=torch.from_numpy(masked.targets),
            counts=torch.from_numpy(masked.counts),
        )

    def to(self, device: torch.device) -> MaskedBatch:
        return MaskedBatch(
            tokens=self.tokens.to(device),
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            counts=self.counts.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class NextBatch:
    """A share of a global batch for the next token: rows int64 `[B, M + 1]`."""

    tokens: Tensor
    problems: tuple[Problem, ...] = ()

    def to(self, device: torch.device) -> NextBatch:
        return NextBatch(tokens=self.tokens.to(device))


def masked_loss(model: nn.Module, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats of the masked tokens that count, and the share of them that is told right."""
    logits = model(batch.tokens, None, batch.positions)
    told, targets = logits[batch.counts], batch.targets[batch.counts]
    return F.cross_entropy(told.float(), targets), (told.argmax(-1) == targets).float().mean()


@dataclass
class PretrainingTask:
    """Pretraining's part of the training loop; a `multimodal.common.training.Task`.

    Attributes:
        settings: the run. Its folder must hold `run.json`, `tokens.json` and the packed text.
    """

    settings: PretrainingConfig

    @cached_property
    def info(self) -> RunInfo:
        """What identifies the run."""
        return load_run(self.settings.out)

    @cached_property
    def tokens(self) -> Tokens:
        """Its tokens."""
        return load_tokens(self.settings.out)

    def _packed(self, name: str) -> Rows:
        # The next token of a row's last one is one more.
        length = self.info.model.max_length + (self.info.job == "next")
        return Rows(Path(self.settings.out) / FOLDER / name, length)

    @cached_property
    def rows(self) -> Rows:
        """The text to train on."""
        return self._packed(TRAIN)

    @property
    def num_samples(self) -> int:
        return len(self.rows)

    def check_held_out(self) -> None:
        """Raises DataError where the held-out text does not fill a row."""
        self._packed(HELD_OUT)

    def build(self) -> HubModel:
        chosen = np.linspace(0, len(self.rows) - 1, min(COUNTED_ROWS, len(self.rows))).astype(int)
        counts = np.bincount(self.rows.stack(chosen).ravel(), minlength=self.info.model.vocabulary)
        build = build_next if self.info.job == "next" else build_masked
        return build(self.info.model, torch.from_numpy(counts))

    def begin(self, model: HubModel) -> None:
        if self.settings.start_from is not None:
            take_pretrained(model, self.settings.start_from)

    def batches(self, order: EpochBatches, device: torch.device) -> Iterator[MaskedBatch | NextBatch]:
        for keys in order:
            rows = self.rows.stack(number for _, number in keys)
            yield self._batch(rows, [(epoch, number) for epoch, number in keys])

    def _batch(self, rows: np.ndarray, keys: list[tuple[int, ...]]) -> MaskedBatch | NextBatch:
        if self.info.job == "next":
            return NextBatch(tokens=torch.from_numpy(rows))
        settings = self.settings
        masked = mask_rows(
            rows, keys, self.tokens, share=settings.mask_share, unit=settings.mask_unit, seed=settings.seed
        )
        return MaskedBatch.of(masked)

    def losses(
        self, model: nn.Module, core: HubModel, batch: MaskedBatch | NextBatch, turn: Turn
    ) -> Mapping[str, Tensor]:
        if isinstance(batch, NextBatch):
            logits = model(batch.tokens[:, :-1])
            return {
                "total": F.cross_entropy(logits.flatten(0, 1).float(), batch.tokens[:, -logits.shape[1] :].flatten())
            }
        loss, right = masked_loss(model, batch)
        return {"total": loss, "right": right}

    def preview(self, core: HubModel, writer: SummaryWriter, device: torch.device, step: int) -> None:
        """Measure held-out rows; the figures go to TensorBoard and to `held_out.jsonl`."""
        core.eval()
        found = self.measure(core, device)
        core.train()
        for name, value in found.items():
            writer.add_scalar(f"held_out/{name}", value, step)
        writer.flush()
        append_lines(Path(self.settings.out) / HELD_OUT_FILE, [{"step": step, **found}])

    @torch.no_grad()
    def measure(self, core: HubModel, device: torch.device) -> dict[str, float]:
        """Of the held-out rows: bits a byte of the masked tokens, or of the last next ones, and the share told right.

        What is masked in them is the same in every measurement of a run.
        """
        rows = self._packed(HELD_OUT)
        numbers = np.linspace(0, len(rows) - 1, min(self.settings.held_out_rows, len(rows))).astype(int)
        nats = size = right = count = 0.0
        for first in range(0, len(numbers), MEASURED_AT_ONCE):
            part = numbers[first : first + MEASURED_AT_ONCE]
            # No epoch of training has this number.
            batch = self._batch(rows.stack(part), [(2**32 - 1, int(number)) for number in part]).to(device)
            if isinstance(batch, NextBatch):
                assert isinstance(core, PerceiverAR)
                last = max(1, core.config.max_length // LAST_SHARE)
                told = core(batch.tokens[:, :-1])[:, -last:].flatten(0, 1)
                targets = batch.tokens[:, -(len(told) // len(part)) :].flatten()
            else:
                told = core(batch.tokens, None, batch.positions)[batch.counts]
                targets = batch.targets[batch.counts]
            nats += float(F.cross_entropy(told.float(), targets, reduction="sum"))
            size += float(self.tokens.lengths(targets.cpu().numpy()).sum())
            right += float((told.argmax(-1) == targets).sum())
            count += len(targets)
        return {"bits_per_byte": nats / math.log(2) / max(size, 1.0), "right": right / count}
