"""Evaluation: the interval, the number of episodes per world, the same result however it is shared out."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agents.acting.episodes import Episodes
from agents.evaluate import main
from agents.evaluation.playing import FIRST_SEED, build_network, play
from agents.evaluation.scoring import _jobs, evaluate_run
from agents.evaluation.statistics import summarise, wilson_interval
from agents.league.league import League
from agents.presets import EvaluationConfig, SelfPlayConfig
from agents.runs.checkpoints import LEAGUE_FILE, CheckpointInfo, RunFolder
from tests.agents.ray_runs import tiny_config


@pytest.mark.parametrize(
    ("wins", "episodes", "low", "high"),
    # Roots of (1 + z^2/n) p^2 - (2 w/n + z^2/n) p + (w/n)^2, found numerically.
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 20, 0.0, 0.1611252),
        (20, 20, 0.8388748, 1.0),
        (380, 400, 0.9240364, 0.9674026),
    ],
)
def test_wilson_interval_values(wins, episodes, low, high):
    np.testing.assert_allclose(wilson_interval(wins, episodes), (low, high), atol=1e-6)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_solves_its_equation(case):
    """The ends are the p at which the observed share is exactly z standard deviations of p away."""
    wins, episodes = case
    share = wins / episodes
    low, high = wilson_interval(wins, episodes)
    assert 0.0 <= low <= share <= high <= 1.0
    for p in (low, high):
        if 0.0 < p < 1.0:
            assert math.isclose(abs(share - p), 1.959963984540054 * math.sqrt(p * (1 - p) / episodes), abs_tol=1e-9)


def tiny_network():
    import torch

    torch.manual_seed(0)
    config = tiny_config()
    from agents.acting.worlds import make_worlds
    from agents.models.network import AgentNetwork

    env = make_worlds(config.world, 1, 0)
    return AgentNetwork(config.network, env.single_observation_space, env.single_action_space).eval()


def test_every_world_plays_the_same_number_of_episodes():
    network, config = tiny_network(), tiny_config()
    episodes = play(network, config.world, num_envs=6, rounds=5, seed=FIRST_SEED)
    assert np.bincount(episodes.slots).tolist() == [5] * 6


def test_evaluation_repeats_itself_and_leaves_the_callers_random_numbers_alone():
    import torch

    network, config = tiny_network(), tiny_config()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = play(network, config.world, num_envs=3, rounds=2, seed=FIRST_SEED)
    assert torch.equal(torch.rand(3), expected)
    assert play(network, config.world, num_envs=3, rounds=2, seed=FIRST_SEED) == first


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_jobs_cover_all_worlds_once(workers):
    evaluation = EvaluationConfig(episodes=100, num_envs=10)
    jobs = _jobs(evaluation, workers)
    worlds = [job["seed"] - FIRST_SEED + i for job in jobs for i in range(job["num_envs"])]
    assert sorted(worlds) == list(range(10))
    assert all(job["rounds"] == 10 for job in jobs)


def test_summary():
    episodes = Episodes(
        returns=[1.0, 3.0], lengths=[10, 20], scores=[5.0, 7.0], won=[True, False], slots=[0, 1], opponents=["", ""]
    )
    result = summarise("3m", "idle", episodes)
    assert (result.wins, result.episodes, result.win_rate) == (1, 2, 0.5)
    assert (result.return_mean, result.score_mean, result.length_mean) == (2.0, 6.0, 15.0)
    assert math.isclose(result.return_standard_error, 1.0)


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / "run", tiny_config())
    weights = {name: tensor.numpy() for name, tensor in tiny_network().state_dict().items()}
    run.save(
        CheckpointInfo(updates=5, env_steps=640, seconds=12.5, cpu_seconds=12.5),
        weights,
        tiny_network().tables(),
        lambda folder: folder.mkdir(),
    )
    return run


def test_report_of_a_run(run):
    """The JSON says what was played; the page has the numbers and loads nothing from outside."""
    lines = [
        {"updates": i, "env_steps": 64 * i, "seconds": i, "win_rate": i / 10, "return": 1.0, "steps_per_second": 5.0}
        for i in range(1, 6)
    ]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = EvaluationConfig(episodes=8, num_envs=4, videos=0)
    folder = evaluate_run(run, run.latest(), evaluation, Console(quiet=True), workers=1)
    content = json.loads((folder / "evaluation.json").read_text())
    (result,) = content["results"]
    assert result["episodes"] == 8 and content["training"]["env_steps"] == 640
    low, high = result["win_rate_interval"]
    assert low <= result["win_rate"] <= high
    page = (folder / "report.html").read_text()
    assert f"{result['win_rate']:.1%}" in page and "Win rate in training" in page and page.count("<svg") >= 4
    for outside in ('src="http', "src='http", 'href="http', "@import", "url(http"):
        assert outside not in page
    assert "League" not in page
    league = League(SelfPlayConfig(enabled=True, scripted=("idle", "kite")))
    for member, outcome in (("idle", 1.0), ("kite", 0.0), ("idle", 1.0), ("kite", 0.5)):
        league.record(member, outcome)
    league.add_snapshot({})
    (run.latest() / LEAGUE_FILE).write_text(json.dumps(league.standings()))
    again = evaluate_run(run, run.latest(), evaluation, Console(quiet=True), workers=1)
    page = (again / "report.html").read_text()
    for member in ("idle", "kite"):  # in the learner's row and in that of its snapshot
        assert page.count(f'title="2 games">{league.win_rate(member):.0%}</td>') == 2
        assert f"{member} {league.elo[member]:.0f}" in page
    assert again != folder and json.loads((again / "evaluation.json").read_text())["results"] == content["results"]


def test_network_from_checkpoint_acts_the_same(run):
    from agents.evaluation.playing import play

    network = build_network(run.config.network, run.config.world, run.latest())
    first = play(network, run.config.world, num_envs=2, rounds=2, seed=1)
    assert first == play(tiny_network(), run.config.world, num_envs=2, rounds=2, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nothing"], "is not a run folder"),
        (["{run}", "--scenarios", "4m"], "4m"),
        (["{run}", "--opponents", "cheater"], "unknown opponent 'cheater'"),
        (["{run}", "--episodes", "0"], "at least 1"),
    ],
)
def test_bad_input(run, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([argument.format(run=run.path, tmp=tmp_path) for argument in arguments])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert message in " ".join((said.out + said.err).replace("│", " ").split())
