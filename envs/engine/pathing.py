"""Ways around obstacles: lines of sight on the grid, and flow fields to goals that no straight line reaches.

A flow field holds, for every cell, the neighbour that is next on a shortest way to the goal's cell (8 neighbours, no
corner cut). Each world keeps the last `FIELD_SLOTS` fields; units with the same goal share one. A unit walks straight
to the farthest of the next cells that it has a clear line to, and looks again every few loops.
"""

from __future__ import annotations

import numpy as np

from envs.engine.state import layout as st
from envs.engine.state.compilation import kernel
from envs.engine.state.maps import nearest_pathable

UNREACHED = 255
GOAL = 8
LOOK_AHEAD = 12
STRAIGHT, DIAGONAL = 5, 7  # lengths of steps


@kernel
def clear_line(static, x0, y0, x1, y1):
    """Whether the straight way from (x0, y0) to (x1, y1) stays on pathable cells and touches no corner of another."""
    height, width = static.pathable.shape
    cx, cy = int(x0), int(y0)
    ex, ey = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
    dx, dy = np.float64(x1) - np.float64(x0), np.float64(y1) - np.float64(y0)
    sx, sy = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    tx = ((cx + (1 if sx > 0 else 0)) - np.float64(x0)) / dx if dx != 0.0 else np.inf
    ty = ((cy + (1 if sy > 0 else 0)) - np.float64(y0)) / dy if dy != 0.0 else np.inf
    step_x, step_y = (abs(1.0 / dx) if dx != 0.0 else np.inf), (abs(1.0 / dy) if dy != 0.0 else np.inf)
    for _ in range(width + height):
        if cx < 0 or cy < 0 or cx >= width or cy >= height or static.pathable[cy, cx] == 0:
            return False
        if cx == ex and cy == ey:
            return True
        if abs(tx - ty) < 1e-3:
            # Through a corner: both cells beside it must be free.
            if not (0 <= cx + sx < width and 0 <= cy + sy < height):
                return False
            if static.pathable[cy, cx + sx] == 0 or static.pathable[cy + sy, cx] == 0:
                return False
            cx += sx
            cy += sy
            tx += step_x
            ty += step_y
        elif tx < ty:
            cx += sx
            tx += step_x
        else:
            cy += sy
            ty += step_y
    return False


@kernel
def neighbour(direction):
    """(column step, row step) of the direction 0..7; the first four are straight."""
    if direction == 0:
        return 1, 0
    if direction == 1:
        return 0, 1
    if direction == 2:
        return -1, 0
    if direction == 3:
        return 0, -1
    if direction == 4:
        return 1, 1
    if direction == 5:
        return -1, 1
    if direction == 6:
        return -1, -1
    return 1, -1


@kernel
def find_field(state, static, b, goal):
    """Slot of the flow field to cell `goal`; computed, in place of the oldest, if the world has none."""
    slots = state.fields.shape[1]
    for s in range(slots):
        if state.field_goal[b, s] == goal:
            return s
    slot = state.field_goal[b, slots] + 1
    if slot >= slots or slot < 0:
        slot = 0
    state.field_goal[b, slots] = slot
    state.field_goal[b, slot] = goal
    height, width = static.pathable.shape
    size = height * width
    field, search = state.fields, state.search
    for c in range(size):
        field[b, slot, c] = UNREACHED
        search[b, 0, c] = 1 << 30
    # Label-correcting search outwards from the goal; the queue is a ring, a cell is in it once at most.
    queued = 1 << 29
    head, tail, length = 0, 1 % size, 1
    search[b, 0, goal] = queued
    search[b, 1, 0] = goal
    field[b, slot, goal] = GOAL
    while length > 0:
        cell = search[b, 1, head]
        head = (head + 1) % size
        length -= 1
        search[b, 0, cell] &= ~queued
        distance = search[b, 0, cell]
        row, column = cell // width, cell % width
        for direction in range(8):
            dc, dr = neighbour(direction)
            r, c = row + dr, column + dc
            if r < 0 or c < 0 or r >= height or c >= width or static.pathable[r, c] == 0:
                continue
            if direction >= 4 and (static.pathable[row, c] == 0 or static.pathable[r, column] == 0):
                continue
            other = r * width + c
            longer = distance + (STRAIGHT if direction < 4 else DIAGONAL)
            old = search[b, 0, other]
            if longer < (old & ~queued):
                field[b, slot, other] = (direction ^ 2) if direction < 4 else 4 + ((direction - 4) ^ 2)
                search[b, 0, other] = longer | queued
                if old & queued == 0:
                    search[b, 1, tail] = other
                    tail = (tail + 1) % size
                    length += 1
    return slot


@kernel
def way_point(state, static, b, i, x, y):
    """Sets the way point of unit `i` to (x, y): the point itself where the line is clear, else a cell's centre."""
    f = state.uf
    px, py = f[b, i, st.F_X], f[b, i, st.F_Y]
    f[b, i, st.F_WAY_X] = x
    f[b, i, st.F_WAY_Y] = y
    if clear_line(static, px, py, x, y):
        return
    gx, gy = nearest_pathable(static, x, y)
    goal = int(gy) * static.pathable.shape[1] + int(gx)
    if static.pathable[int(gy), int(gx)] == 0:
        return
    slot = find_field(state, static, b, goal)
    width = static.pathable.shape[1]
    cell = int(py) * width + int(px)
    if state.fields[b, slot, cell] == UNREACHED:
        return
    for n in range(LOOK_AHEAD):
        direction = state.fields[b, slot, cell]
        if direction >= GOAL:
            break
        dc, dr = neighbour(direction)
        cell += dr * width + dc
        cx = np.float32(cell % width) + np.float32(0.5)
        cy = np.float32(cell // width) + np.float32(0.5)
        if n > 0 and not clear_line(static, px, py, cx, cy):
            break
        f[b, i, st.F_WAY_X] = cx
        f[b, i, st.F_WAY_Y] = cy
