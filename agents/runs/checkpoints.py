"""The run folder: config, logs and checkpoints that are either complete or not there.

    RUN/config.json                    what was asked for, with the format's version
    RUN/metrics.jsonl                  one line per report
    RUN/tensorboard/
    RUN/checkpoints/update-00000420/   weights.safetensors, checkpoint.json, algorithm/ (all that resuming needs),
                                       in self-play league.json (payoff matrix and Elo)
    RUN/evaluations/001/               evaluation.json, report.html

A checkpoint is written beside its place, flushed to disk and renamed into it. A process killed at any moment leaves the
older checkpoints and at most a folder that starts with a dot, which the next save clears. The weights name the tables
that their rows and columns stand for (`agents.models.vocabulary`).
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from agents.configuration import ConfigError, config_from_dict, config_to_dict
from agents.models.earlier_vocabulary import EARLIER_TABLES
from agents.models.network import AgentNetwork
from agents.models.vocabulary import Tables, map_weights, tables_from_json, tables_to_json
from agents.presets import AgentTrainingConfig
from agents.runs.earlier import EARLIER_FORMAT, upgrade_config, upgrade_info

# Raised when the content of run folders changes. `agents.runs.earlier` reads what older versions wrote.
FORMAT = 3
WEIGHTS_FILE = "weights.safetensors"
_CONFIG_FILE = "config.json"
# Key in the weights file's metadata.
_VOCABULARY = "vocabulary"
LEAGUE_FILE = "league.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Where training stood."""

    updates: int
    env_steps: int
    seconds: float
    """Seconds of training, on the wall."""
    cpu_seconds: float
    """CPU time that the driver's process spent on it, all threads together. Where acting and learning happen in the
    driver, this is all the CPU time of training."""


class RunFolder:
    """A folder with a `AgentTrainingConfig` and its checkpoints."""

    def __init__(self, path: Path, config: AgentTrainingConfig) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path, config: AgentTrainingConfig) -> "RunFolder":
        """Makes the folder. Raises `ConfigError` if there is something at `path` already."""
        # A process killed while it made the folder leaves at most the config's draft.
        if path.exists() and (not path.is_dir() or {entry.name for entry in path.iterdir()} - {_draft(_CONFIG_FILE)}):
            raise ConfigError(
                f"run folder {path} exists already and is not overwritten: choose another --run, "
                f"or go on with it by --resume {path}"
            )
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, config)
        run.write_config()
        (path / "checkpoints").mkdir()
        return run

    def write_config(self) -> None:
        """Stores the config; again when a resumed run changed its budget or cluster."""
        text = json.dumps({"format": FORMAT, "config": config_to_dict(self.config)}, indent=2)
        _write_durably(self.path / _CONFIG_FILE, text.encode())

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens a folder made by `create`. Raises `ConfigError` if it is none, or one of another version."""
        file = path / _CONFIG_FILE
        if not file.is_file():
            raise ConfigError(f"{path} is not a run folder: it has no config.json")
        try:
            content = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise ConfigError(f"{file} is not valid JSON: {error}") from error
        if content.get("format") not in (EARLIER_FORMAT, FORMAT):
            raise ConfigError(
                f"{path} was written in run format {content.get('format')!r}, this version reads format {FORMAT}: "
                "use the version of perceiver-agents that wrote it, or start a new run with --initial-weights "
                f"{path}/checkpoints/<newest>"
            )
        try:
            values = upgrade_config(content["config"]) if content["format"] != FORMAT else content["config"]
            return cls(path, config_from_dict(AgentTrainingConfig, values, "config.json"))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process from training in the same folder."""
        with open(self.path / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another process is training in {self.path}") from None
            yield

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(path for path in (self.path / "checkpoints").glob("update-*") if path.is_dir())

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return (self.checkpoints() or [None])[-1]  # type: ignore[list-item]

    def save(
        self,
        info: CheckpointInfo,
        weights: dict[str, np.ndarray],
        tables: Tables,
        save_algorithm: Callable[[Path], Any],
        standings: dict[str, Any] | None = None,
    ) -> Path:
        """Adds a checkpoint and drops the oldest beyond `checkpoint.keep`.

        weights: the network's state dict. tables: what its rows and columns stand for (`AgentNetwork.tables`).
        save_algorithm: writes the rest into the folder that it is given. standings: of the league, in self-play
        (`agents.league.league.League.standings`).
        """
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover)
        final = folder / f"update-{info.updates:08d}"
        if final.exists():
            return final
        draft = folder / _draft(final.name)
        draft.mkdir()
        save_file(
            {name: np.ascontiguousarray(array) for name, array in weights.items()},
            draft / WEIGHTS_FILE,
            metadata={_VOCABULARY: json.dumps(tables_to_json(tables))},
        )
        (draft / "checkpoint.json").write_text(json.dumps({"format": FORMAT} | asdict(info)))
        if standings is not None:
            (draft / LEAGUE_FILE).write_text(json.dumps(standings))
        save_algorithm(draft / "algorithm")
        _sync_tree(draft)
        os.rename(draft, final)
        _sync(folder)
        for old in self.checkpoints()[: -self.config.checkpoint.keep]:
            # Hidden first, so that a half-deleted folder never looks like a checkpoint.
            hidden = old.rename(folder / _draft(old.name))
            shutil.rmtree(hidden)
        return final


def read_info(checkpoint: Path) -> CheckpointInfo:
    """Where training stood at `checkpoint`."""
    values = upgrade_info(json.loads((checkpoint / "checkpoint.json").read_text()))
    return CheckpointInfo(**{name: values[name] for name in CheckpointInfo.__dataclass_fields__})


def read_standings(checkpoint: Path) -> dict[str, Any] | None:
    """The league's standings at `checkpoint`; None without self-play."""
    file = checkpoint / LEAGUE_FILE
    return json.loads(file.read_text()) if file.exists() else None


def read_weights(file: Path) -> tuple[dict[str, np.ndarray], Tables]:
    """The arrays of a weights file, and the tables that their rows and columns stand for.

    A file without tables is one of an earlier version, which had `EARLIER_TABLES`.
    """
    try:
        with safe_open(file, framework="numpy") as content:
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  (not a dict)
            stored = (content.metadata() or {}).get(_VOCABULARY)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read weights from {file}: {error}") from error
    return weights, EARLIER_TABLES if stored is None else tables_from_json(json.loads(stored))


def load_weights(path: Path, network: AgentNetwork) -> None:
    """Loads `weights.safetensors` of a checkpoint, or such a file, into `network`, whatever order its tables were in.

    Raises `ConfigError` if it is of another architecture, naming the first tensor that differs, and for entries of
    tables that are gone (`agents.models.vocabulary`).
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    weights, tables = read_weights(file)
    weights = map_weights(weights, tables, network.named_axes(), str(file))
    expected = network.state_dict()
    for name in sorted(set(weights) | set(expected)):
        found = tuple(weights[name].shape) if name in weights else None
        wanted = tuple(expected[name].shape) if name in expected else None
        if found != wanted:
            raise ConfigError(
                f"{file} is of another architecture: tensor {name!r} has shape {found} there and {wanted} in the "
                "configured network (None: absent). Set the --network options to those of the run that wrote it."
            )
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})


def _draft(name: str) -> str:
    """What a file or folder is called while it is not complete."""
    return f".{name}"


def _write_durably(path: Path, data: bytes) -> None:
    draft = path.with_name(_draft(path.name))
    draft.write_bytes(data)
    _sync(draft)
    os.rename(draft, path)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    """Waits until the file, or the folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
