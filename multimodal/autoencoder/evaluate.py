"""Measure a trained autoencoder on held-out clips: `perceiver-evaluate-autoencoder RUN --data DIR`.

Prints a table and writes `evaluation.json`, `evaluation.html`, `examples.png` and the measures of every clip to the
output folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from multimodal.autoencoder.baselines import Row, rows, warnings
from multimodal.autoencoder.measures import ClipMeasures, Summary, measure_files, summarize
from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.autoencoder.report import (
    Example,
    baseline_rows,
    class_rows,
    summary_rows,
    write_overview,
    write_report,
)
from multimodal.autoencoder.runs import load_model, load_run
from multimodal.clips.datasets import LabelledFile, Split, check_files, find_files
from multimodal.clips.loader import evaluation_loader
from multimodal.common.errors import DataError
from multimodal.common.ray_cluster import connect, parallel_map
from multimodal.common.records import Problem
from perceiver_agents import answer_version
from perceiver_agents.paths import make_absolute
from perceiver_core.model import PerceiverIO

# More classes than this are listed in the report only.
SHOWN_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to measure.

    Attributes:
        run: run folder of a training.
        data: folder with labelled clips; None takes the set that the run was trained on.
        split: "val" are the held-out clips.
        out: output folder; None is `RUN/evaluation`.
        max_windows: most windows measured of one file, spread over it.
        batch_size: clips decoded at once by a process.
        num_processes: Ray tasks that share the files; None is one for each core. 1 measures without Ray.
        gpu: one GPU for each task.
        ray_address: an existing Ray cluster; None starts Ray on this machine.
        examples: clips shown in the report.
    """

    run: Annotated[str, tyro.conf.Positional]
    data: str | None = None
    split: Split = "val"
    out: str | None = None
    max_windows: int = 16
    batch_size: int = 8
    num_processes: int | None = None
    gpu: bool = False
    ray_address: str | None = None
    examples: int = 8

    def __post_init__(self) -> None:
        make_absolute(self, "run", "data", "out")
        for name in ("max_windows", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_processes is not None and self.num_processes < 1:
            raise ValueError(f"num_processes is {self.num_processes}; it must be at least 1")


def data_folder(run: str, data: str | None) -> str:
    """The folder asked for, or the one that the run was trained on."""
    return data or load_run(run).training["data"] or str(Path(run) / "generated")


def _measure_share(
    run: str, files: Sequence[LabelledFile], config: EvaluateConfig, threads: int
) -> tuple[list[ClipMeasures], list[Problem]]:
    torch.set_num_threads(threads)
    model, info = load_model(run)
    if config.gpu:
        model = model.to("cuda")
    return measure_files(model, info.model, files, batch_size=config.batch_size, max_windows=config.max_windows)


def measure_run(config: EvaluateConfig, files: Sequence[LabelledFile]) -> tuple[list[ClipMeasures], list[Problem]]:
    """Measures of all clips, computed by Ray tasks that share the files."""
    cores = os.cpu_count() or 1
    count = min(config.num_processes or cores, len(files))
    if count == 1:
        return _measure_share(config.run, files, config, cores)
    connect(config.ray_address, num_cpus=max(cores, count))
    shares = [(config.run, files[first::count], config, 1) for first in range(count)]
    parts = parallel_map(_measure_share, shares, gpu=config.gpu)
    measures = [clip for part, _ in parts for clip in part]
    problems = [problem for _, part in parts for problem in part]
    return sorted(measures, key=lambda clip: (clip.path, clip.start)), problems


def collect_examples(
    model: PerceiverIO, sizes: AutoencoderConfig, classes: Sequence[str], files: Sequence[LabelledFile], count: int
) -> list[Example]:
    """The first clip of `count` files spread over the list, original and reconstruction."""
    chosen = files[:: max(1, len(files) // count)][:count] if count else []
    examples = []
    for batch in evaluation_loader(chosen, sizes.clip, batch_size=4, max_windows=1):
        result = reconstruct(model, sizes, batch)
        assert result.video is not None and result.audio is not None and result.logits is not None
        probabilities = result.logits.softmax(dim=1)
        for row in range(len(batch)):
            if not bool(batch.has_label[row]):
                continue
            probability, named = probabilities[row].max(dim=0)
            pixels = (result.video[row] * 255).round().to(torch.uint8)
            examples.append(
                Example(
                    path=chosen[int(batch.index[row])].path,
                    start=float(batch.start[row]),
                    label=classes[int(batch.label[row])],
                    named=classes[int(named)],
                    probability=float(probability),
                    video=batch.video[row].permute(0, 2, 3, 1).numpy(),
                    video_out=pixels.permute(0, 2, 3, 1).numpy(),
                    audio=batch.audio[row].numpy(),
                    audio_out=np.asarray(result.audio[row]),
                )
            )
    return examples


def _training_files(data: str, classes: tuple[str, ...]) -> Sequence[LabelledFile]:
    """Files to fit a baseline on; none where the data has no training split."""
    try:
        return find_files(data, "train", classes).files
    except DataError:
        return ()


def evaluate(config: EvaluateConfig) -> tuple[Summary, list[Row]]:
    """Measure a run and write table, report and measures.

    Returns:
        Means over the clips, and the model beside its baselines.

    Raises:
        DataError: no run or checkpoint, unusable data, classes that the run does not know, unwritable output.
    """
    model, info = load_model(config.run)
    data = data_folder(config.run, config.data)
    found = find_files(data, config.split, info.classes)
    check_files(found, info.model.clip, data)
    out = Path(config.out) if config.out is not None else Path(config.run) / "evaluation"
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.html").touch()
    except OSError as error:
        raise DataError(
            f"output folder {out} cannot be written ({error.strerror}); choose --out in a folder you own"
        ) from error
    measures, problems = measure_run(config, found.files)
    summary = summarize(measures, info.model, len(info.classes))
    baselines = rows(summary, info.model, _training_files(data, info.classes), found.files)
    skipped = {problem.path: problem.reason for problem in (*found.missing, *problems)}
    values = {"data": data, "split": config.split, **asdict(summary), "skipped": skipped}
    values["baselines"] = [asdict(row) for row in baselines]
    (out / "evaluation.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    with (out / "clips.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(clip)) + "\n" for clip in measures)
    examples = collect_examples(model, info.model, info.classes, found.files, config.examples)
    if examples:
        write_overview(str(out / "examples.png"), examples, info.model.clip.sample_rate)
    write_report(
        str(out / "evaluation.html"),
        title=f"Autoencoder {Path(config.run).name} on {data} ({config.split})",
        summary=summary,
        classes=info.classes,
        examples=examples,
        clip_format=info.model.clip,
        skipped=skipped,
        baselines=baselines,
    )
    return summary, baselines


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-evaluate-autoencoder`."""
    answer_version("perceiver-evaluate-autoencoder", arguments)
    console = Console()
    try:
        config = tyro.cli(EvaluateConfig, prog="perceiver-evaluate-autoencoder", description=__doc__, args=arguments)
        summary, baselines = evaluate(config)
    except (DataError, ValueError) as error:
        sys.exit(f"error: {error}")
    table = Table("measure", "value")
    for row in summary_rows(summary):
        table.add_row(*row)
    console.print(table)
    beside = Table("way", "picture PSNR", "sound PSNR", "spectral convergence")
    for cells in baseline_rows(baselines):
        beside.add_row(*cells)
    console.print(beside)
    for sentence in warnings(baselines):
        console.print(f"[red]{sentence}[/red]", highlight=False)
    classes = load_run(config.run).classes
    if len(classes) <= SHOWN_CLASSES:
        by_class = Table("class", "top-1", "from picture alone", "from sound alone")
        for name, *shares in class_rows(classes, summary):
            by_class.add_row(name, *shares)
        console.print(by_class)
    console.print(f"report: {config.out or Path(config.run) / 'evaluation'}/evaluation.html")


if __name__ == "__main__":
    main()
