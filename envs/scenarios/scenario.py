"""Scenarios: which units start where, on which map, under which rules; read from TOML files.

The format, by example (`envs/scenarios/builtin/*.toml` holds every built-in scenario)::

    title = "3 Marines against 3 Marines"
    source = "SMAC map 3m"
    rules = "battle"                    # battle, beacon, shards, hunt or waves
    map_size = [32, 32]                 # world units, 8 to 256 a side
    playable = [0, 0, 32, 32]           # optional rectangle x0, y0, x1, y1
    obstacles = [[14, 0, 18, 12]]       # optional rectangles that no ground unit enters
    step_mul = 8                        # game loops an agent step; 16 loops are a second of Normal speed
    step_limit = 60                     # agent steps, then the episode is truncated
    agent_units_obedient = false        # optional, SMAC: true: the agent's units attack only on order, turn at once
    fog = true                          # optional: false shows everything to both sides
    start_jitter = 0.1                  # optional: uniform noise on start positions, world units
    smac_true_range = false             # optional: SMAC's action view uses each weapon's range instead of 6

    [[team]]                            # the agent's team
    at = [9.0, 16.0]                    # centre of its formation; the second team's is the mirror image
    units = [{ type = "Marine", count = 3 }]

    [[team]]                            # the opponent
    opponent = "attack-wave"            # default policy, see `envs.rules.opponents.OPPONENTS`
    attack_target = [9.0, 16.0]         # optional: where its attack goes; default: the agent's start
    units = [{ type = "Marine", count = 3, at = [23.0, 16.0] }]

    [unit_overrides.Marine]             # optional: unit data for this scenario alone
    health = 55.0

A group of units stands around its own `at`, else its team's; `positions = [[x, y], ...]` instead of `count` places
every unit.
`[random_teams]` (SMACv2) replaces `units`, then a team has only a `count`. Mini-games read their numbers from `[game]`.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.scenarios.choices import GAME_PARAMETERS, OPPONENTS, RULES
from envs.scenarios.units import unit_data
from perceiver_agents.paths import absolute

SCENARIO_FOLDER = Path(__file__).parent / "builtin"
MAX_UNITS = 512

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message names the file and the key (or line) and says what was expected."""


@dataclass(frozen=True, kw_only=True)
class UnitStart:
    """One unit at the start of an episode."""

    unit_type: str
    position: Point


@dataclass(frozen=True, kw_only=True)
class Team:
    """One side: its starting units (none with random teams) and, for the second team, its default policy."""

    units: tuple[UnitStart, ...]
    slots: int
    opponent: str = "attack-wave"
    attack_target: Point | None = None


