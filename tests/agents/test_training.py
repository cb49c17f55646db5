"""Training as a whole on tiny worlds: it learns, resumes bit for bit, and stops at numbers that are not finite."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agents.acting.rollout import Rollout
from agents.presets import BudgetConfig, CheckpointConfig
from agents.runs.checkpoints import RunFolder, read_info
from agents.train import train
from tests.agents.ray_runs import COUNTED, NETWORK, TINY, build, tiny_config
from tests.agents.tiny_worlds import COUNT_FILE
from tests.patience import PATIENCE


def run_training(folder: Path, config) -> dict[str, np.ndarray]:
    """Trains in `folder`, new or to be resumed; returns the final weights."""
    from safetensors.numpy import load_file

    run = RunFolder(folder, config) if folder.exists() else RunFolder.create(folder, config)
    return load_file(train(run, Console(quiet=True)) / "weights.safetensors")


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize(("algorithm", "learners"), [("v-trace", 0), ("ppo", 0), ("v-trace", 2)])
def test_resumed_run_ends_with_the_same_weights(tmp_path, algorithm, learners):
    """Stopped after 4 of 7 updates and resumed by a new algorithm, or not stopped: the same weights bit for bit."""
    network = dataclasses.replace(NETWORK, lstm_channels=8)
    config = tiny_config(algorithm=algorithm, learners=learners, updates=7, network=network)
    whole = run_training(tmp_path / "whole", config)
    # The first part has the same budget, so that the schedules agree; it is cut by dropping the later checkpoints.
    saving = dataclasses.replace(config, checkpoint=CheckpointConfig(minutes=None, updates=4, keep=5))
    run_training(tmp_path / "parts", saving)
    checkpoints = RunFolder.open(tmp_path / "parts").checkpoints()
    # Saving waits for the update that remote learners are at.
    assert [read_info(path).updates for path in checkpoints] == [5 if learners else 4, 7]
    import shutil

    shutil.rmtree(checkpoints[-1])
    resumed = run_training(tmp_path / "parts", saving)
    assert_same_weights(whole, resumed)
    records = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert sorted({record["updates"] for record in records}) == [record["updates"] for record in records]


def test_ppo_learns_with_a_remote_runner():
    """From chance (about 1 of 40 actions is the right one) to more than half of what can be earned."""
    algorithm = build(tiny_config(runners=1, algorithm="ppo", updates=150))
    try:
        first = algorithm.train()["env_runners"]["episode_return_mean"]
        while algorithm.progress < 1.0:
            result = algorithm.train()
        last = result["env_runners"]
        assert first < 1.0
        assert last["win_rate"] > 0.6 and last["episode_return_mean"] > 4.0
    finally:
        algorithm.stop()


def test_learners_that_act_learn_by_ppo():
    """As above, without env runners: two learners in worlds of their own, which are not the same ones."""
    algorithm = build(tiny_config(learners=2, algorithm="ppo", updates=60))
    try:
        first = algorithm.train()
        while algorithm.progress < 1.0:
            result = algorithm.train()
        assert first["learners"]["default_policy"]["kl"] >= 0.0
        assert first["env_runners"]["episode_return_mean"] < 1.0
        assert result["env_runners"]["win_rate"] > 0.6 and result["env_runners"]["weights_lag"] == 0.0
        assert algorithm.updates == 60 and algorithm.env_steps == 60 * 128
        worlds = [state["rollout"]["observation"]["scalars"] for state in algorithm.get_state()["acting"]]
        assert len(worlds) == 2 and (worlds[0] != worlds[1]).any()
    finally:
        algorithm.stop()


def test_not_a_number_stops_training_and_is_named(tmp_path, monkeypatch):
    """A poisoned observation: the error names it, the weights of the last good update stay."""
    from agents.rllib.learner import NonFiniteError

    collect = Rollout.collect
    calls = []

    def poisoned(self):
        fragment, episodes = collect(self)
        calls.append(1)
        if len(calls) == 4:
            fragment["observation"]["scalars"][2, 1, 0] = np.nan
        return fragment, episodes

    monkeypatch.setattr(Rollout, "collect", poisoned)
    algorithm = build(tiny_config(updates=10))
    try:
        for _ in range(3):
            algorithm.train()
        good = algorithm.network_weights()
        with pytest.raises(NonFiniteError, match=r"fragment 'observation.scalars' has 1 of"):
            algorithm.train()
        assert_same_weights(good, algorithm.network_weights())
    finally:
        algorithm.stop()


def test_not_a_number_ends_the_command_with_the_checkpoint_to_resume_from(tmp_path, monkeypatch, capsys):
    collect = Rollout.collect

    def poisoned(self):
        fragment, episodes = collect(self)
        if len(calls) == 3:
            fragment["reward"][0, 0] = np.inf
        calls.append(1)
        return fragment, episodes

    calls: list[int] = []
    monkeypatch.setattr(Rollout, "collect", poisoned)
    config = tiny_config(updates=10, checkpoint=CheckpointConfig(minutes=None, updates=2))
    with pytest.raises(SystemExit) as stop:
        train(RunFolder.create(tmp_path / "run", config), Console(width=300))
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "fragment 'reward' has 1 of 64 values that are not finite" in said
    assert "update-00000002" in said and f"--resume {tmp_path / 'run'}" in said


def test_schedules_follow_the_budget():
    algorithm = build(tiny_config(updates=4))
    try:
        rates = [algorithm.train()["learners"]["default_policy"]["learning_rate"] for _ in range(4)]
        np.testing.assert_allclose(rates, [3e-3, 2.5e-3, 2e-3, 1.5e-3], rtol=1e-6)
        assert algorithm.progress == 1.0
    finally:
        algorithm.stop()


def test_wall_clock_budget(tmp_path, monkeypatch):
    """The last update is the first that ends after the budget's time."""
    from agents.rllib.algorithm import EntityAgent

    starts: list[float] = []
    training_step = EntityAgent.training_step

    def noted(algorithm):
        starts.append(algorithm.seconds)
        training_step(algorithm)

    monkeypatch.setattr(EntityAgent, "training_step", noted)
    run_training(tmp_path / "run", tiny_config(budget=BudgetConfig(minutes=0.02)))
    info = read_info(RunFolder.open(tmp_path / "run").latest())
    assert len(starts) == info.updates
    assert starts[-1] < 1.2 <= info.seconds


