"""Films of an agent's battles."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from agents.acting.arrays import to_arrays, to_tensors
from agents.acting.worlds import is_battle
from agents.models.network import AgentNetwork
from agents.presets import AgentTrainingConfig


def film(
    network: AgentNetwork, config: AgentTrainingConfig, scenario: str, opponent: str, seed: int
) -> tuple[list[np.ndarray], str]:
    """Pictures of one episode played by the agent, and what came of it."""
    from envs import SC2VectorEnv
    from envs.render.pictures import draw_battle

    env = SC2VectorEnv(
        scenario,
        1,
        opponent=opponent if is_battle(scenario) else None,
        action_view=config.world.action_view,
        render_mode="rgb_array_list",
        _autoreset=False,
    )
    observation, _ = env.reset(seed=seed)
    state, is_first, total = network.initial_state(1), torch.ones(1, dtype=torch.bool), 0.0
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for _ in range(env.scenario.step_limit):
            step = network.act(to_tensors(observation), state, is_first)
            state, is_first = step.state, torch.zeros(1, dtype=torch.bool)
            observation, reward, terminated, truncated, infos = env.step(to_arrays(step.action))
            total += float(reward[0])
            if terminated[0] or truncated[0]:
                break
    final = infos["final_info"]
    length = int(final["episode_length"][0])
    frames = draw_battle(env.scenario, env.rules, env.recorded_frames()[::2])
    if not is_battle(scenario):
        return frames, f"seed {seed}: score {final['score'][0]:.0f} after {length} steps"
    outcome = "won" if final["battle_won"][0] else "not won"
    return frames, f"against {opponent}, seed {seed}: {outcome} after {length} steps, return {total:.2f}"


def mp4(frames: list[np.ndarray]) -> bytes:
    """The pictures as a video file, 12 a second."""
    from envs.render.video import write_mp4

    with tempfile.TemporaryDirectory() as folder:
        return write_mp4(Path(folder) / "battle.mp4", frames, fps=12.0).read_bytes()
