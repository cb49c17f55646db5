"""What a seat observes, as the bytes of a `ResponseObservation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from s2clientprotocol import common_pb2, raw_pb2, sc2api_pb2, score_pb2, ui_pb2

from envs.economy import (
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_IDLE_PRODUCTION,
    B_IDLE_WORKERS,
    B_MINERALS,
    B_SPENT_MINERALS,
    B_SPENT_VESPENE,
    B_SUPPLY,
    B_SUPPLY_USED,
    B_VALUE_BUILDINGS,
    B_VALUE_UNITS,
    B_VESPENE,
    R_SUPPLY,
    X_ABILITY,
    X_HEIGHT,
    X_MINERALS,
    X_VESPENE,
    X_WIDTH,
    XF_SUPPLY,
    count_workers,
)
from envs.engine import state as st
from envs.protocol.abilities import available
from envs.protocol.kernels import (
    BYTES_PER_UNIT,
    ENEMY,
    M_BUFF_1,
    M_BUFF_2,
    NEUTRAL_ALLIANCE,
    NUM_COUNTS,
    NUM_SEE,
    ROLE_ARMY,
    ROLE_NONE,
    ROLE_WORKER,
    SEE_CLOAKED,
    SEE_ORDERS_OF_ALL,
    SEE_PLAYER,
    SEE_REVEALED,
    SEE_TAG_OFFSET,
    SELF,
    count_units,
    write_units,
)
from envs.protocol.layers import (
    SEEN,
    draw,
    height_image,
    image,
    minimap_layers,
    minimap_view,
    rgb,
    screen_layers,
)
from envs.protocol.seat import Seat
from envs.protocol.spells import SHIELD_EFFECT, SHIELD_RADIUS
from envs.protocol.world import WORKERS, World

STIMPACK_BUFF = 27
LOOPS_PER_WALL_SECOND = 22.4  # at the speed that games are played at


def wrap(field: int, *payload: bytes) -> bytes:
    """A length-delimited protobuf field. Repeated occurrences of a message field are merged by every parser."""
    return b"".join((_varint(field << 3 | 2), _varint(sum(map(len, payload))), *payload))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Observer:
    """Writes observations of one world; keeps the buffers between them.

    What there is much of, units and map, goes out as bytes that compiled code wrote; the rest is built as protobuf. The
    two are put one behind the other, as wire format allows.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        slots = world.state.i.shape[2]
        self._bytes = np.zeros(slots * BYTES_PER_UNIT, np.uint8)
        self._selected = np.zeros(slots, np.bool_)
        self._see = np.zeros(NUM_SEE, np.int64)
        self._camera = np.zeros(4, np.float32)
        height, width = world.static.pathable.shape
        size = common_pb2.Size2DI(x=width, y=height)
        visibility = common_pb2.ImageData(bits_per_pixel=8, size=size).SerializeToString()
        # The tag and length of `data`, which the bytes of the grid follow.
        self._visibility = visibility + wrap(3, bytes(height * width))[: -height * width]
        self._no_creep = wrap(2, image(np.zeros((height, width)), 1).SerializeToString())
        entries = world.rules.entries
        self._supply = world.tech.f[:, XF_SUPPLY].astype(np.float64)
        self._role = np.array([self._role_of(entry) for entry in entries], np.int64)
        self._counts = np.zeros(NUM_COUNTS)

    @staticmethod
    def _role_of(entry: Mapping[str, Any]) -> int:
        if entry["label"] in WORKERS.values():
            return ROLE_WORKER
        return ROLE_ARMY if entry["weapons"] or entry["heal"] else ROLE_NONE

    def observe(self, seat: Seat, *, disable_fog: bool = False) -> bytes:
        """The bytes of a `ResponseObservation` for a seat; hands over its executed actions, errors and chat."""
        world, options = self.world, seat.options
        response = sc2api_pb2.ResponseObservation()
        due = [action for loop, action in seat.executed if loop <= world.loop]
        if due:
            response.actions.extend(due)
            seat.executed = [(loop, action) for loop, action in seat.executed if loop > world.loop]
        if seat.errors:
            response.action_errors.extend(seat.errors)
            seat.errors.clear()
        for player, message in seat.chat:
            response.chat.add(player_id=player, message=message)
        seat.chat.clear()
        observation = response.observation
        observation.game_loop = world.loop
        self._player_common(observation.player_common, seat.player)
        if options.score:
            observation.score.score_type = 2 if world.is_melee else 1
            observation.score.score = world.score(seat.player or 1)
            self._score_details(observation.score.score_details, seat.player or 1)
        if world.outcome is not None:
            for player, result in sorted(world.outcome.results.items()):
                response.player_result.add(player_id=player, result=result)  # type: ignore[arg-type]
        spatial = options.HasField("feature_layer") or options.HasField("render")
        if options.raw or spatial:
            seat.update_grid(world)
            world.spells.update_marks(world)
        if spatial:
            self._ui(observation, seat)
            self._pictures(observation, seat, disable_fog)
        if not options.raw:
            return response.SerializeToString()
        raw = observation.raw_data
        raw.player.camera.x, raw.player.camera.y = seat.camera
        if world.dead:
            raw.event.dead_units.extend(world.dead)
        for x, y, owner in self._effects(seat, disable_fog):
            effect = raw.effects.add(effect_id=SHIELD_EFFECT, owner=owner, radius=SHIELD_RADIUS)
            effect.alliance = raw_pb2.Self if owner == seat.player else raw_pb2.Enemy
            effect.pos.add(x=x, y=y)
        visibility = wrap(1, self._visibility, seat.grid.tobytes())
        bulk = wrap(5, wrap(3, visibility, self._no_creep), self._units(seat, disable_fog))
        return response.SerializeToString() + wrap(3, bulk)

    def _reveals(self, seat: Seat, disable_fog: bool) -> bool:
        return disable_fog or seat.revealed or self.world.is_battle or seat.player in self.world.reveal

    def _effects(self, seat: Seat, disable_fog: bool) -> list[tuple[float, float, int]]:
        """(x, y, owner) of the Guardian Shields that a seat sees."""
        grid, revealed = seat.grid, self._reveals(seat, disable_fog)
        height, width = grid.shape
        return [
            (x, y, owner)
            for x, y, owner in self.world.spells.shields_at(self.world)
            if revealed or owner == seat.player or grid[min(int(y), height - 1), min(int(x), width - 1)] == SEEN
        ]

    def _units(self, seat: Seat, disable_fog: bool) -> bytes:
        world, see = self.world, self._see
        if world.has_economy:
            count_workers(world.state, world.tech, world.economy, 0)
        self._selected[:] = False
        if seat.selection:
            self._selected[seat.selected_slots(world)] = True
        see[SEE_PLAYER] = seat.player
        see[SEE_REVEALED] = self._reveals(seat, disable_fog)
        see[SEE_CLOAKED] = seat.options.show_cloaked
        see[SEE_TAG_OFFSET] = world.tag_offset
        see[SEE_ORDERS_OF_ALL] = seat.player == 0
        setup = seat.options.feature_layer if seat.options.HasField("feature_layer") else seat.options.render
        if setup.resolution.x:
            view = seat.screen(setup)
            self._camera[:] = (
                view.x0,
                view.y1 - view.height * view.pixel,
                view.x0 + view.width * view.pixel,
                view.y1,
            )
        else:
            x, y = seat.camera
            self._camera[:] = x - 12, y - 12, x + 12, y + 12
        count = write_units(
            world.state,
            world.static,
            world.tech,
            world.economy,
            world.spells.marks,
            seat.memory,
            world.ability,
            world.points,
            world.change,
            world.types,
            self._selected,
            self._camera,
            see,
            self._bytes,
        )
        return self._bytes[:count].tobytes()

    def _player_common(self, common: sc2api_pb2.PlayerCommon, player: int) -> None:
        world = self.world
        common.player_id = player
        if player == 0:
            return
        count_units(world.state, self._supply, self._role, player, self._counts)
        used, workers, idle, army = self._counts
        common.food_cap = 200
        if world.has_economy:
            bank = world.economy.bank[0, player]
            used = bank[B_SUPPLY_USED]
            common.minerals, common.vespene = int(bank[B_MINERALS]), int(bank[B_VESPENE])
            common.food_cap = int(min(bank[B_SUPPLY], world.tech.limits[R_SUPPLY]))
        common.food_used = int(used)
        common.food_workers = int(workers)
        common.food_army = int(used - workers)
        common.idle_worker_count = int(idle)
        common.army_count = int(army)

    def _score_details(self, details: score_pb2.ScoreDetails, player: int) -> None:
        """What the simulator counts: resources, supply and what is made; nothing of battles."""
        details.SetInParent()
        world = self.world
        if not world.has_economy:
            return
        bank = world.economy.bank[0, player]
        minutes = max(world.loop / (LOOPS_PER_WALL_SECOND * 60), 1e-6)
        details.idle_production_time = bank[B_IDLE_PRODUCTION] / st.LOOPS_PER_SECOND
        details.idle_worker_time = bank[B_IDLE_WORKERS] / st.LOOPS_PER_SECOND
        details.total_value_units = bank[B_VALUE_UNITS]
        details.total_value_structures = bank[B_VALUE_BUILDINGS]
        details.collected_minerals, details.collected_vespene = bank[B_COLLECTED_MINERALS], bank[B_COLLECTED_VESPENE]
        # The mean over the game so far; the game's own is over the last minute.
        details.collection_rate_minerals = bank[B_COLLECTED_MINERALS] / minutes
        details.collection_rate_vespene = bank[B_COLLECTED_VESPENE] / minutes
        details.spent_minerals, details.spent_vespene = bank[B_SPENT_MINERALS], bank[B_SPENT_VESPENE]
        for slot in world.slots_of(player):
            kind = int(world.state.i[0, st.I_KIND, slot])
            part = "army" if world.is_army(slot) else "economy" if world.is_economic(slot) else "technology"
            for field, value in (
                ("food_used", float(world.tech.f[kind, XF_SUPPLY])),
                ("used_minerals", float(world.tech.i[kind, X_MINERALS])),
                ("used_vespene", float(world.tech.i[kind, X_VESPENE])),
            ):
                category = getattr(details, field)
                setattr(category, part, getattr(category, part) + value)

    # --- the interface panels ---

    def _unit_info(self, slot: int, player: int) -> ui_pb2.UnitInfo:
        world, f = self.world, self.world.state.f[0]
        owner = int(world.state.i[0, st.I_OWNER, slot])
        kind = int(world.state.i[0, st.I_KIND, slot])
        return ui_pb2.UnitInfo(
            unit_type=int(world.types[0 if owner == 1 else 1, kind]),
            player_relative=SELF if owner == player else (NEUTRAL_ALLIANCE if owner == st.NEUTRAL else ENEMY),
            health=int(f[st.F_HEALTH, slot]),
            shields=int(f[st.F_SHIELD, slot]),
            energy=int(f[st.F_ENERGY, slot]),
            max_health=int(f[st.F_HEALTH_MAX, slot]),
            max_shields=int(f[st.F_SHIELD_MAX, slot]),
            max_energy=int(f[st.F_ENERGY_MAX, slot]),
            build_progress=world.build_progress(slot),
        )

    def _ui(self, observation: sc2api_pb2.Observation, seat: Seat) -> None:
        world = self.world
        slots = seat.selected_slots(world)
        for index, tags in sorted(seat.groups.items()):
            alive = [slot for slot in (world.slot(tag) for tag in tags) if slot >= 0]
            if alive:
                leader = self._unit_info(alive[0], seat.player).unit_type
                observation.ui_data.groups.add(control_group_index=index, leader_unit_type=leader, count=len(alive))
        if len(slots) == 1 and world.production(slots[0]) and seat.may_command(world, slots[0]):
            production = observation.ui_data.production
            production.unit.CopyFrom(self._unit_info(slots[0], seat.player))
            owner = 0 if int(world.state.i[0, st.I_OWNER, slots[0]]) == 1 else 1
            for kind, progress in world.production(slots[0]):
                number = int(world.types[owner, kind])
                production.build_queue.add(unit_type=number, player_relative=SELF, build_progress=progress)
                ability = int(world.tech.i[kind, X_ABILITY])
                production.production_queue.add(ability_id=ability, build_progress=progress)
        elif len(slots) == 1:
            panel = observation.ui_data.single
            panel.unit.CopyFrom(self._unit_info(slots[0], seat.player))
            if world.state.f[0, st.F_STIM, slots[0]] > 0:
                panel.buffs.append(STIMPACK_BUFF)
            marks = world.spells.marks[slots[0]]
            panel.buffs.extend(int(marks[column]) for column in (M_BUFF_1, M_BUFF_2) if marks[column])
        elif slots:
            observation.ui_data.multi.units.extend(self._unit_info(slot, seat.player) for slot in slots)
        offered: dict[int, bool] = {}
        for slot in slots:
            if seat.may_command(world, slot):
                offered.update(available(world, slot))
        for ability, point in sorted(offered.items()):
            observation.abilities.add(ability_id=ability, requires_point=point)

    def _pictures(self, observation: sc2api_pb2.Observation, seat: Seat, disable_fog: bool) -> None:
        world, options = self.world, seat.options
        revealed = self._reveals(seat, disable_fog)
        selected = set(seat.selected_slots(world))
        for name in ("feature_layer", "render"):
            if not options.HasField(name):  # type: ignore[arg-type]
                continue
            setup = getattr(options, name)
            screen, minimap = seat.screen(setup), minimap_view(setup, world)
            shields = self._effects(seat, disable_fog)
            ghosts = options.show_cloaked
            near = draw(world, seat.player, screen, seat.grid, revealed, selected, shields, ghosts)
            far = draw(world, seat.player, minimap, seat.grid, revealed, selected, shields, ghosts)
            if name == "feature_layer":
                data = observation.feature_layer_data
                data.renders.CopyFrom(screen_layers(near))
                data.minimap_renders.CopyFrom(minimap_layers(far, minimap, screen, setup.allow_cheating_layers))
            else:
                observation.render_data.map.CopyFrom(rgb(near))
                observation.render_data.minimap.CopyFrom(rgb(far))


