"""The mini-games of the economy behind Gymnasium."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401
from envs.economy_env import FUNCTIONS, EconomyEnv
from envs.views.observation import C_UNIT_TYPE, C_VESPENE

NUMBER = {function.name: number for number, function in enumerate(FUNCTIONS)}


def act(env, name="no_op", selected=(), unit=0, place=None):
    rows = np.zeros(env.action_space["selected"].n, np.int8)
    rows[list(selected)] = 1
    cell = 0 if place is None else env.cell(*place)
    return {"function": NUMBER[name], "queued": 0, "selected": rows, "target_unit": unit, "target_point": cell}


def rows_of(observation, unit_type):
    return np.flatnonzero(observation["entities"][:, C_UNIT_TYPE] == unit_type)


def test_gymnasium_accepts_it():
    env = gymnasium.make("perceiver_sc2/CollectMineralsAndGas-v0")
    check_env(env.unwrapped, skip_render_check=True)
    batch = gymnasium.make_vec("perceiver_sc2/BuildMarines-v0", num_envs=2)
    observation, _ = batch.reset(seed=3)
    assert observation["entities"].shape[0] == 2
    with pytest.raises(ValueError, match="BuildMarines, CollectMineralsAndGas"):
        EconomyEnv("BuildMarine")


def test_gathering_scores_and_the_same_seed_plays_the_same_game():
    games = []
    for _ in range(2):
        env = EconomyEnv()
        observation, _ = env.reset(seed=11)
        workers, fields = rows_of(observation, 45), rows_of(observation, 341)
        assert len(workers) == 12 and len(fields) == 16 and observation["selected_mask"][3, workers].all()
        total = 0.0
        for n in range(60):
            worker, field = workers[n % 12], fields[n % 16]
            action = act(env, "Harvest_Gather_unit", [worker], field) if n < 12 else act(env)
            observation, reward, terminated, truncated, info = env.step(action)
            total += reward
            assert not (terminated or truncated or info["illegal_actions"])
        assert total == observation["scalars"][1] > 100
        games.append(observation["entities"])
    assert np.array_equal(*games)


def test_a_depot_and_a_refinery_are_built():
    env = EconomyEnv()
    observation, _ = env.reset(seed=1)
    env.world.economy.bank[0, 1, 0] = 400
    workers, geysers = rows_of(observation, 45), rows_of(observation, 342)
    observation, *_, info = env.step(act(env, "Build_Barracks_pt", workers[:1], place=(36.0, 33.0)))
    assert info["illegal_actions"] == 1  # a depot must stand first
    env.step(act(env, "Build_SupplyDepot_pt", workers[:1], place=(36.0, 28.0)))
    env.step(act(env, "Build_Refinery_pt", workers[1:2], geysers[0]))
    for _ in range(90):
        observation, *_ = env.step(act(env))
    assert len(rows_of(observation, 19)) == len(rows_of(observation, 20)) == 1
    assert observation["scalars"][7] == 23 and observation["function_mask"][NUMBER["Build_Barracks_pt"]]
    assert observation["entities"][geysers[0], C_VESPENE] < 2250
