"""Pictures of scripted battles. `python -m envs.gallery docs/images` makes those of the README."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from envs.render.pictures import draw_battle
from envs.render.video import write_gif
from envs.scenarios.scenario import Scenario
from envs.vector_env import SC2VectorEnv
from perceiver_agents.paths import make_absolute

# Scenario, the agent side's scripted policy, and the game loop of the still picture (a multiple of 8).
STILLS = (
    ("3s_vs_3z", "kite", 72),
    ("MMM", "focus-fire", 80),
    ("corridor", "attack-move", 120),
    ("bane_vs_bane", "attack-move", 56),
    ("2c_vs_64zg", "kite", 48),
    ("DefeatRoaches", "focus-fire", 88),
    ("CollectMineralShards", "attack-move", 96),
    ("FindAndDefeatZerglings", "focus-fire", 96),
)
FILMS = (("MMM", "focus-fire"),)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of scripted battles in the simulator."""

    out: Annotated[Path, tyro.conf.Positional] = Path("docs/images")
    seed: int = 3

    def __post_init__(self) -> None:
        make_absolute(self, "out")


def record_battle(
    scenario: str | Path | Scenario,
    policy: str = "focus-fire",
    *,
    opponent: str | None = None,
    seed: int = 0,
    max_steps: int | None = None,
    every: int = 2,
) -> list[np.ndarray]:
    """Pictures (uint8 [height, width, 3]) of one episode that scripted `policy` plays, of where it is fought.

    One every `every` game loops, of the first `max_steps` steps.
    """
    env = SC2VectorEnv(scenario, 1, opponent=opponent, render_mode="rgb_array_list", _autoreset=False)
    env.reset(seed=seed)
    for _ in range(max_steps or env.scenario.step_limit):
        _, _, terminated, truncated, _ = env.step(env.scripted_action(policy))
        if terminated[0] or truncated[0]:
            break
    return draw_battle(env.scenario, env.rules, env.recorded_frames()[::every])


def main(config: Gallery) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    for scenario, policy, loop in STILLS:
        frames = record_battle(scenario, policy, seed=config.seed, max_steps=loop // 8, every=4)
        path = config.out / f"{scenario}.png"
        Image.fromarray(frames[-1]).save(path, optimize=True)
        print(path)
    for scenario, policy in FILMS:
        path = write_gif(
            config.out / f"{scenario}.gif",
            record_battle(scenario, policy, seed=config.seed, max_steps=24, every=4),
            8,
            400,
        )
        print(path)


if __name__ == "__main__":
    main(tyro.cli(Gallery))
