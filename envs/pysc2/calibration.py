"""Calibration: the same small experiments in the game and in the simulator, side by side.

    python -m envs.pysc2.calibration --transport game --out game.json   # with StarCraft II (SC2PATH)
    python -m envs.pysc2.calibration --transport memory                 # the simulator against itself: no difference
    python -m envs.pysc2.calibration --recorded game.json               # a recording beside this simulator

The same code records both sides through PySC2's controller. Debug requests create units on an empty flat map, orders
are raw commands, and every game loop is observed. Duels measure damage, time between hits and time to kill. Moves
measure speed and arrival, heals measure rate and energy. Splash measures what each neighbour of the target takes.

The second side is a built-in computer of the lowest level (in the simulator it gives no orders). The game's may wake up
and command the units that it is given; the recording keeps every unit's path, so that this can be seen.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from pysc2_evolved import maps, run_configs
from pysc2_evolved.lib import sc_process
from s2clientprotocol import common_pb2, debug_pb2, sc2api_pb2

from envs.pysc2.client import TRANSPORTS, SimulatorProcess, simulator
from envs.scenarios.units import unit_data
from perceiver_agents.paths import make_absolute

ATTACK, MOVE, HEAL = 3674, 3794, 386
OWN, ENEMY = 1, 2
FIELDS = ("x", "y", "health", "shield", "energy")


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A unit of an experiment; `x`, `y` count from the middle of the map, `health` None = full."""

    unit: str
    owner: int
    x: float
    y: float = 0.0
    health: float | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The first unit gets one order; all units are watched for `loops` game loops."""

    name: str
    kind: Literal["duel", "move", "heal", "splash"]
    units: tuple[Placed, ...]
    loops: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was seen: `trace[t][n]` holds `FIELDS` of unit `n` after `t` loops, None when it is dead."""

    experiment: str
    trace: list[list[list[float] | None]] = field(repr=False)
    measures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What to record, and with what the simulator is compared."""

    transport: Literal["game", "memory", "websocket"] = "memory"
    map_name: str = "Flat64"
    """A flat melee map that PySC2 knows."""
    recorded: Path | None = None
    """Recordings made before, used instead of new ones."""
    out: Path | None = None
    """JSON file for the recordings and the comparison."""

    def __post_init__(self) -> None:
        make_absolute(self, "recorded", "out")


def duel(attacker: str, target: str, gap: float, loops: int = 800) -> Experiment:
    """`attacker` is ordered to attack `target`, which defends itself, from `gap` (centre to centre)."""
    units = (
        Placed(unit=attacker, owner=OWN, x=-gap / 2),
        Placed(unit=target, owner=ENEMY, x=gap / 2),
    )
    return Experiment(name=f"{attacker} attacks {target}", kind="duel", units=units, loops=loops)


def move(unit: str, distance: float = 10.0) -> Experiment:
    """`unit` is ordered to go `distance` to the east."""
    units = (Placed(unit=unit, owner=OWN, x=-distance / 2),)
    return Experiment(name=f"{unit} goes {distance:g}", kind="move", units=units, loops=160)


def splash(attacker: str, victim: str, gap: float) -> Experiment:
    """`attacker` is ordered to attack the first of five `victim`s that stand in a cross."""
    places = ((0.0, 0.0), (0.0, 0.8), (0.0, -0.8), (0.8, 0.0), (0.0, 1.6))
    victims = tuple(Placed(unit=victim, owner=ENEMY, x=gap / 2 + x, y=y) for x, y in places)
    units = (Placed(unit=attacker, owner=OWN, x=-gap / 2), *victims)
    return Experiment(name=f"{attacker} hits a cross of {victim}s", kind="splash", units=units, loops=160)


EXPERIMENTS = (
    duel("Marine", "Zealot", 4.0),
    duel("Zealot", "Marine", 4.0),
    duel("Marauder", "Roach", 5.0),
    duel("Stalker", "Roach", 5.0),
    duel("Roach", "Stalker", 4.0),
    duel("Hydralisk", "Zealot", 5.0),
    duel("Immortal", "Roach", 5.0),
    duel("Zergling", "Marine", 3.0),
    duel("Colossus", "Zealot", 5.0),
    *(move(unit) for unit in ("Marine", "Zealot", "Zergling", "Medivac", "Colossus", "SiegeTank")),
    Experiment(
        name="Medivac heals Marine",
        kind="heal",
        units=(Placed(unit="Medivac", owner=OWN, x=-1.0), Placed(unit="Marine", owner=OWN, x=1.0, health=5.0)),
        loops=128,
    ),
    splash("SiegeTankSieged", "Marauder", 9.0),
    splash("Baneling", "Marine", 3.0),
    splash("Colossus", "Zergling", 6.0),
)


@contextmanager
def game(transport: str, map_name: str) -> Iterator[Any]:
    """A running game on an empty map: PySC2's controller, joined as the first player, fog off.

    Raises:
        RuntimeError: the game is asked for and cannot be started.
    """
    setup = [
        sc2api_pb2.PlayerSetup(type=sc2api_pb2.Participant),
        sc2api_pb2.PlayerSetup(type=sc2api_pb2.Computer, race=common_pb2.Terran, difficulty=sc2api_pb2.VeryEasy),
    ]
    request = sc2api_pb2.RequestCreateGame(player_setup=setup, disable_fog=True, random_seed=1)
    chosen = maps.get(map_name)
    request.local_map.map_path = chosen.path
    if transport in TRANSPORTS:
        with simulator(transport):
            process: Any = SimulatorProcess(transport)
    else:
        try:
            config = run_configs.get()
            request.local_map.map_data = chosen.data(config)
            process = config.start(want_rgb=False)
        except (sc_process.SC2LaunchError, FileNotFoundError, ValueError) as error:
            raise RuntimeError(
                f"StarCraft II could not be started ({error}); install it with the map {map_name}, set SC2PATH to its "
                "folder, or use --transport memory"
            ) from error
    with process as controller:
        controller.create_game(request)
        options = sc2api_pb2.InterfaceOptions(raw=True)
        controller.join_game(sc2api_pb2.RequestJoinGame(race=common_pb2.Terran, options=options))
        yield controller


def _units(controller: Any) -> list[Any]:
    return list(controller.observe().observation.raw_data.units)


def record(controller: Any, experiment: Experiment) -> Recording:
    """Plays one experiment and leaves the map empty."""
    size = controller.game_info().start_raw.map_size
    middle_x, middle_y = size.x / 2, size.y / 2
    _clear(controller)
    tags = _create(controller, experiment.units, middle_x, middle_y)
    values = [
        debug_pb2.DebugCommand(
            unit_value=debug_pb2.DebugSetUnitValue(
                unit_value=debug_pb2.DebugSetUnitValue.Life, value=placed.health, unit_tag=tag
            )
        )
        for placed, tag in zip(experiment.units, tags, strict=True)
        if placed.health is not None
    ]
    if values:
        controller.debug(values)
        controller.step(1)
    action = sc2api_pb2.Action()
    order = action.action_raw.unit_command
    order.unit_tags.append(tags[0])
    order.ability_id = {"duel": ATTACK, "splash": ATTACK, "move": MOVE, "heal": HEAL}[experiment.kind]
    if experiment.kind == "move":
        order.target_world_space_pos.x = middle_x - experiment.units[0].x
        order.target_world_space_pos.y = middle_y
    else:
        order.target_unit_tag = tags[1]
    controller.act(action)
    trace = [_look(controller, tags)]
    while len(trace) <= experiment.loops and not _over(experiment, trace[-1]):
        controller.step(1)
        trace.append(_look(controller, tags))
    return Recording(experiment=experiment.name, trace=trace, measures=measure(experiment, trace))


def _clear(controller: Any) -> None:
    tags = [unit.tag for unit in _units(controller) if unit.owner in (OWN, ENEMY) and _movable(unit)]
    if tags:
        controller.debug([debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=tags))])
        controller.step(2)


def _movable(unit: Any) -> bool:
    """Bases stay, or the game would be over; everything that can wander into an experiment goes."""
    return not unit.HasField("build_progress") or unit.radius < 2.0


def _create(controller: Any, units: Sequence[Placed], middle_x: float, middle_y: float) -> list[int]:
    """Creates the units with one request, so that nobody acts before the others are there; their tags."""
    before = {unit.tag for unit in _units(controller)}
    commands = []
    for placed in units:
        make = debug_pb2.DebugCreateUnit(unit_type=_type_id(placed), owner=placed.owner, quantity=1)
        make.pos.x, make.pos.y = middle_x + placed.x, middle_y + placed.y
        commands.append(debug_pb2.DebugCommand(create_unit=make))
    controller.debug(commands)
    for _ in range(8):
        controller.step(1)
        fresh = [unit for unit in _units(controller) if unit.tag not in before]
        tags = []
        for placed in units:
            x, y = middle_x + placed.x, middle_y + placed.y
            same = [unit for unit in fresh if unit.owner == placed.owner and unit.unit_type == _type_id(placed)]
            if not same:
                break
            nearest = min(same, key=lambda unit: (unit.pos.x - x) ** 2 + (unit.pos.y - y) ** 2)
            tags.append(int(nearest.tag))
            fresh.remove(nearest)
        else:
            return tags
    raise RuntimeError(f"units were not created: {', '.join(placed.unit for placed in units)}")


def _type_id(placed: Placed) -> int:
    return int(unit_data()[placed.unit]["unit_type"])


def _full(placed: Placed) -> float:
    """Health and shield of an unhurt unit."""
    entry = unit_data()[placed.unit]
    return float(entry["health"] + entry["shield"])


def _look(controller: Any, tags: Sequence[int]) -> list[list[float] | None]:
    seen = {unit.tag: unit for unit in _units(controller)}
    return [
        [seen[tag].pos.x, seen[tag].pos.y, seen[tag].health, seen[tag].shield, seen[tag].energy]
        if tag in seen
        else None
        for tag in tags
    ]


def _over(experiment: Experiment, now: Sequence[list[float] | None]) -> bool:
    """Somebody of a duel is dead; a splash attack has landed on its target."""
    if experiment.kind == "splash":
        return now[1] is None or now[1][2] + now[1][3] < _full(experiment.units[1])
    return experiment.kind == "duel" and any(unit is None for unit in now)


def measure(experiment: Experiment, trace: Sequence[Sequence[list[float] | None]]) -> dict[str, float]:
    """The figures of one recording: damage and health in points, times in game loops, speeds in units a loop."""
    measures: dict[str, float] = {}
    if experiment.kind == "duel":
        # Regeneration between hits is less than half a point.
        vitality = [0.0 if row[1] is None else row[1][2] + row[1][3] for row in trace]
        hits = [t for t in range(1, len(vitality)) if vitality[t - 1] - vitality[t] > 0.5]
        if hits:
            measures["first hit after"] = hits[0]
            measures["damage of a hit"] = vitality[hits[0] - 1] - vitality[hits[0]]
        if len(hits) > 2:
            measures["time between hits"] = statistics.mean(b - a for a, b in itertools.pairwise(hits))
        for n, name in enumerate(("attacker dies after", "target dies after")):
            if trace[-1][n] is None:
                measures[name] = len(trace) - 1
    elif experiment.kind == "move":
        path = [row[0] for row in trace if row[0] is not None]
        steps = [((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 for a, b in itertools.pairwise(path)]
        measures["top speed"] = max(steps, default=0.0)
        goal = path[-1]
        near = (t for t, at in enumerate(path) if ((at[0] - goal[0]) ** 2 + (at[1] - goal[1]) ** 2) ** 0.5 < 0.05)
        measures["arrives after"] = next(near)
        measures["stops at"] = goal[0] - path[0][0]
    elif experiment.kind == "heal":
        healer, patient = [row[0] for row in trace], [row[1] for row in trace]
        rises = [
            (t, b[2] - a[2], c[4] - d[4])
            for t, (a, b, c, d) in enumerate(zip(patient, patient[1:], healer, healer[1:], strict=False))
            if a is not None and b is not None and c is not None and d is not None and b[2] > a[2]
        ]
        if len(rises) > 2:
            rises.pop()  # the last one may find less to heal
            total = sum(rise for _, rise, _ in rises)
            measures["first heal after"] = rises[0][0] + 1
            measures["health a loop"] = total / (rises[-1][0] - rises[0][0] + 1)
            measures["energy a point, net"] = sum(spent for _, _, spent in rises) / total
    else:
        for n, after in enumerate(trace[-1][1:], start=1):
            left = 0.0 if after is None else after[2] + after[3]
            measures[f"damage to victim {n}"] = _full(experiment.units[n]) - left
    return measures


def record_all(
    transport: str, map_name: str = "Flat64", experiments: Sequence[Experiment] = EXPERIMENTS
) -> list[Recording]:
    """Records the experiments one after another in one game."""
    with game(transport, map_name) as controller:
        return [record(controller, experiment) for experiment in experiments]


def compare(
    recorded: Mapping[str, Mapping[str, float]], simulated: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """One row a measure: both values and their difference; a value that only one side has is NaN on the other."""
    rows = []
    for name in recorded:
        mine = simulated.get(name, {})
        for key in [*recorded[name], *(key for key in mine if key not in recorded[name])]:
            theirs, ours = recorded[name].get(key, float("nan")), mine.get(key, float("nan"))
            rows.append(
                {"experiment": name, "measure": key, "recorded": theirs, "simulator": ours, "difference": ours - theirs}
            )
    return rows


def main(config: Calibration) -> list[dict[str, Any]]:
    """Records (or reads) and compares; prints the table and returns its rows."""
    if config.recorded is None:
        recordings = record_all(config.transport, config.map_name)
    else:
        saved = json.loads(config.recorded.read_text())
        recordings = [Recording(**entry) for entry in saved["recordings"]]
    simulated = record_all("memory")
    rows = compare(
        {entry.experiment: entry.measures for entry in recordings},
        {entry.experiment: entry.measures for entry in simulated},
    )
    print(f"{'experiment':36s} {'measure':22s} {'recorded':>10s} {'simulator':>10s} {'difference':>10s}")
    for row in rows:
        values = f"{row['recorded']:10.3f} {row['simulator']:10.3f} {row['difference']:+10.3f}"
        print(f"{row['experiment']:36s} {row['measure']:22s} {values}")
    if config.out is not None:
        result = {
            "transport": config.transport,
            "comparison": rows,
            "recordings": [asdict(entry) for entry in recordings],
        }
        config.out.write_text(json.dumps(result))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Calibration))
