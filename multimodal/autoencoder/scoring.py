"""A run evaluated on held-out clips: measures by Ray tasks, baselines, table values, report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from multimodal.autoencoder.baselines import Row, rows
from multimodal.autoencoder.commands import EvaluateConfig, data_folder
from multimodal.autoencoder.measures import ClipMeasures, Summary, measure_files, summarize
from multimodal.autoencoder.model import AutoencoderConfig, reconstruct
from multimodal.autoencoder.report import Example, write_overview, write_report
from multimodal.autoencoder.runs import load_model
from multimodal.clips.datasets import LabelledFile, check_files, find_files
from multimodal.clips.loader import evaluation_loader
from multimodal.common.errors import DataError
from multimodal.common.ray_cluster import connect, parallel_map
from multimodal.common.records import Problem
from multimodal.common.telling import Telling
from perceiver_core.model import PerceiverIO


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
        probabilities = result["label"].softmax(dim=1)
        original = {modality.name: modality.truth(batch).numpy() for modality in sizes.signals}
        decoded = {name: np.asarray(result[name]) for name in original}
        for row in range(len(batch)):
            if not bool(batch.has_label[row]):
                continue
            probability, named = probabilities[row].max(dim=0)
            examples.append(
                Example(
                    path=chosen[int(batch.index[row])].path,
                    start=float(batch.start[row]),
                    label=classes[int(batch.label[row])],
                    named=classes[int(named)],
                    probability=float(probability),
                    original={name: values[row] for name, values in original.items()},
                    decoded={name: values[row] for name, values in decoded.items()},
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
    if config.gpu and config.ray_address is None and not torch.cuda.is_available():
        raise DataError("--gpu: PyTorch finds no GPU on this machine; leave --gpu out, or name a --ray-address")
    model, info = load_model(config.run)
    data = data_folder(config.run, config.data)
    with Telling(f"looking for media files in {data}") as tell:
        found = find_files(data, config.split, info.classes, tell)
        check_files(found, info.model.clip, data, tell)
    out = Path(config.out) if config.out is not None else Path(config.run) / "evaluation"
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.html").touch()
    except OSError as error:
        raise DataError(
            f"output folder {out} cannot be written ({error.strerror}); choose --out in a folder you own"
        ) from error
    with Telling(f"measuring {len(found.files)} files") as tell:
        measures, problems = measure_run(config, found.files)
        summary = summarize(measures, info.model, len(info.classes))
        tell("fitting the baselines")
        training_files = _training_files(data, info.classes)
        baselines = rows(summary, info.model, training_files, found.files, config.max_windows)
    skipped = {problem.path: problem.reason for problem in (*found.missing, *problems)}
    values = {"data": data, "split": config.split, **asdict(summary), "skipped": skipped}
    values["baselines"] = [asdict(row) for row in baselines]
    (out / "evaluation.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    with (out / "clips.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(clip)) + "\n" for clip in measures)
    examples = collect_examples(model, info.model, info.classes, found.files, config.examples)
    if examples:
        write_overview(str(out / "examples.png"), examples, info.model)
    write_report(
        str(out / "evaluation.html"),
        title=f"Autoencoder {Path(config.run).name} on {data} ({config.split})",
        run=config.run,
        summary=summary,
        sizes=info.model,
        classes=info.classes,
        examples=examples,
        skipped=skipped,
        baselines=baselines,
    )
    return summary, baselines
