"""Orders, targets, vision and movement, one behaviour a test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.engine.pathing import clear_line
from envs.engine.simd.collisions import CORE
from envs.engine.state import layout as st
from envs.engine.state.maps import MapSpec
from envs.engine.state.units import create_unit, kill_unit
from envs.engine.targeting import can_attack, can_heal
from envs.engine.vision import visible_cells
from tests.envs.arena import Arena
from tests.envs.test_laws import INERT

OBEDIENT = {"obedient": True}
WALL = ("SpineCrawler", {**INERT, "label": "wall", "health": 1e5, "armor": 0})


def test_queued_orders_run_one_after_the_other() -> None:
    arena = Arena([("Marine", OBEDIENT)])
    i = arena.add("Marine", 1, 8.0, 8.0)
    corners = [(10.0, 8.0), (10.0, 10.0), (8.0, 10.0)]
    for n, (x, y) in enumerate(corners):
        assert arena.order(i, st.ORDER_MOVE, x=x, y=y, queued=n > 0)
    assert arena.flag(i, st.I_QUEUED) == 2
    seen = []
    for _ in range(70):
        arena.run()
        place = (round(arena.get(i, st.F_X), 2), round(arena.get(i, st.F_Y), 2))
        if place in corners and place not in seen:
            seen.append(place)
    assert seen == corners
    assert arena.flag(i, st.I_ORDER) == st.ORDER_STOP
    for _ in range(st.QUEUE + 1):
        arena.order(i, st.ORDER_MOVE, x=20.0, y=20.0, queued=True)
    assert not arena.order(i, st.ORDER_MOVE, x=20.0, y=20.0, queued=True)


def test_moving_cancels_an_attack_before_its_damage_point_and_keeps_the_weapon_ready() -> None:
    arena = Arena([("Ultralisk", OBEDIENT), WALL])
    i, j = arena.add("Ultralisk", 1, 16.0, 16.0), arena.add("wall", 2, 16.0, 13.5)
    arena.order(i, st.ORDER_ATTACK, j)
    arena.run(5)  # its damage point is 5.3 loops after the start
    assert arena.get(i, st.F_WINDUP) > 0
    arena.order(i, st.ORDER_MOVE, x=16.0, y=20.0)
    arena.run(4)
    assert arena.health(j) == 1e5 and arena.get(i, st.F_COOLDOWN) == 0
    arena.order(i, st.ORDER_ATTACK, j)
    arena.order(i, st.ORDER_ATTACK, j)  # the same order again does not start over
    arena.run(3)
    arena.order(i, st.ORDER_ATTACK, j)
    arena.run(30)
    assert arena.health(j) < 1e5


def test_illegal_orders_are_refused() -> None:
    arena = Arena([("Marine", OBEDIENT), "Medivac", "SpineCrawler", "Stalker"])
    i, medivac = arena.add("Marine", 1, 8.0, 8.0), arena.add("Medivac", 1, 9.0, 8.0)
    spine, stalker = arena.add("SpineCrawler", 1, 12.0, 8.0), arena.add("Stalker", 2, 20.0, 20.0)
    assert not arena.order(i, st.ORDER_ATTACK, i)
    assert not arena.order(i, st.ORDER_ATTACK)
    assert not arena.order(i, st.ORDER_ATTACK, 11)
    assert not arena.order(i, st.ORDER_HEAL, medivac)
    assert not arena.order(i, st.ORDER_BLINK, x=9.0, y=9.0)
    assert not arena.order(i, st.ORDER_SIEGE)
    assert not arena.order(i, 99)
    assert not arena.order(medivac, st.ORDER_ATTACK, stalker)
    assert not arena.order(spine, st.ORDER_MOVE, x=9.0, y=9.0)
    assert not arena.order(11, st.ORDER_STOP)
    kill_unit(arena.state, 0, i)
    assert not arena.order(i, st.ORDER_STOP)
    assert arena.flag(stalker, st.I_ORDER) == st.ORDER_STOP


def test_holding_and_obedient_units_stay_and_hold_shoots() -> None:
    arena = Arena(["Marine", ("Marine", {"label": "Controlled", **OBEDIENT}), WALL])
    holder, controlled = arena.add("Marine", 1, 16.0, 16.0), arena.add("Controlled", 1, 18.0, 16.0)
    wall = arena.add("wall", 2, 17.0, 11.0)
    far = arena.add("wall", 2, 17.0, 23.3)
    arena.order(holder, st.ORDER_HOLD)
    arena.order(controlled, st.ORDER_ATTACK_MOVE, x=18.0, y=18.0)
    arena.run(60)
    assert arena.health(wall) < 1e5 and arena.health(far) == 1e5
    assert arena.get(holder, st.F_X) == 16.0 and arena.get(holder, st.F_Y) == 16.0
    assert arena.flag(controlled, st.I_SHOT_LOOP) < 0


def test_attack_move_takes_what_can_shoot_back_before_what_cannot() -> None:
    arena = Arena(
        ["Marine", ("Medivac", INERT | {"label": "Bus", "plane": "air"}), ("Marine", {"label": "Foe", **OBEDIENT})]
    )
    i = arena.add("Marine", 1, 16.0, 16.0)
    bus, foe = arena.add("Bus", 2, 16.0, 14.5), arena.add("Foe", 2, 16.0, 11.5)
    arena.order(i, st.ORDER_ATTACK_MOVE, x=16.0, y=8.0)
    arena.run(6)
    assert arena.flag(i, st.I_TARGET) == foe
    arena.run(400)
    assert not arena.alive(foe) and arena.health(bus) < 150


def test_an_idle_unit_answers_an_attacker_chases_it_and_comes_back() -> None:
    arena = Arena([("SiegeTankSieged", {"weapons": {0: {"damage": 1}}, **OBEDIENT}), "Zealot", ("Marine", OBEDIENT)])
    tank, zealot = arena.add("SiegeTankSieged", 1, 16.0, 28.0), arena.add("Zealot", 2, 16.0, 17.0)
    arena.add("Marine", 2, 16.0, 22.0)  # sees the tank
    arena.order(tank, st.ORDER_ATTACK, zealot)
    arena.run(30)
    assert arena.flag(zealot, st.I_TARGET) == tank
    assert arena.get(zealot, st.F_Y) > 17.5
    arena.order(tank, st.ORDER_STOP)
    arena.run(60)
    kill_unit(arena.state, 0, tank)
    arena.run(200)
    assert math.hypot(arena.get(zealot, st.F_X) - 16.0, arena.get(zealot, st.F_Y) - 17.0) < 0.1


def test_an_idle_unit_does_not_chase_beyond_its_leash() -> None:
    arena = Arena(["Zealot", ("Hellion", OBEDIENT)], map_spec=MapSpec(width=64, height=64))
    zealot, bait = arena.add("Zealot", 2, 10.0, 32.0), arena.add("Hellion", 1, 14.0, 32.0)
    farthest = 0.0
    for _ in range(300):
        x = arena.get(zealot, st.F_X)
        if arena.get(bait, st.F_X) - x < 3.5:
            arena.order(bait, st.ORDER_MOVE, x=min(x + 5.0, 60.0), y=32.0)
        arena.run()
        farthest = max(farthest, arena.get(zealot, st.F_X) - 10.0)
    assert 5.0 < farthest < 12.0


def test_patrol_goes_back_and_forth() -> None:
    arena = Arena([("Marine", OBEDIENT)])
    i = arena.add("Marine", 1, 8.0, 16.0)
    arena.order(i, st.ORDER_PATROL, x=12.0, y=16.0)
    xs = []
    for _ in range(200):
        arena.run()
        xs.append(arena.get(i, st.F_X))
    turns = np.flatnonzero(np.diff(np.sign(np.diff(xs))) != 0)
    assert len(turns) >= 4 and min(xs[40:]) < 8.1 and max(xs) > 11.9


def test_blink_jumps_eight_at_once_and_then_cools_down() -> None:
    arena = Arena([("Stalker", OBEDIENT)])
    i = arena.add("Stalker", 1, 8.0, 16.0)
    arena.order(i, st.ORDER_BLINK, x=28.0, y=16.0)
    arena.run()
    assert arena.get(i, st.F_X) == pytest.approx(16.0)
    arena.order(i, st.ORDER_BLINK, x=28.0, y=16.0)
    arena.run(100)
    assert arena.get(i, st.F_X) == pytest.approx(16.0)
    assert arena.get(i, st.F_BLINK_COOLDOWN) > 0
    arena.run(60)
    arena.order(i, st.ORDER_BLINK, x=28.0, y=16.0)
    arena.run()
    assert arena.get(i, st.F_X) == pytest.approx(24.0)


def test_siege_mode_takes_time_keeps_health_and_reaches_farther() -> None:
    arena = Arena([("SiegeTank", OBEDIENT), WALL])
    i, j = arena.add("SiegeTank", 1, 16.0, 28.0), arena.add("wall", 2, 16.0, 14.5)
    arena.state.f[0, st.F_HEALTH, i] = 100.0
    arena.order(i, st.ORDER_SIEGE)
    arena.order(i, st.ORDER_ATTACK, j, queued=True)
    arena.run(68)
    assert arena.flag(i, st.I_KIND) == arena.rules.kind["SiegeTank"]
    arena.run(2)
    assert arena.flag(i, st.I_KIND) == arena.rules.kind["SiegeTankSieged"]
    assert arena.health(i) == 100.0
    arena.state.w[0, st.W_REVEAL] = 2
    arena.run(4)
    arena.order(i, st.ORDER_ATTACK, j)
    arena.run(20)
    assert arena.health(j) < 1e5 and arena.get(i, st.F_Y) == pytest.approx(28.0)


def test_burrowed_units_are_seen_by_detectors_only_and_neither_shot_nor_bumped() -> None:
    arena = Arena(["Zergling", "Marine", "Overseer"])
    zergling, marine = arena.add("Zergling", 1, 16.0, 16.0), arena.add("Marine", 2, 22.5, 16.0)
    arena.order(zergling, st.ORDER_SIEGE)
    arena.run(30)
    assert arena.flag(zergling, st.I_FLAGS) & st.FLAG_BURROWED
    assert not arena.flag(zergling, st.I_VISIBLE) >> 2 & 1
    arena.order(marine, st.ORDER_ATTACK_MOVE, x=12.0, y=16.0)
    arena.run(60)
    assert arena.health(zergling) == 35 and arena.get(marine, st.F_Y) == pytest.approx(16.0, abs=0.1)
    assert not can_attack(arena.state, arena.static, 0, marine, zergling)
    arena.add("Overseer", 2, 16.0, 18.0)
    arena.run(200)
    assert not arena.alive(zergling)


def test_units_come_and_go_in_the_middle_of_a_game_with_new_tags() -> None:
    arena = Arena(["Marine"], max_units=3)
    slots = [arena.add("Marine", 1, 8.0 + n, 8.0) for n in range(3)]
    assert create_unit(arena.state, arena.static, 0, 0, 1, 9.0, 9.0) == -1
    kill_unit(arena.state, 0, slots[1])
    kill_unit(arena.state, 0, slots[1])
    assert arena.state.tally[0, 1].tolist() == [2, 3, 1]
    again = arena.add("Marine", 2, 20.0, 20.0)
    assert again == slots[1]
    assert [arena.flag(i, st.I_TAG) for i in range(3)] == [1, 4, 3]
    assert arena.state.alive[0, : arena.state.w[0, st.W_ALIVE]].tolist() == [0, 1, 2]
    # An order aimed at the unit that was in the slot does not pass to the newcomer.
    arena.order(0, st.ORDER_ATTACK, 1)
    kill_unit(arena.state, 0, 1)
    arena.add("Marine", 2, 9.0, 9.0)
    arena.run(2)
    assert arena.flag(0, st.I_ORDER) == st.ORDER_STOP


def test_a_medivac_on_attack_move_heals_the_wounded_on_the_way() -> None:
    arena = Arena(["Medivac", ("Marine", OBEDIENT)])
    medivac, marine = arena.add("Medivac", 1, 8.0, 16.0), arena.add("Marine", 1, 14.0, 16.0)
    arena.state.f[0, st.F_HEALTH, marine] = 5.0
    assert can_heal(arena.state, arena.static, 0, medivac, marine)
    arena.order(medivac, st.ORDER_ATTACK_MOVE, x=26.0, y=16.0)
    arena.run(180)
    assert arena.health(marine) == 45.0
    arena.run(200)
    assert arena.get(medivac, st.F_X) > 24.0


def test_units_find_their_way_around_a_wall() -> None:
    grid = np.ones((32, 32), bool)
    grid[10:22, 16] = False
    grid[10, 8:16] = grid[21, 8:16] = False  # a pocket, open to the west
    arena = Arena([("Marine", OBEDIENT), "Mutalisk"], map_spec=MapSpec(pathable=grid))
    i, flyer = arena.add("Marine", 1, 13.0, 16.0), arena.add("Mutalisk", 1, 13.0, 14.0)
    assert not clear_line(arena.static, 13.0, 16.0, 22.0, 16.0) and clear_line(arena.static, 13.0, 16.0, 13.0, 12.0)
    arena.order(i, st.ORDER_MOVE, x=22.0, y=16.0)
    arena.order(flyer, st.ORDER_MOVE, x=22.0, y=14.0)
    length, before = 0.0, (13.0, 16.0)
    for _ in range(400):
        arena.run()
        place = arena.get(i, st.F_X), arena.get(i, st.F_Y)
        length += math.dist(before, place)
        before = place
    assert before == pytest.approx((22.0, 16.0), abs=0.05)
    # Straight ways along the wall's corners (8, 10) and (17, 10) are 27.2 long.
    assert length < 27.2 * 1.12
    assert arena.get(flyer, st.F_X) == pytest.approx(22.0, abs=0.2)
    arena.order(i, st.ORDER_MOVE, x=16.9, y=16.0)  # into the wall: the nearest free place will do
    arena.run(100)
    assert arena.get(i, st.F_X) == pytest.approx(17.5, abs=0.01) and abs(arena.get(i, st.F_Y) - 16.0) < 0.6
    assert arena.flag(i, st.I_ORDER) == st.ORDER_STOP


def nearest_pair(arena: Arena, units: list[int]) -> float:
    """Distance of the two centres that are nearest to each other, in sums of their inner radii."""
    x, y, inner = (np.array([arena.get(i, c) for i in units]) for c in (st.F_X, st.F_Y, st.F_INNER))
    gaps = np.hypot(x[:, None] - x, y[:, None] - y) / (inner[:, None] + inner)
    return float(gaps[np.triu_indices(len(units), 1)].min())


@pytest.mark.parametrize("zerglings", [12, 24, 40, 120])
def test_zerglings_surround_and_no_two_come_nearer_than_their_cores(zerglings: int) -> None:
    arena = Arena(["Zergling", ("Ultralisk", {**INERT, "label": "big", "health": 1e5})], max_units=zerglings + 1)
    big = arena.add("big", 2, 16.0, 16.0)
    abreast = 5 if zerglings < 100 else 10
    units = [arena.add("Zergling", 1, 4 + 0.9 * (n % abreast), 13 + 0.9 * (n // abreast)) for n in range(zerglings)]
    for i in units:
        arena.order(i, st.ORDER_ATTACK, big)
    for _ in range(240):
        arena.run()
        assert nearest_pair(arena, units) > CORE - 1e-3
    attacking = [i for i in units if arena.flag(i, st.I_SHOT_LOOP) > 220]
    assert len(attacking) >= 9
    angles = [math.atan2(arena.get(i, st.F_Y) - 16.0, arena.get(i, st.F_X) - 16.0) for i in attacking]
    assert max(np.cos(angles)) > 0.5  # some have gone around to the far side


def test_two_columns_of_one_side_pass_each_other() -> None:
    arena = Arena([("Marine", OBEDIENT)], max_units=24)
    there = [arena.add("Marine", 1, 6.0 + 0.9 * (n % 3), 12.0 + 0.9 * (n // 3)) for n in range(12)]
    back = [arena.add("Marine", 1, 26.0 - 0.9 * (n % 3), 12.0 + 0.9 * (n // 3)) for n in range(12)]
    for i, j in zip(there, back, strict=True):
        arena.order(i, st.ORDER_MOVE, x=26.0, y=14.0)
        arena.order(j, st.ORDER_MOVE, x=6.0, y=14.0)
    for _ in range(250):
        arena.run()
        assert nearest_pair(arena, there + back) > CORE - 1e-3
    assert min(arena.get(i, st.F_X) for i in there) > 22.0 and max(arena.get(i, st.F_X) for i in back) < 10.0


def test_units_on_the_same_place_push_each_other_apart() -> None:
    arena = Arena([("Marine", OBEDIENT)])
    slots = [arena.add("Marine", 1, 16.0, 16.0) for _ in range(5)]
    arena.run(60)
    places = [(arena.get(i, st.F_X), arena.get(i, st.F_Y)) for i in slots]
    gaps = [math.dist(a, b) for n, a in enumerate(places) for b in places[:n]]
    assert min(gaps) > 0.7
    before = places
    arena.run(20)
    assert (
        max(math.dist((arena.get(i, st.F_X), arena.get(i, st.F_Y)), p) for i, p in zip(slots, before, strict=True))
        < 0.05
    )


def test_units_go_around_what_stands_in_their_way() -> None:
    arena = Arena([("Marine", OBEDIENT), ("Marine", {"label": "Foe", **OBEDIENT})])
    mover, friend = arena.add("Marine", 1, 8.0, 16.0), arena.add("Marine", 1, 12.0, 16.0)
    foe = arena.add("Foe", 2, 16.0, 16.0)
    arena.order(mover, st.ORDER_MOVE, x=22.0, y=16.0)
    arena.run(130)
    assert arena.get(mover, st.F_X) == pytest.approx(22.0, abs=0.05)
    assert math.hypot(arena.get(friend, st.F_X) - 12.0, arena.get(friend, st.F_Y) - 16.0) < 0.5
    assert arena.get(foe, st.F_X) == 16.0 and arena.get(foe, st.F_Y) == 16.0


def test_flyers_speed_up_and_slow_down_and_obedient_ones_do_not() -> None:
    arena = Arena(["Medivac", ("Medivac", {"label": "Controlled", **OBEDIENT})])
    i, controlled = arena.add("Medivac", 1, 4.0, 8.0), arena.add("Controlled", 1, 4.0, 20.0)
    for unit, y in ((i, 8.0), (controlled, 20.0)):
        arena.state.f[0, st.F_FACING_X, unit], arena.state.f[0, st.F_FACING_Y, unit] = 1.0, 0.0
        arena.order(unit, st.ORDER_MOVE, x=20.0, y=y)
    arena.run(8)
    # 2.25 per second squared for half a second, against 2.5 per second at once.
    assert arena.get(i, st.F_X) - 4.0 == pytest.approx(2.25 / 256 * 36, abs=1e-3)
    assert arena.get(controlled, st.F_X) - 4.0 == pytest.approx(1.25, abs=1e-3)
    arena.run(200)
    assert arena.get(i, st.F_X) == pytest.approx(20.0, abs=0.1)


def test_slow_turners_take_their_time() -> None:
    arena = Arena(["Thor"])
    i = arena.add("Thor", 1, 16.0, 16.0)
    arena.order(i, st.ORDER_MOVE, x=16.0, y=28.0)  # faces south: half a turn at 360 degrees a second
    arena.run(5)
    assert arena.get(i, st.F_Y) == 16.0
    arena.run(4)
    assert arena.get(i, st.F_FACING_Y) == pytest.approx(1.0, abs=1e-3)


def test_high_ground_hides_what_stands_on_it_from_below() -> None:
    terrain = np.zeros((32, 32), np.float32)
    terrain[:, 16:] = 2.0
    arena = Arena(["Marine", "Observer"], map_spec=MapSpec(terrain=terrain, high_ground=True))
    below, above = arena.add("Marine", 1, 14.0, 16.0), arena.add("Marine", 2, 18.0, 16.0)
    arena.run()
    assert arena.flag(below, st.I_VISIBLE) >> 2 & 1 and not arena.flag(above, st.I_VISIBLE) >> 1 & 1
    arena.add("Observer", 1, 14.0, 17.0)
    arena.run(4)
    assert arena.flag(above, st.I_VISIBLE) >> 1 & 1
    assert arena.get(above, st.F_Z) == 2.0


def test_the_map_of_visible_cells_is_the_union_of_sights() -> None:
    arena = Arena(["Marine", "Zealot"], map_spec=MapSpec(width=40, height=24))
    for unit, owner, x, y in (("Marine", 1, 6.2, 5.1), ("Marine", 1, 30.0, 20.0), ("Zealot", 2, 20.0, 12.0)):
        arena.add(unit, owner, x, y)
    out = np.zeros((24, 40), np.uint8)
    visible_cells(arena.state, arena.static, 0, 1, out)
    y, x = np.mgrid[0:24, 0:40] + 0.5
    expected = (np.hypot(x - 6.2, y - 5.1) <= 9) | (np.hypot(x - 30.0, y - 20.0) <= 9)
    np.testing.assert_array_equal(out.astype(bool), expected)


def test_neutral_markers_can_be_gone_to_but_neither_bumped_nor_shot() -> None:
    arena = Arena(["Marine", "Beacon", "MineralShard"], map_spec=MapSpec(fog=False))
    i, beacon = arena.add("Marine", 1, 8.0, 16.0), arena.add("Beacon", st.NEUTRAL, 20.0, 16.0)
    shard = arena.add("MineralShard", st.NEUTRAL, 14.0, 16.0)
    arena.order(i, st.ORDER_MOVE, beacon)
    arena.run(120)
    assert arena.get(i, st.F_X) == pytest.approx(20.0, abs=0.01)
    assert arena.flag(i, st.I_ORDER) == st.ORDER_STOP
    assert arena.get(shard, st.F_X) == 14.0 and arena.alive(shard) and arena.alive(beacon)
    assert not can_attack(arena.state, arena.static, 0, i, beacon)
