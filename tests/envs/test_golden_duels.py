"""Duels whose course follows from the data file (game data of patch 4.10) by arithmetic, to the loop.

Time of death of a target in range of an attacker that faces it: ceil(damage point) + (n - 1) * ceil(cooldown) + flight,
with n attacks to kill and the projectile's flight ceil(gap / speed), all in loops.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.engine.state import layout as st
from envs.scenarios.units import unit_data
from tests.envs.arena import Arena
from tests.envs.test_laws import INERT, weapon_against

# attacker, target, gap between the edges, attacks to kill (worked out by hand from damage, bonus, armor, shield)
DUELS = [
    ("Marine", "Marine", 4.0, 8),  # 45 / 6
    ("Marine", "Zealot", 4.0, 29),  # 50 shield / 6: 8 leave 2, the 9th spills 4 - 1; then 97 / 5 = 20
    ("Marine", "Zergling", 4.0, 6),  # 35 / 6
    ("Marauder", "Roach", 5.0, 8),  # 145 / (10 + 10 - 1)
    ("Stalker", "Stalker", 5.0, 10),  # 80 / 18: 4 leave 8, the 5th spills 10 - 1; then 71 / 17 = 5
    ("Zealot", "Marine", 0.05, 3),  # 45 / 16
    ("Zealot", "Zergling", 0.05, 3),  # 35 / 16
    ("Zergling", "Marine", 0.05, 9),  # 45 / 5
    ("Roach", "Marine", 3.0, 3),  # 45 / 16
    ("Immortal", "Roach", 5.0, 3),  # 145 / (20 + 30 - 1)
    ("SiegeTankSieged", "Marine", 8.0, 2),  # 45 / 40
    ("Hydralisk", "VoidRay", 4.0, 21),  # 100 / 12: 8 leave 4, the 9th spills 8; then 142 / 12 = 12
    ("Thor", "Zealot", 5.0, 3),  # 60 takes the shield and 10 - 1; then 91 / 58 = 2
    ("Colossus", "Marine", 6.0, 2),  # 45 / (2 * 15)
    ("Baneling", "Marine", 0.2, 2),  # one Baneling does 20 + 15 and is gone: a second is needed
    ("Phoenix", "Mutalisk", 4.0, 6),  # 120 / (2 * 10)
    ("Queen", "Mutalisk", 6.0, 14),  # 120 / 9
    ("Ultralisk", "Marine", 0.5, 2),  # 45 / 35
    ("SpineCrawler", "Stalker", 6.0, 6),  # 80 / 30: 2 leave 20, the 3rd spills 10 - 1; then 71 / 29 = 3
    ("Sentry", "Marine", 4.0, 8),
    ("Archon", "Marine", 2.0, 2),  # 45 / 35
]


@pytest.mark.parametrize(("attacker", "target", "gap", "attacks"), DUELS)
def test_time_to_kill(attacker: str, target: str, gap: float, attacks: int) -> None:
    data = unit_data()
    arena = Arena([attacker, (target, {**INERT, "label": "target"})], max_units=3)
    distance = data[attacker]["radius"] + data[target]["radius"] + gap
    i = arena.add(attacker, 1, 16.0, 20.0)
    j = arena.add("target", 2, 16.0, 20.0 - distance)
    arena.order(i, st.ORDER_ATTACK, j)
    weapon = weapon_against(data[attacker], data[target])
    assert weapon is not None
    if attacker == "Baneling":
        arena.run(2)
        assert not arena.alive(i) and arena.health(j) == 10
        return
    loops = lambda seconds: math.ceil(np.float32(seconds * 16))  # noqa: E731
    flight = math.ceil(round(gap / (weapon["projectile_speed"] / 16), 3)) if weapon["projectile_speed"] else 0
    expected = loops(weapon["damage_point"]) + (attacks - 1) * loops(weapon["cooldown"]) + flight
    died = None
    for _ in range(expected + 60):
        arena.run()
        if not arena.alive(j):
            died = arena.loop() - 1
            break
    assert died == expected


def test_a_marine_crosses_nine_units_in_64_loops() -> None:
    arena = Arena([("Marine", {"obedient": True})])
    i = arena.add("Marine", 1, 8.0, 16.0)
    arena.order(i, st.ORDER_MOVE, x=17.0, y=16.0)
    arena.run(63)
    assert arena.get(i, st.F_X) < 17.0 - 0.1
    arena.run()
    assert arena.get(i, st.F_X) == pytest.approx(17.0, abs=1e-4)
    arena.run()
    assert arena.flag(i, st.I_ORDER) == st.ORDER_STOP


def test_stimpack_speeds_up_fire_and_steps_by_half_for_fifteen_seconds() -> None:
    arena = Arena([("Marine", {"obedient": True}), ("SpineCrawler", {**INERT, "label": "wall", "health": 1e5})])
    i, j = arena.add("Marine", 1, 16.0, 16.0), arena.add("wall", 2, 16.0, 12.0)
    assert arena.order(i, st.ORDER_STIM) and arena.health(i) == 35
    arena.order(i, st.ORDER_ATTACK, j)
    arena.run(241)
    # ceil(13.7728 / 1.5) = 10 loops from attack to attack, the first at loop 1, the last at loop 231; 2 armor.
    assert 1e5 - arena.health(j) == pytest.approx(4 * 24, abs=0.1)
    assert arena.get(i, st.F_STIM) == 0
    other = arena.add("Marine", 1, 4.0, 4.0)
    arena.order(other, st.ORDER_STIM)
    arena.order(other, st.ORDER_MOVE, x=10.0, y=4.0)
    arena.run(16)
    assert arena.get(other, st.F_X) == pytest.approx(4.0 + 2.25 * 1.5, abs=1e-3)


def test_a_medivac_heals_nine_a_second_for_a_third_of_an_energy_each() -> None:
    arena = Arena(["Medivac", "Marine"])
    i, j = arena.add("Medivac", 1, 16.0, 16.0), arena.add("Marine", 1, 18.0, 16.0)
    arena.state.f[0, st.F_HEALTH, j] = 9.0
    before = arena.get(i, st.F_ENERGY)
    arena.order(i, st.ORDER_HEAL, j)
    arena.run(32)
    assert arena.health(j) == pytest.approx(27.0, abs=1e-3)
    assert before + 2 * 0.5625 - arena.get(i, st.F_ENERGY) == pytest.approx(18 * 0.33, abs=1e-3)
    arena.run(64)
    assert arena.health(j) == 45.0
    assert arena.flag(i, st.I_ORDER) == st.ORDER_STOP


def test_shields_come_back_after_ten_seconds_at_two_a_second() -> None:
    arena = Arena([("Marine", {"obedient": True}), ("Zealot", {"obedient": True})])
    i, j = arena.add("Marine", 1, 16.0, 16.0), arena.add("Zealot", 2, 16.0, 12.0)
    arena.order(i, st.ORDER_ATTACK, j)
    while arena.get(j, st.F_SHIELD) == 50:
        arena.run()
    arena.order(i, st.ORDER_STOP)
    hurt = arena.flag(j, st.I_HURT_LOOP)
    while arena.get(j, st.F_SHIELD) == 44:
        arena.run()
    assert arena.loop() - 1 - hurt == 160
    arena.run(15)
    assert arena.get(j, st.F_SHIELD) == pytest.approx(46.0, abs=1e-4)
    arena.run(400)
    assert arena.get(j, st.F_SHIELD) == 50


def test_zerg_heal_themselves() -> None:
    arena = Arena(["Zergling", "Roach"])
    i = arena.add("Zergling", 1, 16.0, 16.0)
    arena.state.f[0, st.F_HEALTH, i] = 20.0
    arena.run(160)
    assert arena.health(i) == pytest.approx(20 + 10 * 0.2734, abs=1e-3)


def test_siege_splash_falls_off_with_distance_and_hurts_friends() -> None:
    wall = {**INERT, "health": 500, "armor": 0, "attributes": []}
    arena = Arena(["SiegeTankSieged", ("Marine", {**wall, "label": "target"})])
    tank = arena.add("SiegeTankSieged", 1, 16.0, 24.0)
    target = arena.add("target", 2, 16.0, 14.0)
    bystanders = {0.45: 40.0, 0.75: 20.0, 1.2: 10.0, 1.3: 0.0}
    slots = {d: arena.add("target", 2, 16.0 + d, 14.0) for d in bystanders}
    friend = arena.add("target", 1, 16.0 - 0.45, 14.0)
    arena.order(tank, st.ORDER_ATTACK, target)
    arena.run(4)
    assert 500 - arena.health(target) == 40
    for distance, slot in slots.items():
        assert 500 - arena.health(slot) == bystanders[distance], distance
    assert 500 - arena.health(friend) == 40


def test_glaive_worms_bounce_twice() -> None:
    wall = {**INERT, "health": 500, "armor": 0, "attributes": []}
    arena = Arena(["Mutalisk", ("Marine", {**wall, "label": "target"})])
    i = arena.add("Mutalisk", 1, 16.0, 16.0)
    slots = [arena.add("target", 2, 16.0 + 2.0 * n, 14.0) for n in range(4)]
    arena.order(i, st.ORDER_ATTACK, slots[0])
    arena.run(10)
    assert [500 - arena.health(slot) for slot in slots] == pytest.approx([9, 3, 1, 0], abs=0.01)


def test_banelings_burst_on_all_enemies_around_and_when_killed() -> None:
    arena = Arena([("Baneling", {"obedient": True}), ("Marine", {"obedient": True})])
    i = arena.add("Baneling", 1, 16.0, 16.0)
    near, far = arena.add("Marine", 2, 16.0, 17.5), arena.add("Marine", 2, 16.0, 18.3)
    shooter = arena.add("Marine", 2, 16.0, 20.5)
    arena.order(shooter, st.ORDER_ATTACK, i)
    for _ in range(100):
        arena.run()
        if not arena.alive(i):
            break
    arena.run()
    assert arena.health(near) == 45 - 35
    assert arena.health(far) == 45


def kite(arena: Arena, zealot: int, marines: list[int], loops: int) -> None:
    """Marines that shoot when they can and walk away from the Zealot while they cannot."""
    for _ in range(loops // 2):
        for i in marines:
            if not arena.alive(i) or not arena.alive(zealot):
                continue
            dx = arena.get(i, st.F_X) - arena.get(zealot, st.F_X)
            dy = arena.get(i, st.F_Y) - arena.get(zealot, st.F_Y)
            if arena.get(i, st.F_COOLDOWN) <= 0 or math.hypot(dx, dy) > 5.5:
                arena.order(i, st.ORDER_ATTACK, zealot)
            else:
                # Away from it, and around the arena rather than into a corner.
                cx, cy = 16.0 - arena.get(i, st.F_X), 16.0 - arena.get(i, st.F_Y)
                d = math.hypot(dx, dy)
                x = arena.get(i, st.F_X) + 2 * dx / d + 0.12 * cx
                y = arena.get(i, st.F_Y) + 2 * dy / d + 0.12 * cy
                arena.order(i, st.ORDER_MOVE, x=x, y=y)
        arena.run(2)


def test_two_marines_beat_a_zealot_by_kiting_and_lose_by_standing() -> None:
    won = {}
    for micro in (False, True):
        arena = Arena([("Marine", {"obedient": micro}), "Zealot"])
        marines = [arena.add("Marine", 1, 19.0, 12.0), arena.add("Marine", 1, 13.0, 12.0)]
        zealot = arena.add("Zealot", 2, 16.0, 19.0)
        arena.order(zealot, st.ORDER_ATTACK_MOVE, x=16.0, y=12.0)
        if micro:
            kite(arena, zealot, marines, 1600)
        else:
            for i in marines:
                arena.order(i, st.ORDER_ATTACK_MOVE, x=16.0, y=16.0)
            arena.run(1600)
        won[micro] = not arena.alive(zealot)
    assert won == {False: False, True: True}


def test_focused_fire_beats_spread_fire() -> None:
    """Three Marines that shoot at one target together win against three that shoot at the nearest."""
    arena = Arena([("Marine", {"label": "Focus", "obedient": True}), "Marine"])
    ours = [arena.add("Focus", 1, 13.0, 14.0 + 2 * n) for n in range(3)]
    theirs = [arena.add("Marine", 2, 17.5, 14.0 + 2 * n) for n in range(3)]
    for _ in range(400):
        left = [j for j in theirs if arena.alive(j)]
        for i in ours:
            if arena.alive(i) and left:
                arena.order(i, st.ORDER_ATTACK, left[0])
        arena.run(2)
    assert arena.state.tally[0, 2, st.T_ALIVE] == 0
    assert arena.state.tally[0, 1, st.T_ALIVE] > 0
