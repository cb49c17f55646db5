"""The economy: laws of gathering, building and training, and PySC2's mini-games of it through PySC2 itself."""

from __future__ import annotations

import numpy as np
import pytest
from pysc2_evolved.env import sc2_env
from s2clientprotocol import debug_pb2, error_pb2, raw_pb2, sc2api_pb2

from envs.economy.tables import (
    B_COLLECTED_MINERALS,
    B_COLLECTED_VESPENE,
    B_MINERALS,
    B_SUPPLY,
    B_SUPPLY_USED,
    B_VESPENE,
    E_AMOUNT,
    E_CARRIES,
    E_CONTENTS,
    E_PHASE,
    HARVESTING,
)
from envs.engine.state import layout as st
from envs.protocol.abilities import carry_out, interpret
from envs.protocol.maps import find_map
from envs.protocol.world import Player, World
from envs.pysc2.client import simulator
from tests.envs.protocol.economy_agents import BuildMarines, Gather, GatherAndGrow
from tests.envs.protocol.test_handler import ask, command, observe, play, step, units

SMART, GATHER, TRAIN_SCV, TRAIN_MARINE, DEPOT, REFINERY, BARRACKS = 1, 295, 524, 560, 319, 320, 321
MINUTE = 1344  # loops of a minute at the speed that games are played at


def new_world(name="BuildMarines", seed=1):
    return World(find_map(name), {1: Player()}, seed=seed)


def of(world, label):
    return [
        slot for slot in map(int, world.alive_slots()) if world.state.i[0, st.I_KIND, slot] == world.rules.kind[label]
    ]


def do(world, slot, ability, target=-1, point=None, queued=False):
    """Gives a command; the ActionResult."""
    outcome = interpret(world, slot, ability, target, point)
    if isinstance(outcome, int):
        return outcome
    return error_pb2.Success if carry_out(world, outcome, queued) else error_pb2.Error


def bank(world, field=B_MINERALS):
    return float(world.economy.bank[0, 1, field])


def give(world, minerals):
    world.economy.bank[0, 1, B_MINERALS] += minerals


def nearest_fields(world):
    hall = of(world, "CommandCenter")[0]
    return sorted(of(world, "MineralField"), key=lambda field: world._distance(hall, field))


def test_a_worker_brings_what_the_games_does():
    """Public knowledge: 58 to 60 minerals a minute from a near patch (7 from the hall), by one SCV alone."""
    world = new_world("CollectMineralsAndGas")
    worker, hall = of(world, "SCV")[0], of(world, "CommandCenter")[0]
    field = min(of(world, "MineralField"), key=lambda field: abs(world._distance(hall, field) - 7.0))
    assert do(world, worker, SMART, target=field) == error_pb2.Success
    world.advance(5 * MINUTE)
    assert 55 <= bank(world, B_COLLECTED_MINERALS) / 5 <= 63


def test_a_patch_serves_one_worker_at_a_time_and_nothing_is_lost():
    world = new_world()
    fields = of(world, "MineralField")
    before = {field: int(world.economy.i[0, E_CONTENTS, field]) for field in fields}
    world.advance(1)
    before = {field: int(world.economy.i[0, E_CONTENTS, field]) for field in fields}
    for _ in range(300):
        world.advance(5)
        at = [
            int(world.state.i[0, st.I_ORDER_TARGET, worker])
            for worker in of(world, "SCV")
            if world.state.i[0, st.I_ORDER, worker] == st.ORDER_GATHER
            and world.economy.i[0, E_PHASE, worker] == HARVESTING
        ]
        assert len(at) == len(set(at))
    taken = sum(before[field] - int(world.economy.i[0, E_CONTENTS, field]) for field in fields)
    carried = sum(int(world.economy.i[0, E_AMOUNT, worker]) for worker in of(world, "SCV"))
    assert taken == bank(world, B_COLLECTED_MINERALS) + carried > 500
    # 12 workers, one of them told to go to each patch: they spread over the patches by themselves.
    assert sum(before[field] > world.economy.i[0, E_CONTENTS, field] for field in fields) == 8


def test_a_worker_sent_to_another_patch_starts_there_anew():
    world = new_world("CollectMineralsAndGas")
    worker, (near, *_, far) = of(world, "SCV")[0], nearest_fields(world)
    do(world, worker, GATHER, target=near)
    while world.economy.i[0, E_PHASE, worker] != HARVESTING:
        world.advance(1)
    do(world, worker, GATHER, target=far)
    world.advance(60)
    assert world.economy.i[0, E_CONTENTS, far] == 1800 and not world.economy.i[0, E_CARRIES, worker]
    world.advance(400)
    assert world.economy.i[0, E_CONTENTS, far] < 1800 and world.economy.i[0, E_CONTENTS, near] == 1800


