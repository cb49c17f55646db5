"""Unit statistics: the data file, a scenario's overrides, and the tables that the engine reads."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from envs.engine import state as st
from envs.engine.state import MapSpec, Static

L = float(st.LOOPS_PER_SECOND)


@cache
def unit_data() -> dict[str, dict[str, Any]]:
    """All units of the data file by name, times in Normal seconds."""
    text = resources.files("envs").joinpath("data/units.toml").read_text()
    return {name: entry for name, entry in tomllib.loads(text).items() if "unit_type" in entry}


class Rules:
    """The unit kinds and the map of a scenario as the engine's tables.

    `units`: names of the data file, or pairs (name, overrides) with overrides such as `{"health": 80}`; the n-th becomes
    kind n. `kind` maps a unit's name to its kind.
    """

    def __init__(
        self,
        units: Iterable[str | tuple[str, Mapping[str, Any]]],
        map_spec: MapSpec = MapSpec(),
        players: int = 2,
    ) -> None:
        self.map_spec = map_spec
        self.players = players
        self.entries: list[dict[str, Any]] = []
        self.kind: dict[str, int] = {}
        data = unit_data()
        for unit in units:
            name, overrides = (unit, {}) if isinstance(unit, str) else unit
            if name not in data:
                raise ValueError(f"unknown unit {name!r}; the data file has {', '.join(sorted(data))}")
            self.kind[name] = len(self.entries)
            self.entries.append({"name": name, **data[name], **overrides})
        self.static = _tables(self.entries, map_spec, players)


def _tables(entries: list[dict[str, Any]], spec: MapSpec, players: int) -> Static:
    n = len(entries)
    kf = np.zeros((n, st.NUM_KIND_FLOATS), np.float32)
    ki = np.zeros((n, st.NUM_KIND_INTS), np.int32)
    wf = np.zeros((n, st.MAX_WEAPONS, st.NUM_WEAPON_FLOATS), np.float32)
    wi = np.zeros((n, st.MAX_WEAPONS, st.NUM_WEAPON_INTS), np.int32)
    damage = np.zeros((n, st.MAX_WEAPONS, n), np.float32)
    for k, e in enumerate(entries):
        kf[k, st.K_HEALTH] = e["health"]
        kf[k, st.K_SHIELD] = e.get("shield", 0)
        kf[k, st.K_ARMOR] = e.get("armor", 0)
        kf[k, st.K_RADIUS] = e["radius"]
        kf[k, st.K_INNER_RADIUS] = e.get("inner_radius", e["radius"])
        kf[k, st.K_SPEED] = e.get("speed", 0) / L
        turn = min(math.radians(e.get("turn_rate", 999.84)) / L, math.pi)
        kf[k, st.K_TURN_COS], kf[k, st.K_TURN_SIN] = math.cos(turn), math.sin(turn)
        kf[k, st.K_SIGHT] = e["sight"]
        kf[k, st.K_SHIELD_REGEN] = e.get("shield_regen", 2.0 if "shield" in e else 0.0) / L
        kf[k, st.K_SHIELD_REGEN_DELAY] = 10 * L
        kf[k, st.K_HEALTH_REGEN] = e.get("health_regen", 0) / L
        weapons = e.get("weapons", [])
        kf[k, st.K_SCAN_RANGE] = max([5.0] + [w["range"] for w in weapons])
        ki[k, st.KI_UNIT_TYPE] = e["unit_type"]
        ki[k, st.KI_PRIORITY] = e.get("priority", 20)
        ki[k, st.KI_WEAPONS] = len(weapons)
        ki[k, st.KI_CHANGES_TO] = -1
        ki[k, st.KI_REGENERATES] = int(kf[k, st.K_SHIELD_REGEN] > 0 or kf[k, st.K_HEALTH_REGEN] > 0)
        for w, weapon in enumerate(weapons):
            wf[k, w, st.WF_RANGE] = weapon["range"]
            wf[k, w, st.WF_COOLDOWN] = weapon["cooldown"] * L
            wf[k, w, st.WF_DAMAGE_POINT] = weapon.get("damage_point", 0) * L
            wi[k, w, st.WI_TARGETS] = {"ground": 1, "air": 2, "any": 3}[weapon["targets"]]
            wi[k, w, st.WI_ATTACKS] = weapon.get("attacks", 1)
            for d, defender in enumerate(entries):
                bonus = sum(v for a, v in weapon.get("bonus", {}).items() if a in defender["attributes"])
                damage[k, w, d] = weapon["damage"] + bonus
    enemies = np.zeros(st.MAX_OWNERS, np.int32)
    for p in range(1, players + 1):
        enemies[p] = sum(1 << q for q in range(1, players + 1) if q != p)
    options = np.zeros(st.NUM_OPTIONS, np.int32)
    options[st.O_PLAYERS] = players
    options[st.O_FOG] = spec.fog
    shape = (spec.height, spec.width)
    return Static(
        kind_f=kf,
        kind_i=ki,
        weapon_f=wf,
        weapon_i=wi,
        damage=damage,
        enemies=enemies,
        options=options,
        bounds=np.array(spec.bounds or (0, 0, spec.width, spec.height), np.float32),
        pathable=np.ones(shape, np.uint8) if spec.pathable is None else np.ascontiguousarray(spec.pathable, np.uint8),
        terrain=np.zeros(shape, np.float32) if spec.terrain is None else np.ascontiguousarray(spec.terrain, np.float32),
    )
