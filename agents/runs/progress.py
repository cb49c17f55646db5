"""What a run shows and records while it trains: a progress line, `metrics.jsonl` and TensorBoard."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

# Seconds between two lines where the output is not a terminal.
_LINE_SECONDS = 15.0


def duration(seconds: float) -> str:
    """`75 -> "1:15"`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"])


class ProgressReporter:
    """Shows steps/s, return, win rate and time left, and writes every report down."""

    def __init__(self, run: Path, console: Console, description: str, resumed_at: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._console = console
        self._description = description
        self._file = run / "metrics.jsonl"
        self._forget_after(resumed_at)
        self._tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=resumed_at or None)
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            _Figures(),
            console=console,
            disable=not self._live,
        )
        self._task = self._progress.add_task(description, total=1.0, figures="starting")
        self._last_line = 0.0

    def __enter__(self) -> "ProgressReporter":
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()
        self._tensorboard.close()

    def report(self, record: dict[str, Any], share: float, seconds_left: float | None) -> None:
        """Shows and records one `record` (see `agents.train`); `share` of the budget is used."""
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if isinstance(value, float) and not name.endswith("seconds"):
                self._tensorboard.add_scalar(name, value, record["env_steps"])
        figures = f"{record['env_steps']:,} steps  {record['steps_per_second']:,.0f}/s"
        for name, form in (("return", "return {:.2f}"), ("win_rate", "won {:.0%}")):
            if record.get(name) is not None:
                figures += "  " + form.format(record[name])
        if seconds_left is not None:
            figures += f"  {duration(seconds_left)} left"
        self._progress.update(self._task, completed=share, figures=figures)
        if not self._live and (time.monotonic() - self._last_line > _LINE_SECONDS or share >= 1.0):
            self._last_line = time.monotonic()
            self._console.print(f"{self._description} {share:4.0%}  {figures}", highlight=False)

    def _forget_after(self, updates: int) -> None:
        """Drops the lines that the resumed run will write again."""
        if not self._file.exists():
            return
        lines = [line for line in read_metrics(self._file) if line["updates"] <= updates]
        self._file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The reports of a run; a last line that a killed process left half-written is left out."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
