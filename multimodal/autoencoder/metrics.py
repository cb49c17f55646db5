"""Measures of reconstructed clips. Higher is better, except for the spectral distance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Full scale of the signals: pixels in [0, 1], sound in [-1, 1].
VIDEO_PEAK = 1.0
AUDIO_PEAK = 2.0
# A perfect reconstruction would be infinite and spoil every mean; 100 dB is beyond 16-bit sound.
MAX_PSNR = 100.0


def psnr(estimate: Tensor, truth: Tensor, peak: float) -> Tensor:
    """Peak signal-to-noise ratio in dB of each clip, `10 log10(peak^2 / mean squared error)`, at most 100.

    Args:
        estimate, truth: `[B, ...]`.
        peak: range of the signal, `VIDEO_PEAK` or `AUDIO_PEAK`.

    Returns:
        `[B]`.
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate has shape {list(estimate.shape)} and truth {list(truth.shape)}; they must agree")
    error = (estimate.double() - truth.double()).square().flatten(1).mean(dim=1)
    return (10 * torch.log10(peak**2 / error.clamp(min=peak**2 * 10 ** (-MAX_PSNR / 10)))).float()


def ssim(estimate: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each clip: mean over frames, colours and places.

    A Gaussian window of 11 x 11 pixels with standard deviation 1.5 (smaller where a frame is), K1 0.01 and K2 0.03,
    only windows that lie wholly inside the frame.

    Args:
        estimate, truth: `[B, T, C, H, W]` in [0, 1].

    Returns:
        `[B]`.
    """
    if estimate.shape != truth.shape or estimate.dim() != 5:
        raise ValueError(f"need two tensors [B, T, C, H, W], got {list(estimate.shape)} and {list(truth.shape)}")
    batch, height, width = estimate.shape[0], *estimate.shape[-2:]
    size = min(11, height, width)
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-(offsets**2) / (2 * 1.5**2)).to(estimate.device)
    window = window / window.sum()

    def blur(images: Tensor) -> Tensor:
        rows = F.conv2d(images, window[None, None, :, None])
        return F.conv2d(rows, window[None, None, None, :])

    x = estimate.double().reshape(-1, 1, height, width)
    y = truth.double().reshape(-1, 1, height, width)
    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x.square()
    variance_y = blur(y * y) - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    )
    return similarity.reshape(batch, -1).mean(dim=1).float()


def spectral_distance(estimate: Tensor, truth: Tensor) -> Tensor:
    """Multi-scale spectral distance (Engel et al. 2020, DDSP, equation 4) of each clip.

    The sum over FFT sizes 2048, 1024, 512, 256, 128 and 64 (those not longer than the clip) of the mean absolute
    difference of magnitudes and of their logarithms; hops of a quarter of the size, magnitudes relative to a full-scale
    sine, floor 1e-5 (-100 dB) in the logarithm.

    Args:
        estimate, truth: `[B, S]` in [-1, 1].

    Returns:
        `[B]`, 0 for equal magnitudes.
    """
    if estimate.shape != truth.shape or estimate.dim() != 2:
        raise ValueError(f"need two tensors [B, S], got {list(estimate.shape)} and {list(truth.shape)}")
    total = torch.zeros(len(estimate), device=estimate.device)
    for size in (2048, 1024, 512, 256, 128, 64):
        if size > estimate.shape[1]:
            continue
        window = torch.hann_window(size, device=estimate.device)
        spectra = [
            torch.stft(
                signal.float(), size, hop_length=size // 4, window=window, center=False, return_complex=True
            ).abs()
            * (2 / window.sum())
            for signal in (estimate, truth)
        ]
        difference = (spectra[0] - spectra[1]).abs().flatten(1).mean(dim=1)
        logs = [spectrum.clamp(min=1e-5).log() for spectrum in spectra]
        total = total + difference + (logs[0] - logs[1]).abs().flatten(1).mean(dim=1)
    return total


def spectral_convergence(estimate: Tensor, truth: Tensor) -> Tensor:
    """Distance of magnitude spectra relative to the truth's (Arik et al. 2018, equation 3) of each clip.

    `||S - S'|| / ||S||` over windows of 512 samples (shorter where a clip is), hops of a quarter. Silence has 1,
    whatever the truth; so a reconstruction above 1 is worse than none.

    Args:
        estimate, truth: `[B, S]` in [-1, 1].

    Returns:
        `[B]`, 0 for equal magnitudes; NaN where the truth is silent.
    """
    if estimate.shape != truth.shape or estimate.dim() != 2:
        raise ValueError(f"need two tensors [B, S], got {list(estimate.shape)} and {list(truth.shape)}")
    size = min(512, estimate.shape[1])
    window = torch.hann_window(size, device=estimate.device)
    magnitudes = [
        torch.stft(signal.float(), size, hop_length=max(1, size // 4), window=window, return_complex=True).abs()
        for signal in (estimate, truth)
    ]
    error = (magnitudes[0] - magnitudes[1]).flatten(1).norm(dim=1)
    size_of_truth = magnitudes[1].flatten(1).norm(dim=1)
    return torch.where(size_of_truth > 1e-4, error / size_of_truth, math.nan)


def top_k(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether the true class is among the `k` likeliest, bool `[B]`; always, where there are no more than `k`."""
    return (logits.topk(min(k, logits.shape[1]), dim=1).indices == labels[:, None]).any(dim=1)


def mean_psnr(values: Tensor) -> float:
    """Mean over clips of their PSNR in dB; NaN for none."""
    return float(values.mean()) if len(values) else math.nan