def test_more_workers_than_patches_take_bring_no_more():
    rates = []
    for workers in (8, 16, 32):
        world = new_world("BuildMarines")
        hall = of(world, "CommandCenter")[0]
        for worker in of(world, "SCV"):
            world.kill(worker)
        for n in range(workers):
            x, y = (float(world.state.f[0, field, hall]) for field in (st.F_X, st.F_Y))
            worker = world.create(world.rules.kind["SCV"], 1, x + 3 * np.cos(n), y + 3 * np.sin(n))
            do(world, worker, GATHER, target=of(world, "MineralField")[n % 8])
        world.advance(2 * MINUTE)
        rates.append(bank(world, B_COLLECTED_MINERALS) / 2)
    assert rates[0] == pytest.approx(8 * 60, rel=0.08)
    assert 1.6 * rates[0] < rates[1] < 2.02 * rates[0]
    assert rates[2] < 1.35 * rates[1]  # a third worker on a patch adds little


def test_training_takes_money_supply_and_time():
    world = new_world("CollectMineralsAndGas")
    hall = of(world, "CommandCenter")[0]
    assert do(world, hall, TRAIN_MARINE) == error_pb2.NotSupported
    assert do(world, hall, TRAIN_SCV) == error_pb2.Success
    assert bank(world) == 0
    assert do(world, hall, TRAIN_SCV) == error_pb2.NotEnoughMinerals
    world.advance(271)
    assert len(of(world, "SCV")) == 12 and bank(world, B_SUPPLY_USED) == 13
    world.advance(2)
    assert len(of(world, "SCV")) == 13 and world.economy.made[0, 1, world.rules.kind["SCV"]] == 1
    give(world, 1000)
    for _ in range(5):
        assert do(world, hall, TRAIN_SCV) == error_pb2.Success
    assert do(world, hall, TRAIN_SCV) == error_pb2.QueueIsFull
    money = bank(world)
    assert world.cancel_production(hall, 4) and bank(world) == money + 50
    world.advance(2000)
    # 15 supply hold 15 SCVs: the rest waits, paid, for a depot.
    assert len(of(world, "SCV")) == 15 and len(world.production(hall)) == 2


def test_building_needs_money_room_and_a_worker_that_stays():
    world = new_world("CollectMineralsAndGas")
    worker, other = of(world, "SCV")[:2]
    assert do(world, worker, DEPOT, point=(36.2, 28.1)) == error_pb2.NotEnoughMinerals
    give(world, 1000)
    assert do(world, worker, BARRACKS, point=(36.0, 33.0)) == error_pb2.BuildTechRequirementsNotMet
    assert do(world, worker, DEPOT, point=(29.0, 28.0)) == error_pb2.CantBuildLocationInvalid
    assert do(world, worker, REFINERY, point=(33.0, 28.0)) == error_pb2.CantBuildOnThat
    assert do(world, worker, DEPOT, point=(36.2, 28.1)) == error_pb2.Success
    assert bank(world) == 1050  # paid when the foundations are laid
    world.advance(150)
    depot = of(world, "SupplyDepot")[0]
    assert tuple(world.state.f[0, [st.F_X, st.F_Y], depot]) == (36, 28)
    assert bank(world) == 950 and 0 < world.build_progress(depot) < 0.4
    health = float(world.state.f[0, st.F_HEALTH, depot])
    assert health < 0.5 * 400
    do(world, worker, 16, point=(33.0, 20.0))
    world.advance(300)
    progress = world.build_progress(depot)
    world.advance(300)
    assert world.build_progress(depot) == progress < 1 and bank(world, B_SUPPLY) == 15
    assert do(world, other, SMART, target=depot) == error_pb2.Success
    world.advance(600)
    assert not world.unfinished(depot) and bank(world, B_SUPPLY) == 23
    assert world.state.f[0, st.F_HEALTH, depot] == pytest.approx(400)
    assert world.state.i[0, st.I_ORDER, other] == st.ORDER_STOP
    assert do(world, worker, BARRACKS, point=(36.0, 33.0)) == error_pb2.Success
    world.advance(200)
    barracks = of(world, "Barracks")[0]
    money = bank(world)
    assert do(world, barracks, 314) == error_pb2.Success  # cancelled: three quarters come back
    assert bank(world) == money + 0.75 * 150 and not of(world, "Barracks")


def test_orders_to_build_queue_and_replace_each_other():
    world = new_world("CollectMineralsAndGas")
    give(world, 1000)
    worker = of(world, "SCV")[0]
    assert do(world, worker, DEPOT, point=(36, 33)) == error_pb2.Success
    world.advance(4)
    assert do(world, worker, DEPOT, point=(36, 28)) == error_pb2.Success
    assert do(world, worker, DEPOT, point=(36, 23), queued=True) == error_pb2.Success
    world.advance(1200)
    assert sorted(float(world.state.f[0, st.F_Y, depot]) for depot in of(world, "SupplyDepot")) == [23, 28]
    assert bank(world, B_SUPPLY) == 31


