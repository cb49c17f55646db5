"""What a player observes, as the bytes of a `ResponseObservation`."""

from __future__ import annotations

import numpy as np
from s2clientprotocol import common_pb2, raw_pb2, sc2api_pb2, ui_pb2

from envs.economy.tables import X_ABILITY, X_HEIGHT, X_WIDTH
from envs.engine.state import layout as st
from envs.protocol.abilities import available
from envs.protocol.layers import (
    draw,
    height_image,
    image,
    minimap_layers,
    minimap_view,
    rgb,
    screen_layers,
)
from envs.protocol.message_keys import ENEMY, NEUTRAL_ALLIANCE, SELF
from envs.protocol.observation_messages import write_observation
from envs.protocol.player import PlayerSession
from envs.protocol.spells import SHIELD_EFFECT, SHIELD_RADIUS
from envs.protocol.tables import M_BUFF_1, M_BUFF_2, SEEN, SEES_ALL
from envs.protocol.world import World

STIMPACK_BUFF = 27
SCREEN = 12.0  # half the width of what a player without a screen is taken to look at, in world units


class Observer:
    """Writes observations of one world.

    What every observation has goes out as bytes that compiled code wrote; what it seldom has, and pictures, are built
    as protobuf. The two are put one behind the other, as wire format allows.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._out = world.out.data

    def observe(self, session: PlayerSession, *, disable_fog: bool = False) -> bytes:
        """The bytes of a `ResponseObservation` for a player; hands over its executed actions, errors and chat."""
        world, player = self.world, session.player
        sees = session.sees(world, disable_fog)
        if session.options.raw or session.spatial:
            world.spells.update_marks(world)
        if session.selection:
            world.selected[:] = False
            world.selected[session.selected_slots(world)] = True
        x, y = session.camera
        x0, y0, x1, y1 = self._screen(session) if session.spatial else (x - SCREEN, y - SCREEN, x + SCREEN, y + SCREEN)
        start, end = write_observation(
            world.tables,
            session.memory,
            session.grid,
            session.looked,
            player,
            sees,
            world.tag_offset,
            world.loop,
            2 if world.is_melee else 1,
            world.score(player or 1),
            x,
            y,
            x0,
            y0,
            x1,
            y1,
        )
        if session.selection:
            world.selected[:] = False
        session.told = True
        rest = self._rest(session, disable_fog)
        return b"".join((self._out[start:end], rest)) if rest else self._out[start:end].tobytes()

    @staticmethod
    def _screen(session: PlayerSession) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of what the player's screen shows."""
        setup = session.options.feature_layer if session.options.HasField("feature_layer") else session.options.render
        view = session.screen(setup)
        return view.x0, view.y1 - view.height * view.pixel, view.x0 + view.width * view.pixel, view.y1

    def _rest(self, session: PlayerSession, disable_fog: bool) -> bytes:
        """What not every observation has."""
        world = self.world
        quiet = not (
            session.executed or session.errors or session.chat or session.dead or session.ghosts or world.spells.shields
        )
        if quiet and world.outcome is None and not session.spatial:
            return b""
        response = sc2api_pb2.ResponseObservation()
        due = [action for loop, action in session.executed if loop <= world.loop]
        if due:
            response.actions.extend(due)
            session.executed = [(loop, action) for loop, action in session.executed if loop > world.loop]
        if session.errors:
            response.action_errors.extend(session.errors)
            session.errors.clear()
        for player, message in session.chat:
            response.chat.add(player_id=player, message=message)
        session.chat.clear()
        if world.outcome is not None:
            for player, result in sorted(world.outcome.results.items()):
                response.player_result.add(player_id=player, result=result)  # type: ignore[arg-type]
        observation = response.observation
        if session.spatial:
            self._ui(observation, session)
            self._pictures(observation, session, disable_fog)
        if session.options.raw:
            raw = observation.raw_data
            if session.dead:
                raw.event.dead_units.extend(session.dead)
            raw.units.extend(session.remembered(world))
            for x, y, owner in self._effects(session, disable_fog):
                effect = raw.effects.add(effect_id=SHIELD_EFFECT, owner=owner, radius=SHIELD_RADIUS)
                effect.alliance = raw_pb2.Self if owner == session.player else raw_pb2.Enemy
                effect.pos.add(x=x, y=y)
        return response.SerializeToString()

    def _reveals(self, session: PlayerSession, disable_fog: bool) -> bool:
        return bool(session.sees(self.world, disable_fog) & SEES_ALL)

    def _effects(self, session: PlayerSession, disable_fog: bool) -> list[tuple[float, float, int]]:
        """(x, y, owner) of the Guardian Shields that a player sees."""
        grid, revealed = session.grid, self._reveals(session, disable_fog)
        height, width = grid.shape
        return [
            (x, y, owner)
            for x, y, owner in self.world.spells.shields_at(self.world)
            if revealed or owner == session.player or grid[min(int(y), height - 1), min(int(x), width - 1)] == SEEN
        ]

    # --- the interface panels ---

    def _unit_info(self, slot: int, player: int) -> ui_pb2.UnitInfo:
        world, f = self.world, self.world.state.f[0]
        owner = int(world.state.i[0, st.I_OWNER, slot])
        kind = int(world.state.i[0, st.I_KIND, slot])
        return ui_pb2.UnitInfo(
            unit_type=int(world.kinds.types[0 if owner == 1 else 1, kind]),
            player_relative=SELF if owner == player else (NEUTRAL_ALLIANCE if owner == st.NEUTRAL else ENEMY),
            health=int(f[st.F_HEALTH, slot]),
            shields=int(f[st.F_SHIELD, slot]),
            energy=int(f[st.F_ENERGY, slot]),
            max_health=int(f[st.F_HEALTH_MAX, slot]),
            max_shields=int(f[st.F_SHIELD_MAX, slot]),
            max_energy=int(f[st.F_ENERGY_MAX, slot]),
            build_progress=world.build_progress(slot),
        )

    def _ui(self, observation: sc2api_pb2.Observation, session: PlayerSession) -> None:
        world = self.world
        slots = session.selected_slots(world)
        for index, tags in sorted(session.groups.items()):
            alive = [slot for slot in (world.slot(tag) for tag in tags) if slot >= 0]
            if alive:
                leader = self._unit_info(alive[0], session.player).unit_type
                observation.ui_data.groups.add(control_group_index=index, leader_unit_type=leader, count=len(alive))
        if len(slots) == 1 and world.production(slots[0]) and session.may_command(world, slots[0]):
            production = observation.ui_data.production
            production.unit.CopyFrom(self._unit_info(slots[0], session.player))
            owner = 0 if int(world.state.i[0, st.I_OWNER, slots[0]]) == 1 else 1
            for kind, progress in world.production(slots[0]):
                number = int(world.kinds.types[owner, kind])
                production.build_queue.add(unit_type=number, player_relative=SELF, build_progress=progress)
                ability = int(world.tech.i[kind, X_ABILITY])
                production.production_queue.add(ability_id=ability, build_progress=progress)
        elif len(slots) == 1:
            panel = observation.ui_data.single
            panel.unit.CopyFrom(self._unit_info(slots[0], session.player))
            if world.state.f[0, st.F_STIM, slots[0]] > 0:
                panel.buffs.append(STIMPACK_BUFF)
            marks = world.spells.marks[slots[0]]
            panel.buffs.extend(int(marks[column]) for column in (M_BUFF_1, M_BUFF_2) if marks[column])
        elif slots:
            observation.ui_data.multi.units.extend(self._unit_info(slot, session.player) for slot in slots)
        offered: dict[int, bool] = {}
        for slot in slots:
            if session.may_command(world, slot):
                offered.update(available(world, slot))
        for ability, point in sorted(offered.items()):
            observation.abilities.add(ability_id=ability, requires_point=point)

    def _pictures(self, observation: sc2api_pb2.Observation, session: PlayerSession, disable_fog: bool) -> None:
        world, options = self.world, session.options
        session.update_grid(world)
        revealed = self._reveals(session, disable_fog)
        selected = set(session.selected_slots(world))
        for name in ("feature_layer", "render"):
            if not options.HasField(name):  # type: ignore[arg-type]
                continue
            setup = getattr(options, name)
            screen, minimap = session.screen(setup), minimap_view(setup, world)
            shields = self._effects(session, disable_fog)
            ghosts = options.show_cloaked
            shown = (session.grid, revealed, selected, shields, ghosts, session.memory)
            near, far = draw(world, session.player, screen, *shown), draw(world, session.player, minimap, *shown)
            if name == "feature_layer":
                data = observation.feature_layer_data
                data.renders.CopyFrom(screen_layers(near))
                data.minimap_renders.CopyFrom(minimap_layers(far, minimap, screen, setup.allow_cheating_layers))
            else:
                observation.render_data.map.CopyFrom(rgb(near))
                observation.render_data.minimap.CopyFrom(rgb(far))


def start_raw(world: World, player: int) -> raw_pb2.StartRaw:
    """The map for `game_info`: grids with row 0 at y = 0, and the other players' start locations."""
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
