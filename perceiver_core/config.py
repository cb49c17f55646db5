"""Configurations: frozen keyword-only dataclasses that nest, and travel as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")

_KNOWN: dict[str, type] = {}
_TYPE = "_type"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config_class(cls: type[T]) -> type[T]:
    """Class decorator: a frozen keyword-only dataclass that `from_json` can find by its qualified name."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    _KNOWN[cls.__qualname__] = cls
    return cls


def to_json(value: Any) -> Any:
    """A configuration as JSON values: an object per dataclass, which names its class."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {_TYPE: type(value).__qualname__, **fields}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any, source: str | Path) -> Any:
    """The configuration that `to_json` wrote.

    Args:
        value: JSON values.
        source: where they come from, for errors.

    Raises:
        ValueError: a class is unknown, or its fields do not fit.
    """
    if isinstance(value, list):
        return tuple(from_json(item, source) for item in value)
    if not isinstance(value, Mapping):
        return value
    fields = {key: from_json(item, source) for key, item in value.items() if key != _TYPE}
    if _TYPE not in value:
        return fields
    if value[_TYPE] not in _KNOWN:
        raise ValueError(f"{source}: unknown configuration {value[_TYPE]!r}; known: {', '.join(sorted(_KNOWN))}")
    try:
        return _KNOWN[value[_TYPE]](**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {value[_TYPE]}: {error}") from error
