"""The simulator's data files against the game's own catalogue: every unit, weapon and field that both have."""

from __future__ import annotations

import csv
import json
import tomllib
from importlib import resources

import pytest
from s2clientprotocol import debug_pb2

from envs.economy.tech import economy_data
from envs.protocol.catalogue import game_data
from envs.protocol.game import apply_debug
from envs.protocol.maps import find_map
from envs.protocol.recorded import recorded_abilities, recorded_effects, recorded_units, recorded_upgrades
from envs.protocol.spells import SHIELD_EFFECT, SHIELD_RADIUS
from envs.protocol.world import Player, World
from envs.scenarios.units import unit_data

# Kinds of the simulator's own: the mini-games' shards are no unit of the game's catalogue.
OWN_UNITS = {"MineralShard"}
# The catalogue lists no weapon for what explodes.
EXPLODES = {"Baneling"}
NEUTRAL_NAMES = {"Beacon": "Beacon_Terran"}
# Values of the catalogue are float32; it prints five decimals.
EXACT = {"abs": 2e-3, "rel": 2e-3}


def paired_units():
    """(name, ours, the game's) of every unit of the data file that the catalogue knows."""
    recorded = recorded_units()
    return [(name, unit, recorded[unit["unit_type"]]) for name, unit in unit_data().items() if name not in OWN_UNITS]


UNITS = paired_units()
NAMES = [name for name, _, _ in UNITS]


def test_every_unit_is_in_the_catalogue():
    assert len(UNITS) == len(unit_data()) - len(OWN_UNITS)
    assert all(unit["unit_type"] not in recorded_units() for name, unit in unit_data().items() if name in OWN_UNITS)


@pytest.mark.parametrize(("name", "ours", "real"), UNITS, ids=NAMES)
def test_units_are_the_games(name, ours, real):
    assert real["name"] == NEUTRAL_NAMES.get(name, name)
    assert {"neutral": "none"}.get(ours["race"], ours["race"]) == real["race"]
    assert sorted(ours["attributes"]) == sorted(real["attributes"])
    for key in ("sight", "speed", "armor"):
        assert ours[key] == pytest.approx(real[key], **EXACT), key
    cost = ours["cost"]
    assert (cost.get("minerals", 0), cost.get("vespene", 0)) == (real["minerals"], real["vespene"])
    building = economy_data()["building"].get(name, {})
    provided = building.get("supply", 0) + max(-cost.get("supply", 0), 0)
    assert (max(cost.get("supply", 0), 0), provided) == (real["food_required"], real["food_provided"])


@pytest.mark.parametrize(("name", "ours", "real"), UNITS, ids=NAMES)
def test_weapons_are_the_games(name, ours, real):
    if name in EXPLODES:
        assert not real["weapons"] and all(weapon["suicide"] for weapon in ours["weapons"])
        return
    assert len(ours["weapons"]) == len(real["weapons"])
    for mine, theirs in zip(ours["weapons"], real["weapons"], strict=True):
        assert {key: mine[key] for key in ("targets", "attacks", "bonus")} == {
            key: theirs[key] for key in ("targets", "attacks", "bonus")
        }
        for key in ("damage", "range", "cooldown"):
            assert mine[key] == pytest.approx(theirs[key], **EXACT), key


@pytest.mark.parametrize("table", ["trained", "building"])
def test_making_is_the_games(table):
    by_name = {name: real for name, _, real in UNITS}
    for name, entry in economy_data()[table].items():
        real = by_name[name]
        assert (entry["ability"], entry["time"] * 16) == (real["ability_id"], real["build_time_loops"]), name
        if "requires" in entry:
            required = unit_data()[entry["requires"]]["unit_type"]
            aliases = {required, *recorded_units()[required]["tech_alias"]}
            assert real["tech_requirement"] in aliases, name


def test_morphs_take_as_long_as_in_the_game():
    """The catalogue's time of a morph is the mean over its delay by lot; the way back has none there."""
    by_name = {name: real for name, _, real in UNITS}
    morphs = [(name, unit) for name, unit, _ in UNITS if unit["changes_to"]]
    there = [(n, u) for n, u in morphs if by_name[u["changes_to"]]["ability_id"] == u["abilities"]["change"]]
    assert len(there) == len(morphs) / 2 == 5
    for name, unit in there:
        assert unit["change_time"] * 16 == pytest.approx(by_name[unit["changes_to"]]["build_time_loops"], abs=0.02), (
            name
        )


def test_clients_are_told_the_games_catalogue():
    data = game_data()
    for number, real in recorded_units().items():
        told = data.units[number]
        assert (told.unit_id, told.available, told.name) == (number, True, real["name"])
        assert (told.build_time, told.ability_id) == (pytest.approx(real["build_time_loops"]), real["ability_id"])
        assert list(told.tech_alias) == real["tech_alias"] and len(told.weapons) == len(real["weapons"])
    for number, real in recorded_abilities().items():
        told = data.abilities[number]
        assert all(getattr(told, key) == pytest.approx(value) for key, value in real._asdict().items()), real
    assert sum(bool(upgrade.name) for upgrade in data.upgrades) == len(recorded_upgrades())


def test_a_unit_that_the_simulator_cannot_play_is_refused_by_name():
    world = World(find_map("Flat32"), {1: Player()}, seed=0)
    command = debug_pb2.DebugCommand()
    command.create_unit.unit_type, command.create_unit.owner = 11, 1
    assert "PointDefenseDrone" in str(apply_debug(world, 1, command))


def test_effects_are_the_games():
    assert recorded_effects()[SHIELD_EFFECT].radius == SHIELD_RADIUS


def test_files_have_the_rows_that_their_sources_tell():
    folder = resources.files("envs.protocol").joinpath("data")
    sources = tomllib.loads(folder.joinpath("sources.toml").read_text(encoding="utf-8"))
    for table in sources.values():
        text = folder.joinpath(table["file"]).read_text(encoding="utf-8")
        rows = json.loads(text) if table["file"].endswith(".json") else list(csv.DictReader(text.splitlines()))
        assert len(rows) == table["rows"], table["file"]
    assert len(recorded_upgrades()) == sources["upgrades"]["rows"]
