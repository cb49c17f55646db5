"""Does pretraining help, and is a Perceiver IO as good as a Transformer? `python -m multimodal.language.comparison`.

A Perceiver IO and a Transformer of equal FLOPs are pretrained by the same recipe; both, and a Perceiver IO that was
not pretrained, are trained on the same labelled tasks with several seeds. A regression on n-grams and the most frequent
class stand beside them. Trainings run side by side, one core each; what is done already is not done again.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from rich.console import Console

from multimodal.common.command import exit_with_sentence
from multimodal.language.settings import FinetuningConfig, PretrainingConfig, pretraining_recipe
from perceiver_agents.paths import make_absolute

PROGRAM = "python -m multimodal.language.comparison"


def _pretraining() -> PretrainingConfig:
    """Long enough to be far below the plateau, short enough for minutes."""
    return replace(pretraining_recipe("tiny", "runs/text-comparison"), steps=1000)


def _finetuning() -> FinetuningConfig:
    return FinetuningConfig(out="runs/text-comparison", steps=300)


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """What to compare."""

    out: str = "runs/text-comparison"
    """Output folder; the runs are in it."""
    seeds: int = 3
    """Trainings of each way."""
    pretraining: PretrainingConfig = field(default_factory=_pretraining)
    """The pretraining; its `out`, `encoder` and `objective` do not count."""
    finetuning: FinetuningConfig = field(default_factory=_finetuning)
    """The training on labelled tasks; its `out`, `encoder` and `start_from` do not count."""

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; it must be at least 1")


def compare(config: ComparisonConfig) -> None:
    """Run all trainings and write `comparison.json`, `comparison.png` and `comparison.html`."""
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    from multimodal.language.contest import Entry, by_way, minutes_since, pretrain_all, run_contest
    from multimodal.language.contest_report import publish
    from multimodal.language.evaluation import N_GRAMS, TRIVIAL
    from multimodal.language.finetuning_preparation import columns_of
    from multimodal.language.tasks.baselines import n_gram_regression, trivial
    from multimodal.language.tasks.data import load_tasks
    from multimodal.language.tasks.metrics import over_samples

    began = time.monotonic()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    pretrainings = {
        encoder: replace(config.pretraining, out=str(folder / f"pretrained-{encoder}"), encoder=encoder)
        for encoder in ("perceiver", "transformer")
    }
    pretrain_all(list(pretrainings.values()))
    entries = []
    for seed in range(config.seeds):
        base = replace(config.finetuning, seed=seed)
        ways = {
            "Perceiver IO, pretrained": replace(base, start_from=pretrainings["perceiver"].out),
            "Transformer, pretrained": replace(base, start_from=pretrainings["transformer"].out, encoder="transformer"),
            "Perceiver IO, not pretrained": replace(
                base,
                preset=config.pretraining.preset,
                max_length=config.pretraining.max_length,
                num_latents=config.pretraining.num_latents,
            ),
        }
        for number, (way, settings) in enumerate(ways.items()):
            entries.append(Entry(name=way, config=replace(settings, out=str(folder / f"way-{number}-seed-{seed}"))))
    results = by_way(run_contest(entries))
    tasks = load_tasks(config.finetuning.tasks, config.finetuning.data, columns_of(config.finetuning))
    metrics = {task.info.name: task.info.metrics[0] for task in tasks}
    console = Console(stderr=True)
    for way, answer in ((N_GRAMS, n_gram_regression), (TRIVIAL, trivial)):
        console.print(f"fitting: {way}", highlight=False)
        results[way] = {
            task.info.name: over_samples(task.info.metrics[0], task.targets(task.test), answer(task)) for task in tasks
        }
    more = [
        f"{config.seeds} seeds of the trained models, with Student's 95% intervals over them; the others have "
        f"intervals over test examples. {minutes_since(began)}."
    ]
    publish(folder, "comparison", "Pretraining, and a Transformer of equal FLOPs", results, metrics, more)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    arguments = sys.argv[1:] if arguments is None else arguments
    exit_with_sentence(
        PROGRAM,
        arguments,
        lambda: compare(tyro.cli(ComparisonConfig, prog=PROGRAM, description=__doc__, args=arguments)),
    )


if __name__ == "__main__":
    main()
