"""The batched environment: reproducible, exact masks, right ends of episodes, refusal of bad actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.actions import ATTACK, MOVE_NORTH, NUM_ORDERS, ORDER_TARGET_CLASS, UNIT_ORDERS
from envs.vector_env import SC2VectorEnv
from envs.views.observation import ENTITY_FEATURES, NUM_FEATURES, SCALARS

X, Y = ENTITY_FEATURES.index("x"), ENTITY_FEATURES.index("y")


def random_legal(rng, observation):
    """Uniform legal orders and targets from the masks of one or many worlds, with any leading axes."""
    order_mask, target_mask = observation["order_mask"], observation["target_mask"]
    order = (rng.random(order_mask.shape) * order_mask).argmax(-1)
    classes = np.maximum(ORDER_TARGET_CLASS[order], 0)
    chosen = np.take_along_axis(target_mask, classes[..., None, None], -2)[..., 0, :]
    return {"order": order, "target": (rng.random(chosen.shape) * chosen).argmax(-1)}


def play(env, steps, seed=0, worlds=None):
    """Trajectory of random legal actions; each world's actions depend on its own number alone."""
    observation, _ = env.reset(seed=seed)
    worlds = range(env.num_envs) if worlds is None else worlds
    generators = [np.random.default_rng(1000 + world) for world in worlds]
    record = []
    for _ in range(steps):
        parts = [
            random_legal(rng, {name: array[b] for name, array in observation.items()})
            for b, rng in enumerate(generators)
        ]
        action = {name: np.stack([part[name] for part in parts]) for name in ("order", "target")}
        observation, reward, terminated, truncated, info = env.step(action)
        assert not info["illegal_actions"].any()
        record.append({**observation, "reward": reward, "terminated": terminated, "truncated": truncated})
    return record


@pytest.fixture(scope="module")
def trajectory():
    return play(SC2VectorEnv("2s3z", 6), 70)


def test_spaces_and_names_agree_with_the_arrays():
    env = SC2VectorEnv("2s3z", 6)
    observation, info = env.reset(seed=1)
    assert info == {}
    assert env.observation_space.contains(observation)
    assert observation["entities"].shape == (6, 10, NUM_FEATURES) and observation["entities"].dtype == np.float32
    assert observation["scalars"].shape == (6, len(SCALARS))
    assert observation["order_mask"].shape == (6, 5, NUM_ORDERS) == (6, 5, len(UNIT_ORDERS))
    assert observation["target_mask"].shape == (6, 5, 3, 10)
    assert env.single_action_space["order"].nvec.tolist() == [NUM_ORDERS] * 5
    assert env.single_action_space["target"].nvec.tolist() == [10] * 5


def test_two_threads_and_no_copy_give_the_same_bits(trajectory):
    for options in ({"num_threads": 2}, {"copy": False}):
        for one, other in zip(trajectory, play_copied(SC2VectorEnv("2s3z", 6, **options)), strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def play_copied(env):
    observation, _ = env.reset(seed=0)
    generators = [np.random.default_rng(1000 + world) for world in range(env.num_envs)]
    for _ in range(70):
        parts = [
            random_legal(rng, {name: array[b] for name, array in observation.items()})
            for b, rng in enumerate(generators)
        ]
        action = {name: np.stack([part[name] for part in parts]) for name in ("order", "target")}
        observation, reward, terminated, truncated, _ = env.step(action)
        copied = {name: array.copy() for name, array in observation.items()}
        yield {**copied, "reward": reward, "terminated": terminated, "truncated": truncated}


def test_a_world_alone_plays_as_in_the_batch(trajectory):
    for world in (0, 4):
        alone = play(SC2VectorEnv("2s3z", 1), 70, seed=world, worlds=[world])
        for one, other in zip(trajectory, alone, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name][world], other[name][0], err_msg=name)


def test_another_seed_gives_another_game(trajectory):
    other = play(SC2VectorEnv("2s3z", 6), 3, seed=77)
    assert not np.array_equal(trajectory[0]["entities"], other[0]["entities"])


def test_resets_without_a_seed_go_on_and_differ():
    env = SC2VectorEnv("3m", 2, seed=5)
    first, _ = env.reset()
    second, _ = env.reset()
    again, _ = env.reset(seed=5)
    assert not np.array_equal(first["entities"], second["entities"])
    np.testing.assert_array_equal(first["entities"], again["entities"])


def test_reset_mask_resets_the_named_worlds_only():
    env = SC2VectorEnv("3m", 3)
    env.reset(seed=0)
    observation, *_ = env.step(env.scripted_action("attack-move"))
    after, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(after["entities"][[0, 2]], observation["entities"][[0, 2]])
    assert after["scalars"][1, 0] == 0 and observation["scalars"][1, 0] > 0


