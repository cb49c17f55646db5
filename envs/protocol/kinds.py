"""What the protocol calls the engine's unit kinds: type ids, abilities, and what each kind makes."""

from __future__ import annotations

import numpy as np

from envs.economy.tables import GAS, X_ABILITY, X_GATHER, X_MAKER, X_RETURN, X_ROLE, Tech
from envs.engine.state import layout as st
from envs.protocol.tables import ROLE_ARMY, ROLE_NONE, ROLE_WORKER
from envs.scenarios.scenario import Scenario
from envs.scenarios.units import Rules

CUSTOM_TYPE_IDS = 1970  # the first type id of the units that SMAC's maps bring along
SCAN_MOVE = 19  # what an attack-move of a unit without weapons is called
WORKERS = {"terran": "SCV", "zerg": "Drone", "protoss": "Probe"}


class Kinds:
    """The kinds of one world; T is how many they are.

    Attributes:
        role [T]: ROLE_*.
        ability [T, orders]: the ability of each order of a kind.
        change [T]: the ability that changes a kind's mode, 0 = none.
        points [orders]: int8, 1 where an order takes a place.
        types [2, T]: type ids of player 1's units and of all others'.
        products: per kind, the kinds that it makes.
        gas_abilities: the abilities that build on a geyser.
    """

    def __init__(self, rules: Rules, tech: Tech, scenario: Scenario | None) -> None:
        makers = tech.i[:, X_MAKER]
        self.gas_abilities = {int(ability) for ability in tech.i[tech.i[:, X_ROLE] == GAS, X_ABILITY]}
        self.products = [np.flatnonzero(makers == kind).tolist() for kind in range(len(makers))]
        self._product = {
            (int(maker), int(tech.i[kind, X_ABILITY])): kind for kind, maker in enumerate(makers) if maker >= 0
        }
        self.ability = _abilities(rules, tech)
        self.change = rules.ability[:, st.ORDER_SIEGE].copy()
        self.points = np.zeros(st.NUM_ORDERS, np.int8)
        self.points[[st.ORDER_MOVE, st.ORDER_ATTACK_MOVE, st.ORDER_PATROL, st.ORDER_BLINK]] = 1
        self.types = _type_ids(rules, scenario)
        self._kind_of_type = {int(number): kind for kind, number in reversed(list(enumerate(self.types[1])))}
        self._kind_of_type.update({int(number): kind for kind, number in reversed(list(enumerate(self.types[0])))})
        self.role = _roles(rules)

    def of_type(self, unit_type: int) -> int:
        """The kind of one of the protocol's unit type ids, -1 if the simulator has no such unit."""
        return self._kind_of_type.get(unit_type, -1)

    def product(self, kind: int, ability: int) -> int:
        """The kind that units of `kind` make by an ability, -1 if none."""
        return self._product.get((kind, ability), -1)


def _roles(rules: Rules) -> np.ndarray:
    roles = np.full(len(rules.entries), ROLE_NONE)
    for kind, entry in enumerate(rules.entries):
        if entry["label"] in WORKERS.values():
            roles[kind] = ROLE_WORKER
        elif entry["weapons"] or entry["heal"]:
            roles[kind] = ROLE_ARMY
    return roles


def _abilities(rules: Rules, tech: Tech) -> np.ndarray:
    table = rules.ability.copy()
    table[:, st.ORDER_GATHER] = tech.i[:, X_GATHER]
    table[:, st.ORDER_RETURN] = tech.i[:, X_RETURN]
    for kind, entry in enumerate(rules.entries):
        if not entry["weapons"] and table[kind, st.ORDER_ATTACK_MOVE]:
            table[kind, st.ORDER_ATTACK_MOVE] = SCAN_MOVE
    return table


def _type_ids(rules: Rules, scenario: Scenario | None) -> np.ndarray:
    """SMAC's maps bring unit types of their own for the agents.

    SMAC knows them by their order: by name from the lowest id on.
    """
    types = np.repeat(rules.static.kind_i[None, :, st.KI_UNIT_TYPE], 2, axis=0).astype(np.int64)
    if scenario is not None and scenario.rules == "battle" and scenario.agent_units_obedient:
        team = sorted({unit.unit_type for unit in scenario.teams[0].units})
        if scenario.random_teams is not None:
            team = sorted(scenario.random_teams.types)
        for n, name in enumerate(team):
            types[0, rules.kind[name]] = CUSTOM_TYPE_IDS + n
    return types
