"""Presets have the published sizes, and keep them when saved and loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from perceiver_core import EntityEncoder, Perceiver, PerceiverIO, presets
from tests.perceiver_core.test_laws import (
    MODELS,
    assert_same,
    clip,
    original_perceiver,
    small_autoencoder,
    small_entities,
)

PARAMETERS = {
    "multimodal_autoencoder": 19_858_855,
    "masked_language_model": 201_108_230,
    "sequence_classifier": 206_098_690,
    "optical_flow": 41_057_134,
    "image_classifier_learned": 62_255_848,
    "image_classifier_fourier": 48_440_627,
    "image_classifier_conv": 48_646_522,
    "perceiver_image_classifier": 44_912_254,  # paper: 44.9 M
    "autoregressive_language_model": 164_289_798,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = getattr(presets, name)()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_documented_parameters() -> None:
    """The table of the module says what the test above counts."""
    table = re.findall(r"^\| `(\w+)` \| .* \| ([\d,]+) \|$", presets.__doc__ or "", re.MULTILINE)
    assert {name: int(count.replace(",", "")) for name, count in table} == PARAMETERS


def test_autoencoder_sizes() -> None:
    with torch.device("meta"):
        model = presets.multimodal_autoencoder()
    assert (model.inputs.channels, model.inputs.length, model.queries.channels) == (704, 52_097, 1026)
    assert model.queries.count() == 804_737


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_models_are_the_same(name: str, tmp_path: Path) -> None:
    build, make = MODELS[name]
    model, inputs = build(), make()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = PerceiverIO.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    with torch.inference_mode():
        assert_same(loaded(inputs), model(inputs))


def test_other_models_save_and_load_too(tmp_path: Path) -> None:
    for model, cls in ((original_perceiver(), Perceiver), (small_entities(), EntityEncoder)):
        model.save_pretrained(tmp_path / cls.__name__)
        loaded = cls.from_pretrained(str(tmp_path / cls.__name__))
        inputs = torch.randn(2, 5, 7)
        assert_same(loaded(inputs), model.eval()(inputs))


def test_loaded_models_train(tmp_path: Path) -> None:
    small_autoencoder().save_pretrained(tmp_path)
    model = PerceiverIO.from_pretrained(tmp_path).train()
    sum(part.square().mean() for part in model(clip()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_half_precision_models_stay_so(tmp_path: Path) -> None:
    """Saved weights keep their type, and position tables, which are not saved, follow them."""
    model = small_autoencoder().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = PerceiverIO.from_pretrained(tmp_path)
    assert {t.dtype for t in (*loaded.parameters(), *loaded.buffers())} == {torch.bfloat16}
    outputs = loaded(clip())
    assert isinstance(outputs, dict) and all(part.dtype == torch.bfloat16 for part in outputs.values())


def test_loads_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub id is asked from huggingface_hub, here answered from a folder; nothing else is fetched."""
    small_entities().save_pretrained(tmp_path)
    asked = []

    def download(repository: str, filename: str, revision: str | None) -> str:
        asked.append((repository, filename, revision))
        return str(tmp_path / filename)

    monkeypatch.setattr("perceiver_core.hub.hf_hub_download", download)
    EntityEncoder.from_pretrained("someone/units", revision="v1")
    assert asked == [("someone/units", name, "v1") for name in ("config.json", "model.safetensors")]


def test_saved_configuration_is_readable(tmp_path: Path) -> None:
    small_entities().save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    assert data["library_name"] == "perceiver_core" and data["model"] == "EntityEncoder"
    assert data["config"]["encoder"]["num_latents"] == 5
