"""What SMAC knows of a map before it starts: numbers of units, races, type bits, time limit."""

from __future__ import annotations

from dataclasses import dataclass

from envs.scenarios.scenario import Scenario, load_scenario, scenario_names
from envs.scenarios.units import unit_data

# Of `StarCraft2Env.unit_max_cooldown` and `unit_max_shield` (SMAC's repository, smac/env/starcraft2/starcraft2.py).
MAX_COOLDOWN = {
    "Marine": 15.0,
    "Marauder": 25.0,
    "Medivac": 200.0,  # its energy
    "Stalker": 35.0,
    "Zealot": 22.0,
    "Colossus": 24.0,
    "Hydralisk": 10.0,
    "Zergling": 11.0,
    "Baneling": 1.0,
}
OTHER_MAX_COOLDOWN = 15.0
MAX_SHIELD = {"Stalker": 80.0, "Zealot": 50.0, "Colossus": 150.0}
_RACE_LETTERS = {"terran": "T", "zerg": "Z", "protoss": "P"}


@dataclass(frozen=True, kw_only=True)
class MapParameters:
    """SMAC's map parameters, read off the scenario.

    Attributes:
        scenario: the map.
        n_agents, n_enemies: units of each side.
        limit: steps of an episode.
        a_race, b_race: T, Z or P, of the agents and of the enemies.
        unit_type_bits: length of the one-hot type in observations and state; 0 where a side has one type.
        ally_bits, enemy_bits: place of each type in it, by unit type name.
        healers: types that heal allies instead of attacking enemies.
    """

    scenario: Scenario
    n_agents: int
    n_enemies: int
    limit: int
    a_race: str
    b_race: str
    unit_type_bits: int
    ally_bits: dict[str, int]
    enemy_bits: dict[str, int]
    healers: frozenset[str]


def map_parameters(name: str) -> MapParameters:
    """The parameters of a map by its name, or of a user's scenario file by its path.

    Raises:
        ValueError: a mini-game, or a map of SMACv2.
        ScenarioError: an unknown name, or a faulty file.
    """
    scenario = load_scenario(name)
    if scenario.random_teams is not None:
        raise ValueError(
            f"map_name is {name!r}, whose teams are random as in SMACv2; SMAC's own maps have fixed teams: "
            f"{', '.join(smac_map_names())}"
        )
    if scenario.rules != "battle":
        raise ValueError(f"map_name is {name!r}, a mini-game; SMAC's maps are battles: {', '.join(smac_map_names())}")
    own, enemy = ([unit.unit_type for unit in team.units] for team in scenario.teams)
    types = sorted(set(own))
    ally_bits = {unit_type: bit for bit, unit_type in enumerate(types)}
    bits = len(types) if len(types) > 1 else 0
    enemy_bits = ally_bits | {
        unit_type: len(types) + bit for bit, unit_type in enumerate(sorted(set(enemy) - set(types)))
    }
    if bits and max(enemy_bits.values()) >= bits:
        bits = max(enemy_bits.values()) + 1
    if bits and set(types) == {"Stalker", "Zealot"} == set(enemy):
        # SMAC numbers the enemies of these maps from the Zealot's type id on, the agents by name.
        enemy_bits = {"Zealot": 0, "Stalker": 1}
    data = unit_data()
    return MapParameters(
        scenario=scenario,
        n_agents=len(own),
        n_enemies=len(enemy),
        limit=scenario.step_limit,
        a_race=_RACE_LETTERS[data[own[0]]["race"]],
        b_race=_RACE_LETTERS[data[enemy[0]]["race"]],
        unit_type_bits=bits,
        ally_bits=ally_bits,
        enemy_bits=enemy_bits,
        healers=frozenset(unit_type for unit_type in types if data[unit_type]["heal"] is not None),
    )


def smac_map_names() -> list[str]:
    """The built-in maps of SMAC (fixed teams)."""
    scenarios = (load_scenario(name) for name in scenario_names())
    return sorted(s.name for s in scenarios if s.rules == "battle" and s.random_teams is None)
