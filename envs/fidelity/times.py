"""How long buildings, units and changes of mode take: played, loop by loop, through the protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from s2clientprotocol import common_pb2

from envs.economy.tech import economy_data
from envs.fidelity.figures import build_times, train_intervals
from envs.fidelity.games import GAME_STATES, cheat, create, free_place, joined, order, own, units
from envs.fidelity.verdicts import Figure, Row, exactly
from envs.protocol.recorded import recorded_units
from envs.scenarios.units import unit_data

MAP = "Flat128"
RACES = {"terran": common_pb2.Terran, "zerg": common_pb2.Zerg, "protoss": common_pb2.Protoss}
HALLS = {"terran": "CommandCenter", "zerg": "Hatchery", "protoss": "Nexus"}
WORKERS = {"terran": "SCV", "zerg": "Drone", "protoss": "Probe"}
PATIENCE = 400  # loops that a worker may take to its site
BIRTHS = 4


def _type(name: str) -> int:
    return int(unit_data()[name]["unit_type"])


def time_rows() -> Iterator[Row]:
    """Rows of buildings, of units that a building trains without pause, and of changes of mode."""
    for name, real in build_times().items():
        if name in economy_data()["building"]:
            band, rule = exactly(real)
            yield Row("times", f"{name} is built", "loops", Figure(real), Figure(build_time(name)), band, rule)
    for name, real in train_intervals().items():
        if name in economy_data()["trained"]:
            band, rule = exactly(real)
            yield Row("times", f"{name}: next birth", "loops", Figure(real), Figure(train_interval(name)), band, rule)
    for name, unit in unit_data().items():
        other = unit["changes_to"]
        if other is None:
            continue
        recorded = recorded_units()[_type(other)]
        if recorded["ability_id"] == unit["abilities"]["change"]:
            real = recorded["build_time_loops"]
            band, rule = (math.floor(real), math.ceil(real)), "within a loop of the mean"
            yield Row("times", f"{name} to {other}", "loops", Figure(real), Figure(change_time(name)), band, rule)


def build_time(name: str) -> int:
    """Loops from the beginning of a building to its end."""
    building = economy_data()["building"][name]
    race = unit_data()[name]["race"]
    with joined(MAP, race=RACES[race]) as controller:
        cheat(controller, GAME_STATES.free, GAME_STATES.tech_tree, GAME_STATES.food)
        hall = own(controller, _type(HALLS[race]))[0]
        inwards = hall.pos.x + (12 if hall.pos.x < 64 else -12), hall.pos.y + (12 if hall.pos.y < 64 else -12)
        worker = create(controller, _type(building["by"]), *inwards)
        if building.get("power"):
            create(controller, _type("Pylon"), *free_place(controller, 881, *inwards))
        if building.get("gas"):
            geysers = [unit for unit in units(controller) if unit.unit_type == _type("VespeneGeyser")]
            nearest = min(geysers, key=lambda unit: math.dist((unit.pos.x, unit.pos.y), (hall.pos.x, hall.pos.y)))
            order(controller, [worker], building["ability"], target=nearest.tag)
        else:
            spot = free_place(controller, building["ability"], *inwards)
            order(controller, [worker], building["ability"], place=spot)
        before = {unit.tag for unit in own(controller, _type(name))}
        started = 0
        for _ in range(PATIENCE + 2 * round(building["time"] * 16)):
            controller.step(1)
            observation = controller.observe().observation
            for unit in observation.raw_data.units:
                if unit.unit_type == _type(name) and unit.tag not in before and unit.owner == 1:
                    if unit.build_progress >= 1:
                        return int(observation.game_loop) - started
                    started = started or int(observation.game_loop)
    raise RuntimeError(f"{name} was not finished")


def train_interval(name: str) -> int:
    """Loops between two births of a unit in a building that has more of them in its queue."""
    trained = economy_data()["trained"][name]
    race = unit_data()[name]["race"]
    with joined(MAP, race=RACES[race]) as controller:
        cheat(controller, GAME_STATES.free, GAME_STATES.tech_tree, GAME_STATES.food)
        maker = _maker(controller, trained["at"], race)
        for _ in range(BIRTHS):
            order(controller, [maker], trained["ability"])
        seen = {unit.tag for unit in own(controller, _type(name))}
        births: list[int] = []
        for _ in range(2 * BIRTHS * round(trained["time"] * 16)):
            controller.step(1)
            observation = controller.observe().observation
            for unit in observation.raw_data.units:
                if unit.unit_type == _type(name) and unit.owner == 1 and unit.tag not in seen:
                    seen.add(unit.tag)
                    births.append(int(observation.game_loop))
            if len(births) >= BIRTHS:
                return births[-1] - births[-2]
    raise RuntimeError(f"{name} was not trained {BIRTHS} times")


def _maker(controller: Any, name: str, race: str) -> int:
    halls = own(controller, _type(HALLS[race]))
    if name == HALLS[race]:
        return int(halls[0].tag)
    x = halls[0].pos.x + (10 if halls[0].pos.x < 64 else -10)
    if race == "protoss":
        create(controller, _type("Pylon"), x, halls[0].pos.y)
    return create(controller, _type(name), x + 4, halls[0].pos.y)


def change_time(name: str) -> int:
    """Loops from the one in which the unit takes the order to the first observation of the other type."""
    unit = unit_data()[name]
    with joined(MAP) as controller:
        tag = create(controller, _type(name), 64, 64)
        order(controller, [tag], unit["abilities"]["change"])
        began = int(controller.observe().observation.game_loop) + 1
        for _ in range(400):
            controller.step(1)
            observation = controller.observe().observation
            seen = next(other for other in observation.raw_data.units if other.tag == tag)
            if seen.unit_type == _type(unit["changes_to"]):
                return int(observation.game_loop) - began
    raise RuntimeError(f"{name} did not change to {unit['changes_to']}")
