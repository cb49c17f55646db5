"""`run.json` of version 0.1 brought to today's form: its sizes and loss were flat lists for video, audio and label."""

from __future__ import annotations

from typing import Any

_SIZES = {
    "video": {
        "patch": "image_patch",
        "query_patch": "image_query_patch",
        "bands": "image_bands",
        "resolution": "image_resolution",
        "mean": "pixel_mean",
        "deviation": "pixel_deviation",
    },
    "audio": {
        "samples_per_patch": "samples_per_patch",
        "bands": "audio_bands",
        "resolution": "audio_resolution",
        "deviation": "sample_deviation",
    },
    "label": {"query_channels": "label_query_channels"},
}


def sizes(model: dict[str, Any]) -> dict[str, Any]:
    """The part "model"."""
    rest = dict(model)
    modalities = {
        name: {"name": name} | {new: rest.pop(old) for new, old in fields.items() if old in rest}
        for name, fields in _SIZES.items()
    }
    return rest | {"modalities": modalities}


def training(settings: dict[str, Any]) -> dict[str, Any]:
    """The part "training"."""
    if "loss" not in settings:  # taken over from a published checkpoint
        return settings
    loss = settings["loss"]
    terms: dict[str, dict[str, Any]] = {
        name: {"weight": loss[f"{name}_weight"], "hide": loss[f"hide_{name}"]} for name in _SIZES
    }
    for name in ("video", "audio"):
        terms[name] |= {"queries": loss[f"{name}_queries"], "error": loss["error"]}
    return settings | {"loss": terms}
