"""SMAC's own environment, in process: the interface, the arrays and the rewards of its `StarCraft2Env`.

Code written against SMAC runs on it with another import, and gets the same arrays as from SMAC's code on the protocol
server with the same seed. `envs.views.smac_view` is another thing: the batched environment's view in SMAC's layout.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # The environment brings Numba along.
    if name == "StarCraft2Env":
        from envs.smac.environment import StarCraft2Env

        return StarCraft2Env
    raise AttributeError(f"module 'envs.smac' has no attribute {name!r}")
