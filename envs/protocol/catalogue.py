"""`ResponseData`: the game's own catalogue of units, abilities, upgrades and effects, and the buffs of the simulator.

Units that the simulator cannot play are listed too, as clients look up what a unit costs or needs before they meet it.
To create one is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from s2clientprotocol import data_pb2, sc2api_pb2

from envs.engine.state import layout as st
from envs.protocol.recorded import (
    OPTIONAL_UNIT_FIELDS,
    recorded_abilities,
    recorded_effects,
    recorded_units,
    recorded_upgrades,
)
from envs.protocol.spells import BEAM_BUFF, SHIELD_BUFF
from envs.protocol.world import World
from envs.scenarios.units import PLANES, unit_data

RACE_IDS = {"terran": 1, "zerg": 2, "protoss": 3}
BUFFS = {
    BEAM_BUFF: "GravitonBeam",
    SHIELD_BUFF: "GuardianShield",
    24: "StimpackMarauder",
    27: "Stimpack",
    271: "CarryMineralFieldMinerals",
    273: "CarryHarvestableVespeneGeyserGas",
    274: "CarryHarvestableVespeneGeyserGasProtoss",
    275: "CarryHarvestableVespeneGeyserGasZerg",
}


@cache
def game_data() -> sc2api_pb2.ResponseData:
    """Everything; the handler picks the parts that are asked for.

    Everything lies at the index of its id, as in the game. Ids that the catalogue lacks are unavailable.
    """
    response = sc2api_pb2.ResponseData()
    abilities = recorded_abilities()
    for number in range(max(abilities) + 1):
        ability = response.abilities.add(ability_id=number, available=False)
        for field, value in abilities[number]._asdict().items() if number in abilities else ():
            setattr(ability, field, value)
    units = recorded_units()
    for name, entry in unit_data().items():
        # Units of the simulator's own, such as a mini-game's shards.
        units = {entry["unit_type"]: _told_unit(name, entry), **units}
    for number in range(max(units) + 1):
        _fill_unit(response.units.add(unit_id=number, available=number in units), units.get(number))
    upgrades = recorded_upgrades()
    for number in range(max(upgrades) + 1):
        upgrade = response.upgrades.add(upgrade_id=number)
        if number in upgrades:
            told = upgrades[number]
            upgrade.name, upgrade.ability_id, upgrade.research_time = (
                told.name,
                told.ability_id,
                told.research_time_loops,
            )
            upgrade.mineral_cost, upgrade.vespene_cost = told.minerals, told.vespene
    for buff in range(max(BUFFS) + 1):
        response.buffs.add(buff_id=buff, name=BUFFS.get(buff, ""))
    for number, effect in sorted(recorded_effects().items()):
        response.effects.add(effect_id=number, name=effect.name, radius=effect.radius)
    return response


def map_units(world: World) -> list[data_pb2.UnitTypeData]:
    """What follows the units of `game_data` on a map that brings unit types along: SMAC's agents have ids of their own.

    They too lie at the index of their id, with what the map changes of them.
    """
    kinds = {
        int(world.kinds.types[0, kind]): int(kind)
        for kind in np.flatnonzero(world.kinds.types[0] != world.kinds.types[1])
    }
    units = []
    for unit_type in range(len(game_data().units), max(kinds, default=-1) + 1):
        unit = data_pb2.UnitTypeData(unit_id=unit_type, available=unit_type in kinds)
        if unit_type in kinds:
            entry = world.rules.entries[kinds[unit_type]]
            _fill_unit(unit, _told_unit(entry["label"], entry))
        units.append(unit)
    return units


def _told_unit(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a kind of the simulator has of the fields of `recorded_units`."""
    return {
        **OPTIONAL_UNIT_FIELDS,
        "name": name,
        "race": entry["race"],
        "minerals": entry["cost"].get("minerals", 0),
        "vespene": entry["cost"].get("vespene", 0),
        "food_required": max(entry["cost"].get("supply", 0), 0),
        "food_provided": max(-entry["cost"].get("supply", 0), 0),
        "build_time_loops": 0,
        "ability_id": 0,
        "sight": entry["sight"],
        "speed": entry["speed"],
        "armor": entry["armor"],
        "attributes": entry["attributes"],
        # As in the game, what a unit does by dying is no weapon.
        "weapons": [weapon for weapon in entry["weapons"] if not weapon["suicide"]],
        "has_minerals": name == "MineralShard",
    }


def _fill_unit(unit: data_pb2.UnitTypeData, told: Mapping[str, Any] | None) -> None:
    if told is None:
        return
    unit.name, unit.race = told["name"], RACE_IDS.get(told["race"], 0)  # type: ignore[assignment]
    unit.mineral_cost, unit.vespene_cost = told["minerals"], told["vespene"]
    unit.food_required, unit.food_provided = told["food_required"], told["food_provided"]
    unit.build_time, unit.ability_id = told["build_time_loops"], told["ability_id"]
    unit.sight_range, unit.movement_speed, unit.armor = told["sight"], told["speed"], told["armor"]
    unit.cargo_size, unit.tech_requirement = told["cargo_size"], told["tech_requirement"]
    unit.unit_alias, unit.require_attached = told["unit_alias"], told["require_attached"]
    unit.tech_alias.extend(told["tech_alias"])
    unit.has_minerals, unit.has_vespene = told["has_minerals"], told["has_vespene"]
    unit.attributes.extend(_attributes(told["attributes"]))  # type: ignore[arg-type]
    for weapon in told["weapons"]:
        added = unit.weapons.add(
            type=PLANES[weapon["targets"]],
            damage=weapon["damage"],
            attacks=weapon["attacks"],
            range=weapon["range"],
            speed=weapon["cooldown"],
        )
        for attribute, bonus in zip(_attributes(weapon["bonus"]), weapon["bonus"].values(), strict=True):
            added.damage_bonus.add(attribute=attribute, bonus=bonus)  # type: ignore[arg-type]


def _attributes(names: Iterable[str]) -> list[int]:
    return [st.ATTRIBUTES.index(name) + 1 for name in names]
