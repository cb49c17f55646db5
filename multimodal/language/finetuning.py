"""What training on labelled tasks brings to the training loop of `multimodal.common`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from multimodal.language.model import Way, build_tasks
from multimodal.language.published import take_pretrained
from multimodal.language.runs import RunInfo, load_run
from multimodal.language.settings import FinetuningConfig
from multimodal.language.tasks.labelled import Example, LabelledTask, TaskInfo
from multimodal.language.tasks.metrics import METRICS
from multimodal.language.tasks.tables import as_bytes
from multimodal.language.text.tokens import CLS, MASK, SEP, Tokens, fit_pair, join, load_tokens
from perceiver_core.hub import HubModel

HELD_OUT_FILE = "held_out.jsonl"
MEASURED_AT_ONCE = 64
# Test examples of a task that are measured with every checkpoint; the evaluation takes all.
PREVIEWED = 500
# Batches are padded to a multiple of it: fewer shapes, and memory that can be used again.
PADDED_TO = 16


@dataclass(frozen=True, kw_only=True)
class LabelledBatch:
    """A share of a global batch.

    Attributes:
        tokens: int64 `[B, L]`; padding is `[PAD]`.
        mask: bool `[B, L]`, True for tokens.
        task: number of each sample's task `[B]`.
        target: float `[B]`: a class's number, or a score in units of the training scores' deviation.
    """

    tokens: Tensor
    mask: Tensor
    task: Tensor
    target: Tensor
    problems: tuple[Problem, ...] = ()

    def to(self, device: torch.device) -> LabelledBatch:
        return LabelledBatch(
            tokens=self.tokens.to(device),
            mask=self.mask.to(device),
            task=self.task.to(device),
            target=self.target.to(device),
        )


def read_examples(
    examples: Sequence[Example], tokens: Tokens, max_length: int, first: int
) -> tuple[list[np.ndarray], int]:
    """Token numbers of examples, and how many were cut: pairs longest first (see `fit_pair`).

    Args:
        examples: of one task.
        tokens: of the run.
        max_length: M.
        first: number of the token that stands first.
    """
    rows, cut = [], 0
    for example in examples:
        texts = [tokens.encode(as_bytes(text)) for text in (example.first, example.second) if text is not None]
        kept, short = fit_pair(texts[0], texts[1] if len(texts) > 1 else None, max_length - len(texts))
        row = join(kept)
        row[0] = first
        rows.append(row)
        cut += short
    return rows, cut


def first_token(way: Way, vocabulary: int, number: int) -> int:
    """What stands at the beginning of every text: `[CLS]`, or a token of task `number`'s own, after the vocabulary."""
    return vocabulary + number if way == "task-tokens" else CLS


