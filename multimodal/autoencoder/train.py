"""Train the autoencoder on Ray Train: `perceiver-train-autoencoder`.

Without arguments, `tiny` trains on generated clips. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multimodal.autoencoder.training import Place, TrainConfig, default_config, train
from multimodal.clips.datasets import check_files, find_files
from multimodal.clips.loader import EpochBatches
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.errors import DataError
from multimodal.common.ray_cluster import connect
from multimodal.common.runs import (
    RUN_FILE,
    RunInfo,
    check_same_run,
    checkpoints,
    claim,
    load_run,
    read_lines,
    record_problems,
    save_run,
    skipped_files,
)
from perceiver_agents import answer_version


def prepare_run(config: TrainConfig) -> str:
    """Everything that can go wrong before training: data, classes, output. Writes `run.json`.

    Returns:
        The data folder.

    Raises:
        DataError: with the path and the remedy.
    """
    folder = Path(config.out)
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"run folder {folder} cannot be written ({error.strerror}); choose --out in a folder you own"
        ) from error
    with claim(folder):
        pass
    sizes = config.model_config()
    known = None
    if config.start_from is not None:
        start = load_run(config.start_from)
        if start.model != sizes:
            raise DataError(
                f"the run in {config.start_from} has other sizes than this one ({config.preset}); start from a run of "
                "the same preset and number of latents"
            )
        known = start.classes
    data = config.data
    if data is None:
        data = str(folder / "generated")
        if not Path(data).is_dir():
            _generate(Path(data))
    train_files = find_files(data, "train", known)
    held_out = find_files(data, "val", train_files.classes)
    EpochBatches(len(train_files.files), config.batch_size, seed=config.seed)
    problems = [*train_files.missing, *held_out.missing]
    problems += check_files(train_files, sizes.clip, data) + check_files(held_out, sizes.clip, data)
    info = RunInfo(model=sizes, classes=train_files.classes, training=config.course())
    if (folder / RUN_FILE).is_file():
        check_same_run(folder, info)
    else:
        save_run(folder, info)
    record_problems(folder, problems)
    return data


def _generate(data: Path) -> None:
    """Write the default set; it appears under its name only when it is complete."""
    clips = SyntheticConfig()
    Console(stderr=True).print(f"no --data given: generating {clips.clips_per_class} clips a class in {data}")
    for leftover in data.parent.glob(".generating-*"):  # of killed commands
        shutil.rmtree(leftover, ignore_errors=True)
    partial = generate(data.parent / f".generating-{os.getpid()}", clips, num_processes=os.cpu_count() or 1)
    partial.rename(data)


# For glibc: memory that a step frees is kept for the next step. Given back and asked for again, its page faults would
# take an eighth of a step of `tiny`.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _process(arguments: dict[str, Any]) -> None:
    """One training process, started by Ray Train."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    config: TrainConfig = arguments["config"]
    place = Place(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=get_device(),
        wrap=lambda model: prepare_model(model, move_to_device=False),
        barrier=_barrier,
    )
    if place.device.type == "cpu":
        torch.set_num_threads(arguments["threads"])
    train(config, arguments["data"], place)


def run(config: TrainConfig) -> dict[str, float]:
    """Train a run to its end, on Ray.

    Returns:
        The last line of `metrics.jsonl`: see `multimodal.autoencoder.training.train`.
    """
    data = prepare_run(config)
    threads = config.cpus_per_process or max(1, (os.cpu_count() or 1) // config.num_processes)
    # Ray itself needs no core of its own here: on a two-core machine both train.
    connect(config.ray_address, num_cpus=max(os.cpu_count() or 1, threads * config.num_processes))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources: dict[str, float] = {"CPU": threads}
    if config.gpu:
        resources["GPU"] = 1
    trainer = TorchTrainer(
        _process,
        train_loop_config={"config": config, "data": data, "threads": threads},
        torch_config=TorchConfig(backend="nccl" if config.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.num_processes, use_gpu=config.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"run-{os.getpid()}-{int(time.time())}",
            storage_path=str(Path(config.out) / "ray"),
            failure_config=FailureConfig(max_failures=config.max_failures),
            # Type checkers see the class of Ray Train's first version, which lacks this argument.
            worker_runtime_env={"env_vars": {} if config.gpu else KEEP_MEMORY},  # type: ignore[call-arg]
        ),
    )
    with _Display(config):
        trainer.fit()
    return dict(read_lines(Path(config.out) / "metrics.jsonl")[-1])


class _Display:
    """Progress on the terminal, read from the run folder: the training processes may be on other machines."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("starting", total=self.config.steps)
            while True:
                last_look = self._stop.wait(0.5)
                lines = read_lines(Path(self.config.out) / "metrics.jsonl")
                if lines:
                    line = lines[-1]
                    text = (
                        f"loss {line['total']:.4f} (video {line['video']:.4f}, audio {line['audio']:.4f}, label "
                        f"{line['label']:.3f}), {line['clips_per_second']:.0f} clips/s"
                    )
                    progress.update(task, completed=line["step"], description=text)
                if last_look:
                    return


PRESET_NOTES = {
    "tiny": "8 frames of 32 x 32, 0.64 s of sound at 8 kHz: minutes on two cores",
    "small": "16 frames of 64 x 64, 0.64 s of sound at 16 kHz: one GPU",
    "paper": "16 frames of 224 x 224, 0.64 s of sound at 48 kHz: the published configuration",
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `perceiver-train-autoencoder`."""
    answer_version("perceiver-train-autoencoder", arguments)
    arguments = sys.argv[1:] if arguments is None else arguments
    # Without a preset's name it is tiny, so that no argument at all is needed.
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["tiny", *arguments]
    defaults = {name: (note, default_config(name, f"runs/autoencoder-{name}")) for name, note in PRESET_NOTES.items()}
    try:
        config = tyro.extras.overridable_config_cli(
            defaults, prog="perceiver-train-autoencoder", description=__doc__, args=arguments
        )
        means = run(config)
    except (DataError, ValueError) as error:
        sys.exit(f"error: {error}")
    console = Console()
    console.print(f"trained {config.out}: loss {means['total']:.4f}; newest checkpoint {checkpoints(config.out)[-1]}")
    skipped = skipped_files(config.out)
    if skipped:
        console.print(f"{len(skipped)} files could not be used: {config.out}/skipped_files.jsonl")


if __name__ == "__main__":
    main()
