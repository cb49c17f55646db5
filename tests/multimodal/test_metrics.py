from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.autoencoder.metrics import (
    AUDIO_PEAK,
    VIDEO_PEAK,
    psnr,
    spectral_convergence,
    spectral_distance,
    ssim,
    top_k,
)
from multimodal.autoencoder.pca import ClipPCA


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_by_hand() -> None:
    truth = torch.zeros(2, 3, 4)
    estimate = torch.stack([torch.full((3, 4), 0.1), torch.zeros(3, 4)])
    torch.testing.assert_close(psnr(estimate, truth, VIDEO_PEAK), torch.tensor([20.0, 100.0]))
    torch.testing.assert_close(
        psnr(estimate, truth, AUDIO_PEAK)[:1], torch.tensor([20 + 20 * math.log10(2)]), rtol=1e-5, atol=1e-4
    )
    with pytest.raises(ValueError, match="must agree"):
        psnr(truth, truth[:1], VIDEO_PEAK)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(scale=st.floats(0.01, 0.2), seed=st.integers(0, 100))
def test_psnr_falls_by_six_decibels_as_the_error_doubles(scale: float, seed: int) -> None:
    truth, error = noise(1, 50, seed=seed), noise(1, 50, seed=seed + 1) - 0.5
    near, far = psnr(truth + scale * error, truth, 1.0), psnr(truth + 2 * scale * error, truth, 1.0)
    assert float(near - far) == pytest.approx(20 * math.log10(2), abs=1e-3)


def ssim_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, window by window, for one image."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * cov + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    return float(np.mean(values))


def test_ssim_is_its_definition() -> None:
    truth, other = noise(1, 1, 1, 16, 14), noise(1, 1, 1, 16, 14, seed=1)
    estimate = 0.7 * truth + 0.3 * other
    expected = ssim_by_loops(estimate[0, 0, 0].double().numpy(), truth[0, 0, 0].double().numpy())
    assert float(ssim(estimate, truth)) == pytest.approx(expected, abs=1e-6)
    assert float(ssim(truth, truth)) == pytest.approx(1.0)
    assert ssim(noise(3, 2, 3, 8, 8), noise(3, 2, 3, 8, 8, seed=2)).shape == (3,)


def test_spectral_distance_knows_pitch_and_ignores_phase() -> None:
    times = torch.arange(8_000) / 8_000
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * times)[None]
    shifted = 0.5 * torch.cos(2 * torch.pi * 440 * times)[None]
    higher = 0.5 * torch.sin(2 * torch.pi * 660 * times)[None]
    assert float(spectral_distance(tone, tone)) == 0
    assert float(spectral_distance(tone, shifted)) < 0.3 * float(spectral_distance(tone, higher))
    assert float(spectral_distance(tone, higher)) == pytest.approx(float(spectral_distance(higher, tone)), rel=1e-5)
    assert spectral_distance(tone[:, :100], higher[:, :100]).shape == (1,)


def test_top_k() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    labels = torch.tensor([2, 1])
    assert top_k(logits, labels, 1).tolist() == [False, False]
    assert top_k(logits, labels, 2).tolist() == [True, False]
    assert top_k(logits, labels, 5).tolist() == [True, True]


def test_pca_is_the_best_linear_code() -> None:
    clips = {"video": noise(12, 2, 3, 4, 4), "audio": noise(12, 10, seed=3) - 0.5}
    model = ClipPCA.fit(clips, 5)
    torch.testing.assert_close(model.components @ model.components.T, torch.eye(5), atol=1e-4, rtol=0)
    rows = torch.cat([signal.flatten(1) * model.scales[name] for name, signal in clips.items()], dim=1)
    centred = (rows - rows.mean(0)).double()
    left = centred - (centred @ model.components.T.double()) @ model.components.double()
    spectrum = torch.linalg.svdvals(centred)
    assert float(left.square().sum()) == pytest.approx(float(spectrum[5:].square().sum()), rel=1e-4)
    # Both modalities carry the same total variance.
    assert float(centred[:, :96].square().sum()) == pytest.approx(float(centred[:, 96:].square().sum()), rel=1e-4)


def test_pca_of_each_modality_by_itself() -> None:
    clips = {"video": noise(12, 2, 3, 4, 4), "audio": noise(12, 10, seed=3) - 0.5}
    apart = ClipPCA.fit(clips, 4, joint=False)
    assert apart.components.shape == (8, 106)
    assert not apart.components[:4, 96:].any() and not apart.components[4:, :96].any()
    pictures_alone, sound_alone = apart.keep(range(4)), apart.keep(range(4, 8))
    decoded = sound_alone.decode(sound_alone.encode(clips))
    flat = clips["video"].mean(0).expand_as(clips["video"])
    torch.testing.assert_close(decoded["video"], flat, atol=1e-4, rtol=0)
    left = (decoded["audio"] - clips["audio"]).square().sum()
    centred = (clips["audio"] - clips["audio"].mean(0)).double()
    assert float(left) == pytest.approx(float(torch.linalg.svdvals(centred)[4:].square().sum()), rel=1e-3)
    assert pictures_alone.encode(clips).shape == (12, 4)


def test_pca_with_all_components_gives_the_clips_back() -> None:
    clips = {"video": noise(6, 2, 3, 4, 4), "audio": noise(6, 10, seed=3) - 0.5}
    model = ClipPCA.fit(clips, 5)
    code = model.encode(clips)
    assert code.shape == (6, 5)
    again = model.decode(code)
    torch.testing.assert_close(again, clips, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="6 clips give at most 5 principal components"):
        ClipPCA.fit(clips, 6)


def test_silence_has_spectral_convergence_one_and_the_truth_zero() -> None:
    truth = torch.randn(3, 2_000, generator=torch.Generator().manual_seed(0)) * 0.1
    truth[2] = 0
    silent = spectral_convergence(torch.zeros_like(truth), truth)
    torch.testing.assert_close(silent[:2], torch.ones(2))
    assert math.isnan(float(silent[2])), "of a silent truth nothing can be said"
    assert float(spectral_convergence(truth, truth)[0]) == 0
    short = spectral_convergence(truth[:, :100], truth[:, :100])
    assert float(short[0]) == 0
    assert float(spectral_convergence(2 * truth, truth)[0]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="need two tensors"):
        spectral_convergence(truth, truth[:1])
