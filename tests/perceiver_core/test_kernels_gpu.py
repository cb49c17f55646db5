"""Attention on a GPU in half precision, against float32."""

from __future__ import annotations

import pytest
import torch

from perceiver_core.accelerated.kernels import attend


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("value_width", [16, 32, 160])
def test_values_of_any_width_in_half_precision(value_width: int, masked: bool) -> None:
    torch.manual_seed(0)
    shapes = (2, 4, 7, 32), (2, 4, 11, 32), (2, 4, 11, value_width)
    exact = [torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes]
    half = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    mask = torch.rand(2, 11, device="cuda") < 0.7 if masked else None
    expected, out = attend(*exact, mask), attend(*half, mask)
    torch.testing.assert_close(out.float(), expected, atol=0.03, rtol=0.03)
    (gradients, exact_gradients) = (
        torch.autograd.grad(result.float().square().sum(), tensors)
        for result, tensors in ((out, half), (expected, exact))
    )
    for gradient, exact_gradient in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(gradient.float(), exact_gradient, atol=0.2, rtol=0.1)
