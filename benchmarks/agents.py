"""Trained environment steps per second of the training stack, beside the limit of one core, in one run.

    python -m benchmarks.agents --scenario 3m --seconds 20 --rounds 3 [--output rates.json]

Contenders, all with the same worlds, network, fragments and V-trace update:

    bare          one process, no Ray: acts, then learns. What one core can do
    bare x2       two of them side by side: what two cores can do
    1+local       one env runner beside a learner in the driver
    2+2           two env runners and two learners (DDP)
    0+2           two learners that act themselves (DDP)
    rllib-impala  stock RLlib, one env runner and a learner in the driver (`benchmarks.rllib_peer`)
    rllib-ppo     likewise, PPO with one epoch

They take turns for `rounds` rounds, each in a process of its own; ratios are taken round by round. Start-up and the
first updates are left out. The gap to the cores' bare loops is what the stack costs: the driver, the object store,
all-reduce, and whatever the cores do for others. Beside other load compare the processor time that a step takes, of all
processes of a contender, Ray's own included (Linux only); it leaves out what waiting for each other costs.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from agents.acting.arrays import to_tensors
from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.losses.schedules import Schedule
from agents.losses.vtrace import vtrace_loss
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import AgentTrainingConfig, BudgetConfig, ClusterConfig, LearningConfig, WorldConfig
from agents.rllib.malloc import keep_freed_memory

# Updates before the clock starts.
_WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class AgentsBenchmark:
    """What to time."""

    scenario: str = "3m"
    num_envs: int = 64
    fragment_length: int = 32
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(channels=32, num_heads=1, num_layers=1, num_latents=4)
    )
    contenders: tuple[Literal["bare", "bare x2", "1+local", "2+2", "0+2", "rllib-impala", "rllib-ppo"], ...] = (
        "bare",
        "bare x2",
        "1+local",
        "2+2",
        "0+2",
        "rllib-impala",
        "rllib-ppo",
    )
    seconds: float = 20.0
    """Of each contender in each round."""
    rounds: int = 3
    output: Path | None = None
    """JSON file of all rates. Rounds of an earlier run with the same settings that are in it are kept and counted."""


def train_config(benchmark: AgentsBenchmark, runners: int, learners: int) -> AgentTrainingConfig:
    return AgentTrainingConfig(
        world=WorldConfig(scenario=benchmark.scenario, num_envs=benchmark.num_envs),
        network=benchmark.network,
        learning=LearningConfig(
            fragment_length=benchmark.fragment_length,
            learning_rate=Schedule.constant(5e-4),
            reward_scale=0.1,
        ),
        # More processes than cores, on purpose: two env runners and two learners share two cores.
        cluster=ClusterConfig(num_env_runners=runners, num_learners=learners, num_cpus=runners + learners + 1),
        budget=BudgetConfig(env_steps=10**12),
    )


@dataclass(frozen=True)
class Rate:
    """What a contender did."""

    steps_per_second: float
    processor_seconds_per_step: float


class Clock:
    """Counts from its making on."""

    def __init__(self) -> None:
        self._processor, self._started = processor_seconds(), time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    def rate(self, steps: int) -> Rate:
        elapsed = self.elapsed
        return Rate(steps / elapsed, (processor_seconds() - self._processor) / steps)


def processor_seconds() -> float:
    """Processor time so far of this process and its descendants, which must all live on; 0 outside Linux."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            pid, parent = int(stat.parent.name), int(fields[1])
            children.setdefault(parent, []).append(pid)
            ticks[pid] = int(fields[11]) + int(fields[12])
    family = [os.getpid()]
    for member in family:
        family += children.get(member, [])
    return sum(ticks.get(member, 0) for member in family) / os.sysconf("SC_CLK_TCK")


