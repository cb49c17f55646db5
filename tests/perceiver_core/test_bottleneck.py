"""A code narrower than the latents: its size, what it holds, and that decoding needs nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perceiver_core import presets
from perceiver_core.attention import AttentionConfig
from perceiver_core.bottleneck import BottleneckConfig
from perceiver_core.folding import fold_for_inference
from perceiver_core.model import EncoderConfig, PerceiverIO

ATTENTION = AttentionConfig(num_heads=2)


def autoencoder() -> PerceiverIO:
    torch.manual_seed(0)
    return presets.multimodal_autoencoder(
        video=presets.VideoModality(num_frames=2, size=(8, 12), query_patch=(4, 4), bands=3),
        audio=presets.AudioModality(num_samples=64, bands=2, resolution=4),
        label=presets.LabelModality(num_classes=7, query_channels=20),
        query_channels=32,
        output_channels=16,
        encoder=EncoderConfig(num_latents=6, latent_channels=8, num_self_attends=1, self_attention=ATTENTION),
        bottleneck=BottleneckConfig(channels=3, num_self_attends=1, self_attention=ATTENTION),
        decoder_attention=AttentionConfig(num_heads=2, query_residual=False),
    ).eval()


def clips() -> dict[str, torch.Tensor]:
    return {"image": torch.rand(2, 2, 3, 8, 12), "audio": torch.rand(2, 64), "label": torch.tensor([1, 4])}


def test_the_code_is_all_that_is_decoded(tmp_path: Path) -> None:
    model, inputs = autoencoder(), clips()
    code = model.encode(inputs)
    assert code.shape == (2, 6, 3)
    outputs = model.decode(code)
    assert isinstance(outputs, dict)
    assert {name: tuple(part.shape) for name, part in outputs.items()} == {
        "audio": (2, 64),
        "image": (2, 2, 3, 8, 12),
        "label": (2, 7),
    }
    assert model.queries.channels == 32
    whole = model(inputs)
    torch.testing.assert_close(whole, outputs)
    # The first patch of the second row of patches: rows 4 to 7, columns 0 to 3.
    part = model.decode(code, {"image": torch.tensor([3])})
    assert isinstance(part, dict)
    expected = outputs["image"][:, 0, :, 4:8, 0:4].movedim(1, -1).flatten(1)
    torch.testing.assert_close(part["image"][:, 0], expected)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(PerceiverIO.from_pretrained(tmp_path)(inputs), outputs)


def test_folded_decoding_takes_the_code() -> None:
    model = autoencoder().double()
    code = torch.randn(2, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(fold_for_inference(model)(code), model.decode(code), rtol=1e-9, atol=1e-9)


def test_every_parameter_is_trained() -> None:
    model = autoencoder().train()
    outputs = model(clips())
    sum(part.square().sum() for part in outputs.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`code` must be .*C = 3, got C = 8"):
        autoencoder().decode(torch.zeros(2, 6, 8))
    with pytest.raises(ValueError, match="`num_self_attends` must be at least 0, got -1"):
        BottleneckConfig(channels=3, num_self_attends=-1)
    with pytest.raises(ValueError, match="`size` = \\(224, 224\\) must be a multiple of `query_patch` = \\(5, 4\\)"):
        presets.VideoModality(query_patch=(5, 4))
    with pytest.raises(ValueError, match="`query_channels` = 64 must exceed the widest modality's query, 1024"):
        presets.multimodal_autoencoder(query_channels=64)
