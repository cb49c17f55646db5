"""A small hand for tests of the engine: worlds, units by name, orders, loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.engine.state.orders import issue_order
from envs.engine.state.units import create_unit
from envs.engine.state.worlds import new_state, reset_world
from envs.engine.step import advance_world
from envs.scenarios.units import Rules


class Arena:
    """`worlds` battles with the unit kinds `units` (as for `Rules`); methods act on battle `world`."""

    def __init__(
        self,
        units: Iterable[str | tuple[str, Mapping[str, Any]]],
        *,
        worlds: int = 1,
        max_units: int = 12,
        map_spec: MapSpec | None = None,
        players: int = 2,
    ) -> None:
        self.rules = Rules(units, map_spec, players)
        self.static = self.rules.static
        self.state = new_state(self.static, num_worlds=worlds, max_units=max_units)

    def reset(self, seed: int = 0, world: int = 0) -> None:
        reset_world(self.state, world, seed)

    def add(self, unit: str, owner: int, x: float, y: float, world: int = 0) -> int:
        slot = create_unit(self.state, self.static, world, self.rules.kind[unit], owner, float(x), float(y))
        assert slot >= 0
        return int(slot)

    def order(
        self, i: int, order: int, target: int = -1, x: float = 0.0, y: float = 0.0, queued: bool = False, world: int = 0
    ) -> bool:
        return bool(issue_order(self.state, self.static, world, i, order, target, float(x), float(y), queued))

    def run(self, loops: int = 1, world: int = 0) -> None:
        advance_world(self.state, self.static, world, loops)

    def get(self, i: int, field: int, world: int = 0) -> float:
        return float(self.state.f[world, field, i])

    def flag(self, i: int, field: int, world: int = 0) -> int:
        return int(self.state.i[world, field, i])

    def alive(self, i: int, world: int = 0) -> bool:
        return bool(self.state.i[world, st.I_ALIVE, i])

    def loop(self, world: int = 0) -> int:
        return int(self.state.w[world, st.W_LOOP])

    def health(self, i: int, world: int = 0) -> float:
        return self.get(i, st.F_HEALTH, world)
