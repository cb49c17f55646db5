"""Configs as JSON: what a run folder stores, read back into the same frozen dataclasses."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from perceiver_agents.paths import absolute

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A setting that cannot work; raised before any process or Ray is started. The message says what to change."""


def absolute_scenario(scenario: str) -> str:
    """The name of a scenario as it is, or the absolute path of a scenario file."""
    return absolute(scenario) if scenario.endswith(".toml") else scenario


def check_shares(config: Any, *names: str) -> None:
    """Raises `ConfigError` unless the fields called `names` lie within 0 and 1."""
    for name in names:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ConfigError(f"{name} must lie within 0 and 1, not {getattr(config, name)}")


def check_at_least(config: Any, least: float, *names: str) -> None:
    """Raises `ConfigError` for a field among `names` that is less than `least` (None is not compared)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{name} must be at least {least:g}, not {value}")


def check_positive(config: Any, *names: str) -> None:
    """Raises `ConfigError` for a field among `names` that is not above 0 (None is not compared)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be above 0, not {value}")


def config_to_dict(config: Any) -> dict[str, Any]:
    """The dataclass as plain JSON values (paths become strings, tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def config_from_dict(cls: type[Config], values: dict[str, Any], where: str = "config") -> Config:
    """Builds the dataclass `cls` from `config_to_dict`'s output.

    Raises `ConfigError` for a key that `cls` does not have, naming the keys that it has.
    """
    hints = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise ConfigError(f"{where} has no field {unknown[0]!r}; its fields are {', '.join(sorted(names))}")
    return cls(**{name: _typed(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def with_overrides(config: Config, overrides: dict[str, Any]) -> Config:
    """`config` with dotted fields replaced, e.g. `{"learning.learning_rate": 1e-4}` (what Ray Tune samples)."""
    for dotted, value in overrides.items():
        config = _replace(config, dotted.split("."), value, dotted)
    return config


def _replace(config: Any, path: list[str], value: Any, dotted: str) -> Any:
    names = {field.name for field in dataclasses.fields(config)}
    if path[0] not in names:
        raise ConfigError(f"unknown field {dotted!r}: expected one of {', '.join(sorted(names))} at {path[0]!r}")
    if len(path) > 1:
        value = _replace(getattr(config, path[0]), path[1:], value, dotted)
    return dataclasses.replace(config, **{path[0]: value})


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (hint,) = [option for option in typing.get_args(hint) if option is not types.NoneType]
        return _typed(hint, value, where)
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast(type, hint), value, where)
    if origin is tuple:
        return tuple(_typed(typing.get_args(hint)[0], item, where) for item in value)
    return Path(value) if hint is Path else value
