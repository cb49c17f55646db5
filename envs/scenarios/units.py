"""Unit statistics: the data file, a scenario's overrides, and the tables that the engine reads.

`data/units.toml` holds the units under the game's own names and type ids, each value with its source (`source_of`).
`Rules` turns a list of units and a map into `Static`, the arrays that the engine's kernels take.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from envs.engine.state import layout as st
from envs.engine.state.layout import Static
from envs.engine.state.maps import MapSpec

LOOPS = float(st.LOOPS_PER_SECOND)
MAX_KINDS = 256

DEFAULTS: dict[str, Any] = {
    "attributes": [],
    "plane": "ground",
    "shield": 0,
    "energy": 0,
    "energy_start": 0,
    "energy_regen": 0,
    "armor": 0,
    "shield_armor": 0,
    "health_regen": 0,
    "health_regen_delay": 0,
    "shield_regen": 2.0,
    "shield_regen_delay": 10.0,
    "speed": 0,
    "acceleration": 0,
    "turn_rate": 720,
    "height": 0,
    "burrowed": False,
    "cloaked": False,
    "invulnerable": False,
    "obedient": False,
    "detector": 0,
    "heal": None,
    "stim": None,
    "blink": None,
    "changes_to": None,
    "change_time": 0,
    "abilities": {},
    "weapons": [],
    "cost": {},
    "sources": {},
}
REQUIRED = ("unit_type", "race", "health", "radius", "inner_radius", "sight", "priority", "source")
WEAPON_DEFAULTS: dict[str, Any] = {
    "attacks": 1,
    "bonus": {},
    "min_range": 0,
    "damage_point": 0.167,
    "scan_range": 5,
    "projectile_speed": 0,
    "splash": None,
    "bounces": None,
    "suicide": False,
    "melee": False,
    "turret": False,
    "fires_moving": False,
}
WEAPON_REQUIRED = ("name", "targets", "damage", "range", "cooldown")
PLANES = {"ground": st.TARGET_GROUND, "air": st.TARGET_AIR, "any": st.TARGET_GROUND | st.TARGET_AIR}
SPLASHES = {
    "circle": st.SPLASH_CIRCLE,
    "burst": st.SPLASH_BURST,
    "cone": st.SPLASH_CONE,
    "line": st.SPLASH_LINE,
    "across": st.SPLASH_ACROSS,
}

# The game's ability ids of the orders that every unit has (general id, specific id); the rest are in the data file.
ORDER_ABILITIES = {
    st.ORDER_STOP: (3665, 4),
    st.ORDER_HOLD: (3793, 18),
    st.ORDER_MOVE: (3794, 16),
    st.ORDER_ATTACK_MOVE: (3674, 23),
    st.ORDER_ATTACK: (3674, 23),
    st.ORDER_PATROL: (3795, 17),
}
UNIT_ABILITIES = {
    st.ORDER_HEAL: "heal",
    st.ORDER_STIM: "stim",
    st.ORDER_BLINK: "blink",
    st.ORDER_SIEGE: "change",
}


@cache
def unit_data() -> dict[str, dict[str, Any]]:
    """All units of the data file by name, missing keys filled from `DEFAULTS`; times in Normal seconds."""
    raw = _data_file()
    units = {name: _checked(name, entry) for name, entry in raw.items() if name != "sources"}
    check_type_ids(units)
    return units


def check_type_ids(units: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError for two units with one type id: observations, replays and agents know units by it."""
    owner: dict[int, str] = {}
    for name, unit in units.items():
        other = owner.setdefault(unit["unit_type"], name)
        if other != name:
            raise ValueError(
                f"units {other!r} and {name!r} both have unit_type {unit['unit_type']}: give each the game's own id"
            )


@cache
def _data_file() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files(__package__).joinpath("data/units.toml").read_text(encoding="utf-8"))


