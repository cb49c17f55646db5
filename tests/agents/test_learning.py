"""V-trace and PPO learn, on two probes that isolate one ability each: pointing at the right target, and remembering."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.losses.ppo import PPOConfig, ppo_loss, prepare_ppo_batch
from agents.losses.vtrace import VTraceConfig, vtrace_loss
from agents.models.network import AgentNetwork, NetworkConfig
from tests.agents.synthetic import FEATURES, TINY, network, observations

WORLDS, STEPS, UNITS, ENTITIES = 64, 8, 2, 5
ATTACK = 4
STOP = 1


class PointAtTheWeakest:
    """Reward: the share of units that attack the legal target with the least health. Each step is an episode."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def observe(self) -> dict[str, Tensor]:
        observation = observations("unit", WORLDS, UNITS, ENTITIES, self.generator)
        observation["mask"][:] = True
        observation["target_mask"][:, :, 1] = True
        observation["order_mask"][:] = False
        observation["order_mask"][..., [STOP, ATTACK]] = True
        self.health = observation["entities"][..., FEATURES.index("health")]
        return observation

    def step(self, action: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        weakest = self.health.argmin(-1)
        right = (action["order"] == ATTACK) & (action["target"] == weakest[:, None])
        return right.float().mean(-1), torch.ones(WORLDS, dtype=torch.bool)


class RememberTheSign:
    """The first observation shows a sign that the second one hides; then there is reward for the order it named."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.t = 0

    def observe(self) -> dict[str, Tensor]:
        observation = observations("unit", WORLDS, UNITS, ENTITIES, self.generator)
        observation["entities"][:] = 0
        observation["mask"][:] = True
        observation["order_mask"][:] = False
        observation["order_mask"][..., [0, STOP]] = True
        observation["scalars"][:] = 0
        if self.t % 2 == 0:
            self.sign = torch.randint(2, (WORLDS,), generator=self.generator)
            observation["scalars"][:, 0] = self.sign * 2.0 - 1.0
        return observation

    def step(self, action: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        last = self.t % 2 == 1
        self.t += 1
        reward = (action["order"] == self.sign[:, None]).float().mean(-1) if last else torch.zeros(WORLDS)
        return reward, torch.full((WORLDS,), last)


def collect(net: AgentNetwork, env: Any, observation: dict[str, Tensor], is_first: Tensor, state: dict[str, Tensor]):
    """One fragment as a runner makes it, and what the next one starts from."""
    rows: list[dict[str, Any]] = []
    before = state
    for _ in range(STEPS):
        step = net.act(observation, state, is_first)
        reward, done = env.step(step.action)
        rows.append(
            {
                "observation": observation,
                "action": step.action,
                "behaviour_log_prob": step.log_prob,
                "value": step.value,
                "reward": reward,
                "terminated": done,
                "is_first": is_first,
            }
        )
        observation, is_first, state = env.observe(), done, step.state
    last = {"observation": observation, "value": net.value(observation, state, is_first), "is_first": is_first}

    def stack(name: str) -> Any:
        parts = [row[name] for row in rows] + ([last[name]] if name in last else [])
        if isinstance(parts[0], dict):
            return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
        return torch.stack(parts)

    fragment: dict[str, Any] = {name: stack(name) for name in rows[0]}
    fragment["truncated"] = torch.zeros_like(fragment["terminated"])
    fragment["final_value"] = torch.zeros_like(fragment["reward"])
    return fragment | {"state": before}, observation, is_first, state


def train(net: AgentNetwork, env: Any, algorithm: str, updates: int) -> float:
    """Mean reward a fragment over the last fifth of training."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    observation = env.observe()
    is_first, state = torch.ones(WORLDS, dtype=torch.bool), net.initial_state(WORLDS)
    rewards = []
    ppo, vtrace = PPOConfig(epochs=3, minibatches=1, discount=0.9), VTraceConfig(discount=0.9, upgo_weight=0.5)
    for _ in range(updates):
        fragment, observation, is_first, state = collect(net, env, observation, is_first, state)
        rewards.append(float(fragment["reward"].mean()))
        if algorithm == "ppo":
            fragment = prepare_ppo_batch(fragment, ppo)
        for _ in range(ppo.epochs if algorithm == "ppo" else 1):
            out = net.evaluate(fragment["observation"], fragment["action"], fragment["state"], fragment["is_first"])
            if algorithm == "ppo":
                loss = ppo_loss(out._replace(value=out.value[:-1]), fragment, ppo, 0.01).total
            else:
                loss = vtrace_loss(out, fragment, vtrace, 0.01).total
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    tail = rewards[-updates // 5 :]
    return sum(tail) / len(tail)


@pytest.mark.parametrize("algorithm", ["ppo", "vtrace"])
def test_learns_to_point_at_the_weakest_enemy(algorithm: str) -> None:
    torch.manual_seed(0)
    share = train(network("unit", UNITS, ENTITIES), PointAtTheWeakest(), algorithm, 60)
    print(f"{algorithm}: right targets {share:.2f}")
    assert share > 0.4  # uniform: 0.1


@pytest.mark.parametrize("algorithm", ["ppo", "vtrace"])
def test_learns_to_remember_with_a_recurrent_core(algorithm: str) -> None:
    torch.manual_seed(0)
    config: NetworkConfig = dataclasses.replace(TINY, encoder="deep_sets", lstm_channels=16)
    reward = train(network("unit", UNITS, ENTITIES, config), RememberTheSign(), algorithm, 50)
    print(f"{algorithm}: recalled {2 * reward:.2f}")
    assert 2 * reward > 0.8  # without memory: 0.5
