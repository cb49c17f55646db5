"""The compiled part of drawing feature layers."""

from __future__ import annotations

import numpy as np

from envs.engine.state.compilation import entry


@entry
def draw_ground(x0, y1, pixel, grids, outside, out):
    """out [L, H, W]: the cells of grids [L, height, width] under the pixels; outside [L] off the map."""
    for py in range(out.shape[1]):
        wy = np.int64(np.floor(y1 - (py + 0.5) * pixel))
        for px in range(out.shape[2]):
            wx = np.int64(np.floor(x0 + (px + 0.5) * pixel))
            inside = 0 <= wx < grids.shape[2] and 0 <= wy < grids.shape[1]
            for layer in range(out.shape[0]):
                out[layer, py, px] = grids[layer, wy, wx] if inside else outside[layer]


@entry
def draw_units(x0, y1, pixel, places, values, out, density):
    """Discs of places [n, 3] (x, y, radius) with values [n, L] into out [L, H, W]; density [H, W] counts them."""
    height, width = density.shape
    for n in range(places.shape[0]):
        cx, cy = (places[n, 0] - x0) / pixel - 0.5, (y1 - places[n, 1]) / pixel - 0.5
        # A unit is never smaller than the pixel that it stands on.
        r = max(places[n, 2] / pixel, 0.5)
        for py in range(max(0, int(np.ceil(cy - r))), min(height, int(np.floor(cy + r)) + 1)):
            for px in range(max(0, int(np.ceil(cx - r))), min(width, int(np.floor(cx + r)) + 1)):
                middle = abs(px - cx) <= 0.5 and abs(py - cy) <= 0.5
                if middle or (px - cx) * (px - cx) + (py - cy) * (py - cy) <= r * r:
                    density[py, px] += 1
                    for layer in range(values.shape[1]):
                        out[layer, py, px] = values[n, layer]