def bare(benchmark: AgentsBenchmark) -> Rate:
    """Acting and learning in turns on one core."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = train_config(benchmark, 0, 0)
    env = make_worlds(config.world, benchmark.num_envs, 0)
    network = AgentNetwork(config.network, env.single_observation_space, env.single_action_space)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, fused=True)
    rollout = Rollout(env, network, fragment_length=benchmark.fragment_length, seed=0, values=False)

    def update() -> int:
        fragment = to_tensors(rollout.collect()[0])
        fragment["reward"] = fragment["reward"] * config.learning.reward_scale
        evaluation = network.evaluate(
            fragment["observation"], fragment["action"], fragment["state"], fragment["is_first"]
        )
        loss = vtrace_loss(evaluation, fragment, config.learning.vtrace, config.learning.entropy_weight.start)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.learning.max_gradient_norm)
        optimizer.step()
        return fragment["reward"].numel()

    for _ in range(_WARM_UP):
        update()
    steps, clock = 0, Clock()
    while clock.elapsed < benchmark.seconds:
        steps += update()
    return clock.rate(steps)


def on_ray(benchmark: AgentsBenchmark, runners: int, learners: int) -> Rate:
    """Our algorithm."""
    from agents.rllib.cluster import connect, disconnect
    from agents.train import build_algorithm

    torch.set_num_threads(1)
    config = train_config(benchmark, runners, learners)
    connect(config.cluster)
    algorithm = build_algorithm(config, None)
    while algorithm.updates < _WARM_UP:
        algorithm.train()
    before, clock = algorithm.env_steps, Clock()
    while clock.elapsed < benchmark.seconds:
        algorithm.train()
    rate = clock.rate(algorithm.env_steps - before)
    algorithm.stop()
    disconnect()
    return rate


def on_stock_rllib(benchmark: AgentsBenchmark, algorithm_name: str) -> Rate:
    """RLlib's own algorithm."""
    from agents.rllib.cluster import connect, disconnect

    torch.set_num_threads(1)
    config = train_config(benchmark, 1, 0)
    connect(config.cluster)
    from benchmarks.rllib_peer import stock_config, trained_steps

    algorithm = stock_config(algorithm_name, config).build_algo()
    warm = _WARM_UP * benchmark.num_envs * benchmark.fragment_length
    while (before := trained_steps(algorithm.train())) < warm:
        pass
    steps, clock = before, Clock()
    while clock.elapsed < benchmark.seconds:
        steps = trained_steps(algorithm.train())
    rate = clock.rate(steps - before)
    algorithm.stop()
    disconnect()
    return rate


def measure(name: str, benchmark: AgentsBenchmark, results: Any) -> None:
    """One contender in a process of its own."""
    if name == "bare":
        results.put(bare(benchmark))
    elif name.startswith("rllib-"):
        results.put(on_stock_rllib(benchmark, name.removeprefix("rllib-")))
    else:
        runners, _, learners = name.partition("+")
        results.put(on_ray(benchmark, int(runners), 0 if learners == "local" else int(learners)))


def rate_of(name: str, benchmark: AgentsBenchmark) -> Rate:
    """A contender's rate; `x2` adds up two processes that run at the same time."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    name, _, times = name.partition(" x")
    processes = [context.Process(target=measure, args=(name, benchmark, results)) for _ in range(int(times or 1))]
    for process in processes:
        process.start()
    rates = [results.get(timeout=benchmark.seconds + 600.0) for _ in processes]
    for process in processes:
        process.join()
    steps_per_second = sum(rate.steps_per_second for rate in rates)
    processors = sum(rate.steps_per_second * rate.processor_seconds_per_step for rate in rates)
    return Rate(steps_per_second, processors / steps_per_second)


def settings_of(benchmark: AgentsBenchmark) -> dict[str, Any]:
    """What two runs must share for their rounds to be put together."""
    values = dataclasses.asdict(benchmark)
    return {name: values[name] for name in ("scenario", "num_envs", "fragment_length", "network", "seconds")}


def earlier_rates(benchmark: AgentsBenchmark) -> dict[str, list[Rate]]:
    """Rates in the output file, if it is of the same settings and contenders."""
    if benchmark.output is None or not benchmark.output.exists():
        return {name: [] for name in benchmark.contenders}
    content = json.loads(benchmark.output.read_text())
    rates = content["rates"]
    if content["settings"] != settings_of(benchmark) or list(rates) != list(benchmark.contenders):
        raise SystemExit(f"{benchmark.output} holds rates of other settings: name another --output")
    return {name: [Rate(**rate) for rate in values] for name, values in rates.items()}


def main(benchmark: AgentsBenchmark) -> None:
    rates = earlier_rates(benchmark)
    for round_number in range(benchmark.rounds):
        for name in benchmark.contenders:
            rates[name].append(rate_of(name, benchmark))
            print(f"round {round_number + 1}: {name:12s} {described(rates[name][-1:])}", flush=True)
    for name, values in rates.items():
        line = f"{name:12s} {described(values)}"
        for base in ("bare", "bare x2", "rllib-impala"):
            if base in rates and base != name:
                ratios = [
                    value.steps_per_second / other.steps_per_second
                    for value, other in zip(values, rates[base], strict=True)
                ]
                line += f", {statistics.median(ratios):.2f}x {base} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)
    if benchmark.output:
        of_contenders = {name: [dataclasses.asdict(rate) for rate in values] for name, values in rates.items()}
        benchmark.output.write_text(json.dumps({"settings": settings_of(benchmark), "rates": of_contenders}, indent=2))


def described(rates: list[Rate]) -> str:
    """Median and range of trained steps per second, median and range of the processor time that one takes."""
    steps = [rate.steps_per_second for rate in rates]
    costs = [1e3 * rate.processor_seconds_per_step for rate in rates]
    return (
        f"{statistics.median(steps):8,.0f} steps/s ({min(steps):,.0f} to {max(steps):,.0f}), "
        f"{statistics.median(costs):.3f} ms of processor time a step ({min(costs):.3f} to {max(costs):.3f})"
    )


if __name__ == "__main__":
    main(tyro.cli(AgentsBenchmark))
