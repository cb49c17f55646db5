"""Configs: every field says what it does, and every field does something."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents
from agents.clone import CloneConfig, RecordConfig
from agents.configuration import ConfigError, config_from_dict, config_to_dict
from agents.evaluate import EvaluateArguments
from agents.presets import AgentTrainingConfig
from agents.runs.earlier import upgrade_config

COMMANDS = (AgentTrainingConfig, EvaluateArguments, RecordConfig, CloneConfig)


def config_classes(cls: type, seen: set[type] | None = None) -> Iterator[type]:
    """The config and those of its fields, each once."""
    seen = set() if seen is None else seen
    if cls in seen:
        return
    seen.add(cls)
    yield cls
    for hint in typing.get_type_hints(cls).values():
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                yield from config_classes(part, seen)


ALL = list(dict.fromkeys(config for command in COMMANDS for config in config_classes(command)))


def documented_fields(cls: type) -> dict[str, str]:
    """The string below each field of a dataclass, which `--help` shows."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = value.value
    return found


def test_walk_finds_the_nested_configs() -> None:
    names = {cls.__name__ for cls in ALL}
    assert {"NetworkConfig", "VTraceConfig", "PPOConfig", "Schedule", "ImitationConfig", "SelfPlayConfig"} <= names


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_field_has_help(cls: type) -> None:
    documented = documented_fields(cls)
    silent = [field.name for field in dataclasses.fields(cls) if len(documented.get(field.name, "").strip()) < 4]
    assert not silent, f"{cls.__name__}: no docstring below {', '.join(silent)}"
    assert all(text.strip().endswith(".") for text in documented.values())


def test_help_shows_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    from agents.train import main

    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Width of every layer." in said and "Weight of the upgoing policy update" in said


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_field_is_read_somewhere(cls: type) -> None:
    """An option that nothing reads does nothing."""
    read = set()
    for path in Path(agents.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    assert not {field.name for field in dataclasses.fields(cls)} - read


def test_configs_of_format_2_load() -> None:
    """The lambdas had one name, and the losses had entropy weights that nothing read."""
    values = config_to_dict(AgentTrainingConfig())
    earlier = dict(values, learning=dict(values["learning"]))
    for section, name in (("vtrace", "trace_lambda"), ("ppo", "gae_lambda")):
        part = dict(values["learning"][section])
        part["lam"] = {"vtrace": 0.5, "ppo": 0.6}[section]
        del part[name]
        earlier["learning"][section] = part | {"entropy_weight": 0.01}
    with pytest.raises(ConfigError, match="has no field"):
        config_from_dict(AgentTrainingConfig, earlier)
    config = config_from_dict(AgentTrainingConfig, upgrade_config(earlier))
    assert (config.learning.vtrace.trace_lambda, config.learning.ppo.gae_lambda) == (0.5, 0.6)
