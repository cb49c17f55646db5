"""Feature layers of the screen and the minimap, and plain pictures for clients that ask for rendered ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from s2clientprotocol import common_pb2, sc2api_pb2, spatial_pb2

from envs.engine.state import layout as st
from envs.engine.state.layout import F_RADIUS, F_X, F_Y, I_KIND, I_OWNER, K_SIGHT
from envs.protocol.drawing import draw_ground, draw_units
from envs.protocol.message_keys import ENEMY, NEUTRAL_ALLIANCE, SELF, STIMPACK_MARINE
from envs.protocol.spells import SHIELD_EFFECT, SHIELD_RADIUS
from envs.protocol.tables import M_BUFF_1, M_BUFF_2, M_ILLUSION_KNOWN, SEEN
from envs.protocol.world import World

# (layer, bits per pixel) that are drawn from units; in the order of the columns of `_unit_values`.
UNIT_LAYERS = (
    ("player_id", 8),
    ("player_relative", 8),
    ("unit_type", 32),
    ("selected", 1),
    ("unit_hit_points", 32),
    ("unit_hit_points_ratio", 8),
    ("unit_energy", 32),
    ("unit_energy_ratio", 8),
    ("unit_shields", 32),
    ("unit_shields_ratio", 8),
    ("cloaked", 1),
    ("buffs", 8),
    ("buff_duration", 8),
    ("active", 1),
    ("build_progress", 8),
    ("hallucinations", 1),
)
GROUND_LAYERS = (("height_map", 8), ("visibility_map", 8), ("pathable", 1), ("buildable", 1))
EMPTY_LAYERS = (("creep", 1), ("power", 1), ("blip", 1), ("placeholder", 1))
# Layers that show a cloaked unit that is not detected: whose and what it is, and that it is cloaked.
GHOST_LAYERS = ("player_id", "player_relative", "unit_type", "cloaked")
# Layers that show a building or a resource that is known but out of sight.
SNAPSHOT_LAYERS = ("player_id", "player_relative", "unit_type")
MINIMAP_UNIT_LAYERS = (("player_id", 8), ("player_relative", 8), ("unit_type", 32), ("selected", 1))
_TYPES = {8: np.uint8, 32: np.int32}


@dataclass(frozen=True)
class View:
    """Part of the map: `width` x `height` pixels of `pixel` world units, (x0, y1) its upper left corner."""

    width: int
    height: int
    pixel: float
    x0: float
    y1: float

    def world(self, px: float, py: float) -> tuple[float, float]:
        """The place in the world at the middle of a pixel."""
        return self.x0 + (px + 0.5) * self.pixel, self.y1 - (py + 0.5) * self.pixel

    def pixel_at(self, x: float, y: float) -> tuple[int, int]:
        """The pixel that a place in the world lies on, which may be outside the view."""
        return math.floor((x - self.x0) / self.pixel), math.floor((self.y1 - y) / self.pixel)

    def holds(self, px: int, py: int) -> bool:
        """Whether a pixel is in the view."""
        return 0 <= px < self.width and 0 <= py < self.height


def screen_view(setup: sc2api_pb2.SpatialCameraSetup, camera: tuple[float, float]) -> View:
    """What the screen of a spatial interface shows around the camera."""
    width, height = setup.resolution.x, setup.resolution.y
    pixel = (setup.width or 24.0) / width
    return View(width, height, pixel, camera[0] - pixel * width / 2, camera[1] + pixel * height / 2)


def minimap_view(setup: sc2api_pb2.SpatialCameraSetup, world: World) -> View:
    """The whole map, or its playable part, in the upper left of the minimap's pixels."""
    width, height = setup.minimap_resolution.x, setup.minimap_resolution.y
    x0, y0, x1, y1 = (
        world.map.playable if setup.crop_to_playable_area else (0, 0, world.map.spec.width, world.map.spec.height)
    )
    return View(width, height, max((x1 - x0) / width, (y1 - y0) / height), x0, y1)


def image(array: np.ndarray, bits: int) -> common_pb2.ImageData:
    """An ImageData of array [H, W]; one bit a pixel is packed with the first pixel in the highest bit."""
    data = np.packbits(array != 0) if bits == 1 else np.ascontiguousarray(array, dtype=_TYPES[bits])
    size = common_pb2.Size2DI(x=array.shape[1], y=array.shape[0])
    return common_pb2.ImageData(bits_per_pixel=bits, size=size, data=data.tobytes())


def height_image(world: World) -> np.ndarray:
    """Terrain height [height, width] as the protocol's bytes: 0 to 255 are -16 to 16 world units."""
    return np.clip(np.round((world.static.terrain + 16.0) * (255.0 / 32.0)), 0, 255).astype(np.int32)


def visible_slots(world: World, player: int, revealed: bool) -> list[int]:
    """Units that a player's layers show in the order that they are drawn in: buildings, ground units, air units."""
    flags = world.state.i[0, st.I_FLAGS]
    slots = [int(i) for i in world.alive_slots() if revealed or world.sees(player, int(i))]
    return sorted(slots, key=lambda i: (flags[i] & st.FLAG_FLYING, not flags[i] & st.FLAG_STRUCTURE))


