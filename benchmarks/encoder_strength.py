"""Perceiver IO against the 3-layer Transformer as the entity encoder, with everything else the same.

    python -m benchmarks.encoder_strength                     # resumable: what is there already is kept
    python -m benchmarks.encoder_strength --speed-only

Strength: both clone the same demonstrations of a scripted expert, are evaluated on the same battles, learn on from
their clones by the recipe of the preset (its teacher fades out), and are evaluated again; all with several seeds, whose
battles are added up. That happens at the scenario's own number of entities: rows that stand for nothing change no
output of either encoder (a test), so that the win rates in 512 slots are the same.

Speed: trained env-steps per second where all 512 rows of the scene hold a unit, acting and learning in turns on one
thread, the two encoders taking turns; the simulator and the heads are in it. FLOPs: `benchmarks.encoders`.
"""

import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from agents.acting.arrays import to_tensors
from agents.acting.demonstrations import INFO_FILE
from agents.acting.rollout import Rollout
from agents.acting.worlds import make_worlds
from agents.clone import CloneConfig, RecordConfig, clone, record_demonstrations
from agents.evaluation.scoring import evaluate_run
from agents.evaluation.statistics import wilson_interval
from agents.losses.schedules import Schedule
from agents.losses.vtrace import vtrace_loss
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import AgentTrainingConfig, ClusterConfig, EvaluationConfig, WorldConfig, preset
from agents.runs.checkpoints import RunFolder
from agents.runs.earlier import upgrade_info
from benchmarks.encoders import NUM_HEADS, NUM_LATENTS, NUM_LAYERS
from benchmarks.learning import evaluated, line

# 16 Marines see 496 Zerglings that do nothing, too far away to fight within an update or two.
_CROWD = """
title = "A crowd: 512 entities in view"
source = "benchmark"
rules = "battle"
map_size = [200, 200]
step_mul = 8
step_limit = 100000
fog = false

[[team]]
at = [20.0, 100.0]
units = [{ type = "Marine", count = 16 }]

[[team]]
at = [150.0, 100.0]
opponent = "idle"
units = [{ type = "Zergling", count = 496 }]
"""

# What the results depend on.
_SETTINGS = (
    "preset",
    "expert",
    "network",
    "seeds",
    "demonstrations",
    "epochs",
    "rows_per_batch",
    "cloning_rate",
    "env_steps",
    "learning_rate",
)


@dataclass(frozen=True, kw_only=True)
class EncoderStrength:
    """What to compare."""

    preset: str = "2s3z"
    expert: str = "focus-fire"
    encoders: tuple[str, ...] = ("perceiver_io", "transformer")
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(
            channels=64, num_heads=NUM_HEADS, num_layers=NUM_LAYERS, num_latents=NUM_LATENTS
        )
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights and of all draws; the demonstrations are the same."""
    demonstrations: int = 2048
    epochs: int = 8
    rows_per_batch: int = 6
    """Trajectories in a batch: of as many epochs small batches make better clones."""
    cloning_rate: float = 2e-3
    """Between what suits either best: of a few epochs Perceiver IO made most with 3e-3, the Transformer with 1e-3."""
    env_steps: int = 300_000
    """Of reinforcement learning after cloning."""
    learning_rate: Schedule = field(default_factory=lambda: Schedule(start=5e-4, end=1e-5, warmup=0.02))
    """Of reinforcement learning: the preset's steps are for one layer."""
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(episodes=400, videos=0))
    speed_rounds: int = 3
    speed_only: bool = False
    runs: Path = Path("runs/encoders")
    output: Path = Path(__file__).parent / "results" / "encoder_strength.json"


def config_of(benchmark: EncoderStrength, encoder: str, seed: int = 0) -> AgentTrainingConfig:
    network = dataclasses.replace(benchmark.network, encoder=encoder)  # type: ignore[arg-type]
    return dataclasses.replace(preset(benchmark.preset), network=network, seed=seed)


def cloned_checkpoint(benchmark: EncoderStrength, config: AgentTrainingConfig, folder: Path) -> Path:
    """The checkpoint of a clone of the expert in `folder`, from its recording; both made unless there are.

    The network and the scale of rewards are those of `config`.
    """
    recording = benchmark.runs / f"{benchmark.preset}-demonstrations"
    if not (recording / INFO_FILE).exists():
        shutil.rmtree(recording, ignore_errors=True)
        record_demonstrations(
            RecordConfig(
                folder=recording,
                player=benchmark.expert,
                world=config.world,
                episodes=benchmark.demonstrations,
            )
        )
    if not folder.exists() or RunFolder.open(folder).latest() is None:
        from agents.rllib.cluster import connect, disconnect

        shutil.rmtree(folder, ignore_errors=True)
        connect(ClusterConfig(num_env_runners=0, num_cpus=1))
        clone(
            CloneConfig(
                recording=recording,
                run=folder,
                network=config.network,
                epochs=benchmark.epochs,
                rows_per_batch=benchmark.rows_per_batch,
                learning_rate=benchmark.cloning_rate,
                reward_scale=config.learning.reward_scale,
                seed=config.seed,
            ),
            Console(),
        )
        disconnect()
    checkpoint = RunFolder.open(folder).latest()
    assert checkpoint is not None
    return checkpoint


