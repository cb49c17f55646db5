"""Every operation of the engine's machine code against the NumPy text in its docstring, on random lanes."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from envs.engine import quiet
from envs.engine.neighbours import KEY_FLYER, KEY_RECOVERS, KEY_TURN, KEY_WALKER
from envs.engine.simd import collisions, lookup, steps
from envs.engine.state import layout as st
from envs.engine.state.layout import LANES

PLACES = 4 * LANES
F = np.float32
OPERATIONS = {
    name: value
    for module in (lookup, collisions, steps, quiet)
    for name, value in vars(module).items()
    if type(value).__name__ == "_Intrinsic" and value._defn.__module__ == module.__name__
}


def reference(operation: Any) -> Callable[..., Any]:
    """The function that an operation's docstring writes out."""
    text = inspect.cleandoc(operation.__doc__).partition("In NumPy:\n")[2]
    assert text.strip(), "the operation says nothing in NumPy"
    names = list(inspect.signature(operation._defn).parameters)[1:]
    source = f"def function({', '.join(names)}):\n" + textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    space: dict[str, Any] = {}
    for module in (lookup, collisions, steps, quiet):
        space |= vars(module)
    space |= {"np": np, "st": st}
    exec(source, space)
    return space["function"]


def compiled(name: str) -> Callable[..., Any]:
    """The operation as a function."""
    names = ", ".join(list(inspect.signature(OPERATIONS[name]._defn).parameters)[1:])
    space: dict[str, Any] = {name: OPERATIONS[name]}
    exec(f"def call({names}):\n    return {name}({names})", space)
    return njit(error_model="numpy")(space["call"])


