"""Known outcomes of micro: scripted policies against each other in whole battles, with enough of them to tell."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from envs.scenarios.choices import OPPONENTS
from envs.vector_env import SC2VectorEnv

BATTLES = 256
SEED = 5


def play(
    scenario: str, policy: str, opponent: str | None = None, players: int = 1, action_view: str = "unit"
) -> np.ndarray:
    """Share of `BATTLES` first episodes that each player won [players]; `opponent` None is the scenario's own."""
    opponent_in_world = None if players == 2 else opponent
    env = SC2VectorEnv(
        scenario, BATTLES, players=players, opponent=opponent_in_world, action_view=action_view, copy=False
    )
    env.reset(seed=SEED)
    won = np.zeros((BATTLES, players), np.bool_)
    over = np.zeros(BATTLES, np.bool_)
    while not over.all():
        action = env.scripted_action(policy)
        if players == 2:
            action = env.scripted_action(str(opponent), 1)
        _, _, terminated, truncated, info = env.step(action)
        ended = (terminated | truncated) & ~over
        if ended.any():
            won[ended] = info["final_info"]["battle_won"].reshape(BATTLES, players)[ended]
        over |= ended
    return won.mean(axis=0)


def error_of(*shares: float) -> float:
    """Standard error of the difference of independent shares of `BATTLES`."""
    return math.sqrt(sum(max(share * (1.0 - share), 1.0 / BATTLES) for share in shares) / BATTLES)


def test_kiting_marines_beat_the_zealot_that_attack_moving_ones_lose_to() -> None:
    assert play("2m_vs_1z", "attack-move")[0] == 0.0
    assert play("2m_vs_1z", "focus-fire")[0] == 0.0
    assert play("2m_vs_1z", "kite")[0] > 0.9


def test_focus_fire_beats_attack_move_on_3m() -> None:
    spread, focused = play("3m", "attack-move")[0], play("3m", "focus-fire")[0]
    assert focused > 0.9
    assert focused - spread > 4 * error_of(spread, focused)


@pytest.mark.parametrize("view", ["smac", "function"])
def test_policies_play_in_the_other_action_views_too(view: str) -> None:
    spread, focused = (play("3m", policy, action_view=view)[0] for policy in ("attack-move", "focus-fire"))
    assert focused - spread > 4 * error_of(spread, focused)
    assert play("3s_vs_3z", "kite", action_view=view)[0] > 0.9


def test_attack_move_loses_5m_vs_6m_and_focus_fire_does_better() -> None:
    spread, focused = play("5m_vs_6m", "attack-move")[0], play("5m_vs_6m", "focus-fire")[0]
    assert spread < 0.15
    assert focused - spread > 3 * error_of(spread, focused)


@pytest.mark.parametrize("policy", ["attack-move", "focus-fire"])
@pytest.mark.parametrize("scenario", ["3m", "8m"])
def test_two_players_with_the_same_policy_win_equally_often(scenario: str, policy: str) -> None:
    """Four standard errors, of the difference of two exclusive outcomes; draws are neither's."""
    first, second = play(scenario, policy, policy, players=2)
    assert first + second > 0.3
    error = math.sqrt((first + second - (first - second) ** 2) / BATTLES)
    assert abs(first - second) < 4 * error, (first, second)


@pytest.mark.parametrize("scenario", ["2m_vs_1z", "3s_vs_5z"])
def test_only_kiting_wins_against_zealots_that_outnumber_or_outfight(scenario: str) -> None:
    assert [play(scenario, policy)[0] > 0.5 for policy in ("attack-move", "focus-fire", "kite")] == [False, False, True]


@pytest.mark.parametrize("scenario", ["3m", "2s3z", "8m", "3s5z", "MMM"])
def test_the_named_opponents_rise_in_strength(scenario: str) -> None:
    """Against a player that focuses its fire each opponent wins, within error, at least as often as the one before."""
    won = [1.0 - play(scenario, "focus-fire", name)[0] for name in OPPONENTS]
    for weaker, stronger in itertools.pairwise(won):
        assert stronger > weaker - 3 * error_of(weaker, stronger), won
    assert won[OPPONENTS.index("focus-fire")] > won[OPPONENTS.index("attack-move")] + 0.1, won
