"""The mini-games of the economy behind Gymnasium: CollectMineralsAndGas and BuildMarines.

One world with the observation of the other worlds (`envs.views.observation`: entities, mask, scalars) and their
structured action view. An action is one function a step for a selection of units, with the functions that an economy
needs (`FUNCTIONS`). The environment runs the server's world (`envs.protocol.world`), so that both play the same game.
`gymnasium.make_vec` makes batches, one copy a world.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.economy.tables import (
    B_MINERALS,
    B_SUPPLY,
    B_SUPPLY_USED,
    B_VESPENE,
    CARRIES_MINERALS,
    CARRIES_VESPENE,
    E_CARRIES,
    E_CONTENTS,
    E_QUEUE,
    E_QUEUED,
    E_TAG,
    E_UNFINISHED,
    EF_PROGRESS,
    GAS,
    GEYSER,
    MINERALS,
    R_SUPPLY,
    X_BUFF_MINERALS,
    X_BUFF_VESPENE,
    X_ROLE,
    X_TIME,
)
from envs.engine.state import layout as st
from envs.protocol.abilities import Command, available, carry_out, interpret
from envs.protocol.maps import ECONOMY_GAMES, economy_map
from envs.protocol.world import Player, World
from envs.views import observation as ob

POINT_GRID = 32  # cells a side of `target_point`, over the playable rectangle, row by row from its lower left
OWN_ROWS = 160
NEUTRAL_ROWS = 20
STEP_MUL = 8


class EconomyFunction(NamedTuple):
    """A function under PySC2's raw name, its ability, and the argument that it takes beside the selection."""

    name: str
    ability: int
    takes_unit: bool = False
    takes_point: bool = False


FUNCTIONS = (
    EconomyFunction("no_op", 0),
    EconomyFunction("Stop_quick", 4),
    EconomyFunction("Move_pt", 16, takes_point=True),
    EconomyFunction("Harvest_Gather_unit", 295, takes_unit=True),
    EconomyFunction("Harvest_Return_quick", 296),
    EconomyFunction("Train_SCV_quick", 524),
    EconomyFunction("Train_Marine_quick", 560),
    EconomyFunction("Build_SupplyDepot_pt", 319, takes_point=True),
    EconomyFunction("Build_Barracks_pt", 321, takes_point=True),
    EconomyFunction("Build_CommandCenter_pt", 318, takes_point=True),
    EconomyFunction("Build_Refinery_pt", 320, takes_unit=True),  # PySC2's name, though it takes a geyser
    EconomyFunction("Rally_Units_unit", 203, takes_unit=True),
)
NO_OP = 0