@dataclass(frozen=True, kw_only=True)
class RandomTeams:
    """SMACv2-style draws: unit types by weight, no team of `never_alone` types only, surround or reflect starts."""

    types: tuple[str, ...]
    weights: tuple[float, ...]
    never_alone: tuple[str, ...] = ()
    surround_probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A validated scenario. Lengths in world units; `step_limit` in agent steps of `step_mul` game loops."""

    name: str
    title: str
    source: str
    rules: str
    map_size: tuple[int, int]
    playable: Rectangle
    obstacles: tuple[Rectangle, ...]
    step_mul: int
    step_limit: int
    agent_units_obedient: bool
    start_jitter: float
    smac_true_range: bool
    fog: bool
    teams: tuple[Team, Team]
    random_teams: RandomTeams | None = None
    game: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    unit_overrides: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def neutral_slots(self) -> int:
        """Entities of no team: one beacon, or the mineral shards."""
        if self.rules == "beacon":
            return 1
        return int(self.game["shards"][0]) if self.rules == "shards" else 0


def scenario_names() -> list[str]:
    """Names of the built-in scenarios, sorted."""
    return sorted(path.stem for path in SCENARIO_FOLDER.glob("*.toml"))


def load_scenario(scenario: str | Path | Scenario) -> Scenario:
    """Loads a built-in scenario by name, or a user's by the path of its TOML file.

    Raises:
        ScenarioError: no such scenario, or a file that is wrong; names file, line or key.
    """
    if isinstance(scenario, Scenario):
        return scenario
    path = Path(scenario)
    if path.suffix != ".toml":
        path = SCENARIO_FOLDER / f"{scenario}.toml"
        if not path.is_file():
            names = scenario_names()
            close = difflib.get_close_matches(str(scenario), names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else "see envs.scenarios.scenario.scenario_names()"
            raise ScenarioError(f"unknown scenario {str(scenario)!r}: {hint} (a scenario file's path ends in .toml)")
    return _load(absolute(path))


@lru_cache(maxsize=256)
def _load_text(path: Path, text: str) -> Scenario:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: {error}") from None
    return _Reader(path).scenario(table)


def _load(path: Path) -> Scenario:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    return _load_text(path, text)


class _Reader:
    """Turns a parsed TOML table into a Scenario; every error carries the file and the key."""

    def __init__(self, path: Path):
        self.path = path

    def fail(self, key: str, message: str) -> ScenarioError:
        return ScenarioError(f"{self.path}: {key}: {message}")

    def keys(self, table: Any, where: str, allowed: set[str]) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise self.fail(where, f"expected a table, got {table!r}")
        for key in table:
            if key not in allowed:
                close = difflib.get_close_matches(key, sorted(allowed), n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(allowed))}"
                raise self.fail(f"{where}.{key}" if where else key, f"unknown key; {hint}")
        return table

    def text(self, table: dict, key: str, where: str, default: str | None = None, choices: tuple[str, ...] = ()) -> str:
        value = table.get(key, default)
        name = f"{where}{key}"
        if not isinstance(value, str):
            raise self.fail(name, "is missing" if value is None else f"expected text, got {value!r}")
        if choices and value not in choices:
            raise self.fail(name, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def number(self, value: Any, name: str, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(name, "is missing" if value is None else f"expected a finite number, got {value!r}")
        if not low <= value <= high:
            raise self.fail(name, f"{value} is outside {low} to {high}")
        return float(value)

    def integer(self, value: Any, name: str, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(name, "is missing" if value is None else f"expected a whole number, got {value!r}")
        return int(self.number(value, name, low, high))

    def flag(self, table: dict, key: str, default: bool) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, f"expected true or false, got {value!r}")
        return value

    def numbers(self, value: Any, name: str, count: int, low: float = -1e6, high: float = 1e6) -> tuple[float, ...]:
        if count == 1 and not isinstance(value, list):
            value = [value]
        if not isinstance(value, list) or len(value) != count:
            raise self.fail(name, "is missing" if value is None else f"expected {count} numbers, got {value!r}")
        return tuple(self.number(item, name, low, high) for item in value)

    def rectangle(self, value: Any, name: str, size: tuple[int, int]) -> Rectangle:
        x0, y0, x1, y1 = self.numbers(value, name, 4)
        if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
            raise self.fail(
                name, f"[{x0}, {y0}, {x1}, {y1}] is not x0 < x1, y0 < y1 within the map {size[0]} x {size[1]}"
            )
        return x0, y0, x1, y1

    def unit_type(self, name: Any, where: str) -> str:
        known = unit_data()
        if name not in known or known[name].get("race") == "neutral":
            close = difflib.get_close_matches(str(name), list(known), n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
            raise self.fail(where, f"unknown unit type {name!r}; {hint}")
        return str(name)

    def scenario(self, table: dict[str, Any]) -> Scenario:
        known = {
            "title",
            "source",
            "rules",
            "map_size",
            "playable",
            "obstacles",
            "step_mul",
            "step_limit",
            "start_jitter",
        }
        known |= {"agent_units_obedient", "smac_true_range", "fog"}
        self.keys(table, "", known | {"team", "random_teams", "game", "unit_overrides"})
        rules = self.text(table, "rules", "", "battle", RULES)
        width, height = (int(side) for side in self.numbers(table.get("map_size"), "map_size", 2, 8, 256))
        size = (width, height)
        playable = self.rectangle(table.get("playable", [0, 0, width, height]), "playable", size)
        obstacles = tuple(
            self.rectangle(value, f"obstacles[{index}]", size)
            for index, value in enumerate(self.sequence(table.get("obstacles", []), "obstacles"))
        )
        teams = self.sequence(table.get("team"), "team")
        if len(teams) != 2:
            raise self.fail("team", f"expected two [[team]] tables (the agent's, the opponent's), got {len(teams)}")
        random_teams = self.random_teams(table["random_teams"]) if "random_teams" in table else None
        first, second = (
            self.team(team, f"team[{index}]", rules, random_teams, facing)
            for (index, team), facing in zip(enumerate(teams), (1, -1), strict=True)
        )
        if first.slots == 0:
            raise self.fail("team[0].units", "the agent's team has no unit")
        scenario = Scenario(
            name=self.path.stem,
            title=self.text(table, "title", "", self.path.stem),
            source=self.text(table, "source", "", "user"),
            rules=rules,
            map_size=size,
            playable=playable,
            obstacles=obstacles,
            step_mul=self.integer(table.get("step_mul", 8), "step_mul", 1, 128),
            step_limit=self.integer(table.get("step_limit"), "step_limit", 1, 1_000_000),
            agent_units_obedient=self.flag(table, "agent_units_obedient", False),
            start_jitter=self.number(table.get("start_jitter", 0.1), "start_jitter", 0.0, 4.0),
            smac_true_range=self.flag(table, "smac_true_range", False),
            fog=self.flag(table, "fog", True),
            teams=(first, second),
            random_teams=random_teams,
            game=self.game(table.get("game", {}), rules),
            unit_overrides=self.overrides(table.get("unit_overrides", {})),
        )
        self.check_starts(scenario)
        return scenario

    def sequence(self, value: Any, name: str) -> list:
        if not isinstance(value, list):
            raise self.fail(name, "is missing" if value is None else f"expected a list, got {value!r}")
        return value

    def team(self, table: Any, where: str, rules: str, random_teams: RandomTeams | None, facing: int) -> Team:
        self.keys(table, where, {"at", "units", "count", "slots", "opponent", "attack_target"})
        units: list[UnitStart] = []
        if random_teams is not None:
            count = self.integer(table.get("count"), f"{where}.count", 1, MAX_UNITS)
            if "units" in table:
                raise self.fail(f"{where}.units", "a team is either random (count) or listed (units)")
        else:
            groups: dict[Point, list[tuple[str, str]]] = {}
            for index, group in enumerate(self.sequence(table.get("units"), f"{where}.units")):
                key = f"{where}.units[{index}]"
                self.keys(group, key, {"type", "count", "at", "positions"})
                kind = self.unit_type(group.get("type"), f"{key}.type")
                if "positions" in group:
                    for place in self.sequence(group["positions"], f"{key}.positions"):
                        x, y = self.numbers(place, f"{key}.positions", 2)
                        units.append(UnitStart(unit_type=kind, position=(x, y)))
                    continue
                number = self.integer(group.get("count", 1), f"{key}.count", 1, MAX_UNITS)
                # Mini-games place their units by their own rules, so a place is optional there.
                place = group.get("at", table.get("at", [0.0, 0.0] if rules != "battle" else None))
                x, y = self.numbers(place, f"{key}.at", 2)
                groups.setdefault((x, y), []).extend([(kind, key)] * number)
            for centre, members in groups.items():
                kinds = [kind for kind, _ in members]
                units.extend(
                    UnitStart(unit_type=kind, position=place)
                    for kind, place in zip(kinds, formation(kinds, centre, facing), strict=True)
                )
            count = len(units)
        target = table.get("attack_target")
        return Team(
            units=tuple(units),
            slots=self.integer(table.get("slots", count), f"{where}.slots", count, MAX_UNITS),
            opponent=self.text(table, "opponent", f"{where}.", "attack-wave", OPPONENTS),
            attack_target=None if target is None else self.pair(target, f"{where}.attack_target"),
        )

    def pair(self, value: Any, name: str) -> Point:
        x, y = self.numbers(value, name, 2)
        return x, y

    def random_teams(self, table: Any) -> RandomTeams:
        self.keys(table, "random_teams", {"types", "weights", "never_alone", "surround_probability"})
        names = self.sequence(table.get("types"), "random_teams.types")
        types = tuple(self.unit_type(name, f"random_teams.types[{index}]") for index, name in enumerate(names))
        weights = self.numbers(table.get("weights", [1.0] * len(types)), "random_teams.weights", len(types), 0.0)
        if not types or sum(weights) <= 0:
            raise self.fail("random_teams.weights", "the weights must not all be zero")
        alone = tuple(self.sequence(table.get("never_alone", []), "random_teams.never_alone"))
        for name in alone:
            if name not in types:
                raise self.fail("random_teams.never_alone", f"{name!r} is not one of random_teams.types")
        if all(name in alone or weight == 0 for name, weight in zip(types, weights, strict=True)):
            raise self.fail("random_teams.never_alone", "leaves no type that may stand alone")
        chance = self.number(table.get("surround_probability", 0.5), "random_teams.surround_probability", 0.0, 1.0)
        return RandomTeams(types=types, weights=weights, never_alone=alone, surround_probability=chance)

    def game(self, table: Any, rules: str) -> dict[str, tuple[float, ...]]:
        parameters = GAME_PARAMETERS[rules]
        self.keys(table, "game", set(parameters))
        return {key: self.numbers(table.get(key), f"game.{key}", count) for key, count in parameters.items()}

    def overrides(self, table: Any) -> dict[str, dict[str, float]]:
        if not isinstance(table, dict):
            raise self.fail("unit_overrides", f"expected a table, got {table!r}")
        result = {}
        for name, values in table.items():
            key = f"unit_overrides.{name}"
            self.unit_type(name, key)
            self.keys(values, key, {"health", "shield", "armor", "speed", "sight"})
            result[name] = {item: self.number(value, f"{key}.{item}", 0.0, 1e6) for item, value in values.items()}
        return result

    def check_starts(self, scenario: Scenario) -> None:
        total = sum(team.slots for team in scenario.teams) + scenario.neutral_slots
        if total > MAX_UNITS:
            raise self.fail("team", f"{total} units and neutral entities; at most {MAX_UNITS} fit in one battle")
        if scenario.rules != "battle":
            return
        x0, y0, x1, y1 = scenario.playable
        placed: list[tuple[UnitStart, float, bool, str]] = []
        for index, team in enumerate(scenario.teams):
            for unit in team.units:
                x, y = unit.position
                where = f"team[{index}].units"
                label = f"{unit.unit_type} at ({x:.2f}, {y:.2f})"
                radius, flying = inner_radius(unit.unit_type), is_flying(unit.unit_type)
                if not (x0 + radius <= x <= x1 - radius and y0 + radius <= y <= y1 - radius):
                    raise self.fail(where, f"{label} is outside the playable rectangle [{x0}, {y0}, {x1}, {y1}]")
                if not flying:
                    for a0, b0, a1, b1 in scenario.obstacles:
                        if a0 < x < a1 and b0 < y < b1:
                            raise self.fail(where, f"{label} stands in the obstacle [{a0}, {b0}, {a1}, {b1}]")
                for other, other_radius, other_flying, other_label in placed:
                    gap = math.dist(unit.position, other.position)
                    if other_flying == flying and gap < 0.9 * (radius + other_radius):
                        raise self.fail(where, f"{label} overlaps {other_label}")
                placed.append((unit, radius, flying, label))


def inner_radius(unit_type: str) -> float:
    """The radius that other units cannot enter, world units."""
    return float(unit_data()[unit_type]["inner_radius"])


def is_flying(unit_type: str) -> bool:
    return bool(unit_data()[unit_type]["plane"] == "air")


def formation(unit_types: list[str], centre: Point, facing: int = 1) -> list[Point]:
    """Places units in a near-square block around `centre`, in columns, without overlap.

    The last column, which may be shorter, is the front: to the east with `facing` 1, to the west with -1. So two teams
    of the same units that face each other are mirror images, and neither has an advantage.
    """
    count = len(unit_types)
    spacing = 2.0 * max(inner_radius(name) for name in unit_types) + 0.1
    rows = math.ceil(math.sqrt(count))
    columns = math.ceil(count / rows)
    places = []
    for index in range(count):
        column, row = divmod(index, rows)
        in_column = min(rows, count - column * rows)
        x = centre[0] + facing * spacing * (column - (columns - 1) / 2)
        places.append((x, centre[1] + spacing * (row - (in_column - 1) / 2)))
    return places
