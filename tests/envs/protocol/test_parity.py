"""The parity law: the same scenario, seed and actions give the same observations in process and through PySC2."""

from __future__ import annotations

import numpy as np
import pytest
from pysc2_evolved.env import sc2_env
from s2clientprotocol import debug_pb2, sc2api_pb2

from envs.economy.tables import B_MINERALS
from envs.economy_env import FUNCTIONS, EconomyEnv
from envs.protocol.game import GIFT
from envs.pysc2.client import simulator
from envs.pysc2.environment import PySC2VectorEnv
from envs.scenarios.scenario import scenario_names
from envs.vector_env import SC2VectorEnv
from envs.views import observation as ob

STEPS = 200
FAST = ("3m", "2s3z", "MoveToBeacon", "DefeatRoaches", "FindAndDefeatZerglings")


def random_legal(observation, rng):
    """A random legal action of the unit view, for a batch of one."""
    order_mask, target_mask = observation["order_mask"][0], observation["target_mask"][0]
    orders = np.array([rng.choice(np.flatnonzero(row)) for row in order_mask])
    targets = np.zeros(len(orders), np.int64)
    classes = {11: 0, 12: 1, 13: 2}  # move_to, attack, heal
    for unit, order in enumerate(orders):
        if int(order) in classes:
            targets[unit] = rng.choice(np.flatnonzero(target_mask[unit, classes[int(order)]]))
    return {"order": orders[None], "target": targets[None]}


def random_smac(observation, rng):
    mask = observation["action_mask"][0]
    return np.array([rng.choice(np.flatnonzero(row)) for row in mask])[None]


def random_function(observation, rng):
    """A random legal structured action, for a batch of one."""
    functions = np.flatnonzero(observation["function_mask"][0])
    function = int(rng.choice(functions))
    selectable = observation["selected_mask"][0, function]
    selected = selectable & (rng.random(selectable.shape) < 0.7)
    if function and not selected.any():
        selected[rng.choice(np.flatnonzero(selectable))] = True
    targets = np.flatnonzero(observation["target_unit_mask"][0, function])
    return {
        "function": np.array([function]),
        "queued": rng.integers(0, 2, 1),
        "target_unit": np.array([rng.choice(targets) if len(targets) else 0]),
        "target_point": rng.integers(0, 32 * 32, 1),
        "selected": selected[None].astype(np.int8),
    }


CHOOSE = {"unit": random_legal, "smac": random_smac, "function": random_function}


def check_parity(scenario, *, transport="memory", action_view="unit", steps=STEPS, seed=11, **options):
    rng = np.random.default_rng(seed)
    options = {"action_view": action_view, "illegal_actions": "error", **options}
    inside = SC2VectorEnv(scenario, 1, **options)
    outside = PySC2VectorEnv(scenario, 1, transport=transport, **options)
    try:
        assert inside.single_observation_space == outside.single_observation_space
        assert inside.single_action_space == outside.single_action_space
        a, _ = inside.reset(seed=seed)
        b, _ = outside.reset(seed=seed)
        episodes = 0
        for step in range(steps):
            for name in a:
                where = f"{scenario}, seed {seed}, step {step}, {name}"
                if a[name].dtype == np.bool_:
                    np.testing.assert_array_equal(a[name], b[name], err_msg=where)
                else:
                    np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-6, err_msg=where)
            action = CHOOSE[action_view](a, rng)
            a, *results_a, info_a = inside.step(action)
            b, *results_b, info_b = outside.step(action)
            for x, y in zip(results_a, results_b, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=f"{scenario}, step {step}")
            if "final_info" in info_a:
                episodes += 1
                for name in ("battle_won", "score", "episode_length"):
                    np.testing.assert_allclose(info_a["final_info"][name], info_b["final_info"][name], rtol=1e-6)
                for name, array in info_a["final_obs"][0].items():
                    np.testing.assert_allclose(array, info_b["final_obs"][0][name], rtol=1e-6, atol=1e-6)
        return episodes
    finally:
        inside.close()
        outside.close()


@pytest.mark.parametrize("scenario", FAST)
def test_unit_view_in_memory(scenario):
    check_parity(scenario)


def test_websocket():
    assert check_parity("3m", transport="websocket") > 0


def test_smac_view_and_arrays():
    assert check_parity("3m", action_view="smac", observation_view="both") > 0


def test_function_view():
    assert check_parity("3m", action_view="function") > 0


