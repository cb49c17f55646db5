"""Measure a run of labelled tasks on test examples, beside a classical model of the same training examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically
from multimodal.language.commands import EvaluateConfig
from multimodal.language.finetuning import Told, tell
from multimodal.language.runs import RunInfo, load_model
from multimodal.language.tasks.baselines import n_gram_regression, trivial
from multimodal.language.tasks.data import load_tasks, table_name
from multimodal.language.tasks.labelled import Example, LabelledTask, TaskInfo
from multimodal.language.tasks.metrics import Estimate, over_samples
from multimodal.language.tasks.tables import Columns
from multimodal.language.text.tokens import load_tokens

MODEL, N_GRAMS, TRIVIAL = "model", "n-gram regression", "most frequent class or mean score"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What was measured of a task.

    Attributes:
        info: the task.
        examples: number of test examples.
        cut: how many were longer than the model reads.
        by_way: estimates of each metric, by way of answering.
        mistakes: examples with what the model answered and how sure it was, the surest first.
        confusion: counts `[true class][class told]`; empty for scores.
    """

    info: TaskInfo
    examples: int
    cut: int
    by_way: Mapping[str, Mapping[str, Estimate]]
    mistakes: Sequence[tuple[Example, str, float]]
    confusion: Sequence[Sequence[int]]


def evaluate(config: EvaluateConfig) -> list[TaskResult]:
    """Measure all tasks of a run, and write `evaluation.json` to the output folder.

    Raises:
        DataError: no such run, or data that does not fit its tasks.
    """
    model, info = load_model(config.run)
    if info.job != "tasks":
        raise DataError(f"{config.run} tells {info.job} tokens; its report was written when it was trained")
    console = Console(stderr=True)
    device = torch.device(config.device)
    model.to(device)
    tokens = load_tokens(config.run)
    results = []
    for task in run_tasks(config, info):
        console.print(f"{task.info.name}: {len(task.test)} test examples", highlight=False)
        told = tell(model, info, info.training["way"], task.info, task.test, tokens, device)
        answers = {MODEL: told.answers}
        if config.baselines:
            console.print(f"{task.info.name}: {N_GRAMS} on {len(task.train)} training examples", highlight=False)
            answers |= {N_GRAMS: n_gram_regression(task), TRIVIAL: trivial(task)}
        results.append(_result(task, told, answers))
    folder = output_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "evaluation.json", config, results)
    return results


def output_folder(config: EvaluateConfig) -> Path:
    """Where the evaluation is written."""
    return Path(config.out or Path(config.run) / "evaluation")


def run_tasks(config: EvaluateConfig, info: RunInfo) -> list[LabelledTask]:
    """The tasks of a run with their data: that which it was trained on, or other data of the same tasks.

    Raises:
        DataError: the data has other classes, or is of no task of the run.
    """
    training = info.training
    columns = Columns(
        texts=tuple(training["text_columns"]),
        label=training["label_column"],
        scored=training["scored"],
        sign_margin=training["sign_margin"],
    )
    known = {task.name: task.classes for task in info.tasks}
    data = training["data"] if config.data is None else config.data
    if training["data"] is not None and not training["tasks"]:
        # The name follows the table's, which may be another one now.
        classes = {table_name(data): info.tasks[0].classes or None}
        (found,) = load_tasks((), data, columns, {k: v for k, v in classes.items() if v})
        fitting = [(info.tasks[0], found)]
    else:
        if config.data is not None and training["data"] is None:
            raise DataError(f"{config.run} has embedded tasks, which are not in {config.data}; leave out --data")
        asked = [name for name in known if not config.tasks or name in config.tasks]
        fitting = [(info.tasks[list(known).index(name)], load_tasks((name,), data, columns)[0]) for name in asked]
    tasks = []
    for own, found in fitting:
        if own.classes != found.info.classes:
            raise DataError(
                f"{data} has the classes {', '.join(found.info.classes)}, the run {', '.join(own.classes)}; evaluate "
                "on data of the same classes"
            )
        tasks.append(LabelledTask(info=own, train=found.train, test=found.test, notes=found.notes))
    return tasks


def _result(task: LabelledTask, told: Told, answers: Mapping[str, np.ndarray]) -> TaskResult:
    truth = task.targets(task.test)
    by_way = {
        way: {name: over_samples(name, truth, told_by) for name in task.info.metrics}
        for way, told_by in answers.items()
    }
    confusion: list[list[int]] = []
    if task.info.classes:
        number = len(task.info.classes)
        counts = np.zeros((number, number), int)
        np.add.at(counts, (truth, told.answers), 1)
        confusion = counts.tolist()
        wrong = np.flatnonzero(truth != told.answers)
        order = wrong[np.argsort(-told.confidence[wrong], kind="stable")]
        said = [task.info.classes[answer] for answer in told.answers]
        sure = told.confidence
    else:
        order = np.argsort(-np.abs(truth - told.answers), kind="stable")
        said = [f"{answer:.2f}" for answer in told.answers]
        sure = np.abs(truth - told.answers)
    mistakes = [(task.test[index], said[index], float(sure[index])) for index in order]
    return TaskResult(
        info=task.info, examples=len(task.test), cut=told.cut, by_way=by_way, mistakes=mistakes, confusion=confusion
    )


def _write_json(path: Path, config: EvaluateConfig, results: Sequence[TaskResult]) -> None:
    tasks = {
        result.info.name: {
            "examples": result.examples,
            "cut": result.cut,
            "results": {
                way: {name: asdict(estimate) for name, estimate in found.items()}
                for way, found in result.by_way.items()
            },
        }
        for result in results
    }
    write_atomically(path, json.dumps({"run": config.run, "data": config.data, "tasks": tasks}, indent=1) + "\n")
