"""Fixed agents with published scores on the real game's mini-games, as their authors describe or show them.

They act on PySC2's feature layers of 84 cells a side and see PySC2's feature units. `FIXED_AGENTS` names them as
`figures.scores` does. Sources: PySC2's own scripted agents, and for the rest the rules of lzhbrian/pysc2-minigame-ai
(MIT), written anew: every second step selects units, the step after gives them an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pysc2_evolved.agents import base_agent, random_agent, scripted_agent
from pysc2_evolved.lib import actions, units
from pysc2_evolved.lib.features_types import Player, PlayerRelative

SCREEN = 84
FUNCTIONS = actions.FUNCTIONS
ENEMY = PlayerRelative.ENEMY
ABOVE = 20  # cells over the uppermost enemy
Cell = tuple[int, int]
# Cells of the screen where the agent for BuildMarines raises its depots and barracks, in this order.
DEPOT_CELLS: tuple[Cell, ...] = tuple((x, y) for x in (22, 30, 38, 46) for y in (12, 20, 46, 54))
BARRACKS_CELLS: tuple[Cell, ...] = tuple((x, y) for x in (56, 69, 72) for y in (7, 22, 37, 52))


class _TwoStepAgent(base_agent.BaseAgent):
    """Chooses what to do and selects who does it; orders it in the step after."""

    def reset(self) -> None:
        super().reset()
        self._order: Callable[[], Any] | None = None

    def step(self, obs: Any) -> Any:
        super().step(obs)
        self.seen = obs.observation
        if self._order is not None:
            order, self._order = self._order, None
            return order()
        choice = self.choose()
        if choice is None:
            self._order = FUNCTIONS.no_op
            return FUNCTIONS.no_op()
        selection, self._order = choice
        return selection

    def choose(self) -> tuple[Any, Callable[[], Any]] | None:
        """The selection, and the order that follows it; None: nothing for two steps."""
        raise NotImplementedError

    # --- looking ---

    def of(self, unit_type: int) -> list[Any]:
        """Feature units of a type."""
        return [unit for unit in self.seen.feature_units if unit.unit_type == unit_type]

    def idle(self, unit_type: int) -> Any | None:
        """The first unit of a type without an order."""
        return next((unit for unit in self.of(unit_type) if unit.order_length == 0), None)

    def player(self, field: int) -> int:
        """A number of the player's, such as minerals."""
        return int(self.seen.player[field])

    # --- acting ---

    def cell(self, x: float, y: float) -> list[int]:
        """A place on the screen, moved to its edge where it lies outside."""
        return [int(min(max(0, x), SCREEN - 1)), int(min(max(0, y), SCREEN - 1))]

    def select(self, unit: Any) -> Any:
        return FUNCTIONS.select_point("select", self.cell(unit.x, unit.y))

    def if_possible(self, function: Any, *arguments: Any) -> Any:
        """The function at once, or nothing where it is not available."""
        if function.id in self.seen.available_actions:
            return function("now", *arguments)
        return FUNCTIONS.no_op()


class AttackMoveAbove(_TwoStepAgent):
    """DefeatRoaches: the whole army attack-moves to a place above the uppermost enemy."""

    def choose(self) -> tuple[Any, Callable[[], Any]] | None:
        if FUNCTIONS.select_army.id not in self.seen.available_actions:
            return None
        return FUNCTIONS.select_army("select"), self._attack

    def _attack(self) -> Any:
        enemies = [unit for unit in self.seen.feature_units if unit.alliance == ENEMY]
        if not enemies:
            return FUNCTIONS.no_op()
        top = min(enemies, key=lambda unit: unit.y)
        return self.if_possible(FUNCTIONS.Attack_screen, self.cell(top.x, top.y - ABOVE))


class FewThenAll(_TwoStepAgent):
    """DefeatZerglingsAndBanelings: three or four Marines go ahead; the rest follow when two Banelings are left."""

    def choose(self) -> tuple[Any, Callable[[], Any]] | None:
        marine = self.idle(units.Terran.Marine)
        banelings = len(self.of(units.Zerg.Baneling))
        busy = sum(unit.order_length != 0 for unit in self.of(units.Terran.Marine))
        if marine is None or not ((banelings > 0 and busy <= 3) or banelings <= 2):
            return None
        return self.select(marine), self._attack

    def _attack(self) -> Any:
        zerglings = self.of(units.Zerg.Zergling)
        place = self.cell(zerglings[-1].x, zerglings[-1].y) if zerglings else [0, 0]
        return self.if_possible(FUNCTIONS.Attack_screen, place)


