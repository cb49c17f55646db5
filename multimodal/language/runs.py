"""A run on text: job, sizes, tasks and settings in `run.json`, tokens in `tokens.json`, and the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from multimodal.common.errors import DataError
from multimodal.common.run_folder import RUN_FILE, check_same_settings, newest_checkpoint, read_run, write_run
from multimodal.language.model import LanguageSizes
from multimodal.language.settings import MODALITY
from multimodal.language.tasks.labelled import TaskInfo
from multimodal.language.transformer import TextTransformer
from perceiver_core.autoregressive import PerceiverAR
from perceiver_core.hub import CONFIG_FILE, HubModel, read_config
from perceiver_core.model import PerceiverIO

Job = Literal["masked", "next", "tasks"]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What identifies a run.

    Attributes:
        job: masked or next tokens, or labelled tasks.
        model: sizes.
        tasks: of a run of labelled tasks.
        training: the settings that the course of training depends on, as plain values.
    """

    job: Job
    model: LanguageSizes
    tasks: tuple[TaskInfo, ...] = ()
    training: Mapping[str, Any]


def _plain(info: RunInfo) -> dict[str, Any]:
    return {
        "modality": MODALITY,
        "job": info.job,
        "model": {**asdict(info.model), "n_grams": list(info.model.n_grams)},
        "tasks": [asdict(task) for task in info.tasks],
        "training": dict(info.training),
    }


def load_run(folder: str | Path) -> RunInfo:
    """Read `run.json`.

    Raises:
        DataError: the folder holds no run on text.
    """
    data = read_run(folder, MODALITY)
    tasks = tuple(
        TaskInfo(**{**task, "classes": tuple(task["classes"]), "metrics": tuple(task["metrics"])})
        for task in data["tasks"]
    )
    sizes = LanguageSizes(**{**data["model"], "n_grams": tuple(data["model"]["n_grams"])})
    return RunInfo(job=data["job"], model=sizes, tasks=tasks, training=data["training"])


def begin_or_continue(folder: Path, info: RunInfo) -> None:
    """Write `run.json`, or check that the run in the folder is this one.

    Raises:
        DataError: a run was begun there with other settings, sizes or tasks; names what.
    """
    if not (folder / RUN_FILE).is_file():
        write_run(folder, _plain(info))
        return
    begun = load_run(folder)
    if begun.job != info.job:
        raise DataError(f"the run in {folder} has the job {begun.job!r}, not {info.job!r}; give another --out")
    if begun.tasks != info.tasks:
        raise DataError(
            f"the run in {folder} was begun with other tasks or classes ({_described(begun.tasks)}) than these "
            f"({_described(info.tasks)}); continue it on its own data, or give another --out"
        )
    stored = _plain(begun)
    check_same_settings(folder, stored["model"] | stored["training"], asdict(info.model) | dict(info.training))


def _described(tasks: tuple[TaskInfo, ...]) -> str:
    return "; ".join(f"{task.name}: {', '.join(task.classes) or 'score'}" for task in tasks)


def load_model(folder: str | Path) -> tuple[HubModel, RunInfo]:
    """The trained model of a run, in evaluation mode, and what identifies the run.

    Raises:
        DataError: the folder holds no run on text, or no checkpoint yet.
    """
    info = load_run(folder)
    checkpoint = newest_checkpoint(folder)
    kinds: dict[str, type[HubModel]] = {kind.__name__: kind for kind in (PerceiverIO, TextTransformer, PerceiverAR)}
    stored = read_config(checkpoint / CONFIG_FILE).get("model")
    return kinds[str(stored)].from_pretrained(checkpoint), info
