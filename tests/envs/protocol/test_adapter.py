"""`PySC2VectorEnv` beyond parity with one agent: two agents, crashes, bots, replays, step_mul, realtime, versions."""

from __future__ import annotations

import dataclasses
import itertools
import time

import numpy as np
import pytest
from pysc2_evolved.env import sc2_env
from s2clientprotocol import sc2api_pb2

from envs.protocol import handler
from envs.protocol.install import install
from envs.pysc2.client import GameMissing, simulator
from envs.pysc2.environment import PySC2VectorEnv, VersionError
from envs.scenarios.scenario import load_scenario
from envs.vector_env import SC2VectorEnv


def assert_same(inside, outside, where):
    assert inside.keys() == outside.keys()
    for name, array in inside.items():
        np.testing.assert_allclose(
            array.astype(np.float32), outside[name].astype(np.float32), rtol=1e-6, atol=1e-6, err_msg=f"{where}, {name}"
        )


@pytest.mark.parametrize(("scenario", "transport"), [("3m", "websocket"), ("5m_vs_6m", "memory"), ("2s3z", "memory")])
def test_two_agents_see_what_they_see_in_process(scenario, transport):
    """Both sides' observations, rewards and ends, over a whole episode and the start of another."""
    inside = SC2VectorEnv(scenario, 1, players=2)
    outside = PySC2VectorEnv(scenario, 1, players=2, transport=transport)
    assert inside.observation_space == outside.observation_space
    ended = 0
    for seed in (3, 4):
        a, _ = inside.reset(seed=seed)
        b, _ = outside.reset(seed=seed)
        for step in range(100 if seed == 3 else 5):
            assert_same(a, b, f"{scenario}, seed {seed}, step {step}")
            inside.scripted_action("kite", player=0)
            action = inside.scripted_action("focus-fire", player=1)
            a, *results_a, info_a = inside.step(action)
            b, *results_b, info_b = outside.step(action)
            for x, y in zip(results_a, results_b, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-6)
            if "final_info" in info_a:
                np.testing.assert_array_equal(info_a["final_info"]["battle_won"], info_b["final_info"]["battle_won"])
                ended += 1
                break
    assert ended == 1
    outside.close()


def still(env):
    """Nobody does anything."""
    return {name: np.zeros_like(space) for name, space in env.action_space.sample().items()}


def test_a_game_that_crashes_ends_its_episode_and_is_started_again():
    env = PySC2VectorEnv("3m", 2, transport="websocket", num_threads=2)
    env.reset(seed=1)
    _, _, terminated, truncated, _ = env.step(still(env))
    assert not terminated.any() and not truncated.any()
    env._games[1]._sc2_procs[0]._server.stop()
    observation, _, terminated, truncated, info = env.step(still(env))
    assert truncated.tolist() == [False, True] and not terminated.any()
    assert env.crashes == 1 and info["final_info"]["episode_length"][1] == 2
    assert observation["mask"][1, :3].all()  # a new battle
    for _ in range(3):
        _, _, terminated, truncated, _ = env.step(still(env))
        assert not (terminated | truncated).any()
    env.close()


@pytest.mark.slow
def test_a_killed_process_of_the_installed_game_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "sc2")))
    env = PySC2VectorEnv("3m", 1, transport="game")
    env.reset(seed=1)
    env.step(still(env))
    process = env._games[0]._sc2_procs[0]._proc
    process.kill()
    process.wait()
    _, _, _, truncated, _ = env.step(still(env))
    assert truncated.all() and env.crashes == 1
    assert env._games[0]._sc2_procs[0]._proc.pid != process.pid
    _, _, _, truncated, _ = env.step(still(env))
    assert not truncated.any()
    env.close()


