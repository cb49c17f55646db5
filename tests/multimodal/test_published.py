from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multimodal.autoencoder.commands import PublishedConfig
from multimodal.autoencoder.model import preset, reconstruct
from multimodal.autoencoder.published import import_checkpoint, main
from multimodal.autoencoder.runs import load_model
from multimodal.common.errors import DataError
from tests.multimodal.test_training import random_batch
from tests.perceiver_core.huggingface import FULL, SMALL, Case, save_random


def case(cases: list[Case], name: str) -> Case:
    return next(one for one in cases if one.name == name)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    save_random(case(SMALL, "PerceiverForMaskedLM"), tmp_path / "text", seed=0)
    with pytest.raises(DataError, match=r"text is a PerceiverForMaskedLM; a video-audio-label run needs"):
        import_checkpoint(PublishedConfig(checkpoint=str(tmp_path / "text"), out=str(tmp_path / "run")))
    save_random(case(SMALL, "PerceiverForMultimodalAutoencoding"), tmp_path / "small", seed=0)
    with pytest.raises(DataError, match=r"has other sizes than the preset paper"):
        import_checkpoint(PublishedConfig(checkpoint=str(tmp_path / "small"), out=str(tmp_path / "run")))
    with pytest.raises(SystemExit, match="no folder"):
        main([str(tmp_path / "nothing"), "--out", str(tmp_path / "run")])
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    (tmp_path / "run" / "run.json").touch()
    with pytest.raises(DataError, match="holds a run already"):
        import_checkpoint(PublishedConfig(checkpoint=str(tmp_path / "small"), out=str(tmp_path / "run")))


@pytest.mark.slow
def test_a_published_size_checkpoint_reconstructs_as_in_transformers(tmp_path: Path) -> None:
    """A whole clip, against three chunks of the 128 of transformers' documented loop (random weights)."""
    theirs = save_random(case(FULL, "PerceiverForMultimodalAutoencoding"), tmp_path / "checkpoint", seed=0)
    main([str(tmp_path / "checkpoint"), "--out", str(tmp_path / "run")])
    model, info = load_model(tmp_path / "run")
    assert info.model == preset("paper") and len(info.classes) == 700
    batch = random_batch(1, sizes=info.model)
    result = reconstruct(model, info.model, batch)
    pixels = result["video"].permute(0, 1, 3, 4, 2).flatten(1, 3)
    patches = result["audio"].unflatten(1, (-1, 16))
    inputs = {
        "image": batch.video.float() / 255,
        "audio": batch.audio[..., None],
        "label": torch.zeros(1, 700),
    }
    for chunk in (0, 77, 127):
        image = torch.arange(chunk * 6_272, (chunk + 1) * 6_272)
        audio = torch.arange(chunk * 15, (chunk + 1) * 15)
        with torch.no_grad():
            points = {"image": image, "audio": audio, "label": None}
            logits = theirs(inputs=inputs, subsampled_output_points=points).logits
        expected = logits["image"].clamp(0, 1)
        assert float(((expected > 0) & (expected < 1)).float().mean()) > 0.05, "clamping would hide a difference"
        torch.testing.assert_close(pixels[:, image], expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            patches[:, audio].flatten(1), logits["audio"].flatten(1).clamp(-1, 1), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(result["label"], logits["label"], atol=1e-4, rtol=1e-4)