def start_command(folder: Path, scenario: str = TINY, count_file: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agents.train"]
    if not folder.exists():
        command += ["--run", str(folder), "--world.scenario", scenario, "--world.num-envs", "4"]
        command += ["--learning.fragment-length", "4", "--cluster.num-env-runners", "0"]
        command += ["--network.channels", "16", "--network.num-layers", "1", "--network.num-latents", "4"]
        command += ["--budget.env-steps", "1000000", "--evaluation.episodes", "4", "--evaluation.videos", "0"]
        command += ["--checkpoint.minutes", "None", "--checkpoint.updates", "3"]
    else:
        command += ["--resume", str(folder)]
    # As a user starts it: without what the tests' own Ray is told, but for its patience.
    told = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_worker_niceness")
    environment = {name: value for name, value in os.environ.items() if name not in told}
    if count_file is not None:
        environment[COUNT_FILE] = str(count_file)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    )


def family_of(pid: int) -> list[int]:
    """The process and its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def listening_addresses(pid: int) -> set[str]:
    """Hexadecimal addresses, as in /proc/net/tcp and tcp6, on which the process and its descendants listen."""
    listening = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                listening[f"socket:[{inode}]"] = local.split(":")[0]
    found = set()
    for member in family_of(pid):
        for descriptor in Path(f"/proc/{member}/fd").glob("*"):
            try:
                found.add(listening.get(os.readlink(descriptor)))
            except OSError:
                continue
    return {address for address in found if address is not None}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the test's own time is up: how long a start takes depends on what else the machine does."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def wait_for_checkpoint(folder: Path, beyond: int, process: subprocess.Popen[str]) -> int:
    def newest() -> int:
        names = [path.name for path in (folder / "checkpoints").glob("update-*")]
        return max((int(name.removeprefix("update-")) for name in names), default=0)

    wait_until(lambda: newest() > beyond, process)
    return newest()


def test_interrupted_run_saves_and_resumes(tmp_path):
    """Ctrl-C: a checkpoint of that moment, the way to go on, exit status 130; the resumed run starts from there.

    Meanwhile Ray listens on the loopback interface alone.
    """
    folder = tmp_path / "run"
    process = start_command(folder)
    wait_for_checkpoint(folder, 0, process)
    if Path("/proc/net/tcp").exists():
        loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
        addresses = listening_addresses(process.pid)
        assert addresses and addresses <= loopback
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert f"perceiver-train-agent --resume {folder}" in said.replace("\n", " ").replace("  ", " ")
    run = RunFolder.open(folder)
    saved = read_info(run.latest())
    longer = dataclasses.replace(run.config, budget=BudgetConfig(env_steps=saved.env_steps + 5 * 16))
    resumed = read_info(train(RunFolder(folder, longer), Console(quiet=True)))
    assert resumed.updates == saved.updates + 5 and resumed.seconds > saved.seconds


def steps_counted(count_file: Path) -> int:
    return count_file.stat().st_size if count_file.exists() else 0


def wait_for_end(processes: list[int]) -> None:
    """Ray's processes notice that their driver is gone, and end too."""
    deadline = time.monotonic() + PATIENCE
    while left := [pid for pid in processes if is_running(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_driver_loses_at_most_one_checkpoint_interval(tmp_path):
    """kill -9 at 20 random moments, of start-up too: the newest checkpoint always loads, training always goes on from
    it, and what was lost is less than what lies between two checkpoints."""
    seed = 0
    random = np.random.default_rng(seed)
    folder, count = tmp_path / "run", tmp_path / "count"
    interval, fragment = 3, 4
    saved = kills = went_on = 0
    while kills < 20:
        count.unlink(missing_ok=True)
        process = start_command(folder, scenario=COUNTED, count_file=count)
        try:
            if kills >= 3 and random.random() < 0.25:
                time.sleep(float(random.uniform(0.0, 6.0)))  # while it starts
            else:
                # The first step of the worlds is that of the check before the run; the others are training.
                steps = 1 + fragment + int(random.integers(0, 10 * fragment))
                wait_until(lambda least=steps: steps_counted(count) >= least, process)
                time.sleep(float(random.uniform(0.0, 0.3)))  # perhaps while it saves
        finally:
            family = family_of(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        kills += 1
        wait_for_end(family)
        done = max(0, steps_counted(count) - 1) // fragment
        went_on += done > 0
        latest = RunFolder.open(folder).latest() if folder.exists() else None
        newest = read_info(latest).updates if latest else 0
        print(f"seed {seed}, kill {kills}: resumed at update {saved}, {done} more, newest checkpoint {newest}")
        assert saved <= newest <= saved + done
        assert saved + done - newest <= interval
        saved = newest
    assert went_on >= 10 and saved >= 10 * interval
