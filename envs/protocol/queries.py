"""Answers to `RequestQuery`: walking distances, abilities, and places for buildings."""

from __future__ import annotations

import heapq
import math

import numpy as np
from s2clientprotocol import error_pb2, query_pb2

from envs.economy.placement import grid_place, site_problem
from envs.economy.tables import X_ABILITY, X_WIDTH
from envs.engine.state import layout as st
from envs.protocol.abilities import REFUSALS, available
from envs.protocol.player import PlayerSession
from envs.protocol.world import World

MAX_QUERIES = 1000
_STEPS = [(dx, dy, math.hypot(dx, dy)) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]


def answer(world: World, session: PlayerSession, request: query_pb2.RequestQuery) -> query_pb2.ResponseQuery:
    """Answers every part of a query, in order.

    Raises:
        ValueError: more than `MAX_QUERIES` parts of a kind.
    """
    if max(len(request.pathing), len(request.abilities), len(request.placements)) > MAX_QUERIES:
        raise ValueError(f"a query may ask for at most {MAX_QUERIES} things of a kind")
    response = query_pb2.ResponseQuery()
    for pathing in request.pathing:
        flying = False
        start = (pathing.start_pos.x, pathing.start_pos.y)
        if pathing.HasField("unit_tag"):
            slot = world.slot(pathing.unit_tag)
            if slot < 0:
                response.pathing.add(distance=0)
                continue
            start = (float(world.state.f[0, st.F_X, slot]), float(world.state.f[0, st.F_Y, slot]))
            flying = bool(world.state.i[0, st.I_FLAGS, slot] & (st.FLAG_FLYING | st.FLAG_COLOSSUS))
        response.pathing.add(distance=distance(world, start, (pathing.end_pos.x, pathing.end_pos.y), flying))
    for wanted in request.abilities:
        slot = world.slot(wanted.unit_tag)
        entry = response.abilities.add(unit_tag=wanted.unit_tag)
        if slot >= 0 and session.may_command(world, slot):
            owner = 0 if int(world.state.i[0, st.I_OWNER, slot]) == 1 else 1
            entry.unit_type_id = int(world.kinds.types[owner, int(world.state.i[0, st.I_KIND, slot])])
            for ability, point in available(world, slot):
                entry.abilities.add(ability_id=ability, requires_point=point)
    for placement in request.placements:
        place = (placement.target_pos.x, placement.target_pos.y)
        response.placements.add(result=place_result(world, session, placement.ability_id, place))  # type: ignore[arg-type]
    return response


def place_result(world: World, session: PlayerSession, ability: int, place: tuple[float, float]) -> int:
    """The ActionResult of placing the building of an ability: whether it fits there, not whether it can be paid."""
    if not world.has_economy:
        return error_pb2.NotSupported
    abilities = world.tech.i[:, X_ABILITY]
    kinds = np.flatnonzero((abilities == ability) & (world.tech.i[:, X_WIDTH] > 0))
    if not len(kinds):
        return error_pb2.NotSupported
    if not all(math.isfinite(part) and abs(part) < 1e6 for part in place):
        return error_pb2.CantBuildLocationInvalid
    kind = int(kinds[0])
    x, y = grid_place(world.tech, kind, *place)
    problem = site_problem(world.state, world.static, world.tech, world.economy, 0, session.player, kind, x, y)
    return REFUSALS.get(problem, error_pb2.Success)


def distance(world: World, start: tuple[float, float], end: tuple[float, float], flying: bool) -> float:
    """Length of the way between two places: straight in the air, over the pathing grid on the ground; 0 = no way."""
    x0, y0, x1, y1 = world.map.playable
    for x, y in (start, end):
        if not (x0 <= x <= x1 and y0 <= y <= y1):
            return 0.0
    pathable = world.static.pathable
    if flying or pathable.all():
        return math.dist(start, end)
    height, width = pathable.shape

    def cell(place: tuple[float, float]) -> tuple[int, int]:
        return min(int(place[0]), width - 1), min(int(place[1]), height - 1)

    first, goal = cell(start), cell(end)
    if not (pathable[first[1], first[0]] and pathable[goal[1], goal[0]]):
        return 0.0
    best = {first: 0.0}
    queue = [(math.dist(first, goal), first)]
    while queue:
        _, here = heapq.heappop(queue)
        if here == goal:
            return max(best[here], math.dist(start, end))
        for dx, dy, length in _STEPS:
            x, y = here[0] + dx, here[1] + dy
            if not (0 <= x < width and 0 <= y < height and pathable[y, x]):
                continue
            if dx and dy and not (pathable[here[1], x] and pathable[y, here[0]]):
                continue  # no cutting of corners
            walked = best[here] + length
            if walked < best.get((x, y), math.inf):
                best[x, y] = walked
                heapq.heappush(queue, (walked + math.dist((x, y), goal), (x, y)))
    return 0.0
