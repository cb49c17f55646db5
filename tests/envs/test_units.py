"""The unit data file: ids, sources, overrides, and what wrong input is told."""

from __future__ import annotations

import numpy as np
import pytest

from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.engine.state.worlds import new_state
from envs.scenarios.units import Rules, source_of, unit_data

ISSUE_UNITS = (
    "Marine",
    "Marauder",
    "Medivac",
    "Reaper",
    "Hellion",
    "SiegeTank",
    "SiegeTankSieged",
    "Ghost",
    "Thor",
    "VikingFighter",
    "VikingAssault",
    "Zealot",
    "Stalker",
    "Sentry",
    "Adept",
    "Immortal",
    "Colossus",
    "Archon",
    "Phoenix",
    "VoidRay",
    "Zergling",
    "Baneling",
    "Roach",
    "Hydralisk",
    "Ravager",
    "Mutalisk",
    "Ultralisk",
    "SpineCrawler",
    "Queen",
)
# The client library calls these units by other names.
OTHER_NAMES = {"HellionTank": "Hellbat", "ThorAP": "ThorHighImpactMode"}
NEUTRAL = ("Beacon", "MineralShard", "MineralField", "VespeneGeyser")


def test_unit_type_ids_are_the_games_own() -> None:
    units = pytest.importorskip("pysc2_evolved.lib.units")
    game = {unit.name: int(unit) for race in (units.Terran, units.Protoss, units.Zerg) for unit in race}
    for name, entry in unit_data().items():
        if name not in NEUTRAL:
            assert game[OTHER_NAMES.get(name, name)] == entry["unit_type"], name


def test_units_of_the_issue_exist_and_the_armed_have_weapons() -> None:
    data = unit_data()
    for name in ISSUE_UNITS:
        assert name in data
        assert bool(data[name]["weapons"]) == (name != "Medivac")


def test_every_value_names_its_source() -> None:
    for name, entry in unit_data().items():
        for key in entry:
            assert len(source_of(name, key)) > 10, (name, key)
    assert "4.10" in source_of("Hydralisk", "health")
    assert "community" in source_of("MineralShard", "radius")
    assert "told" in source_of("VespeneGeyser", "radius")
    assert "techtree" in unit_data()["Marine"]["sources"]["unit_type"]


def test_overrides_change_one_kind_only() -> None:
    rules = Rules(["Hydralisk", ("Hydralisk", {"label": "SMAC", "health": 80, "weapons": {0: {"damage": 13}}})])
    usual, changed = rules.kind["Hydralisk"], rules.kind["SMAC"]
    assert rules.static.kind_f[[usual, changed], st.K_HEALTH].tolist() == [90, 80]
    assert rules.static.damage[[usual, changed], 0, usual].tolist() == [12, 13]
    assert rules.static.kind_i[changed, st.KI_UNIT_TYPE] == 107
    assert unit_data()["Hydralisk"]["health"] == 90


def test_modes_bring_their_counterpart() -> None:
    rules = Rules([("SiegeTank", {"obedient": True})])
    sieged = rules.kind["SiegeTankSieged"]
    assert rules.static.kind_i[0, st.KI_CHANGES_TO] == sieged
    assert rules.static.kind_i[sieged, st.KI_CHANGES_TO] == 0
    assert rules.static.kind_i[sieged, st.KI_FLAGS] & st.FLAG_OBEDIENT
    assert rules.ability[0, st.ORDER_SIEGE] == 388 and rules.ability[sieged, st.ORDER_SIEGE] == 390


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (["Marien"], "unknown unit 'Marien'"),
        ([], "units is empty"),
        (["Marine", "Marine"], "called 'Marine'"),
        ([("Marine", {"healt": 3})], "unknown key 'healt'"),
        ([("Marine", {"health": 0})], "health is 0"),
        ([("Marine", {"attributes": ["fluffy"]})], "'fluffy'"),
        ([("Marine", {"plane": "sea"})], "'sea'"),
        ([("Marine", {"weapons": {0: {"cooldown": 0.01}}})], "cooldown 0.01"),
        ([("Marine", {"weapons": [{"name": "x"}]})], "lacks 'targets'"),
    ],
)
def test_wrong_units_are_named(units: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(units)


def test_wrong_sizes_are_named() -> None:
    rules = Rules(["Marine"])
    with pytest.raises(ValueError, match="max_units is 5000"):
        new_state(rules.static, 1, 5000)
    with pytest.raises(ValueError, match="100000 worlds of 1024 units are more than one state holds"):
        new_state(rules.static, 100_000, 1024)
    with pytest.raises(ValueError, match="num_worlds is 0"):
        new_state(rules.static, 0, 5)
    with pytest.raises(ValueError, match="players is 99"):
        Rules(["Marine"], players=99)
    with pytest.raises(ValueError, match="map size 2 x 32"):
        MapSpec(width=2)
    with pytest.raises(ValueError, match="pathable has shape"):
        MapSpec(pathable=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="bounds"):
        MapSpec(bounds=(5.0, 0.0, 2.0, 9.0))