def test_masked_actions_do_nothing_and_are_counted():
    env = SC2VectorEnv("3m", 2)
    env.reset(seed=0)
    before = env.state.i.copy()
    legal = env._output_views[env._turn]
    order = np.full((2, 3), UNIT_ORDERS.index("burrow"))
    assert not legal["order_mask"][..., UNIT_ORDERS.index("burrow")].any()
    *_, info = env.step({"order": order, "target": np.zeros((2, 3), int)})
    assert info["illegal_actions"].tolist() == [3, 3]
    from envs.engine.state.layout import I_ORDER

    np.testing.assert_array_equal(env.state.i[:, I_ORDER, :3], before[:, I_ORDER, :3])


@pytest.mark.parametrize(("order", "target"), [(ATTACK, 0), (ATTACK, 10**6), (-1, 0), (999, 0), (ATTACK, -5)])
def test_any_action_outside_the_masks_is_survived_and_refused_on_request(order, target):
    action = {"order": np.full((2, 3), order), "target": np.full((2, 3), target)}
    env = SC2VectorEnv("3m", 2)
    env.reset(seed=0)
    *_, info = env.step(action)
    assert info["illegal_actions"].tolist() == [3, 3]
    strict = SC2VectorEnv("3m", 2, illegal_actions="error")
    strict.reset(seed=0)
    state = strict.state.f.copy()
    with pytest.raises(ValueError, match="illegal action in world 0, player 0, unit slot 0"):
        strict.step(action)
    np.testing.assert_array_equal(strict.state.f, state)


