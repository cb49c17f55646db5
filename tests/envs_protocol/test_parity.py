"""The parity law: the same scenario, seed and actions give the same observations in process and through PySC2."""

from __future__ import annotations

import numpy as np
import pytest

from envs.pysc2_env import PySC2VectorEnv
from envs.scenarios import scenario_names
from envs.vector_env import SC2VectorEnv

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


@pytest.mark.slow
@pytest.mark.parametrize("transport", ("memory", "websocket"))
@pytest.mark.parametrize("scenario", scenario_names())
def test_every_scenario(scenario, transport):
    check_parity(scenario, transport=transport)
