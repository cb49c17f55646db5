"""The reference files say what their sources tell, and name what the simulator has."""

from __future__ import annotations

import csv

import pytest

from envs.fidelity import figures
from envs.fidelity.agents import FIXED_AGENTS
from envs.protocol.maps import ECONOMY_GAMES
from envs.protocol.recorded import recorded_units
from envs.scenarios.scenario import scenario_names
from envs.scenarios.units import unit_data


@pytest.mark.parametrize("table", figures.sources())
def test_every_file_has_a_source_and_as_many_rows_as_it_tells(table):
    source = figures.sources()[table]
    assert set(source) == {"file", "patch", "rows", "source", "what"}
    with figures.FOLDER.joinpath(source["file"]).open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == source["rows"]


def test_every_file_is_read_by_its_function():
    files = {entry.name for entry in figures.FOLDER.iterdir()} - {"sources.toml"}
    assert files == {source["file"] for source in figures.sources().values()}
    assert all(getattr(figures, name)() for name in figures.sources() if hasattr(figures, name))


def test_bases_have_eight_patches_two_geysers_and_twelve_workers():
    assert len(figures.base_layouts()) == 60
    for layout in figures.base_layouts():
        contents = sorted(contents for _, contents in layout.mineral_fields)
        assert contents in ([900] * 4 + [1800] * 4, [900] * 4 + [1500] * 4)  # 1,500 on one map
        assert len(layout.geysers) == 2 and len(layout.workers) == 12
        assert {contents for _, contents in layout.geysers} == {2250}


def test_replays_agree_with_the_catalogue():
    """Two sources of one thing: the catalogue's build times are those that replays show."""
    catalogue = {unit["name"]: unit["build_time_loops"] for unit in recorded_units().values()}
    compared = {name: loops for name, loops in figures.build_times().items() if name in catalogue}
    assert len(compared) > 25
    # An add-on's time in the catalogue is the loop that it takes to become one.
    assert {name for name, loops in compared.items() if loops != catalogue[name]} <= {"Spire"}
    # A unit follows another a loop sooner than it takes alone.
    trained = {name: loops for name, loops in figures.train_intervals().items() if name in catalogue}
    assert all(loops == catalogue[name] - 1 for name, loops in trained.items())


def test_figures_name_units_maps_and_agents_that_there_are():
    assert set(figures.random_episodes()) <= set(scenario_names())
    assert {score.map_name for score in figures.scores()} <= {*scenario_names(), *ECONOMY_GAMES}
    people = {"human", "grandmaster", "learned-2017-low", "learned-2017-high"}
    assert {score.agent for score in figures.scores()} == set(FIXED_AGENTS) | people
    assert {"SCV", "Marine"} <= set(figures.train_intervals()) & set(unit_data())


def test_intervals_leave_chrono_boosts_and_reactors_out():
    assert figures.train_intervals()["SCV"] == 271 and figures.train_intervals()["Probe"] == 271
