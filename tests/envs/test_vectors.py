"""Vector operations that use instructions of some processors only: the same without them, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from envs.engine.neighbours import begin_places, leave_places, list_places, near_units
from envs.engine.quiet import begin_loop, go_on, recover
from envs.engine.simd.steps import end_steps
from envs.engine.simd.vectors import INDEX, MASK, Code, dot, operation
from envs.engine.state import layout as st
from envs.engine.state.layout import LANES
from envs.vector_env import SC2VectorEnv

F = np.float32
ON_ANY = pytest.mark.parametrize("any_processor", [False, True], ids=["this processor", "any processor"])


def without_special_instructions(monkeypatch: pytest.MonkeyPatch, any_processor: bool) -> None:
    if any_processor:
        monkeypatch.setattr(Code, "has_avx512", lambda self: False)


def mover(offset: int) -> Callable[..., Any]:
    """A function that sets `out[rows + offset]` to `array[rows + offset]` in the lanes `active`, not compiled yet."""

    @operation
    def move(typingctx, array, rows, active, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = Code(context, builder, signature, args)
            at, lanes = code.load(1, context.get_constant(INDEX, 0)), code.bits(2)
            code.scatter(3, at, offset, code.gather(0, at, offset, lanes), lanes)
            return args[2]

        return MASK(array, rows, MASK, out), codegen

    return njit(lambda array, rows, active, out: move(array, rows, active, out))


@ON_ANY
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_rows_are_gathered_and_scattered_in_the_active_lanes_only(
    monkeypatch: pytest.MonkeyPatch, any_processor: bool, kind: type[np.generic]
) -> None:
    without_special_instructions(monkeypatch, any_processor)
    random, move = np.random.default_rng(3), mover(7)
    for _ in range(20):
        array: np.ndarray = random.integers(1, 99, 4096).astype(kind)
        out, expected = np.zeros_like(array), np.zeros_like(array)
        rows = random.choice(4096 - 7, LANES, replace=False).astype(np.int32)
        active = int(random.integers(0, 1 << LANES))
        move(array, rows, active, out)
        chosen = rows[(active >> np.arange(LANES)) & 1 != 0] + 7
        expected[chosen] = array[chosen]
        np.testing.assert_array_equal(out, expected)


def packer() -> Callable[..., Any]:
    """A function that stores the first sixteen elements of `array` side by side at `out[at]`, those `active`."""

    @operation
    def pack(typingctx, array, at, active, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = Code(context, builder, signature, args)
            code.store_packed(3, args[1], code.load(0, context.get_constant(INDEX, 0)), code.bits(2))
            return args[2]

        return MASK(array, INDEX, MASK, out), codegen

    return njit(lambda array, at, active, out: pack(array, at, active, out))


@ON_ANY
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_active_lanes_are_stored_side_by_side(
    monkeypatch: pytest.MonkeyPatch, any_processor: bool, kind: type[np.generic]
) -> None:
    without_special_instructions(monkeypatch, any_processor)
    random, pack = np.random.default_rng(4), packer()
    for _ in range(50):
        array: np.ndarray = random.integers(1, 99, LANES).astype(kind)
        out: np.ndarray = np.full(3 * LANES, -1, kind)
        at, active = int(random.integers(0, LANES)), int(random.integers(0, 1 << LANES))
        pack(array, at, active, out)
        chosen = array[(active >> np.arange(LANES)) & 1 != 0]
        np.testing.assert_array_equal(out[at : at + len(chosen)], chosen)
        assert (out[:at] == -1).all() and (out[at + LANES :] == -1).all()


FLOAT_OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "divide": (lambda a, b: a / b, lambda a, b: a / b),
    "negate": (lambda a, b: -a, lambda a, b: -a),
    "at least": (lambda a, b: a.at_least(b), np.maximum),
    "at most": (lambda a, b: a.at_most(b), np.minimum),
    "root": (lambda a, b: (a * a).root(), lambda a, b: np.sqrt(a * a)),
    "dot": (lambda a, b: dot(a, b, b, b), lambda a, b: a * b + b * b),
    "less": (lambda a, b: (a < b).choose(a, 7.0), lambda a, b: np.where(a < b, a, F(7))),
    "at most, bits": (lambda a, b: (a <= b).choose(a, 7.0), lambda a, b: np.where(a <= b, a, F(7))),
    "greater": (lambda a, b: (a > b).choose(7.0, b), lambda a, b: np.where(a > b, F(7), b)),
    "at least, bits": (lambda a, b: (a >= b).choose(a, b), lambda a, b: np.where(a >= b, a, b)),
    "equal": (lambda a, b: a.equals(b).choose(a, 7.0), lambda a, b: np.where(a == b, a, F(7))),
    "differ": (lambda a, b: a.differs(b).choose(a, 7.0), lambda a, b: np.where(a != b, a, F(7))),
    "whole": (lambda a, b: a.whole().real(), lambda a, b: a.astype(np.int32).astype(F)),
}
INT_OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "plus": (lambda a, b: a.plus(b), lambda a, b: a + b),
    "minus": (lambda a, b: a.minus(b), lambda a, b: a - b),
    "times": (lambda a, b: a.times(b), lambda a, b: a * b),
    "and": (lambda a, b: a & b, lambda a, b: a & b),
    "or": (lambda a, b: a | b, lambda a, b: a | b),
    "not": (lambda a, b: ~a, lambda a, b: ~a),
    "less": (lambda a, b: (a < b).choose(a, 7), lambda a, b: np.where(a < b, a, 7)),
    "at": (lambda a, b: a.at(b & 15), lambda a, b: a[b & 15]),
    "first bits": (lambda a, b: (a & 255).first_bits(), lambda a, b: lowest_bits(a & 255)),
    "bits set": (lambda a, b: a.bits_set(), lambda a, b: np.bitwise_count(a.view(np.uint32))),
    "as bit": (lambda a, b: (b & 15).as_bit(), lambda a, b: 1 << (b & 15)),
    "pick": (lambda a, b: a.pick([3] * LANES), lambda a, b: np.full(LANES, a[3])),
}


def lowest_bits(values: np.ndarray) -> np.ndarray:
    return np.array([(int(value) & -int(value)).bit_length() - 1 if value else 0 for value in values])


@pytest.mark.parametrize(
    ("kind", "name"), [*((F, n) for n in FLOAT_OPERATIONS), *((np.int32, n) for n in INT_OPERATIONS)]
)
def test_lanes_act_as_arrays_of_numpy(kind: type[np.generic], name: str) -> None:
    lanes, arrays = (FLOAT_OPERATIONS if kind is F else INT_OPERATIONS)[name]

    @operation
    def act(typingctx, a, b, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code, zero = Code(context, builder, signature, args), context.get_constant(INDEX, 0)
            code.store(2, zero, lanes(code.load(0, zero), code.load(1, zero)))
            return context.get_constant(MASK, 0)

        return MASK(a, b, out), codegen

    compiled = njit(lambda a, b, out: act(a, b, out))
    random = np.random.default_rng(5)
    for _ in range(30):
        a, b = random.integers(-40, 40, (2, LANES)).astype(kind) / kind(1 if kind is np.int32 else 8)
        a, b, out = a.astype(kind), b.astype(kind), np.zeros(LANES, kind)
        compiled(a, b, out)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out, arrays(a, b))


def test_lanes_become_one_number() -> None:
    @operation
    def reduce(typingctx, a, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code, zero = Code(context, builder, signature, args), context.get_constant(INDEX, 0)
            values = code.load(0, zero)
            code.store_element(1, zero, values.fold(lambda x, y: x + y))
            return (values > 0.0).to_mask()

        return MASK(a, out), codegen

    compiled = njit(lambda a, out: reduce(a, out))
    a, out = np.random.default_rng(6).normal(size=LANES).astype(F), np.zeros(1, F)
    assert compiled(a, out) == sum(1 << n for n in range(LANES) if a[n] > 0)
    halves = a
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert out[0] == halves[0]


def quiet_loop(state: Any, static: Any, count: int, width: int) -> Any:
    """The quiet part of a loop of world 0, and steps without collisions."""
    near = near_units(state, 0, 1)
    begin_places(state, static, 0)
    state.w[0, st.W_START] = 0
    list_places(state, static, near, 0)
    leave_places(near, 0, count, -count & (st.LANES - 1))
    went = 0
    for first in range(0, count, st.LANES):
        recover(near.i, state.uf, state.ui, static.kind_f, first, near.f.shape[1])
        _, quiet, _ = begin_loop(near.f, near.i, state.ui, first, near.f.shape[1], width)
        quiet = go_on(near.f, near.i, state.uf, state.ui, static.kind_f, first, near.f.shape[1], quiet, width)
        end_steps(
            near.f, near.i, state.uf, first, near.f.shape[1], quiet, np.float32(0), np.float32(0), np.float32(99),
            np.float32(99), False,
        )  # fmt: skip
        while quiet != 0:
            went += 1
            quiet &= quiet - 1
    return went


@pytest.mark.parametrize("scenario", ["MMM", "2s3z", "corridor"])
def test_units_go_on_alike_on_every_processor(monkeypatch: pytest.MonkeyPatch, scenario: str) -> None:
    results = []
    for any_processor in (False, True):
        env = SC2VectorEnv(scenario)
        env.reset(seed=4)
        for _ in range(6):
            env.step(env.scripted_action("kite"))
        state, static = env.state, env.rules.static
        state.near_f[...], state.near_i[...] = 0, 0
        hurt = state.alive[0, : state.w[0, st.W_ALIVE]]
        state.uf[0, hurt, st.F_HEALTH] -= 1.0
        state.uf[0, hurt[::2], st.F_STIM] = 8.0
        state.uf[0, hurt[::3], st.F_BLINK_COOLDOWN] = 8.0
        width = static.pathable.shape[1] if static.options[st.O_OBSTACLES] else 0
        with monkeypatch.context() as patch:
            without_special_instructions(patch, any_processor)
            went = njit(error_model="numpy")(quiet_loop)(state, static, int(state.w[0, st.W_ALIVE]), width)
        results.append((went, state.uf.copy(), state.ui.copy(), state.near_i.copy(), state.near_f.copy()))
        env.close()
    assert results[0][0] >= 3
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
