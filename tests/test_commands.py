"""The documented commands as a user types them: subprocesses in a fresh folder, with relative paths.

Each command stands first as the documentation has it; options that make it short follow.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multimodal.common.records import read_lines

ROOT = Path(__file__).parents[1]
MODULES = {
    "perceiver-train-agent": "agents.train",
    "perceiver-evaluate-agent": "agents.evaluate",
    "perceiver-clone-agent": "agents.clone",
    "perceiver-train-autoencoder": "multimodal.autoencoder.train",
    "perceiver-evaluate-autoencoder": "multimodal.autoencoder.evaluate",
    "perceiver-reconstruct": "multimodal.autoencoder.reconstruct",
    "perceiver-sc2-server": "envs.protocol.command_line",
}
SHORT_AE = "--steps 4 --checkpoint-every 4 --num-processes 1"
SHORT_AGENT = (
    "--world.num-envs 4 --network.channels 16 --network.num-latents 2 --network.num-heads 1 --budget.env-steps 256"
    " --evaluation.episodes 2 --evaluation.num-envs 2 --evaluation.videos 0 --cluster.num-cpus 2"
)
SCENARIO = """title = "One Marine against another"
source = "this test"
rules = "battle"
map_size = [32, 32]
step_mul = 8
step_limit = 20

[[team]]
at = [9.0, 16.0]
units = [{ type = "Marine", count = 1 }]

[[team]]
opponent = "attack-wave"
units = [{ type = "Marine", count = 1, at = [15.0, 16.0] }]
"""


def run(folder: Path, command: str) -> str:
    """What `command` prints in `folder`; fails where it fails."""
    words = shlex.split(command)
    if words[0] in MODULES:
        words[:1] = [sys.executable, "-m", MODULES[words[0]]]
    elif words[0] == "python":
        words[0] = sys.executable
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of clips in `clips` and a trained autoencoder in `runs/ae`."""
    folder = tmp_path_factory.mktemp("home")
    run(folder, "python -m multimodal.clips.make_clips synthetic --out clips --clips.clips-per-class 4")
    run(folder, f"perceiver-train-autoencoder --out runs/ae --data clips {SHORT_AE} --loader.cache.folder decoded")
    return folder


def test_training_stays_where_it_was_told_to(home: Path) -> None:
    assert (home / "runs/ae/checkpoints/step-00000004").is_dir()
    assert list((home / "decoded").iterdir())


@pytest.mark.slow
def test_the_same_command_says_that_the_run_is_done(home: Path) -> None:
    assert "trained" in run(home, f"perceiver-train-autoencoder --out runs/ae --data clips {SHORT_AE}")


def test_a_run_starts_from_another_one(home: Path) -> None:
    run(home, f"perceiver-train-autoencoder --start-from runs/ae --data clips --out runs/mine {SHORT_AE}")
    assert (home / "runs/mine/checkpoints/step-00000004").is_dir()


def test_a_run_is_evaluated_from_another_folder(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "perceiver-evaluate-autoencoder ../runs/ae --max-windows 1")
    assert (home / "runs/ae/evaluation/evaluation.html").is_file()


def test_reconstruction(home: Path) -> None:
    clip = next((home / "clips").rglob("*.mp4")).relative_to(home)
    run(home, f"perceiver-reconstruct runs/ae {clip} --out out.mp4 --side-by-side")
    assert (home / "out.mp4").stat().st_size > 0


def test_compression_curve(home: Path) -> None:
    command = "python -m multimodal.autoencoder.compression runs/ae --out curve/"
    run(home, f"{command} --max-windows 1 --codec-clips 1")
    assert (home / "curve/compression.png").is_file()


def test_an_agent_trains_is_evaluated_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SCENARIO)
    command = f"perceiver-train-agent --run runs/mine --world.scenario mine.toml {SHORT_AGENT}"
    run(tmp_path, f"{command} --cluster.num-env-runners 1 --cluster.num-learners 0")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "perceiver-evaluate-agent ../runs/mine --episodes 2 --num-envs 2 --videos 0")
    assert len(list((tmp_path / "runs/mine/evaluations").iterdir())) == 2
    run(elsewhere, "perceiver-train-agent --resume ../runs/mine --budget.env-steps 384")


def test_demonstrations_are_recorded_and_cloned(tmp_path: Path) -> None:
    run(tmp_path, "perceiver-clone-agent record --folder demos --world.scenario 3m --episodes 8 --world.num-envs 4")
    run(tmp_path, "perceiver-clone-agent train --recording demos --run runs/clone --epochs 1 --network.channels 16")
    assert (tmp_path / "runs/clone/config.json").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_saves_and_says_how_to_go_on(home: Path, number: int, code: int) -> None:
    out = home / f"runs/interrupted-{code}"
    arguments = f"--out runs/interrupted-{code} --data clips --steps 100000 --log-every 1 --checkpoint-every 100000"
    command = [sys.executable, "-m", MODULES["perceiver-train-autoencoder"], *arguments.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not read_lines(out / "metrics.jsonl"):
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.1)
    process.send_signal(number)
    printed = process.communicate()[0].decode()
    assert process.returncode == code, printed
    done = read_lines(out / "metrics.jsonl")[-1]["step"]
    assert (out / f"checkpoints/step-{done:08d}").is_dir()
    assert f"saved at step {done}" in printed
    assert f"perceiver-train-autoencoder {arguments}" in printed


def test_what_can_never_start_is_refused_at_once(home: Path) -> None:
    command = [sys.executable, "-m", MODULES["perceiver-train-autoencoder"], "--out", "runs/gpu", "--gpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "error: --gpu asks for 1 GPU(s)" in done.stderr
    assert "Traceback" not in done.stderr and not (home / "runs/gpu").exists()
