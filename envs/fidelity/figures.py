"""The real game's figures: the files of `reference/` as typed rows. `sources.toml` there says where each comes from."""

from __future__ import annotations

import csv
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

FOLDER = resources.files(__package__).joinpath("reference")
OPENING_LOOPS = (160, 320, 480, 640, 800)
# Births of units out of a reactor, or hastened by a chrono boost, say nothing about how long a unit takes.
REACTOR_LOOPS = 30
CHRONO_INTERVALS = (181, 222)

Place = tuple[float, float]


class BaseLayout(NamedTuple):
    """A start base of a ladder map; places count from the centre of the hall."""

    map_name: str
    mineral_fields: tuple[tuple[Place, int], ...]
    """(place, contents) of the patches."""
    geysers: tuple[tuple[Place, int], ...]
    workers: tuple[Place, ...]


class Episodes(NamedTuple):
    """Some episodes of random play on a SMAC map, as one line of a log tells them: means over `episodes`.

    `epsilon` below 1: the share of random actions fell to that. The numbers of dead are None where the log has none.
    """

    map_name: str
    repository: str
    epsilon: float
    episodes: int
    episode_return: float
    length: float
    dead_allies: float | None
    dead_enemies: float | None


class Score(NamedTuple):
    """A published score of an agent on a mini-game; None: not told."""

    map_name: str
    agent: str
    mean: float
    deviation: float | None
    highest: float | None
    episodes: int | None
    source: str


@cache
def sources() -> dict[str, dict[str, Any]]:
    """What `sources.toml` says of every file: {table: {file, patch, rows, source, what}}."""
    return tomllib.loads(FOLDER.joinpath("sources.toml").read_text(encoding="utf-8"))


def _rows(table: str) -> Iterator[dict[str, str]]:
    with FOLDER.joinpath(sources()[table]["file"]).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _number(word: str) -> float | None:
    return float(word) if word else None


@cache
def base_layouts() -> tuple[BaseLayout, ...]:
    """Start bases of ladder maps of patch 4.10."""

    def places(words: str) -> tuple[tuple[Place, int], ...]:
        parts = [word.split(":") for word in words.split()]
        return tuple(((float(part[0]), float(part[1])), int(part[2]) if len(part) > 2 else 0) for part in parts)

    return tuple(
        BaseLayout(
            row["map"],
            places(row["mineral_fields"]),
            places(row["geysers"]),
            tuple(place for place, _ in places(row["workers"])),
        )
        for row in _rows("base_layouts")
    )


@cache
def radii() -> dict[int, tuple[str, float]]:
    """(name, radius) by unit type."""
    return {int(row["unit_type"]): (row["name"], float(row["radius"])) for row in _rows("radii")}


@cache
def build_times() -> dict[str, int]:
    """Loops that a building takes: what was seen most often from patch 4.0 on, by name."""
    return _most_frequent("build_times", "building")


@cache
def train_intervals() -> dict[str, int]:
    """Loops between two births in one building that works without pause, by unit.

    The most frequent interval from patch 4.0 on, seen at least ten times, without reactors and chrono boosts.
    """
    return _most_frequent("train_intervals", "unit", least_seen=10)


def _most_frequent(table: str, key: str, least_seen: int = 1) -> dict[str, int]:
    seen: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in _rows(table):
        loops = int(row["loops"])
        if row["patches"] != "3.x" and loops > REACTOR_LOOPS and loops not in CHRONO_INTERVALS:
            seen[row[key]][loops] += int(row["times_seen"])
    best = {name: max(counts.items(), key=lambda item: item[1]) for name, counts in seen.items()}
    return {name: loops for name, (loops, times) in best.items() if times >= least_seen}


@cache
def opening_minerals() -> dict[int, list[float]]:
    """Minerals that players had gathered by a game loop (`OPENING_LOOPS`), a value a player."""
    rows = list(_rows("opening_minerals"))
    return {loop: [float(row[f"l{loop}"]) for row in rows if row[f"l{loop}"]] for loop in OPENING_LOOPS}


@cache
def mineral_income() -> dict[int, list[float]]:
    """Minerals in 160 loops by number of workers (the mean over the interval, rounded), a value an interval."""
    income = defaultdict(list)
    for row in _rows("mineral_income"):
        income[round(float(row["workers"]))].append(float(row["minerals"]))
    return dict(sorted(income.items()))


@cache
def vespene_income() -> dict[int, list[float]]:
    """Vespene in 160 loops by number of gas buildings, a value an interval."""
    income: dict[int, list[float]] = defaultdict(list)
    for row in _rows("vespene_income"):
        income[int(row["gas_buildings"])] += [float(row["vespene"])] * int(row["intervals"])
    return dict(income)


@cache
def random_episodes() -> dict[str, list[Episodes]]:
    """Random play on SMAC's maps, by map."""
    episodes = defaultdict(list)
    for row in _rows("smac_random_policy"):
        episodes[row["map"]].append(
            Episodes(
                row["map"],
                row["repo"],
                float(row["epsilon"]),
                int(row["episodes"]),
                float(row["return"]),
                float(row["length"]),
                _number(row["dead_allies"]),
                _number(row["dead_enemies"]),
            )
        )
    return dict(episodes)


@cache
def scores() -> tuple[Score, ...]:
    """Published scores on the mini-games."""
    return tuple(
        Score(
            row["map"],
            row["agent"],
            float(row["mean"]),
            _number(row["sd"]),
            _number(row["max"]),
            int(row["episodes"]) if row["episodes"] else None,
            row["source"],
        )
        for row in _rows("minigames")
    )
