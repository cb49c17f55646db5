"""`ResponseData`: the units, abilities and buffs that the simulator has, under the game's own ids."""

from __future__ import annotations

from functools import cache

from s2clientprotocol import data_pb2, sc2api_pb2

from envs.engine import state as st
from envs.engine.state import MapSpec
from envs.protocol.abilities import BURROW_DOWN, BURROW_UP, GENERAL, VERBS
from envs.protocol.world import all_rules
from envs.units import PLANES

RACE_IDS = {"terran": 1, "zerg": 2, "protoss": 3}
# (name, target): AbilityData.Target 1 none, 2 point, 3 unit, 4 point or unit
ABILITY_NAMES: dict[int, tuple[str, int]] = {
    1: ("Smart", 4),
    4: ("Stop", 1),
    3665: ("Stop", 1),
    18: ("HoldPosition", 1),
    3793: ("HoldPosition", 1),
    16: ("Move", 4),
    3794: ("Move", 4),
    23: ("Attack", 4),
    3674: ("Attack", 4),
    19: ("ScanMove", 4),
    17: ("Patrol", 4),
    3795: ("Patrol", 4),
    386: ("Heal", 3),
    380: ("Stim", 1),
    253: ("Stim", 1),
    3675: ("Stim", 1),
    1442: ("Blink", 2),
    3687: ("Blink", 2),
    BURROW_DOWN: ("BurrowDown", 1),
    BURROW_UP: ("BurrowUp", 1),
}
BUFFS = {24: "StimpackMarauder", 27: "Stimpack"}


@cache
def game_data() -> sc2api_pb2.ResponseData:
    """Everything; the handler picks the parts that are asked for.

    Units and abilities lie at the index of their id, as in the game; those that the simulator lacks are unavailable.
    """
    rules = all_rules(None, MapSpec())
    response = sc2api_pb2.ResponseData()
    changes = {int(ability) for ability in rules.ability[:, st.ORDER_SIEGE] if ability}
    known = {**ABILITY_NAMES, **{ability: ("Morph", 1) for ability in changes}}
    for ability in range(max(known) + 1):
        entry = response.abilities.add(ability_id=ability, available=ability in known)
        if ability in known:
            name, target = known[ability]
            entry.link_name = entry.button_name = entry.friendly_name = name
            entry.target = target  # type: ignore[assignment]
            entry.allow_minimap = target in (2, 4)
            general = GENERAL.get(ability)
            if general:
                entry.remaps_to_ability_id = general
    assert set(VERBS) <= set(known)
    kinds = {int(rules.static.kind_i[kind, st.KI_UNIT_TYPE]): kind for kind in reversed(range(len(rules.entries)))}
    for unit_type in range(max(kinds) + 1):
        unit = response.units.add(unit_id=unit_type, available=unit_type in kinds)
        if unit_type in kinds:
            _fill_unit(unit, rules.entries[kinds[unit_type]])
    for buff in range(max(BUFFS) + 1):
        response.buffs.add(buff_id=buff, name=BUFFS.get(buff, ""))
    return response


def _fill_unit(unit: data_pb2.UnitTypeData, entry: dict) -> None:
    unit.name = entry["label"]
    unit.race = RACE_IDS.get(entry["race"], 0)  # type: ignore[assignment]
    unit.mineral_cost = int(entry["cost"].get("minerals", 0))
    unit.vespene_cost = int(entry["cost"].get("vespene", 0))
    unit.food_required = entry["cost"].get("supply", 0)
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
