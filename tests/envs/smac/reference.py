"""SMAC's arrays anew, from the protocol's messages in plain Python: what `envs.smac` is held against.

It plays on the protocol server in this process, as SMAC's own code would: one raw observation a step.
"""

from __future__ import annotations

import math

import numpy as np
from s2clientprotocol import debug_pb2, raw_pb2, sc2api_pb2

from envs.protocol.handler import Session
from envs.smac.environment import ABILITIES
from envs.smac.maps import MapParameters

COOLDOWNS = {"Marine": 15, "Marauder": 25, "Medivac": 200, "Stalker": 35, "Zealot": 22, "Colossus": 24}
SHIELDS = {"Stalker": 80, "Zealot": 50, "Colossus": 150}
WAYS = {2: (0, 2), 3: (0, -2), 4: (2, 0), 5: (-2, 0)}


class Client:
    """A player of one of SMAC's maps, with SMAC's default options."""

    def __init__(self, parameters: MapParameters, seed: int) -> None:
        self.map, self.session = parameters, Session()
        create = sc2api_pb2.RequestCreateGame(random_seed=seed)
        create.local_map.map_path = parameters.scenario.name
        create.player_setup.add(type=sc2api_pb2.Participant)
        create.player_setup.add(type=sc2api_pb2.Computer, race=1, difficulty=7)
        self.ask(create_game=create)
        options = sc2api_pb2.InterfaceOptions(raw=True)
        self.ask(join_game=sc2api_pb2.RequestJoinGame(race=1, options=options))
        start = self.ask(game_info=sc2api_pb2.RequestGameInfo()).game_info.start_raw
        self.size = start.map_size.x, start.map_size.y
        bits = np.unpackbits(np.frombuffer(start.pathing_grid.data, np.uint8))
        self.free = bits.reshape(self.size[1], self.size[0])
        self.area = start.playable_area
        self.steps = 0
        self.begin()

    def ask(self, **request):
        data = sc2api_pb2.Request(id=1, **request).SerializeToString()
        response = sc2api_pb2.Response.FromString(self.session.handle(data))
        assert not response.error, response.error
        return response

    def units(self):
        observation = self.ask(observation=sc2api_pb2.RequestObservation()).observation.observation
        return list(observation.raw_data.units)

    def begin(self):
        units = self.units()
        own = sorted((u for u in units if u.owner == 1), key=lambda u: (u.unit_type, u.pos.x, u.pos.y))
        self.agents, self.enemies = own, [u for u in units if u.owner == 2]
        lowest = min(u.unit_type for u in own)
        names = sorted({u.unit_type for u in self.map.scenario.teams[0].units})
        self.own_names = [names[u.unit_type - lowest] for u in own]
        by_type = {48: "Marine", 51: "Marauder", 54: "Medivac", 73: "Zealot", 74: "Stalker", 4: "Colossus"}
        self.enemy_names = [by_type[u.unit_type] for u in self.enemies]
        self.names = names
        self.last = np.zeros((len(own), 6 + len(self.enemies)))
        self.full = 10 * len(self.enemies) + 200 + sum(u.health_max + u.shield_max for u in self.enemies)

    def restart(self):
        tags = [u.tag for u in self.agents + self.enemies if u.health > 0]
        kill = debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=tags))
        self.ask(debug=sc2api_pb2.RequestDebug(debug=[kill]))
        self.ask(step=sc2api_pb2.RequestStep(count=2))
        full = self.full
        self.begin()
        self.full, self.steps = full, 0

    def available(self, a):
        unit, heals = self.agents[a], self.own_names[a] == "Medivac"
        legal = [0] * (6 + len(self.enemies))
        if unit.health == 0:
            return [1, *legal[1:]]
        legal[1] = 1
        for action, (dx, dy) in WAYS.items():
            x, y = int(unit.pos.x + dx / 2), int(unit.pos.y + dy / 2)
            legal[action] = int(0 <= x < self.size[0] and 0 <= y < self.size[1] and bool(self.free[y, x]))
        others = self.agents if heals else self.enemies
        for n, other in enumerate(others):
            if other.health > 0 and not (heals and self.own_names[n] == "Medivac"):
                apart = math.dist((unit.pos.x, unit.pos.y), (other.pos.x, other.pos.y))
                legal[6 + n] = int(apart <= 6)
        return legal

    def body(self, unit, name, enemy):
        race = self.map.b_race if enemy else self.map.a_race
        numbers = [unit.health / unit.health_max]
        if race == "P":
            numbers.append(unit.shield / SHIELDS[name])
        return numbers + self.bit(name, enemy)

    def bit(self, name, enemy):
        if len(self.names) < 2:
            return []
        order = ["Zealot", "Stalker"] if enemy and self.names == ["Stalker", "Zealot"] else self.names
        return [float(name == other) for other in order]

    def observation(self, a):
        unit, legal, numbers = self.agents[a], self.available(a), []
        own = self.body(unit, self.own_names[a], False)
        numbers += legal[2:6] if unit.health else [0] * 4
        groups = ((self.enemies, self.enemy_names, True), (self.agents, self.own_names, False))
        for others, names, enemy in groups:
            for n, (other, name) in enumerate(zip(others, names, strict=True)):
                if not enemy and n == a:
                    continue
                dx, dy = other.pos.x - unit.pos.x, other.pos.y - unit.pos.y
                body = self.body(other, name, enemy)
                if unit.health and other.health and math.hypot(dx, dy) < 9:
                    first = legal[6 + n] if enemy else 1
                    numbers += [first, math.hypot(dx, dy) / 9, dx / 9, dy / 9, *body]
                else:
                    numbers += [0] * (4 + len(body))
        return np.array(numbers + (own if unit.health else [0] * len(own)), np.float32)

    def state(self):
        numbers = []
        width, height = self.area.p1.x - self.area.p0.x, self.area.p1.y - self.area.p0.y
        for units, names, enemy in ((self.agents, self.own_names, False), (self.enemies, self.enemy_names, True)):
            for unit, name in zip(units, names, strict=True):
                health, *rest = self.body(unit, name, enemy)
                place = [(unit.pos.x - self.size[0] / 2) / width, (unit.pos.y - self.size[1] / 2) / height]
                use = [] if enemy else [(unit.energy if name == "Medivac" else unit.weapon_cooldown) / COOLDOWNS[name]]
                entry = [health, *use, *place, *rest]
                numbers += entry if unit.health else [0] * len(entry)
        return np.array([*numbers, *self.last.reshape(-1)], np.float32)

    def step(self, actions):
        orders = []
        for a, action in enumerate(actions):
            if action == 0:
                continue
            unit, heals = self.agents[a], self.own_names[a] == "Medivac"
            command = raw_pb2.ActionRawUnitCommand(unit_tags=[unit.tag], ability_id=ABILITIES["stop"])
            if action in WAYS:
                command.ability_id = ABILITIES["move"]
                command.target_world_space_pos.x = unit.pos.x + WAYS[action][0]
                command.target_world_space_pos.y = unit.pos.y + WAYS[action][1]
            elif action > 5:
                command.ability_id = ABILITIES["heal" if heals else "attack"]
                command.target_unit_tag = (self.agents if heals else self.enemies)[action - 6].tag
            orders.append(sc2api_pb2.Action(action_raw=raw_pb2.ActionRaw(unit_command=command)))
        self.ask(action=sc2api_pb2.RequestAction(actions=orders))
        self.ask(step=sc2api_pb2.RequestStep(count=8))
        now = {u.tag: u for u in self.units()}
        self.steps += 1
        self.last = np.eye(self.last.shape[1])[list(actions)]
        reward = 0.0
        for n, unit in enumerate(self.agents):
            self.agents[n] = now.get(unit.tag) or dead(unit)
        for n, unit in enumerate(self.enemies):
            after = now.get(unit.tag) or dead(unit)
            if unit.health > 0:
                rest = after.health + after.shield if after.health else 0.0
                reward += unit.health + unit.shield - rest + (0 if after.health else 10)
            self.enemies[n] = after
        reward = abs(reward)
        alive = [u.health > 0 and n != "Medivac" for u, n in zip(self.agents, self.own_names, strict=True)]
        foes = [n for u, n in zip(self.enemies, self.enemy_names, strict=True) if u.health > 0]
        won = any(u.health for u in self.agents) and foes in ([], ["Medivac"]) and any(alive)
        over = won or not any(alive)
        return (reward + 200 * won) / (self.full / 20), over or self.steps >= self.map.limit, won


def dead(unit):
    copy = raw_pb2.Unit()
    copy.CopyFrom(unit)
    copy.health = 0
    return copy