class _Builder(_TwoStepAgent):
    """What the two agents for the economy share."""

    def worker(self) -> Any | None:
        """An SCV to build: one without an order, or else the first."""
        return self.idle(units.Terran.SCV) or next(iter(self.of(units.Terran.SCV)), None)

    def minerals(self) -> int:
        return self.player(Player.minerals)

    def supply_left(self) -> int:
        return self.player(Player.food_cap) - self.player(Player.food_used)

    def build(self, function: Any, cost: int, place: Callable[[], Cell]) -> tuple[Any, Callable[[], Any]] | None:
        worker = self.worker()
        if self.minerals() < cost or worker is None:
            return None
        return self.select(worker), lambda: self.if_possible(function, self.cell(*place()))

    def gather(self) -> tuple[Any, Callable[[], Any]] | None:
        worker, fields = self.idle(units.Terran.SCV), self.of(units.Neutral.MineralField)
        if worker is None or not fields:
            return None
        place = self.cell(fields[0].x, fields[0].y)
        return self.select(worker), lambda: self.if_possible(FUNCTIONS.Harvest_Gather_screen, place)

    def train(self, function: Any, maker: int, cost: int = 50) -> tuple[Any, Callable[[], Any]] | None:
        makers = self.of(maker)
        if self.supply_left() <= 0 or self.minerals() < cost or not makers:
            return None
        least = min(makers, key=lambda unit: unit.order_length)
        return self.select(least), lambda: self.if_possible(function)

    def depot_cell(self) -> Cell:
        """The next of the fixed cells, then any around the hall."""
        count = len(self.of(units.Terran.SupplyDepot))
        if count < len(DEPOT_CELLS):
            return DEPOT_CELLS[count]
        hall = self.of(units.Terran.CommandCenter)[-1]
        random = np.random.default_rng(self.steps)
        return (
            int(hall.x + random.integers(-4 * hall.radius, hall.radius)),
            int(hall.y + random.integers(-4 * hall.radius, 4 * hall.radius)),
        )


class SecondHall(_Builder):
    """CollectMineralsAndGas: a second hall beside the first, then depots and SCVs."""

    def choose(self) -> tuple[Any, Callable[[], Any]] | None:
        halls = len(self.of(units.Terran.CommandCenter))
        depots = len(self.of(units.Terran.SupplyDepot))
        choice = None
        if halls <= 1:
            choice = self.build(FUNCTIONS.Build_CommandCenter_screen, 450, self._hall_cell)
        if choice is None and depots < 3 and halls >= 2 and self.supply_left() == 0:
            choice = self.build(FUNCTIONS.Build_SupplyDepot_screen, 100, self.depot_cell)
        return choice or self.gather() or self.train(FUNCTIONS.Train_SCV_quick, units.Terran.CommandCenter)

    def _hall_cell(self) -> Cell:
        """A hall's width away from the hall, towards the middle of the screen."""
        hall = self.of(units.Terran.CommandCenter)[-1]
        return int(hall.x + 2 * hall.radius * (1 if hall.x < SCREEN / 2 else -1)), int(hall.y)


class SevenBarracks(_Builder):
    """BuildMarines: depots when supply runs out, seven Barracks, 20 SCVs, then Marines."""

    def choose(self) -> tuple[Any, Callable[[], Any]] | None:
        barracks = len(self.of(units.Terran.Barracks))
        choice = self.gather()
        if choice is None and self.supply_left() == 0:
            choice = self.build(FUNCTIONS.Build_SupplyDepot_screen, 100, self.depot_cell)
        if choice is None and barracks < 7:
            choice = self.build(FUNCTIONS.Build_Barracks_screen, 150, lambda: BARRACKS_CELLS[barracks])
        if choice is None and barracks >= 7:
            choice = self.train(FUNCTIONS.Train_Marine_quick, units.Terran.Barracks)
        if choice is None and len(self.of(units.Terran.SCV)) < 20:
            choice = self.train(FUNCTIONS.Train_SCV_quick, units.Terran.CommandCenter)
        return choice


# By the name in `figures.scores`: the agent's class.
FIXED_AGENTS: dict[str, Callable[[], Any]] = {
    "random": random_agent.RandomAgent,
    "alternating-marines": scripted_agent.CollectMineralShardsFeatureUnits,
    "attack-lowest-roach": scripted_agent.DefeatRoaches,
    "attack-move-above": AttackMoveAbove,
    "few-then-all": FewThenAll,
    "second-hall": SecondHall,
    "seven-barracks": SevenBarracks,
}
