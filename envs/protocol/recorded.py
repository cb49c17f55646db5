"""The game's catalogue as the game itself told it: units, abilities, upgrades and effects of patch 4.10.

`data/sources.toml` says where each file comes from. Nothing here is derived from the simulator's own data files, so
that the two can be compared.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeVar, get_type_hints

Row = TypeVar("Row")
FOLDER = resources.files(__package__).joinpath("data")
# Keys that a unit lacks where they are zero or empty.
OPTIONAL_UNIT_FIELDS: dict[str, Any] = {
    "cargo_size": 0,
    "tech_requirement": 0,
    "unit_alias": 0,
    "tech_alias": [],
    "require_attached": False,
    "has_minerals": False,
    "has_vespene": False,
}


class RecordedAbility(NamedTuple):
    """An ability; `target` is the protocol's AbilityData.Target, lengths are in world units."""

    ability_id: int
    link_name: str
    link_index: int
    button_name: str
    friendly_name: str
    hotkey: str
    remaps_to_ability_id: int
    available: bool
    target: int
    allow_minimap: bool
    allow_autocast: bool
    is_building: bool
    footprint_radius: float
    is_instant_placement: bool
    cast_range: float


class RecordedUpgrade(NamedTuple):
    """An upgrade; its time in game loops."""

    upgrade_id: int
    name: str
    minerals: int
    vespene: int
    research_time_loops: float
    ability_id: int


class RecordedEffect(NamedTuple):
    """An effect; its radius in world units."""

    effect_id: int
    name: str
    radius: float


@cache
def recorded_units() -> dict[int, dict[str, Any]]:
    """Units by type id, each with all fields: speeds per Normal second, `build_time_loops` in game loops.

    `weapons` is a list of {targets, damage, attacks, range, cooldown, bonus}; cooldowns in Normal seconds.
    """
    units = json.loads(FOLDER.joinpath("units.json").read_text(encoding="utf-8"))
    return {int(key): {**OPTIONAL_UNIT_FIELDS, **unit} for key, unit in units.items()}


@cache
def recorded_abilities() -> dict[int, RecordedAbility]:
    """Abilities by id."""
    return {row.ability_id: row for row in _rows("abilities.csv", RecordedAbility)}


@cache
def recorded_upgrades() -> dict[int, RecordedUpgrade]:
    """Upgrades by id."""
    return {row.upgrade_id: row for row in _rows("upgrades.csv", RecordedUpgrade)}


@cache
def recorded_effects() -> dict[int, RecordedEffect]:
    """Effects by id."""
    return {row.effect_id: row for row in _rows("effects.csv", RecordedEffect)}


def _rows(name: str, row_type: Callable[..., Row]) -> Iterator[Row]:
    types = get_type_hints(row_type)
    with FOLDER.joinpath(name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row_type(*(_typed(word, types[key]) for key, word in row.items()))


def _typed(word: str, kind: type) -> Any:
    if kind is bool:
        return word == "1"
    return kind(word) if word else kind()
