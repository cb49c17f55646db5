"""The league: who is drawn, what is counted, and that opponents change at the end of episodes only."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from rich.console import Console

from agents.league.league import MIRROR, League
from agents.league.self_play import OpponentWorlds
from agents.presets import SelfPlayConfig
from agents.runs.checkpoints import RunFolder, read_standings
from agents.runs.progress import read_metrics
from agents.train import train
from tests.agents.ray_runs import NETWORK, build, tiny_config
from tests.agents.tiny_worlds import ATTACK, NO_OP, TinyWorlds


def make_league(**settings: Any) -> League:
    return League(SelfPlayConfig(enabled=True, scripted=("idle", "kite"), **settings))


@pytest.mark.parametrize(
    ("weighting", "expected"),
    # Win rates 0.5 (no game yet) and, after 98 wins in a row, (98 decayed games + 1) / (games + 2).
    [("hard", lambda p: (1 - p) ** 2), ("even", lambda p: p * (1 - p)), ("uniform", lambda p: 1.0)],
)
def test_prioritised_opponents(weighting, expected):
    league = make_league(weighting=weighting, mirror_fraction=0.2)
    for _ in range(98):
        league.record("idle", 1.0)
    games = sum(0.99**k for k in range(98))
    beaten = (games + 1) / (games + 2)
    weights = np.array([expected(beaten), expected(0.5)])
    probabilities = league.probabilities()
    assert probabilities[MIRROR] == 0.2
    np.testing.assert_allclose([probabilities["idle"], probabilities["kite"]], 0.8 * weights / weights.sum(), rtol=1e-6)
    random = np.random.default_rng(0)
    drawn = [league.draw(random) for _ in range(4000)]
    for name, probability in probabilities.items():
        assert abs(drawn.count(name) / 4000 - probability) < 4 * np.sqrt(probability * (1 - probability) / 4000) + 1e-9


def test_elo_finds_known_strengths():
    """Players whose true odds follow Elo's law by 200 points are rated about that far apart."""
    league = make_league()
    random = np.random.default_rng(0)
    for _ in range(4000):
        league.record("idle", float(random.random() < 1 / (1 + 10 ** (-200 / 400))))
        league.record("kite", float(random.random() < 1 / (1 + 10 ** (200 / 400))))
    learner = league.elo[MIRROR]
    assert abs(learner - league.elo["idle"] - 200) < 60
    assert abs(league.elo["kite"] - learner - 200) < 60
    assert np.isclose(sum(league.elo.values()), 3000.0)


def test_snapshots():
    """A snapshot keeps the learner's rating and results; the weakest is forgotten, never the newest."""
    league = make_league(max_snapshots=2)
    league.record("idle", 1.0)
    first = league.add_snapshot({"w": np.ones(1)})
    assert league.elo[first] == league.elo[MIRROR] and league.payoff[first]["idle"].games == 1
    league.record("idle", 1.0)
    assert league.payoff[first]["idle"].games == 1
    second = league.add_snapshot({"w": np.ones(1)})
    league.elo[second] = league.elo[first] - 50
    for _ in range(30):
        league.record("kite", 0.0)
    third = league.add_snapshot({"w": np.ones(1)})
    assert third in league.snapshots and len(league.snapshots) == 2
    forgotten = ({first, second} - set(league.snapshots)).pop()
    assert forgotten == second
    assert forgotten not in league.elo and forgotten not in league.payoff
    before = league.games
    league.record(forgotten, 1.0)
    assert league.games == before


def test_league_state_round_trip():
    league = make_league()
    league.record("idle", 0.5)
    league.add_snapshot({"w": np.arange(3.0)})
    league.record("snapshot-0001", 1.0)
    other = make_league()
    other.set_state(league.get_state())
    assert other.probabilities() == league.probabilities() and other.elo == league.elo
    assert other.payoff == league.payoff and other.games == league.games
    np.testing.assert_array_equal(other.snapshots["snapshot-0001"]["w"], np.arange(3.0))


