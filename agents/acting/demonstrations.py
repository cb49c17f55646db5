"""Demonstrations: what a policy did, step by step, in Parquet files that anything can read.

A recording is a folder of Parquet files and `_demonstrations.json`. Each row is one trajectory of up to T steps of one
episode of one world (longer episodes are cut into several rows, in order):

    episode      int64            number of the episode in the recording
    start        int32            step of the episode at which the row starts
    length       int32            steps in the row; the arrays are padded to T with their last step
    reward       float32 [T]
    return_to_go float32 [T]      discounted return from each step to the episode's end
    won          bool             whether the episode was won
    observation.<name>            tensor [T, ...] of the simulator's observation
    action.<name>                 tensor [T, ...] of the action taken ("action" where the action is a single array)

`_demonstrations.json` holds the format's version, the world, who played, and the shapes and types of the columns. It
also holds the tables (features, scalars, orders, functions) that columns and action numbers stand for. `read_batches`
puts them into the order of today's tables. What is new is zero; an entry that is gone is refused by its name.

Tensors are stored as flat lists of their type; `read_batches` gives them their shapes back.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from agents.acting.arrays import map_arrays
from agents.acting.player import Player
from agents.acting.worlds import make_worlds
from agents.configuration import ConfigError, config_to_dict
from agents.models.earlier_vocabulary import EARLIER_TABLES
from agents.models.network import AgentNetwork
from agents.models.vocabulary import (
    Tables,
    check_tables,
    map_axis,
    map_values,
    simulator_vocabulary,
    tables_from_json,
    tables_to_json,
)
from agents.presets import WorldConfig

# Raised when recordings change so that older ones can no longer be read.
FORMAT = 3
# Recordings that name no tables: theirs are `EARLIER_TABLES`.
_EARLIER_FORMAT = 2
# Columns that have an axis, counted from the end, along a table.
_TABLE_AXES = {
    "observation.entities": (-1, "entity_features"),
    "observation.scalars": (-1, "scalars"),
    "observation.order_mask": (-1, "orders"),
    "observation.target_mask": (-2, "target_classes"),
    "observation.action_mask": (-1, "smac_actions"),
    "observation.function_mask": (-1, "functions"),
    "observation.selected_mask": (-2, "functions"),
    "observation.target_unit_mask": (-2, "functions"),
}
# Columns whose values are numbers of a table's entries.
_TABLE_VALUES = {"action": "smac_actions", "action.order": "orders", "action.function": "functions"}
# Readers of Parquet folders leave out files whose names start with an underscore.
INFO_FILE = "_demonstrations.json"
# Demonstrations have seeds of their own: neither training nor evaluation uses them.
FIRST_SEED = 2**41


def record(
    folder: Path,
    world: WorldConfig,
    player: AgentNetwork | str,
    *,
    episodes: int,
    steps: int = 32,
    num_envs: int = 64,
    discount: float = 0.99,
    seed: int = 0,
    rows_per_file: int = 512,
) -> int:
    """Lets `player` (a network, or the name of a scripted policy) play and writes what it did; returns the row count.

    steps: T. Every world plays the same number of whole episodes, so that short ones are not favoured. `episodes` is
    rounded up for it. Raises `ConfigError` where `folder` is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} exists already and is not overwritten: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, steps, discount, rows_per_file)
    env = make_worlds(world, num_envs, FIRST_SEED + seed)
    observation, _ = env.reset(seed=FIRST_SEED + seed)
    playing = Player(env, player)
    is_first = np.ones(num_envs, dtype=bool)
    rounds = -(-episodes // num_envs)
    played = np.zeros(num_envs, dtype=np.int64)
    running: list[list[dict[str, Any]]] = [[] for _ in range(num_envs)]
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        while (played < rounds).any():
            action = playing.act(observation, is_first)
            before = map_arrays(np.array, observation)
            observation, reward, terminated, truncated, infos = env.step(action)
            is_first = terminated | truncated
            for slot in np.flatnonzero(played < rounds):
                seen, done = (_of_world(part, int(slot)) for part in (before, action))
                running[slot].append({"observation": seen, "action": done, "reward": float(reward[slot])})
            for slot in np.flatnonzero(is_first & (played < rounds)):
                writer.add_episode(running[slot], bool(infos["final_info"]["battle_won"][slot]))
                running[slot] = []
            played += is_first
    env.close()
    writer.close(world, player if isinstance(player, str) else "network")
    return writer.rows_written


def _of_world(arrays: Any, slot: int) -> Any:
    return map_arrays(lambda array: array[slot], arrays)


class _Writer:
    def __init__(self, folder: Path, steps: int, discount: float, rows_per_file: int) -> None:
        self.folder, self.steps, self.discount, self.rows_per_file = folder, steps, discount, rows_per_file
        self.rows: list[dict[str, Any]] = []
        self.columns: dict[str, dict[str, Any]] = {}
        self.episodes = self.rows_written = self.files = 0

    def add_episode(self, steps: list[dict[str, Any]], won: bool) -> None:
        rewards = np.array([step["reward"] for step in steps], dtype=np.float32)
        to_go = np.zeros_like(rewards)
        following = 0.0
        for t in reversed(range(len(rewards))):
            following = to_go[t] = rewards[t] + self.discount * following
        for start in range(0, len(steps), self.steps):
            part = steps[start : start + self.steps]
            pad = [*part, *[part[-1]] * (self.steps - len(part))]
            row: dict[str, Any] = {"episode": self.episodes, "start": start, "length": len(part), "won": won}
            row["reward"] = self._padded(rewards[start : start + self.steps])
            row["return_to_go"] = self._padded(to_go[start : start + self.steps])
            for name, values in _columns(pad).items():
                self.columns.setdefault(name, {"shape": list(values.shape), "dtype": str(values.dtype)})
                row[name] = values.reshape(-1)
            self.rows.append(row)
        self.episodes += 1
        if len(self.rows) >= self.rows_per_file:
            self._flush()

    def _padded(self, values: np.ndarray) -> np.ndarray:
        return np.pad(values, (0, self.steps - len(values)), mode="edge")

    def _flush(self) -> None:
        if not self.rows:
            return
        table = pyarrow.table({name: [row[name] for row in self.rows] for name in self.rows[0]})
        pyarrow.parquet.write_table(table, self.folder / f"part-{self.files:05d}.parquet", compression="zstd")
        self.rows_written += len(self.rows)
        self.files += 1
        self.rows = []

    def close(self, world: WorldConfig, player: str) -> None:
        self._flush()
        info = {
            "format": FORMAT,
            "world": config_to_dict(world),
            "player": player,
            "episodes": self.episodes,
            "rows": self.rows_written,
            "steps": self.steps,
            "discount": self.discount,
            "columns": self.columns,
            "tables": tables_to_json(simulator_vocabulary().tables()),
        }
        (self.folder / INFO_FILE).write_text(json.dumps(info, indent=2))


def _columns(steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Observation and action of the steps, stacked to `[T, ...]`, by column name."""
    columns = {
        f"observation.{name}": np.stack([step["observation"][name] for step in steps])
        for name in steps[0]["observation"]
    }
    if isinstance(steps[0]["action"], dict):
        for name in steps[0]["action"]:
            columns[f"action.{name}"] = np.stack([step["action"][name] for step in steps])
    else:
        columns["action"] = np.stack([step["action"] for step in steps])
    return columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """What `_demonstrations.json` says."""

    folder: Path
    world: WorldConfig
    player: str
    episodes: int
    rows: int
    steps: int
    discount: float
    columns: dict[str, dict[str, Any]]
    tables: Tables
    """What columns and action numbers stand for in the files."""


def open_recording(folder: Path) -> Recording:
    """Reads a recording's description. Raises `ConfigError` if the folder holds none, or one of another version."""
    file = folder / INFO_FILE
    if not file.is_file():
        raise ConfigError(f"{folder} is not a recording: it has no {INFO_FILE}")
    info = json.loads(file.read_text())
    written = info.pop("format", None)
    if written not in (_EARLIER_FORMAT, FORMAT):
        raise ConfigError(
            f"{folder} is a recording of format {written!r}, this version reads {FORMAT}: use the version of "
            "perceiver-agents that wrote it, or record it again"
        )
    tables = EARLIER_TABLES if written == _EARLIER_FORMAT else tables_from_json(info.pop("tables"))
    recording = Recording(folder=folder, world=WorldConfig(**info.pop("world")), tables=tables, **info)
    check_tables(tables, simulator_vocabulary().tables(), str(folder))
    return recording


def read_batches(recording: Recording, *, rows_per_batch: int, epochs: int, seed: int) -> Iterator[dict[str, Any]]:
    """`epochs` passes over the recording in random order, as time-major batches; needs a connected Ray.

    Ray Data reads the files once, in parallel, and streams blocks from its object store. Each pass shuffles the blocks
    and, within a buffer of 32 batches, the rows. Batches hold `observation {name: [T, B, ...]}`, `action`,
    `value_target` (the return to go), `weight [T, B]` (0 on padding), `start` and `episode` `[B]`.
    """
    import ray
    import ray.data

    # It reports every pass over the data, and that its progress bars are off. Its import sets the level.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    present = simulator_vocabulary().tables()
    data = ray.data.read_parquet(str(recording.folder.absolute()), file_extensions=["parquet"]).materialize()
    for epoch in range(epochs):
        shuffled = data.randomize_block_order(seed=seed + epoch)
        for columns in shuffled.iter_batches(
            batch_size=rows_per_batch,
            batch_format="numpy",
            local_shuffle_buffer_size=32 * rows_per_batch,
            local_shuffle_seed=seed + epoch,
        ):
            yield _time_major(recording, columns, present)


def _time_major(recording: Recording, columns: dict[str, np.ndarray], present: Tables) -> dict[str, Any]:
    """A batch as `read_batches` describes it, in the order of the tables `present`."""
    count = len(columns["length"])
    # Copies: Ray Data's arrays are read-only views of its object store.
    batch: dict[str, Any] = {"observation": {}} | {name: np.array(columns[name]) for name in ("start", "episode")}
    for name, description in recording.columns.items():
        flat = np.stack(list(columns[name])) if columns[name].dtype == object else columns[name]
        values = flat.astype(description["dtype"], copy=False).reshape(count, *description["shape"]).swapaxes(0, 1)
        if name in _TABLE_AXES:
            values = map_axis(values, *_TABLE_AXES[name], recording.tables, present, str(recording.folder))
        if name in _TABLE_VALUES:
            values = map_values(values, _TABLE_VALUES[name], recording.tables, present, str(recording.folder))
        kind, _, part = name.partition(".")
        if kind == "observation":
            batch["observation"][part] = np.array(values, order="C")
        elif part:
            batch.setdefault("action", {})[part] = np.array(values, order="C")
        else:
            batch["action"] = np.array(values, order="C")
    to_go = columns["return_to_go"]
    to_go = np.stack(list(to_go)) if to_go.dtype == object else to_go
    batch["value_target"] = np.array(to_go.T, dtype=np.float32, order="C")
    batch["weight"] = (np.arange(recording.steps)[:, None] < columns["length"][None]).astype(np.float32)
    return batch
