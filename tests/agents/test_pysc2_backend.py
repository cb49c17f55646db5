"""`--backend pysc2`: the same agents on worlds behind PySC2, without the game."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.acting.pysc2_worlds import check_backend, resolve_transport
from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.configuration import ConfigError
from agents.evaluate import main as evaluate_main
from agents.evaluation.playing import FIRST_SEED, play
from agents.evaluation.scoring import evaluate_run
from agents.models.network import AgentNetwork
from agents.presets import EvaluationConfig, WorldConfig
from agents.train import parse
from tests.agents.ray_runs import NETWORK, build, tiny_config
from tests.agents.test_cli import make_run

INSIDE = WorldConfig(scenario="3m", num_envs=2)
OUTSIDE = dataclasses.replace(INSIDE, backend="pysc2", transport="memory")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    env = make_worlds(INSIDE, 1, 0)
    return AgentNetwork(NETWORK, env.single_observation_space, env.single_action_space).eval()


def test_an_agent_plays_the_very_same_episodes_through_pysc2(network):
    """Same seeds and weights: equal returns, lengths and winners, over several episodes in each world."""
    episodes = play(network, OUTSIDE, num_envs=2, rounds=2, seed=FIRST_SEED)
    assert len(episodes.returns) == 4
    assert episodes == play(network, INSIDE, num_envs=2, rounds=2, seed=FIRST_SEED)


def test_rollouts_go_on_where_games_cannot_be_saved(network):
    """Only the random numbers come back; the worlds are games of their own and are played on, not rewound."""
    rollout = Rollout(make_worlds(OUTSIDE, 2, 5), network, fragment_length=4, seed=5)
    rollout.collect()
    state = rollout.get_state()
    assert state["worlds"] == {}
    other = Rollout(make_worlds(OUTSIDE, 2, 5), network, fragment_length=4, seed=5)
    before = other.observation["entities"].copy()
    other.set_state(state)
    np.testing.assert_array_equal(other.observation["entities"], before)
    fragment, _ = other.collect()
    assert fragment["is_first"][0].all()
    rollout.env.close()
    other.env.close()


def test_training_on_ray():
    algorithm = build(tiny_config(runners=1, world=OUTSIDE, updates=2))
    try:
        before = algorithm.network_weights()
        while algorithm.progress < 1.0:
            algorithm.train()
        assert algorithm.env_steps >= 128
        after = algorithm.network_weights()
        assert any((before[name] != after[name]).any() for name in before)
    finally:
        algorithm.stop()


def test_evaluation_says_where_it_was_played(tmp_path):
    run = make_run(tmp_path / "run", world=INSIDE)
    folders = [
        evaluate_run(run, run.latest(), evaluation, Console(quiet=True), workers=1, world=world)
        for evaluation, world in (
            (EvaluationConfig(episodes=2, num_envs=2, videos=2), OUTSIDE),
            (EvaluationConfig(episodes=2, num_envs=2, videos=0), INSIDE),
        )
    ]
    outside, inside = (json.loads((folder / "evaluation.json").read_text()) for folder in folders)
    assert (outside["backend"], outside["transport"], inside["backend"]) == ("pysc2", "memory", "simulator")
    assert outside["results"] == inside["results"]
    page = (folders[0] / "report.html").read_text()
    # A film would be the simulator's, of other battles than those that were scored.
    assert "played through PySC2 on the simulator" in page and "<video" not in page


def test_auto_is_the_game_where_sc2path_names_one(monkeypatch):
    world = dataclasses.replace(OUTSIDE, transport="auto")
    monkeypatch.delenv("SC2PATH", raising=False)
    assert resolve_transport(world).transport == "memory"
    monkeypatch.setenv("SC2PATH", "/somewhere")
    assert resolve_transport(world).transport == "game"
    config, _ = parse(["--preset", "3m", "--backend", "pysc2", "--transport", "websocket"])
    assert (config.world.backend, config.world.transport) == ("pysc2", "websocket")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transport": "game"}, r"SC2PATH=.*holds no StarCraft II.*perceiver-sc2-server install"),
        ({"scenario": "tests.agents.tiny_worlds:make"}, "is a factory"),
    ],
)
def test_worlds_that_pysc2_cannot_play(change, message, tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=message):
        check_backend(dataclasses.replace(OUTSIDE, **change), 2)


def test_no_more_games_than_the_machine_can_hold(tmp_path, monkeypatch):
    from envs.protocol.install import install

    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "sc2")))
    game = dataclasses.replace(OUTSIDE, transport="game")
    check_backend(game, 1)
    with pytest.raises(ConfigError, match=r"1000 games side by side.*--num-envs"):
        check_backend(game, 1000)


def test_the_simulator_has_no_transport(tmp_path, capsys):
    run = make_run(tmp_path / "run", world=INSIDE)
    with pytest.raises(SystemExit) as stop:
        evaluate_main([str(run.path), "--transport", "memory"])
    assert stop.value.code == 2
    assert "is for --backend pysc2" in " ".join(capsys.readouterr().out.split())


def test_self_play_against_a_scripted_opponent(network):
    """Worlds of two agents, as the env runner wraps them for a league."""
    from agents.league.self_play import OpponentWorlds

    spaces = (make_worlds(INSIDE, 1, 0).single_observation_space, make_worlds(INSIDE, 1, 0).single_action_space)
    worlds = [
        OpponentWorlds(make_worlds(world, 1, 0, players=2), NETWORK, *spaces, opponent="focus-fire")
        for world in (INSIDE, OUTSIDE)
    ]
    observations = [world.reset(seed=9)[0] for world in worlds]
    for _ in range(12):
        for name, array in observations[0].items():
            np.testing.assert_allclose(array, observations[1][name], rtol=1e-6, atol=1e-6)
        action = worlds[0].env.scripted_action("attack-move", player=0)
        own = {name: array[:, 0] for name, array in action.items()}
        observations = [world.step(own)[0] for world in worlds]
    worlds[1].close()
