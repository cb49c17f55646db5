"""What a scenario file may choose from: scripted opponents, and rules with their numbers.

Kernels read these too. They stand apart from the reading of scenario files, whose changes then compile nothing anew.
"""

from __future__ import annotations

# Scripted policies in rising strength; `envs.rules.opponents` holds them.
OPPONENTS = ("idle", "attack-wave", "attack-move", "focus-fire", "kite")

# The numbers that a rule set needs in `[game]`; the order is the one in which the kernels get them.
GAME_PARAMETERS: dict[str, dict[str, int]] = {
    "battle": {},
    "beacon": {
        "beacon_area": 4,
        "beacon_excluded_circle": 3,
        "beacon_distance": 1,
        "hit_radius": 1,
        "score_per_beacon": 1,
    },
    "shards": {"shards": 1, "shard_area": 4, "shard_distance": 1, "pickup_radius": 1, "score_per_shard": 1},
    "hunt": {
        "first_zerglings": 1,
        "first_ring": 2,
        "others_distance": 1,
        "spacing": 1,
        "respawn_distance": 1,
        "score_per_kill": 1,
        "score_per_loss": 1,
    },
    "waves": {
        "left_area": 4,
        "right_area": 4,
        "enemy_spacing": 1,
        "reinforcements": 1,
        "score_per_kill": 1,
        "score_per_loss": 1,
    },
}
RULES = tuple(GAME_PARAMETERS)