def snapshot_slots(world: World, player: int, memory: np.ndarray) -> list[int]:
    """Buildings and resources that a player knows and does not see; memory [N]: tags of the buildings seen so far."""
    i = world.state.i[0]
    alive = world.alive_slots()
    known = (i[st.I_TAG, alive] == memory[alive]) | (i[I_OWNER, alive] == st.NEUTRAL)
    return [int(j) for j in alive[known] if not world.sees(player, int(j))]


def covers(view: View, x: float, y: float, radius: float, px: int, py: int) -> bool:
    """Whether `draw_units` draws a disc with its centre at (x, y) over a pixel."""
    dx, dy = px - (x - view.x0) / view.pixel + 0.5, py - (view.y1 - y) / view.pixel + 0.5
    r = max(radius / view.pixel, 0.5)
    return (abs(dx) <= 0.5 and abs(dy) <= 0.5) or dx * dx + dy * dy <= r * r


def ghost_slots(world: World, player: int) -> list[int]:
    """Cloaked enemies that a player has in sight but does not detect."""
    f, i = world.state.f[0], world.state.i[0]
    own = world.slots_of(player)
    cloaked = [int(j) for j in world.alive_slots() if i[st.I_FLAGS, j] & st.FLAG_CLOAKED]
    ghosts = []
    for j in cloaked:
        if i[I_OWNER, j] == player or world.sees(player, j) or not own:
            continue
        sight = world.static.kind_f[i[I_KIND, own], K_SIGHT] + f[F_RADIUS, j]
        if (np.hypot(f[F_X, own] - f[F_X, j], f[F_Y, own] - f[F_Y, j]) <= sight).any():
            ghosts.append(j)
    return ghosts