def start_raw(world: World, player: int) -> raw_pb2.StartRaw:
    """The map as `game_info` tells it: grids with row 0 at y = 0, start locations of the others."""
    spec = world.map.spec
    x0, y0, x1, y1 = world.map.playable
    start = raw_pb2.StartRaw(map_size=common_pb2.Size2DI(x=spec.width, y=spec.height))
    start.playable_area.p0.x, start.playable_area.p0.y = int(x0), int(y0)
    start.playable_area.p1.x, start.playable_area.p1.y = int(np.ceil(x1)), int(np.ceil(y1))
    ys, xs = np.mgrid[0 : spec.height, 0 : spec.width]
    playable = (xs + 1 > x0) & (xs < x1) & (ys + 1 > y0) & (ys < y1)
    free = (world.static.pathable != 0) & playable
    start.pathing_grid.CopyFrom(image(free, 1))
    placement = free.copy()
    for unit in world.map.placed_units:
        kind = world.rules.kind.get(unit.name)
        if kind is not None:
            x, y = unit.position
            w, h = world.tech.i[kind, X_WIDTH] / 2, world.tech.i[kind, X_HEIGHT] / 2
            placement[round(y - h) : round(y + h), round(x - w) : round(x + w)] = False
    start.placement_grid.CopyFrom(image(placement, 1))
    start.terrain_height.CopyFrom(image(height_image(world), 8))
    for number, place in enumerate(world.map.start_locations, start=1):
        if number != player:
            start.start_locations.add(x=place[0], y=place[1])
    return start
