"""SMAC's numbers: sizes of its action, per-agent observation and global state for a scenario.

Read in SMAC's own environment (facts, not code). Values in parentheses are there if some unit has a shield. After the
values of a unit come its type bits, one of each type.

Observation of an agent:

* 4 flags of possible moves;
* per enemy: attackable, distance, dx, dy, health (, shield);
* per ally: visible, distance, dx, dy, health (, shield);
* own health (, shield).

Global state:

* per ally: health, cooldown or energy, x, y (, shield);
* per enemy: health, x, y (, shield);
* every agent's last action as one-hot.
"""

from __future__ import annotations

from typing import NamedTuple

from envs.actions import SMAC_TARGETS
from envs.scenarios.scenario import Scenario
from envs.scenarios.units import unit_data


class SmacSizes(NamedTuple):
    """Sizes of SMAC's view: `n_actions` per agent, floats of one agent's observation and of the global state."""

    n_actions: int
    observation: int
    state: int


def _team_types(scenario: Scenario, team: int) -> set[str]:
    if scenario.random_teams is not None:
        return set(scenario.random_teams.types)
    return {unit.unit_type for unit in scenario.teams[team].units}


def smac_unit_types(scenario: Scenario) -> list[str]:
    """The unit types that get a type bit, by name; none if each team has a single type."""
    teams = [_team_types(scenario, team) for team in (0, 1)]
    return sorted(teams[0] | teams[1]) if max(len(types) for types in teams) > 1 else []


def team_has_shields(scenario: Scenario, team: int) -> bool:
    """Whether the team's entries in SMAC's arrays have a shield."""
    return any(unit_data()[name]["shield"] > 0 for name in _team_types(scenario, team))


def smac_actions(scenario: Scenario, agents: int = 1) -> int:
    """How many numbers SMAC's view has: no-op, stop, 4 moves, and a target each (a healer's targets are allies)."""
    first, second = (team.slots for team in scenario.teams)
    targets = second
    healers = any(unit_data()[name]["heal"] is not None for name in _team_types(scenario, 0) | _team_types(scenario, 1))
    if healers or agents == 2:
        targets = max(first, second)
    return SMAC_TARGETS + targets


def smac_sizes(scenario: Scenario, agents: int = 1) -> SmacSizes:
    """Sizes of SMAC's view on a scenario (with two agents, of the side with more units)."""
    bits = len(smac_unit_types(scenario))
    shield = [int(team_has_shields(scenario, team)) for team in (0, 1)]
    counts = [team.slots for team in scenario.teams]
    if agents == 2:
        counts, shield = [max(counts)] * 2, [max(shield)] * 2
    own, enemies = counts
    n_actions = smac_actions(scenario, agents)
    observation = 4 + enemies * (5 + shield[1] + bits) + (own - 1) * (5 + shield[0] + bits) + 1 + shield[0] + bits
    state = own * (4 + shield[0] + bits) + enemies * (3 + shield[1] + bits) + own * n_actions
    return SmacSizes(n_actions, observation, state)
