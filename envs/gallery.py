"""Makes the pictures of the README: `python -m envs.gallery docs/images`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from envs.render.video import record_battle, write_gif

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
