"""Recorded games: the map, the seed and every action, from which the deterministic engine plays the game again.

The format is this server's own: a magic line and zlib-compressed JSON. The game's `.SC2Replay` files need the game.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

MAGIC = b"perceiver-sc2-replay 1\n"
MAX_BYTES = 256 << 20


class ReplayError(ValueError):
    """Replay data that cannot be read."""


@dataclass
class Replay:
    """A game's record.

    `actions`: (game loop, player, "action" or "debug", protobuf bytes), in order; `episode`: how many games with this
    seed were played before.
    """

    map_path: str
    map_data: bytes
    seed: int
    disable_fog: bool
    players: dict[int, dict[str, Any]]
    names: dict[int, str] = field(default_factory=dict)
    actions: list[tuple[int, int, str, bytes]] = field(default_factory=list)
    loops: int = 0
    results: dict[int, int] = field(default_factory=dict)
    episode: int = 0

    def to_bytes(self) -> bytes:
        """The replay as a file's content."""
        content = {
            "map_path": self.map_path,
            "map_data": base64.b64encode(self.map_data).decode(),
            "seed": self.seed,
            "disable_fog": self.disable_fog,
            "players": self.players,
            "names": self.names,
            "actions": [
                (loop, player, kind, base64.b64encode(data).decode()) for loop, player, kind, data in self.actions
            ],
            "loops": self.loops,
            "results": self.results,
            "episode": self.episode,
        }
        return MAGIC + zlib.compress(json.dumps(content).encode())

    @classmethod
    def from_bytes(cls, data: bytes) -> Replay:
        """Reads what `to_bytes` wrote.

        Raises:
            ReplayError: other data, the game's own `.SC2Replay` among them.
        """
        if not data.startswith(MAGIC):
            kind = "a .SC2Replay of the game, which only the game can play" if b"MPQ" in data[:1024] else "not a replay"
            raise ReplayError(f"the data are {kind}; expected a replay that this server saved")
        try:
            unpack = zlib.decompressobj()
            text = unpack.decompress(data[len(MAGIC) :], MAX_BYTES)
            if unpack.unconsumed_tail:
                raise ReplayError(f"the replay unpacks to more than {MAX_BYTES} bytes")
            content = json.loads(text)
            return cls(
                map_path=str(content["map_path"]),
                map_data=base64.b64decode(content["map_data"]),
                seed=int(content["seed"]),
                disable_fog=bool(content["disable_fog"]),
                players={int(player): dict(setup) for player, setup in content["players"].items()},
                names={int(player): str(name) for player, name in content["names"].items()},
                actions=[(int(a), int(b), str(c), base64.b64decode(d)) for a, b, c, d in content["actions"]],
                loops=int(content["loops"]),
                results={int(player): int(result) for player, result in content["results"].items()},
                episode=int(content["episode"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error, RecursionError) as error:
            if isinstance(error, ReplayError):
                raise
            raise ReplayError(f"the replay is damaged: {error!r}") from None
