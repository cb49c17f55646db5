"""Every path of every command line is made absolute where it enters, in configs made in Python too."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.clone import CloneConfig, RecordConfig
from agents.evaluate import EvaluateArguments
from agents.presets import AgentTrainingConfig, EvaluationConfig, WorldConfig
from agents.train import parse
from envs.gallery import Gallery
from envs.pysc2.calibration import Calibration
from envs.scenarios.scenario import SCENARIO_FOLDER, load_scenario
from examples.train_digits import DigitsConfig
from multimodal.autoencoder.commands import CompressionConfig, EvaluateConfig, PublishedConfig, ReconstructConfig
from multimodal.autoencoder.settings import AutoencoderTrainingConfig
from multimodal.clips.settings import CacheConfig
from perceiver_agents.paths import absolute, absolute_if_folder

# A maker of a config, and its fields that are paths.
CONFIGS: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (AutoencoderTrainingConfig, ("out", "data", "start_from")),
    (CacheConfig, ("folder",)),
    (EvaluateConfig, ("run", "data", "out")),
    (ReconstructConfig, ("run", "clip", "out")),
    (CompressionConfig, ("runs", "data", "out")),
    (PublishedConfig, ("checkpoint", "out")),
    (AgentTrainingConfig, ("run", "initial_weights")),
    (EvaluateArguments, ("run", "checkpoint")),
    (RecordConfig, ("folder", "player")),
    (CloneConfig, ("recording", "run")),
    (WorldConfig, ("scenario",)),
    (EvaluationConfig, ("scenarios",)),
    (Gallery, ("out",)),
    (Calibration, ("recorded", "out")),
    (DigitsConfig, ("out",)),
]
OTHERS = {CacheConfig: {"max_bytes": 1}}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that is the current one too, with a folder `place` and a scenario in it."""
    (tmp_path / "place" / "mine.toml").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("start", ["", "~/", "place/../"])
@pytest.mark.parametrize(("config", "names"), CONFIGS, ids=lambda value: getattr(value, "__name__", ""))
def test_paths_of_configs_become_absolute(
    config: Callable[..., Any], names: tuple[str, ...], start: str, folders: Path
) -> None:
    hints = typing.get_type_hints(config)
    values, expected = {}, {}
    for name in names:
        typed = f"{start}place/mine.toml"
        text = str(hints[name])
        kind: Callable[[str], Any] = Path if "Path" in text else str
        values[name], expected[name] = kind(typed), kind(str(folders / "place" / "mine.toml"))
        if "tuple" in text:
            values[name], expected[name] = (values[name],), (expected[name],)
    made = config(**values, **OTHERS.get(config, {}))  # type: ignore[arg-type]
    assert {name: getattr(made, name) for name in names} == expected


@pytest.mark.parametrize("config", [config for config, _ in CONFIGS], ids=lambda value: value.__name__)
def test_no_path_field_is_forgotten(config: Any) -> None:
    hints = typing.get_type_hints(config)
    paths = {field.name for field in dataclasses.fields(config) if "Path" in str(hints[field.name])}
    assert paths <= set(dict(CONFIGS)[config])


def test_a_resumed_run_is_found_at_home(folders: Path) -> None:
    from agents.runs.checkpoints import RunFolder

    RunFolder.create(folders / "place" / "run", AgentTrainingConfig())
    config, resumed = parse(["--resume=~/place/run"])
    assert resumed and config.run == folders / "place" / "run"


def test_names_that_are_no_paths_stay() -> None:
    assert WorldConfig(scenario="3m").scenario == "3m"
    assert WorldConfig(scenario="package.module:factory").scenario == "package.module:factory"
    assert PublishedConfig(checkpoint="deepmind/multimodal-perceiver", out="x").checkpoint.startswith("deepmind/")
    assert RecordConfig(folder=Path("x"), player="kite").player == "kite"
    assert absolute_if_folder("~/nothing") == "~/nothing"


def test_a_scenario_file_is_found_at_home(folders: Path) -> None:
    (folders / "mine.toml").write_text((SCENARIO_FOLDER / "3m.toml").read_text())
    assert load_scenario("~/mine.toml").teams == load_scenario("3m").teams


def test_up_from_a_symbolic_link_leads_where_the_system_goes(folders: Path) -> None:
    (folders / "far" / "away").mkdir(parents=True)
    (folders / "link").symlink_to(folders / "far" / "away")
    (folders / "far" / "file").touch()
    assert absolute("link/../file") == str(folders / "far" / "file")
    assert absolute(Path("link")) == folders / "link"
