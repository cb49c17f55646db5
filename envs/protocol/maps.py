"""The maps that the server can play, found by name or read from a map file.

A map is one of four things:

* a scenario of `envs/scenarios/builtin`: mini-games, SMAC's maps;
* a user's scenario, as TOML text instead of a map file;
* a mini-game of the economy (`ECONOMY_GAMES`);
* a melee map: `Flat*`, `Simple*`, or the terrain of a real `.SC2Map`.
"""

from __future__ import annotations

import difflib
import io
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from envs.engine.state.maps import MapSpec
from envs.scenarios.compiler import scenario_rules
from envs.scenarios.scenario import Scenario, ScenarioError, load_scenario, scenario_names

Point = tuple[float, float]
FLAT_SIZES = (32, 48, 64, 96, 128)
SIMPLE_SIZES = (64, 96, 128)
MAX_MAP_BYTES = 64 << 20
CLIFF = 1.0  # difference in height between the corners of a cell from which on nobody walks there


class MapError(ValueError):
    """A map that cannot be played. `code` is the name of the protocol's `ResponseCreateGame.Error`."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class PlacedUnit:
    """A unit that a map file places: the game's type name, its owner (16 = neutral) and place."""

    name: str
    owner: int
    position: Point


@dataclass(frozen=True, kw_only=True)
class EconomyGame:
    """A mini-game of the economy: one player with a Command Center and SCVs.

    `scored`: "collected" (minerals and vespene gathered) or the name of the unit whose making scores. The SCVs stand
    beside the hall, on its east or west side by lot, and gather from the start if `gathering`.
    """

    hall: Point
    scored: str
    loops: int
    gathering: bool
    workers: int = 12
    minerals: int = 50