def random_economy(env, observation, rng):
    """A random legal action of an economy, which is paid for where it can be; one worker builds."""
    function = int(rng.choice(np.flatnonzero(observation["function_mask"])))
    rows = np.flatnonzero(observation["selected_mask"][function])
    selected = np.zeros(env.action_space["selected"].n, np.int8)
    if len(rows):
        selected[rng.choice(rows, 1 if "Build" in FUNCTIONS[function].name else min(len(rows), 3), replace=False)] = 1
    targets = np.flatnonzero(observation["target_unit_mask"][function])
    return {
        "function": function,
        "queued": int(rng.random() < 0.2),
        "selected": selected,
        "target_unit": int(rng.choice(targets)) if len(targets) else 0,
        "target_point": int(rng.integers(env.action_space["target_point"].n)),
    }


def as_raw_command(env, action):
    """The action as a client of the protocol sends it."""
    result, function = sc2api_pb2.Action(), FUNCTIONS[action["function"]]
    tags = [env.world.tag(env._slot_of_row(int(row))) for row in np.flatnonzero(action["selected"])]
    if tags and function.ability:
        command = result.action_raw.unit_command
        command.ability_id, command.queue_command = function.ability, bool(action["queued"])
        command.unit_tags.extend(tags)
        if function.takes_unit:
            command.target_unit_tag = env.world.tag(env._slot_of_row(action["target_unit"]))
        elif function.takes_point:
            place = env.point(action["target_point"])
            command.target_world_space_pos.x, command.target_world_space_pos.y = place
    return result


def check_economy_parity(scenario, transport, steps=STEPS, seed=5):
    """The worlds of `EconomyEnv` and of PySC2 with the same seed and actions: every unit, the bank and the score."""
    rng = np.random.default_rng(seed)
    inside = EconomyEnv(scenario)
    seen, _ = inside.reset(seed=seed)
    with simulator(transport):
        outside = sc2_env.SC2Env(
            map_name=scenario,
            players=[sc2_env.Agent(sc2_env.Race.terran)],
            agent_interface_format=sc2api_pb2.InterfaceOptions(raw=True, score=True),
            step_mul=inside.step_mul,
            random_seed=inside.world.seed,
        )
    done = set()
    with outside:
        told = outside.reset()[0].observation.observation
        for step in range(steps):
            where = f"{scenario}, seed {seed}, step {step}"
            listed = {unit.tag: unit for unit in told.raw_data.units}
            rows = np.flatnonzero(seen["mask"])
            units = [listed.pop(inside.world.tag(inside._slot_of_row(int(row)))) for row in rows]
            assert not listed, where
            expected = {
                ob.C_UNIT_TYPE: [unit.unit_type for unit in units],
                ob.C_X: [unit.pos.x for unit in units],
                ob.C_Y: [unit.pos.y for unit in units],
                ob.C_HEALTH: [unit.health for unit in units],
                ob.C_BUILD_PROGRESS: [unit.build_progress for unit in units],
                ob.C_ORDER_LENGTH: [len(unit.orders) for unit in units],
                ob.C_BUFF: [unit.buff_ids[0] if unit.buff_ids else 0 for unit in units],
            }
            for column, values in expected.items():
                np.testing.assert_allclose(
                    seen["entities"][rows, column], values, rtol=1e-6, err_msg=f"{where}, column {column}"
                )
            common = told.player_common
            bank = (common.minerals, common.vespene, common.food_used, common.food_cap)
            np.testing.assert_array_equal(seen["scalars"][4:], bank, err_msg=where)
            assert seen["scalars"][1] == told.score.score, where
            action = random_economy(inside, seen, rng)
            if step == 3:  # so that there is something to build with
                inside.world.economy.bank[0, 1, B_MINERALS] += GIFT
                gift = debug_pb2.DebugCommand(game_state=debug_pb2.minerals)
                outside._controllers[0].debug([gift])
            command = as_raw_command(inside, action)
            seen, *_, info = inside.step(action)
            told = outside.step([command])[0].observation.observation
            if not info["illegal_actions"]:
                done.add(FUNCTIONS[action["function"]].name)
    return done


@pytest.mark.parametrize(
    ("scenario", "transport"), [("BuildMarines", "memory"), ("CollectMineralsAndGas", "websocket")]
)
def test_the_economy(scenario, transport):
    done = check_economy_parity(scenario, transport)
    assert len(done) >= 6 and any(name.startswith("Build") for name in done), done


@pytest.mark.slow
@pytest.mark.parametrize("transport", ("memory", "websocket"))
@pytest.mark.parametrize("scenario", scenario_names())
def test_every_scenario(scenario, transport):
    check_parity(scenario, transport=transport)
