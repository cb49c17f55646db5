"""The bare engine: nanoseconds per unit and game loop, 10 to 512 units, 1 and 2 threads, and compile times.

Two mirrored armies attack-move at each other until one is gone, then the battle is set up again; in half of the
battles side 1 gets random orders (move by up to 2, attack a random enemy) every 8 loops instead. A unit-loop is one
living unit advanced by one game loop.

With `--groups` the units of a battle fight in groups of ten out of each other's sight, and the battle is set up again
after 20 s: so a unit has as many others near it in large battles as in small ones.

    python -m benchmarks.engine [--units 10 57 512] [--threads 1 2] [--seconds 2] [--groups] [--compile] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from envs.engine.state import layout as st
from envs.engine.state.compilation import inline_kernel, kernel
from envs.engine.state.maps import MapSpec
from envs.engine.state.orders import issue_order
from envs.engine.state.units import create_unit
from envs.engine.state.worlds import new_state, random_uniform, reset_world
from envs.engine.step import advance_worlds
from envs.scenarios.units import Rules

GROUP = 10  # units of both sides
GROUP_MAP, GROUP_WIDTH, GROUP_HEIGHT = 160, 24, 16  # in world units
GROUP_LOOPS = 320
PORTION = 16  # worlds that go through all steps before the next do
LOOPS = np.int64(8)  # typed, because Numba would compile the engine anew for a literal argument


@inline_kernel
def place_two(state, static, b, kind, middle_x, middle_y, x, y, gap):
    """A unit of each side, `x` to either side of the middle; both attack-move to the other's start."""
    for owner in (1, 2):
        side = -1.0 if owner == 1 else 1.0
        i = create_unit(state, static, b, kind, owner, middle_x + side * x, y)
        issue_order(state, static, b, i, st.ORDER_ATTACK_MOVE, -1, middle_x - side * gap / 2, middle_y, False)


