"""A client's session as a player: interface, camera, selection, and the actions that it takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from s2clientprotocol import error_pb2, raw_pb2, sc2api_pb2, spatial_pb2, ui_pb2

from envs.engine.state import layout as st
from envs.protocol.abilities import GATHER, RALLY, VERBS, Command, carry_out, interpret
from envs.protocol.layers import View, covers, minimap_view, screen_view, visible_slots
from envs.protocol.observation_messages import look
from envs.protocol.recorded import recorded_abilities
from envs.protocol.spells import GRAVITON_BEAM
from envs.protocol.tables import SEEN, SEES_ALL, SEES_CLOAKED, SEES_GRID, SEES_RAW, SEES_SCORE, TAG_MASK, TAG_SHIFT
from envs.protocol.world import World

MAX_SELECTED = 500
CLICK_MARGIN = 0.3  # how far beside a unit, in world units, a click still hits it


class PlayerSession:
    """One client's view of a game. `player` 0 observes all; `revealed` lifts the fog for this client alone."""

    def __init__(
        self, player: int, options: sc2api_pb2.InterfaceOptions, name: str = "", revealed: bool = False
    ) -> None:
        self.player = player
        self.options = options
        self.spatial = options.HasField("feature_layer") or options.HasField("render")
        self.name = name
        self.revealed = revealed
        self.pending: list[sc2api_pb2.Action] = []
        self.executed: list[tuple[int, sc2api_pb2.Action]] = []
        self.errors: list[sc2api_pb2.ActionError] = []
        self.chat: list[tuple[int, str]] = []
        self.target_loop: int | None = None
        self.left = False
        self.begin(None)

    def begin(self, world: World | None) -> None:
        """Forgets the game before; the camera starts over the own base, or over the arena."""
        self.pending.clear()
        self.executed.clear()
        self.errors.clear()
        self.selection: list[int] = []
        self.groups: dict[int, list[int]] = {}
        self.camera = (0.0, 0.0)
        self.target_loop = None
        self.grid = np.zeros((1, 1), np.uint8)
        self.memory = np.zeros(0, np.int32)
        self.dead: list[int] = []
        self.ghosts: list[raw_pb2.Unit] = []
        self.told = True
        self.looked = np.zeros((1, 3), np.float32)
        if world is None:
            return
        slots = world.state.ui.shape[1]
        self.memory = np.zeros(slots, np.int32)
        self.looked = np.zeros((slots + 1, 3), np.float32)
        x0, y0, x1, y1 = world.map.playable
        self.camera = ((x0 + x1) / 2, (y0 + y1) / 2)
        if world.is_melee and self.player and world.map.start_locations:
            self.camera = world.map.start_locations[(self.player - 1) % len(world.map.start_locations)]
            # As in the game, which centres the camera on the base by itself and reports it at the second loop.
            report = self._camera_report(world, *self.camera)
            if report is not None:
                report.game_loop = 1
                self.executed.append((2, report))
        self.grid = np.zeros((world.map.spec.height, world.map.spec.width), np.uint8)

    # --- what the player looks at ---

    def sees(self, world: World, disable_fog: bool = False) -> int:
        """What the player is shown, the bits SEES_*."""
        revealed = self.revealed or self.player in world.reveal
        bits = SEES_ALL if revealed or disable_fog or world.is_battle else 0
        if revealed or self.player == 0 or not world.has_fog:
            bits |= SEES_GRID
        options = self.options
        return (
            bits
            | (SEES_CLOAKED if options.show_cloaked else 0)
            | (SEES_RAW if options.raw else 0)
            | (SEES_SCORE if options.score else 0)
        )

    def update_grid(self, world: World) -> np.ndarray:
        """Visibility [height, width] of the map's cells: 0 unseen, 1 seen before, 2 in sight."""
        look(world.tables, self.player, self.sees(world), self.grid, self.looked, self.memory)
        return self.grid

    def bury(self, world: World) -> None:
        """Notes which deaths of `world.dead` the player learns of, since its last observation.

        It learns of units that it saw, or that fell where it looks. A building that it remembers stays as it was last
        seen until the player looks there again.
        """
        if self.told:
            self.dead = []
        self.told = False
        if not world.dead:
            return
        grid, all_seen = self.update_grid(world), self.player == 0 or bool(self.sees(world) & SEES_ALL)
        for tag, witnesses in world.dead:
            slot = (tag >> TAG_SHIFT) - 1
            if all_seen or witnesses >> self.player & 1 or self._looks_at(grid, world.place(slot)):
                self.dead.append(tag)
            elif self.memory[slot] == (tag - world.tag_offset) & TAG_MASK and not world.state.ui[0, slot, st.I_ALIVE]:
                self.ghosts.append(world.snapshot_of(slot, tag))

    def remembered(self, world: World) -> list[raw_pb2.Unit]:
        """Buildings that are gone, which the player does not know yet."""
        if self.ghosts:
            grid = self.update_grid(world)
            self.ghosts = [ghost for ghost in self.ghosts if not self._looks_at(grid, (ghost.pos.x, ghost.pos.y))]
        return self.ghosts

    @staticmethod
    def _looks_at(grid: np.ndarray, place: tuple[float, float]) -> bool:
        height, width = grid.shape
        return bool(grid[min(int(place[1]), height - 1), min(int(place[0]), width - 1)] == SEEN)

    def screen(self, setup: sc2api_pb2.SpatialCameraSetup) -> View:
        """What the screen of a spatial interface shows."""
        return screen_view(setup, self.camera)

    def selected_slots(self, world: World) -> list[int]:
        """Slots of the selected units that still live; forgets the others."""
        slots = [(tag, world.slot(tag)) for tag in self.selection]
        self.selection = [tag for tag, slot in slots if slot >= 0]
        return [slot for _, slot in slots if slot >= 0]

    def may_command(self, world: World, slot: int) -> bool:
        """Own units, and all with the debug command `control_enemy`."""
        owner = int(world.state.i[0, st.I_OWNER, slot])
        return owner == self.player or (self.player in world.control_enemy and owner != st.NEUTRAL)

    # --- actions ---

    def check(self, world: World, action: sc2api_pb2.Action) -> int:
        """The ActionResult of an action before it is carried out; what depends on the selection is judged then."""
        if not action.action_raw.HasField("unit_command"):
            return error_pb2.NotSupported if action.action_raw.HasField("toggle_autocast") else error_pb2.Success
        result = error_pb2.Error
        for _, outcome in self._interpret_raw(world, action):
            if isinstance(outcome, Command):
                return error_pb2.Success
            result = outcome
        return result

    def carry_out(self, world: World, action: sc2api_pb2.Action) -> sc2api_pb2.Action | None:
        """Carries an action out now; returns what is reported as executed, None if nothing was."""
        if action.action_raw.HasField("unit_command"):
            return self._raw_command(world, action)
        if action.action_raw.HasField("camera_move"):
            centre = action.action_raw.camera_move.center_world_space
            self._move_camera(world, centre.x, centre.y)
            return self._camera_report(world, centre.x, centre.y)
        for spatial, setup in (
            (action.action_feature_layer, self.options.feature_layer),
            (action.action_render, self.options.render),
        ):
            if spatial.WhichOneof("action"):
                return action if self._spatial(world, spatial, setup) else None
        if action.action_ui.WhichOneof("action"):
            return action if self._ui(world, action.action_ui) else None
        if action.action_raw.HasField("toggle_autocast"):
            self._refuse(0, action.action_raw.toggle_autocast.ability_id, error_pb2.NotSupported)
            return None
        return action if action.HasField("action_chat") else None

    def _refuse(self, tag: int, ability: int, result: int) -> None:
        if len(self.errors) < MAX_SELECTED:
            error = sc2api_pb2.ActionError(unit_tag=tag, ability_id=max(ability, 0))
            error.result = result  # type: ignore[assignment]
            self.errors.append(error)

    def _visible_target(self, world: World, tag: int) -> int:
        slot = world.slot(tag)
        if slot >= 0 and (world.sees(self.player, slot) or self.revealed):
            return slot
        return -1

    def _interpret_raw(self, world: World, action: sc2api_pb2.Action) -> Iterable[tuple[int, Command | int]]:
        command = action.action_raw.unit_command
        target, point = -1, None
        if command.HasField("target_unit_tag"):
            target = self._visible_target(world, command.target_unit_tag)
            if target < 0:
                yield 0, error_pb2.MustTargetVisibleUnit
                return
        elif command.HasField("target_world_space_pos"):
            point = (command.target_world_space_pos.x, command.target_world_space_pos.y)
            if not (np.isfinite(point).all() and max(map(abs, point)) < 1e6):
                yield 0, error_pb2.MustTargetVisibleLocation
                return
        for tag in command.unit_tags[:MAX_SELECTED]:
            slot = world.slot(tag)
            if slot < 0:
                continue
            if not self.may_command(world, slot):
                yield tag, error_pb2.YouCantControlThatUnit
            else:
                yield tag, interpret(world, slot, command.ability_id, target, point)

    def _raw_command(self, world: World, action: sc2api_pb2.Action) -> sc2api_pb2.Action | None:
        queued = action.action_raw.unit_command.queue_command
        done: list[tuple[int, int]] = []
        for tag, outcome in self._interpret_raw(world, action):
            if isinstance(outcome, Command) and carry_out(world, outcome, queued):
                done.append((tag, outcome.ability))
            elif isinstance(outcome, Command):
                self._refuse(tag, outcome.ability, error_pb2.CantQueueThatOrder if queued else error_pb2.Error)
            else:
                self._refuse(tag, action.action_raw.unit_command.ability_id, outcome)
        if not done:
            return None
        if self.options.raw_affects_selection:
            self.selection = [tag for tag, _ in done]
        report = sc2api_pb2.Action()
        report.CopyFrom(action)
        # The leader's own ability is what an order is reported as: an Observer among Zealots does not attack.
        report.action_raw.unit_command.ability_id = done[0][1]
        del report.action_raw.unit_command.unit_tags[:]
        report.action_raw.unit_command.unit_tags.extend(tag for tag, _ in done)
        self._report_on_layers(world, report)
        return report

    def _report_on_layers(self, world: World, report: sc2api_pb2.Action) -> None:
        """A command is reported in the terms of every interface that the client has: here, of the feature layers."""
        setup = self.options.feature_layer
        if not self.options.HasField("feature_layer") or not setup.resolution.x or not setup.minimap_resolution.x:
            return
        raw, spatial = report.action_raw.unit_command, report.action_feature_layer.unit_command
        spatial.ability_id, spatial.queue_command = raw.ability_id, raw.queue_command
        slot = world.slot(raw.target_unit_tag) if raw.HasField("target_unit_tag") else -1
        if slot >= 0:
            place = float(world.state.f[0, st.F_X, slot]), float(world.state.f[0, st.F_Y, slot])
        elif raw.HasField("target_world_space_pos"):
            place = raw.target_world_space_pos.x, raw.target_world_space_pos.y
        else:
            return
        screen = self.screen(setup)
        pixel = screen.pixel_at(*place)
        ability = recorded_abilities().get(raw.ability_id)
        far = ability is not None and ability.target in (2, 4)
        if screen.holds(*pixel) or not far:
            pixel = min(max(pixel[0], 0), screen.width - 1), min(max(pixel[1], 0), screen.height - 1)
            spatial.target_screen_coord.x, spatial.target_screen_coord.y = pixel
        else:
            view = minimap_view(setup, world)
            pixel = view.pixel_at(*place)
            spatial.target_minimap_coord.x = min(max(pixel[0], 0), view.width - 1)
            spatial.target_minimap_coord.y = min(max(pixel[1], 0), view.height - 1)

    def _move_camera(self, world: World, x: float, y: float) -> None:
        if np.isfinite(x) and np.isfinite(y):
            x0, y0, x1, y1 = world.map.playable
            self.camera = (min(max(float(x), x0), x1), min(max(float(y), y0), y1))

    def _camera_report(self, world: World, x: float, y: float) -> sc2api_pb2.Action | None:
        """A camera move is reported as one on the minimap, as in the game; without a minimap it is not."""
        if not self.options.HasField("feature_layer") or not self.options.feature_layer.minimap_resolution.x:
            return None
        view = minimap_view(self.options.feature_layer, world)
        report = sc2api_pb2.Action()
        centre = report.action_feature_layer.camera_move.center_minimap
        px, py = view.pixel_at(x, y)
        centre.x, centre.y = min(max(px, 0), view.width - 1), min(max(py, 0), view.height - 1)
        return report

    def _spatial(self, world: World, action: spatial_pb2.ActionSpatial, setup: sc2api_pb2.SpatialCameraSetup) -> bool:
        if not setup.resolution.x or not setup.minimap_resolution.x:
            self._refuse(0, 0, error_pb2.NotSupported)
            return False
        screen = self.screen(setup)
        if action.HasField("camera_move"):
            centre = action.camera_move.center_minimap
            self._move_camera(world, *minimap_view(setup, world).world(centre.x, centre.y))
            return True
        if action.HasField("unit_selection_point"):
            pick = action.unit_selection_point
            self._select_point(world, screen, pick.selection_screen_coord.x, pick.selection_screen_coord.y, pick.type)
            return True
        if action.HasField("unit_selection_rect"):
            chosen: list[int] = []
            for rectangle in action.unit_selection_rect.selection_screen_coord:
                ax, ay = screen.world(rectangle.p0.x, rectangle.p0.y)
                bx, by = screen.world(rectangle.p1.x, rectangle.p1.y)
                half = screen.pixel / 2
                for slot in world.slots_of(self.player):
                    x, y, r = (float(world.state.f[0, field, slot]) for field in (st.F_X, st.F_Y, st.F_RADIUS))
                    r = min(r, half) if r < half else r / 2
                    across = min(ax, bx) - half - r <= x <= max(ax, bx) + half + r
                    if across and min(ay, by) - half - r <= y <= max(ay, by) + half + r:
                        chosen.append(world.tag(slot))
            self._select(chosen, add=action.unit_selection_rect.selection_add)
            return True
        command = action.unit_command
        target, point = -1, None
        if command.HasField("target_screen_coord"):
            coord = command.target_screen_coord
            point = screen.world(coord.x, coord.y)
            target = self._unit_at(world, screen, coord.x, coord.y)
        elif command.HasField("target_minimap_coord"):
            point = minimap_view(setup, world).world(command.target_minimap_coord.x, command.target_minimap_coord.y)
        # A click names a unit only where the ability aims at units: moving to a beacon is moving to the place.
        verb = VERBS.get(command.ability_id, 0)
        aims = verb in (VERBS[23], VERBS[1], VERBS[386], GATHER, RALLY) or command.ability_id == GRAVITON_BEAM
        aims = aims or command.ability_id in world.kinds.gas_abilities
        if target >= 0 and world.state.i[0, st.I_OWNER, target] == st.NEUTRAL:
            aims = aims and world.has_economy and verb != VERBS[23]
        if not aims:
            target = -1
        if target >= 0 and VERBS.get(command.ability_id) == VERBS[23] and self.may_command(world, target):
            target = -1
        done = False
        for slot in self.selected_slots(world):
            if not self.may_command(world, slot):
                continue
            outcome = interpret(world, slot, command.ability_id, target, point)
            if isinstance(outcome, Command):
                done |= carry_out(world, outcome, command.queue_command)
            else:
                self._refuse(world.tag(slot), command.ability_id, outcome)
        return done

    def _unit_at(self, world: World, screen: View, px: int, py: int) -> int:
        """The unit that a click hits: the one drawn on top at the pixel, else the nearest within the margin."""
        best, nearest = -1, np.inf
        x, y = screen.world(px, py)
        slots = visible_slots(world, self.player, self.revealed)
        for slot in slots:
            place = float(world.state.f[0, st.F_X, slot]), float(world.state.f[0, st.F_Y, slot])
            radius = float(world.state.f[0, st.F_RADIUS, slot])
            if covers(screen, *place, radius, px, py):
                best, nearest = slot, -1.0
                continue
            reach = max(radius, screen.pixel * 0.75) + CLICK_MARGIN * screen.pixel
            distance = (place[0] - x) ** 2 + (place[1] - y) ** 2
            if distance <= reach * reach and distance < nearest:
                best, nearest = slot, distance
        return best

    # --- selection ---

    def _select(self, tags: list[int], add: bool = False) -> None:
        if add:
            self.selection = list(dict.fromkeys([*self.selection, *tags]))[:MAX_SELECTED]
        elif tags:
            # As in the game, an empty rectangle or a click on the ground leaves the selection as it is.
            self.selection = tags[:MAX_SELECTED]

    def _select_point(self, world: World, screen: View, px: int, py: int, how: int) -> None:
        kinds = spatial_pb2.ActionSpatialUnitSelectionPoint
        slot = self._unit_at(world, screen, px, py)
        if slot < 0 or not self.may_command(world, slot):
            return
        tag = world.tag(slot)
        if how == kinds.Toggle and tag in self.selection:
            self.selection.remove(tag)
        elif how in (kinds.AllType, kinds.AddAllType):
            kind = world.state.i[0, st.I_KIND, slot]
            same = []
            for other in world.slots_of(self.player):
                x, y = float(world.state.f[0, st.F_X, other]), float(world.state.f[0, st.F_Y, other])
                on_screen = screen.x0 <= x <= screen.x0 + screen.width * screen.pixel
                on_screen = on_screen and screen.y1 - screen.height * screen.pixel <= y <= screen.y1
                if world.state.i[0, st.I_KIND, other] == kind and on_screen:
                    same.append(world.tag(other))
            self._select(same, add=how == kinds.AddAllType)
        else:
            self._select([tag], add=how == kinds.Toggle)

    def _ui(self, world: World, action: ui_pb2.ActionUI) -> bool:
        name = action.WhichOneof("action")
        own = world.slots_of(self.player)
        if name == "select_army":
            army = [world.tag(slot) for slot in own if world.is_army(slot)]
            self._select(army, add=action.select_army.selection_add)
            return bool(army)
        if name == "select_idle_worker":
            return self._select_idle_worker(world, own, action.select_idle_worker.type)
        if name == "multi_panel":
            return self._multi_panel(world, action.multi_panel)
        if name == "control_group":
            return self._control_group(action.control_group)
        if name == "production_panel":
            slots = self.selected_slots(world)
            place = action.production_panel.unit_index
            if len(slots) == 1 and self.may_command(world, slots[0]) and world.cancel_production(slots[0], place):
                return True
            self._refuse(0, 0, error_pb2.Error)
            return False
        # Cargo, larvae, warp gates and autocast: the engine has none of them.
        self._refuse(0, action.toggle_autocast.ability_id if name == "toggle_autocast" else 0, error_pb2.NotSupported)
        return False

    def _select_idle_worker(self, world: World, own: list[int], how: int) -> bool:
        idle = [
            world.tag(slot)
            for slot in own
            if world.is_worker(slot) and world.state.i[0, st.I_ORDER, slot] == st.ORDER_STOP
        ]
        if not idle:
            return False
        kinds = ui_pb2.ActionSelectIdleWorker
        several = how in (kinds.All, kinds.AddAll)
        if not several:
            # Each press goes on to the next idle worker.
            after = [tag for tag in idle if tag > max([tag for tag in self.selection if tag in idle], default=0)]
            idle = [(after or idle)[0]]
        self._select(idle, add=how in (kinds.Add, kinds.AddAll))
        return True

    def _multi_panel(self, world: World, panel: ui_pb2.ActionMultiPanel) -> bool:
        self.selected_slots(world)
        if not 0 <= panel.unit_index < len(self.selection):
            self._refuse(0, 0, error_pb2.Error)
            return False
        tag = self.selection[panel.unit_index]
        kinds = world.state.i[0, st.I_KIND]
        same = [other for other in self.selection if kinds[world.slot(other)] == kinds[world.slot(tag)]]
        how = ui_pb2.ActionMultiPanel
        if panel.type == how.SingleSelect:
            self.selection = [tag]
        elif panel.type == how.DeselectUnit:
            self.selection.remove(tag)
        elif panel.type == how.SelectAllOfType:
            self.selection = same
        else:
            self.selection = [other for other in self.selection if other not in same]
        return True

    def _control_group(self, action: ui_pb2.ActionControlGroup) -> bool:
        how = ui_pb2.ActionControlGroup
        index = action.control_group_index
        if not 0 <= index <= 9:
            self._refuse(0, 0, error_pb2.Error)
            return False
        if action.action == how.Recall:
            self._select(list(self.groups.get(index, [])))
            return True
        if action.action in (how.SetAndSteal, how.AppendAndSteal):
            for other, tags in self.groups.items():
                self.groups[other] = [tag for tag in tags if tag not in self.selection or other == index]
        append = action.action in (how.Append, how.AppendAndSteal)
        self.groups[index] = list(dict.fromkeys([*(self.groups.get(index, []) if append else []), *self.selection]))
        return True