def _checked(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    for key in REQUIRED:
        if key not in entry:
            raise ValueError(f"unit {name!r} lacks {key!r}")
    for key in entry:
        if key not in DEFAULTS and key not in REQUIRED:
            raise ValueError(f"unit {name!r} has an unknown key {key!r}; known: {', '.join([*REQUIRED, *DEFAULTS])}")
    unit = {**DEFAULTS, **entry}
    if unit["plane"] not in ("ground", "air", "colossus"):
        raise ValueError(f"unit {name!r}: plane is {unit['plane']!r}, expected 'ground', 'air' or 'colossus'")
    for attribute in unit["attributes"]:
        if attribute not in st.ATTRIBUTES:
            raise ValueError(f"unit {name!r} has an unknown attribute {attribute!r}; known: {', '.join(st.ATTRIBUTES)}")
    for key, low in (("health", 0), ("radius", 0)):
        if not unit[key] > low:
            raise ValueError(f"unit {name!r}: {key} is {unit[key]!r}, expected a number above {low}")
    for key in ("shield", "energy", "armor", "speed", "sight", "inner_radius", "acceleration"):
        if not unit[key] >= 0:
            raise ValueError(f"unit {name!r}: {key} is {unit[key]!r}, expected a number of at least 0")
    if len(unit["weapons"]) > st.MAX_WEAPONS:
        raise ValueError(f"unit {name!r} has {len(unit['weapons'])} weapons, at most {st.MAX_WEAPONS}")
    unit["weapons"] = [_checked_weapon(name, weapon) for weapon in unit["weapons"]]
    unit["name"] = name
    return unit


def _checked_weapon(unit: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    for key in WEAPON_REQUIRED:
        if key not in entry:
            raise ValueError(f"a weapon of unit {unit!r} lacks {key!r}")
    for key in entry:
        if key not in WEAPON_DEFAULTS and key not in WEAPON_REQUIRED:
            raise ValueError(f"weapon {entry['name']!r} of unit {unit!r} has an unknown key {key!r}")
    weapon = {**WEAPON_DEFAULTS, **entry}
    if weapon["targets"] not in PLANES:
        raise ValueError(f"weapon {weapon['name']!r} of unit {unit!r}: targets is {weapon['targets']!r}, not {PLANES}")
    if not weapon["cooldown"] * LOOPS > weapon["damage_point"] * LOOPS >= 0:
        raise ValueError(
            f"weapon {weapon['name']!r} of unit {unit!r}: needs cooldown {weapon['cooldown']} > "
            f"damage_point {weapon['damage_point']} >= 0"
        )
    if weapon["splash"] is not None and weapon["splash"].get("shape") not in SPLASHES:
        raise ValueError(
            f"weapon {weapon['name']!r} of unit {unit!r}: splash shape is {weapon['splash'].get('shape')!r}, "
            f"expected one of {', '.join(SPLASHES)}"
        )
    return weapon


def source_of(unit: str, key: str) -> str:
    """The source and patch of one value, in words: `source_of("Hydralisk", "health")`, `("Marine", "weapons")`.

    Keys that the data file leaves out are the game catalog's defaults and have the unit's source.
    """
    data = unit_data()
    if unit not in data:
        raise ValueError(_unknown(unit))
    entry = data[unit]
    words = _data_file()["sources"]
    name = entry["sources"].get(key, entry["source"])
    return str(words.get(name, name))


def _unknown(name: str) -> str:
    return f"unknown unit {name!r}; the data file has {', '.join(sorted(unit_data()))}"


class Rules:
    """The unit kinds and the map of a scenario as the engine's tables (`static`).

    `units`: names of the data file, or pairs (name, overrides); the n-th becomes kind n. Overrides are keys of the data
    file, e.g. `("Hydralisk", {"health": 80})`; the weapons' keys go into `"weapons": {0: {"damage": 12}}` or replace
    the list. An override `"label"` names the kind, so that one unit can have several kinds
    (`{"label": "Ally", "obedient": True}`). What a unit changes to (Siege mode, Burrow) is added when it is missing,
    after the units given.

    `kind[label]` is the kind of a unit, and `entries[kind]` its statistics. `ability[kind, order]` is the game's
    ability id of an order, 0 where the kind does not have it.
    """

    def __init__(
        self,
        units: Iterable[str | tuple[str, Mapping[str, Any]]],
        map_spec: MapSpec | None = None,
        players: int = 2,
    ) -> None:
        if not 1 <= players <= st.MAX_PLAYERS:
            raise ValueError(f"players is {players}, expected 1 to {st.MAX_PLAYERS}")
        self.map_spec = MapSpec() if map_spec is None else map_spec
        self.players = players
        self.entries: list[dict[str, Any]] = []
        self.kind: dict[str, int] = {}
        for unit in units:
            name, overrides = (unit, {}) if isinstance(unit, str) else unit
            self._add(name, overrides)
        if not self.entries:
            raise ValueError("units is empty, expected at least one unit name")
        for entry in list(self.entries):
            other = entry["changes_to"]
            if other is not None and other not in self.kind:
                self._add(other, {key: entry[key] for key in ("obedient",) if entry[key]})
        if len(self.entries) > MAX_KINDS:
            raise ValueError(f"{len(self.entries)} unit kinds, at most {MAX_KINDS}")
        self.static = _tables(self.entries, self.kind, self.map_spec, players)
        self.ability = np.zeros((len(self.entries), st.NUM_ORDERS), np.int32)
        for k, entry in enumerate(self.entries):
            for order, (_, specific) in ORDER_ABILITIES.items():
                moves = order in (st.ORDER_MOVE, st.ORDER_ATTACK_MOVE, st.ORDER_PATROL)
                if (entry["speed"] > 0 or not moves) and (entry["weapons"] or order != st.ORDER_ATTACK):
                    self.ability[k, order] = specific
            for order, word in UNIT_ABILITIES.items():
                self.ability[k, order] = entry["abilities"].get(word, 0)

    def _add(self, name: str, overrides: Mapping[str, Any]) -> None:
        data = unit_data()
        if name not in data:
            raise ValueError(_unknown(name))
        entry = {key: value for key, value in data[name].items() if key != "name"}
        changes = dict(overrides)
        label = str(changes.pop("label", name))
        weapons = changes.pop("weapons", None)
        if isinstance(weapons, Mapping):
            entry["weapons"] = [{**weapon, **weapons.get(n, {})} for n, weapon in enumerate(entry["weapons"])]
        elif weapons is not None:
            entry["weapons"] = list(weapons)
        if label in self.kind:
            raise ValueError(f"two unit kinds are called {label!r}; give one a `label` of its own")
        self.kind[label] = len(self.entries)
        self.entries.append({**_checked(name, {**entry, **changes}), "label": label})


def _tables(entries: list[dict[str, Any]], kinds: dict[str, int], spec: MapSpec, players: int) -> Static:
    n = len(entries)
    kf = np.zeros((n, st.NUM_KIND_FLOATS), np.float32)
    ki = np.zeros((n, st.NUM_KIND_INTS), np.int32)
    wf = np.zeros((n, st.MAX_WEAPONS, st.NUM_WEAPON_FLOATS), np.float32)
    wi = np.zeros((n, st.MAX_WEAPONS, st.NUM_WEAPON_INTS), np.int32)
    damage = np.zeros((n, st.MAX_WEAPONS, n), np.float32)
    for k, entry in enumerate(entries):
        kf[k], ki[k] = _kind_row(entry, kinds)
        for w, weapon in enumerate(entry["weapons"]):
            wf[k, w], wi[k, w] = _weapon_row(weapon)
            for d, defender in enumerate(entries):
                damage[k, w, d] = weapon["damage"] + sum(
                    bonus for attribute, bonus in weapon["bonus"].items() if attribute in defender["attributes"]
                )
    enemies = np.zeros(st.MAX_OWNERS, np.int32)
    for p in range(1, players + 1):
        enemies[p] = sum(1 << q for q in range(1, players + 1) if q != p)
    shape = (spec.height, spec.width)
    pathable = np.ones(shape, np.uint8) if spec.pathable is None else np.ascontiguousarray(spec.pathable, np.uint8)
    terrain = np.zeros(shape, np.float32) if spec.terrain is None else np.ascontiguousarray(spec.terrain, np.float32)
    options = np.zeros(st.NUM_OPTIONS, np.int32)
    options[st.O_PLAYERS] = players
    options[st.O_FOG] = spec.fog
    options[st.O_OBSTACLES] = not pathable.all()
    options[st.O_HIGH_GROUND] = spec.high_ground
    options[st.O_TERRAIN] = bool(terrain.any())
    return Static(
        kind_f=kf,
        kind_i=ki,
        weapon_f=wf,
        weapon_i=wi,
        damage=damage,
        enemies=enemies,
        options=options,
        bounds=np.array(spec.bounds or (0, 0, spec.width, spec.height), np.float32),
        pathable=pathable,
        terrain=terrain,
    )


def _kind_row(entry: dict[str, Any], kinds: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    f = np.zeros(st.NUM_KIND_FLOATS, np.float32)
    i = np.zeros(st.NUM_KIND_INTS, np.int32)
    weapons = entry["weapons"]
    turn = min(math.radians(entry["turn_rate"]) / LOOPS, math.pi)
    f[st.K_HEALTH] = entry["health"]
    f[st.K_SHIELD] = entry["shield"]
    f[st.K_ENERGY] = entry["energy"]
    f[st.K_ENERGY_START] = entry["energy_start"]
    f[st.K_ARMOR] = entry["armor"]
    f[st.K_SHIELD_ARMOR] = entry["shield_armor"]
    f[st.K_RADIUS] = entry["radius"]
    f[st.K_INNER_RADIUS] = entry["inner_radius"]
    f[st.K_SPEED] = entry["speed"] / LOOPS
    f[st.K_ACCELERATION] = entry["acceleration"] / LOOPS**2
    f[st.K_TURN_COS], f[st.K_TURN_SIN] = math.cos(turn), math.sin(turn)
    f[st.K_SIGHT] = entry["sight"]
    f[st.K_DETECTION] = entry["detector"]
    f[st.K_HEALTH_REGEN] = entry["health_regen"] / LOOPS
    f[st.K_HEALTH_REGEN_DELAY] = entry["health_regen_delay"] * LOOPS
    f[st.K_SHIELD_REGEN] = entry["shield_regen"] / LOOPS if entry["shield"] else 0
    f[st.K_SHIELD_REGEN_DELAY] = entry["shield_regen_delay"] * LOOPS
    f[st.K_ENERGY_REGEN] = entry["energy_regen"] / LOOPS
    f[st.K_HEIGHT] = entry["height"]
    f[st.K_CHANGE_TIME] = entry["change_time"] * LOOPS
    f[st.K_SCAN_RANGE] = max([0.0] + [max(weapon["range"], weapon["scan_range"]) for weapon in weapons])
    if entry["heal"]:
        f[st.K_HEAL_RATE] = entry["heal"]["rate"] / LOOPS
        f[st.K_HEAL_COST] = entry["heal"]["energy_per_health"]
        f[st.K_HEAL_RANGE] = entry["heal"]["range"]
        f[st.K_SCAN_RANGE] = max(f[st.K_SCAN_RANGE], entry["heal"]["scan_range"])
    if entry["stim"]:
        f[st.K_STIM_COST] = entry["stim"]["health_cost"]
        f[st.K_STIM_TIME] = entry["stim"]["duration"] * LOOPS
        f[st.K_STIM_FACTOR] = entry["stim"]["factor"]
    if entry["blink"]:
        f[st.K_BLINK_RANGE] = entry["blink"]["range"]
        f[st.K_BLINK_COOLDOWN] = entry["blink"]["cooldown"] * LOOPS
    flags = {
        st.FLAG_FLYING: entry["plane"] == "air",
        st.FLAG_COLOSSUS: entry["plane"] == "colossus",
        st.FLAG_STRUCTURE: "structure" in entry["attributes"],
        st.FLAG_BIOLOGICAL: "biological" in entry["attributes"],
        st.FLAG_BURROWED: entry["burrowed"],
        st.FLAG_CLOAKED: entry["cloaked"],
        st.FLAG_INVULNERABLE: entry["invulnerable"],
        st.FLAG_OBEDIENT: entry["obedient"],
        st.FLAG_DETECTOR: entry["detector"] > 0,
    }
    i[st.KI_UNIT_TYPE] = entry["unit_type"]
    i[st.KI_FLAGS] = sum(flag for flag, on in flags.items() if on)
    i[st.KI_ATTRIBUTES] = sum(1 << st.ATTRIBUTES.index(attribute) for attribute in entry["attributes"])
    i[st.KI_PRIORITY] = entry["priority"]
    i[st.KI_WEAPONS] = len(weapons)
    i[st.KI_TARGETS] = np.bitwise_or.reduce([0] + [PLANES[weapon["targets"]] for weapon in weapons])
    i[st.KI_CHANGES_TO] = kinds.get(entry["changes_to"], -1)
    i[st.KI_REGENERATES] = bool(f[st.K_SHIELD_REGEN] > 0 or f[st.K_HEALTH_REGEN] > 0 or f[st.K_ENERGY_REGEN] > 0)
    i[st.KI_EXPLODES] = any(weapon["suicide"] for weapon in weapons)
    return f, i


def _weapon_row(weapon: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    f = np.zeros(st.NUM_WEAPON_FLOATS, np.float32)
    i = np.zeros(st.NUM_WEAPON_INTS, np.int32)
    f[st.WF_RANGE] = weapon["range"]
    f[st.WF_MIN_RANGE] = weapon["min_range"]
    f[st.WF_COOLDOWN] = weapon["cooldown"] * LOOPS
    f[st.WF_DAMAGE_POINT] = weapon["damage_point"] * LOOPS
    f[st.WF_PROJECTILE_SPEED] = weapon["projectile_speed"] / LOOPS
    i[st.WI_TARGETS] = PLANES[weapon["targets"]]
    i[st.WI_ATTACKS] = weapon["attacks"]
    i[st.WI_SUICIDE] = weapon["suicide"]
    i[st.WI_MELEE] = weapon["melee"]
    i[st.WI_TURRET] = weapon["turret"]
    i[st.WI_FIRES_MOVING] = weapon["fires_moving"]
    splash = weapon["splash"]
    if splash:
        i[st.WI_SPLASH] = SPLASHES[splash["shape"]]
        i[st.WI_FRIENDLY_FIRE] = splash.get("friendly_fire", False)
        radii, fractions = splash.get("radii", []), splash.get("fractions", [])
        if len(radii) != len(fractions) or len(radii) > 3:
            raise ValueError(f"weapon {weapon['name']!r}: splash needs as many radii as fractions, at most 3: {splash}")
        for n, (radius, fraction) in enumerate(zip(radii, fractions, strict=True)):
            f[st.WF_SPLASH_1 + n], f[st.WF_FRACTION_1 + n] = radius, fraction
        f[st.WF_LINE_LENGTH] = splash.get("length", 0)
        f[st.WF_LINE_WIDTH] = splash.get("half_width", 0)
        f[st.WF_ARC_COS] = math.cos(math.radians(splash.get("arc", 360)) / 2)
    if weapon["bounces"]:
        i[st.WI_BOUNCES] = weapon["bounces"]["count"]
        f[st.WF_BOUNCE_RANGE] = weapon["bounces"]["range"]
        f[st.WF_BOUNCE_FRACTION] = weapon["bounces"]["fraction"]
    return f, i
