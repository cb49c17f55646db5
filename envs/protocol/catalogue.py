"""`ResponseData`: the units, abilities and buffs that the simulator has, under the game's own ids."""

from __future__ import annotations

from functools import cache

import numpy as np
from s2clientprotocol import data_pb2, sc2api_pb2

from envs.economy.tables import X_ABILITY, X_PROVIDES, X_REQUIRES, X_TIME, Tech
from envs.economy.tech import make_tech
from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.protocol.abilities import ability_table
from envs.protocol.spells import BEAM_BUFF, SHIELD_BUFF, SHIELD_EFFECT, SHIELD_RADIUS
from envs.protocol.world import World, all_rules
from envs.scenarios.units import PLANES, Rules

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

    Units and abilities lie at the index of their id, as in the game. Ids that the simulator lacks are unavailable.
    """
    rules = all_rules(None, MapSpec())
    response = sc2api_pb2.ResponseData()
    tech = make_tech(rules)
    table = ability_table()
    for ability in range(max(table) + 1):
        # As in the game, an ability that exists is available; the observation says which of them a unit has.
        entry = response.abilities.add(ability_id=ability, available=ability in table or ability == 0)
        if ability in table:
            name, target, general = table[ability]
            entry.link_name = entry.button_name = entry.friendly_name = name
            entry.target = target  # type: ignore[assignment]
            entry.allow_minimap = target in (2, 4, 5)
            if general:
                entry.remaps_to_ability_id = general
    kinds = {int(rules.static.kind_i[kind, st.KI_UNIT_TYPE]): kind for kind in reversed(range(len(rules.entries)))}
    for unit_type in range(max(kinds) + 1):
        unit = response.units.add(unit_id=unit_type, available=unit_type in kinds)
        if unit_type in kinds:
            _fill_unit(unit, rules, tech, kinds[unit_type])
    for buff in range(max(BUFFS) + 1):
        response.buffs.add(buff_id=buff, name=BUFFS.get(buff, ""))
    response.effects.add(effect_id=0, name="Null")
    response.effects.add(effect_id=1)
    response.effects.add(effect_id=SHIELD_EFFECT, name="GuardianShieldPersistent", radius=SHIELD_RADIUS)
    return response


def map_units(world: World) -> list[data_pb2.UnitTypeData]:
    """What follows the units of `game_data` on a map that brings unit types along: SMAC's agents have ids of their own.

    They too lie at the index of their id.
    """
    kinds = {
        int(world.kinds.types[0, kind]): int(kind)
        for kind in np.flatnonzero(world.kinds.types[0] != world.kinds.types[1])
    }
    units = []
    for unit_type in range(len(game_data().units), max(kinds, default=-1) + 1):
        unit = data_pb2.UnitTypeData(unit_id=unit_type, available=unit_type in kinds)
        if unit_type in kinds:
            _fill_unit(unit, world.rules, world.tech, kinds[unit_type])
        units.append(unit)
    return units


def _fill_unit(unit: data_pb2.UnitTypeData, rules: Rules, tech: Tech, kind: int) -> None:
    entry, row = rules.entries[kind], tech.i[kind]
    unit.ability_id = int(row[X_ABILITY])
    unit.build_time = float(row[X_TIME])
    unit.food_provided = float(row[X_PROVIDES])
    if row[X_REQUIRES] >= 0:
        unit.tech_requirement = int(rules.static.kind_i[row[X_REQUIRES], st.KI_UNIT_TYPE])
    unit.name = entry["label"]
    unit.race = RACE_IDS.get(entry["race"], 0)  # type: ignore[assignment]
    unit.mineral_cost = int(entry["cost"].get("minerals", 0))
    unit.vespene_cost = int(entry["cost"].get("vespene", 0))
    unit.food_required = max(entry["cost"].get("supply", 0), 0)
    unit.sight_range = entry["sight"]
    unit.movement_speed = entry["speed"]
    unit.armor = entry["armor"]
    attributes = [st.ATTRIBUTES.index(attribute) + 1 for attribute in entry["attributes"]]
    unit.attributes.extend(attributes)  # type: ignore[arg-type]
    unit.has_minerals = entry["label"] in ("MineralField", "MineralShard")
    unit.has_vespene = entry["label"] == "VespeneGeyser"
    for weapon in entry["weapons"]:
        added = unit.weapons.add(
            type=PLANES[weapon["targets"]],
            damage=weapon["damage"],
            attacks=weapon["attacks"],
            range=weapon["range"],
            speed=weapon["cooldown"],
        )
        for attribute, bonus in weapon["bonus"].items():
            added.damage_bonus.add(attribute=st.ATTRIBUTES.index(attribute) + 1, bonus=bonus)  # type: ignore[arg-type]
