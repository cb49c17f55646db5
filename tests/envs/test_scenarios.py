"""Scenario files: the built-in ones against SMAC's published sizes, and errors that name what is wrong."""

from __future__ import annotations

import dataclasses
import math

import gymnasium
import pytest

import envs
from envs.scenarios.compiler import scenario_rules
from envs.scenarios.scenario import MAX_UNITS, ScenarioError, formation, load_scenario, scenario_names
from envs.scenarios.smac import smac_sizes

# map: allies, enemies, step limit, observation, state, actions (SMAC's own tables).
SMAC = {
    "3m": (3, 3, 60, 30, 48, 9),
    "8m": (8, 8, 120, 80, 168, 14),
    "25m": (25, 25, 150, 250, 950, 31),
    "5m_vs_6m": (5, 6, 70, 55, 98, 12),
    "8m_vs_9m": (8, 9, 120, 85, 179, 15),
    "10m_vs_11m": (10, 11, 150, 105, 243, 17),
    "27m_vs_30m": (27, 30, 180, 285, 1170, 36),
    "MMM": (10, 10, 150, 160, 290, 16),
    "MMM2": (10, 12, 180, 176, 322, 18),
    "2s3z": (5, 5, 120, 80, 120, 11),
    "3s5z": (8, 8, 150, 128, 216, 14),
    "3s5z_vs_3s6z": (8, 9, 170, 136, 230, 15),
    "3s_vs_3z": (3, 3, 150, 36, None, None),
    "3s_vs_4z": (3, 4, 200, 42, None, None),
    "3s_vs_5z": (3, 5, 250, 48, None, None),
    "1c3s5z": (9, 9, 180, 162, 270, 15),
    "2m_vs_1z": (2, 1, 150, 16, 26, 7),
    "corridor": (6, 24, 400, 156, 282, 30),
    "6h_vs_8z": (6, 8, 150, 78, 140, 14),
    "2s_vs_1sc": (2, 1, 300, 17, 27, 7),
    "so_many_baneling": (7, 32, 100, 202, 397, 38),
    "bane_vs_bane": (24, 24, 200, 336, 984, 30),
    "2c_vs_64zg": (2, 64, 400, 332, 342, 70),
}
MINI_GAMES = {
    "MoveToBeacon",
    "CollectMineralShards",
    "FindAndDefeatZerglings",
    "DefeatRoaches",
    "DefeatZerglingsAndBanelings",
}

GOOD = """
rules = "battle"
map_size = [32, 32]
step_limit = 100

[[team]]
at = [9.0, 16.0]
units = [{ type = "Marine", count = 3 }]

[[team]]
at = [23.0, 16.0]
units = [{ type = "Zealot", count = 2 }]
"""


def test_all_scenarios_of_the_issue_exist():
    names = set(scenario_names())
    assert set(SMAC) | MINI_GAMES <= names
    assert len(SMAC) == 23
    for race in ("terran", "protoss", "zerg"):
        assert {f"smacv2_{race}_{size}_vs_{size}" for size in (5, 10, 20)} <= names


@pytest.mark.parametrize("name", sorted(SMAC))
def test_smac_maps_have_smacs_sizes(name):
    allies, enemies, limit, observation, state, actions = SMAC[name]
    scenario = load_scenario(name)
    assert [len(team.units) for team in scenario.teams] == [allies, enemies]
    assert (scenario.step_limit, scenario.step_mul, scenario.agent_units_obedient) == (limit, 8, True)
    sizes = smac_sizes(scenario)
    assert sizes.observation == observation
    if state is not None:
        assert (sizes.state, sizes.n_actions) == (state, actions)


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_compiles_to_engine_tables_and_is_registered(name):
    scenario = load_scenario(name)
    rules = scenario_rules(scenario)
    assert rules.static.kind_f.shape[0] >= 1
    assert f"perceiver_sc2/{name}-v0" in gymnasium.registry
    assert envs.__name__ == "envs"