def crowd(random: np.random.Generator) -> dict[str, np.ndarray]:
    """The units of a loop, in two blocks of sixteen with two more behind, and their rows of the state."""
    floats = random.normal(size=(st.NUM_NEAR_FLOATS, PLACES)).astype(F)
    ints = np.zeros((st.NUM_NEAR_INTS, PLACES), np.int32)
    same = random.random(PLACES) < 0.1
    floats[st.N_X, same] = floats[st.N_Y, same] = 0.5
    floats[st.N_PX], floats[st.N_PY] = floats[st.N_X], floats[st.N_Y]
    floats[[st.N_RADIUS, st.N_INNER, st.N_SIGHT, st.N_ABOUT]] = random.uniform(0.1, 1.5, (4, PLACES))
    floats[[st.N_PACE, st.N_SHARE]] = random.uniform(0.2, 1.0, (2, PLACES))
    floats[st.N_STEP] = random.choice([0.0, 0.2], PLACES)
    floats[[st.N_WALL_X, st.N_WALL_Y, st.N_VX, st.N_VY]] *= (random.random(PLACES) < 0.7).astype(F)
    turn = random.uniform(0.0, 2 * np.pi, PLACES)
    floats[st.N_UX], floats[st.N_UY] = np.cos(turn), np.sin(turn)
    low, high = np.sort(random.normal(size=(2, 2, PLACES)), axis=1).transpose(1, 0, 2)
    floats[[st.N_BOX_X0, st.N_BOX_Y0]], floats[[st.N_BOX_X1, st.N_BOX_Y1]] = low, high
    ints[st.NI_KEY] = random.choice([1 << 1, 1 << 2], PLACES) | random.choice([KEY_WALKER, KEY_FLYER], PLACES)
    ints[st.NI_KEY] |= random.choice([0, KEY_TURN], PLACES) | random.choice([0, KEY_RECOVERS], PLACES)
    ints[st.NI_KEY, random.random(PLACES) < 0.1] = 0
    ints[st.NI_BOX_OWNERS] = random.choice([0, 1 << 1, 6], PLACES)
    mobilities = [st.ANCHORED, st.IDLE, st.RESTING, st.MOVING, st.MOVING, st.TELEPORT]
    ints[st.NI_MOBILITY] = random.choice(mobilities, PLACES)
    ints[st.NI_SLOT] = random.permutation(PLACES)
    ints[st.NI_TARGET] = random.integers(0, PLACES, PLACES)
    ints[st.NI_MET] = random.integers(0, 2, PLACES)
    ints[st.NI_GROUP] = random.integers(0, 2, PLACES)
    ints[st.NI_HAND] = random.choice([0, st.FLAG_AROUND, st.FLAG_AROUND | st.FLAG_LEFT, st.HAND_TURN], PLACES)
    ints[st.NI_LOOP] = random.integers(0, 20, PLACES)
    ints[st.NI_ROW] = ints[st.NI_SLOT] * st.FLOAT_ROW
    ints[st.NI_KIND_ROW] = random.integers(0, 3, PLACES) * st.NUM_KIND_FLOATS
    ints[st.NI_ACT] = random.integers(0, 6, PLACES)
    ints[st.NI_FLAGS] = random.choice([0, st.FLAG_FLYING, st.FLAG_OBEDIENT], PLACES)

    uf = random.normal(size=(1, PLACES, st.FLOAT_ROW)).astype(F)
    ui = random.integers(0, 20, (1, PLACES, st.INT_ROW)).astype(np.int32)
    place = np.argsort(ints[st.NI_SLOT])  # of the unit in each slot
    uf[0, :, st.F_X], uf[0, :, st.F_Y] = floats[st.N_X, place], floats[st.N_Y, place]
    uf[0, :, st.F_ORDER_X], uf[0, :, st.F_ORDER_Y] = random.uniform(0.0, 4.0, (2, PLACES))
    direct = random.random(PLACES) < 0.3
    uf[0, direct, st.F_WAY_X], uf[0, direct, st.F_WAY_Y] = uf[0, direct, st.F_ORDER_X], uf[0, direct, st.F_ORDER_Y]
    # Some face their targets.
    aimed = np.flatnonzero(random.random(PLACES) < 0.5)
    xy = floats[[st.N_X, st.N_Y]]
    towards = xy[:, place[ints[st.NI_TARGET, aimed]]] - xy[:, aimed]
    length = np.maximum(np.hypot(*towards), F(1e-3))
    uf[0, ints[st.NI_SLOT, aimed], st.F_FACING_X], uf[0, ints[st.NI_SLOT, aimed], st.F_FACING_Y] = towards / length
    uf[0, :, st.F_REACH] = random.uniform(0.0, 3.0, PLACES)
    uf[0, :, st.F_NEAR] = random.uniform(-0.1, 0.5, PLACES)
    uf[0, :, [st.F_STIM, st.F_BLINK_COOLDOWN, st.F_COOLDOWN]] = random.choice([0.0, 1.0, 5.0], (3, PLACES))
    uf[0, :, [st.F_HEALTH_MAX, st.F_SHIELD_MAX, st.F_ENERGY_MAX]] = 1.0
    ui[0, :, st.I_TARGET] = random.integers(-1, 2, PLACES)
    ui[0, :, st.I_VISIBLE] = 6
    ui[0, :, [st.I_TAG, st.I_TARGET_TAG]] = 3
    ui[0, ::7, st.I_TAG] = 4
    ui[0, :, st.I_ACT] = random.integers(0, 6, PLACES)
    ui[0, :, st.I_FLAGS] = random.choice([0, st.FLAG_FLYING, st.FLAG_AROUND | st.FLAG_LEFT], PLACES)
    ui[0, :, st.I_HURT_LOOP] = random.integers(-20, 20, PLACES)
    cells = uf[0, :, st.F_ORDER_Y].astype(np.int32) * 4 + uf[0, :, st.F_ORDER_X].astype(np.int32)
    ui[0, :, st.I_CELL] = np.where(random.random(PLACES) < 0.8, cells, -1)
    kinds = random.uniform(0.0, 0.5, (3, st.NUM_KIND_FLOATS)).astype(F)
    kinds[:, st.K_TURN_COS] = -0.5
    kinds[:, [st.K_HEALTH_REGEN_DELAY, st.K_SHIELD_REGEN_DELAY]] = 10.0
    return {"floats": floats, "ints": ints, "uf": uf, "ui": ui, "kinds": kinds}


