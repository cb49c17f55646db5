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
from tests.patience import PATIENCE

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

PYTHON_SC2_SMAC = """
import json
from sc2 import maps
from sc2.bot_ai import BotAI
from sc2.data import Difficulty, Race, Result
from sc2.main import run_game
from sc2.player import Bot, Computer

seen = {}

class Focus(BotAI):
    async def on_step(self, iteration):
        if iteration == 0:
            seen["names"] = sorted({unit.name for unit in self.units})
            seen["health"] = [unit.health_max for unit in self.units]
        if self.enemy_units and iteration % 4 == 0:
            target = min(self.enemy_units, key=lambda unit: (unit.health, unit.tag))
            for unit in self.units:
                unit.attack(target)
        seen["left"] = [self.units.amount, self.enemy_units.amount]
        if not self.units or not self.enemy_units or iteration > 300:
            await self.client.leave()

run_game(maps.get("3m"), [Bot(Race.Terran, Focus()), Computer(Race.Terran, Difficulty.VeryHard)], realtime=False)
print("SEEN", json.dumps(seen))
"""

PYTHON_SC2_TWO = """
import asyncio, json
from sc2 import maps
from sc2.bot_ai import BotAI
from sc2.data import Race
from sc2.main import run_game
from sc2.player import Bot

seen = {"loops": {}}

class Builder(BotAI):
    async def on_start(self):
        self.client.game_step = 8

    async def on_step(self, iteration):
        seen["loops"][str(self.player_id)] = self.state.game_loop
        if self.can_afford(self.train) and self.townhalls.idle:
            self.townhalls.first.train(self.train)
        seen[f"workers of {self.player_id}"] = self.workers.amount
        if iteration == 0:
            # Each sends a worker to the other's base.
            self.workers.random.move(self.enemy_start_locations[0])
        seen[f"met by {self.player_id}"] = seen.get(f"met by {self.player_id}", 0) + self.enemy_units.amount
        if self.time > 60 and self.player_id == 1:
            await self.client.leave()

    async def on_end(self, result):
        await asyncio.sleep(2)  # who is done first kills both processes; the other must have read its result

class Terran(Builder):
    from sc2.ids.unit_typeid import UnitTypeId
    train = UnitTypeId.SCV

class Protoss(Builder):
    from sc2.ids.unit_typeid import UnitTypeId
    train = UnitTypeId.PROBE

result = run_game(maps.get("Simple64"), [Bot(Race.Terran, Terran()), Bot(Race.Protoss, Protoss())], realtime=False)
seen["results"] = [one.name for one in result]
print("SEEN", json.dumps(seen))
"""

PYTHON_SC2_REALTIME = """
import json, time
from sc2 import maps
from sc2.bot_ai import BotAI
from sc2.data import Difficulty, Race
from sc2.main import run_game
from sc2.player import Bot, Computer

seen = {"loops": [], "times": []}

class Watcher(BotAI):
    async def on_step(self, iteration):
        seen["loops"].append(self.state.game_loop)
        seen["times"].append(time.monotonic())
        if self.state.game_loop > 224:
            await self.client.leave()

run_game(maps.get("Simple64"), [Bot(Race.Terran, Watcher()), Computer(Race.Zerg, Difficulty.Easy)], realtime=True)
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
        [PYTHON, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
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
def test_python_sc2_plays_smacs_maps(tmp_path):
    """SMAC's units have types of their own, which the client looks up in the game's data."""
    seen = run_client("sc2.main", PYTHON_SC2_SMAC, tmp_path / "sc2")
    assert seen["names"] == ["Marine"] and seen["health"] == [45, 45, 45]
    assert 0 in seen["left"] and sum(seen["left"]) > 0


@pytest.mark.slow
def test_two_bots_of_python_sc2_play_each_other(tmp_path):
    """Two launched processes, one game: joining and stepping are barriers, and who leaves loses."""
    seen = run_client("sc2.main", PYTHON_SC2_TWO, tmp_path / "sc2")
    assert min(seen["loops"].values()) > 60 * 16 and abs(seen["loops"]["1"] - seen["loops"]["2"]) <= 8
    assert seen["workers of 1"] > 12 and seen["workers of 2"] > 12
    assert seen["met by 1"] > 0 and seen["met by 2"] > 0
    assert seen["results"] == ["Defeat", "Victory"]


@pytest.mark.slow
def test_python_sc2_plays_in_realtime(tmp_path):
    """The game goes on by itself, 22.4 loops a second."""
    seen = run_client("sc2.main", PYTHON_SC2_REALTIME, tmp_path / "sc2")
    loops, seconds = seen["loops"], seen["times"][-1] - seen["times"][0]
    assert loops == sorted(loops) and len(set(loops)) > 20
    assert (loops[-1] - loops[0]) / seconds == pytest.approx(22.4, rel=0.15)


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