def test_scenario_overrides_reach_the_engine():
    rules = scenario_rules(load_scenario("6h_vs_8z"))
    assert rules.entries[rules.kind["Hydralisk"]]["health"] == 80


def test_a_user_file_loads_and_is_read_again_after_a_change(tmp_path):
    path = tmp_path / "duel.toml"
    path.write_text(GOOD)
    assert load_scenario(path).teams[0].slots == 3
    path.write_text(GOOD.replace("count = 3", "count = 5"))
    assert load_scenario(path).teams[0].slots == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"Marine"', '"Marin"'), r"team\[0\]\.units\[0\]\.type.*'Marin'.*Marine"),
        (("step_limit = 100", "step_limit = 0"), "step_limit: 0 is outside"),
        (("step_limit = 100", ""), "step_limit: is missing"),
        (("step_limit = 100", "step_limits = 100"), "step_limits: unknown key; did you mean 'step_limit'"),
        (("map_size = [32, 32]", "map_size = [32]"), "map_size: expected 2 numbers"),
        (("map_size = [32, 32]", "map_size = [32, nan]"), "map_size: expected a finite number"),
        (('rules = "battle"', 'rules = "chess"'), "rules: 'chess' is not one of battle"),
        (("at = [9.0, 16.0]", "at = [0.0, 16.0]"), "outside the playable rectangle"),
        (("at = [23.0, 16.0]", "at = [9.0, 16.0]"), r"team\[1\]\.units: Zealot .* overlaps Marine"),
        (("step_limit = 100", "step_limit = 100\nobstacles = [[8, 8, 12, 20]]"), "stands in the obstacle"),
        (("count = 3", "count = 600"), "count: 600 is outside 1 to 512"),
        (("count = 3", "count = 3.5"), "count: expected a whole number"),
        (('type = "Zealot"', 'type = "Zealot", colour = 3'), r"units\[0\]\.colour: unknown key"),
        (("[[team]]\nat = [23.0, 16.0]", '[[team]]\nopponent = "chaos"\nat = [23.0, 16.0]'), "opponent: 'chaos'"),
        (("map_size = [32, 32]", "map_size = [32, 32"), r"line \d+"),
    ],
)
def test_a_wrong_file_gets_an_error_that_names_file_and_key(tmp_path, change, message):
    assert change[0] in GOOD
    path = tmp_path / "wrong.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(ScenarioError, match=message) as caught:
        load_scenario(path)
    assert "wrong.toml" in str(caught.value)


def test_too_many_units_are_refused(tmp_path):
    path = tmp_path / "crowd.toml"
    crowd = GOOD.replace("[32, 32]", "[128, 128]").replace("count = 3", "count = 400")
    crowd = crowd.replace("count = 2", "count = 200")
    path.write_text(crowd.replace("[9.0, 16.0]", "[40.0, 64.0]").replace("[23.0, 16.0]", "[90.0, 64.0]"))
    with pytest.raises(ScenarioError, match=f"600 units.*at most {MAX_UNITS}"):
        load_scenario(path)


def test_an_unknown_name_suggests_a_known_one():
    with pytest.raises(ScenarioError, match="did you mean"):
        load_scenario("5m_vs_7m")
    with pytest.raises(ScenarioError, match=r"missing\.toml"):
        load_scenario("missing.toml")


@pytest.mark.parametrize("count", [1, 2, 7, 30, 64])
def test_a_formation_is_centred_and_does_not_overlap(count):
    places = formation(["Marine", "Zealot"] * count, (20.0, 12.0))
    assert abs(sum(x for x, _ in places) / len(places) - 20.0) < 1.2
    assert abs(sum(y for _, y in places) / len(places) - 12.0) < 1.2
    assert min(math.dist(a, b) for n, a in enumerate(places) for b in places[:n]) >= 0.849


def test_scenarios_are_immutable_values():
    scenario = load_scenario("3m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.step_limit = 5  # type: ignore[misc]
    assert load_scenario(scenario) is scenario
