"""Training on Ray Train: two processes give the weights of one, and a killed process is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from multimodal.autoencoder.preparation import prepare
from multimodal.autoencoder.runs import load_model
from multimodal.autoencoder.settings import AutoencoderTrainingConfig, default_config
from multimodal.autoencoder.train import run
from multimodal.clips.settings import LoaderConfig
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common import ray_train
from multimodal.common.ray_cluster import connect
from multimodal.common.records import METRICS_FILE, Problem, append_lines, read_lines, record_problems
from multimodal.common.run_folder import checkpoints
from multimodal.common.settings import TrainingSettings
from multimodal.common.training import alone, train
from tests.multimodal.material import training_processes, with_queries
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = SyntheticConfig(clips_per_class=2, held_out=0.5, size=16)
    return str(generate(tmp_path_factory.mktemp("data") / "clips", config))


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    ray.shutdown()  # another module's Ray may still run in this process
    with pytest.MonkeyPatch.context() as patched:
        # Training processes run elsewhere: they must find the package under test.
        patched.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
        connect(None, num_cpus=2)
        yield
        ray.shutdown()


def config_for(out: Path, data: str, steps: int, **changes: object) -> AutoencoderTrainingConfig:
    config = default_config("tiny", str(out))
    loss = with_queries(config.loss, video=64, audio=32)
    base = replace(
        config,
        data=data,
        steps=steps,
        batch_size=4,
        loss=loss,
        loader=LoaderConfig(num_workers=0),
        checkpoint_every=2,
        log_every=1,
        cpus_per_process=1,
    )
    return replace(base, **changes)


def test_commands_leave_ray_unimported_until_it_is_told_to_stay_on_this_machine() -> None:
    """Ray reads where to listen when it is imported: one that came with the command would listen everywhere."""
    check = "import sys, multimodal.autoencoder.train, multimodal.autoencoder.evaluate; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.usefixtures("own_ray")
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path, data: str) -> None:
    one = config_for(tmp_path / "one", data, steps=3)
    train(prepare(one), alone())
    two = config_for(tmp_path / "two", data, steps=3, num_processes=2)
    means = run(two)
    expected, got = load_model(one.out)[0].state_dict(), load_model(two.out)[0].state_dict()
    # Adam's first steps divide by the gradient's size: rounding of near-zero gradients shows in the weights.
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)
    losses = [[line["total"] for line in read_lines(Path(c.out) / "metrics.jsonl")] for c in (one, two)]
    assert len(losses[1]) == 3
    assert means["samples_per_second"] > 0
    # Rank 0 logs the loss of its own half of the batch.
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.5)


def kill_a_training_process(out: Path, killed: list[int]) -> None:
    """Wait for a checkpoint, then kill -9 the process that writes to the run."""
    began = time.monotonic()
    while not checkpoints(out) and time.monotonic() - began < PATIENCE:
        time.sleep(0.2)
    for process in training_processes(out) - {os.getpid()}:
        os.kill(process, signal.SIGKILL)
        killed.append(process)


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_a_killed_process_is_replaced_and_the_run_ends_like_an_unbroken_one(tmp_path: Path, data: str) -> None:
    unbroken = config_for(tmp_path / "unbroken", data, steps=30)
    train(prepare(unbroken), alone())
    broken = config_for(tmp_path / "broken", data, steps=30)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_training_process, args=(tmp_path / "broken", killed))
    killer.start()
    run(broken)
    killer.join()
    assert killed, "the run ended before a process could be killed"
    lines = [read_lines(Path(c.out) / "metrics.jsonl") for c in (unbroken, broken)]
    assert [line["step"] for line in lines[1]] == list(range(1, 31))
    expected = [line["total"] for line in lines[0]]
    assert [line["total"] for line in lines[1]] == pytest.approx(expected, rel=1e-3)


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_train, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(ray_train, "LOOK_SECONDS", 0.001)
    seen = ""
    with ray_train._Display(TrainingSettings(out=str(tmp_path), steps=9), lambda line: f"loss {line['total']:.1f}"):
        while "0 of 9 steps, starting" not in seen:
            seen += capsys.readouterr().err
        append_lines(tmp_path / METRICS_FILE, [{"step": 5, "total": 0.25, "samples_per_second": 7}])
        record_problems(tmp_path, [Problem(path="a", reason="b")])
        while "5 of 9 steps, loss 0.2, 7/s, 1 files skipped" not in seen:
            seen += capsys.readouterr().err
