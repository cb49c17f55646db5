"""How many latents does a task need? `python -m multimodal.language.latents`.

The number of latents is the knob that trades quality for cost (section 4.1 of arXiv 2107.14795 tunes it). One task is
trained with several numbers from nothing; quality is drawn against FLOPs and against training time.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import tyro

from multimodal.common.command import exit_with_sentence
from multimodal.language.settings import FinetuningConfig
from perceiver_agents.paths import make_absolute

PROGRAM = "python -m multimodal.language.latents"


def _finetuning() -> FinetuningConfig:
    return FinetuningConfig(out="runs/text-latents", steps=300, tasks=("package",))


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """What to try."""

    out: str = "runs/text-latents"
    """Output folder; the runs are in it."""
    counts: tuple[int, ...] = (2, 8, 32, 128)
    """Numbers of latents."""
    seeds: int = 1
    """Trainings of each."""
    finetuning: FinetuningConfig = field(default_factory=_finetuning)
    """The training on one task; its `out` and `num_latents` do not count."""

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; it must be at least 1")
        if not self.counts or min(self.counts) < 2:
            raise ValueError(f"counts are {self.counts}; give numbers of latents from 2 on")
        if self.finetuning.start_from is not None:
            raise ValueError("a pretrained run has its number of latents; leave out --finetuning.start-from")


def sweep(config: LatentsConfig) -> None:
    """Run all trainings and write `latents.json`, `latents.png` and `latents.html`."""
    # Here, not above: what is wrong with the arguments is said before seconds of imports.
    import matplotlib.pyplot as plt
    from rich.console import Console
    from rich.table import Table

    from multimodal.common.records import write_atomically
    from multimodal.common.report import picture, table, write_page
    from multimodal.language.contest import Entry, by_way, minutes_since, run_contest
    from multimodal.language.matching import cost
    from multimodal.language.runs import load_run

    began = time.monotonic()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        Entry(
            name=str(count),
            config=replace(
                config.finetuning, num_latents=count, seed=seed, out=str(folder / f"latents-{count}-seed-{seed}")
            ),
        )
        for count in config.counts
        for seed in range(config.seeds)
    ]
    outcomes = run_contest(entries)
    info = load_run(entries[0].config.out)
    task = info.tasks[0]
    found = []
    for count, (name, estimates) in zip(config.counts, by_way(outcomes).items(), strict=True):
        rates = [outcome.steps_per_second for outcome in outcomes if outcome.name == name]
        flops = cost(load_run(folder / f"latents-{count}-seed-0").model, "masked", "flops")
        seconds = config.finetuning.steps / (sum(rates) / len(rates))
        found.append((count, estimates[task.name], flops, seconds))
    header = ("latents", task.metrics[0], "GFLOP a text", "training, s")
    rows = [(str(n), str(value), f"{flops / 1e9:.3f}", f"{seconds:.0f}") for n, value, flops, seconds in found]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for axis, column, label in ((axes[0], 2, "FLOPs of a text"), (axes[1], 3, "training, s")):
        places = [row[column] for row in found]
        axis.plot(places, [100 * value.value for _, value, _, _ in found], "o-")
        for place, (count, value, _, _) in zip(places, found, strict=True):
            axis.annotate(str(count), (place, 100 * value.value), textcoords="offset points", xytext=(4, 4))
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set_xscale("log")
    axes[0].set_ylabel(f"{task.name}, {task.metrics[0]}, percent")
    figure.savefig(folder / "latents.png", dpi=110)
    plain = [{"latents": n, **asdict(value), "flops": flops, "seconds": seconds} for n, value, flops, seconds in found]
    write_atomically(folder / "latents.json", json.dumps({"task": task.name, "results": plain}, indent=1) + "\n")
    sentence = f"Trained for {config.finetuning.steps} steps, {config.seeds} seeds each. {minutes_since(began)}."
    parts = [table(header, rows), f"<p>{sentence}</p>", picture(figure, "quality against cost")]
    write_page(folder / "latents.html", f"Latents for {task.name}", parts)
    shown = Table(*header)
    for row in rows:
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    console.print(f"report: {folder / 'latents.html'}", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    arguments = sys.argv[1:] if arguments is None else arguments
    exit_with_sentence(
        PROGRAM,
        arguments,
        lambda: sweep(tyro.cli(LatentsConfig, prog=PROGRAM, description=__doc__, args=arguments)),
    )


if __name__ == "__main__":
    main()