def collate(rows: Sequence[np.ndarray], tasks: Sequence[int], targets: Sequence[float]) -> LabelledBatch:
    """Rows of different lengths as one batch, padded to the longest."""
    longest = max(map(len, rows))
    length = -(-longest // PADDED_TO) * PADDED_TO
    tokens = np.zeros((len(rows), length), np.int64)
    mask = np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        mask[index, : len(row)] = True
    return LabelledBatch(
        tokens=torch.from_numpy(tokens),
        mask=torch.from_numpy(mask),
        task=torch.tensor(tasks),
        target=torch.tensor(targets, dtype=torch.float32),
    )


def task_losses(model: nn.Module, batch: LabelledBatch, tasks: Sequence[TaskInfo]) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of the samples, and the means by task: cross-entropy, or half the squared error of scores.

    Every sample counts the same, whatever its task and place in the batch. Heads of tasks that a batch lacks get zero
    gradients rather than none, so that all processes of a run reduce the same ones.
    """
    outputs = model(batch.tokens, batch.mask)
    each = torch.zeros(len(batch.task), device=batch.task.device)
    by_name = {}
    for number, task in enumerate(tasks):
        own = batch.task == number
        logits = outputs[task.name].float()
        if bool(own.any()):
            losses = losses_of(task, logits[own], batch.target[own])
            each = each.masked_scatter(own, losses)
            by_name[task.name] = losses.detach().mean()
        else:
            each = each + 0.0 * logits.sum()
    return each.mean(), by_name


def losses_of(task: TaskInfo, logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sample `[n]` of one task, of logits `[n, outputs]`."""
    if task.classes:
        return F.cross_entropy(logits, targets.long(), reduction="none")
    return 0.5 * (logits[:, 0] - targets).square()


def standardised(task: TaskInfo, targets: np.ndarray) -> np.ndarray:
    """Scores in units of the training scores' deviation from their mean; classes as they are."""
    return targets if task.classes else (targets - task.mean) / task.deviation


@dataclass
class FinetuningTask:
    """The tasks' part of the training loop; a `multimodal.common.training.Task`.

    Attributes:
        settings: the run. Its folder must hold `run.json` and `tokens.json`.
        labelled: the tasks with their data, in the order of the run.
    """

    settings: FinetuningConfig
    labelled: Sequence[LabelledTask]
    cut: dict[str, int] = field(default_factory=dict)

    @cached_property
    def info(self) -> RunInfo:
        """What identifies the run."""
        return load_run(self.settings.out)

    @cached_property
    def _read(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Token rows of all training examples, their tasks and targets."""
        tokens = load_tokens(self.settings.out)
        rows: list[np.ndarray] = []
        tasks, targets = [], []
        for number, task in enumerate(self.labelled):
            first = first_token(self.settings.way, self.info.model.vocabulary, number)
            own, cut = read_examples(task.train, tokens, self.info.model.max_length, first)
            self.cut[task.info.name] = cut
            rows += own
            tasks.append(np.full(len(own), number))
            targets.append(standardised(task.info, task.targets(task.train)))
        return rows, np.concatenate(tasks), np.concatenate(targets)

    def count_cut(self) -> None:
        """Read the training examples, and fill in `cut`: how many of each task are longer than the model reads."""
        assert self._read

    @property
    def num_samples(self) -> int:
        return sum(len(task.train) for task in self.labelled)

    def build(self) -> HubModel:
        outputs = {task.name: task.outputs for task in self.info.tasks}
        return build_tasks(self.info.model, outputs, self.settings.way)

    def begin(self, model: HubModel) -> None:
        if self.settings.start_from is not None:
            take_pretrained(model, self.settings.start_from)

    def batches(self, order: EpochBatches, device: torch.device) -> Iterator[LabelledBatch]:
        rows, tasks, targets = self._read
        for keys in order:
            chosen = [number for _, number in keys]
            shown = [self._partly_hidden(rows[number], epoch, number) for epoch, number in keys]
            yield collate(shown, tasks[chosen].tolist(), targets[chosen].tolist())

    def _partly_hidden(self, row: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """A row with some of its tokens hidden; which ones follows from seed, epoch and number."""
        rng = np.random.default_rng([self.settings.seed, epoch, number])
        hidden = (rng.random(len(row)) < self.settings.hide_share) & (row > SEP)
        hidden[0] = False
        return np.where(hidden, MASK, row)

    def losses(self, model: nn.Module, core: HubModel, batch: LabelledBatch, turn: Turn) -> Mapping[str, Tensor]:
        total, by_name = task_losses(model, batch, self.info.tasks)
        return {"total": total, **by_name}

    def preview(self, core: HubModel, writer: SummaryWriter, device: torch.device, step: int) -> None:
        """Measure some test examples of every task; the figures go to TensorBoard and to `held_out.jsonl`."""
        found: dict[str, float] = {}
        core.eval()
        for task in self.labelled:
            examples = task.test[:PREVIEWED]
            told = tell(core, self.info, self.settings.way, task.info, examples, load_tokens(self.settings.out), device)
            name = task.info.metrics[0]
            found[task.info.name] = METRICS[name](task.targets(examples), told.answers)
        core.train()
        for name, value in found.items():
            writer.add_scalar(f"held_out/{name}", value, step)
        writer.flush()
        append_lines(Path(self.settings.out) / HELD_OUT_FILE, [{"step": step, **found}])


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model told of examples.

    Attributes:
        answers: class numbers, or scores in the data's units, `[n]`.
        confidence: probability of the class told; 1 for scores; `[n]`.
        cut: examples that were longer than the model reads.
    """

    answers: np.ndarray
    confidence: np.ndarray
    cut: int


@torch.no_grad()
def tell(
    model: HubModel,
    info: RunInfo,
    way: Way,
    task: TaskInfo,
    examples: Sequence[Example],
    tokens: Tokens,
    device: torch.device,
) -> Told:
    """Ask a model of tasks, in evaluation mode, about examples of one task. Only that task is decoded."""
    number = [own.name for own in info.tasks].index(task.name)
    first = first_token(way, info.model.vocabulary, number)
    rows, cut = read_examples(examples, tokens, info.model.max_length, first)
    # Of like lengths together: less padding.
    order = np.argsort([len(row) for row in rows], kind="stable")
    answers, confidence = np.zeros(len(rows)), np.ones(len(rows))
    for begin in range(0, len(rows), MEASURED_AT_ONCE):
        part = order[begin : begin + MEASURED_AT_ONCE]
        batch = collate([rows[index] for index in part], [number] * len(part), [0.0] * len(part)).to(device)
        logits = model(batch.tokens, batch.mask, {task.name: None})[task.name].float()
        if task.classes:
            likeliest = logits.softmax(-1).max(-1)
            answers[part], confidence[part] = likeliest.indices.cpu().numpy(), likeliest.values.cpu().numpy()
        else:
            answers[part] = logits[:, 0].cpu().numpy() * task.deviation + task.mean
    return Told(answers=answers.astype(np.int64) if task.classes else answers, confidence=confidence, cut=cut)
