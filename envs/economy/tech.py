"""The data file, and the tables that it gives for a set of unit kinds. Every number has its source there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from envs.economy.tables import (
    BUILDING,
    CONSUMED,
    GAS,
    GEYSER,
    HALL,
    MINERALS,
    NUM_HARVEST,
    NUM_TECH_FLOATS,
    NUM_TECH_INTS,
    QUEUE_PLACES,
    WORKER,
    X_ABILITY,
    X_BUFF_MINERALS,
    X_BUFF_VESPENE,
    X_BUILDS,
    X_GATHER,
    X_HEIGHT,
    X_MAKER,
    X_MINERALS,
    X_POWERED,
    X_PROVIDES,
    X_RALLY,
    X_REQUIRES,
    X_RETURN,
    X_ROLE,
    X_TIME,
    X_VESPENE,
    X_WIDTH,
    XF_POWER_RADIUS,
    XF_SUPPLY,
    Tech,
)
from envs.engine.state.layout import LOOPS_PER_SECOND
from envs.scenarios.units import Rules


@cache
def economy_data() -> dict[str, Any]:
    """The data file."""
    text = resources.files(__package__).joinpath("data/economy.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def source_of(table: str, name: str, key: str) -> str:
    """The source of one value in words: `source_of("trained", "Marine", "time")`."""
    data = economy_data()
    entry_ = data[table][name] if name else data[table]
    word = entry_.get("sources", {}).get(key, entry_["source"])
    return str(data["sources"][word])


def make_tech(rules: Rules) -> Tech:
    """The tables for the kinds of `rules`; kinds that the economy does not know are PLAIN."""
    data = economy_data()
    kinds = rules.kind
    count = len(rules.entries)
    i = np.zeros((count, NUM_TECH_INTS), np.int32)
    f = np.zeros((count, NUM_TECH_FLOATS), np.float32)
    i[:, X_MAKER] = i[:, X_REQUIRES] = -1
    for kind, unit in enumerate(rules.entries):
        cost = unit["cost"]
        i[kind, X_MINERALS], i[kind, X_VESPENE] = int(cost.get("minerals", 0)), int(cost.get("vespene", 0))
        f[kind, XF_SUPPLY] = max(cost.get("supply", 0), 0)
    for name, worker in data["worker"].items():
        if name in kinds:
            row = i[kinds[name]]
            row[X_ROLE] = WORKER
            row[X_GATHER], row[X_RETURN] = worker["gather"], worker["return"]
            row[X_BUFF_MINERALS], row[X_BUFF_VESPENE] = worker["carries_minerals"], worker["carries_vespene"]
            row[X_BUILDS] = ("stays", "leaves", "consumed").index(worker["builds"])
    for name, trained in data["trained"].items():
        if name in kinds and trained["at"] in kinds:
            _product(i[kinds[name]], trained, kinds[trained["at"]])
    for name, building in data["building"].items():
        if name not in kinds:
            continue
        kind = kinds[name]
        row = i[kind]
        _product(row, building, kinds.get(building["by"], -1))
        row[X_ROLE] = HALL if building.get("hall") else GAS if building.get("gas") else BUILDING
        row[X_WIDTH], row[X_HEIGHT] = building["footprint"]
        row[X_PROVIDES] = building.get("supply", 0)
        row[X_REQUIRES] = kinds.get(building.get("requires", ""), -1)
        row[X_POWERED] = building.get("power", False)
        row[X_RALLY] = building.get("rally", 0)
        f[kind, XF_POWER_RADIUS] = building.get("power_radius", 0)
        if building["by"] in kinds and row[X_MAKER] >= 0 and i[row[X_MAKER], X_BUILDS] == CONSUMED:
            # The catalog's cost holds that of the worker.
            row[X_MINERALS] -= i[row[X_MAKER], X_MINERALS]
    for name, role in (("MineralField", MINERALS), ("VespeneGeyser", GEYSER)):
        if name in kinds:
            i[kinds[name], X_ROLE] = role
            i[kinds[name], X_WIDTH], i[kinds[name], X_HEIGHT] = data["resource"][name]["footprint"]
    harvest = np.zeros((2, NUM_HARVEST), np.float32)
    for n, name in enumerate(("minerals", "vespene")):
        table = data["harvest"][name]
        harvest[n] = (
            table["amount"],
            round(table["time"] * LOOPS_PER_SECOND),
            round(table["delay"] * LOOPS_PER_SECOND),
            table["contents"],
            table["search"],
            table["workers"],
        )
    table = data["limits"]
    if table["queue"] > QUEUE_PLACES:
        raise ValueError(f"economy.toml: limits.queue is {table['queue']}, at most {QUEUE_PLACES}")
    limits = [table[key] for key in ("supply", "queue", "near_resources", "unfinished_health", "refund")]
    return Tech(i=i, f=f, harvest=harvest, limits=np.array(limits, np.float32))


def _product(row: np.ndarray, table: Mapping[str, Any], maker: int) -> None:
    row[X_MAKER], row[X_ABILITY] = maker, table["ability"]
    row[X_TIME] = round(table["time"] * LOOPS_PER_SECOND)
