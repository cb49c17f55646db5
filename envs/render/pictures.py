"""Pictures of a battle: who stands where, of which type and side, how healthy, who shoots whom, and what player 1
sees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from envs.engine.state import layout as st
from envs.engine.state.layout import NEUTRAL
from envs.scenarios.scenario import Scenario
from envs.scenarios.units import Rules, unit_data
from envs.views import frames as columns
from envs.views.frames import Frame

PICTURE = 800  # longer side of what is drawn of the map, in pixels
STRIP = 92  # height of the legend under it
OVERSAMPLE = 2
HEADINGS = 48
MARGIN = 3.0  # world units around a battle that fills the picture
LEAST_VIEW = 16.0  # world units a side, at least
ASPECT = 4 / 3

Area = tuple[float, float, float, float]  # x0, y0, x1, y1 in world units
Colour = tuple[int, int, int]
SIDES: dict[int, Colour] = {1: (64, 156, 255), 2: (255, 92, 80), NEUTRAL: (120, 226, 160)}
SIDE_NAMES = {1: "Player 1", 2: "Player 2"}
GROUND: Colour = (43, 47, 56)
GRID: Colour = (50, 55, 65)
WALL: Colour = (24, 26, 32)
WALL_EDGE: Colour = (92, 100, 116)
PAPER: Colour = (19, 21, 26)
INK: Colour = (226, 230, 238)
FAINT: Colour = (140, 147, 160)
SHOT: dict[str, Colour] = {"terran": (255, 224, 130), "protoss": (134, 206, 255), "zerg": (190, 240, 100)}
HEALTH, HURT, SHIELD, ENERGY = (92, 214, 110), (240, 92, 70), (110, 180, 255), (196, 130, 255)
SHOT_LOOPS = 4
DEATH_LOOPS = 12

Outline = list[tuple[float, float]]


def _disc(radius: float, points: int = 20, x: float = 0.0, y: float = 0.0) -> Outline:
    turns = [2 * math.pi * n / points for n in range(points)]
    return [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def _box(x0: float, y0: float, x1: float, y1: float) -> Outline:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _mirrored(outline: Outline) -> list[Outline]:
    return [outline, [(x, -y) for x, y in outline]]


def _limbs(angles: tuple[float, ...], reach: float, width: float) -> list[Outline]:
    limbs = []
    for angle in angles:
        for sign in (1, -1):
            c, s = math.cos(sign * math.radians(angle)), math.sin(sign * math.radians(angle))
            limbs.append([(-width * s, width * c), (reach * c, reach * s), (width * s, -width * c)])
    return limbs


# Silhouettes on the unit disc, facing east: dark parts under the body, the body in the side's colour, light parts on
# it.
_PLAIN = {
    "terran": ([_box(0.2, -0.14, 1.15, 0.14)], [_disc(0.82, 8)], [_disc(0.3)]),
    "protoss": (_limbs((35,), 1.15, 0.3), [[(1.0, 0), (0, 0.75), (-0.9, 0), (0, -0.75)]], [_disc(0.26)]),
    "zerg": (_limbs((30, 80, 130), 1.15, 0.25), [[(1.0, 0), (0.2, 0.7), (-0.9, 0.4), (-0.9, -0.4), (0.2, -0.7)]], []),
    "neutral": ([], [_disc(0.9, 6)], [_disc(0.45, 6)]),
}
_WINGS = {
    race: (
        [[(0.1, 0.0), (-0.75, 1.15), (-0.55, 0.0), (-0.75, -1.15)]],
        [[(1.15, 0), (-0.7, 0.42), (-0.7, -0.42)]],
        light,
    )
    for race, light in (("terran", [_disc(0.2, 12, 0.2)]), ("protoss", [_disc(0.25, 4, 0.1)]), ("zerg", []))
}
_SHAPES: dict[str, tuple[list[Outline], list[Outline], list[Outline]]] = {
    "Marine": ([_box(0.0, -0.62, 1.2, -0.34)], [_disc(0.78)], [_disc(0.36, 14, 0.12)]),
    "Marauder": (
        _mirrored(_box(-0.1, 0.45, 1.1, 0.85)),
        [_box(-0.6, -0.75, 0.5, 0.75), _disc(0.62, 14)],
        [_box(0.15, -0.22, 0.55, 0.22)],
    ),
    "Medivac": (
        _mirrored(_box(-0.65, 0.5, 0.35, 1.0)),
        [[(1.1, 0), (0.5, 0.55), (-0.9, 0.5), (-0.9, -0.5), (0.5, -0.55)]],
        [_box(-0.45, -0.12, 0.35, 0.12), _box(-0.17, -0.4, 0.07, 0.4)],
    ),
    "SiegeTank": ([_box(0.0, -0.13, 1.35, 0.13)], [_box(-0.85, -0.68, 0.75, 0.68)], [_disc(0.38)]),
    "SiegeTankSieged": (
        [_box(0.0, -0.18, 1.6, 0.18), *_limbs((45, 135), 1.3, 0.2)],
        [_box(-0.8, -0.7, 0.7, 0.7)],
        [_disc(0.42)],
    ),
    "Zealot": (
        _limbs((32,), 1.35, 0.2),
        [[(0.7, 0), (0.1, 0.8), (-0.75, 0.4), (-0.75, -0.4), (0.1, -0.8)]],
        [_disc(0.26)],
    ),
    "Stalker": (_limbs((40, 140), 1.3, 0.24), [[(0.85, 0), (0, 0.6), (-0.75, 0), (0, -0.6)]], [_disc(0.24, 12, 0.2)]),
    "Immortal": (
        [*_limbs((50, 130), 1.2, 0.3), *_mirrored(_box(0.1, 0.3, 1.15, 0.52))],
        [_disc(0.7, 8)],
        [_disc(0.3, 6)],
    ),
    "Colossus": (_limbs((28, 75, 150), 1.5, 0.16), [_box(-0.5, -0.42, 0.75, 0.42)], [_box(0.25, -0.25, 0.6, 0.25)]),
    "Archon": ([_disc(1.1, 24)], [_disc(0.8, 24)], [_disc(0.45, 16)]),
    "Zergling": (
        _limbs((28, 70), 1.3, 0.2),
        [[(0.9, 0.0), (0.2, 0.5), (-1.0, 0.16), (-1.0, -0.16), (0.2, -0.5)]],
        _mirrored(_disc(0.12, 8, 0.45, 0.22)),
    ),
    "Baneling": ([], [_disc(0.85)], [_disc(0.5, 14, 0.08), *_mirrored(_disc(0.16, 8, -0.3, 0.5))]),
    "Hydralisk": (
        _limbs((24,), 1.35, 0.22),
        [[(0.75, 0.0), (0.35, 0.62), (-0.3, 0.3), (-1.15, 0.0), (-0.3, -0.3), (0.35, -0.62)]],
        [_disc(0.2, 10, 0.3)],
    ),
    "Roach": (
        _limbs((40, 90, 140), 1.15, 0.28),
        [[(0.95, 0), (0.5, 0.6), (-0.6, 0.65), (-0.95, 0), (-0.6, -0.65), (0.5, -0.6)]],
        _mirrored(_box(-0.4, 0.18, 0.4, 0.32)),
    ),
    "SpineCrawler": (_limbs((36, 72, 108, 144), 1.1, 0.24), [_disc(0.66)], [_box(0.0, -0.14, 1.1, 0.14)]),
    "Beacon": ([_disc(1.0, 32)], [_disc(0.94, 32)], [_disc(0.82, 32)]),
    "MineralShard": (
        [],
        [[(0, 1.0), (0.5, 0.2), (0.25, -0.9), (-0.35, -0.7), (-0.55, 0.3)]],
        [[(0, 0.7), (0.2, 0.1), (-0.1, -0.4)]],
    ),
}
_LEAST_RADIUS = {"MineralShard": 0.34}


def draw_battle(scenario: Scenario, rules: Rules, frames: Sequence[Frame]) -> list[np.ndarray]:
    """Pictures, uint8 [height, width, 3], of the part of the map where the units of `frames` are."""
    renderer = Renderer(scenario, rules, battlefield(scenario, frames))
    return [renderer.draw(frame) for frame in frames]


def battlefield(scenario: Scenario, frames: Sequence[Frame]) -> Area:
    """What holds all units of `frames`, with a margin and in the aspect of a picture as far as the map allows."""
    places = np.concatenate([f.units[f.units[:, columns.T_TAG] > 0][:, [columns.T_X, columns.T_Y]] for f in frames])
    if len(places) == 0:
        return scenario.playable
    low, high = places.min(0) - MARGIN, places.max(0) + MARGIN
    width, height = np.maximum(high - low, LEAST_VIEW)
    size = np.array([max(width, height * ASPECT), max(height, width / ASPECT)])
    first, last = np.array(scenario.playable[:2]), np.array(scenario.playable[2:])
    low = np.clip((low + high - size) / 2, first, np.maximum(last - size, first))
    x0, y0, x1, y1 = (float(edge) for edge in (*low, *np.minimum(low + size, last)))
    return x0, y0, x1, y1


class Renderer:
    """Draws frames of one scenario as uint8 [height, width, 3]; keeps sprites, and where units died, between frames.

    view: the part of the map to draw; all of it unless given.
    """

    def __init__(self, scenario: Scenario, rules: Rules, view: Area | None = None):
        self.scenario = scenario
        self.names = [entry["name"] for entry in rules.entries]
        self.static = rules.static
        self.x0, self.y0, x1, y1 = view or scenario.playable
        # An even number of pixels a side, which video codecs need.
        self.scale = OVERSAMPLE * (PICTURE // 2) * 2 / max(x1 - self.x0, y1 - self.y0)
        self.width = int((x1 - self.x0) * self.scale / (2 * OVERSAMPLE)) * 2 * OVERSAMPLE
        self.height = int((y1 - self.y0) * self.scale / (2 * OVERSAMPLE)) * 2 * OVERSAMPLE
        self.sprites: dict[tuple[int, int, int], Image.Image] = {}
        self.ground = self._draw_ground()
        self.known: dict[int, np.ndarray] = {}
        self.graves: list[tuple[float, float, float, int, int]] = []
        self.last_loop = -1
        self.starting_health: dict[int, float] = {}
        self.fonts = {size: ImageFont.load_default(size) for size in (12, 13, 16)}

    def draw(self, frame: Frame) -> np.ndarray:
        """uint8 [height, width, 3]. Frames drawn in the order of time also show where units have just died."""
        units = frame.units[frame.units[:, columns.T_TAG] > 0]
        self._bury(units, frame.loop)
        image = self.ground.copy()
        self._draw_fog(image, units)
        canvas = ImageDraw.Draw(image, "RGBA")
        self._draw_graves(canvas, frame.loop)
        flying = np.array(
            [unit_data()[self.names[int(kind)]]["plane"] == "air" for kind in units[:, columns.T_KIND]], np.bool_
        )
        neutral_first = np.lexsort((units[:, columns.T_Y] * -1, units[:, columns.T_OWNER] != NEUTRAL, flying))
        for unit in units[neutral_first]:
            self._draw_unit(image, unit)
        for unit in units:
            self._draw_shot(canvas, unit, frame.units)
        for unit in units[neutral_first]:
            if unit[columns.T_OWNER] != NEUTRAL and self._seen(unit):
                self._draw_bars(canvas, unit)
        picture = image.convert("RGB").reduce(OVERSAMPLE)
        whole = Image.new("RGB", (picture.width, picture.height + STRIP), PAPER)
        whole.paste(picture, (0, 0))
        self._draw_strip(whole, picture.height, units, frame)
        return np.asarray(whole)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.x0) * self.scale, self.height - (y - self.y0) * self.scale

    def _draw_ground(self) -> Image.Image:
        noise = np.random.default_rng(7).normal(0.0, 1.0, (self.height // 8, self.width // 8))
        small = Image.fromarray(np.clip(128 + 26 * noise, 0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(2.2)
        )
        texture = np.asarray(small.resize((self.width, self.height), Image.Resampling.BICUBIC), np.float32) - 128
        colour = np.array(GROUND, np.float32) + 0.9 * texture[..., None]
        image = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).convert("RGBA")
        canvas = ImageDraw.Draw(image)
        x0, y0, x1, y1 = self.scenario.playable
        for x in range(math.ceil(x0 / 4) * 4, int(x1) + 1, 4):
            canvas.line([self._place(x, y0), self._place(x, y1)], GRID, 2)
        for y in range(math.ceil(y0 / 4) * 4, int(y1) + 1, 4):
            canvas.line([self._place(x0, y), self._place(x1, y)], GRID, 2)
        for a0, b0, a1, b1 in self.scenario.obstacles:
            (left, bottom), (right, top) = self._place(a0, b0), self._place(a1, b1)
            canvas.rectangle((left, top, right, bottom), WALL, WALL_EDGE, 3)
        return image

    def _draw_fog(self, image: Image.Image, units: np.ndarray) -> None:
        """Darkens what player 1 does not see."""
        if not self.scenario.fog:
            return
        cell = 8
        mask = Image.new("L", (self.width // cell, self.height // cell), 120)
        canvas = ImageDraw.Draw(mask)
        for unit in units[units[:, columns.T_OWNER] == 1]:
            x, y = self._place(unit[columns.T_X], unit[columns.T_Y])
            sight = float(self.static.kind_f[int(unit[columns.T_KIND]), st.K_SIGHT]) * self.scale
            canvas.ellipse([(x - sight) / cell, (y - sight) / cell, (x + sight) / cell, (y + sight) / cell], 0)
        mask = mask.filter(ImageFilter.GaussianBlur(2)).resize((self.width, self.height), Image.Resampling.BILINEAR)
        image.paste((8, 9, 13, 255), (0, 0), mask)

    def _seen(self, unit: np.ndarray) -> bool:
        return unit[columns.T_OWNER] == NEUTRAL or (int(unit[columns.T_VISIBLE]) >> 1) & 1 == 1

    def _radius(self, kind: int) -> float:
        name = self.names[kind]
        return max(float(self.static.kind_f[kind, st.K_RADIUS]), _LEAST_RADIUS.get(name, 0.3)) * self.scale

    def _sprite(self, kind: int, owner: int, heading: int) -> Image.Image:
        key = (kind, owner, heading)
        if key not in self.sprites:
            name = self.names[kind]
            data = unit_data()[name]
            plain = _WINGS if data["plane"] == "air" and data["race"] in _WINGS else _PLAIN
            under, body, light = _SHAPES.get(name, plain[data["race"]])
            radius = self._radius(kind)
            half = math.ceil(1.75 * radius) + 2
            image = Image.new("RGBA", (2 * half, 2 * half))
            canvas = ImageDraw.Draw(image)
            turn = -2 * math.pi * heading / HEADINGS
            cos, sin = math.cos(turn), math.sin(turn)
            colour = SIDES[owner]
            dark = tuple(int(0.42 * part) for part in colour)
            pale = tuple(int(part + 0.62 * (255 - part)) for part in colour)
            shadow = 0.12 * radius if data["plane"] != "air" else 0.35 * radius
            layers = ((body, (0, 0, 0, 90), shadow, None), (under, dark, 0.0, (12, 14, 18, 255)))
            for outlines, fill, drop, edge in (
                *layers,
                (body, colour, 0.0, (12, 14, 18, 255)),
                (light, pale, 0.0, None),
            ):
                for outline in outlines:
                    points = [
                        (half + radius * (x * cos - y * sin) + drop, half + radius * (x * sin + y * cos) + drop)
                        for x, y in ((x, -y) for x, y in outline)
                    ]
                    canvas.polygon(points, fill, edge, 2 if edge else 0)
            if name == "Beacon":
                image.putalpha(image.getchannel("A").point(lambda alpha: alpha * 150 // 255))
            self.sprites[key] = image
        return self.sprites[key]

    def _draw_unit(self, image: Image.Image, unit: np.ndarray) -> None:
        kind, owner = int(unit[columns.T_KIND]), int(unit[columns.T_OWNER])
        heading = (
            round(math.atan2(unit[columns.T_FACING_Y], unit[columns.T_FACING_X]) / (2 * math.pi) * HEADINGS) % HEADINGS
        )
        sprite = self._sprite(kind, owner, 0 if owner == NEUTRAL else heading)
        if not self._seen(unit):
            sprite = sprite.copy()
            sprite.putalpha(sprite.getchannel("A").point(lambda alpha: alpha * 70 // 255))
        x, y = self._place(unit[columns.T_X], unit[columns.T_Y])
        left, top = int(x - sprite.width / 2), int(y - sprite.height / 2)
        # Pillow composites only inside the picture, so a sprite over the edge is cut to it.
        box = (max(0, -left), max(0, -top), min(sprite.width, self.width - left), min(sprite.height, self.height - top))
        if box[0] < box[2] and box[1] < box[3]:
            image.alpha_composite(sprite, (left + box[0], top + box[1]), box)

    def _draw_bars(self, canvas: ImageDraw.ImageDraw, unit: np.ndarray) -> None:
        kind = int(unit[columns.T_KIND])
        radius = self._radius(kind)
        x, y = self._place(unit[columns.T_X], unit[columns.T_Y])
        width, thick = max(1.9 * radius, 0.8 * self.scale), max(5, int(0.13 * self.scale))
        top = y - 1.25 * radius - thick
        kinds = self.static.kind_f[kind]
        bars = [(unit[columns.T_HEALTH], kinds[st.K_HEALTH], HEALTH)]
        if kinds[st.K_SHIELD] > 0:
            bars.append((unit[columns.T_SHIELD], kinds[st.K_SHIELD], SHIELD))
        if kinds[st.K_ENERGY] > 0:
            bars.append((unit[columns.T_ENERGY], kinds[st.K_ENERGY], ENERGY))
        for value, most, colour in bars:
            share = max(0.0, min(1.0, float(value) / float(most)))
            if colour is HEALTH:
                red, green, blue = (int(share * a + (1 - share) * b) for a, b in zip(HEALTH, HURT, strict=True))
                colour = (red, green, blue)
            left = x - width / 2
            canvas.rectangle((left - 1, top - 1, left + width + 1, top + thick), (0, 0, 0, 190))
            if share > 0:
                canvas.rectangle((left, top, left + max(1.0, share * width), top + thick - 1), colour)
            top -= thick + 1

    def _draw_shot(self, canvas: ImageDraw.ImageDraw, unit: np.ndarray, slots: np.ndarray) -> None:
        age, target = unit[columns.T_SHOT_AGE], int(unit[columns.T_SHOT_TARGET])
        if not 0 <= age <= SHOT_LOOPS or not 0 <= target < len(slots):
            return
        other = slots[target]
        if other[columns.T_TAG] <= 0 or not (self._seen(unit) or self._seen(other)):
            return
        kind = int(unit[columns.T_KIND])
        race = unit_data()[self.names[kind]]["race"]
        colour = HEALTH if unit_data()[self.names[kind]]["heal"] else SHOT.get(race, INK)
        alpha = int(255 * (1 - age / (SHOT_LOOPS + 1)))
        x, y = self._place(unit[columns.T_X], unit[columns.T_Y])
        tx, ty = self._place(other[columns.T_X], other[columns.T_Y])
        span = max(math.hypot(tx - x, ty - y), 1e-6)
        start = min(1.0, 1.1 * self._radius(kind) / span)
        line = (x + start * (tx - x), y + start * (ty - y), tx, ty)
        canvas.line(line, (*colour, alpha // 3), max(6, int(0.16 * self.scale)))
        canvas.line(line, (*colour, alpha), max(2, int(0.045 * self.scale)))
        burst = 0.28 * self.scale
        canvas.ellipse((tx - burst, ty - burst, tx + burst, ty + burst), (*colour, alpha // 2))

    def _bury(self, units: np.ndarray, loop: int) -> None:
        if loop <= self.last_loop:
            self.known.clear()
            self.graves.clear()
            self.starting_health.clear()
        now = {int(unit[columns.T_TAG]): unit for unit in units if unit[columns.T_OWNER] != NEUTRAL}
        for tag, unit in self.known.items():
            if tag not in now:
                kind = int(unit[columns.T_KIND])
                self.graves.append(
                    (unit[columns.T_X], unit[columns.T_Y], self._radius(kind), int(unit[columns.T_OWNER]), loop)
                )
        self.known = now
        self.last_loop = loop
        for owner in SIDE_NAMES:
            health = self._health(units, owner)
            self.starting_health[owner] = max(self.starting_health.get(owner, 0.0), health)

    def _draw_graves(self, canvas: ImageDraw.ImageDraw, loop: int) -> None:
        self.graves = [grave for grave in self.graves if loop - grave[4] <= DEATH_LOOPS]
        for gx, gy, radius, owner, since in self.graves:
            rest = 1 - (loop - since) / (DEATH_LOOPS + 1)
            x, y = self._place(gx, gy)
            ring = radius * (2.1 - rest)
            canvas.ellipse((x - ring, y - ring, x + ring, y + ring), None, (*SIDES[owner], int(200 * rest)), 4)
            canvas.ellipse((x - ring / 2, y - ring / 2, x + ring / 2, y + ring / 2), (*SIDES[owner], int(90 * rest)))

    @staticmethod
    def _health(units: np.ndarray, owner: int) -> float:
        chosen = units[units[:, columns.T_OWNER] == owner]
        return float(chosen[:, columns.T_HEALTH].sum() + chosen[:, columns.T_SHIELD].sum())

    def _draw_strip(self, whole: Image.Image, top: int, units: np.ndarray, frame: Frame) -> None:
        """The legend: title, time and score; for each side its name, what is left of it, and its units by type."""
        canvas = ImageDraw.Draw(whole)
        seconds = frame.loop / st.LOOPS_PER_SECOND
        canvas.text((12, top + 9), self.scenario.title, INK, self.fonts[16])
        clock = f"{seconds:5.1f} s   score {frame.score:.1f}"
        canvas.text((whole.width - 12, top + 11), clock, FAINT, self.fonts[13], anchor="ra")
        for row, owner in enumerate(SIDE_NAMES):
            if not self.starting_health.get(owner):
                continue
            y = top + 38 + 26 * row
            canvas.text((12, y), SIDE_NAMES[owner], SIDES[owner], self.fonts[13])
            share = self._health(units, owner) / self.starting_health[owner]
            canvas.rounded_rectangle((82, y + 3, 222, y + 13), 4, (52, 57, 68))
            if share > 0:
                canvas.rounded_rectangle((82, y + 3, 82 + max(8, int(140 * share)), y + 13), 4, SIDES[owner])
            x = 238
            counts = Counter(int(kind) for kind in units[units[:, columns.T_OWNER] == owner][:, columns.T_KIND])
            for kind, count in sorted(counts.items()):
                sprite = self._sprite(kind, owner, 0)
                size = 22
                icon = sprite.resize((size, size), Image.Resampling.LANCZOS)
                whole.paste(icon, (x, y - 3), icon)
                label = f"{count} {self.names[kind]}"
                canvas.text((x + size + 4, y), label, INK, self.fonts[12])
                x += size + 18 + int(canvas.textlength(label, self.fonts[12]))
