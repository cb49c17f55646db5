"""The maps that the server can play, found by name or read from a map file.

A map is one of three things: a scenario of `envs/data/scenarios` (mini-games, SMAC's maps), a scenario's TOML text in
the place of a map file (a user's own), or a melee map: `Flat*`, `Simple*`, or the terrain of a real `.SC2Map`.
"""

from __future__ import annotations

import difflib
import io
import re
import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from envs.engine.state import MapSpec
from envs.plan import scenario_rules
from envs.scenarios import Scenario, ScenarioError, load_scenario, scenario_names

Point = tuple[float, float]
ECONOMY_MAPS = ("BuildMarines", "CollectMineralsAndGas")
FLAT_SIZES = (32, 48, 64, 96, 128)
SIMPLE_SIZES = (64, 96, 128)
MAX_MAP_BYTES = 64 << 20


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
class GameMap:
    """A map for the server. `scenario` is None on melee maps, whose players start with a base at a start location."""

    name: str
    path: str
    spec: MapSpec
    scenario: Scenario | None = None
    start_locations: tuple[Point, ...] = ()
    players: int = 2
    placed_units: tuple[PlacedUnit, ...] = ()

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
    return (*scenarios, *(f"Melee/{name}.SC2Map" for name in melee))


def find_map(path: str, data: bytes = b"") -> GameMap:
    """The map for `path`, a known name, or, when the name is unknown, what the map file's `data` describe.

    Raises:
        MapError: unknown name without data, unreadable data, or a map that needs what the simulator lacks.
    """
    name = map_name(path)
    if name in ECONOMY_MAPS:
        raise MapError("InvalidMapPath", f"{name} needs an economy, which the simulator does not have")
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


@cache
def _melee_map(name: str) -> GameMap | None:
    for prefix, sizes in (("Flat", FLAT_SIZES), ("Simple", SIMPLE_SIZES)):
        for size in sizes:
            if name == f"{prefix}{size}":
                return _flat(name, size) if prefix == "Flat" else _two_bases(name, size)
    return None


def _flat(name: str, size: int) -> GameMap:
    edge = size / 5
    return GameMap(
        name=name,
        path=f"Melee/{name}.SC2Map",
        spec=MapSpec(width=size, height=size),
        start_locations=((edge, size - edge), (size - edge, edge)),
    )


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
    # The lower right base is the same turned by half a circle, so that no side has an advantage.
    pathable &= pathable[::-1, ::-1]
    start = base / 2
    return GameMap(
        name=name,
        path=f"Melee/{name}.SC2Map",
        spec=MapSpec(width=size, height=size, pathable=pathable),
        start_locations=((start, size - start), (size - start, start)),
    )


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

    Read on the seven maps that PySC2 ships, which are flat; that a cell whose cliff level lies between two levels is a
    wall is what their layout suggests, not something that a map with cliffs has confirmed. Pieces that are missing or
    laid out otherwise are left out: the map is then flat and free there.
    """
    import mpyq

    try:
        archive = mpyq.MPQArchive(io.BytesIO(data))
        files = {
            entry: archive.read_file(entry) for entry in ("MapInfo", "Objects", "t3SyncCliffLevel", "t3SyncHeightMap")
        }
    except Exception as error:  # a damaged archive fails in as many ways as there are bytes
        raise MapError("InvalidMapData", f"{path}: the MPQ archive cannot be read: {error!r}") from None
    if files["MapInfo"] is None:
        raise MapError("InvalidMapData", f"{path}: the archive has no MapInfo")
    width, height, playable = _read_map_info(path, files["MapInfo"])
    starts, units = _read_objects(files["Objects"] or b"")
    spec = MapSpec(
        width=width,
        height=height,
        pathable=_read_cliffs(files["t3SyncCliffLevel"] or b"", width, height),
        terrain=_read_heights(files["t3SyncHeightMap"] or b"", width, height),
        bounds=playable,
    )
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


def _read_cliffs(data: bytes, width: int, height: int) -> np.ndarray | None:
    """Pathing [height, width] from the cliff levels, which are multiples of 64 except on the walls."""
    if data[:4] != b"CLIF" or len(data) != 32 + 2 * width * height:
        return None
    levels = np.frombuffer(data, "<u2", offset=32).reshape(height, width)
    return levels % 64 == 0


def _read_heights(data: bytes, width: int, height: int) -> np.ndarray | None:
    """Terrain height [height, width] above the lowest ground, from the corners' heights in 1/256."""
    corners = (height + 1) * (width + 1)
    if data[:4] != b"SMAP" or len(data) < 4 * corners:
        return None
    grid = np.frombuffer(data, "<u2", offset=len(data) - 4 * corners).reshape(height + 1, width + 1, 2)[..., 0]
    cells = (grid[:-1, :-1].astype(np.float32) + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / (4 * 256)
    return cells - cells.min()


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
            units.append(PlacedUnit(name=item.attrib["UnitType"], owner=number, position=(x, y)))
    return tuple(starts), tuple(units)
