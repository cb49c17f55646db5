"""What workers gather: the opening, the steady income of minerals and of vespene, and how a start base is laid out.

Measured on the start bases of ladder maps (`figures.base_layouts`), with the simulator's own way to begin a game.
"""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Iterator, Sequence

from envs.economy.tables import B_COLLECTED_MINERALS, B_COLLECTED_VESPENE, B_MINERALS, B_SUPPLY, B_SUPPLY_USED
from envs.engine.state.layout import I_KIND, NEUTRAL
from envs.engine.state.maps import MapSpec
from envs.fidelity.figures import (
    OPENING_LOOPS,
    BaseLayout,
    base_layouts,
    mineral_income,
    opening_minerals,
    vespene_income,
)
from envs.fidelity.games import OWN, joined, units
from envs.fidelity.verdicts import Figure, Row, median_figure, quartiles
from envs.protocol.abilities import Command, carry_out, interpret
from envs.protocol.maps import GameMap, PlacedUnit
from envs.protocol.world import Player, World
from envs.scenarios.units import unit_data

SIZE = 160
FROM_CENTRE = 40  # of the map, to the hall
PERIOD = 160  # game loops of an income
SETTLED = 800  # loops after which an income is steady
PERIODS = 10
GATHER, TRAIN_SCV, BUILD_REFINERY = 295, 524, 320
LEAST_INTERVALS = 10  # that the game's figure of a number of workers stands on
WORKERS_AT_GAS = 3
START_MAP = "Simple64"


