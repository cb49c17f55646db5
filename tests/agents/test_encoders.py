"""Laws that every entity encoder keeps: order, padding, dead slots; and the embedding's use of its columns."""

import dataclasses

import pytest
import torch

from agents.models.encoders import ENCODERS, EntityEmbedding, build_encoder
from benchmarks.encoders import count_flops, make_encoder
from tests.agents.synthetic import FEATURES, VOCABULARY, observations

CHANNELS = 16


def make(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_encoder(name, CHANNELS, num_heads=2, num_layers=2, num_latents=4)


def scene(batch: int = 4, entities: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(batch, entities, generator=generator) < 0.6
    mask[0], mask[1] = True, False
    mask[2] = torch.arange(entities) == 3
    return torch.randn(batch, entities, CHANNELS, generator=generator), mask


@pytest.mark.parametrize("name", ENCODERS)
def test_shuffled_entities_give_shuffled_outputs_and_the_same_summary(name: str) -> None:
    encoder, (x, mask) = make(name), scene()
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))
    plain, shuffled = encoder(x, mask), encoder(x[:, order], mask[:, order])
    torch.testing.assert_close(shuffled.per_entity, plain.per_entity[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shuffled.summary, plain.summary, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_what_masked_slots_hold_and_how_many_there_are_changes_nothing(name: str) -> None:
    encoder, (x, mask) = make(name), scene()
    plain = encoder(x, mask)
    padded = torch.cat([torch.where(mask[..., None], x, 1e3), torch.full((4, 5, CHANNELS), -7.0)], dim=1)
    more = encoder(padded, torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(more.per_entity[:, :9], plain.per_entity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(more.summary, plain.summary, atol=1e-5, rtol=1e-5)
    assert torch.equal(plain.per_entity[~mask], torch.zeros_like(plain.per_entity[~mask]))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_entity_sees_the_others_and_an_empty_scene_is_finite(name: str) -> None:
    encoder, (x, mask) = make(name), scene()
    x.requires_grad_()
    out = encoder(x, mask)
    assert out.per_entity.isfinite().all() and out.summary.isfinite().all()
    (gradient,) = torch.autograd.grad(out.per_entity[0, 0].square().sum() + out.summary[1].sum(), x)
    assert gradient.isfinite().all()
    assert (gradient[0].abs().sum(-1) > 0).all()


def test_unknown_encoder_is_named() -> None:
    with pytest.raises(ValueError, match=r"'lstm'.*perceiver_io"):
        build_encoder("lstm", CHANNELS, num_heads=2, num_layers=1, num_latents=4)


def test_embedding_tells_types_apart_and_shares_one_row_for_unknown_types() -> None:
    torch.manual_seed(0)
    embedding = EntityEmbedding(VOCABULARY.entities, CHANNELS)
    entities = torch.zeros(5, 1, len(FEATURES))
    entities[:, 0, 0] = torch.tensor([48.0, 54.0, 7.0, 9.0, 100_000.0])
    embedded = embedding(entities, torch.ones(5, 1, dtype=torch.bool))[:, 0]
    assert not torch.allclose(embedded[0], embedded[1]) and not torch.allclose(embedded[0], embedded[2])
    assert torch.equal(embedded[2], embedded[3]) and torch.equal(embedded[2], embedded[4])


def test_embedding_uses_positions_relative_to_the_own_units() -> None:
    """Moving the whole scene changes the embedding only through the position in the map's frame."""
    torch.manual_seed(0)
    embedding = EntityEmbedding(VOCABULARY.entities, CHANNELS)
    observation = observations("unit", 3, 2, 5, torch.Generator().manual_seed(0))
    entities, mask = observation["entities"], observation["mask"]
    mask[:, 0] = True
    with torch.no_grad():  # leave out the two absolute coordinates
        absolute = len(embedding.numeric_columns)
        embedding.projection.weight[:, absolute : absolute + 2] = 0.0
    moved = entities.clone()
    moved[..., [FEATURES.index("x"), FEATURES.index("y")]] += 7.0
    a, b = embedding(entities, mask), embedding(moved, mask)
    torch.testing.assert_close(a[mask], b[mask], atol=1e-5, rtol=1e-5)


def test_missing_columns_are_named() -> None:
    without = dataclasses.replace(VOCABULARY.entities, features=tuple(f for f in FEATURES if f != "facing"))
    with pytest.raises(ValueError, match="'facing'"):
        EntityEmbedding(without, CHANNELS)


def test_perceiver_io_takes_several_times_fewer_flops_than_the_transformer_at_512_slots() -> None:
    flops = {name: count_flops(make_encoder(name, 256), 512, 256) for name in ENCODERS}
    # The total of the Transformer is the textbook one: projections, feed-forward and attention of three layers,
    # and the summary's linear map.
    assert flops["transformer"] == 3 * (24 * 256**2 * 512 + 4 * 512**2 * 256) + 2 * 256**2
    print({name: f"{count / 1e9:.3f} GFLOPs" for name, count in flops.items()})
    assert flops["transformer"] >= 3.5 * flops["perceiver_io"]
