"""kill -9 at random moments, ten times the training process and ten times the command itself: `pytest -m slow -s`.

A broken run must end as the unbroken one does: the same losses in every step, hence the same clips in the same order.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import multimodal.autoencoder.task
from multimodal.autoencoder.preparation import prepare
from multimodal.autoencoder.runs import load_run
from multimodal.autoencoder.settings import AutoencoderTrainingConfig, default_config
from multimodal.clips.datasets import find_files
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.records import read_lines
from multimodal.common.run_folder import checkpoints
from multimodal.common.training import alone, train
from tests.multimodal.material import training_processes, with_queries
from tests.patience import PATIENCE

KILLS = 10
STEPS = 400
# Steps that a run gets beyond where it was before the next kill, at most: all kills fall before its end.
STRIDE = STEPS // KILLS - 4
ROOT = Path(__file__).parents[2]
OPTIONS = ["--batch-size", "4", "--steps", str(STEPS), "--checkpoint-every", "20", "--log-every", "1"]
OPTIONS += ["--loss.video.queries", "64", "--loss.audio.queries", "32", "--max-failures", str(2 * KILLS)]


def config_for(out: Path, data: str) -> AutoencoderTrainingConfig:
    config = default_config("tiny", str(out))
    loss = with_queries(config.loss, video=64, audio=32)
    return replace(config, data=data, batch_size=4, steps=STEPS, checkpoint_every=20, log_every=1, loss=loss)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = SyntheticConfig(clips_per_class=6, held_out=0.17, size=32)
    return str(generate(tmp_path_factory.mktemp("data") / "clips", config))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, data: str) -> list[dict[str, float]]:
    """Lines of a run that nothing disturbs; no clip comes twice in one of its epochs, nor is one left out for long."""
    config = config_for(tmp_path_factory.mktemp("unbroken") / "run", data)
    seen: list[list[int]] = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        for batch in make_loader(*arguments, **options):
            seen.append(batch.index.tolist())
            yield batch

    make_loader = multimodal.autoencoder.task.training_loader
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multimodal.autoencoder.task, "training_loader", recorded)
        train(prepare(config), alone())
    files = len(find_files(data, "train", load_run(config.out).classes).files)
    steps_per_epoch = files // 4
    assert files == 40 and len(seen) == STEPS
    for first in range(0, STEPS, steps_per_epoch):
        epoch = [number for batch in seen[first : first + steps_per_epoch] for number in batch]
        assert sorted(epoch) == list(range(files)), "a clip came twice in an epoch"
    return read_lines(Path(config.out) / "metrics.jsonl")


@pytest.fixture
def chance(record_testsuite_property: Any) -> random.Random:
    """Moments to kill at; the seed is in the test's output."""
    seed = random.SystemRandom().randrange(2**32)
    record_testsuite_property("seed", seed)
    print(f"\nkills at the moments of seed {seed}")
    return random.Random(seed)


def start(out: Path, data: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "multimodal.autoencoder.train",
        "--out",
        str(out),
        "--data",
        data,
        *OPTIONS,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (out.with_suffix(".log")).open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def steps_done(out: Path) -> int:
    lines = read_lines(out / "metrics.jsonl")
    return int(lines[-1]["step"]) if lines else 0


def wait_for_step(command: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """Wait until `step` steps are done and a training process lives."""
    began = time.monotonic()
    while not (steps_done(out) >= step and training_processes(out) - {command.pid}):
        assert command.poll() is None, f"the command ended: {out.with_suffix('.log')}"
        assert time.monotonic() - began < PATIENCE, "nothing happened for too long"
        time.sleep(0.05)


def check_same_end(out: Path, unbroken: list[dict[str, float]]) -> None:
    lines = read_lines(out / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1)), "a step is missing or was counted twice"
    for name in ("total", "video", "audio", "label"):
        assert [line[name] for line in lines] == pytest.approx([line[name] for line in unbroken], rel=1e-3), name
    assert checkpoints(out)[-1].name == f"step-{STEPS:08d}"
    print(f"  final loss {lines[-1]['total']:.6f}, unbroken {unbroken[-1]['total']:.6f}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_killed_training_processes(
    tmp_path: Path, data: str, unbroken: list[dict[str, float]], chance: random.Random
) -> None:
    out = tmp_path / "run"
    command = start(out, data)
    before, killed = 0, list[int]()
    try:
        while len(killed) < KILLS:
            wait_for_step(command, out, before + chance.randint(1, STRIDE))
            time.sleep(chance.uniform(0.0, 0.1))
            before = steps_done(out)
            for process in training_processes(out) - {command.pid}:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                print(f"  killed {process} after step {before}", flush=True)
        assert command.wait(PATIENCE) == 0
    finally:
        command.kill()
    assert len(set(killed)) == len(killed)
    check_same_end(out, unbroken)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_killed_commands(
    tmp_path: Path, data: str, unbroken: list[dict[str, float]], chance: random.Random
) -> None:
    out = tmp_path / "run"
    before = 0
    for number in range(KILLS):
        command = start(out, data)
        try:
            # Most kills come while steps are made, some before the first.
            if number % 4:
                wait_for_step(command, out, before + chance.randint(1, STRIDE))
                time.sleep(chance.uniform(0.0, 0.1))
            else:
                time.sleep(chance.uniform(0.0, 15.0))
            assert command.poll() is None, f"the run ended after {number} kills: {out.with_suffix('.log')}"
        finally:
            command.kill()
        command.wait()
        before = steps_done(out)
        print(f"  killed {command.pid} after step {before}", flush=True)
    # The next command is given at once, as a user would: what the killed one left behind must not disturb it.
    assert start(out, data).wait(PATIENCE) == 0
    check_same_end(out, unbroken)