@kernel
def place_armies(state, static, b, units, gap):
    """Half of `units` on each side, in columns that face each other; both attack-move to the other's start."""
    height = static.bounds[3]
    middle = static.bounds[2] / 2
    rows = max(int(height / 1.3) - 2, 1)
    for n in range(units // 2):
        column, row = n // rows, n % rows
        y = height / 2 + (row - (min(units // 2, rows) - 1) / 2) * 1.2 + random_uniform(state, b) * 0.2
        x = gap / 2 + column * 1.2 + random_uniform(state, b) * 0.2
        place_two(state, static, b, n % static.kind_i.shape[0], middle, height / 2, x, y, gap)


@kernel
def place_groups(state, static, b, units, gap):
    """As `place_armies` for every ten of `units`, each on ground of its own."""
    columns = GROUP_MAP // GROUP_WIDTH
    for n in range(units // 2):
        group, member = n // (GROUP // 2), n % (GROUP // 2)
        middle_x, middle_y = (group % columns + 0.5) * GROUP_WIDTH, (group // columns + 0.5) * GROUP_HEIGHT
        y = middle_y + (member - (GROUP // 2 - 1) / 2) * 1.2 + random_uniform(state, b) * 0.2
        x = gap / 2 + random_uniform(state, b) * 0.2
        place_two(state, static, b, n % static.kind_i.shape[0], middle_x, middle_y, x, y, gap)


@inline_kernel
def prepare(state, static, b, units, gap, groups, work):
    """Sets world `b` up again if its battle is over, and gives the random orders."""
    loop = state.w[b, st.W_LOOP]
    if groups:
        over = loop == 0 or loop > GROUP_LOOPS
    else:
        over = state.tally[b, 1, st.T_ALIVE] == 0 or state.tally[b, 2, st.T_ALIVE] == 0 or loop > 1200
    if over:
        key = state.w[b, st.W_SEED]
        reset_world(state, b, key + 1000003)
        if groups:
            place_groups(state, static, b, units, gap)
        else:
            place_armies(state, static, b, units, gap)
        work[b, 1] += 1
    if b % 2 == 1:
        for n in range(state.w[b, st.W_ALIVE]):
            i = state.alive[b, n]
            if state.ui[b, i, st.I_OWNER] != 1:
                continue
            draw = random_uniform(state, b)
            if draw < 0.5:
                dx = 4.0 * random_uniform(state, b) - 2.0
                dy = 4.0 * random_uniform(state, b) - 2.0
                x, y = state.uf[b, i, st.F_X] + dx, state.uf[b, i, st.F_Y] + dy
                issue_order(state, static, b, i, st.ORDER_MOVE, -1, x, y, False)
            else:
                j = int(random_uniform(state, b) * state.ui.shape[1])
                if groups:
                    j = i // GROUP * GROUP + j % GROUP
                if j < state.ui.shape[1] and state.ui[b, j, st.I_OWNER] == 2:
                    issue_order(state, static, b, i, st.ORDER_ATTACK, j, 0.0, 0.0, False)
    work[b, 0] += state.w[b, st.W_ALIVE] * LOOPS


@kernel
def run(state, static, first, last, units, gap, groups, steps, work):
    """`steps` of 8 loops in the worlds [first, last); `work` [B, 2] counts unit-loops and battles."""
    for begin in range(first, last, PORTION):
        end = min(begin + PORTION, last)
        for _ in range(steps):
            for b in range(begin, end):
                prepare(state, static, b, units, gap, groups, work)
            advance_worlds(state, static, begin, end, LOOPS)


def measure(units: int, threads: int, seconds: float, mix: tuple[str, ...], groups: bool = False) -> dict[str, float]:
    """Nanoseconds of one core per unit-loop and env-steps (8 loops) a second, for battles of `units` units."""
    size = GROUP_MAP if groups else 32 if units <= 64 else 64
    rules = Rules(mix, MapSpec(width=size, height=size), players=2)
    worlds = max(64, min(1024, 16384 // units))
    state = new_state(rules.static, num_worlds=worlds, max_units=units, seed=1)
    work = np.zeros((worlds, 2), np.int64)
    pool = ThreadPoolExecutor(threads)
    edges = [worlds * n // threads for n in range(threads + 1)]

    def step(steps: int) -> None:
        jobs = [
            pool.submit(run, state, rules.static, first, last, units, 12.0, groups, steps, work)
            for first, last in itertools.pairwise(edges)
        ]
        for job in jobs:
            job.result()

    step(40)  # spreads the battles over their stages
    best = []
    for _ in range(5):
        work[:] = 0
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds / 5:
            step(4)
            steps += 4
        elapsed = time.perf_counter() - begin
        best.append((elapsed * threads * 1e9 / work[:, 0].sum(), steps * worlds / elapsed, work[:, 0].sum()))
    best.sort()
    return {
        "units": units,
        "threads": threads,
        "worlds": worlds,
        "ns_per_unit_loop": round(best[2][0], 1),
        "ns_low": round(best[0][0], 1),
        "ns_high": round(best[-1][0], 1),
        "env_steps_per_second": round(best[2][1]),
    }


def compile_seconds() -> dict[str, float]:
    """Seconds from a fresh interpreter to the first step, with an empty Numba cache and with a filled one."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import time; t = time.perf_counter();"
            "from benchmarks.engine import *;"
            "rules = Rules(['Marine']); state = new_state(rules.static, 1, 4);"
            "create_unit(state, rules.static, 0, 0, 1, 9.0, 9.0); advance_worlds(state, rules.static, 0, 1, LOOPS);"
            "print(time.perf_counter() - t)"
        )
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        times = []
        for _ in range(2):
            result = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            times.append(round(float(result.stdout), 2))
    return {"cold_seconds": times[0], "warm_seconds": times[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, nargs="+", default=[10, 20, 57, 128, 256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--groups", action="store_true", help="groups of ten out of each other's sight")
    parser.add_argument("--mix", nargs="+", default=["Marine"], help="unit names, in turn")
    parser.add_argument("--compile", action="store_true", help="also time the compilation, cold and warm")
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    rows = []
    for threads in arguments.threads:
        for units in arguments.units:
            row = measure(units, threads, arguments.seconds, tuple(arguments.mix), arguments.groups)
            rows.append(row)
            print(
                f"{row['units']:4d} units, {threads} thread(s), {row['worlds']:4d} battles: "
                f"{row['ns_per_unit_loop']:6.1f} ns per unit-loop and core ({row['ns_low']}-{row['ns_high']}), "
                f"{row['env_steps_per_second']:9,d} env-steps/s",
                flush=True,
            )
    times = compile_seconds() if arguments.compile else {}
    if times:
        print(f"first step after import: {times['cold_seconds']} s cold, {times['warm_seconds']} s warm")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, **times}, file, indent=1)


if __name__ == "__main__":
    main()
