"""Run folders of format 2: what was called otherwise there.

Weights of that format name no tables; `agents.models.earlier_vocabulary` has those of the time.
"""

from typing import Any

EARLIER_FORMAT = 2


def upgrade_config(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a `config.json` of format 2, with the fields of today."""
    learning = values.get("learning", {})
    upgraded = dict(learning)
    for section, name in (("vtrace", "trace_lambda"), ("ppo", "gae_lambda")):
        if section in learning:
            upgraded[section] = _renamed(learning[section], {"lam": name})
            # `learning.entropy_weight` had taken its place.
            upgraded[section].pop("entropy_weight", None)
    return values | ({"learning": upgraded} if learning else {})


def upgrade_info(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a `checkpoint.json`, or the counters of a checkpoint, with the names of today."""
    return _renamed(values, {"processor_seconds": "cpu_seconds"})


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
