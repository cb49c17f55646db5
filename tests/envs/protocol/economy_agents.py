"""Scripted agents of PySC2 for the mini-games of the economy: they see raw units and act by raw functions."""

from __future__ import annotations

from typing import Any

from pysc2_evolved.agents import base_agent
from pysc2_evolved.lib import actions, units

RAW = actions.RAW_FUNCTIONS
MAP_HEIGHT = 64  # PySC2's raw coordinates count from the upper edge
SATURATED = 2  # workers a mineral field


def raw(x: float, y: float) -> tuple[float, float]:
    """A place of the map in PySC2's raw coordinates."""
    return x, MAP_HEIGHT - y


class EconomyAgent(base_agent.BaseAgent):
    """Sends idle SCVs to the minerals and keeps a few lists of what there is."""

    def step(self, obs: Any) -> list[Any]:
        super().step(obs)
        self.units = obs.observation.raw_units
        self.minerals = int(obs.observation.player.minerals)
        self.supply_left = int(obs.observation.player.food_cap - obs.observation.player.food_used)
        self.orders: list[Any] = []
        fields = self.of(units.Neutral.MineralField)
        for n, worker in enumerate(self.workers(idle=True)):
            field = fields[(self.steps + n) % len(fields)]
            self.orders.append(RAW.Harvest_Gather_unit("now", [worker.tag], field.tag))
        self.build()
        return self.orders or [RAW.no_op()]

    def of(self, unit_type: int, *, done: bool = True) -> list[Any]:
        """Units of a type; `done`: those under construction left out."""
        return [u for u in self.units if u.unit_type == unit_type and (u.build_progress == 100 or not done)]

    def workers(self, *, idle: bool = False) -> list[Any]:
        own = self.of(units.Terran.SCV)
        return [u for u in own if u.order_length == 0] if idle else own

    def raise_building(self, function: Any, cost: int, place: Any) -> None:
        """Has a worker that is not building raise a building at a place, or on a unit (a tag)."""
        sent = any(u.order_id_0 == int(function.id) and u.build_progress == 100 for u in self.workers())
        gatherers = [u for u in self.workers() if u.order_length and u.order_id_0 in GATHER_ORDERS]
        if self.minerals >= cost and gatherers and not sent:
            self.orders.append(function("now", [gatherers[self.steps % len(gatherers)].tag], place))
            self.minerals -= cost

    def train(self, function: Any, buildings: list[Any], cost: int) -> None:
        for building in buildings:
            if building.order_length < 2 and self.minerals >= cost and self.supply_left > 0:
                self.orders.append(function("now", [building.tag]))
                self.minerals -= cost
                self.supply_left -= 1

    def build(self) -> None:
        """What an agent adds to gathering."""


# Functions of orders that a worker may be taken from: Harvest_Gather_SCV and Harvest_Return_SCV.
GATHER_ORDERS = {int(RAW.Harvest_Gather_SCV_unit.id), int(RAW.Harvest_Return_SCV_quick.id)}


class Gather(EconomyAgent):
    """CollectMineralsAndGas without another order than to gather minerals."""


class GatherAndGrow(EconomyAgent):
    """CollectMineralsAndGas with more SCVs, a depot for them, and one refinery."""

    def build(self) -> None:
        wanted = 22
        if len(self.workers()) < wanted:
            self.train(RAW.Train_SCV_quick, self.of(units.Terran.CommandCenter), 50)
        if self.supply_left < 3 and not self.of(units.Terran.SupplyDepot, done=False):
            self.raise_building(RAW.Build_SupplyDepot_pt, 100, raw(36, 28))
        refineries = self.of(units.Terran.Refinery, done=False)
        if len(self.workers()) >= 16 and not refineries:
            self.raise_building(RAW.Build_Refinery_pt, 75, self.of(units.Neutral.VespeneGeyser)[1].tag)
        for refinery in self.of(units.Terran.Refinery):
            if refinery.assigned_harvesters < refinery.ideal_harvesters:
                free = [u for u in self.workers() if u.order_id_0 == int(RAW.Harvest_Gather_SCV_unit.id)]
                if free:
                    self.orders.append(RAW.Harvest_Gather_unit("now", [free[0].tag], refinery.tag))


class BuildMarines(EconomyAgent):
    """Depots, barracks and Marines, with SCVs up to two a mineral field."""

    barracks = tuple(raw(x, y) for x in (36.5, 40.5) for y in (29.5, 25.5, 33.5, 21.5))
    depots = tuple(raw(x, y) for y in (20, 36) for x in range(30, 46, 2)) + tuple(raw(44, y) for y in range(22, 35, 2))

    def build(self) -> None:
        depots = self.of(units.Terran.SupplyDepot, done=False)
        barracks = self.of(units.Terran.Barracks, done=False)
        coming = sum(1 for depot in depots if depot.build_progress < 100)
        if self.supply_left < 2 + 2 * len(barracks) and coming < 2 and len(depots) < len(self.depots):
            self.raise_building(RAW.Build_SupplyDepot_pt, 100, self.depots[len(depots)])
        if len(self.workers()) < SATURATED * len(self.of(units.Neutral.MineralField)):
            self.train(RAW.Train_SCV_quick, self.of(units.Terran.CommandCenter), 50)
        self.train(RAW.Train_Marine_quick, self.of(units.Terran.Barracks), 50)
        if self.of(units.Terran.SupplyDepot) and len(barracks) < len(self.barracks):
            self.raise_building(RAW.Build_Barracks_pt, 150, self.barracks[len(barracks)])
