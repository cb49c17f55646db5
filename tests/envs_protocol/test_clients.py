"""Third-party clients, unmodified, on an installation laid out by the server.

They run in a Python of their own: the one that PERCEIVER_CLIENTS_PYTHON names, else this one; a test is skipped where
that Python cannot import the client. `pip install burnysc2` brings python-sc2; SMAC is installed from its repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from envs.protocol.install import install

PYTHON = os.environ.get("PERCEIVER_CLIENTS_PYTHON", sys.executable)

PYTHON_SC2 = """
import json, sys
from sc2 import maps
from sc2.bot_ai import BotAI
from sc2.data import Difficulty, Race
from sc2.main import run_game
from sc2.player import Bot, Computer

seen = {}

class Scout(BotAI):
    async def on_step(self, iteration):
        if iteration == 0:
            self.scout = self.workers.first.tag
            self.began = self.workers.first.position
            seen["start"] = [self.workers.amount, self.townhalls.amount, self.enemy_units.amount]
            seen["minerals"] = self.mineral_field.amount
            self.workers.first.move(self.enemy_start_locations[0])
        scout = self.units.find_by_tag(self.scout)
        if scout is not None:
            seen["went"] = scout.position.distance_to(self.began)
        seen["met"] = seen.get("met", False) or bool(self.enemy_structures)
        if seen["met"] or self.time > 90:
            await self.client.leave()

run_game(maps.get("Simple64"), [Bot(Race.Terran, Scout()), Computer(Race.Zerg, Difficulty.VeryEasy)], realtime=False)
print("SEEN", json.dumps(seen))
"""

SMAC = """
import json
import numpy as np
from smac.env import StarCraft2Env

seen = {}
for name in ("3m", "2s3z", "MMM"):
    env = StarCraft2Env(map_name=name, seed=1)
    sizes = env.get_env_info()
    env.reset()
    ended, total, steps = False, 0.0, 0
    while not ended:
        actions = []
        for agent in range(sizes["n_agents"]):
            legal = np.flatnonzero(env.get_avail_agent_actions(agent))
            east = 4
            actions.append(int(legal[-1] if legal[-1] >= 6 else (east if east in legal else legal[0])))
        reward, ended, info = env.step(actions)
        total, steps = total + reward, steps + 1
    seen[name] = {
        "sizes": [sizes["obs_shape"], sizes["state_shape"], sizes["n_actions"], sizes["episode_limit"]],
        "reward": float(total),
        "steps": steps,
        "observation": list(np.shape(env.get_obs())),
    }
    env.close()
print("SEEN", json.dumps(seen))
"""


def run_client(needs, script, folder, arguments=()):
    """What a client's script saw; skips where its Python has no such client."""
    if subprocess.run([PYTHON, "-c", f"import {needs}"], capture_output=True).returncode:
        pytest.skip(f"{PYTHON} cannot import {needs}")
    environment = {**os.environ, "SC2PATH": str(install(folder))}
    done = subprocess.run(
        [PYTHON, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("SEEN ")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(lines[0][5:])


@pytest.mark.slow
def test_python_sc2_plays_a_melee_map(tmp_path):
    """Binary frames, game data, queries and leaving, as python-sc2 uses them: a worker scouts the enemy's base."""
    seen = run_client("sc2.main", PYTHON_SC2, tmp_path / "sc2")
    assert seen["start"] == [12, 1, 0] and seen["minerals"] >= 8
    assert seen["went"] > 20 and seen["met"]


@pytest.mark.slow
def test_smac_plays_its_maps(tmp_path):
    """Sizes as SMAC publishes them, and battles that are fought to an end."""
    seen = run_client("smac.env", SMAC, tmp_path / "sc2")
    assert {name: told["sizes"] for name, told in seen.items()} == {
        "3m": [30, 48, 9, 60],
        "2s3z": [80, 120, 11, 120],
        "MMM": [160, 290, 16, 150],
    }
    for told in seen.values():
        assert told["reward"] > 2.0 and told["steps"] < 60
