"""Mini-games, scripted policies, fog and pictures: what a player gets to see and do in the worlds."""

from __future__ import annotations

import numpy as np
import pytest

from envs.engine.state.layout import F_X, F_Y, I_ALIVE, I_OWNER, I_VISIBLE
from envs.render import pictures as render
from envs.vector_env import SC2VectorEnv
from envs.views import frames as columns
from envs.views.observation import ENTITY_FEATURES

ALLIANCE = ENTITY_FEATURES.index("alliance")
X, Y = ENTITY_FEATURES.index("x"), ENTITY_FEATURES.index("y")
HIDDEN = [ENTITY_FEATURES.index(name) for name in ("weapon_cooldown", "order_length", "order_id_0")]


def scores(name, policy, worlds=4, steps=240):
    env = SC2VectorEnv(name, worlds)
    env.reset(seed=0)
    total = np.zeros(worlds)
    for _ in range(steps):
        _, reward, _, _, info = env.step(env.scripted_action(policy))
        assert not info["illegal_actions"].any()
        total += reward
    return total


@pytest.mark.parametrize(("name", "least"), [("MoveToBeacon", 12), ("CollectMineralShards", 40)])
def test_walking_to_the_nearest_goal_scores(name, least):
    assert scores(name, "attack-move").min() >= least
    assert scores(name, "idle").max() <= 1


def test_beacons_keep_their_distances():
    env = SC2VectorEnv("MoveToBeacon", 16)
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        marine, beacon = observation["entities"][:, 0, [X, Y]], observation["entities"][:, 1, [X, Y]]
        assert (beacon >= [23.49, 21.49]).all() and (beacon <= [42.51, 34.51]).all()
        assert (np.hypot(*(beacon - [33.0, 28.0]).T) >= 3.99).all()
        assert (np.hypot(*(beacon - marine).T) > 1.2).all()
        observation, *_ = env.step(env.scripted_action("attack-move"))


@pytest.mark.parametrize("name", ["DefeatRoaches", "DefeatZerglingsAndBanelings", "FindAndDefeatZerglings"])
def test_fighting_mini_games_score_by_their_rules(name):
    env = SC2VectorEnv(name, 4)
    env.reset(seed=0)
    values = set()
    for _ in range(120):
        _, reward, _, _, _ = env.step(env.scripted_action("focus-fire"))
        values |= set(reward.tolist())
    assert max(values) > 0
    assert all(value == int(value) for value in values)


@pytest.mark.parametrize("name", ["DefeatRoaches", "DefeatZerglingsAndBanelings"])
def test_waves_start_as_the_map_script_places_them_and_wait(name):
    env = SC2VectorEnv(name, 64)
    env.reset(seed=0)
    alive, owner = env.state.i[:, I_ALIVE] == 1, env.state.i[:, I_OWNER].copy()
    x, y = env.state.f[:, F_X].copy(), env.state.f[:, F_Y].copy()
    sides = set()
    for b in range(64):
        own, enemy = alive[b] & (owner[b] == 1), alive[b] & (owner[b] == 2)
        np.testing.assert_allclose(x[b, own], x[b, own][0])
        np.testing.assert_allclose(np.sort(y[b, own]) - np.median(y[b, own]), np.arange(-4, 5), atol=1e-5)
        left = x[b, own][0] < 33
        sides.add(bool(left))
        assert (37 < x[b, enemy].mean() < 43) if left else (23 < x[b, enemy].mean() < 29)
        if name == "DefeatRoaches":
            np.testing.assert_allclose(np.sort(y[b, enemy]) - y[b, enemy].mean(), [-1.5, -0.5, 0.5, 1.5], atol=1e-5)
        else:
            assert np.hypot(x[b, enemy] - x[b, enemy].mean(), y[b, enemy] - y[b, enemy].mean()).max() < 3.0
    assert sides == {False, True}
    for _ in range(10):
        env.step(env.scripted_action("idle"))
    np.testing.assert_allclose(np.where(alive, env.state.f[:, F_X] - x, 0.0), 0.0, atol=1.0)


def test_what_a_player_does_not_see_is_zero():
    env = SC2VectorEnv("FindAndDefeatZerglings", 4)
    observation, _ = env.reset(seed=0)
    hidden_seen = 0
    for _ in range(40):
        visible = (env.state.i[:, I_VISIBLE] >> 1) & 1 == 1
        alive = env.state.i[:, I_ALIVE] == 1
        entities, mask = observation["entities"], observation["mask"]
        np.testing.assert_array_equal(mask, visible & alive)
        assert not entities[~mask].any()
        assert not (observation["target_mask"] & ~mask[:, None, None]).any()
        enemies = entities[..., ALLIANCE] == 4
        assert not entities[enemies][:, HIDDEN].any()
        hidden_seen += int((alive & ~visible).sum())
        observation, *_ = env.step(env.scripted_action("attack-move"))
    assert hidden_seen > 0


def test_no_hidden_enemy_changes_what_a_player_sees():
    """Moving an unseen enemy about leaves the observation as it was, bit for bit."""
    env = SC2VectorEnv("FindAndDefeatZerglings", 2)
    env.reset(seed=0)
    before = {name: array.copy() for name, array in env._output_views[env._turn].items()}
    hidden = (env.state.i[0, I_ALIVE] == 1) & ((env.state.i[0, I_VISIBLE] >> 1) & 1 == 0)
    assert hidden.sum() > 10
    env.state.f[0, F_X, hidden] += 0.25
    env.state.f[0, F_Y, hidden] -= 0.25
    for observer in env._observers:
        observer(env._context, env._output_refs[env._turn], False, 0, 2)
    after = env._output_views[env._turn]
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)


