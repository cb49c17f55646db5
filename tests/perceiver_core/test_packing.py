"""Packed entity sets: the same outputs and gradients as padded ones, for less work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perceiver_core import entities
from perceiver_core.accelerated import packing
from perceiver_core.entities import EntityEncoder, EntityEncoding
from perceiver_core.presets import entity_encoder


def mask_of(lengths: list[int], slots: int) -> Tensor:
    """Valid slots anywhere in each row."""
    torch.manual_seed(len(lengths))
    return torch.rand(len(lengths), slots).argsort(1) < torch.tensor(lengths)[:, None]


lengths_of_samples = st.lists(st.integers(0, 24), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lengths_of_samples, st.integers(1, 30))
def test_every_valid_element_is_in_one_group_and_comes_back_to_its_place(lengths: list[int], group_cost: int) -> None:
    mask = mask_of(lengths, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "GROUP_COST", group_cost)
        packed = packing.pack(mask, channels=1)
    assert packed is not None
    values = torch.arange(1.0, mask.numel() + 1).view(*mask.shape, 1)
    gathered = [group.gather(values) for group in packed.groups]
    assert torch.equal(packed.scatter(gathered), values * mask[..., None])
    assert torch.equal(torch.cat([g[g > 0] for g in gathered]).sort().values, values[mask].flatten())
    counts = [(part > 0).sum(dim=(1, 2)) for part in gathered]
    assert torch.equal(packed.unsort(counts), mask.sum(1))
    for part in gathered:
        padding = part.shape[0] * max(part.shape[1], 1) - int((part > 0).sum())
        # A group's padding stays under the cost of a group; one empty slot stands for a set without elements.
        assert padding <= group_cost + int((part > 0).sum(dim=(1, 2)).eq(0).sum())


def test_nothing_is_packed_where_it_does_not_pay() -> None:
    assert packing.pack(torch.ones(8, 16, dtype=torch.bool), 8) is None
    assert packing.pack(torch.zeros(0, 16, dtype=torch.bool), 8) is None
    assert packing.pack(mask_of([2] * 8, 16), 8) is not None


@pytest.fixture
def encoder() -> EntityEncoder:
    torch.manual_seed(0)
    module = entity_encoder(5, num_latents=4, latent_channels=8, num_self_attends=1, num_heads=2, output_channels=3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()


def padded(module: EntityEncoder, values: Tensor, mask: Tensor) -> EntityEncoding:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entities, "pack", lambda mask, channels: None)
        return module(values, mask)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(lengths_of_samples)
def test_a_packed_encoder_is_the_padded_one(lengths: list[int]) -> None:
    torch.manual_seed(0)
    module = entity_encoder(5, num_latents=4, latent_channels=8, num_self_attends=1, num_heads=2, output_channels=3)
    module = module.double()
    mask = mask_of(lengths, 40)
    values = torch.randn(*mask.shape, 5, dtype=torch.float64)
    values[~mask] = torch.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "GROUP_COST", 8 * 8)
        assert packing.pack(mask, 8) is not None
        fast = module(values, mask)
    clear = padded(module, values, mask)
    torch.testing.assert_close(fast.per_entity, clear.per_entity, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(fast.latents, clear.latents, rtol=1e-11, atol=1e-12)
    assert not fast.per_entity[~mask].any()


def test_wide_elements_are_cut_into_more_groups() -> None:
    mask = mask_of([30] * 20 + [10] * 20, 40)
    for channels, groups in ((64, 1), (256, 2)):
        packed = packing.pack(mask, channels)
        assert (1 if packed is None else len(packed.groups)) == groups


def test_gradients_go_through_the_packing(encoder: EntityEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "GROUP_COST", 6 * 8)
    mask = mask_of([3, 0, 7, 5, 1, 12, 5, 5, 2], 20)
    values = torch.randn(*mask.shape, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for out in (encoder(values, mask), padded(encoder, values, mask)):
        loss = out.per_entity.sin().sum() + out.latents.cos().sum()
        found.append(torch.autograd.grad(loss, [values, *encoder.parameters()]))
    for fast, clear in zip(*found, strict=True):
        torch.testing.assert_close(fast, clear, rtol=1e-10, atol=1e-11)
    assert not found[0][0][~mask].any()


def test_packed_sets_cost_what_their_elements_cost(encoder: EntityEncoder) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def operations(compute) -> int:  # type: ignore[no-untyped-def]
        with FlopCounterMode(display=False) as counter:
            compute()
        return counter.get_total_flops()

    mask = mask_of([60] * 16, 512)
    values = torch.randn(16, 512, 5, dtype=torch.float64)
    assert operations(lambda: encoder(values, mask)) < 0.2 * operations(lambda: padded(encoder, values, mask))
