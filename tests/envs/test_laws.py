"""Laws that hold in every battle, checked on all units of the data file or on random battles."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.engine.state.orders import issue_order
from envs.engine.state.units import create_unit, facing_angle
from envs.engine.state.worlds import new_state, random_uniform, reset_world
from envs.engine.step import advance_world, advance_worlds
from envs.engine.vision import update_vision
from envs.scenarios.units import Rules, unit_data
from envs.vector_env import SC2VectorEnv
from tests.envs.arena import Arena

ARMED = [name for name, entry in unit_data().items() if entry["weapons"]]
TARGETS = [name for name, entry in unit_data().items() if not entry["invulnerable"]]
ORDERS = (st.ORDER_STOP, st.ORDER_MOVE, st.ORDER_ATTACK_MOVE, st.ORDER_ATTACK, st.ORDER_HEAL)
# As a target: visible, does nothing, heals nothing.
INERT = {
    "weapons": [],
    "speed": 0,
    "health_regen": 0,
    "shield_regen": 0,
    "cloaked": False,
    "burrowed": False,
    "changes_to": None,
    "heal": None,
}


def closed_form(weapon: dict, target: dict) -> float:
    """Health and shield that one attack takes from a fresh target: the rule written out, independent of the engine."""
    health, shield = float(target["health"]), float(target["shield"])
    damage = weapon["damage"] + sum(v for k, v in weapon["bonus"].items() if k in target["attributes"])
    for _ in range(weapon["attacks"]):
        if shield > 0:
            rest = damage - shield
            shield = max(shield - damage, 0.0)
            health -= max(rest - target["armor"], 0.0) if rest > 0 else 0.0
        else:
            health -= max(damage - target["armor"], 0.5)
    return target["health"] + target["shield"] - max(health, 0.0) - shield


def weapon_against(attacker: dict, target: dict) -> dict | None:
    planes = {"ground": ["ground", "any"], "air": ["air", "any"], "colossus": ["ground", "air", "any"]}
    return next((w for w in attacker["weapons"] if w["targets"] in planes[target["plane"]]), None)


def test_damage_of_every_attacker_on_every_defender_is_the_closed_form() -> None:
    data = unit_data()
    arena = Arena([*ARMED, *((name, {**INERT, "label": f"{name} target"}) for name in TARGETS)], max_units=2)
    checked = 0
    for attacker in ARMED:
        for defender in TARGETS:
            weapon = weapon_against(data[attacker], data[defender])
            arena.reset()
            i = arena.add(attacker, 1, 16.0, 16.0)
            gap = weapon["min_range"] + 0.05 if weapon else 1.0
            distance = data[attacker]["radius"] + data[defender]["radius"] + gap
            j = arena.add(f"{defender} target", 2, 16.0, 16.0 - distance)
            full = arena.health(j) + arena.get(j, st.F_SHIELD)
            assert arena.order(i, st.ORDER_ATTACK, j) in (True, weapon is not None)
            lost = 0.0
            for _ in range(40):
                arena.run()
                lost = full - max(arena.health(j), 0.0) - arena.get(j, st.F_SHIELD)
                if lost > 0:
                    break
            expected = closed_form(weapon, data[defender]) if weapon else 0.0
            assert lost == pytest.approx(expected, rel=1e-5), (attacker, defender)
            checked += weapon is not None
    assert checked > 1000


@pytest.mark.parametrize("attacker", [name for name in ARMED if name != "Baneling"])
def test_time_between_attacks_is_the_cooldown_to_the_loop(attacker: str) -> None:
    entry = unit_data()[attacker]
    weapon = entry["weapons"][0]
    plane = "air" if weapon["targets"] == "air" else "ground"
    wall = {**INERT, "label": "wall", "plane": plane, "health": 1e6}
    arena = Arena([attacker, ("SpineCrawler", wall)], max_units=2)
    i = arena.add(attacker, 1, 16.0, 16.0)
    j = arena.add("wall", 2, 16.0, 16.0 - entry["radius"] - 0.875 - weapon["min_range"] - 0.05)
    arena.order(i, st.ORDER_ATTACK, j)
    shots: list[int] = []
    for _ in range(250):
        arena.run()
        last = arena.flag(i, st.I_SHOT_LOOP)
        if last >= 0 and last not in shots:
            shots.append(last)
    # float32, as the tables hold it: 1.5 s are exactly 24 loops, .8608 s are 13.77 and take 14.
    expected = math.ceil(np.float32(weapon["cooldown"] * 16))
    assert shots[0] == math.ceil(np.float32(weapon["damage_point"] * 16))
    assert set(np.diff(shots)) == {expected}


def random_battle(
    rules: Rules, units: list[str], seed: int, state: st.State, world: int, loops: int, each: int = 8
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A battle of random units under random orders; copies of the world's fields every `each` loops."""
    static = rules.static
    reset_world(state, world, seed)
    rng = np.random.default_rng(seed)
    n = state.f.shape[2]
    width, height = rules.map_spec.width, rules.map_spec.height
    free = np.argwhere(static.pathable)
    for k in range(n):
        row, column = free[rng.integers(len(free))]
        kind = rules.kind[units[int(rng.integers(len(units)))]]
        create_unit(state, static, world, kind, 1 + k % 2, column + rng.random(), row + rng.random())
    history = []
    for _ in range(loops // each):
        for i in range(n):
            if state.i[world, st.I_ALIVE, i] and rng.random() < 0.3:
                order = int(rng.choice(ORDERS))
                target = int(rng.integers(n)) if order in (st.ORDER_ATTACK, st.ORDER_HEAL) else -1
                x, y = rng.random() * width, rng.random() * height
                issue_order(state, static, world, i, order, target, x, y, bool(rng.random() < 0.2))
        advance_world(state, static, world, each)
        history.append((state.f[world].copy(), state.i[world].copy()))
    return history


@pytest.mark.parametrize("seed", range(4))
def test_health_never_rises_without_a_reason_and_never_above_the_maximum(seed: int) -> None:
    units = [name for name in TARGETS if name != "Medivac"]
    rules = Rules(units)
    state = new_state(rules.static, 1, 24)
    before: tuple[np.ndarray, np.ndarray] | None = None
    for f, i in random_battle(rules, units, seed, state, 0, 160, each=1):
        assert (f[st.F_HEALTH] <= f[st.F_HEALTH_MAX]).all() and (f[st.F_SHIELD] <= f[st.F_SHIELD_MAX]).all()
        assert (f[st.F_HEALTH][i[st.I_ALIVE] == 1] > 0).all()
        assert (f[st.F_ENERGY] >= 0).all() and (f[st.F_ENERGY] <= f[st.F_ENERGY_MAX]).all()
        assert np.isfinite(f).all()
        if before is not None:
            same = (i[st.I_ALIVE] == 1) & (before[1][st.I_TAG] == i[st.I_TAG]) & (before[1][st.I_KIND] == i[st.I_KIND])
            kind = i[st.I_KIND]
            for field, rate in ((st.F_HEALTH, st.K_HEALTH_REGEN), (st.F_SHIELD, st.K_SHIELD_REGEN)):
                most = rules.static.kind_f[kind, rate]
                rise = f[field] - before[0][field]
                assert (rise[same] <= most[same] + 1e-4).all()
        before = f, i


def walls(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = np.ones((32, 32), bool)
    for _ in range(14):
        row, column = rng.integers(0, 30, 2)
        if rng.random() < 0.5:
            grid[row, column : column + 8] = False
        else:
            grid[row : row + 8, column] = False
    return grid


@pytest.mark.parametrize("seed", range(4))
def test_no_ground_unit_ever_crosses_an_obstacle(seed: int) -> None:
    grid = walls(seed)
    units = ["Marine", "Zergling", "Zealot", "Roach", "Hellion", "SiegeTank"]
    rules = Rules(units, MapSpec(pathable=grid))
    state = new_state(rules.static, 1, 20)
    before: np.ndarray | None = None
    travelled = 0.0
    for f, i in random_battle(rules, units, seed, state, 0, 400, each=1):
        alive = i[st.I_ALIVE] == 1
        place = f[[st.F_X, st.F_Y]][:, alive]
        if before is not None:
            old = before[[st.F_X, st.F_Y]][:, alive]
            travelled += float(np.abs(place - old).sum())
            for t in np.linspace(0, 1, 9):
                x, y = old + (place - old) * t
                assert grid[y.astype(int), x.astype(int)].all()
        before = f
    assert travelled > 100


def test_a_battle_is_the_same_alone_in_a_batch_and_on_two_threads() -> None:
    units = ["Marine", "Zealot", "Baneling", "Stalker", "Medivac", "SiegeTankSieged", "Colossus", "Mutalisk"]
    rules = Rules(units)
    batch = new_state(rules.static, 1024, 20)
    seeds = range(0, 1024, 64)
    with ThreadPoolExecutor(2) as pool:
        jobs = {s: pool.submit(random_battle, rules, units, s, batch, s, 240) for s in seeds}
        threaded = {s: job.result() for s, job in jobs.items()}
    for s in seeds:
        alone = new_state(rules.static, 1, 20)
        for (f, i), (g, j) in zip(random_battle(rules, units, s, alone, 0, 240), threaded[s], strict=True):
            np.testing.assert_array_equal(f.view(np.int32), g.view(np.int32))
            np.testing.assert_array_equal(i, j)


def test_worlds_that_are_led_together_are_as_those_that_are_led_alone() -> None:
    units = ["Marine", "Zealot", "Baneling", "Stalker", "Medivac", "SiegeTank", "Colossus", "Mutalisk", "DarkTemplar"]
    rules = Rules(units, MapSpec(width=32, height=32))
    together, alone = new_state(rules.static, 24, 300), new_state(rules.static, 24, 300)
    rng = np.random.default_rng(0)
    for b, n in enumerate(rng.choice([1, 2, 3, 5, 6, 8, 11, 15, 16, 17, 21, 33, 70, 300], 24)):
        for k in range(n):
            kind, x, y = rules.kind[units[int(rng.integers(len(units)))]], 2 + 28 * rng.random(), 2 + 28 * rng.random()
            for state in (together, alone):
                create_unit(state, rules.static, b, kind, 1 + k % 2, x, y)
    deaths = 0
    for _ in range(40):
        for b, i in np.argwhere(together.i[:, st.I_ALIVE] == 1):
            if rng.random() < 0.2:
                order, x, y = int(rng.choice((*ORDERS, st.ORDER_SIEGE))), 32 * rng.random(), 32 * rng.random()
                target = int(rng.integers(300)) if order in (st.ORDER_ATTACK, st.ORDER_HEAL) else -1
                for state in (together, alone):
                    issue_order(state, rules.static, b, i, order, target, x, y, False)
        advance_worlds(together, rules.static, 0, 24, 8)
        for b in range(24):
            advance_world(alone, rules.static, b, 8)
        np.testing.assert_array_equal(together.f.view(np.int32), alone.f.view(np.int32))
        np.testing.assert_array_equal(together.i, alone.i)
        deaths = int(together.tally[:, :, st.T_LOST].sum())
    assert deaths > 100


@pytest.mark.parametrize("begin", [0, 3])
def test_a_battle_is_the_same_however_its_loops_are_divided_into_calls(begin: int) -> None:
    units = ["Marine", "Zealot", "Baneling", "Stalker", "Medivac", "SiegeTank", "Colossus", "Mutalisk"]
    rules = Rules(units, MapSpec(width=48, height=48))
    at_once, in_parts = new_state(rules.static, 4, 300), new_state(rules.static, 4, 300)
    rng = np.random.default_rng(1)
    sizes = [5, 60, 80, 280]

    def create(b: int) -> None:
        kind, owner = rules.kind[units[int(rng.integers(len(units)))]], 1 + int(rng.integers(2))
        x, y = 2 + 44 * rng.random(2)
        for state in (at_once, in_parts):
            create_unit(state, rules.static, b, kind, owner, x, y)

    for b, n in enumerate(sizes):
        for _ in range(n):
            create(b)
    for state in (at_once, in_parts):
        advance_worlds(state, rules.static, 0, 4, begin)
    many, few = np.zeros(4, bool), np.zeros(4, bool)
    for turn in range(30):
        for b, i in np.argwhere(at_once.i[:, st.I_ALIVE] == 1):
            if rng.random() < 0.2:
                order, x, y = (
                    int(rng.choice((*ORDERS, st.ORDER_SIEGE, st.ORDER_BLINK))),
                    48 * rng.random(),
                    48 * rng.random(),
                )
                target = int(rng.integers(300)) if order in (st.ORDER_ATTACK, st.ORDER_HEAL) else -1
                for state in (at_once, in_parts):
                    issue_order(state, rules.static, b, i, order, target, x, y, False)
        # So that few units become many, and many few.
        for _ in range(30 if turn % 10 == 3 else 0):
            create(1)
            create(3)
        advance_worlds(at_once, rules.static, 0, 4, 12)
        for loops in (1, 3, 6, 2):
            in_parts.near_f[...], in_parts.near_i[...] = (
                3,
                3,
            )  # no call takes anything from that an earlier one has left
            advance_worlds(in_parts, rules.static, 0, 4, loops)
        np.testing.assert_array_equal(at_once.f.view(np.int32), in_parts.f.view(np.int32))
        np.testing.assert_array_equal(at_once.i, in_parts.i)
        many |= at_once.w[:, st.W_MANY] == 1
        few |= at_once.w[:, st.W_MANY] == 0
    assert (many & few)[1:3].all() and many[3] and int(at_once.tally[:, :, st.T_LOST].sum()) > 100


@pytest.mark.parametrize("unit", ["Marine", "Zealot", "Stalker"])
def test_mirrored_battles_are_fair(unit: str) -> None:
    rules = Rules([unit])
    state = new_state(rules.static, 1, 10)
    wins = [0, 0]
    for seed in range(120):
        reset_world(state, 0, seed)
        rng = np.random.default_rng(seed)
        for side in (1, 2):
            for n in range(5):
                # The two sides have the same spread, not the same places: a true mirror image would end in a draw.
                x, y = 9.0 + rng.random(), 12.0 + 1.5 * n + rng.random()
                i = create_unit(state, rules.static, 0, 0, side, x if side == 1 else 32.0 - x, y)
                issue_order(
                    state, rules.static, 0, i, st.ORDER_ATTACK_MOVE, -1, 23.0 if side == 1 else 9.0, 16.0, False
                )
        advance_world(state, rules.static, 0, 1200)
        left = state.tally[0, 1:3, st.T_ALIVE]
        if (left > 0).sum() == 1:
            wins[int(left[1] > 0)] += 1
    decided = sum(wins)
    assert decided > 80
    assert abs(wins[0] - decided / 2) < 4 * math.sqrt(decided) / 2, wins


def test_a_perfect_mirror_image_ends_in_a_draw() -> None:
    arena = Arena(["Marine"], max_units=6)
    for n in range(3):
        for side, x in ((1, 9.0), (2, 23.0)):
            i = arena.add("Marine", side, x, 14.0 + n)
            arena.order(i, st.ORDER_ATTACK_MOVE, x=32.0 - x, y=15.0)
    arena.run(800)
    assert arena.state.tally[0, 1, st.T_ALIVE] == arena.state.tally[0, 2, st.T_ALIVE] == 0


@pytest.mark.parametrize(("n", "size"), [(12, 32), (60, 64), (300, 64)])
def test_players_see_exactly_what_is_in_sight(n: int, size: int) -> None:
    units = ["Marine", "Zergling", "SiegeTank", "DarkTemplar", "Observer", "Overseer", "Medivac"]
    rules = Rules(units, MapSpec(width=size, height=size))
    state = new_state(rules.static, 1, n)
    kinds = rules.static
    for seed in range(3):
        random_battle(rules, units, seed, state, 0, 160)
        update_vision(state, kinds, 0)
        f, i = state.f[0], state.i[0]
        alive = np.flatnonzero(i[st.I_ALIVE])
        for a in alive:
            for player in (1, 2):
                expected = i[st.I_OWNER, a] == player
                hidden = i[st.I_FLAGS, a] & (st.FLAG_CLOAKED | st.FLAG_BURROWED)
                for s in alive:
                    if i[st.I_OWNER, s] == player:
                        kind = kinds.kind_f[i[st.I_KIND, s]]
                        reach = kind[st.K_DETECTION] if hidden else kind[st.K_SIGHT] + f[st.F_RADIUS, a]
                        gap = math.hypot(f[st.F_X, s] - f[st.F_X, a], f[st.F_Y, s] - f[st.F_Y, a])
                        expected |= reach > 0 and gap <= reach
                assert bool(i[st.I_VISIBLE, a] >> player & 1) == bool(expected), (seed, a, player)


def test_random_numbers_depend_on_seed_and_count_only() -> None:
    rules = Rules(["Marine"])
    state = new_state(rules.static, 2, 2)
    reset_world(state, 0, 5)
    reset_world(state, 1, 6)
    first = [random_uniform(state, 0) for _ in range(200)]
    other = [random_uniform(state, 1) for _ in range(200)]
    reset_world(state, 1, 5)
    assert first == [random_uniform(state, 1) for _ in range(200)]
    assert all(0 <= x < 1 for x in first) and len(set(first) | set(other)) == 400
    assert abs(np.mean(first) - 0.5) < 0.1


def test_the_facing_angle_is_the_arc_tangent() -> None:
    angles = np.linspace(-np.pi, np.pi, 4097)
    directions = [(np.float32(np.cos(angle)), np.float32(np.sin(angle))) for angle in angles]
    directions += [(np.float32(x), np.float32(y)) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    for x, y in directions:
        assert abs(facing_angle(x, y) - np.arctan2(float(y), float(x))) < 3e-7, (x, y)


@pytest.mark.parametrize("scenario", ["MMM", "2s3z", "corridor", "bane_vs_bane"])
def test_quiet_units_do_what_a_decision_in_every_loop_would_tell_them(scenario: str) -> None:
    quiet, deciding = SC2VectorEnv(scenario), SC2VectorEnv(scenario)
    for env in (quiet, deciding):
        env.reset(seed=3)
        for n in range(int(env.state.w[0, st.W_ALIVE])):
            x, y = 22.0 - 0.3 * (n % 7), 10.0 + 0.7 * (n % 11)
            issue_order(
                env.state, env.rules.static, 0, n, st.ORDER_ATTACK_MOVE if n % 3 else st.ORDER_MOVE, -1, x, y, False
            )
            # Clocks that run on while a unit is quiet.
            env.state.uf[0, n, st.F_STIM] = 40.0 * (n % 2)
            env.state.uf[0, n, st.F_BLINK_COOLDOWN] = 30.0 * (n % 4)
    rested = 0
    fields = [n for n in range(st.NUM_INTS) if n not in (st.I_ACT, st.I_WAKE)]
    for _ in range(160):
        rested += int((quiet.state.i[0, st.I_WAKE] > quiet.state.w[0, st.W_LOOP]).sum())
        deciding.state.i[:, st.I_WAKE] = 0
        for env in (quiet, deciding):
            advance_world(env.state, env.rules.static, 0, 1)
        np.testing.assert_array_equal(quiet.state.f[:, : st.F_REACH], deciding.state.f[:, : st.F_REACH])
        np.testing.assert_array_equal(quiet.state.i[:, fields], deciding.state.i[:, fields])
    assert rested > 500
