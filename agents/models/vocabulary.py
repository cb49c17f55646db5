"""What the numbers in observations, actions and weights stand for, and how weights move to another vocabulary.

Rows of embeddings, columns of input layers and outputs of action heads stand for entries of tables: unit types,
features, orders, functions. A table may grow, and its order may change. So weights are saved with the entries that they
stand for. Loading puts them where these entries are now:

* An entry that both know keeps its numbers, wherever it stands.
* An entry that the weights do not know starts at zero: a new input changes no output, a new order has logit 0. A new
  unit type starts as a copy of the embedding that unknown types share: the weights gave it that one before.
* An entry that only the weights know is refused by its name: what was learnt about it cannot be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from agents.configuration import ConfigError

Entry = int | str
Tables = dict[str, tuple[Entry, ...]]
"""Entries of each table in their order, by the table's name."""

# The first row of the table of unit types: what all types share that the vocabulary does not list.
UNKNOWN_TYPE = "unknown"
# Not a table of its own: the names of the unit types, for messages.
UNIT_NAMES = "unit_names"
_TITLES = {
    "unit_types": "unit type",
    "unit_data": "unit data",
    "entity_inputs": "entity input",
    "entity_features": "entity feature",
    "scalars": "scalar",
    "orders": "order",
    "targeted_orders": "order with a target",
    "target_classes": "target class",
    "smac_actions": "SMAC action",
    "functions": "function",
    "point_grid": "grid of target points",
}


class NamedAxis(NamedTuple):
    """Says what the entries along one axis of a parameter stand for.

    axis: the axis. table: name of the table. entries: its E entries in order; each has (length of the axis) / E
    neighbouring places. new: the entry that an entry unknown to loaded weights is copied from; None for zeros.
    """

    axis: int
    table: str
    entries: tuple[Entry, ...]
    new: Entry | None = None


