"""PySC2 unmodified on the simulator: its scripted agents score what their rules imply."""

from __future__ import annotations

import pytest
from pysc2_evolved.agents import scripted_agent
from pysc2_evolved.env import run_loop, sc2_env

from envs.pysc2_client import simulator

LAYERS = {"feature_dimensions": sc2_env.Dimensions(screen=84, minimap=64)}
RAW = {"action_space": sc2_env.ActionSpace.RAW, "use_raw_units": True}

# The least score of an episode of 120 s, a bit over half of what the agents get, far over what idle units get (0).
AGENTS = (
    ("MoveToBeacon", scripted_agent.MoveToBeacon, LAYERS, 15),
    ("CollectMineralShards", scripted_agent.CollectMineralShards, LAYERS, 40),
    (
        "CollectMineralShards",
        scripted_agent.CollectMineralShardsFeatureUnits,
        {**LAYERS, "use_feature_units": True},
        60,
    ),
    ("CollectMineralShards", scripted_agent.CollectMineralShardsRaw, RAW, 60),
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


@pytest.mark.parametrize(("map_name", "agent", "interface", "least"), AGENTS, ids=[a[1].__name__ for a in AGENTS])
def test_scripted_agents(map_name, agent, interface, least):
    assert play("memory", map_name, agent, interface) >= least


def test_over_a_websocket_the_score_is_the_same():
    name, agent, interface, _ = AGENTS[5]
    assert play("websocket", name, agent, interface) == play("memory", name, agent, interface)
