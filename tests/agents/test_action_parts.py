"""A new head with a part of its own: nothing outside the head, its worlds and `HEADS` knows of the part."""

from typing import Any, Self

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from agents.acting.arrays import to_tensors
from agents.acting.rollout import Rollout
from agents.evaluation.playing import FIRST_SEED, build_network, play
from agents.evaluation.scoring import evaluate_run
from agents.models import heads
from agents.models.compaction import Compaction
from agents.models.distributions import categorical_entropy, log_prob_of, masked_log_softmax, sample_categorical
from agents.models.heads import ActionEvaluation, Features, UnitHead
from agents.models.network import AgentNetwork
from agents.models.vocabulary import NamedAxis, Vocabulary
from agents.presets import EvaluationConfig
from agents.runs.checkpoints import RunFolder, load_weights
from agents.train import train
from tests.agents.ray_runs import NETWORK, tiny_config
from tests.agents.tiny_worlds import UNITS, TinyWorlds

SIGNALS = ("silent", "red", "green")
SPARE = 3


class SignallingWorlds(TinyWorlds):
    """TinyWorlds whose units also give a signal each; green earns 1/2 per unit and step. Some rows are never used."""

    def __init__(self, num_envs: int, seed: int) -> None:
        super().__init__(num_envs, seed)
        spaces = dict(self.single_action_space.spaces)
        spaces["signal"] = gymnasium.spaces.MultiDiscrete([len(SIGNALS)] * (UNITS + SPARE))
        for name in ("order", "target"):
            spaces[name] = gymnasium.spaces.MultiDiscrete(
                [int(spaces[name].nvec[0]) + SPARE * (name == "target")] * (UNITS + SPARE)
            )
        self.single_action_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        shown = self._observe()
        self.single_observation_space = gymnasium.spaces.Dict(
            {
                name: gymnasium.spaces.Box(-np.inf, np.inf, array.shape[1:], np.float32)
                if array.dtype == np.float32
                else gymnasium.spaces.MultiBinary(array.shape[1:])
                for name, array in shown.items()
            }
        )
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.signals: list[np.ndarray] = []

    def _observe(self) -> dict[str, np.ndarray]:
        """Empty unit slots behind the units, so that there are rows to leave out."""
        shown = super()._observe()

        def spread(array: np.ndarray, axis: int) -> np.ndarray:
            return np.insert(array, [UNITS] * SPARE, 0, axis=axis)

        signal_mask = np.zeros((self.num_envs, UNITS + SPARE, len(SIGNALS)), dtype=bool)
        signal_mask[..., 0] = True
        signal_mask[:, :UNITS] = True
        order_mask = spread(shown["order_mask"], 1)
        order_mask[:, UNITS:, 0] = True
        return shown | {
            "entities": spread(shown["entities"], 1),
            "mask": spread(shown["mask"], 1),
            "order_mask": order_mask,
            "target_mask": spread(spread(shown["target_mask"], 1), 3),
            "signal_mask": signal_mask,
        }

    def step(self, actions: dict[str, np.ndarray]) -> Any:
        self.signals.append(np.array(actions["signal"]))
        assert set(actions) == set(self.single_action_space.spaces)
        own = {"order": actions["order"][:, :UNITS], "target": actions["target"][:, :UNITS] - SPARE}
        observation, reward, *rest = super().step(own)
        green = (actions["signal"][:, :UNITS] == SIGNALS.index("green")).mean(axis=1)
        return observation, reward + green, *rest


def make(num_envs: int, seed: int) -> SignallingWorlds:
    return SignallingWorlds(num_envs, seed)


