"""`python -m envs.fidelity`: what it refuses, what it prints and writes, and what it measures of known quantities."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from envs.fidelity.__main__ import GROUPS, Fidelity, check, main
from envs.fidelity.battles import damage_of
from envs.fidelity.experiments import experiment_rows
from envs.fidelity.figures import base_layouts, sources
from envs.fidelity.income import layout_map, steady_vespene
from envs.fidelity.minigames import play
from envs.fidelity.report import as_json, as_page, drawing, line, number
from envs.fidelity.verdicts import Figure, Row, mean_figure
from envs.pysc2.calibration import duel, move, record_all


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Fidelity(only=("unit",)), "names unit; expected some of units"),
        (Fidelity(episodes=1), "episodes is 1; expected at least 2"),
        (Fidelity(layouts=61), "layouts is 61; expected 1 to 60"),
        (Fidelity(recorded=Path("none.json")), "there is no such file"),
        (Fidelity(only=("calibration",)), "needs --recorded"),
        (Fidelity(page=Path("no/such/folder/page.html")), "folder of no/such/folder/page.html does not exist"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(config, words):
    with pytest.raises(ValueError, match=words):
        check(config)


def test_groups_are_measured_in_one_order():
    assert check(Fidelity(only=("smac", "units"))) == ("units", "smac")
    assert check(Fidelity()) == tuple(GROUPS)[:-1]


def test_rows_are_printed_and_written(tmp_path, capsys):
    json_file, page_file = tmp_path / "rows.json", tmp_path / "rows.html"
    rows = main(Fidelity(only=("abilities",), json=json_file, page=page_file))
    printed = capsys.readouterr().out
    assert printed.startswith("Measures on the simulator") and f"{len(rows)} rows: {len(rows)} inside" in printed
    saved = json.loads(json_file.read_text())
    assert [row["name"] for row in saved["rows"]] == [row.name for row in rows]
    assert saved["counts"] == {"inside": len(rows), "open": 0, "outside": 0}
    assert all(row.name in page_file.read_text() for row in rows)


SAMPLES = Row("g", "<b>", "u", mean_figure([1.0, 2.0, 4.0]), mean_figure([2.0, 3.0]), (1.0, 2.4), "r", "n & m")


def test_reports_show_both_sides():
    assert "outside" not in line(SAMPLES, 5) and line(SAMPLES, 5).endswith("open     n & m")
    page = as_page([SAMPLES], {"seed": 0}, sources())
    assert "&lt;b&gt;" in page and "n &amp; m" in page and "<b>" not in page
    assert drawing(SAMPLES).count("<svg") == 1 and "nan" not in drawing(SAMPLES)
    assert json.loads(json.dumps(as_json([SAMPLES], {})))["rows"][0]["ours"]["values"] == [2.0, 3.0]


def test_a_row_without_spread_has_no_drawing():
    assert drawing(Row("g", "n", "u", Figure(1.0), Figure(1.0), (1.0, 1.0), "equal")) == ""


def test_numbers_are_short():
    assert [number(value) for value in (3.0, 0.1234, 1234.56, -2.0)] == ["3", "0.123", "1234.6", "-2"]


def test_damage_is_what_a_return_without_win_means():
    """3m: three Marines of 45; the greatest reward before scaling is 3 * 10 + 200 + 135."""
    assert damage_of("3m", 20.0 * 45 / 365, 0.0) == pytest.approx(45.0)
    assert damage_of("3m", 20.0 * 55 / 365, 1.0) == pytest.approx(45.0)


def test_real_bases_are_played_where_they_stood():
    layout = base_layouts()[0]
    game_map = layout_map(layout)
    hall = game_map.start_locations[0]
    offsets = {(unit.position[0] - hall[0], unit.position[1] - hall[1]) for unit in game_map.placed_units}
    assert offsets == {place for place, _ in layout.mineral_fields + layout.geysers}


def test_three_workers_carry_four_vespene_at_a_time():
    income = steady_vespene(base_layouts()[0], 1, seed=0)
    assert all(value % 4 == 0 for value in income) and 12 <= sum(income) / len(income) <= 24


def test_a_recording_of_the_simulator_agrees_with_it(tmp_path):

    file = tmp_path / "recorded.json"
    recordings = record_all("memory", experiments=[duel("Marine", "Zealot", 4.0), move("Marine")])
    file.write_text(json.dumps({"recordings": [asdict(entry) for entry in recordings]}))
    rows = list(experiment_rows(file))
    assert len(rows) >= 5 and {row.verdict for row in rows} == {"inside"}
    file.write_text("[]")
    with pytest.raises(ValueError, match="no file that"):
        list(experiment_rows(file))


@pytest.mark.parametrize("agent", ["attack-move-above", "attack-lowest-roach"])
def test_fixed_agents_play_a_game(agent):
    assert play("DefeatRoaches", agent, 1, seed=3)[0] > -9
