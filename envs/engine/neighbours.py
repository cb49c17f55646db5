"""The units of a loop, copied together and sorted by place, so that a look-up reads few and contiguous entries."""

from __future__ import annotations

import numpy as np

from envs.engine import state as st
from envs.engine.state import inline_kernel

# A key holds what a look-up asks of a unit: bits 0..16 its owner, then:
KEY_GROUND = 1 << 17  # can be hit by weapons against ground units
KEY_AIR = 1 << 18
KEY_HITS_GROUND = 1 << 19  # has a weapon against ground units
KEY_HITS_AIR = 1 << 20
KEY_FLYER_PLANE = 1 << 21  # collides with flyers only
KEY_COLOSSUS_PLANE = 1 << 22
KEY_NO_COLLISION = 1 << 23  # burrowed, or a marker such as a beacon
KEY_OWNERS = (1 << 17) - 1
KEY_PLANES = KEY_FLYER_PLANE | KEY_COLOSSUS_PLANE | KEY_NO_COLLISION


@inline_kernel
def bit_scale(static):
    """Cells of the coarse maps per world unit."""
    size = max(static.pathable.shape[0], static.pathable.shape[1])
    return np.float32(1.0) / np.float32((size + st.BIT_ROWS - 1) // st.BIT_ROWS)


@inline_kernel
def bit_range(scale, x, reach):
    """First and last column (or row) of the coarse maps that [x - reach, x + reach] touches."""
    first = max(int((x - reach) * scale), 0)
    return first, min(int((x + reach) * scale), st.BIT_ROWS - 1)


@inline_kernel
def sort_by_cell(state, static, b):
    """Fills `near_f`, `near_i` and `cells` of world `b` (a counting sort by grid cell; one cell for few units)."""
    f, ii = state.uf, state.ui
    near_f, near_i, cells = state.near_f, state.near_i, state.cells
    count = state.w[b, st.W_ALIVE]
    width, height = static.pathable.shape[1], static.pathable.shape[0]
    cell = 2
    if count <= st.FEW_UNITS:
        cell = 512
    else:
        most = max(st.MIN_CELLS, st.CELLS_PER_UNIT * count)
        while ((width + cell - 1) // cell) * ((height + cell - 1) // cell) > most:
            cell *= 2
    columns, rows = (width + cell - 1) // cell, (height + cell - 1) // cell
    state.w[b, st.W_COLUMNS] = columns
    state.w[b, st.W_ROWS] = rows
    state.w[b, st.W_CELL] = cell
    if cell == 512:
        cells[b, 0] = 0
        cells[b, 1] = count
    else:
        scale = np.float32(1.0) / np.float32(cell)
        for c in range(columns * rows + 1):
            cells[b, c] = 0
        for n in range(count):
            i = state.alive[b, n]
            c = np.int32(f[b, i, st.F_Y] * scale) * columns + np.int32(f[b, i, st.F_X] * scale)
            near_i[b, st.NI_MOBILITY, n] = c
            cells[b, c] += 1
        total = 0
        for c in range(columns * rows + 1):
            total += cells[b, c]
            cells[b, c] = total
    many = cell != 512
    bits = state.bits
    fine = bit_scale(static)
    if many:
        for p in range(bits.shape[2]):
            for r in range(st.BIT_ROWS):
                bits[b, 0, p, r] = 0
    widest, largest = np.float32(0.0), np.float32(0.0)
    for m in range(count):
        n = count - 1 - m  # backwards, so that the units of a cell keep the order of their slots
        i = state.alive[b, n]
        k = n
        owner = ii[b, i, st.I_OWNER]
        if many:
            c = near_i[b, st.NI_MOBILITY, n]
            k = cells[b, c] - 1
            cells[b, c] = k
            if owner < bits.shape[2]:
                bits[b, 0, owner, int(f[b, i, st.F_Y] * fine)] |= 1 << int(f[b, i, st.F_X] * fine)
        kind = ii[b, i, st.I_KIND]
        flags = ii[b, i, st.I_FLAGS]
        targets = static.kind_i[kind, st.KI_TARGETS]
        key = (1 << owner) | targets * KEY_HITS_GROUND
        if flags & (st.FLAG_INVULNERABLE | st.FLAG_BURROWED):
            key |= KEY_NO_COLLISION
        elif flags & st.FLAG_COLOSSUS:
            key |= KEY_COLOSSUS_PLANE
        elif flags & st.FLAG_FLYING:
            key |= KEY_FLYER_PLANE
        if flags & st.FLAG_INVULNERABLE == 0:
            if flags & st.FLAG_COLOSSUS:
                key |= KEY_AIR
            key |= KEY_AIR if flags & st.FLAG_FLYING else KEY_GROUND
        near_f[b, st.N_X, k] = f[b, i, st.F_X]
        near_f[b, st.N_Y, k] = f[b, i, st.F_Y]
        near_f[b, st.N_RADIUS, k] = f[b, i, st.F_RADIUS]
        near_f[b, st.N_INNER, k] = static.kind_f[kind, st.K_INNER_RADIUS]
        widest = max(widest, static.kind_f[kind, st.K_INNER_RADIUS])
        largest = max(largest, f[b, i, st.F_RADIUS])
        near_i[b, st.NI_SLOT, k] = i
        near_i[b, st.NI_KEY, k] = key
    state.w[b, st.W_WIDEST] = int(np.ceil(widest * np.float32(1024.0)))
    state.w[b, st.W_LARGEST] = int(np.ceil(largest * np.float32(1024.0)))
