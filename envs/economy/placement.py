"""Where buildings may stand."""

# Numba infers the types of kernels; mypy takes their minima and maxima for objects.
# mypy: disable-error-code="operator"
from __future__ import annotations

import numpy as np

from envs.economy.tables import (
    BAD_PLACE,
    FINE,
    GAS,
    GEYSER,
    HALL,
    MINERALS,
    NEAR_RESOURCES,
    NO_GEYSER,
    NO_POWER,
    R_NEAR,
    X_HEIGHT,
    X_POWERED,
    X_ROLE,
    X_WIDTH,
    XF_POWER_RADIUS,
)
from envs.economy.units import finished
from envs.engine.state.compilation import entry, kernel
from envs.engine.state.layout import F_X, F_Y, I_KIND, I_OWNER, W_ALIVE


@kernel
def snap(tech, kind, x, y):
    """The place on the grid that a building of a kind takes for (x, y): its cells are whole cells of the map."""
    width, height = tech.i[kind, X_WIDTH], tech.i[kind, X_HEIGHT]
    px = np.floor(x) + 0.5 if width % 2 == 1 else np.floor(x + 0.5)
    py = np.floor(y) + 0.5 if height % 2 == 1 else np.floor(y + 0.5)
    return np.float32(px), np.float32(py)


@kernel
def overlaps(tech, kind, x, y, other, ox, oy, margin):
    """Whether two footprints with `margin` cells between them overlap."""
    w = 0.5 * (tech.i[kind, X_WIDTH] + tech.i[other, X_WIDTH]) + margin
    h = 0.5 * (tech.i[kind, X_HEIGHT] + tech.i[other, X_HEIGHT]) + margin
    return abs(x - ox) < w - 0.01 and abs(y - oy) < h - 0.01


@kernel
def place_problem(state, static, tech, economy, b, owner, kind, x, y):
    """Why a building cannot stand with its centre at (x, y), which is on the grid; FINE if it can."""
    width, height = tech.i[kind, X_WIDTH], tech.i[kind, X_HEIGHT]
    x0, y0 = x - 0.5 * width, y - 0.5 * height
    if x0 < static.bounds[0] - 0.01 or y0 < static.bounds[1] - 0.01:
        return BAD_PLACE
    if x0 + width > static.bounds[2] + 0.01 or y0 + height > static.bounds[3] + 0.01:
        return BAD_PLACE
    for r in range(int(y0 + 0.01), int(y0 + height - 0.01) + 1):
        for c in range(int(x0 + 0.01), int(x0 + width - 0.01) + 1):
            if static.pathable[r, c] == 0:
                return BAD_PLACE
    gas = tech.i[kind, X_ROLE] == GAS
    geyser, powered = False, tech.i[kind, X_POWERED] == 0
    for m in range(state.w[b, W_ALIVE]):
        slot = state.alive[b, m]
        other = state.ui[b, slot, I_KIND]
        ox, oy = state.uf[b, slot, F_X], state.uf[b, slot, F_Y]
        role = tech.i[other, X_ROLE]
        if not powered and state.ui[b, slot, I_OWNER] == owner and finished(state, economy, b, slot):
            reach = tech.f[other, XF_POWER_RADIUS]
            powered = (ox - x) * (ox - x) + (oy - y) * (oy - y) < reach * reach
        if tech.i[other, X_WIDTH] == 0:
            continue
        if gas and role == GEYSER and abs(ox - x) < 0.6 and abs(oy - y) < 0.6:
            geyser = True
            continue
        if overlaps(tech, kind, x, y, other, ox, oy, 0.0):
            return BAD_PLACE
        near = tech.i[kind, X_ROLE] == HALL and role in (MINERALS, GEYSER)
        if near and overlaps(tech, kind, x, y, other, ox, oy, tech.limits[R_NEAR]):
            return NEAR_RESOURCES
    if gas and not geyser:
        return NO_GEYSER
    return FINE if powered else NO_POWER


@entry
def site_problem(state, static, tech, economy, b, owner, kind, x, y):
    """`place_problem` for other modules."""
    return place_problem(state, static, tech, economy, b, owner, kind, x, y)


@entry
def grid_place(tech, kind, x, y):
    """`snap` for other modules."""
    return snap(tech, kind, x, y)
