"""How should one model tell many tasks apart? `python -m multimodal.language.ways`.

The paper's four ways (section 4.1 of arXiv 2107.14795), on the same tasks with the same seeds: a model for each task;
one model with a head a task on one shared input token; with an input token a task; with a query a task.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from multimodal.common.command import exit_with_sentence
from multimodal.language.settings import FinetuningConfig
from perceiver_agents.paths import make_absolute

PROGRAM = "python -m multimodal.language.ways"
WAYS: dict[str, Literal["shared-token", "task-tokens", "task-queries"]] = {
    "shared input token": "shared-token",
    "task-specific input tokens": "task-tokens",
    "multi-task queries": "task-queries",
}


def _finetuning() -> FinetuningConfig:
    return FinetuningConfig(out="runs/text-ways", steps=300, tasks=("package", "signature", "order", "parameter-count"))


@dataclass(frozen=True, kw_only=True)
class WaysConfig:
    """What to compare."""

    out: str = "runs/text-ways"
    """Output folder; the runs are in it."""
    seeds: int = 3
    """Trainings of each way."""
    finetuning: FinetuningConfig = field(default_factory=_finetuning)
    """The training on all tasks; its `out` and `way` do not count. A model for one task gets its share of the steps."""

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; it must be at least 1")
        if len(self.finetuning.tasks) < 2:
            raise ValueError("give two or more tasks with --finetuning.tasks")


def compare(config: WaysConfig) -> None:
    """Run all trainings and write `ways.json`, `ways.png` and `ways.html`."""
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.language.contest import Entry, by_way, minutes_since, run_contest
    from multimodal.language.contest_report import publish
    from multimodal.language.finetuning_preparation import columns_of
    from multimodal.language.tasks.data import load_tasks

    began = time.monotonic()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for seed in range(config.seeds):
        base = replace(config.finetuning, seed=seed)
        share = max(1, base.steps // len(base.tasks))
        for task in base.tasks:
            alone = replace(base, tasks=(task,), steps=share, out=str(folder / f"single-{task}-seed-{seed}"))
            entries.append(Entry(name="single-task query", config=alone))
        for name, way in WAYS.items():
            together = replace(base, way=way, out=str(folder / f"{way}-seed-{seed}"))
            entries.append(Entry(name=name, config=together))
    results = by_way(run_contest(entries))
    tasks = load_tasks(config.finetuning.tasks, config.finetuning.data, columns_of(config.finetuning))
    metrics = {task.info.name: task.info.metrics[0] for task in tasks}
    more = [f"{config.seeds} seeds, with Student's 95% intervals over them. {minutes_since(began)}."]
    publish(folder, "ways", "Many tasks at once, in four ways", results, metrics, more)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    arguments = sys.argv[1:] if arguments is None else arguments
    exit_with_sentence(
        PROGRAM,
        arguments,
        lambda: compare(tyro.cli(WaysConfig, prog=PROGRAM, description=__doc__, args=arguments)),
    )


if __name__ == "__main__":
    main()
