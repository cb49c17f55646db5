"""The shortest training loop: one process, one set of worlds, no Ray: the limit of one core for `benchmarks.agents`.

    python -m benchmarks.bare_loop --scenario 3m --algorithm vtrace --seconds 90

Prints the share of episodes won (or the mean score) as it goes and, at the end, over fresh worlds with other seeds.
Time is the process's CPU time: it runs on one thread, so this is what it would take on a core of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from agents.acting.arrays import to_tensors
from agents.acting.episodes import Episodes
from agents.acting.rollout import Rollout
from agents.losses.ppo import PPOConfig, ppo_loss, prepare_ppo_batch
from agents.losses.schedules import Schedule
from agents.losses.vtrace import VTraceConfig, vtrace_loss
from agents.models.network import AgentNetwork, NetworkConfig
from agents.rllib.malloc import keep_freed_memory


@dataclass(frozen=True, kw_only=True)
class BareLoopConfig:
    """What to train, on what, for how long."""

    scenario: str = "3m"
    algorithm: Literal["ppo", "vtrace"] = "vtrace"
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(channels=64, num_heads=2, num_layers=1, num_latents=8)
    )
    ppo: PPOConfig = field(default_factory=PPOConfig)
    vtrace: VTraceConfig = field(default_factory=VTraceConfig)
    entropy_weight: float = 0.004
    """Of the policy's entropy, in either loss."""
    num_envs: int = 64
    fragment_length: int = 8
    """Small batches (512 steps) and many of them; PPO, which uses each one several times, does better with 32."""
    learning_rate: float = 1e-3
    final_learning_rate: float = 2e-4
    max_gradient_norm: float = 1.0
    reward_scale: float = 0.15
    """Rewards are multiplied by it in learning, so that values are of the size of policy terms; never in reports."""
    seconds: float = 90.0
    """CPU seconds of training, without start-up and evaluation."""
    seed: int = 0
    evaluation_episodes: int = 256
    log_seconds: float = 10.0
    output: Path | None = None
    """Where to write the result as JSON."""


def minibatches(batch: dict[str, Any], count: int, recurrent: bool) -> list[dict[str, Any]]:
    """Cuts a PPO batch [T, B, ...] at random: whole worlds with recurrence, single steps [1, T*B / count] without."""
    steps, worlds = batch["advantage"].shape
    if recurrent:
        return [_take(batch, part, worlds_axis=1) for part in torch.randperm(worlds).chunk(count)]
    flat = {name: _map(value, lambda a: a[:steps].flatten(0, 1)[None]) for name, value in batch.items()}
    flat["state"] = {}
    return [_take(flat, part, worlds_axis=1) for part in torch.randperm(steps * worlds).chunk(count)]


def _map(value: Any, function: Any) -> Any:
    return {name: _map(part, function) for name, part in value.items()} if isinstance(value, dict) else function(value)


def _take(batch: dict[str, Any], index: Tensor, worlds_axis: int) -> dict[str, Any]:
    return {
        name: _map(value, lambda a, axis=0 if name == "state" else worlds_axis: a.index_select(axis, index))
        for name, value in batch.items()
    }


