"""Folded decoding gives what the model's own decoding gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perceiver_core import presets
from perceiver_core.attention import AttentionConfig
from perceiver_core.folding import fold_for_inference
from perceiver_core.model import EncoderConfig, PerceiverIO

SMALL = EncoderConfig(num_latents=6, latent_channels=8, num_self_attends=1, self_attention=AttentionConfig(num_heads=2))


def lively(model: PerceiverIO, dtype: torch.dtype = torch.float64) -> PerceiverIO:
    """Weights, biases and norms that all matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def autoencoder() -> PerceiverIO:
    return presets.multimodal_autoencoder(
        video=presets.VideoModality(num_frames=2, size=(8, 12), bands=3),
        audio=presets.AudioModality(num_samples=64, bands=5),
        label=presets.LabelModality(num_classes=7, query_channels=20),
        output_channels=16,
        encoder=SMALL,
    )


def largest_difference(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    assert ours.keys() == reference.keys()
    return max(float((ours[k] - reference[k]).abs().max() / reference[k].abs().max()) for k in reference)


@pytest.mark.parametrize("chunk_size", [7, 1024])
@pytest.mark.parametrize(
    "positions",
    [
        None,
        {"label": None},
        {"image": torch.arange(5, 150), "audio": None},
        {"image": torch.tensor([[3, 191, 0], [50, 50, 7]])},
    ],
    ids=["all", "label", "subset", "other places a sample"],
)
def test_autoencoder(positions: Any, chunk_size: int) -> None:
    model = lively(autoencoder())
    latents = torch.randn(2, 6, 8, dtype=torch.float64)
    with torch.no_grad():
        reference = model.decode(latents, positions)
    with torch.autocast("cpu", torch.bfloat16):  # changes nothing
        folded = fold_for_inference(model)(latents, positions, chunk_size=chunk_size)
    assert isinstance(reference, dict) and isinstance(folded, dict)
    assert {k: v.shape for k, v in folded.items()} == {k: v.shape for k, v in reference.items()}
    assert largest_difference(folded, reference) < 1e-12


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (torch.tensor([-1]), IndexError),
        (torch.tensor([192]), IndexError),
        (torch.tensor([0.5]), TypeError),
        (torch.zeros(3, 1, dtype=torch.long), ValueError),
        (torch.tensor(0), ValueError),
    ],
    ids=["negative", "beyond the grid", "floating", "other batch", "scalar"],
)
def test_wrong_positions_are_named(wrong: Tensor, error: type[Exception]) -> None:
    decode = fold_for_inference(lively(autoencoder()))
    with pytest.raises(error, match="`positions`"):
        decode(torch.randn(2, 6, 8, dtype=torch.float64), {"image": wrong})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_reduced_precision(dtype: torch.dtype, tolerance: float) -> None:
    model = lively(autoencoder(), torch.float32)
    latents = torch.randn(2, 6, 8)
    with torch.no_grad():
        reference = model.decode(latents)
    folded = fold_for_inference(model, dtype)(latents)
    assert isinstance(reference, dict) and isinstance(folded, dict)
    assert folded["image"].dtype == torch.float32
    assert largest_difference(folded, reference) < tolerance


def test_queries_from_the_inputs() -> None:
    model = lively(presets.optical_flow(image_size=(6, 8), encoder=SMALL))
    frames = torch.randn(2, 2, 3, 6, 8, dtype=torch.float64)
    latents = model.encode(frames)
    reference = model.decode(latents, inputs=frames)
    folded = fold_for_inference(model)(latents, tokens=model.tokens(frames))
    torch.testing.assert_close(folded, reference, rtol=1e-11, atol=1e-12)


def test_several_heads_and_tied_embeddings() -> None:
    model = lively(
        presets.masked_language_model(
            max_length=12,
            token_channels=24,
            encoder=SMALL,
            decoder_attention=AttentionConfig(num_heads=4, qk_channels=8, v_channels=24, query_residual=False),
        )
    )
    latents = torch.randn(2, 6, 8, dtype=torch.float64)
    for positions in (None, torch.tensor([4, 4, 0])):
        torch.testing.assert_close(
            fold_for_inference(model)(latents, positions), model.decode(latents, positions), rtol=1e-11, atol=1e-12
        )


def test_a_residual_of_the_queries_does_not_fold() -> None:
    model = presets.image_classifier_fourier(image_size=(8, 8), num_classes=3, encoder=SMALL)
    with pytest.raises(ValueError, match="query_residual"):
        fold_for_inference(model)


def test_an_output_adapter_that_is_not_affine_does_not_fold() -> None:
    model = autoencoder()
    model.outputs.adapters["image"].projection = nn.Sequential(nn.Linear(16, 3), nn.Tanh())  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="not affine"):
        fold_for_inference(model)


def test_folding_leaves_the_model_as_it_was() -> None:
    model = lively(autoencoder())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_for_inference(model, torch.bfloat16)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert all(parameter.requires_grad for parameter in model.parameters())
