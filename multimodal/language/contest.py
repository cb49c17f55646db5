"""Several trainings on the same labelled tasks, side by side on the machine's cores, and their test results."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from multimodal.common.ray_cluster import connect, parallel_map
from multimodal.common.records import METRICS_FILE, read_lines
from multimodal.common.settings import TrainingSettings
from multimodal.common.training import alone, train
from multimodal.language.finetuning import tell
from multimodal.language.finetuning_preparation import prepare
from multimodal.language.preparation import prepare as prepare_pretraining
from multimodal.language.runs import load_model
from multimodal.language.settings import FinetuningConfig, PretrainingConfig
from multimodal.language.tasks.metrics import METRICS, Estimate, over_seeds
from multimodal.language.text.tokens import load_tokens

LOOK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A training of a contest.

    Attributes:
        name: the row of the table; entries of one name are seeds or tasks of the same way.
        config: the training.
    """

    name: str
    config: FinetuningConfig


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training came to.

    Attributes:
        name: of its entry.
        headline: the headline metric on all test examples, by task.
        steps_per_second: of the whole training, of one core that others may have shared.
    """

    name: str
    headline: Mapping[str, float]
    steps_per_second: float


def _train_one(config: FinetuningConfig) -> tuple[dict[str, float], float]:
    """Train an entry to its end, and measure it; runs in a process of its own."""
    torch.set_num_threads(1)
    task = prepare(config)
    train(task, alone())
    model, info = load_model(config.out)
    tokens = load_tokens(config.out)
    found = {}
    for own in task.labelled:
        told = tell(model, info, config.way, own.info, own.test, tokens, torch.device("cpu"))
        found[own.info.name] = METRICS[own.info.metrics[0]](own.targets(own.test), told.answers)
    rates = [line["samples_per_second"] / config.batch_size for line in read_lines(Path(config.out) / METRICS_FILE)]
    return found, sum(rates) / len(rates)


def _pretrain_one(config: PretrainingConfig) -> None:
    """Pretrain to the end; runs in a process of its own."""
    torch.set_num_threads(1)
    train(prepare_pretraining(config), alone())


def pretrain_all(configs: Sequence[PretrainingConfig]) -> None:
    """Pretrain several runs side by side, those that are not done."""
    prepare_pretraining(configs[0])  # what is wrong is said before Ray starts
    connect(None, num_cpus=os.cpu_count() or 1)
    with _shown(configs):
        parallel_map(_pretrain_one, [(config,) for config in configs])


def run_contest(entries: Sequence[Entry]) -> list[Outcome]:
    """Train and measure all entries side by side, one core each. Those that are done already are measured again.

    Raises:
        DataError: the first entry cannot be trained; said before anything starts.
    """
    prepare(entries[0].config)
    connect(None, num_cpus=os.cpu_count() or 1)
    with _shown([entry.config for entry in entries]):
        found = parallel_map(_train_one, [(entry.config,) for entry in entries])
    return [
        Outcome(name=entry.name, headline=headline, steps_per_second=rate)
        for entry, (headline, rate) in zip(entries, found, strict=True)
    ]


def by_way(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Estimate]]:
    """The mean over seeds with its interval, by way and task."""
    names = dict.fromkeys(outcome.name for outcome in outcomes)
    tasks = dict.fromkeys(task for outcome in outcomes for task in outcome.headline)
    return {
        name: {
            task: over_seeds([o.headline[task] for o in outcomes if o.name == name and task in o.headline])
            for task in tasks
        }
        for name in names
    }


@contextmanager
def _shown(configs: Sequence[TrainingSettings]) -> Iterator[None]:
    """One bar for all trainings, read from their run folders."""
    stop = threading.Event()

    def steps() -> int:
        lines = [read_lines(Path(config.out) / METRICS_FILE) for config in configs]
        return sum(int(found[-1]["step"]) for found in lines if found)

    def follow() -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            total = sum(config.steps for config in configs)
            shown = progress.add_task(f"{len(configs)} trainings, steps", total=total)
            while not stop.wait(LOOK_SECONDS):
                progress.update(shown, completed=steps())
            progress.update(shown, completed=steps())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def minutes_since(began: float) -> str:
    """For the report of how long a contest took."""
    return f"{(time.monotonic() - began) / 60:.1f} minutes"