class TwoPlayers(TinyWorlds):
    """TinyWorlds with a second player who sees the same; the one with more hits wins the episode."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def _observe(self):
        return {name: np.stack([array, array], axis=1) for name, array in super()._observe().items()}

    def scripted_action(self, name: str, player: int = 0) -> dict[str, np.ndarray]:
        orders = np.full((self.num_envs, 2, 2), {"idle": NO_OP, "kite": ATTACK}[name])
        return {"order": orders, "target": np.full((self.num_envs, 2, 2), 2)}

    def step(self, actions):
        self.seen = actions
        hits = (actions["order"] == ATTACK).mean(axis=2)
        ours = {name: array[:, 0] for name, array in actions.items()}
        observation, reward, terminated, truncated, infos = super().step(ours)
        if "final_info" in infos:
            ahead = np.stack([hits[:, 0] > hits[:, 1], hits[:, 1] > hits[:, 0]], axis=1)
            infos["final_info"]["battle_won"] = ahead
        return observation, np.stack([reward, -reward], axis=1), terminated, truncated, infos


def make_two_players(num_envs: int, seed: int, players: int = 1) -> Any:
    return TwoPlayers(num_envs, seed) if players == 2 else TinyWorlds(num_envs, seed)


def make_worlds(lstm: int = 0) -> OpponentWorlds:
    one = TinyWorlds(1, 0)
    network = dataclasses.replace(NETWORK, lstm_channels=lstm)
    return OpponentWorlds(
        TwoPlayers(6, 0), network, one.single_observation_space, one.single_action_space, opponent="idle"
    )


@pytest.mark.parametrize("lstm", [0, 5])
def test_opponents_change_at_episode_ends_only(lstm):
    env = make_worlds(lstm)
    env.reset(seed=0)
    weights = {name: tensor.numpy() for name, tensor in env._make_network().state_dict().items()}
    ours = {"order": np.full((6, 2), ATTACK), "target": np.full((6, 2), 2)}
    schedule = {5: ("kite", None), 20: ("snapshot-0001", weights), 40: ("idle", None)}
    expected = np.full(6, "idle", dtype=object)
    coming = "idle"
    for step in range(60):
        if step in schedule:
            coming = schedule[step][0]
            env.assign(*schedule[step])
        _, _, terminated, truncated, infos = env.step(ours)
        for world in range(6):
            their_order = env.env.seen["order"][world, 1]
            if expected[world] in ("idle", "kite"):
                assert (their_order == {"idle": NO_OP, "kite": ATTACK}[expected[world]]).all()
        done = terminated | truncated
        if done.any():
            assert (infos["final_info"]["opponent"][done] == expected[done]).all()
            against_idle = done & (expected == "idle")
            assert (infos["final_info"]["outcome"][against_idle] == 1.0).all()
            assert (infos["final_info"]["outcome"][done & (expected == "kite")] == 0.5).all()
        expected[done] = coming
        np.testing.assert_array_equal(env.opponents, expected)
    assert "snapshot-0001" not in env._networks or "snapshot-0001" in env.opponents


def test_learner_sees_its_own_side_only():
    env = make_worlds()
    observation, _ = env.reset(seed=0)
    assert observation["entities"].shape[:2] == (6, 4)
    ours = {"order": np.full((6, 2), ATTACK), "target": np.full((6, 2), 2)}
    observation, reward, *_ = env.step(ours)
    assert observation["mask"].shape == (6, 4) and reward.shape == (6,) and (reward >= 0).all()


@pytest.mark.parametrize("learners", [0, 1])
def test_league_in_training_and_in_its_checkpoint(tmp_path, learners):
    """Snapshots are taken, games are counted, and a restored algorithm has the same league."""
    config = tiny_config(
        updates=15,
        learners=learners,
        scenario="tests.agents.test_league:make_two_players",
        self_play=SelfPlayConfig(enabled=True, scripted=("idle", "kite"), snapshot_updates=4, weighting="uniform"),
    )
    algorithm = build(config)
    while algorithm.progress < 1.0:
        algorithm.train()
    assert any(name.startswith("snapshot") for name in algorithm.league.payoff[MIRROR])
    assert list(algorithm.league.snapshots) == ["snapshot-0001", "snapshot-0002", "snapshot-0003"]
    assert algorithm.league.games > 0
    algorithm.save_to_path(str(tmp_path / "algorithm"))
    state = algorithm.league.get_state()
    algorithm.stop()
    restored = build(config)
    restored.restore_from_path(str(tmp_path / "algorithm"))
    assert restored.league.elo == state["elo"]
    assert restored.league.get_state()["payoff"] == state["payoff"]
    for name, weights in state["snapshots"].items():
        for key, array in weights.items():
            np.testing.assert_array_equal(restored.league.snapshots[name][key], array)
    restored.train()
    restored.stop()


def test_rating_of_the_learner_is_reported(tmp_path):
    config = tiny_config(
        updates=6,
        scenario="tests.agents.test_league:make_two_players",
        self_play=SelfPlayConfig(enabled=True, scripted=("idle",), snapshot_updates=4, mirror_fraction=0.0),
    )
    run = RunFolder.create(tmp_path / "run", config)
    checkpoint = train(run, Console(quiet=True))
    reported = read_metrics(run.path / "metrics.jsonl")[-1]["elo"]
    assert reported == pytest.approx(read_standings(checkpoint)["elo"]["learner"]) != 1000.0