class EconomyEnv(gymnasium.Env):
    """`perceiver_sc2/CollectMineralsAndGas-v0` and `perceiver_sc2/BuildMarines-v0`.

    Observation: `entities` float32 [N, F], `mask` bool [N], `scalars` float32 [S], `function_mask` bool [Fn],
    `selected_mask` bool [Fn, U], `target_unit_mask` bool [Fn, N]. Own units come first, then resources; a unit keeps
    its row.

    Action: `function`, `queued`, `selected` [U], `target_unit` (a row), `target_point` (a cell of POINT_GRID squared).

    The masks say what units can do and pay for. Whether a building fits at a place shows only when it is tried. A
    function that no selected unit carries out does nothing and is counted in `info["illegal_actions"]`.

    Reward: the change of the score. An episode is truncated at the map's time (420 s, 900 s).

    Args:
        scenario: one of `ECONOMY_GAMES`.
        step_mul: game loops a step.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, scenario: str = "CollectMineralsAndGas", *, step_mul: int = STEP_MUL) -> None:
        if scenario not in ECONOMY_GAMES:
            raise ValueError(f"unknown scenario {scenario!r}; expected one of {', '.join(sorted(ECONOMY_GAMES))}")
        if not 1 <= step_mul <= 128:
            raise ValueError(f"step_mul is {step_mul}, expected 1 to 128 game loops")
        self.map = economy_map(scenario)
        self.step_mul = step_mul
        self.loops = ECONOMY_GAMES[scenario][0].loops
        rows, functions = OWN_ROWS + NEUTRAL_ROWS, len(FUNCTIONS)
        unbounded = {"low": -np.inf, "high": np.inf, "dtype": np.float32}
        self.observation_space = spaces.Dict(
            {
                "entities": spaces.Box(shape=(rows, ob.NUM_FEATURES), **unbounded),  # type: ignore[arg-type]
                "mask": spaces.MultiBinary(rows),
                "scalars": spaces.Box(shape=(ob.NUM_SCALARS,), **unbounded),  # type: ignore[arg-type]
                "function_mask": spaces.MultiBinary(functions),
                "selected_mask": spaces.MultiBinary((functions, OWN_ROWS)),
                "target_unit_mask": spaces.MultiBinary((functions, rows)),
            }
        )
        self.action_space = spaces.Dict(
            {
                "function": spaces.Discrete(functions),
                "queued": spaces.Discrete(2),
                "selected": spaces.MultiBinary(OWN_ROWS),
                "target_unit": spaces.Discrete(rows),
                "target_point": spaces.Discrete(POINT_GRID * POINT_GRID),
            }
        )
        self.world: World | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        if options:
            raise ValueError(f"unknown reset options {sorted(options)}")
        if self.world is None or seed is not None:
            number = int(self.np_random.integers(2**31))
            self.world = World(self.map, {1: Player()}, seed=number)
            self._made_by = np.zeros(len(self.world.rules.entries), np.float32)
            for name, function in MAKING.items():
                self._made_by[self.world.rules.kind[name]] = function
        else:
            self.world.restart()
        self._rows: dict[int, int] = {}  # of own tags
        self._score = 0
        return self._observe(), {}

    def step(self, action: dict[str, Any]) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step of `step_mul` game loops; at the end `info` holds `score` and `episode_length`."""
        if self.world is None:
            raise RuntimeError("step before reset")
        if self.world.outcome is not None:
            raise RuntimeError("the episode is over; call reset")
        illegal = not self._act(self.world, action)
        self.world.advance(self.step_mul)
        score = self.world.score(1)
        reward, self._score = float(score - self._score), score
        truncated = self.world.loop >= self.loops
        terminated = self.world.outcome is not None and not truncated
        info: dict[str, Any] = {"illegal_actions": int(illegal)}
        if terminated or truncated:
            info |= {"score": float(score), "episode_length": -(-self.world.loop // self.step_mul)}
        return self._observe(), reward, terminated, truncated, info

    # --- acting ---

    def _act(self, world: World, action: dict[str, Any]) -> bool:
        """Carries an action out; False if no selected unit could."""
        number = int(action["function"])
        if not 0 <= number < len(FUNCTIONS):
            raise ValueError(f"function is {number}, expected 0 to {len(FUNCTIONS) - 1}")
        if number == NO_OP:
            return True
        function = FUNCTIONS[number]
        target = self._slot_of_row(int(action["target_unit"])) if function.takes_unit else -1
        if function.takes_unit and target < 0:
            return False
        point = self.point(int(action["target_point"])) if function.takes_point else None
        done = False
        for row in np.flatnonzero(action["selected"]):
            slot = self._slot_of_row(int(row))
            if slot < 0:
                continue
            command = interpret(world, slot, function.ability, target, point)
            done |= isinstance(command, Command) and carry_out(world, command, bool(action["queued"]))
            if done and "Build" in function.name:
                break  # one worker builds
        return done

    def point(self, cell: int) -> tuple[float, float]:
        """The place in the world of a cell of `target_point`: its centre."""
        x0, y0, x1, y1 = self.map.playable
        row, column = divmod(cell, POINT_GRID)
        return x0 + (column + 0.5) * (x1 - x0) / POINT_GRID, y0 + (row + 0.5) * (y1 - y0) / POINT_GRID

    def cell(self, x: float, y: float) -> int:
        """The cell of `target_point` that a place lies in."""
        x0, y0, x1, y1 = self.map.playable
        column = min(max(int((x - x0) / (x1 - x0) * POINT_GRID), 0), POINT_GRID - 1)
        return min(max(int((y - y0) / (y1 - y0) * POINT_GRID), 0), POINT_GRID - 1) * POINT_GRID + column

    def _slot_of_row(self, row: int) -> int:
        return int(self._slots[row]) if 0 <= row < len(self._slots) else -1

    # --- observing ---

    def _place_rows(self, world: World) -> None:
        """`_slots` [N]: the slot of every row, -1 = none. Own units keep their rows; a free row is taken anew."""
        self._slots = np.full(OWN_ROWS + NEUTRAL_ROWS, -1, np.int64)
        own = {world.tag(slot): slot for slot in world.slots_of(1)}
        self._rows = {tag: row for tag, row in self._rows.items() if tag in own}
        free = iter(sorted(set(range(OWN_ROWS)) - set(self._rows.values())))
        for tag in own:
            if tag not in self._rows:
                row = next(free, None)
                if row is not None:
                    self._rows[tag] = row
        for tag, row in self._rows.items():
            self._slots[row] = own[tag]
        neutral = world.slots_of(st.NEUTRAL)[:NEUTRAL_ROWS]
        self._slots[OWN_ROWS : OWN_ROWS + len(neutral)] = neutral

    def _observe(self) -> dict[str, np.ndarray]:
        world = self.world
        assert world is not None
        self._place_rows(world)
        rows = np.flatnonzero(self._slots >= 0)
        slots = self._slots[rows]
        f, i = world.state.f[0], world.state.i[0]
        ef, ei, tech = world.economy.f[0], world.economy.i[0], world.tech
        kinds = i[st.I_KIND, slots]
        own = rows < OWN_ROWS
        entities = np.zeros((OWN_ROWS + NEUTRAL_ROWS, ob.NUM_FEATURES), np.float32)

        def put(column: int, values: Any, where: Any = True) -> None:
            entities[rows, column] = np.where(where, values, 0)

        fresh = ei[E_TAG, slots] == i[st.I_TAG, slots]
        most = np.maximum(f[st.F_HEALTH_MAX, slots], 1e-6)
        unfinished = fresh & (ei[E_UNFINISHED, slots] != 0)
        role = tech.i[kinds, X_ROLE]
        queued = np.where(fresh, ei[E_QUEUED, slots], 0)
        order = i[st.I_ORDER, slots]
        put(ob.C_UNIT_TYPE, world.static.kind_i[kinds, st.KI_UNIT_TYPE])
        put(ob.C_ALLIANCE, np.where(own, ob.ALLIANCE_SELF, ob.ALLIANCE_NEUTRAL))
        put(ob.C_HEALTH, f[st.F_HEALTH, slots], own)
        put(ob.C_HEALTH_RATIO, f[st.F_HEALTH, slots] / most, own)
        put(ob.C_X, f[st.F_X, slots])
        put(ob.C_Y, f[st.F_Y, slots])
        put(ob.C_FACING, np.arctan2(f[st.F_FACING_Y, slots], f[st.F_FACING_X, slots]), own)
        put(ob.C_RADIUS, f[st.F_RADIUS, slots])
        put(ob.C_COOLDOWN, f[st.F_COOLDOWN, slots], own)
        put(ob.C_ORDER_LENGTH, queued + i[st.I_QUEUED, slots] + (order != st.ORDER_STOP), own)
        put(ob.C_ORDER_ID, self._order_ids(order, np.where(queued > 0, ei[E_QUEUE, slots], -1)), own)
        put(ob.C_BUFF, tech.i[kinds, X_BUFF_MINERALS], fresh & (ei[E_CARRIES, slots] == CARRIES_MINERALS))
        gas = fresh & (ei[E_CARRIES, slots] == CARRIES_VESPENE)
        entities[rows[gas], ob.C_BUFF] = tech.i[kinds[gas], X_BUFF_VESPENE]
        put(ob.C_CLOAK, 3)
        put(ob.C_MINERALS, ei[E_CONTENTS, slots], fresh & (role == MINERALS))
        put(ob.C_VESPENE, ei[E_CONTENTS, slots], fresh & (role == GEYSER))
        time = np.maximum(tech.i[kinds, X_TIME], 1)
        put(ob.C_BUILD_PROGRESS, np.where(unfinished, ef[EF_PROGRESS, slots] / time, 1.0))
        bank = world.economy.bank[0, 1]
        supply = min(bank[B_SUPPLY], float(tech.limits[R_SUPPLY]))
        scalars = [world.loop / self.loops, world.score(1), own.sum(), 0]
        scalars += [bank[B_MINERALS], bank[B_VESPENE], bank[B_SUPPLY_USED], supply]
        mask = (self._slots >= 0).astype(np.int8)
        return {"entities": entities, "mask": mask, "scalars": np.array(scalars, np.float32), **self._masks(world)}

    def _order_ids(self, order: np.ndarray, product: np.ndarray) -> np.ndarray:
        """PySC2's raw function ids of the orders under way, 0 = none; `product`: the kind in production, -1 = none."""
        ids = ob.ORDER_IDS[np.minimum(order, st.ORDER_SIEGE)]
        ids = np.where(order == st.ORDER_GATHER, HARVEST_GATHER, ids)
        ids = np.where(order == st.ORDER_RETURN, HARVEST_RETURN, ids)
        product = np.where(order >= st.ORDER_BUILD, order - st.ORDER_BUILD, product)
        return np.where(product >= 0, self._made_by[product], ids)

    def _masks(self, world: World) -> dict[str, np.ndarray]:
        count = len(FUNCTIONS)
        selected = np.zeros((count, OWN_ROWS), np.int8)
        targets = np.zeros((count, OWN_ROWS + NEUTRAL_ROWS), np.int8)
        abilities = {function.ability: n for n, function in enumerate(FUNCTIONS) if n != NO_OP}
        for row in self._rows.values():
            for ability, _ in available(world, self._slot_of_row(row)):
                number = abilities.get(RALLIES.get(ability, ability))
                if number is not None:
                    selected[number, row] = 1
        roles = {row: world.tech.i[int(world.state.i[0, st.I_KIND, slot]), X_ROLE] for row, slot in self._targets()}
        wanted = {"Harvest_Gather_unit": (MINERALS, GAS), "Build_Refinery_pt": (GEYSER,)}
        for number, function in enumerate(FUNCTIONS):
            if function.takes_unit:
                fitting = wanted.get(function.name, (MINERALS,))
                for row, role in roles.items():
                    targets[number, row] = role in fitting
                if not targets[number].any():
                    selected[number] = 0
        functions = np.array(selected.any(axis=1), np.int8)
        functions[NO_OP] = 1
        return {"function_mask": functions, "selected_mask": selected, "target_unit_mask": targets}

    def _targets(self) -> list[tuple[int, int]]:
        return [(int(row), int(self._slots[row])) for row in np.flatnonzero(self._slots >= 0)]


# PySC2's raw function ids of gathering, and of making things.
HARVEST_GATHER, HARVEST_RETURN = 102, 103
MAKING = {"SCV": 520, "Marine": 511, "SupplyDepot": 222, "Barracks": 185, "CommandCenter": 187, "Refinery": 214}
# The rally abilities of every building are one function.
RALLIES = {195: 203, 207: 203}
