"""Maps: their size and obstacles, and the nearest place where a ground unit can stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.engine.state.compilation import kernel


@dataclass(frozen=True, kw_only=True)
class MapSpec:
    """A map: size in cells of one world unit, what ground units cannot cross, and terrain height.

    `pathable` [height, width] bool (None: all), `terrain` [height, width] float (None: flat). `bounds` (x0, y0, x1, y1)
    is the playable rectangle that no unit leaves (None: the whole map). `high_ground`: a unit does not see ground units
    more than one unit of height above it unless a flyer of its side does.
    """

    width: int = 32
    height: int = 32
    pathable: np.ndarray | None = None
    terrain: np.ndarray | None = None
    bounds: tuple[float, float, float, float] | None = None
    fog: bool = True
    high_ground: bool = False

    def __post_init__(self) -> None:
        if not (4 <= self.width <= 256 and 4 <= self.height <= 256):
            raise ValueError(f"map size {self.width} x {self.height} must lie between 4 and 256 cells a side")
        for name in ("pathable", "terrain"):
            grid = getattr(self, name)
            if grid is not None and np.shape(grid) != (self.height, self.width):
                raise ValueError(
                    f"{name} has shape {np.shape(grid)}, expected (height, width) = {(self.height, self.width)}"
                )
        if self.bounds is not None:
            x0, y0, x1, y1 = self.bounds
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                raise ValueError(f"bounds {self.bounds} must lie inside the map of {self.width} x {self.height}")


@kernel
def nearest_pathable(static, x, y):
    """(x, y) if its cell is pathable, else the centre of the pathable cell nearest to it."""
    height, width = static.pathable.shape
    cx, cy = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
    if static.pathable[cy, cx]:
        return np.float32(x), np.float32(y)
    best_x, best_y, best_d2 = np.float32(x), np.float32(y), np.float32(1e9)
    for ring in range(1, max(width, height)):
        if best_d2 < (ring - 1) * (ring - 1):
            break
        for r in range(max(cy - ring, 0), min(cy + ring, height - 1) + 1):
            for c in range(max(cx - ring, 0), min(cx + ring, width - 1) + 1):
                if max(abs(r - cy), abs(c - cx)) == ring and static.pathable[r, c]:
                    mx, my = np.float32(c) + np.float32(0.5), np.float32(r) + np.float32(0.5)
                    d2 = (mx - np.float32(x)) ** 2 + (my - np.float32(y)) ** 2
                    if d2 < best_d2:
                        best_x, best_y, best_d2 = mx, my, d2
    return best_x, best_y