@dataclass(frozen=True, kw_only=True)
class EntityVocabulary:
    """What the columns of an entity array mean: the names, and the unit types with their static data.

    features: names of the F columns of `entities`.
    unit_types: the game's type ids that have an embedding of their own; any other id shares one for unknown types.
    unit_names: their names, for messages.
    static_names: names of the S columns of `static`.
    static: float32 [len(unit_types), S], constant data of each type (speed, range, damage...), scaled to about [-1, 1].
    """

    features: tuple[str, ...]
    unit_types: tuple[int, ...]
    unit_names: tuple[str, ...]
    static_names: tuple[str, ...]
    static: np.ndarray

    def __post_init__(self) -> None:
        for title, entries in (
            ("feature", self.features),
            ("unit type", self.unit_types),
            ("static column", self.static_names),
        ):
            _check_unique(title, entries)
        if self.static.shape != (len(self.unit_types), len(self.static_names)):
            raise ValueError(
                f"static has shape {self.static.shape}, expected {len(self.unit_types)} unit types by "
                f"{len(self.static_names)} columns"
            )

    def column(self, name: str) -> int:
        """The column called `name`; raises ValueError where there is none."""
        if name not in self.features:
            raise ValueError(f"entities lack the column {name!r}, which the agent needs; they have {self.features}")
        return self.features.index(name)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What the numbers in observations and actions mean.

    scalars: names of the S columns of `scalars`.
    orders: names of the K orders of view "unit".
    order_target_class: int [K], -1 or the class of targets that each order takes.
    target_classes: names of the classes of targets.
    smac_actions: names of the actions of view "smac" that come before those with a target.
    functions: names of the Fn functions of view "function".
    function_takes: bool [Fn, 4], whether each function takes (queued, units, a target unit, a point).
    """

    entities: EntityVocabulary
    scalars: tuple[str, ...]
    orders: tuple[str, ...]
    order_target_class: np.ndarray
    target_classes: tuple[str, ...]
    smac_actions: tuple[str, ...]
    functions: tuple[str, ...]
    function_takes: np.ndarray

    def __post_init__(self) -> None:
        for name in ("scalars", "orders", "target_classes", "smac_actions", "functions"):
            _check_unique(name.removesuffix("s"), getattr(self, name))
        if len(self.order_target_class) != len(self.orders) or len(self.function_takes) != len(self.functions):
            raise ValueError(
                f"{len(self.orders)} orders and {len(self.functions)} functions are named, but the tables of what they "
                f"take have {len(self.order_target_class)} and {len(self.function_takes)} rows"
            )

    def tables(self) -> Tables:
        """The tables that recorded observations and actions are indexed by."""
        return {
            "entity_features": self.entities.features,
            "scalars": self.scalars,
            "orders": self.orders,
            "target_classes": self.target_classes,
            "smac_actions": self.smac_actions,
            "functions": self.functions,
        }


def _check_unique(title: str, entries: tuple[Entry, ...]) -> None:
    twice = sorted({str(entry) for entry in entries if entries.count(entry) > 1})
    if twice:
        raise ValueError(f"{title} {', '.join(twice)} is listed twice in the vocabulary: each needs a row of its own")


def same_tables(axes: Mapping[str, NamedAxis], saved: Tables) -> bool:
    """Whether weights with the tables `saved` fit `axes` as they are."""
    return all(saved.get(axis.table) == axis.entries for axis in axes.values())


def check_tables(saved: Tables, present: Tables, source: str) -> None:
    """Raises `ConfigError` if a table of `saved` has an entry that the table of that name lacks in `present`."""
    for table, now in present.items():
        _refuse_lost(table, entries_of(saved, table, source), now, saved, source)


def map_weights(
    weights: Mapping[str, np.ndarray],
    saved: Tables,
    axes: Mapping[str, NamedAxis],
    source: str,
    *,
    copy_new: bool = True,
) -> dict[str, np.ndarray]:
    """Weights that were saved with the tables `saved`, for a network whose parameters have the axes `axes`.

    copy_new: False fills every new entry with zeros (state of an optimizer). source: where the weights come from, for
    the message. Raises `ConfigError` for entries that the network lacks, by name.
    """
    mapped = dict(weights)
    for name, axis in axes.items():
        if name in mapped:
            before = entries_of(saved, axis.table, source)
            _refuse_lost(axis.table, before, axis.entries, saved, source)
            mapped[name] = _map_axis(mapped[name], axis, before, axis.new if copy_new else None, name, source)
    return mapped


def map_axis(array: np.ndarray, axis: int, table: str, saved: Tables, present: Tables, source: str) -> np.ndarray:
    """A recorded array whose `axis` runs over a table, put into the present order; new entries are zero.

    What the axis has beyond the table's entries stays behind them (SMAC's targets). Raises `ConfigError` as
    `map_weights`.
    """
    before, now = entries_of(saved, table, source), present[table]
    if before == now:
        return array
    _refuse_lost(table, before, now, saved, source)
    moved = np.moveaxis(array, axis, 0)
    result = np.zeros((len(moved) - len(before) + len(now), *moved.shape[1:]), dtype=array.dtype)
    result[[now.index(entry) for entry in before]] = moved[: len(before)]
    result[len(now) :] = moved[len(before) :]
    return np.moveaxis(result, 0, axis)


def map_values(array: np.ndarray, table: str, saved: Tables, present: Tables, source: str) -> np.ndarray:
    """A recorded array whose values are indices into a table, with the present indices; larger values stay behind."""
    before, now = entries_of(saved, table, source), present[table]
    if before == now:
        return array
    _refuse_lost(table, before, now, saved, source)
    place = np.array([now.index(entry) for entry in before])
    inside = array < len(before)
    moved = np.where(inside, place[np.where(inside, array, 0)], array - len(before) + len(now))
    return moved.astype(array.dtype)


def entries_of(saved: Tables, table: str, source: str) -> tuple[Entry, ...]:
    """The entries of a saved table. Raises `ConfigError` where it was not saved."""
    if table not in saved:
        raise ConfigError(f"{source} does not say which {_title(table)} its numbers stand for (no table {table!r})")
    return saved[table]


def tables_to_json(tables: Tables) -> dict[str, list[Entry]]:
    return {name: list(entries) for name, entries in tables.items()}


def tables_from_json(content: Mapping[str, Any]) -> Tables:
    return {name: tuple(entries) for name, entries in content.items()}


def _title(table: str) -> str:
    return _TITLES.get(table, f"entry of {table!r}")


def _refuse_lost(table: str, before: tuple[Entry, ...], now: Collection[Entry], saved: Tables, source: str) -> None:
    lost = [entry for entry in before if entry not in now]
    if not lost:
        return
    names: dict[Entry, Entry] = {}
    if table == "unit_types":
        names = dict(zip((entry for entry in before if entry != UNKNOWN_TYPE), saved.get(UNIT_NAMES, ()), strict=False))
    told = ", ".join(f"{names[entry]} ({entry})" if entry in names else str(entry) for entry in lost)
    raise ConfigError(
        f"{source} knows the {_title(table)} {told}, which this version lacks, so what was learnt about it cannot be "
        "kept. Add it to the table again, or use the version that wrote it."
    )


def _map_axis(
    array: np.ndarray, axis: NamedAxis, before: tuple[Entry, ...], new: Entry | None, name: str, source: str
) -> np.ndarray:
    if before == axis.entries:
        return array
    length = array.shape[axis.axis] if axis.axis < array.ndim else 0
    if length % len(before) or not length:
        raise ConfigError(
            f"{source}: tensor {name!r} has shape {array.shape}, which does not fit its table of {len(before)} entries "
            f"{axis.table!r}"
        )
    moved = np.moveaxis(array, axis.axis, 0)
    blocks = moved.reshape(len(before), length // len(before), *moved.shape[1:])
    result = np.zeros((len(axis.entries), *blocks.shape[1:]), dtype=array.dtype)
    if new is not None:
        result[:] = blocks[before.index(new)]
    result[[axis.entries.index(entry) for entry in before]] = blocks
    return np.ascontiguousarray(np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis.axis))


def simulator_vocabulary() -> Vocabulary:
    """The vocabulary of the simulator's observations and actions."""
    # Imported here, so that a network for a vocabulary of one's own needs no simulator.
    from envs.actions import FUNCTIONS, ORDER_TARGET_CLASS, SMAC_MOVES, TARGET_CLASSES, UNIT_ORDERS
    from envs.scenarios.units import unit_data
    from envs.views.observation import ENTITY_FEATURES, SCALARS

    units = unit_data()
    static = [static_data(unit) for unit in units.values()]
    entities = EntityVocabulary(
        features=tuple(ENTITY_FEATURES),
        unit_types=tuple(unit["unit_type"] for unit in units.values()),
        unit_names=tuple(units),
        static_names=tuple(static[0]),
        static=np.array([list(data.values()) for data in static], dtype=np.float32),
    )
    takes = np.array([(f.takes_queued, f.takes_selection, f.takes_unit, f.takes_point) for f in FUNCTIONS])
    return Vocabulary(
        entities=entities,
        scalars=tuple(SCALARS),
        orders=tuple(UNIT_ORDERS),
        order_target_class=ORDER_TARGET_CLASS,
        target_classes=tuple(TARGET_CLASSES),
        smac_actions=("no_op", "stop", *(f"move_{direction}" for direction in SMAC_MOVES)),
        functions=tuple(function.name for function in FUNCTIONS),
        function_takes=takes,
    )


_ATTRIBUTES = ("light", "armored", "biological", "mechanical", "massive", "structure")


def static_data(unit: Mapping[str, Any]) -> dict[str, float]:
    """Constant data of a unit type by name, each number divided by a typical large value."""
    weapons = unit.get("weapons", [])
    damage_per_second = max((w["damage"] * w.get("attacks", 1) / w["cooldown"] for w in weapons), default=0.0)
    return {
        "health": unit["health"] / 100.0,
        "shield": unit.get("shield", 0) / 100.0,
        "armor": unit.get("armor", 0) / 2.0,
        "speed": unit.get("speed", 0) / 4.0,
        "sight": unit["sight"] / 10.0,
        "range": max((w["range"] for w in weapons), default=0.0) / 6.0,
        "damage_per_second": damage_per_second / 20.0,
        "shoots_ground": float(any(w["targets"] in ("ground", "any") for w in weapons)),
        "shoots_air": float(any(w["targets"] in ("air", "any") for w in weapons)),
        **{f"is_{attribute}": float(attribute in unit["attributes"]) for attribute in _ATTRIBUTES},
    }
