"""A training on Ray Train: resources checked before, progress shown meanwhile, stopped by Ctrl-C with a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multimodal.common import stopping
from multimodal.common.errors import DataError, Stopped, TrainingFailed
from multimodal.common.ray_cluster import connect
from multimodal.common.records import METRICS_FILE, read_lines, skipped_files, write_atomically
from multimodal.common.run_folder import is_claimed, steps_done
from multimodal.common.settings import TrainingSettings
from multimodal.common.telling import LINE_SECONDS
from multimodal.common.training import Task, distributed_place, train

# For glibc: memory that a step frees is kept for the next step. Given back and asked for again, its page faults would
# take an eighth of a step of a small model.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
# A training process writes here what a user can mend; Ray would try again and then show a trace.
ERROR_FILE = "error.txt"
LOOK_SECONDS = 0.5
# A step that is under way when the command is interrupted may take that long.
STOP_PATIENCE_SECONDS = 60.0

Describe = Callable[[Mapping[str, float]], str]
"""A line of the progress display from a line of `metrics.jsonl`."""


def check_resources(settings: TrainingSettings) -> None:
    """Refuse what could never start on this machine.

    Raises:
        DataError: GPUs or cores are asked for that are not there.
    """
    if settings.ray_address is not None:
        return
    if settings.gpu and torch.cuda.device_count() < settings.num_processes:
        raise DataError(
            f"--gpu asks for {settings.num_processes} GPU(s), one for each process, but PyTorch finds "
            f"{torch.cuda.device_count()} on this machine; leave --gpu out to train on the CPU, or name a cluster with "
            "--ray-address"
        )


def _threads(settings: TrainingSettings) -> int:
    return settings.cpus_per_process or max(1, (os.cpu_count() or 1) // settings.num_processes)


def _check_cluster(settings: TrainingSettings) -> None:
    import ray

    total = ray.cluster_resources()
    wanted = {"CPU": _threads(settings) * settings.num_processes, "GPU": settings.num_processes * settings.gpu}
    for kind, number in wanted.items():
        if number > total.get(kind, 0):
            raise DataError(
                f"{settings.num_processes} processes need {number} {kind}s, but Ray has {total.get(kind, 0):g}; "
                "lower --num-processes or --cpus-per-process"
            )


def _process(arguments: dict[str, Any]) -> None:
    """One training process, started by Ray Train."""
    from ray.train.torch import get_device, prepare_model

    task: Task = arguments["task"]
    place = distributed_place(get_device(), lambda model: prepare_model(model, move_to_device=False))
    if place.device.type == "cpu":
        torch.set_num_threads(arguments["threads"])
    try:
        train(task, place)
    except DataError as error:
        write_atomically(Path(task.settings.out) / ERROR_FILE, str(error))
        raise


def train_on_ray(task: Task, describe: Describe) -> dict[str, float]:
    """Train a run to its end, on Ray. A run that has ended already starts nothing.

    Args:
        task: the modality's part. The run folder must hold `run.json`.
        describe: what to show of a line of `metrics.jsonl`.

    Returns:
        The last line of `metrics.jsonl`: see `multimodal.common.training.train`.

    Raises:
        DataError: the resources are not there, or a training process met an error that a user can mend.
        Stopped: Ctrl-C or SIGTERM; the run is saved.
        TrainingFailed: the training processes died too often, or met a fault of the program.
    """
    settings = task.settings
    folder = Path(settings.out)
    if steps_done(folder) < settings.steps:
        check_resources(settings)
        (folder / ERROR_FILE).unlink(missing_ok=True)
        stopping.clear(folder)
        # Ray itself needs no core of its own here: on a two-core machine both train.
        cores = max(os.cpu_count() or 1, _threads(settings) * settings.num_processes)
        with _Display(settings, describe):
            connect(settings.ray_address, num_cpus=cores)
            _check_cluster(settings)
            with _signals() as received:  # not before: Ray sets a handler of its own when it starts
                _wait(_fit_in_background(task), folder, received)
    return dict(read_lines(folder / METRICS_FILE)[-1])


class _Fit(threading.Thread):
    """`trainer.fit()` away from the main thread, which stays free for signals: Ray would end a run without saving."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(name="ray-train", daemon=True)
        self.trainer = trainer
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.trainer.fit()
        except BaseException as error:
            self.error = error


def _fit_in_background(task: Task) -> _Fit:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = task.settings
    threads = _threads(settings)
    resources = {"CPU": float(threads), **({"GPU": 1.0} if settings.gpu else {})}
    trainer = TorchTrainer(
        _process,
        train_loop_config={"task": task, "threads": threads},
        torch_config=TorchConfig(backend="nccl" if settings.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.num_processes, use_gpu=settings.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"run-{os.getpid()}-{int(time.time())}",
            storage_path=str(Path(settings.out) / "ray"),
            failure_config=FailureConfig(max_failures=settings.max_failures),
            # Type checkers see the class of Ray Train's first version, which lacks this argument.
            worker_runtime_env={"env_vars": {} if settings.gpu else KEEP_MEMORY},  # type: ignore[call-arg]
        ),
    )
    fit = _Fit(trainer)
    fit.start()
    return fit


def _wait(fit: _Fit, folder: Path, received: list[int]) -> None:
    """Wait for the end of the training, and pass on what ends it early."""
    console = Console(stderr=True)
    asked_at = None
    while fit.is_alive():
        fit.join(LOOK_SECONDS)
        if (folder / ERROR_FILE).is_file():
            _shut_down()
            raise DataError((folder / ERROR_FILE).read_text())
        if received and asked_at is None:
            asked_at = time.monotonic()
            stopping.request(folder)
            console.print("saving after this step; interrupt again to end at once, without saving")
        overdue = asked_at is not None and time.monotonic() - asked_at > STOP_PATIENCE_SECONDS
        if len(received) > 1 or overdue or (received and not is_claimed(folder)):
            break  # no process has begun, or nobody wants to wait for it
    if received:
        _shut_down()
        raise Stopped(received[0], steps_done(folder))
    if fit.error is not None:
        cause = str(fit.error).strip().splitlines()
        raise TrainingFailed(
            f"training failed: {cause[-1] if cause else type(fit.error).__name__} (traces: {folder / 'ray'}); the same "
            "command goes on from the last checkpoint"
        ) from fit.error


def _shut_down() -> None:
    import ray

    ray.shutdown()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of raising, in the main thread."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """Progress on the terminal, read from the run folder: the training processes may be on other machines."""

    def __init__(self, settings: TrainingSettings, describe: Describe) -> None:
        self.settings = settings
        self.describe = describe
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            shown = progress.add_task("starting", total=self.settings.steps)
            told = time.monotonic()
            while True:
                last_look = self._stop.wait(LOOK_SECONDS)
                step, text = self._state()
                progress.update(shown, completed=step, description=text)
                if not console.is_terminal and (last_look or time.monotonic() - told >= LINE_SECONDS):
                    told = time.monotonic()
                    print(f"{step} of {self.settings.steps} steps, {text}", file=sys.stderr, flush=True)
                if last_look:
                    return

    def _state(self) -> tuple[int, str]:
        """The last logged step, and what it was like."""
        lines = read_lines(Path(self.settings.out) / METRICS_FILE)
        if not lines:
            return 0, "starting"
        text = f"{self.describe(lines[-1])}, {lines[-1].get('samples_per_second', 0):.0f}/s"
        skipped = skipped_files(self.settings.out)
        return lines[-1]["step"], text + (f", {len(skipped)} files skipped" if skipped else "")