def test_replays_of_ended_episodes_are_saved(tmp_path):
    env = PySC2VectorEnv("3m", 1, replay_dir=tmp_path / "replays", replay_episodes=2)
    env.reset(seed=7)
    lengths = []
    while len(lengths) < 3:
        *_, info = env.step(env.scripted_action("attack-move"))
        if "final_info" in info:
            lengths.append(int(info["final_info"]["episode_length"][0]))
    env.close()
    files = sorted((tmp_path / "replays").iterdir())
    assert [file.name for file in files] == ["3m-seed7-episode2.SC2Replay"]
    request = sc2api_pb2.Request(replay_info=sc2api_pb2.RequestReplayInfo(replay_data=files[0].read_bytes()))
    told = sc2api_pb2.Response.FromString(handler.Session().handle(request.SerializeToString())).replay_info
    assert told.game_duration_loops == 8 * lengths[1]


def test_built_in_computers_by_difficulty():
    """very_easy stands still on the server, cheat_vision comes."""
    moved = {}
    for opponent in ("very_easy", "cheat_vision"):
        env = PySC2VectorEnv("3m", 1, opponent=opponent)
        env.reset(seed=2)
        before = env.state.f[0, :2, 3:].copy()
        for _ in range(3):
            env.step(still(env))
        moved[opponent] = float(np.abs(env.state.f[0, :2, 3:] - before).max())
        env.close()
    assert moved["very_easy"] < 0.1 < 1.0 < moved["cheat_vision"]


def test_step_mul():
    scenario = load_scenario("MoveToBeacon")
    inside = SC2VectorEnv(dataclasses.replace(scenario, step_mul=4, step_limit=2 * scenario.step_limit), 1)
    outside = PySC2VectorEnv("MoveToBeacon", 1, step_mul=4)
    assert outside.scenario.step_limit == 480
    a, _ = inside.reset(seed=5)
    b, _ = outside.reset(seed=5)
    for step in range(60):
        assert_same(a, b, f"step {step}")
        action = inside.scripted_action("attack-move")
        a, b = inside.step(action)[0], outside.step(action)[0]
    assert outside.state.w[0, 0] in (240, inside.state.w[0, 0])
    outside.close()


def test_realtime_goes_on_by_itself():
    env = PySC2VectorEnv("MoveToBeacon", 1, realtime=True, step_mul=4)
    env.reset(seed=1)
    loops, started = [], time.monotonic()
    for _ in range(4):
        env.step(still(env))
        loops.append(env._games[0]._obs[0].observation.game_loop)
    assert all(later - earlier >= 4 for earlier, later in itertools.pairwise(loops))
    assert time.monotonic() - started >= 16 / 22.4 * 0.9
    env.close()


def test_versions_that_do_not_fit_name_the_remedy(monkeypatch):
    with simulator(), pytest.raises(ValueError, match=r"simulator speaks 4\.10\.0.*leave the version out"):
        sc2_env.SC2Env(
            map_name="MoveToBeacon",
            players=[sc2_env.Agent(sc2_env.Race.terran)],
            agent_interface_format=sc2api_pb2.InterfaceOptions(raw=True),
            version="4.1.2",
        )
    monkeypatch.setattr(handler, "BASE_BUILD", 55505)
    monkeypatch.setattr(handler, "GAME_VERSION", "3.16.0")
    env = PySC2VectorEnv("3m", 1)
    with pytest.raises(VersionError, match=r"3\.16\.0 \(build 55505\).*update the game"):
        env.reset(seed=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transport": "telegraph"}, ValueError, "expected one of memory, websocket, game"),
        ({"opponent": "chaos"}, ValueError, "expected one of idle, .*very_easy"),
        ({"opponent": "kite", "players": 2}, ValueError, "both sides are agents"),
        ({"scenario": "MoveToBeacon", "opponent": "kite"}, ValueError, "on a battle"),
        ({"step_mul": 0}, ValueError, "step_mul is 0"),
        ({"replay_episodes": 0}, ValueError, "replay_episodes is 0"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        PySC2VectorEnv(**{"scenario": "3m", **options})


def test_a_missing_game_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nothing"))
    env = PySC2VectorEnv("3m", 1, transport="game")
    with pytest.raises(GameMissing, match=r"SC2PATH=.*nothing holds no StarCraft II.*install the game"):
        env.reset(seed=1)