def layout_map(layout: BaseLayout) -> GameMap:
    """A flat map with one base as on the ladder map, its patches on the far side of the hall from the map's middle."""
    x = statistics.mean(place[0] for place, _ in layout.mineral_fields)
    y = statistics.mean(place[1] for place, _ in layout.mineral_fields)
    length = math.hypot(x, y)
    hall = tuple(SIZE // 2 + round(FROM_CENTRE * part / length) + 0.5 for part in (x, y))
    placed = [
        PlacedUnit(name=name, owner=16, position=(hall[0] + place[0], hall[1] + place[1]))
        for name, things in (("MineralField", layout.mineral_fields), ("VespeneGeyser", layout.geysers))
        for place, _ in things
    ]
    return GameMap(
        name=layout.map_name,
        path=layout.map_name,
        spec=MapSpec(width=SIZE, height=SIZE),
        start_locations=((hall[0], hall[1]),),
        players=1,
        placed_units=tuple(placed),
    )


def some_layouts(count: int | None) -> Sequence[BaseLayout]:
    """So many of the layouts, evenly from the whole list; None: all."""
    layouts = base_layouts()
    count = len(layouts) if count is None else min(count, len(layouts))
    return [layouts[n * len(layouts) // count] for n in range(count)]


def _world(layout: BaseLayout, seed: int) -> World:
    return World(layout_map(layout), {OWN: Player()}, seed=seed)


def _slots(world: World, name: str, owner: int) -> list[int]:
    """Living units of a type and an owner, in the order of their slots."""
    kind = world.rules.kind[name]
    return [slot for slot in world.slots_of(owner) if int(world.state.i[0, I_KIND, slot]) == kind]


def _order(world: World, slot: int, ability: int, target: int = -1) -> bool:
    command = interpret(world, slot, ability, target)
    return isinstance(command, Command) and carry_out(world, command, False)


def _fields(world: World, hall: int) -> list[int]:
    """Patches, the nearest to the hall first."""
    place = world.place(hall)
    return sorted(_slots(world, "MineralField", NEUTRAL), key=lambda slot: math.dist(world.place(slot), place))


def opening(layout: BaseLayout, seed: int) -> list[float]:
    """Minerals gathered by the `OPENING_LOOPS` of a player who trains SCVs as soon as they can be paid.

    The first twelve do what the game's start tells them, the others share the patches out.
    """
    world = _world(layout, seed)
    bank = world.economy.bank[0, OWN]
    hall = _slots(world, "CommandCenter", OWN)[0]
    fields, workers = _fields(world, hall), set(_slots(world, "SCV", OWN))
    gathered = []
    for loop in range(0, OPENING_LOOPS[-1], 4):
        room = bank[B_SUPPLY_USED] + len(world.production(hall)) < bank[B_SUPPLY]
        if bank[B_MINERALS] >= 50 and not world.production(hall) and room:
            _order(world, hall, TRAIN_SCV)
        world.advance(4)
        for slot in set(_slots(world, "SCV", OWN)) - workers:
            _order(world, slot, GATHER, fields[len(workers) % len(fields)])
            workers.add(slot)
        if loop + 4 in OPENING_LOOPS:
            gathered.append(float(bank[B_COLLECTED_MINERALS]))
    return gathered


def steady_minerals(layout: BaseLayout, workers: int, seed: int) -> list[float]:
    """Minerals in each of some periods of 160 loops of workers who share the patches out, the nearest first."""
    world = _world(layout, seed)
    hall = _slots(world, "CommandCenter", OWN)[0]
    fields, mine = _fields(world, hall), _slots(world, "SCV", OWN)
    for slot in mine[workers:]:
        world.kill(slot)
    x, y = world.place(hall)
    for n in range(len(mine), workers):
        mine.append(world.create(world.rules.kind["SCV"], OWN, x + 4.0 * math.cos(n), y + 4.0 * math.sin(n)))
    for n, slot in enumerate(mine[:workers]):
        _order(world, slot, GATHER, fields[n % len(fields)])
    world.advance(SETTLED)
    bank, incomes = world.economy.bank[0, OWN], []
    for _ in range(PERIODS):
        before = float(bank[B_COLLECTED_MINERALS])
        world.advance(PERIOD)
        incomes.append(float(bank[B_COLLECTED_MINERALS]) - before)
    return incomes


def steady_vespene(layout: BaseLayout, refineries: int, seed: int) -> list[float]:
    """Vespene in each of some periods of 160 loops from gas buildings with three workers each."""
    world = _world(layout, seed)
    bank = world.economy.bank[0, OWN]
    bank[B_MINERALS] = 1000
    workers = _slots(world, "SCV", OWN)
    for n, geyser in enumerate(_slots(world, "VespeneGeyser", NEUTRAL)[:refineries]):
        _order(world, workers[n], BUILD_REFINERY, geyser)
    time = 16 * 30 + 160
    world.advance(time)
    for n, refinery in enumerate(_slots(world, "Refinery", OWN)):
        for slot in workers[WORKERS_AT_GAS * n : WORKERS_AT_GAS * (n + 1)]:
            _order(world, slot, GATHER, refinery)
    world.advance(PERIOD * 4)
    incomes = []
    for _ in range(PERIODS):
        before = float(bank[B_COLLECTED_VESPENE])
        world.advance(PERIOD)
        incomes.append(float(bank[B_COLLECTED_VESPENE]) - before)
    return incomes


def opening_rows(layouts: int | None, seed: int) -> Iterator[Row]:
    """A row a game loop up to which minerals are counted."""
    ours = [opening(layout, seed + n) for n, layout in enumerate(some_layouts(layouts))]
    for place, (loop, real) in enumerate(opening_minerals().items()):
        band, rule = quartiles(real)
        figure = median_figure([values[place] for values in ours])
        yield Row("opening", f"minerals by loop {loop}", "minerals", median_figure(real), figure, band, rule)


def income_rows(layouts: int | None, seed: int) -> Iterator[Row]:
    """Rows of the steady income, by number of workers at minerals and of gas buildings."""
    chosen = some_layouts(layouts)
    for workers, real in mineral_income().items():
        if len(real) < LEAST_INTERVALS or workers < 12:
            continue
        values = [v for n, layout in enumerate(chosen) for v in steady_minerals(layout, workers, seed + n)]
        band, rule = quartiles(real)
        name = f"{workers} workers at minerals"
        yield Row("income", name, "minerals in 160 loops", median_figure(real), median_figure(values), band, rule)
    for buildings, real in vespene_income().items():
        values = [v for n, layout in enumerate(chosen) for v in steady_vespene(layout, buildings, seed + n)]
        band, rule = quartiles(real)
        name = f"{buildings} gas buildings with 3 workers each"
        yield Row("income", name, "vespene in 160 loops", median_figure(real), median_figure(values), band, rule)


def layout_rows() -> Iterator[Row]:
    """Rows of the simulator's own start base beside those of ladder maps, as a client sees them at the start."""
    with joined(START_MAP) as controller:
        seen = units(controller)
    types = {name: unit_data()[name]["unit_type"] for name in ("CommandCenter", "SCV", "VespeneGeyser")}
    hall = next(unit for unit in seen if unit.owner == OWN and unit.unit_type == types["CommandCenter"])

    def away(unit) -> float:  # type: ignore[no-untyped-def]
        return math.hypot(unit.pos.x - hall.pos.x, unit.pos.y - hall.pos.y)

    fields = [unit for unit in seen if unit.mineral_contents and away(unit) < 12]
    geysers = [unit for unit in seen if unit.vespene_contents and away(unit) < 12]
    workers = [unit for unit in seen if unit.owner == OWN and unit.unit_type == types["SCV"]]
    targets = collections.Counter(unit.orders[0].target_unit_tag for unit in workers if unit.orders)
    real = base_layouts()
    for contents in (1800, 900):
        count = [float(sum(c == contents for _, c in layout.mineral_fields)) for layout in real]
        ours = sum(unit.mineral_contents == contents for unit in fields)
        yield _layout_row(f"patches of {contents}", "patches", count, [float(ours)])
    yield _layout_row(
        "distance of patches",
        "world units",
        [math.hypot(*place) for layout in real for place, _ in layout.mineral_fields],
        [away(unit) for unit in fields],
    )
    yield _layout_row(
        "distance of geysers",
        "world units",
        [math.hypot(*place) for layout in real for place, _ in layout.geysers],
        [away(unit) for unit in geysers],
    )
    yield _layout_row(
        "distance of workers",
        "world units",
        [math.hypot(*place) for layout in real for place in layout.workers],
        [away(unit) for unit in workers],
    )
    most = float(max(targets.values(), default=0))
    yield _layout_row("workers sent to one patch", "workers", [12.0] * len(real), [most])


def _layout_row(name: str, unit: str, real: Sequence[float], ours: Sequence[float]) -> Row:
    band, rule = quartiles(real)
    if band[0] == band[1]:
        return Row("layouts", name, unit, Figure(band[0], None, len(real)), Figure(ours[0]), band, "equal")
    return Row("layouts", name, unit, median_figure(real), median_figure(ours), band, rule)
