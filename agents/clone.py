"""Behavioural cloning: record an expert, clone it, evaluate the clone, go on with reinforcement learning from there.

python -m agents.clone record --folder runs/expert --world.scenario 3m --player focus-fire --episodes 2000
python -m agents.clone train --recording runs/expert --run runs/clone --epochs 10
perceiver-evaluate-agent runs/clone
perceiver-train-agent --preset 3m --initial-weights runs/clone/checkpoints/update-...
"""

import dataclasses
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console

from agents.acting.arrays import to_tensors
from agents.acting.demonstrations import Recording, open_recording, read_batches, record
from agents.acting.pysc2_worlds import resolve_transport
from agents.acting.scripted import POLICIES
from agents.acting.worlds import make_worlds
from agents.configuration import ConfigError, check_at_least, check_positive, check_shares
from agents.evaluation.playing import build_network
from agents.evaluation.scoring import check_worlds
from agents.losses.imitation import ImitationConfig, imitation_loss
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import AgentTrainingConfig, ClusterConfig, EvaluationConfig, WorldConfig
from agents.runs.checkpoints import CheckpointInfo, RunFolder
from perceiver_agents import answer_version
from perceiver_agents.paths import absolute_if_folder, make_absolute


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """Records demonstrations."""

    folder: Path
    """Where to write; it must not exist."""
    player: str = "focus-fire"
    """A scripted policy of the simulator, or the folder of a run whose newest checkpoint plays."""
    world: WorldConfig = field(default_factory=WorldConfig)
    """The worlds to play in; `num_envs` of them at a time."""
    episodes: int = 2000
    """Episodes to record, rounded up so that every world plays the same number."""
    steps: int = 32
    """Steps of a stored row; the length of the trajectories that a recurrent network is cloned on."""
    discount: float = 0.99
    """Discount factor of the returns that the value head learns from."""
    seed: int = 0
    """Of the worlds and of the player's draws."""

    def __post_init__(self) -> None:
        make_absolute(self, "folder")
        object.__setattr__(self, "player", absolute_if_folder(self.player))
        check_at_least(self, 1, "episodes", "steps")
        check_shares(self, "discount")


@dataclass(frozen=True, kw_only=True)
class CloneConfig:
    """Clones recorded demonstrations."""

    recording: Path
    """Folder that `record` wrote."""
    run: Path
    """Run folder to make; `perceiver-evaluate-agent` and `--initial-weights` take it."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Architecture of the agent."""
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    """Settings of the loss."""
    epochs: int = 10
    """Passes over the recording."""
    rows_per_batch: int = 32
    """Trajectories of up to T steps in a batch."""
    learning_rate: float = 1e-3
    """Of Adam at its peak; it rises to it and falls again over the run."""
    max_gradient_norm: float = 1.0
    """Gradients with a larger norm over all parameters are scaled down to it."""
    reward_scale: float = 1.0
    """`learning.reward_scale` of the reinforcement learning to come, so that values mean the same there."""
    seed: int = 0
    """Of the first weights and the order of the rows."""

    def __post_init__(self) -> None:
        make_absolute(self, "recording", "run")
        check_at_least(self, 1, "epochs", "rows_per_batch")
        check_positive(self, "learning_rate", "max_gradient_norm", "reward_scale")


def record_demonstrations(config: RecordConfig) -> Recording:
    """Records what `config.player` does. Raises `ConfigError` for worlds or a player that do not exist."""
    world = resolve_transport(config.world)
    num_envs = min(world.num_envs, config.episodes)
    check_worlds(world, EvaluationConfig(opponents=(world.opponent,), num_envs=num_envs))
    player: AgentNetwork | str = config.player
    if Path(config.player).is_dir():
        run = RunFolder.open(Path(config.player))
        checkpoint = run.latest()
        if checkpoint is None:
            raise ConfigError(f"{run.path} has no checkpoint yet")
        player = build_network(run.config.network, world, checkpoint)
    elif config.player not in POLICIES:
        raise ConfigError(
            f"player {config.player!r} is neither a run folder nor a scripted policy: expected one of "
            f"{', '.join(POLICIES)}, or the folder of a run"
        )
    record(
        config.folder,
        world,
        player,
        episodes=config.episodes,
        steps=config.steps,
        num_envs=num_envs,
        discount=config.discount,
        seed=config.seed,
    )
    return open_recording(config.folder)


def clone(config: CloneConfig, console: Console) -> Path:
    """Maximises the likelihood of the recorded actions; returns the checkpoint. Ray must be connected."""
    recording = open_recording(config.recording)
    torch.manual_seed(config.seed)
    env = make_worlds(recording.world, 1, 0)
    network = AgentNetwork(config.network, env.single_observation_space, env.single_action_space)
    env.close()
    run = RunFolder.create(
        config.run,
        AgentTrainingConfig(name=config.run.name, seed=config.seed, world=recording.world, network=config.network),
    )
    updates_in_all = config.epochs * -(-recording.rows // config.rows_per_batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=updates_in_all + 1)
    started, cpu_started, updates, env_steps = time.monotonic(), time.process_time(), 0, 0
    per_epoch = -(-recording.rows // config.rows_per_batch)
    losses: list[float] = []
    batches = read_batches(recording, rows_per_batch=config.rows_per_batch, epochs=config.epochs, seed=config.seed)
    for batch in batches:
        losses.append(_update(network, optimizer, batch, config))
        schedule.step()
        updates += 1
        env_steps += int(batch["weight"].sum())
        if updates % per_epoch == 0:
            console.print(
                f"epoch {updates // per_epoch} of {config.epochs}: "
                f"{np.mean(losses[-per_epoch:]):.4f} nats per unit and step",
                highlight=False,
            )
    info = CheckpointInfo(
        updates=updates,
        env_steps=env_steps,
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu_started,
    )
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return run.save(info, weights, network.tables(), lambda folder: folder.mkdir())


def _update(
    network: AgentNetwork, optimizer: torch.optim.Optimizer, arrays: dict[str, Any], config: CloneConfig
) -> float:
    """One step on a batch of trajectories; returns the negative log-likelihood in nats per unit that had a choice."""
    batch = to_tensors(arrays)
    batch["value_target"] = batch["value_target"] * config.reward_scale
    steps, worlds = batch["value_target"].shape
    # The recurrent state within an episode is not recorded: every row starts afresh.
    is_first = torch.zeros(steps, worlds, dtype=torch.bool)
    is_first[0] = True
    evaluation = network.evaluate(batch["observation"], batch["action"], network.initial_state(worlds), is_first)
    loss = imitation_loss(evaluation, batch, config.imitation)
    optimizer.zero_grad()
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_gradient_norm)
    optimizer.step()
    return float(loss.negative_log_likelihood)


Command = (
    Annotated[RecordConfig, tyro.conf.subcommand("record")] | Annotated[CloneConfig, tyro.conf.subcommand("train")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `python -m agents.clone`."""
    answer_version("perceiver-clone-agent", arguments)
    config: RecordConfig | CloneConfig = tyro.cli(Command, args=arguments, prog="agents.clone")  # type: ignore[arg-type]
    console = Console()
    try:
        if isinstance(config, RecordConfig):
            written = record_demonstrations(config)
            console.print(
                f"recorded {written.episodes} episodes in {written.rows} rows: {written.folder}", highlight=False
            )
            return
        open_recording(config.recording)
        from agents.rllib.cluster import connect

        connect(dataclasses.replace(ClusterConfig(), num_env_runners=0))
        console.print(f"cloned: {clone(config, console)}", highlight=False)
    except ConfigError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