class SignalHead(UnitHead):
    """An order and its target as `UnitHead`, and a signal beside them."""

    layout = UnitHead.layout._replace(unit_axes={**UnitHead.layout.unit_axes, "signal_mask": 1})

    def __init__(self, channels: int, num_units: int, vocabulary: Vocabulary) -> None:
        super().__init__(channels, num_units, vocabulary)
        self.signal = nn.Linear(channels, len(SIGNALS))

    @classmethod
    def for_space(
        cls, action_space: gymnasium.Space, channels: int, core_channels: int, vocabulary: Vocabulary
    ) -> Self | None:
        if not isinstance(action_space, gymnasium.spaces.Dict) or "signal" not in action_space.spaces:
            return None
        return cls(channels, len(action_space["signal"].nvec), vocabulary)  # type: ignore[attr-defined]

    def named_axes(self) -> dict[str, NamedAxis]:
        signals = NamedAxis(0, "signals", SIGNALS)
        return super().named_axes() | {"signal.weight": signals, "signal.bias": signals}

    def _log_probs(self, features: Features, observation: dict[str, Tensor]) -> Tensor:
        return masked_log_softmax(self.signal(features.units), observation["signal_mask"])

    def sample(self, features: Features, observation: dict[str, Tensor], deterministic: bool) -> tuple[Any, Tensor]:
        action, log_prob = super().sample(features, observation, deterministic)
        log_probs = self._log_probs(features, observation)
        signal = log_probs.argmax(-1) if deterministic else sample_categorical(log_probs)
        return action | {"signal": signal}, log_prob + log_prob_of(log_probs, signal)

    def evaluate(self, features: Features, observation: dict[str, Tensor], action: Any) -> ActionEvaluation:
        orders = super().evaluate(features, observation, action)
        log_probs = self._log_probs(features, observation)
        return ActionEvaluation(
            orders.log_prob + log_prob_of(log_probs, action["signal"].long()),
            orders.entropy + categorical_entropy(log_probs),
            orders.unit_mask,
        )


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS", [*heads.HEADS, SignalHead])


def make_network(env: SignallingWorlds) -> AgentNetwork:
    torch.manual_seed(0)
    return AgentNetwork(NETWORK, env.single_observation_space, env.single_action_space)


def test_part_goes_through_compaction_and_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(6, 0)
    network = make_network(env)
    left_out = []
    original = Compaction.of

    def watched(*arguments: Any) -> Compaction | None:
        kept = original(*arguments)
        left_out.append(kept is not None)
        return kept

    monkeypatch.setattr(Compaction, "of", watched)
    fragment, _ = Rollout(env, network, fragment_length=10, seed=0).collect()
    assert left_out and all(left_out)
    signal = fragment["action"]["signal"]
    assert signal.shape == (10, 6, UNITS + SPARE) and set(np.unique(signal[..., :UNITS])) == {0, 1, 2}
    assert (signal[..., UNITS:] == 0).all()
    np.testing.assert_array_equal(np.stack(env.signals), signal)
    batch = to_tensors(fragment)
    out = network.evaluate(batch["observation"], batch["action"], batch["state"], batch["is_first"])
    torch.testing.assert_close(out.log_prob, batch["behaviour_log_prob"], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(Compaction, "of", lambda *arguments: None)
    full = network.evaluate(batch["observation"], batch["action"], batch["state"], batch["is_first"])
    torch.testing.assert_close(out.log_prob, full.log_prob, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.entropy, full.entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["v-trace", "ppo"])
def test_part_is_learnt_saved_and_evaluated(algorithm: str, tmp_path: Any) -> None:
    """The whole way of a run: learner updates, a checkpoint that names the part's entries, an evaluation from it."""
    config = tiny_config(algorithm=algorithm, updates=60, scenario="tests.agents.test_action_parts:make")
    run = RunFolder.create(tmp_path / "run", config)
    checkpoint = train(run, Console(quiet=True))
    network = build_network(config.network, config.world, checkpoint)
    assert isinstance(network.head, SignalHead) and network.tables()["signals"] == SIGNALS
    trained = play(network, config.world, num_envs=8, rounds=2, seed=FIRST_SEED)
    untrained = play(make_network(make(1, 0)), config.world, num_envs=8, rounds=2, seed=FIRST_SEED)

    def per_step(episodes: Any) -> float:
        return sum(episodes.returns) / sum(episodes.lengths)

    # Green signals alone earn 1 a step; by chance it is 1/3 and a few hits.
    assert per_step(untrained) < 0.5 < 0.7 < per_step(trained)
    folder = evaluate_run(
        run, checkpoint, EvaluationConfig(episodes=4, num_envs=2, videos=0), Console(quiet=True), workers=1
    )
    assert (folder / "report.html").exists()
    # Entries of the part's table are mapped as all others.
    reordered = SIGNALS[::-1]

    class Reordered(SignalHead):
        def named_axes(self) -> dict[str, NamedAxis]:
            axis = NamedAxis(0, "signals", reordered)
            return super().named_axes() | {"signal.weight": axis, "signal.bias": axis}

    heads.HEADS[-1] = Reordered
    other = make_network(make(1, 0))
    load_weights(checkpoint, other)
    assert torch.equal(other.head.signal.bias.flip(0), network.head.signal.bias)  # type: ignore[union-attr]