@dataclass(frozen=True, kw_only=True)
class GameMap:
    """A map for the server. `scenario` is None on maps with an economy.

    Without `economy` that is a melee map, whose players start with a base at a start location. `placed_units` are the
    resources and what else stands on the map from the start.
    """

    name: str
    path: str
    spec: MapSpec
    scenario: Scenario | None = None
    start_locations: tuple[Point, ...] = ()
    players: int = 2
    placed_units: tuple[PlacedUnit, ...] = ()
    economy: EconomyGame | None = None

    @property
    def playable(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in world units."""
        return self.spec.bounds or (0.0, 0.0, float(self.spec.width), float(self.spec.height))


def map_name(path: str) -> str:
    """The name that a path stands for: `mini_games/MoveToBeacon.SC2Map` is MoveToBeacon."""
    return PurePosixPath(path.replace("\\", "/")).name.removesuffix(".SC2Map").strip()


def scenario_path(scenario: Scenario) -> str:
    """Where PySC2 and SMAC look for the map file of a scenario, below `Maps`."""
    folder = "SMAC_Maps" if scenario.rules == "battle" else "mini_games"
    return f"{folder}/{scenario.name}.SC2Map"


@cache
def available_maps() -> tuple[str, ...]:
    """Paths, below `Maps`, of every map that the server has by name."""
    melee = [f"Flat{size}" for size in FLAT_SIZES] + [f"Simple{size}" for size in SIMPLE_SIZES]
    scenarios = [scenario_path(load_scenario(name)) for name in scenario_names()]
    economy = [economy_map(name).path for name in ECONOMY_GAMES]
    return (*scenarios, *economy, *(f"Melee/{name}.SC2Map" for name in melee))


def find_map(path: str, data: bytes = b"") -> GameMap:
    """The map for `path`, a known name, or, when the name is unknown, what the map file's `data` describe.

    Raises:
        MapError: unknown name without data, unreadable data, or a map that needs what the simulator lacks.
    """
    name = map_name(path)
    if name in ECONOMY_GAMES:
        return economy_map(name)
    if name in scenario_names():
        return scenario_map(load_scenario(name))
    melee = _melee_map(name)
    if melee is not None:
        return melee
    if data:
        return _map_from_data(path, name, data)
    names = [map_name(known) for known in available_maps()]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known maps: {', '.join(names)}"
    raise MapError("InvalidMapPath", f"unknown map {path!r}: {hint} Or send the map file as map_data.")


def scenario_map(scenario: Scenario) -> GameMap:
    """A scenario as a map; both sides' starts are its start locations."""
    starts = []
    for team in scenario.teams:
        if team.units and scenario.rules == "battle":
            x, y = np.mean([unit.position for unit in team.units], axis=0)
            starts.append((float(x), float(y)))
    return GameMap(
        name=scenario.name,
        path=scenario_path(scenario),
        spec=scenario_rules(scenario).map_spec,
        scenario=scenario,
        start_locations=tuple(starts),
        players=2 if scenario.rules == "battle" else 1,
    )


# The economy's mini-games: hall, resources, playable rectangle and rules as PySC2's map files and scripts have them.
_HALL = (29.5, 28.5)
_WEST_MINERALS = ((23, 28.5), (24, 29.5), (23, 26.5), (25, 22.5), (25, 32.5), (24, 23.5), (24, 31.5), (24, 25.5))
_EAST_MINERALS = ((41, 22.5), (42, 25.5), (42, 23.5), (41, 32.5), (43, 26.5), (43, 28.5), (42, 29.5), (42, 31.5))
_GEYSERS = ((39.5, 20.5), (26.5, 34.5), (39.5, 34.5), (26.5, 20.5))
ECONOMY_GAMES: dict[str, tuple[EconomyGame, tuple[Point, ...], tuple[Point, ...]]] = {
    "CollectMineralsAndGas": (
        EconomyGame(hall=_HALL, scored="collected", loops=420 * 16, gathering=False),
        _WEST_MINERALS + _EAST_MINERALS,
        _GEYSERS,
    ),
    "BuildMarines": (EconomyGame(hall=_HALL, scored="Marine", loops=900 * 16, gathering=True), _WEST_MINERALS, ()),
}


@cache
def economy_map(name: str) -> GameMap:
    """One of the `ECONOMY_GAMES` as a map."""
    game, minerals, geysers = ECONOMY_GAMES[name]
    return GameMap(
        name=name,
        path=f"mini_games/{name}.SC2Map",
        spec=MapSpec(width=64, height=64, bounds=(20, 19, 46, 37), fog=False),
        start_locations=(game.hall,),
        players=1,
        placed_units=_resources(minerals, geysers),
        economy=game,
    )


def _resources(minerals: Sequence[Point], geysers: Sequence[Point]) -> tuple[PlacedUnit, ...]:
    return tuple(
        PlacedUnit(name=name, owner=16, position=place)
        for name, places in (("MineralField", minerals), ("VespeneGeyser", geysers))
        for place in places
    )


@cache
def _melee_map(name: str) -> GameMap | None:
    for prefix, sizes in (("Flat", FLAT_SIZES), ("Simple", SIMPLE_SIZES)):
        for size in sizes:
            if name == f"{prefix}{size}":
                return _flat(name, size) if prefix == "Flat" else _two_bases(name, size)
    return None


def _melee(name: str, spec: MapSpec, start: Point) -> GameMap:
    """A map of two bases: one at `start`, the other turned by half a circle, so that no side has an advantage."""
    base = base_resources(start, (spec.width / 2, spec.height / 2))
    other = tuple(
        PlacedUnit(name=unit.name, owner=16, position=(spec.width - unit.position[0], spec.height - unit.position[1]))
        for unit in base
    )
    return GameMap(
        name=name,
        path=f"Melee/{name}.SC2Map",
        spec=spec,
        start_locations=(start, (spec.width - start[0], spec.height - start[1])),
        placed_units=base + other,
    )


def base_resources(start: Point, centre: Point) -> tuple[PlacedUnit, ...]:
    """Eight mineral fields in an arc behind a hall at `start`, seen from the map's `centre`; a geyser at each end."""
    outward = math.atan2(start[1] - centre[1], start[0] - centre[0])
    placed: list[tuple[float, float, int, int]] = [(*start, 11, 11)]  # no resource so near to the hall

    def place(angle: float, width: int, height: int) -> Point:
        distance = 6.0
        while True:
            x, y = start[0] + distance * math.cos(angle), start[1] + distance * math.sin(angle)
            x = round(x) if width % 2 == 0 else math.floor(x) + 0.5
            y = math.floor(y) + 0.5
            clear = all(
                abs(x - ox) >= (width + ow) / 2 or abs(y - oy) >= (height + oh) / 2 for ox, oy, ow, oh in placed
            )
            if clear:
                placed.append((x, y, width, height))
                return x, y
            distance += 0.25

    minerals = [place(outward + 0.3 * (n - 3.5), 2, 1) for n in (3, 4, 2, 5, 1, 6, 0, 7)]
    geysers = [place(outward + side * 1.55, 3, 3) for side in (-1, 1)]
    return _resources(minerals, geysers)


def _flat(name: str, size: int) -> GameMap:
    edge = math.floor(max(size / 5, 9.5)) + 0.5
    return _melee(name, MapSpec(width=size, height=size), (edge, size - edge))


def _two_bases(name: str, size: int) -> GameMap:
    """Two bases in opposite corners, each behind a wall with one way out, and a rock in the middle."""
    pathable = np.ones((size, size), np.bool_)
    base = round(size * 0.375)
    way = max(5, size // 12)
    wall = max(2, size // 32)
    # The wall of the upper left base runs below and right of it, with the way out in its corner.
    pathable[size - base - wall : size - base, : base - way] = False
    pathable[size - base + way :, base : base + wall] = False
    middle, half = size // 2, size // 16
    pathable[middle - half : middle + half, middle - half : middle + half] = False
    pathable &= pathable[::-1, ::-1]
    start = math.floor(base / 2) + 0.5
    return _melee(name, MapSpec(width=size, height=size, pathable=pathable), (start, size - start))


def _map_from_data(path: str, name: str, data: bytes) -> GameMap:
    if len(data) > MAX_MAP_BYTES:
        raise MapError("InvalidMapData", f"map data of {len(data)} bytes; at most {MAX_MAP_BYTES}")
    if b"MPQ\x1a" in data[:2048] or data[:4] == b"MPQ\x1b":
        return read_sc2map(path, data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MapError("InvalidMapData", f"{path}: neither an MPQ archive nor a scenario's text") from None
    try:
        return scenario_map(_scenario_from_text(name, text))
    except ScenarioError as error:
        raise MapError("InvalidMapData", str(error)) from None


@lru_cache(maxsize=16)
def _scenario_from_text(name: str, text: str) -> Scenario:
    import tempfile

    # Scenarios are read from files, so that their errors name one.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name or 'map'}.toml"
        file.write_text(text, encoding="utf-8")
        return load_scenario(file)


# --- .SC2Map ---


def read_sc2map(path: str, data: bytes) -> GameMap:
    """A real map file's size, playable rectangle, cliffs, terrain height, start locations and placed units.

    Read on the seven maps that PySC2 ships, which are flat, and on SMAC's 23, which have cliffs and ramps. What a map
    closes otherwise (doodads, painted pathing) is not read. Pieces that are missing or laid out otherwise are left out:
    the map is then flat and free there.
    """
    import mpyq

    try:
        archive = mpyq.MPQArchive(io.BytesIO(data))
        files = {entry: archive.read_file(entry) for entry in ("MapInfo", "Objects", "t3SyncHeightMap")}
    except Exception as error:  # a damaged archive fails in as many ways as there are bytes
        raise MapError("InvalidMapData", f"{path}: the MPQ archive cannot be read: {error!r}") from None
    if files["MapInfo"] is None:
        raise MapError("InvalidMapData", f"{path}: the archive has no MapInfo")
    width, height, playable = _read_map_info(path, files["MapInfo"])
    starts, units = _read_objects(files["Objects"] or b"")
    pathable, terrain = _read_ground(files["t3SyncHeightMap"] or b"", width, height)
    spec = MapSpec(width=width, height=height, pathable=pathable, terrain=terrain, bounds=playable)
    if not starts:
        x0, y0, x1, y1 = playable
        starts = ((x0 + (x1 - x0) / 5, y1 - (y1 - y0) / 5), (x1 - (x1 - x0) / 5, y0 + (y1 - y0) / 5))
    return GameMap(
        name=map_name(path) or "map",
        path=path,
        spec=spec,
        start_locations=tuple(starts[:2]),
        players=min(len(starts), 2),
        placed_units=units,
    )


def _read_map_info(path: str, info: bytes) -> tuple[int, int, tuple[float, float, float, float]]:
    """Size and playable rectangle: the rectangle follows the names of the fog style and the tile set."""
    if len(info) < 24 or info[:4] != b"IpaM":
        raise MapError("InvalidMapData", f"{path}: MapInfo starts with {info[:4]!r}, expected b'IpaM'")
    width, height = struct.unpack_from("<II", info, 16)
    if not (4 <= width <= 256 and 4 <= height <= 256):
        raise MapError("InvalidMapData", f"{path}: size {width} x {height} is outside 4 to 256")
    names = re.search(rb"[A-Za-z]\w*\0[A-Za-z]\w*\0", info[24:])
    if names and len(info) >= 24 + names.end() + 16:
        left, bottom, right, top = struct.unpack_from("<IIII", info, 24 + names.end())
        if left < right <= width and bottom < top <= height:
            return width, height, (float(left), float(bottom), float(right), float(top))
    return width, height, (0.0, 0.0, float(width), float(height))


def _read_ground(data: bytes, width: int, height: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Pathing [height, width] (bool) and terrain height [height, width], from the heights of the cells' corners.

    Corners are in 1/256. A cliff's cells have corners more than a unit apart (2 and more), those of a ramp less.
    """
    corners = (height + 1) * (width + 1)
    if data[:4] != b"SMAP" or len(data) < 4 * corners:
        return None, None
    grid = np.frombuffer(data, "<u2", offset=len(data) - 4 * corners).reshape(height + 1, width + 1, 2)[..., 0]
    cells = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]]).astype(np.float32) / 256
    return cells.max(axis=0) - cells.min(axis=0) <= CLIFF, cells.mean(axis=0)


def _read_objects(data: bytes) -> tuple[tuple[Point, ...], tuple[PlacedUnit, ...]]:
    """Start locations and units of the `Objects` file (XML)."""
    import xml.etree.ElementTree as ElementTree

    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return (), ()
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return (), ()
    starts: list[Point] = []
    units: list[PlacedUnit] = []
    for item in root:
        try:
            x, y = (float(part) for part in item.attrib["Position"].split(",")[:2])
        except (KeyError, ValueError):
            continue
        if item.tag == "ObjectPoint" and item.attrib.get("Type") == "StartLoc":
            starts.append((x, y))
        elif item.tag == "ObjectUnit" and "UnitType" in item.attrib:
            owner = item.attrib.get("Player", "0")
            number = int(owner) if owner.isdigit() and 1 <= int(owner) <= 15 else 16
            units.append(PlacedUnit(name=_plain_name(item.attrib["UnitType"]), owner=number, position=(x, y)))
    return tuple(starts), tuple(units)


def _plain_name(unit_type: str) -> str:
    """The simulator has one mineral field and one geyser; a map's tile set has its own looks of them."""
    for name in ("MineralField", "Geyser"):
        if name in unit_type:
            return {"MineralField": "MineralField", "Geyser": "VespeneGeyser"}[name]
    return unit_type