def strength(benchmark: EncoderStrength, encoder: str, seed: int) -> dict[str, Any]:
    """Results after cloning and after reinforcement learning."""
    config = config_of(benchmark, encoder, seed)
    clone_folder, folder = (
        benchmark.runs / f"{benchmark.preset}-{encoder}-{seed}-{stage}" for stage in ("clone", "trained")
    )
    start = cloned_checkpoint(benchmark, config, clone_folder)
    if evaluated(clone_folder) is None:
        evaluate_run(RunFolder.open(clone_folder), start, benchmark.evaluation, Console(), workers=1)
    if evaluated(folder) is None:
        command = [sys.executable, "-m", "agents.train"]
        if (folder / "config.json").exists():
            command += ["--resume", str(folder)]
        else:
            command += ["--preset", benchmark.preset, "--run", str(folder), "--seed", str(seed)]
            command += ["--initial-weights", str(start), "--cluster.num-env-runners", "0", "--cluster.num-cpus", "1"]
            command += ["--budget.env-steps", str(benchmark.env_steps), "--evaluation.videos", "0"]
            command += ["--evaluation.episodes", str(benchmark.evaluation.episodes)]
            for part, value in dataclasses.asdict(benchmark.learning_rate).items():
                command += [f"--learning.learning-rate.{part}", str(value)]
            for name, value in dataclasses.asdict(config.network).items():
                command += [f"--network.{name.replace('_', '-')}", str(value)]
        subprocess.run(command, check=True)
    cloned, trained = evaluated(clone_folder), evaluated(folder)
    assert cloned is not None and trained is not None
    return {
        stage: {"training": content["training"], "result": content["results"][0]}
        for stage, content in (("cloned", cloned), ("trained", trained))
    }


def pooled(results: list[dict[str, Any]]) -> str:
    """The battles of several evaluations as one: `won 93.0% (90.1% to 95.1%)`."""
    wins, episodes = (sum(result[key] for result in results) for key in ("wins", "episodes"))
    return line({**results[0], "win_rate": wins / episodes, "win_rate_interval": wilson_interval(wins, episodes)})


def update_rates(benchmark: EncoderStrength) -> dict[str, list[float]]:
    """Trained env-steps per second with 512 entities in view, one value a round."""
    torch.set_num_threads(1)
    worlds, length = 4, 4
    learning = preset(benchmark.preset).learning
    rates: dict[str, list[float]] = {encoder: [] for encoder in benchmark.encoders}
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "crowd.toml"
        scenario.write_text(_CROWD)
        learners = {}
        for encoder in benchmark.encoders:
            env = make_worlds(WorldConfig(scenario=str(scenario), opponent="idle"), worlds, 0)
            network = AgentNetwork(
                config_of(benchmark, encoder).network, env.single_observation_space, env.single_action_space
            )
            rollout = Rollout(env, network, fragment_length=length, seed=0, values=False)
            if not rollout.observation["mask"].all():
                raise RuntimeError("not every one of the 512 rows holds an entity in view")
            learners[encoder] = (network, rollout, torch.optim.Adam(network.parameters(), lr=1e-5))
        for number in range(benchmark.speed_rounds + 1):
            for encoder, (network, rollout, optimizer) in learners.items():
                started = time.process_time()
                fragment = to_tensors(rollout.collect()[0])
                evaluation = network.evaluate(
                    fragment["observation"], fragment["action"], fragment["state"], fragment["is_first"]
                )
                optimizer.zero_grad(set_to_none=True)
                vtrace_loss(evaluation, fragment, learning.vtrace, learning.entropy_weight.start).total.backward()
                optimizer.step()
                if number > 0:
                    rates[encoder].append(worlds * length / (time.process_time() - started))
    return rates


def main(benchmark: EncoderStrength) -> None:
    rates = update_rates(benchmark)
    settings = dataclasses.asdict(benchmark)
    content: dict[str, Any] = {
        "settings": {name: settings[name] for name in _SETTINGS},
        "steps_per_processor_second": rates,
    }
    first = rates[benchmark.encoders[0]]
    for encoder, values in rates.items():
        ratios = [a / b for a, b in zip(first, values, strict=True)]
        print(
            f"{encoder:14s} {statistics.median(values):7.2f} trained env-steps a processor second at 512 entities; "
            f"{benchmark.encoders[0]} {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if benchmark.speed_only:
        return
    for encoder in benchmark.encoders:
        content[encoder] = [strength(benchmark, encoder, seed) for seed in benchmark.seeds]
    for stage in ("cloned", "trained"):
        for encoder in benchmark.encoders:
            parts = [seed[stage] for seed in content[encoder]]
            for seed, part in zip(benchmark.seeds, parts, strict=True):
                print(
                    f"{encoder:14s} {stage:8s} seed {seed} {line(part['result'])} after "
                    f"{part['training']['env_steps']:,} steps, "
                    f"{upgrade_info(part['training'])['cpu_seconds'] / 60:.1f} processor minutes"
                )
            print(f"{encoder:14s} {stage:8s} all    {pooled([part['result'] for part in parts])}")
    benchmark.output.parent.mkdir(parents=True, exist_ok=True)
    benchmark.output.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main(tyro.cli(EncoderStrength))
