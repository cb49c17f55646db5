"""What the simulator tells its clients of units and abilities, beside what the game tells them.

Both sides are answers to the protocol's `data` request; radii are those of first observations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from s2clientprotocol import common_pb2, data_pb2

from envs.fidelity.figures import radii
from envs.fidelity.games import joined
from envs.fidelity.verdicts import Figure, Row, exactly
from envs.protocol.recorded import RecordedAbility, recorded_abilities, recorded_units
from envs.scenarios.units import unit_data

RACES = {0: "none", 1: "terran", 2: "zerg", 3: "protoss"}
TARGETS = {1: "ground", 2: "air", 3: "any"}
# The game's answers are float32 with a resolution of 1/4096.
TOLERANCE = 2e-3
START_MAP = "Simple64"


def told_unit(unit: data_pb2.UnitTypeData) -> dict[str, Any]:
    """A unit of a `data` answer under the names of `recorded_units`."""
    return {
        "name": unit.name,
        "race": RACES[unit.race],
        "minerals": unit.mineral_cost,
        "vespene": unit.vespene_cost,
        "food_required": unit.food_required,
        "food_provided": unit.food_provided,
        "build_time_loops": unit.build_time,
        "ability_id": unit.ability_id,
        "sight": unit.sight_range,
        "speed": unit.movement_speed,
        "armor": unit.armor,
        "attributes": sorted(_attribute(number) for number in unit.attributes),
        "weapons": [
            {
                "targets": TARGETS[weapon.type],
                "damage": weapon.damage,
                "attacks": weapon.attacks,
                "range": weapon.range,
                "cooldown": weapon.speed,
                "bonus": {_attribute(bonus.attribute): bonus.bonus for bonus in weapon.damage_bonus},
            }
            for weapon in unit.weapons
        ],
        "cargo_size": unit.cargo_size,
        "tech_requirement": unit.tech_requirement,
        "unit_alias": unit.unit_alias,
        "tech_alias": list(unit.tech_alias),
        "require_attached": unit.require_attached,
        "has_minerals": unit.has_minerals,
        "has_vespene": unit.has_vespene,
    }


def _attribute(number: int) -> str:
    return str(data_pb2.Attribute.Name(number)).lower()  # type: ignore[arg-type]


def same(ours: Any, real: Any) -> bool:
    """Whether two values of a catalogue are equal to within the precision of its answers."""
    if isinstance(real, Mapping):
        return set(ours) == set(real) and all(same(ours[key], real[key]) for key in real)
    if isinstance(real, list | tuple):
        return len(ours) == len(real) and all(same(a, b) for a, b in zip(ours, real, strict=True))
    if isinstance(real, float | int) and not isinstance(real, bool):
        return math.isclose(ours, real, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(ours == real)


def unit_rows() -> Iterator[Row]:
    """A row a unit that the simulator has and the game's catalogue knows: how many of its fields are equal."""
    with joined(START_MAP) as controller:
        told = {unit.unit_id: unit for unit in controller.data_raw(unit_type_id=True).units}
    recorded = recorded_units()
    for name, entry in unit_data().items():
        real = recorded.get(entry["unit_type"])
        if real is None:
            continue
        real = {**real, "attributes": sorted(real["attributes"])}
        ours = told_unit(told[entry["unit_type"]])
        wrong = [key for key in real if not same(ours[key], real[key])]
        note = "; ".join(f"{key} is {_short(ours[key])}, not {_short(real[key])}" for key in wrong)
        yield _count_row("units", name, len(real), len(wrong), note)


def ability_rows() -> Iterator[Row]:
    """A row a field of the abilities that the game's catalogue and the simulator have: for how many it is equal."""
    with joined(START_MAP) as controller:
        told = {ability.ability_id: ability for ability in controller.data_raw(ability_id=True).abilities}
    recorded = recorded_abilities()
    for place, key in enumerate(RecordedAbility._fields):
        wrong = [n for n, real in recorded.items() if n not in told or not same(getattr(told[n], key), real[place])]
        note = f"ids {', '.join(map(str, wrong[:8]))}{' ...' if len(wrong) > 8 else ''}" if wrong else ""
        yield _count_row("abilities", key, len(recorded), len(wrong), note)


def radius_rows() -> Iterator[Row]:
    """A row a unit type of first observations that the simulator has."""
    seen: dict[int, float] = {}
    for race in (common_pb2.Terran, common_pb2.Zerg, common_pb2.Protoss):
        with joined(START_MAP, race=race) as controller:
            for unit in controller.observe().observation.raw_data.units:
                seen[unit.unit_type] = unit.radius
    for unit_type, (name, radius) in radii().items():
        if unit_type in seen:
            band, rule = exactly(radius, TOLERANCE)
            yield Row("radii", name, "world units", Figure(radius), Figure(seen[unit_type]), band, rule)


def _count_row(group: str, name: str, count: int, wrong: int, note: str) -> Row:
    band, rule = exactly(count)
    return Row(group, name, "fields equal", Figure(count), Figure(count - wrong), band, rule, note)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_short(part) for part in value)}]"
    if isinstance(value, dict):
        return "/".join(_short(part) for part in value.values() if part != {})
    return f"{value:g}" if isinstance(value, float) else str(value)
