"""SMAC's interface in process: the numbers of SMAC's formulas on the protocol server, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from s2clientprotocol import sc2api_pb2

from envs.protocol.game import Game
from envs.protocol.player import PlayerSession
from envs.protocol.replay import Replay
from envs.smac import StarCraft2Env
from envs.smac.maps import map_parameters, smac_map_names
from tests.envs.smac.reference import Client


def random_actions(env, rng):
    return [int(rng.choice(np.flatnonzero(legal))) for legal in env.get_avail_actions()]


@pytest.mark.parametrize("name", ["2s3z", "MMM"])
def test_the_numbers_are_those_of_smacs_formulas_on_the_protocol_server(name):
    """Two episodes of random legal actions: 2s3z has shields and turned type bits, MMM healers."""
    env, client = StarCraft2Env(name, seed=7), Client(map_parameters(name), seed=7)
    rng, ended = np.random.default_rng(3), 0
    env.reset()
    while ended < 2:
        for a, observation in enumerate(env.get_obs()):
            assert observation.dtype == np.float32
            np.testing.assert_array_equal(observation, client.observation(a))
        np.testing.assert_array_equal(env.get_state(), client.state())
        assert env.get_avail_actions() == [client.available(a) for a in range(env.n_agents)]
        actions = random_actions(env, rng)
        reward, terminated, info = env.step(actions)
        expected, over, won = client.step(actions)
        assert reward == pytest.approx(expected, rel=1e-12)
        assert (terminated, info["battle_won"]) == (over, won)
        assert info["dead_enemies"] == sum(unit.health == 0 for unit in client.enemies)
        if terminated:
            ended += 1
            env.reset()
            client.restart()
    assert env.get_stats()["battles_game"] == 2


def test_sizes_are_those_that_smac_publishes():
    """(agents, observation, state, actions), from the paper's table and SMAC's documentation."""
    published = {"3m": (3, 30, 48, 9), "8m": (8, 80, 168, 14), "2s3z": (5, 80, 120, 11), "MMM": (10, 160, 290, 16)}
    for name, numbers in published.items():
        info = StarCraft2Env(name).get_env_info()
        assert tuple(info[key] for key in ("n_agents", "obs_shape", "state_shape", "n_actions")) == numbers
    assert len(smac_map_names()) == 23


@pytest.mark.parametrize("option", ["obs_timestep_number", "obs_last_action", "obs_pathing_grid", "obs_terrain_height"])
def test_every_option_has_its_declared_size(option):
    env = StarCraft2Env("3m", seed=1, state_timestep_number=True, **{option: True})
    observations, state = env.reset()
    env.step([1, 1, 1])
    assert observations[0].shape == (env.get_obs_size(),) and state.shape == (env.get_state_size(),)
    if option == "obs_timestep_number":
        assert env.get_obs()[0][-1] == np.float32(1 / 60)
    if option == "obs_last_action":
        assert env.get_obs()[0][-5:].any()
    assert env.get_state()[-1] == np.float32(1 / 60)


def test_a_seed_fixes_the_game_and_can_be_set_again():
    def play(env):
        rng = np.random.default_rng(0)
        return [env.step(random_actions(env, rng))[0] for _ in range(12)]

    first, second = StarCraft2Env("3m", seed=4), StarCraft2Env("3m", seed=5)
    first.reset()
    rewards = play(first)
    assert second.seed(4) == 4
    second.reset()
    assert play(second) == rewards and any(rewards)


def test_the_scripted_policy_tells_its_actions_and_wins_sometimes():
    env = StarCraft2Env("3m", seed=2, heuristic_ai=True, heuristic_rest=True)
    for _ in range(4):
        env.reset()
        terminated = False
        while not terminated:
            actions = [0] * env.n_agents
            legal = env.get_avail_actions()
            _, terminated, _ = env.step(actions)
            # As in SMAC, dead agents are told to go on; the game does not listen.
            assert all(legal[a][action] or legal[a][0] for a, action in enumerate(actions))
    assert env.get_stats()["battles_won"] > 0


def test_a_replay_plays_the_episode_again(tmp_path):
    env = StarCraft2Env("2s3z", seed=3, replay_dir=str(tmp_path))
    rng = np.random.default_rng(1)
    for episode in range(2):
        env.reset()
        for _ in range(30 if episode else 200):
            if env.step(random_actions(env, rng))[1]:
                break
    path = env.save_replay()
    with open(path, "rb") as file:
        replay = Replay.from_bytes(file.read())
    session = PlayerSession(0, sc2api_pb2.InterfaceOptions(raw=True))
    game = Game.from_replay(replay, session)
    game.step(session, replay.loops)
    mine, played = env._playing(), game.world
    assert sorted(map(mine.place, mine.alive_slots().tolist())) == sorted(
        map(played.place, played.alive_slots().tolist())
    )


def test_refusals_name_what_was_given_and_what_is_possible():
    with pytest.raises(ValueError, match="random as in SMACv2"):
        StarCraft2Env("smacv2_terran_5_vs_5")
    with pytest.raises(ValueError, match="a mini-game"):
        StarCraft2Env("MoveToBeacon")
    with pytest.raises(ValueError, match="difficulty is '11'"):
        StarCraft2Env("3m", difficulty="11")
    env = StarCraft2Env("3m", seed=0)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step([1, 1, 1])
    env.reset()
    with pytest.raises(ValueError, match="2 actions for 3 agents"):
        env.step([1, 1])
    with pytest.raises(ValueError, match=r"agent 1 cannot take action 6; legal now: \[1"):
        env.step([1, 6, 1])
    with pytest.raises(ValueError, match="agent 2 cannot take action 99"):
        env.step([1, 1, 99])
    with pytest.raises(ValueError, match="mode is 'ansi'"):
        env.render("ansi")
    assert env.render("rgb_array").shape[2] == 3


def test_sides_that_die_in_one_step_are_a_draw():
    """The map sets up new units at once: they are not the old ones come to life."""
    env = StarCraft2Env("so_many_baneling", seed=2)
    env.reset()
    world = env._playing()
    for slot in world.alive_slots().tolist():
        world.kill(slot)
    _, terminated, info = env.step([1] * env.n_agents)
    assert terminated and info == {"battle_won": False, "dead_allies": 7, "dead_enemies": 32}
    assert env.get_avail_actions() == [[1] + [0] * (env.n_actions - 1)] * 7
