"""Battles for an evaluation: every world plays the same number of episodes, fixed beforehand.

Taking the first N episodes to finish would count short ones (quick defeats, say) more often than they occur.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.acting.episodes import EpisodeCounter, Episodes
from agents.acting.player import Player
from agents.acting.worlds import make_worlds
from agents.models.network import AgentNetwork, NetworkConfig
from agents.presets import WorldConfig
from agents.runs.checkpoints import load_weights

# Worlds of evaluations are seeded from here on; training stays below (`agents.rllib.runner`), and the client protocol
# ends at 2^32.
FIRST_SEED = 2**31


def play(
    network: AgentNetwork | str,
    world: WorldConfig,
    *,
    num_envs: int,
    rounds: int,
    seed: int,
    deterministic: bool = False,
) -> Episodes:
    """Plays `rounds` episodes in each of `num_envs` worlds.

    network: an agent, or the name of a scripted policy (`agents.acting.scripted`).
    """
    env = make_worlds(world, num_envs, seed)
    observation, _ = env.reset(seed=seed)
    counter, kept = EpisodeCounter(num_envs), Episodes()
    played = np.zeros(num_envs, dtype=np.int64)
    is_first = np.ones(num_envs, dtype=bool)
    player = Player(env, network, deterministic=deterministic)
    # An evaluation has random numbers of its own: it must not depend on the caller's, nor disturb them.
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        while (played < rounds).any():
            observation, reward, terminated, truncated, infos = env.step(player.act(observation, is_first))
            is_first = terminated | truncated
            finished = counter.step(np.asarray(reward), is_first, infos)
            within = [index for index, slot in enumerate(finished.slots) if played[slot] < rounds]
            played[finished.slots] += 1
            kept.extend(Episodes(**{name: [values[i] for i in within] for name, values in vars(finished).items()}))
    env.close()
    return kept


def play_weights(
    network: NetworkConfig, weights: dict[str, np.ndarray], world: WorldConfig, job: dict[str, Any]
) -> Episodes:
    """`play` in a process that has nothing yet: builds the network for `world`, loads the weights, plays."""
    torch.set_num_threads(1)
    return play(build_network(network, world, weights), world, **job)


def build_network(config: NetworkConfig, world: WorldConfig, weights: dict[str, np.ndarray] | Path) -> AgentNetwork:
    """The network for `world`'s spaces with weights from a checkpoint or from arrays."""
    env = make_worlds(world, 1, 0)
    network = AgentNetwork(config, env.single_observation_space, env.single_action_space)
    env.close()
    if isinstance(weights, Path):
        load_weights(weights, network)
    else:
        network.load_state_dict({name: torch.as_tensor(np.array(array)) for name, array in weights.items()})
    return network.eval()