def test_gas_comes_from_a_refinery():
    world = new_world("CollectMineralsAndGas")
    give(world, 100)
    workers = of(world, "SCV")
    geyser = of(world, "VespeneGeyser")[1]
    assert do(world, workers[0], GATHER, target=geyser) == error_pb2.MustTargetResources
    assert do(world, workers[0], REFINERY, target=geyser) == error_pb2.Success
    world.advance(700)
    refinery = of(world, "Refinery")[0]
    assert not world.unfinished(refinery)
    for worker in workers[1:3]:
        assert do(world, worker, GATHER, target=refinery) == error_pb2.Success
    start = bank(world, B_VESPENE)  # the builder has begun by itself
    world.advance(3 * MINUTE)
    # Public knowledge: 160 to 163 a minute with three workers.
    assert 140 <= (bank(world, B_VESPENE) - start) / 3 <= 175
    left = int(world.economy.i[0, E_CONTENTS, geyser])
    carried = sum(int(world.economy.i[0, E_AMOUNT, worker]) for worker in workers)
    assert left + carried + bank(world, B_COLLECTED_VESPENE) == 2250


def test_rally_points_send_workers_to_gather():
    world = new_world("CollectMineralsAndGas")
    hall, field = of(world, "CommandCenter")[0], nearest_fields(world)[0]
    assert do(world, hall, SMART, target=field) == error_pb2.Success
    assert do(world, hall, TRAIN_SCV) == error_pb2.Success
    world.advance(700)
    assert bank(world, B_COLLECTED_MINERALS) >= 10


def test_the_economy_is_saved_and_comes_back():
    world = new_world()
    world.advance(333)
    saved = world.snapshot()
    world.advance(500)
    money, places = bank(world), world.state.f.copy()
    world.restore(saved)
    world.advance(500)
    assert bank(world) == money and np.array_equal(world.state.f, places)


def test_the_observation_tells_the_economy():
    session = play("CollectMineralsAndGas", computer=0)
    seen = observe(session)
    common = seen.observation.player_common
    assert (common.minerals, common.food_used, common.food_cap, common.idle_worker_count) == (50, 12, 15, 12)
    hall = next(unit for unit in units(seen, raw_pb2.Self) if unit.unit_type == 18)
    field = next(unit for unit in units(seen, raw_pb2.Neutral) if unit.unit_type == 341)
    assert field.mineral_contents == 0 or field.mineral_contents == 1800
    workers = [unit.tag for unit in units(seen, raw_pb2.Self) if unit.unit_type == 45]
    assert list(command(session, 3666, workers, target=field.tag)) == [1]
    assert list(command(session, TRAIN_SCV, [hall.tag])) == [1]
    step(session, 200)
    seen = observe(session)
    own = units(seen, raw_pb2.Self)
    orders = {order.ability_id for unit in own if unit.unit_type == 45 for order in unit.orders}
    assert orders <= {295, 296} and orders
    assert any(list(unit.buff_ids) == [271] for unit in own)
    hall = next(unit for unit in own if unit.unit_type == 18)
    assert [order.ability_id for order in hall.orders] == [TRAIN_SCV]
    assert hall.orders[0].progress == pytest.approx(199 / 272, abs=0.02)
    assert (hall.assigned_harvesters, hall.ideal_harvesters) == (12, 16)
    score = seen.observation.score
    assert score.score == score.score_details.collected_minerals > 0
    assert score.score_details.spent_minerals == 50
    enough = debug_pb2.DebugCommand(game_state=debug_pb2.all_resources)
    ask(session, debug=sc2api_pb2.RequestDebug(debug=[enough]))
    assert observe(session).observation.player_common.vespene == 5000


def score_of(map_name, agent, step_mul=8):
    """Plays an episode through PySC2; (score, cumulative score details)."""
    interface = {"action_space": sc2_env.ActionSpace.RAW, "use_raw_units": True}
    with simulator():
        env = sc2_env.SC2Env(
            map_name=map_name,
            players=[sc2_env.Agent(sc2_env.Race.terran)],
            agent_interface_format=sc2_env.AgentInterfaceFormat(**interface),
            step_mul=step_mul,
            random_seed=5,
        )
    with env:
        steps = env.reset()
        agent.setup(env.observation_spec()[0], env.action_spec()[0])
        agent.reset()
        while not steps[0].last():
            steps = env.step([agent.step(steps[0])])
    return agent.reward + steps[0].reward, steps[0].observation.score_cumulative


def test_scripted_play_of_collect_minerals_and_gas():
    """12 SCVs that do nothing but gather come to what DeepMind's FullyConv LSTM does (3,351); more SCVs gather more."""
    plain, details = score_of("CollectMineralsAndGas", Gather(), step_mul=16)
    assert plain == details.collected_minerals
    assert 3000 <= plain <= 3900
    grown, details = score_of("CollectMineralsAndGas", GatherAndGrow(), step_mul=16)
    assert grown == details.collected_minerals + details.collected_vespene
    assert grown > 1.2 * plain and details.collected_vespene > 100


def test_scripted_play_of_build_marines():
    """Between DeepMind's agents (6) and people (138)."""
    marines, _ = score_of("BuildMarines", BuildMarines(), step_mul=16)
    assert 60 <= marines <= 180
