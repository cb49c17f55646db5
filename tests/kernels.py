"""Compiles what the tests of the simulator share, before test processes start: each would compile it for itself.

`python -m tests.kernels` does so in two processes; it takes seconds where everything is on disk.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from envs.vector_env import SC2VectorEnv


def play(scenario: str, view: str) -> None:
    """Every kernel of a scenario's kind in an action view."""
    worlds = SC2VectorEnv(scenario, action_view=view, observation_view="both")
    worlds.reset(seed=0)
    worlds.step(worlds.scripted_action("attack-move"))


def main(part: str = "") -> None:
    if part == "protocol":
        from envs.protocol.install import compile_kernels

        play("MoveToBeacon", "unit")
        compile_kernels()
        return
    play("3m", "unit")  # with its longest kernel in a second process; the rest is made of what it leaves on disk
    other = subprocess.Popen([sys.executable, "-m", "tests.kernels", "protocol"], cwd=Path(__file__).parents[1])
    play("3m", "smac")
    play("3m", "function")
    if other.wait():
        sys.exit("the kernels of the protocol cannot be compiled")


if __name__ == "__main__":
    main(*sys.argv[1:])
