"""PySC2 unmodified on the simulator: its scripted agents score what their rules imply."""

from __future__ import annotations

import pytest
from pysc2_evolved.agents import scripted_agent
from pysc2_evolved.env import run_loop, sc2_env

from envs.pysc2.client import simulator
from tests.envs.protocol.kinematics import EPISODES, expected

LAYERS = {"feature_dimensions": sc2_env.Dimensions(screen=84, minimap=64)}
RAW = {"action_space": sc2_env.ActionSpace.RAW, "use_raw_units": True}

# Score of an episode of 120 s: mean and standard deviation that kinematics expects (`tests.envs.protocol.kinematics`).
# What fights imply is not that simple: the least score is far over what idle units get.
COLLECTORS = (
    ("MoveToBeacon", scripted_agent.MoveToBeacon, LAYERS, 26.3, 1.4),
    ("CollectMineralShards", scripted_agent.CollectMineralShards, LAYERS, 92.7, 5.5),
    (
        "CollectMineralShards",
        scripted_agent.CollectMineralShardsFeatureUnits,
        {**LAYERS, "use_feature_units": True},
        102.1,
        6.0,
    ),
    ("CollectMineralShards", scripted_agent.CollectMineralShardsRaw, RAW, 132.2, 8.0),
)
FIGHTERS = (
    ("DefeatRoaches", scripted_agent.DefeatRoaches, LAYERS, 20),
    ("DefeatRoaches", scripted_agent.DefeatRoachesRaw, RAW, 20),
)


def play(transport, map_name, agent_class, interface, players=None):
    agent = agent_class()
    with simulator(transport):
        env = sc2_env.SC2Env(
            map_name=map_name,
            players=players or [sc2_env.Agent(sc2_env.Race.terran)],
            agent_interface_format=sc2_env.AgentInterfaceFormat(**interface),
            step_mul=8,
            random_seed=5,
        )
    with env:
        run_loop.run_loop([agent], env, max_episodes=1)
    return agent.reward


@pytest.mark.parametrize(
    ("map_name", "agent", "interface", "mean", "deviation"), COLLECTORS, ids=[a[1].__name__ for a in COLLECTORS]
)
def test_scripted_agents_collect_what_their_rules_imply(map_name, agent, interface, mean, deviation):
    assert abs(play("memory", map_name, agent, interface) - mean) <= 4 * deviation


@pytest.mark.parametrize(("map_name", "agent", "interface", "least"), FIGHTERS, ids=[a[1].__name__ for a in FIGHTERS])
def test_scripted_agents_fight(map_name, agent, interface, least):
    assert play("memory", map_name, agent, interface) >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", EPISODES)
def test_the_figures_of_kinematics(name):
    mean, deviation = next(a[3:] for a in COLLECTORS if a[1].__name__ == name)
    assert abs(expected(name, seed=1)[0] - mean) <= deviation


def test_over_a_websocket_the_score_is_the_same():
    name, agent, interface, _ = FIGHTERS[1]
    assert play("websocket", name, agent, interface) == play("memory", name, agent, interface)
