"""The calibration recorder, run against the simulator itself behind the protocol."""

from __future__ import annotations

import json
import math

import pytest
from pysc2_evolved.lib.protocol import ProtocolError

from envs.pysc2.calibration import (
    EXPERIMENTS,
    Calibration,
    Experiment,
    Placed,
    compare,
    duel,
    main,
    move,
    record_all,
    splash,
)

HEAL = next(experiment for experiment in EXPERIMENTS if experiment.kind == "heal")


@pytest.fixture(scope="module")
def measures():
    chosen = [
        duel("Marine", "Zealot", 4.0),
        move("Marine"),
        HEAL,
        splash("SiegeTankSieged", "Marauder", 9.0),
    ]
    return {entry.experiment: entry.measures for entry in record_all("memory", experiments=chosen)}


def test_what_is_recorded_is_what_the_rules_say(measures):
    shots = measures["Marine attacks Zealot"]
    assert shots["damage of a hit"] == 6.0  # shields have no armor
    assert shots["time between hits"] == pytest.approx(0.8608 * 16, abs=0.3)  # whole loops
    walk = measures["Marine goes 10"]
    assert walk["top speed"] == pytest.approx(2.25 / 16, abs=1e-4)
    assert walk["stops at"] == pytest.approx(10.0, abs=0.01)
    assert walk["arrives after"] == pytest.approx(10.0 / (2.25 / 16), abs=2)
    assert measures[HEAL.name]["health a loop"] == pytest.approx(9.0 / 16, abs=0.01)
    tank = measures["SiegeTankSieged hits a cross of Marauders"]
    assert tank["damage to victim 1"] == 70.0 - 1.0
    # Victim 5 stands farther away than the splash reaches.
    assert tank["damage to victim 1"] > tank["damage to victim 2"] > tank["damage to victim 5"] == 0.0


def test_the_same_experiments_give_the_same_measures_again(measures):
    again = record_all("memory", experiments=[duel("Marine", "Zealot", 4.0), move("Marine")])
    for entry in again:
        assert entry.measures == measures[entry.experiment]


def test_a_difference_shows(measures):
    changed = {name: dict(values) for name, values in measures.items()}
    changed["Marine goes 10"]["top speed"] += 0.25
    del changed["Marine attacks Zealot"]["damage of a hit"]
    rows = {(row["experiment"], row["measure"]): row for row in compare(changed, measures)}
    assert rows["Marine goes 10", "top speed"]["difference"] == pytest.approx(-0.25)
    assert math.isnan(rows["Marine attacks Zealot", "damage of a hit"]["difference"])
    assert rows["Marine goes 10", "stops at"]["difference"] == 0.0


def test_a_recording_is_written_and_compared_elsewhere(tmp_path, capsys, monkeypatch):
    chosen = (duel("Zealot", "Marine", 2.0),)
    monkeypatch.setattr("envs.pysc2.calibration.record_all.__defaults__", ("Flat64", chosen))
    first = main(Calibration(out=tmp_path / "recorded.json"))
    assert json.loads((tmp_path / "recorded.json").read_text())["recordings"][0]["trace"]
    assert main(Calibration(recorded=tmp_path / "recorded.json")) == first
    assert "target dies after" in capsys.readouterr().out
    assert all(row["difference"] == 0.0 for row in first)


def test_every_experiment_measures_something_and_the_simulator_agrees_with_itself():
    kinds = [experiment.kind for experiment in EXPERIMENTS]
    assert [kinds.count(kind) for kind in ("duel", "move", "heal", "splash")] == [9, 6, 1, 3]
    rows = main(Calibration(transport="memory"))
    assert {row["experiment"] for row in rows} == {experiment.name for experiment in EXPERIMENTS}
    assert [row for row in rows if row["difference"] != 0.0] == []


def test_the_servers_refusal_is_passed_on():
    far = Experiment(name="off", kind="move", units=(Placed(unit="Marine", owner=1, x=1e4),), loops=1)
    with pytest.raises(ProtocolError, match="not on the map"):
        record_all("memory", experiments=[far])
