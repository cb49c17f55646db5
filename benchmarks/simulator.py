"""Speed of the embedded simulator: env-steps/s with random legal actions, beside JaxMARL's SMAX in the same run.

    python -m benchmarks.simulator                                  the table of the README
    python -m benchmarks.simulator --smax-python VENV/bin/python    SMAX from another environment
    python -m benchmarks.simulator --curve                          cost per unit-loop against the number of units

A step is 8 game loops and includes the opponent's decisions, rewards, starting new episodes and writing observation
and masks.
Drawing random legal actions is part of the loop; its share of the time is stated.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tyro
from numba import njit

from envs.actions import ORDER_TARGET_CLASS
from envs.engine.state.layout import W_ALIVE
from envs.runtime import atomics
from envs.scenarios.scenario import Scenario, Team, UnitStart, formation, load_scenario
from envs.vector_env import SC2VectorEnv

# Actions of fewer units are drawn before a second thread is awake.
DRAWN_ALONE = 4096


@dataclass(frozen=True, kw_only=True)
class SimulatorBenchmark:
    """What to measure."""

    scenarios: tuple[str, ...] = ("3m", "2s3z", "10m_vs_11m", "27m_vs_30m", "corridor")
    batches: tuple[int, ...] = (1, 64, 1024)
    threads: tuple[int, ...] = (1, 2)
    seconds: float = 1.0
    """Length of one measurement; each is made `repeats` times."""
    repeats: int = 3
    smax_python: str = sys.executable
    """Python that has JaxMARL."""
    smax_batches: tuple[int, ...] = (64, 1024)
    curve: bool = False
    """Measure the cost per unit-loop against the number of units instead."""
    curve_units: tuple[int, ...] = (10, 20, 50, 100, 200, 350, 512)
    out: Path | None = None
    """JSON file for the results."""


@njit(cache=True, nogil=True)
def _draw(key, choices):
    """The generator's next key, and a number of [0, choices)."""
    key = key * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return key, np.int64(((key >> np.uint64(32)) * np.uint64(choices)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def draw_actions(order_mask, target_mask, target_class, keys, order, target, counter, portion):
    """Uniform over the legal orders of each unit, then over the legal targets. `keys` [B] are the worlds' generators.

    Takes worlds, `portion` at a time, until `counter` [1] says that none is left; so any number of threads may run it.
    """
    worlds, units, orders = order_mask.shape
    rows = target_mask.shape[3]
    while True:
        first = atomics.add(counter, 0, 1) * portion
        if first >= worlds:
            break
        for b in range(first, min(first + portion, worlds)):
            key = keys[b]
            for u in range(units):
                # A unit has a legal order always, and an order a legal target: the tries end.
                while True:
                    key, k = _draw(key, orders)
                    if order_mask[b, u, k]:
                        break
                order[b, u] = k
                target[b, u] = 0
                c = target_class[k]
                while c >= 0:
                    key, row = _draw(key, rows)
                    if target_mask[b, u, c, row]:
                        target[b, u] = row
                        break
            keys[b] = key


def measure(
    scenario: str | Scenario, batch: int, threads: int, seconds: float, repeats: int
) -> dict[str, float | list[float]]:
    """Env-steps/s of each repeat, the median, and the share of drawing actions."""
    env = SC2VectorEnv(scenario, batch, num_threads=threads, copy=False, illegal_actions="no_op")
    observation, _ = env.reset(seed=0)
    order = np.zeros((batch, env.num_units), np.int64)
    target = np.zeros_like(order)
    keys = np.arange(1, batch + 1, dtype=np.uint64)
    counter = np.zeros(1, np.int64)
    portion = max(1, min(64, batch // (4 * threads)))

    def draw() -> None:
        draw_actions(
            observation["order_mask"],
            observation["target_mask"],
            ORDER_TARGET_CLASS,
            keys,
            order,
            target,
            counter,
            portion,
        )

    rates, drawing, illegal = [], 0.0, 0
    total = 0.0
    for repeat in range(repeats + 1):
        limit = seconds if repeat else 0.3 * seconds
        steps, spent, started = 0, 0.0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < limit:
            drawn = time.perf_counter()
            counter[0] = 0
            if order.size < DRAWN_ALONE:
                draw()
            else:
                env.thread_pool.run(draw)
            spent += time.perf_counter() - drawn
            observation, _, _, _, infos = env.step({"order": order, "target": target})
            illegal += int(infos["illegal_actions"].sum())
            steps += batch
        if repeat:
            rates.append(steps / elapsed)
            drawing += spent
            total += elapsed
    env.close()
    if illegal:
        raise AssertionError(f"{illegal} actions drawn from the masks were illegal")
    return {"rates": rates, "median": statistics.median(rates), "drawing_share": drawing / total}


def smax(python: str, name: str, batch: int, seconds: float) -> dict[str, float] | str:
    """SMAX's env-steps/s, or why there is no figure."""
    script = Path(__file__).with_name("smax_peer.py")
    done = subprocess.run(
        [python, str(script), name, str(batch), str(seconds)],
        capture_output=True,
        text=True,
        env={"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"},
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:100] if done.stderr.strip() else "failed"
    return json.loads(done.stdout.strip().splitlines()[-1])


def battle(units: int) -> Scenario:
    """Half Marines, half Marines, `units` in all, on a map that grows with them."""
    side = max(32, int(2.2 * np.sqrt(units * 4)))
    half = units // 2
    base = load_scenario("3m")
    teams = []
    for x, facing in ((side * 0.25, 1), (side * 0.75, -1)):
        places = formation(["Marine"] * half, (x, side / 2), facing)
        starts = tuple(UnitStart(unit_type="Marine", position=place) for place in places)
        teams.append(Team(units=starts, slots=half, opponent="attack-move"))
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    fields |= {"name": f"{half}m", "map_size": (side, side), "playable": (0.0, 0.0, side, side)}
    return Scenario(**{**fields, "teams": (teams[0], teams[1]), "step_limit": 100})


def curve(config: SimulatorBenchmark) -> list[dict]:
    """Nanoseconds per living unit and game loop in a whole step, both sides fighting, 1 thread."""
    rows = []
    for units in config.curve_units:
        env = SC2VectorEnv(battle(units), 8, copy=False)
        env.reset(seed=0)
        costs = []
        for repeat in range(config.repeats + 1):
            unit_loops, started = 0, time.perf_counter()
            spent = 0.0
            while spent < config.seconds:
                actions = env.scripted_action("attack-move")
                unit_loops += int(env.state.w[:, W_ALIVE].sum()) * env.scenario.step_mul
                started = time.perf_counter()
                env.step(actions)
                spent += time.perf_counter() - started
            if repeat:
                costs.append(1e9 * spent / unit_loops)
        rows.append({"units": units, "ns_per_unit_loop": statistics.median(costs), "all": costs})
        print(f"{units:4d} units  {rows[-1]['ns_per_unit_loop']:7.1f} ns per unit-loop", flush=True)
    return rows


def main(config: SimulatorBenchmark) -> None:
    if config.curve:
        results: dict = {"curve": curve(config)}
    else:
        results = {"simulator": [], "smax": []}
        for name in config.scenarios:
            for threads in config.threads:
                for batch in config.batches:
                    if threads > batch:
                        continue
                    row = measure(name, batch, threads, config.seconds, config.repeats)
                    results["simulator"].append({"scenario": name, "batch": batch, "threads": threads, **row})
                    rates = ", ".join(f"{rate:,.0f}" for rate in row["rates"])
                    share = 100 * row["drawing_share"]
                    print(
                        f"{name:12s} batch {batch:5d} threads {threads}: {row['median']:12,.0f} env-steps/s "
                        f"({rates}; {share:.0f}% of it drawing actions)",
                        flush=True,
                    )
            for batch in config.smax_batches:
                if config.smax_python == sys.executable and find_spec("jaxmarl") is None:
                    print("SMAX: jaxmarl is not installed here; give --smax-python a Python that has it")
                    break
                peer = smax(config.smax_python, name, batch, config.seconds)
                results["smax"].append({"scenario": name, "batch": batch, "result": peer})
                figure = peer if isinstance(peer, str) else f"{peer['steps_per_second']:12,.0f} env-steps/s"
                print(f"{name:12s} SMAX batch {batch:5d} (CPU, all cores): {figure}", flush=True)
    if config.out is not None:
        config.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(tyro.cli(SimulatorBenchmark))