def test_the_masks_are_exact():
    """Every (order, target) pair: accepted exactly if the masks allow it."""
    env = SC2VectorEnv("MMM", 1, illegal_actions="error")
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(22):
        observation, *_ = env.step(random_legal(rng, observation))
    units, rows = env.num_units, env.num_entities
    checked = 0
    for u in range(units):
        for order in range(NUM_ORDERS):
            target_class = ORDER_TARGET_CLASS[order]
            for row in range(rows) if target_class >= 0 else [0]:
                allowed = observation["order_mask"][0, u, order]
                if target_class >= 0:
                    allowed = allowed and observation["target_mask"][0, u, target_class, row]
                env.action.order[:] = 0
                env.action.order[0, 0, u], env.action.target[0, 0, u] = order, row
                try:
                    env._refuse_illegal()
                    accepted = True
                except ValueError:
                    accepted = False
                assert accepted == bool(allowed), (u, UNIT_ORDERS[order], row)
                checked += 1
    assert checked > 400


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"order": np.full((2, 3), np.nan), "target": np.zeros((2, 3))}, "order holds NaN"),
        ({"order": np.zeros((2, 3)), "target": np.full((2, 3), np.inf)}, "target holds NaN or infinite"),
        ({"order": np.zeros((2, 3)) + 0.5, "target": np.zeros((2, 3))}, "order holds fractions"),
        ({"order": np.zeros((2, 4), int), "target": np.zeros((2, 3), int)}, r"order has shape \(2, 4\); expected"),
        ({"order": np.zeros((2, 3), int)}, "dict with keys"),
        (np.zeros((2, 3), int), "dict with keys"),
        ({"order": np.full((2, 3), "a"), "target": np.zeros((2, 3), int)}, "order has type"),
    ],
)
def test_malformed_actions_are_refused(action, message):
    env = SC2VectorEnv("3m", 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_an_episode_ends_and_starts_anew_in_the_same_step():
    env = SC2VectorEnv("3m", 8)
    observation, _ = env.reset(seed=0)
    lengths = np.zeros(8, int)
    ended = 0
    for _ in range(130):
        previous = observation
        observation, _, terminated, truncated, info = env.step(env.scripted_action("attack-move"))
        lengths += 1
        done = terminated | truncated
        assert not (terminated & truncated).any()
        if not done.any():
            assert "final_info" not in info
            continue
        np.testing.assert_array_equal(info["_final_obs"], done)
        for b in np.flatnonzero(done):
            final = info["final_obs"][b]
            assert env.single_observation_space.contains(final)
            assert observation["scalars"][b, 0] == 0.0
            np.testing.assert_allclose(final["scalars"][0], lengths[b] / env.scenario.step_limit, rtol=1e-6)
            assert info["final_info"]["episode_length"][b] == lengths[b]
            if terminated[b]:
                own, enemies = final["mask"][:3].sum(), final["mask"][3:].sum()
                assert own == 0 or enemies == 0
                assert info["final_info"]["battle_won"][b] == (own > 0)
            else:
                assert lengths[b] == env.scenario.step_limit and not info["final_info"]["battle_won"][b]
            np.testing.assert_array_equal(env.final_observation["entities"][b], final["entities"])
        assert previous is not observation
        ended += int(done.sum())
        lengths[done] = 0
    assert ended >= 8


def test_views_hold_what_copies_hold_until_two_steps_later():
    copies, views = SC2VectorEnv("3m", 8), SC2VectorEnv("3m", 8, copy=False)
    expected, _ = copies.reset(seed=2)
    views.reset(seed=2)
    ended = 0
    before: tuple[Any, Any] = (None, None)
    for _ in range(90):
        expected, *_, expected_info = copies.step(copies.scripted_action("attack-move"))
        seen, *_, info = views.step(views.scripted_action("attack-move"))
        for mine, other in ((seen, expected), before):
            for name in other or ():
                np.testing.assert_array_equal(mine[name], other[name])
        before = seen, expected
        for b in np.flatnonzero(info.get("_final_obs", [])):
            final = info["final_obs"][b]
            assert list(final) == list(expected_info["final_obs"][b])
            for name, array in expected_info["final_obs"][b].items():
                np.testing.assert_array_equal(final.pop(name), array)
            ended += 1
    assert ended >= 16


def test_a_won_battle_pays_twenty_in_all():
    env = SC2VectorEnv("3s_vs_3z", 2)
    env.reset(seed=0)
    total, won = np.zeros(2), 0
    for _ in range(120):
        _, reward, terminated, _, info = env.step(env.scripted_action("kite"))
        total += reward
        for b in np.flatnonzero(terminated):
            if info["final_info"]["battle_won"][b]:
                # SMAC counts regained shields and health as damage too, so a win can pay a little more than 20.
                assert 19.99 <= total[b] < 40
                won += 1
            total[b] = 0.0
    assert won > 0


def test_the_step_limit_truncates():
    env = SC2VectorEnv("3m", 2)
    env.reset(seed=0)
    stay = {"order": np.full((2, 3), MOVE_NORTH + 6), "target": np.zeros((2, 3), int)}
    env.set_opponents(["idle", "idle"])
    env.reset(seed=0)
    for step in range(60):
        _, _, terminated, truncated, _ = env.step(stay)
        assert not terminated.any()
        assert truncated.all() == (step == 59)


def test_opponents_change_at_the_next_reset_of_each_world():
    env = SC2VectorEnv("3m", 2, opponent="attack-wave")
    env.reset(seed=0)
    env.set_opponents(["idle", "attack-wave"])
    still = {"order": np.ones((2, 3), int), "target": np.zeros((2, 3), int)}
    x = env.state.f[:, 0, 3:].copy()
    env.step(still)
    assert (np.abs(env.state.f[:, 0, 3:] - x) > 0.5).all()
    env.reset(seed=0)
    x = env.state.f[:, 0, 3:].copy()
    env.step(still)
    moved = np.abs(env.state.f[:, 0, 3:] - x) > 0.5
    assert not moved[0].any() and moved[1].all()
    with pytest.raises(ValueError, match="unknown opponent 'chaos'"):
        env.set_opponents(["chaos", "idle"])


def test_two_players_see_the_battle_from_their_own_side():
    env = SC2VectorEnv("5m_vs_6m", 3, players=2)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["entities"].shape == (3, 2, 12, NUM_FEATURES)
    alliance = observation["entities"][..., ENTITY_FEATURES.index("alliance")]
    assert (alliance[:, 0, :5] == 1).all() and (alliance[:, 0, 5:] == 0).all()
    assert (alliance[:, 1, :6] == 1).all() and (alliance[:, 1, 6:] == 0).all()
    rng = np.random.default_rng(0)
    for _ in range(80):
        env.scripted_action("attack-move", player=0)
        action = env.scripted_action("attack-move", player=1)
        observation, reward, terminated, _, info = env.step(action)
        assert reward.shape == (3, 2)
        assert not info["illegal_actions"].any()
        if terminated.any():
            assert info["final_info"]["battle_won"].shape == (3, 2)
            assert (info["final_info"]["battle_won"].sum(1) <= 1).all()
            break
    else:
        pytest.fail("two attack-moving armies never met")
    observation, *_ = env.step(random_legal(rng, observation))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0"),
        ({"players": 3}, "players is 3"),
        ({"action_view": "mouse"}, "action_view is 'mouse'"),
        ({"observation_view": "pixels"}, "observation_view"),
        ({"opponent": "chaos"}, "unknown opponent 'chaos'"),
        ({"scenario": "MoveToBeacon", "players": 2}, "MoveToBeacon is a mini-game"),
        ({"num_threads": 1.5}, "num_threads is 1.5"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SC2VectorEnv(**{"scenario": "3m", "num_envs": 2, **options})


def test_step_before_reset_says_so():
    with pytest.raises(RuntimeError, match="call reset first"):
        SC2VectorEnv("3m", 1).step({"order": np.zeros((1, 3), int), "target": np.zeros((1, 3), int)})


def test_512_entities_fight():
    from benchmarks.simulator import battle

    env = SC2VectorEnv(battle(512), 1)
    observation, _ = env.reset(seed=0)
    assert observation["entities"].shape == (1, 512, NUM_FEATURES)
    health = []
    for _ in range(30):
        observation, *_ = env.step(env.scripted_action("attack-move"))
        health.append(env.state.f[0, 6].sum())
    assert health[-1] < health[0]
    assert np.isfinite(env.state.f).all()
