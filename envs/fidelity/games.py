"""Games of the simulator through PySC2's controller, and the few requests that measurements need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pysc2_evolved import maps
from s2clientprotocol import common_pb2, debug_pb2, query_pb2, raw_pb2, sc2api_pb2

from envs.pysc2.client import SimulatorProcess, simulator

OWN, NEUTRAL = 1, 16
GAME_STATES = debug_pb2.DebugGameState


@contextmanager
def joined(map_name: str, *, race: int = common_pb2.Terran, seed: int = 1) -> Iterator[Any]:
    """A controller that has joined a game without fog, as its first player, against a computer that does nothing."""
    setup = [
        sc2api_pb2.PlayerSetup(type=sc2api_pb2.Participant),
        sc2api_pb2.PlayerSetup(type=sc2api_pb2.Computer, race=common_pb2.Terran, difficulty=sc2api_pb2.VeryEasy),
    ]
    request = sc2api_pb2.RequestCreateGame(player_setup=setup, disable_fog=True, random_seed=seed)
    request.local_map.map_path = maps.get(map_name).path
    with simulator():
        process = SimulatorProcess("memory")
    with process as controller:
        controller.create_game(request)
        options = sc2api_pb2.InterfaceOptions(raw=True, score=True)
        controller.join_game(sc2api_pb2.RequestJoinGame(race=race, options=options))  # type: ignore[arg-type]
        yield controller


def units(controller: Any) -> list[raw_pb2.Unit]:
    """All units of the observation."""
    return list(controller.observe().observation.raw_data.units)


def own(controller: Any, unit_type: int) -> list[raw_pb2.Unit]:
    """The player's units of a type."""
    return [unit for unit in units(controller) if unit.owner == OWN and unit.unit_type == unit_type]


def cheat(controller: Any, *states: int) -> None:
    """Sets debug states, such as `GAME_STATES.free`."""
    controller.debug([debug_pb2.DebugCommand(game_state=state) for state in states])  # type: ignore[arg-type]


def create(controller: Any, unit_type: int, x: float, y: float, *, owner: int = OWN) -> int:
    """Creates a unit near a place and returns its tag.

    Raises:
        RuntimeError: the game does not create it.
    """
    before = {unit.tag for unit in units(controller)}
    command = debug_pb2.DebugCommand()
    command.create_unit.unit_type, command.create_unit.owner, command.create_unit.quantity = unit_type, owner, 1
    command.create_unit.pos.x, command.create_unit.pos.y = x, y
    controller.debug([command])
    for _ in range(4):
        controller.step(1)
        for unit in units(controller):
            if unit.tag not in before and unit.unit_type == unit_type:
                return int(unit.tag)
    raise RuntimeError(f"unit type {unit_type} was not created at ({x:g}, {y:g})")


def order(
    controller: Any,
    tags: Sequence[int],
    ability: int,
    *,
    target: int | None = None,
    place: tuple[float, float] | None = None,
) -> None:
    """Gives units an order: with a target (a tag), a place, or neither."""
    action = sc2api_pb2.Action()
    command = action.action_raw.unit_command
    command.unit_tags.extend(tags)
    command.ability_id = ability
    if target is not None:
        command.target_unit_tag = target
    elif place is not None:
        command.target_world_space_pos.x, command.target_world_space_pos.y = place
    controller.act(action)


def free_place(controller: Any, ability: int, x: float, y: float, reach: int = 14) -> tuple[float, float]:
    """The nearest place around (x, y), on a grid of two cells, where a building may be placed.

    Raises:
        RuntimeError: there is none within `reach`.
    """
    offsets = sorted(
        ((dx, dy) for dx in range(-reach, reach + 1, 2) for dy in range(-reach, reach + 1, 2)),
        key=lambda offset: offset[0] ** 2 + offset[1] ** 2,
    )
    places = [(round(x) + dx + 0.5, round(y) + dy + 0.5) for dx, dy in offsets]
    request = query_pb2.RequestQuery()
    for place in places:
        asked = request.placements.add(ability_id=ability)
        asked.target_pos.x, asked.target_pos.y = place
    for place, answer in zip(places, controller.query(request).placements, strict=True):
        if answer.result == 1:
            return place
    raise RuntimeError(f"no place for ability {ability} within {reach} of ({x:g}, {y:g})")