def scalars(random: np.random.Generator, name: str) -> dict[str, Any]:
    """Arguments by name; those of one operation are picked out."""
    x0, x1, y0, y1 = (F(value) for value in (-1.2, 0.9, -0.8, 1.1))
    values: dict[str, Any] = {
        "at": int(random.integers(0, LANES)),
        "start": int(random.integers(0, LANES)),
        "to": 2 * LANES + int(random.integers(0, LANES)),
        "many": int(random.integers(0, 2 * LANES)),
        "places": PLACES,
        "row": st.N_INNER,
        "x": F(random.normal()),
        "y": F(random.normal()),
        "reach": F(random.uniform(0.0, 2.0)),
        "wanted": np.int32(random.choice([1 << 1, 1 << 2, 6, KEY_FLYER])),
        "owners": np.int32(random.choice([1 << 1, 1 << 2, 6])),
        "lanes": int(random.integers(0, 1 << LANES)),
        "others": int(random.integers(0, 1 << LANES)),
        "movers": int(random.integers(0, 1 << LANES)),
        "quiet": int(random.integers(0, 1 << LANES)),
        "first": int(random.integers(0, 8)),
        "width": int(random.choice([0, 4])),
        "free": bool(random.integers(0, 2)),
        "x0": x0,
        "x1": x1,
        "y0": y0,
        "y1": y1,
    }
    if name in ("lanes_in_window", "lanes_span"):
        values |= {"x": st.N_PX, "y": st.N_PY}
    if name == "box_lanes":
        values["at"] = int(random.choice([0, LANES]))
    if name == "pack_rows":
        values |= {"first": 1, "last": 3}
    return values


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_does_what_its_docstring_says_in_numpy(name: str) -> None:
    plain, fast = reference(OPERATIONS[name]), compiled(name)
    names = list(inspect.signature(OPERATIONS[name]._defn).parameters)[1:]
    for seed in range(40):
        random = np.random.default_rng(seed)
        numbers, arrays = scalars(random, name), crowd(random)
        if "start" in names and name != "see_lanes":
            arrays["ints"][st.NI_NUMBER] = np.arange(PLACES) - numbers["start"]
        arrays["array"] = arrays["uf"].reshape(-1, 2, st.FLOAT_ROW)
        told, expected = ({key: array.copy() for key, array in arrays.items()} for _ in range(2))
        result = fast(*(told[key] if key in told else numbers[key] for key in names))
        flat = {key: array.reshape(-1) if key in ("uf", "ui", "kinds") else array for key, array in expected.items()}
        with np.errstate(all="ignore"):
            answer = plain(*(flat[key] if key in flat else numbers[key] for key in names))
        if name.startswith("collect_"):
            # The places behind the copies, up to the sixteenth, are written over with anything.
            spare = slice(numbers["to"] + answer, numbers["to"] + LANES)
            told["floats"][:, spare], told["ints"][:, spare] = 0, 0
            expected["floats"][:, spare], expected["ints"][:, spare] = 0, 0
        if name == "go_on":
            # Directions and lengths of steps are told of units that move only.
            still = expected["ints"][st.NI_MOBILITY] != st.MOVING
            for key in (st.N_UX, st.N_UY, st.N_STEP):
                told["floats"][key, still] = expected["floats"][key, still] = 0.0
        np.testing.assert_array_equal(np.asarray(result, F), np.asarray(answer, F), err_msg=f"seed {seed}")
        for key, array in told.items():
            np.testing.assert_array_equal(array, expected[key], err_msg=f"{key}, seed {seed}")


def test_every_operation_has_a_reference() -> None:
    assert len(OPERATIONS) == 22 and all(re.search(r"In NumPy:\n", value.__doc__) for value in OPERATIONS.values())
