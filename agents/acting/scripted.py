"""Scripted policies that play instead of the agent: the worlds' own, and `withdraw`, which builds on one of them.

`withdraw` is `kite` whose hurt units step back while they reload. An attacker then has to look for another target or
follow into the fire of the other units. Damage spreads over all units, and more of them live to shoot.

As a teacher (`agents.losses.kickstarting`) it shows what exploration hardly finds: one unit's step at the right moment,
which pays only some steps later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.actions import DIRECTIONS, MOVE_NORTH
from envs.scenarios.choices import OPPONENTS
from envs.views.observation import (
    ALLIANCE_ENEMY,
    C_ALLIANCE,
    C_COOLDOWN,
    C_HEALTH_RATIO,
    C_SHIELD,
    C_X,
    C_Y,
)

WITHDRAW = "withdraw"
POLICIES = (*OPPONENTS, WITHDRAW)

# A unit withdraws without shields and below this share of its health, ...
HURT = 0.5
# ... while its weapon has more than so many game loops to reload, ...
RELOADING = 6.0
# ... from an enemy that is closer than so many world units.
DANGER = 7.5


def scripted_action(env: Any, observation: dict[str, np.ndarray], name: str) -> Any:
    """What the scripted policy `name` does in all worlds of `env`, whose observation it is; inside the masks.

    Raises ValueError for `withdraw` in another action view than "unit".
    """
    if name != WITHDRAW:
        return env.scripted_action(name)
    if "order_mask" not in observation:
        raise ValueError(f"the scripted policy {name!r} plays in the action view 'unit' only")
    action = env.scripted_action("kite")
    direction, withdraws = _ways_back(observation)
    return action | {
        "order": np.where(withdraws, MOVE_NORTH + direction, action["order"]),
        "target": np.where(withdraws, 0, action["target"]),
    }


def _offsets_to_enemies(observation: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """From each entity to each unit [B, U, N, 2], and the distance [B, U, N], infinite where there is no enemy."""
    entities, mask = observation["entities"], observation["mask"]
    place = entities[..., [C_X, C_Y]]
    offset = place[:, : observation["order_mask"].shape[1], None] - place[:, None]
    enemy = (entities[..., C_ALLIANCE] == ALLIANCE_ENEMY) & mask
    return offset, np.where(enemy[:, None], np.linalg.norm(offset, axis=-1), np.inf)


def _ways_back(observation: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For each unit the legal direction that leads away from the nearest enemy best, and whether it is to withdraw.

    int and bool [B, U].
    """
    entities, mask = observation["entities"], observation["mask"]
    can_step = observation["order_mask"][..., MOVE_NORTH : MOVE_NORTH + len(DIRECTIONS)].astype(bool)
    units = can_step.shape[1]
    away, distance = _offsets_to_enemies(observation)
    nearest = distance.argmin(-1)[..., None]
    along = np.take_along_axis(away, nearest[..., None], 2)[:, :, 0] @ np.asarray(DIRECTIONS).T  # [B, U, 8]
    own = entities[:, :units]
    withdraws = (
        mask[:, :units]
        & (own[..., C_SHIELD] <= 0.0)
        & (own[..., C_HEALTH_RATIO] < HURT)
        & (own[..., C_COOLDOWN] > RELOADING)
        & (np.take_along_axis(distance, nearest, 2)[..., 0] < DANGER)
        & can_step.any(-1)
    )
    return np.where(can_step, along, -np.inf).argmax(-1), withdraws
