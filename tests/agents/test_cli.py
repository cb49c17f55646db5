"""`perceiver-train-agent`: presets, settings, and errors before Ray starts."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from agents.acting.worlds import make_worlds
from agents.configuration import ConfigError, config_from_dict, config_to_dict, with_overrides
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import PRESETS, AgentTrainingConfig, CheckpointConfig, ClusterConfig, preset
from agents.runs.checkpoints import CheckpointInfo, RunFolder, load_weights, read_info
from agents.train import main, parse
from tests.agents.ray_runs import TINY, tiny_config

TINY_RUN = ["--world.scenario", TINY, "--budget.env-steps", "1000", "--cluster.num-env-runners", "0"]


def error_of(arguments: list[str], capsys) -> str:
    """What the command says when it refuses; it must do so without Ray."""
    started = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    if not started:
        assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    said = capsys.readouterr()
    return " ".join((said.out + said.err).replace("│", " ").split())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json(name):
    config = preset(name)
    assert config_from_dict(AgentTrainingConfig, json.loads(json.dumps(config_to_dict(config)))) == config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_name_existing_worlds_and_fit_two_cores(name):
    from agents.evaluation.scoring import check_worlds
    from agents.rllib.cluster import cpus_needed

    config = preset(name)
    check_worlds(config.world, config.evaluation)
    assert cpus_needed(config.cluster) <= 2
    assert config.budget.minutes or config.budget.env_steps


def test_every_field_can_be_set():
    config, resumed = parse(
        [
            "--preset",
            "3m",
            "--network.encoder",
            "transformer",
            "--learning.ppo.clip",
            "0.1",
            "--seed",
            "7",
            "--learning.learning-rate.start",
            "0.01",
            "--budget.minutes",
            "None",
            "--budget.env-steps",
            "5",
            "--evaluation.opponents",
            "idle",
            "kite",
            "--self-play.enabled",
            "--cluster.ray-address",
            "auto",
        ]
    )
    assert not resumed
    assert (config.network.encoder, config.learning.ppo.clip, config.seed) == ("transformer", 0.1, 7)
    assert (config.learning.learning_rate.start, config.budget.minutes, config.budget.env_steps) == (0.01, None, 5)
    assert config.evaluation.opponents == ("idle", "kite") and config.self_play.enabled
    assert config.cluster.ray_address == "auto"


@pytest.mark.parametrize(("runners", "learners", "acting"), [(3, 2, 3), (0, 2, 2), (0, 0, 1)])
def test_who_acts(runners, learners, acting):
    """What `check_config` counts games by."""
    assert ClusterConfig(num_env_runners=runners, num_learners=learners).num_acting == acting


def test_overrides():
    config = with_overrides(AgentTrainingConfig(), {"learning.vtrace.discount": 0.5, "seed": 3})
    assert config.learning.vtrace.discount == 0.5 and config.seed == 3
    with pytest.raises(ConfigError, match=r"unknown field 'learning.lr'"):
        with_overrides(AgentTrainingConfig(), {"learning.lr": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "4m"], "unknown preset '4m': expected one of"),
        (["--world.scenario", "4m", "--budget.minutes", "1"], "4m"),
        (["--world.scenario", "nowhere.at_all:make", "--budget.minutes", "1"], "names no importable factory"),
        (["--world.opponent", "cheater", *TINY_RUN], "unknown opponent 'cheater': expected one of"),
        (TINY_RUN[:2], "no budget: set --budget.minutes or --budget.env-steps"),
        ([*TINY_RUN, "--budget.env-steps", "-5"], "env_steps must be above 0, not -5"),
        ([*TINY_RUN, "--budget.minutes", "0"], "minutes must be above 0, not 0"),
        ([*TINY_RUN, "--cluster.gpus-per-learner", "64"], "64 GPU(s) are needed, but PyTorch finds"),
        ([*TINY_RUN, "--cluster.num-learners", "-1"], "num_learners must be at least 0, not -1"),
        ([*TINY_RUN, "--learning.fragment-length", "0"], "fragment_length must be at least 1, not 0"),
        ([*TINY_RUN, "--learning.vtrace.trace-lambda", "2"], "trace_lambda must lie within 0 and 1, not 2"),
        ([*TINY_RUN, "--network.channels", "30", "--network.num-heads", "4"], "must be a multiple of num_heads"),
        (
            [*TINY_RUN, "--cluster.num-cpus", "2", "--cluster.num-learners", "3"],
            "3 learners need 3 CPUs, but there are 2",
        ),
        (["--resume", "{tmp}/nothing"], "is not a run folder"),
        (["--resume", "{run}", "--preset", "3m"], "exclude each other"),
        (["--resume", "{run}", "--network.channels", "64"], "--network cannot change when resuming"),
        (["--resume", "{run}", "--seed", "3"], "--seed cannot change when resuming"),
        ([*TINY_RUN, "--run", "{run}"], "exists already and is not overwritten"),
        ([*TINY_RUN, "--initial-weights", "{tmp}/none.safetensors"], "cannot read weights"),
        ([*TINY_RUN, "--learning.teacher", "master"], "unknown learning.teacher 'master': expected one of"),
        ([*TINY_RUN, "--learning.teacher", "kite"], "learning.teacher needs worlds that know scripted policies"),
        (["--preset", "3m-self-play", "--learning.teacher", "kite"], "--learning.teacher None for self-play"),
        ([*TINY_RUN, "--self-play.enabled"], "self-play calls the factory with players=2, which it does not take"),
        ([*TINY_RUN, "--initial-weights", "{checkpoint}"], "is of another architecture: tensor"),
    ],
)
def test_bad_input_is_refused_before_ray(arguments, message, tmp_path, capsys):
    run = make_run(tmp_path / "run")
    places = {"tmp": tmp_path, "run": run.path, "checkpoint": run.latest()}
    said = error_of([argument.format(**places) for argument in arguments], capsys)
    assert message in said


def test_unknown_encoder_is_refused(capsys):
    with pytest.raises(SystemExit):
        main([*TINY_RUN, "--network.encoder", "rnn"])
    assert "perceiver_io" in capsys.readouterr().err


def make_run(path: Path, **changes) -> RunFolder:
    config = tiny_config(**changes)
    run = RunFolder.create(path, config)
    env = make_worlds(config.world, 1, 0)
    network = AgentNetwork(config.network, env.single_observation_space, env.single_action_space)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    run.save(
        CheckpointInfo(updates=1, env_steps=64, seconds=1.0, cpu_seconds=1.0),
        weights,
        network.tables(),
        lambda folder: folder.mkdir(),
    )
    return run


def test_run_folder_of_another_version(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    file = run.path / "config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"format": 99}))
    assert "was written in run format 99" in error_of(["--resume", str(run.path)], capsys)
    content["config"]["learning"]["momentum"] = 0.9
    file.write_text(json.dumps(content))
    assert "config.json.learning has no field 'momentum'" in error_of(["--resume", str(run.path)], capsys)


def test_second_process_in_the_same_run_is_refused(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    with run.locked():
        assert "another process is training in" in error_of(["--resume", str(run.path)], capsys)


def test_unfinished_checkpoint_does_not_count(tmp_path):
    """A process killed while saving leaves a draft, which is neither loaded nor in the way of the next save."""
    run = make_run(tmp_path / "run")

    def killed(folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    info = CheckpointInfo(updates=2, env_steps=128, seconds=2.0, cpu_seconds=2.0)
    with pytest.raises(KeyboardInterrupt):
        run.save(info, {"a": np.zeros(1)}, {}, killed)
    assert run.latest().name == "update-00000001"
    saved = run.save(info, {"a": np.zeros(1)}, {}, lambda folder: folder.mkdir())
    assert run.latest() == saved and not list((run.path / "checkpoints").glob(".*"))


def test_old_checkpoints_are_dropped(tmp_path):
    run = make_run(tmp_path / "run")
    for updates in range(2, 7):
        info = CheckpointInfo(updates=updates, env_steps=0, seconds=0.0, cpu_seconds=0.0)
        run.save(info, {"a": np.zeros(1)}, {}, lambda folder: folder.mkdir())
    assert [path.name[-1] for path in run.checkpoints()] == ["4", "5", "6"]


def test_killed_while_an_old_checkpoint_is_dropped(tmp_path, monkeypatch):
    """What is half deleted is no checkpoint any more, and is gone after the next save."""
    run = make_run(tmp_path / "run", checkpoint=CheckpointConfig(keep=1))
    delete = shutil.rmtree

    def killed(folder):
        (folder / "weights.safetensors").unlink()
        raise KeyboardInterrupt

    def save(updates):
        info = CheckpointInfo(updates=updates, env_steps=64, seconds=1.0, cpu_seconds=1.0)
        return run.save(info, {"w": np.zeros(1)}, {}, lambda folder: folder.mkdir())

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        save(2)
    assert [read_info(path).updates for path in run.checkpoints()] == [2]
    monkeypatch.setattr(shutil, "rmtree", delete)
    newest = save(3)
    assert list((run.path / "checkpoints").iterdir()) == [newest]


def test_killed_while_the_folder_is_made(tmp_path, monkeypatch):
    """The same command works again; a folder with anything else in it is still refused."""
    monkeypatch.setattr(os, "rename", lambda source, target: sys.exit(137))
    with pytest.raises(SystemExit):
        RunFolder.create(tmp_path / "run", tiny_config())
    monkeypatch.undo()
    assert RunFolder.create(tmp_path / "run", tiny_config()).checkpoints() == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".notes").touch()
    with pytest.raises(ConfigError, match="is not overwritten"):
        RunFolder.create(tmp_path / "other", tiny_config())


def test_weights_load_into_the_same_architecture_only(tmp_path):
    run = make_run(tmp_path / "run")
    env = make_worlds(run.config.world, 1, 0)
    spaces = (env.single_observation_space, env.single_action_space)
    load_weights(run.latest(), AgentNetwork(run.config.network, *spaces))
    with pytest.raises(ConfigError, match="another architecture"):
        load_weights(run.latest(), AgentNetwork(NetworkConfig(), *spaces))
    with pytest.raises(ConfigError, match="another architecture"):
        load_weights(run.latest(), AgentNetwork(dataclasses.replace(run.config.network, lstm_channels=4), *spaces))