def _unit_values(world: World, player: int, slots: list[int], selected: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """places [n, 3] and values [n, len(UNIT_LAYERS)] of units."""
    f, i = world.state.f[0], world.state.i[0]
    places = np.stack([f[F_X, slots], f[F_Y, slots], f[F_RADIUS, slots]], axis=1).astype(np.float64)
    owner = i[I_OWNER, slots]
    kinds = i[I_KIND, slots]

    def ratio(value: np.ndarray, most: np.ndarray) -> np.ndarray:
        return np.where(most > 0, value / np.maximum(most, 1e-6) * 255, 0)

    relative = np.where(owner == player, SELF, np.where(owner == st.NEUTRAL, NEUTRAL_ALLIANCE, ENEMY))
    mortal = owner != st.NEUTRAL
    stim = f[st.F_STIM, slots]
    marks = world.spells.marks[slots]
    spell_buff = np.where(marks[:, M_BUFF_2] != 0, marks[:, M_BUFF_2], marks[:, M_BUFF_1])
    progress = np.array([world.build_progress(slot) for slot in slots])
    producing = np.array([bool(world.production(slot)) for slot in slots]) if world.has_economy else False
    columns = (
        owner,
        relative,
        np.where(owner == 1, world.kinds.types[0, kinds], world.kinds.types[1, kinds]),
        np.isin(slots, list(selected)),
        np.where(mortal, f[st.F_HEALTH, slots], 0),
        np.where(mortal, ratio(f[st.F_HEALTH, slots], f[st.F_HEALTH_MAX, slots]), 0),
        f[st.F_ENERGY, slots],
        ratio(f[st.F_ENERGY, slots], f[st.F_ENERGY_MAX, slots]),
        f[st.F_SHIELD, slots],
        ratio(f[st.F_SHIELD, slots], f[st.F_SHIELD_MAX, slots]),
        (i[st.I_FLAGS, slots] & st.FLAG_CLOAKED) != 0,
        np.where(stim > 0, STIMPACK_MARINE, spell_buff),
        ratio(stim, world.static.kind_f[kinds, st.K_STIM_TIME]),
        (i[st.I_ORDER, slots] != st.ORDER_STOP) | (i[st.I_TARGET, slots] >= 0) | producing,
        np.where(progress < 1, progress * 255, 0),
        (marks[:, M_ILLUSION_KNOWN] >> player) & 1,
    )
    return places, np.stack([np.asarray(column) for column in columns], axis=1).astype(np.int32)


@dataclass
class Picture:
    """Layers of one view: ground [4, H, W], units [len(UNIT_LAYERS), H, W], density and effects [H, W]."""

    ground: np.ndarray
    units: np.ndarray
    density: np.ndarray
    effects: np.ndarray


def draw(
    world: World,
    player: int,
    view: View,
    grid: np.ndarray,
    revealed: bool,
    selected: set[int],
    shields: Sequence[tuple[float, float, int]] = (),
    show_cloaked: bool = False,
    memory: np.ndarray | None = None,
) -> Picture:
    """Draws a view; `grid` [height, width] is what the player sees and saw of the map.

    `shields` are the (x, y, owner) of Guardian Shields. `show_cloaked` draws cloaked enemies in sight. `memory` [N] has
    the tags of buildings that the player has seen; these are drawn out of sight too.
    """
    pathable = world.static.pathable.astype(np.int32)
    grids = np.stack([height_image(world), grid.astype(np.int32), pathable, pathable])
    picture = Picture(
        ground=np.zeros((4, view.height, view.width), np.int32),
        units=np.zeros((len(UNIT_LAYERS), view.height, view.width), np.int32),
        density=np.zeros((view.height, view.width), np.int32),
        effects=np.zeros((view.height, view.width), np.int32),
    )
    draw_ground(view.x0, view.y1, view.pixel, grids, np.zeros(4, np.int32), picture.ground)
    if memory is not None and not revealed:
        _draw_in_part(world, player, view, snapshot_slots(world, player, memory), SNAPSHOT_LAYERS, picture)
    slots = visible_slots(world, player, revealed)
    if slots:
        places, values = _unit_values(world, player, slots, selected)
        draw_units(view.x0, view.y1, view.pixel, places, values, picture.units, picture.density)
    if show_cloaked and player:
        _draw_in_part(world, player, view, ghost_slots(world, player), GHOST_LAYERS, picture)
    if shields:
        circles = np.array([(x, y, SHIELD_RADIUS) for x, y, _ in shields])
        drawn, ignored = picture.effects[None], np.zeros_like(picture.density)
        values = np.full((len(shields), 1), SHIELD_EFFECT, np.int32)
        draw_units(view.x0, view.y1, view.pixel, circles, values, drawn, ignored)
    return picture


def _draw_in_part(
    world: World, player: int, view: View, slots: list[int], layers: Sequence[str], picture: Picture
) -> None:
    """Draws units in some layers only."""
    if slots:
        places, values = _unit_values(world, player, slots, set())
        for n, (name, _) in enumerate(UNIT_LAYERS):
            if name not in layers:
                values[:, n] = 0
        draw_units(view.x0, view.y1, view.pixel, places, values, picture.units, picture.density)


def screen_layers(picture: Picture) -> spatial_pb2.FeatureLayers:
    """The screen's layers as the protocol has them."""
    layers = spatial_pb2.FeatureLayers()
    for n, (name, bits) in enumerate(GROUND_LAYERS):
        getattr(layers, name).CopyFrom(image(picture.ground[n], bits))
    for n, (name, bits) in enumerate(UNIT_LAYERS):
        getattr(layers, name).CopyFrom(image(picture.units[n], bits))
    empty = np.zeros_like(picture.density)
    for name, bits in EMPTY_LAYERS:
        getattr(layers, name).CopyFrom(image(empty, bits))
    layers.effects.CopyFrom(image(picture.effects, 8))
    layers.unit_density.CopyFrom(image(np.minimum(picture.density, 15), 8))
    layers.unit_density_aa.CopyFrom(image(np.minimum(picture.density * 16, 255), 8))
    return layers


def minimap_layers(picture: Picture, view: View, camera: View, cheating: bool) -> spatial_pb2.FeatureLayersMinimap:
    """The minimap's layers; `cheating` adds the unit types."""
    layers = spatial_pb2.FeatureLayersMinimap()
    for n, (name, bits) in enumerate(GROUND_LAYERS):
        getattr(layers, name).CopyFrom(image(picture.ground[n], bits))
    for n, (name, bits) in enumerate(MINIMAP_UNIT_LAYERS):
        if name != "unit_type" or cheating:
            getattr(layers, name).CopyFrom(image(picture.units[n], bits))
    xs = view.x0 + (np.arange(view.width) + 0.5) * view.pixel
    ys = view.y1 - (np.arange(view.height) + 0.5) * view.pixel
    inside_x = (xs >= camera.x0) & (xs <= camera.x0 + camera.width * camera.pixel)
    inside_y = (ys <= camera.y1) & (ys >= camera.y1 - camera.height * camera.pixel)
    layers.camera.CopyFrom(image(inside_y[:, None] & inside_x[None, :], 1))
    empty = np.zeros_like(picture.density)
    layers.creep.CopyFrom(image(empty, 1))
    layers.alerts.CopyFrom(image(empty, 8))
    return layers


# Colours of the plain picture: ground that can and cannot be walked on, and units by alliance.
_GROUND = np.array([[46, 44, 52], [92, 96, 84]], np.uint8)
_ALLIANCE = np.array([[0, 0, 0], [60, 200, 90], [60, 120, 230], [220, 200, 90], [225, 70, 60]], np.uint8)


def rgb(picture: Picture) -> common_pb2.ImageData:
    """A plain picture, 24 bits a pixel: ground, units in the colour of their alliance, darker out of sight."""
    colours = _GROUND[picture.ground[2]]
    units = picture.units[1]
    colours = np.where((units > 0)[..., None], _ALLIANCE[units], colours)
    colours = np.where((picture.ground[1] < SEEN)[..., None], colours // 2, colours)
    size = common_pb2.Size2DI(x=colours.shape[1], y=colours.shape[0])
    return common_pb2.ImageData(bits_per_pixel=24, size=size, data=np.ascontiguousarray(colours, np.uint8).tobytes())