def test_smacs_arrays_hold_smacs_values():
    env = SC2VectorEnv("2s3z", 2, action_view="smac", observation_view="both")
    observation, _ = env.reset(seed=0)
    for _ in range(14):
        observation, *_ = env.step(env.scripted_action("attack-move"))
    agents, entities = observation["agent_obs"], observation["entities"]
    mask = observation["action_mask"]
    checked = 0
    for b in range(2):
        for u in range(5):
            if entities[b, u, ALLIANCE] == 0:
                assert mask[b, u].tolist() == [True] + [False] * 10 and not agents[b, u].any()
                continue
            assert not mask[b, u, 0] and mask[b, u, 1]
            np.testing.assert_array_equal(agents[b, u, :4], mask[b, u, 2:6])
            for j in range(5):
                entry = agents[b, u, 4 + 8 * j : 12 + 8 * j]
                offset = entities[b, 5 + j, [X, Y]] - entities[b, u, [X, Y]]
                if entities[b, 5 + j, ALLIANCE] == 4 and np.hypot(*offset) < 9:
                    np.testing.assert_allclose(entry[2:4], offset / 9, rtol=1e-5, atol=1e-6)
                    assert entry[0] == mask[b, u, 6 + j] == (np.hypot(*offset) <= 6)
                    assert entry[6:].sum() == 1
                    checked += 1
                else:
                    assert not entry.any()
    assert checked > 0


def test_a_picture_shows_both_sides_and_has_even_sides():
    env = SC2VectorEnv("3m", 1, render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(env.scripted_action("attack-move"))
    (frames,) = env.render()
    assert len(frames) == 9 and frames[0].dtype == np.uint8
    assert frames[0].shape[0] % 2 == 0 and frames[0].shape[1] % 2 == 0
    assert (frames[0] != frames[-1]).any()
    blue = (np.abs(frames[0].astype(int) - [64, 156, 255]) < 12).all(-1)
    assert blue[: frames[0].shape[1]].sum() > 200


@pytest.mark.parametrize("scenario", ["3m", "corridor", "2c_vs_64zg", "FindAndDefeatZerglings"])
def test_the_picture_of_a_battle_holds_all_of_it(scenario):
    env = SC2VectorEnv(scenario, 1, render_mode="rgb_array_list", _autoreset=False)
    env.reset(seed=0)
    for _ in range(12):
        env.step(env.scripted_action("kite"))
    frames = env.recorded_frames()
    x0, y0, x1, y1 = render.battlefield(env.scenario, frames)
    for frame in frames:
        living = frame.units[frame.units[:, columns.T_TAG] > 0]
        assert (living[:, columns.T_X] > x0).all() and (living[:, columns.T_X] < x1).all()
        assert (living[:, columns.T_Y] > y0).all() and (living[:, columns.T_Y] < y1).all()
    left, low, right, high = env.scenario.playable
    assert left <= x0 and x1 <= right and low <= y0 and y1 <= high
    if x1 - x0 < right - left and y1 - y0 < high - low:
        assert (x1 - x0) / (y1 - y0) == pytest.approx(render.ASPECT)
    pictures = render.draw_battle(env.scenario, env.rules, frames[:1])
    assert pictures[0].shape[0] % 2 == 0 and pictures[0].shape[1] % 2 == 0
    assert max(pictures[0].shape[0] - render.STRIP, pictures[0].shape[1]) == render.PICTURE


def test_films_are_written(tmp_path):
    import av
    from PIL import Image

    from envs.render.video import write_gif, write_mp4

    frames = [np.zeros((64, 96, 3), np.uint8) for _ in range(5)]
    for n, frame in enumerate(frames):
        frame[20:40, 10 * n : 10 * n + 20] = 255
    with Image.open(write_gif(tmp_path / "film.gif", frames)) as film:
        assert film.n_frames == 5 and film.size == (96, 64)
    with av.open(str(write_mp4(tmp_path / "film.mp4", frames))) as film:
        assert len(list(film.decode(video=0))) == 5
    with pytest.raises(ValueError, match="no frames"):
        write_gif(tmp_path / "none.gif", [])
    with pytest.raises(ValueError, match="even"):
        write_mp4(tmp_path / "odd.mp4", [np.zeros((63, 96, 3), np.uint8)])


def test_a_gif_keeps_the_colours_of_small_things(tmp_path):
    from PIL import Image

    from envs.render.video import write_gif

    frame = np.random.default_rng(0).integers(20, 70, (300, 400, 3)).astype(np.uint8)
    colours = [(64, 156, 255), (255, 92, 80), (255, 224, 130), (92, 214, 110)]
    for n, colour in enumerate(colours):
        frame[10 * n : 10 * n + 6, :6] = colour
    with Image.open(write_gif(tmp_path / "film.gif", [frame])) as film:
        shown = np.asarray(film.convert("RGB")).astype(int)
    for n, colour in enumerate(colours):
        assert np.abs(shown[10 * n + 3, 3] - colour).max() <= 8
