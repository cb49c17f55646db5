"""Demonstrations: what is written is what was played, and cloning it gives a policy that plays alike."""

import dataclasses

import numpy as np
import pyarrow.parquet
import pytest
from rich.console import Console

from agents.acting.demonstrations import open_recording, read_batches, record
from agents.clone import CloneConfig, clone
from agents.configuration import ConfigError
from agents.evaluation.playing import FIRST_SEED, build_network, play
from agents.presets import ClusterConfig, WorldConfig
from agents.rllib.cluster import connect
from agents.runs.checkpoints import RunFolder
from tests.agents.ray_runs import NETWORK, tiny_config
from tests.agents.tiny_worlds import ATTACK, COLUMN, UNITS, TinyWorlds

WORLD = WorldConfig(scenario="tests.agents.test_demonstrations:make", num_envs=8)


class ExpertWorlds(TinyWorlds):
    """TinyWorlds with a scripted policy that always attacks the marked enemy."""

    def scripted_action(self, name: str, player: int = 0) -> dict[str, np.ndarray]:
        shape = (self.num_envs, UNITS)
        target = np.broadcast_to(UNITS + self.marked[:, None], shape)
        return {"order": np.full(shape, ATTACK), "target": target.copy()}


def make(num_envs: int, seed: int) -> ExpertWorlds:
    return ExpertWorlds(num_envs, seed)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstrations") / "expert"
    record(folder, WORLD, "expert", episodes=64, steps=5, num_envs=8, discount=0.9)
    connect(ClusterConfig(num_env_runners=0, num_cpus=6))
    return open_recording(folder)


def test_columns_are_readable_by_anything(recording):
    """Whole episodes, in order, with returns that add up."""
    table = pyarrow.parquet.read_table(recording.folder).to_pydict()
    assert recording.episodes == 64 and recording.rows == len(table["episode"])
    for episode in range(64):
        rows = [i for i, number in enumerate(table["episode"]) if number == episode]
        assert [table["start"][i] for i in rows] == [5 * k for k in range(len(rows))]
        rewards = [r for i in rows for r in table["reward"][i][: table["length"][i]]]
        assert len(rewards) <= 12 and rewards == [1.0] * len(rewards)
        expected = (1 - 0.9 ** len(rewards)) / (1 - 0.9)
        assert np.isclose(table["return_to_go"][rows[0]][0], expected, rtol=1e-5)


def test_batches_hold_every_row_once(recording):
    seen = []
    for batch in read_batches(recording, rows_per_batch=7, epochs=1, seed=0):
        count = len(batch["episode"])
        assert batch["observation"]["entities"].shape[:2] == (5, count)
        assert batch["action"]["order"].shape == (5, count, 2) and batch["weight"].shape == (5, count)
        # The expert's targets are the enemies with full health, in every step of every row.
        health = batch["observation"]["entities"][..., COLUMN["health_ratio"]]
        np.testing.assert_array_equal(batch["action"]["target"][..., 0], health[..., UNITS:].argmax(-1) + UNITS)
        seen += list(zip(batch["episode"].tolist(), batch["start"].tolist(), strict=True))
    assert len(seen) == len(set(seen)) == recording.rows


@pytest.mark.parametrize("lstm", [0, 8])
def test_clone_plays_like_the_expert_and_training_goes_on_from_it(recording, tmp_path, lstm):
    network = dataclasses.replace(NETWORK, lstm_channels=lstm)
    config = CloneConfig(
        recording=recording.folder,
        run=tmp_path / "clone",
        network=network,
        epochs=30,
        rows_per_batch=32,
        learning_rate=1e-2,
    )
    checkpoint = clone(config, Console(quiet=True))
    agent = build_network(network, WORLD, checkpoint)
    episodes = play(agent, WORLD, num_envs=16, rounds=4, seed=FIRST_SEED)
    assert np.mean(episodes.won) > 0.9
    assert RunFolder.open(tmp_path / "clone").latest() == checkpoint

    from tests.agents.ray_runs import build

    algorithm = build(tiny_config(updates=1, network=network, initial_weights=checkpoint))
    result = algorithm.train()
    algorithm.stop()
    # An untrained agent's steps are worth 0.02 each; episodes cut by one fragment of 8 steps cannot be won by luck.
    assert result["env_runners"]["win_rate"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--player", "cheater"], "player 'cheater' is neither a run folder nor a scripted policy"),
        (["--world.scenario", "4m"], "world.scenario"),
        (["--episodes", "0"], "episodes must be at least 1"),
        (["--transport", "memory"], "transport 'memory' is for --backend pysc2"),
    ],
)
def test_commands_refuse_bad_input(arguments, message, tmp_path, capsys):
    from agents.clone import main

    with pytest.raises(SystemExit) as stop:
        main(["record", "--folder", str(tmp_path / "expert"), *arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2 and not (tmp_path / "expert").exists()
    assert message in " ".join((said.out + said.err).replace("│", " ").split())


def test_bad_input(recording, tmp_path):
    with pytest.raises(ConfigError, match="is not overwritten"):
        record(recording.folder, WORLD, "expert", episodes=1)
    with pytest.raises(ConfigError, match="is not a recording"):
        open_recording(tmp_path)