class Trainer:
    """Network, optimiser and the update of either algorithm."""

    def __init__(self, config: BareLoopConfig, network: AgentNetwork) -> None:
        self.config, self.network = config, network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=1e-5, fused=True)

    def update(self, fragment: dict[str, Any], learning_rate: float) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        update = self._update_ppo if self.config.algorithm == "ppo" else self._update_vtrace
        return {name: float(value.detach()) for name, value in update(fragment)._asdict().items()}

    def _update_vtrace(self, fragment: dict[str, Any]) -> Any:
        evaluation = self.network.evaluate(
            fragment["observation"], fragment["action"], fragment["state"], fragment["is_first"]
        )
        loss = vtrace_loss(evaluation, fragment, self.config.vtrace, self.config.entropy_weight)
        self._step(loss.total)
        return loss

    def _update_ppo(self, fragment: dict[str, Any]) -> Any:
        config = self.config.ppo
        batch = prepare_ppo_batch(fragment, config)
        steps = len(batch["advantage"])
        batch["observation"] = {name: array[:steps] for name, array in batch["observation"].items()}
        for _ in range(config.epochs):
            for part in minibatches(batch, config.minibatches, self.network.lstm is not None):
                is_first = part["is_first"][: part["advantage"].shape[0]]
                evaluation = self.network.evaluate(part["observation"], part["action"], part["state"], is_first)
                loss = ppo_loss(evaluation, part, config, self.config.entropy_weight)
                self._step(loss.total)
        return loss

    def _step(self, total: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()


def make_env(scenario: str, num_envs: int, seed: int) -> Any:
    from envs import SC2VectorEnv

    return SC2VectorEnv(scenario, num_envs=num_envs, seed=seed)


def evaluate(network: AgentNetwork, config: BareLoopConfig) -> Episodes:
    """Plays whole episodes with sampled actions, the same number in every world, on seeds not trained on."""
    env = make_env(config.scenario, config.num_envs, config.seed + 10_000)
    rollout = Rollout(env, network, fragment_length=8, seed=config.seed + 10_000)
    per_world = -(-config.evaluation_episodes // config.num_envs)
    counted, finished = np.zeros(config.num_envs, dtype=int), Episodes()
    while (counted < per_world).any():
        _, episodes = rollout.collect()
        for i, slot in enumerate(episodes.slots):
            if counted[slot] < per_world:
                counted[slot] += 1
                for name, values in vars(episodes).items():
                    getattr(finished, name).append(values[i])
    return finished


def summary(episodes: Episodes) -> str:
    return (
        f"{len(episodes.returns)} episodes: won {np.mean(episodes.won):.3f}, score {np.mean(episodes.scores):.2f}, "
        f"return {np.mean(episodes.returns):.2f}, length {np.mean(episodes.lengths):.1f}"
    )


def main(config: BareLoopConfig) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(config.seed)
    env = make_env(config.scenario, config.num_envs, config.seed)
    network = AgentNetwork(config.network, env.single_observation_space, env.single_action_space)
    trainer = Trainer(config, network)
    rollout = Rollout(
        env, network, fragment_length=config.fragment_length, seed=config.seed, values=config.algorithm == "ppo"
    )
    learning_rate = Schedule(start=config.learning_rate, end=config.final_learning_rate)
    rollout.collect()  # compiles what is compiled on first use
    start = logged = time.process_time()
    steps, acting, recent, curve = 0, 0.0, Episodes(), []
    while (elapsed := time.process_time() - start) < config.seconds:
        fragment, episodes = rollout.collect()
        acting += time.process_time() - start - elapsed
        fragment["reward"] = fragment["reward"] * config.reward_scale
        losses = trainer.update(to_tensors(fragment), learning_rate(elapsed / config.seconds))
        steps += config.num_envs * config.fragment_length
        recent.extend(episodes)
        if time.process_time() - logged > config.log_seconds and recent.returns:
            logged = time.process_time()
            curve.append((steps, logged - start, float(np.mean(recent.won)), float(np.mean(recent.scores))))
            terms = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            print(f"{logged - start:6.1f} s {steps:>9,} steps | {summary(recent)} | {terms}", flush=True)
            recent = Episodes()
    elapsed = time.process_time() - start
    print(f"{steps / elapsed:,.0f} trained env-steps/s, {acting / elapsed:.0%} of the time acting")
    final = evaluate(network, config)
    print(f"evaluation, other seeds, {summary(final)}")
    if config.output:
        result = {
            "config": asdict(config) | {"output": None},
            "steps": steps,
            "seconds": elapsed,
            "curve": curve,
            "won": float(np.mean(final.won)),
            "score": float(np.mean(final.scores)),
        }
        config.output.write_text(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(BareLoopConfig))
