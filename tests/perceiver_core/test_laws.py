"""Laws that every model keeps: masks, permutations, chunks, subsets, and gradients against float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perceiver_core import presets
from perceiver_core.attention import AttentionConfig, CrossAttention
from perceiver_core.inputs import EntityInput
from perceiver_core.model import (
    DecoderConfig,
    EncoderConfig,
    Perceiver,
    PerceiverConfig,
    PerceiverDecoder,
    PerceiverEncoder,
    PerceiverIO,
)
from perceiver_core.presets import EntityEncoder, entity_encoder

SMALL = EncoderConfig(
    num_latents=6,
    latent_channels=16,
    num_self_attends=2,
    num_blocks=2,
    self_attention=AttentionConfig(num_heads=4),
)


def randomise(module: torch.nn.Module, seed: int = 0) -> Any:
    """Random biases, norms and tables, large enough for every part to matter."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif not name.endswith("weight"):
                parameter.normal_()
    return module


def small_entities(num_heads: int = 4) -> EntityEncoder:
    return randomise(
        entity_encoder(
            7, num_latents=5, latent_channels=16, num_self_attends=2, num_heads=num_heads, output_channels=9
        ).eval()
    )


def small_autoencoder() -> PerceiverIO:
    model = presets.multimodal_autoencoder(
        video=presets.VideoModality(num_frames=2, size=(8, 12), bands=3),
        audio=presets.AudioModality(num_samples=64, bands=4),
        label=presets.LabelModality(num_classes=5, query_channels=20),
        output_channels=24,
        encoder=SMALL,
    )
    return randomise(model.eval())


def clip(batch: int = 2) -> dict[str, Tensor]:
    return {
        "image": torch.randn(batch, 2, 3, 8, 12),
        "audio": torch.randn(batch, 64),
        "label": torch.randint(5, (batch,)),
    }


def small_language_model() -> PerceiverIO:
    decoder = AttentionConfig(num_heads=2, qk_channels=8, v_channels=12, query_residual=False)
    model = presets.masked_language_model(
        vocabulary=30, max_length=20, token_channels=12, encoder=SMALL, decoder_attention=decoder
    )
    return randomise(model.eval())


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "language": (small_language_model, lambda: torch.randint(30, (2, 20))),
    "flow": (
        lambda: randomise(presets.optical_flow(image_size=(5, 6), encoder=SMALL).eval()),
        lambda: torch.randn(2, 2, 3, 5, 6),
    ),
    "autoencoder": (small_autoencoder, clip),
    "image": (
        lambda: randomise(presets.image_classifier_fourier(image_size=(6, 6), num_classes=4, encoder=SMALL).eval()),
        lambda: torch.randn(2, 3, 6, 6),
    ),
}
model_names = pytest.mark.parametrize("name", MODELS)


def assert_same(a: Any, b: Any) -> None:
    """Equal up to rounding, tensors or dicts of them."""
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    padding=st.integers(0, 6),
    heads=st.sampled_from([1, 2, 8]),
    garbage=st.sampled_from([0.0, 1e4, float("inf"), float("nan")]),
    seed=st.integers(0, 99),
)
def test_masked_slots_change_nothing(lengths: list[int], padding: int, heads: int, garbage: float, seed: int) -> None:
    """What is in masked slots, and how many there are, reaches no output; masked rows are exact zeros."""
    model = small_entities(heads)
    torch.manual_seed(seed)
    tight = max(max(lengths), 1)
    entities = torch.randn(len(lengths), tight, 7)
    mask = torch.arange(tight)[None] < torch.tensor(lengths)[:, None]
    expected = model(entities, mask)
    wider = torch.cat([entities, torch.zeros(len(lengths), padding, 7)], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(len(lengths), padding, dtype=torch.bool)], dim=1)
    wider[~wider_mask] = garbage
    got = model(wider, wider_mask)
    assert_same(got.latents, expected.latents)
    assert_same(got.per_entity[:, :tight], expected.per_entity)
    assert (got.per_entity[~wider_mask] == 0).all()
    for i, length in enumerate(lengths):
        if length:
            alone = model(entities[i : i + 1, :length])
            assert_same(got.latents[i], alone.latents[0])
            assert_same(got.per_entity[i, :length], alone.per_entity[0])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(length=st.integers(0, 12), padding=st.integers(0, 8), seed=st.integers(0, 99))
def test_masked_tokens_change_nothing(length: int, padding: int, seed: int) -> None:
    """The same for sequences, whose outputs are there for every position."""
    model = small_language_model()
    torch.manual_seed(seed)
    tokens, other = torch.randint(30, (2, max(length, 1) + padding)), torch.randint(30, (2, max(length, 1) + padding))
    mask = torch.arange(tokens.shape[1]).expand(2, -1) < length
    other[mask] = tokens[mask]
    expected = model(tokens, mask)
    assert_same(model(other, mask), expected)
    if length:
        assert_same(model(tokens[:, :length]), expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), count=st.integers(1, 12))
def test_entities_have_no_order(seed: int, count: int) -> None:
    model = small_entities()
    torch.manual_seed(seed)
    entities, mask = torch.randn(2, count, 7), torch.rand(2, count) > 0.3
    order = torch.randperm(count)
    expected, got = model(entities, mask), model(entities[:, order], mask[:, order])
    assert_same(got.latents, expected.latents)
    assert_same(got.per_entity, expected.per_entity[:, order])


def test_all_valid_mask_is_no_mask() -> None:
    model = small_entities()
    entities = torch.randn(3, 8, 7)
    full = model(entities, torch.ones(3, 8, dtype=torch.bool))
    assert_same(full, model(entities))


def test_fully_masked_sample_is_finite_with_finite_gradients() -> None:
    model = small_entities().train()
    entities = torch.full((2, 4, 7), float("nan"))
    entities[1] = torch.randn(4, 7)
    entities.requires_grad_()
    mask = torch.tensor([[False] * 4, [True] * 4])
    out = model(entities, mask)
    (out.latents.square().sum() + out.per_entity.square().sum()).backward()
    assert out.latents.isfinite().all() and (out.per_entity[0] == 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert entities.grad is not None and (entities.grad[0] == 0).all() and entities.grad[1].abs().sum() > 0


def test_fully_masked_sample_attends_to_nothing() -> None:
    """Zero attention, as in the reference, rather than an average over the masked inputs."""
    encoder = randomise(PerceiverEncoder(SMALL, input_channels=7))
    zero_values = copy.deepcopy(encoder)
    torch.nn.init.zeros_(zero_values.cross_attends[0].value.weight)
    torch.nn.init.zeros_(zero_values.cross_attends[0].value.bias)
    inputs = torch.randn(2, 5, 7)
    assert_same(encoder(inputs, torch.zeros(2, 5, dtype=torch.bool)), zero_values(inputs))


def test_mask_by_modality_is_the_mask_of_the_tokens() -> None:
    model = small_autoencoder()
    inputs = clip()
    audio, image = torch.rand(2, 4) > 0.4, torch.rand(2, 12) > 0.4
    flat = torch.cat([audio, image, torch.ones(2, 1, dtype=torch.bool)], dim=1)
    assert_same(model(inputs, {"audio": audio, "image": image}), model(inputs, flat))
    changed = {**inputs, "audio": torch.where(audio.repeat_interleave(16, 1), inputs["audio"], 1e3)}
    assert_same(model(changed, {"audio": audio}), model(inputs, {"audio": audio}))


@model_names
def test_encode_and_decode_are_forward(name: str) -> None:
    build, make = MODELS[name]
    model, inputs = build(), make()
    latents = model.encode(inputs)
    assert_same(model.decode(latents, inputs=inputs), model(inputs))


@model_names
@settings(max_examples=5, deadline=None, derandomize=True)
@given(chunk_size=st.integers(1, 40))
def test_chunks_are_the_whole(name: str, chunk_size: int) -> None:
    build, make = MODELS[name]
    model, inputs = build(), make()
    assert_same(model(inputs, chunk_size=chunk_size), model(inputs))


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("name", ["language", "flow"])
def test_subset_is_rows_of_the_whole(name: str, per_sample: bool, chunk_size: int | None) -> None:
    build, make = MODELS[name]
    model, inputs = build(), make()
    whole = model(inputs)
    whole = whole.flatten(1, 2) if name == "flow" else whole
    count = whole.shape[1]
    positions = torch.randint(count, (2, 7) if per_sample else (7,))
    rows = torch.stack([whole[i, positions[i] if per_sample else positions] for i in range(2)])
    assert_same(model(inputs, positions=positions, chunk_size=chunk_size), rows)


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_subset_of_modalities(chunk_size: int | None) -> None:
    model = small_autoencoder()
    inputs = clip()
    whole = model(inputs)
    latents = model.encode(inputs)
    pixels, patches = torch.randint(192, (11,)), torch.tensor([3, 0])
    audio_rows = whole["audio"].unflatten(1, (-1, 16))[:, patches].flatten(1)
    got = model.decode(latents, {"image": pixels, "audio": patches}, chunk_size=chunk_size)
    assert_same(got, {"audio": audio_rows, "image": whole["image"][:, pixels]})
    assert_same(model.decode(latents, {"label": None}, chunk_size=chunk_size), {"label": whole["label"]})
    per_sample = torch.randint(192, (2, 11))
    got = model.decode(latents, {"image": per_sample, "label": None}, chunk_size=chunk_size)
    rows = torch.stack([whole["image"][i, per_sample[i]] for i in range(2)])
    assert_same(got, {"image": rows, "label": whole["label"]})


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_query_mask_gives_zero_rows(chunk_size: int | None) -> None:
    model = small_language_model()
    inputs, keep = torch.randint(30, (2, 20)), torch.rand(2, 20) > 0.5
    decoded = model.decoder(model.queries(), model.encode(inputs), keep)
    assert (decoded[~keep] == 0).all() and (decoded[keep] != 0).any(-1).all()
    got, whole = model(inputs, query_mask=keep, chunk_size=chunk_size), model(inputs)
    assert_same(got[keep], whole[keep])


def test_keys_and_values_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_language_model()
    calls = []
    original = CrossAttention.keys_values
    monkeypatch.setattr(CrossAttention, "keys_values", lambda self, x: calls.append(x.shape) or original(self, x))
    latents = model.encode(torch.randint(30, (2, 20)))
    calls.clear()
    model.decode(latents, chunk_size=3)
    assert calls == [latents.shape]


def original_perceiver() -> Perceiver:
    encoder = EncoderConfig(
        num_latents=4,
        latent_channels=16,
        num_self_attends=1,
        num_blocks=4,
        num_cross_attends=3,
        distinct_cross_attends=2,
        distinct_blocks=2,
    )
    return randomise(Perceiver(PerceiverConfig(inputs=EntityInput.Config(features=7), encoder=encoder, num_classes=3)))


def test_original_perceiver_repeats_its_cross_attends() -> None:
    """The schedule spelled out: cross-attends 0, 1, 1, none; blocks 0, 1, 1, 1; average; linear."""
    model = original_perceiver()
    inputs = torch.randn(2, 9, 7)
    cross, blocks = model.encoder.cross_attends, model.encoder.blocks
    assert len(cross) == 2 and len(blocks) == 2
    x = cross[0](model.encoder.latents[None], inputs)
    x = blocks[0][0](x)
    x = blocks[1][0](cross[1](x, inputs))
    x = blocks[1][0](cross[1](x, inputs))
    x = blocks[1][0](x)
    assert_same(model(inputs), x.mean(1) @ model.classifier.weight.T + model.classifier.bias)


@pytest.mark.parametrize("name", [*MODELS, "original", "entities"])
def test_gradients_agree_with_float64(name: str) -> None:
    """Parameter gradients in float32 against the same model in float64, relative to the largest of each tensor."""
    if name == "original":
        model, inputs = original_perceiver(), torch.randn(2, 9, 7)
    elif name == "entities":
        model, inputs = small_entities(), torch.randn(2, 9, 7)
    else:
        build, make = MODELS[name]
        model, inputs = build(), make()
    exact = copy.deepcopy(model).double()

    def in_double(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: in_double(value) for key, value in x.items()}
        return x.double() if x.is_floating_point() else x

    def loss(module: Any, values: Any) -> Tensor:
        out = module(values)
        parts = list(out.values()) if isinstance(out, dict) else list(out) if isinstance(out, tuple) else [out]
        return sum((part * torch.linspace(-1, 1, part[0].numel()).view(part[0].shape).to(part)).sum() for part in parts)

    loss(model, inputs).backward()
    loss(exact, in_double(inputs)).backward()
    # Some gradients vanish in exact arithmetic (the softmax does not see the keys' bias): rounding is then measured
    # against the whole model's.
    largest = max(float(q.grad.abs().max()) for q in exact.parameters() if q.grad is not None)
    for (key, p), q in zip(model.named_parameters(), exact.parameters(), strict=True):
        if p.grad is None or q.grad is None:
            assert p.grad is q.grad and "mask_tokens" in key
            continue
        error, own = float((p.grad - q.grad).abs().max()), float(q.grad.abs().max())
        assert error <= 1e-4 * own + 1e-6 * largest, key


def test_decoder_is_the_same_for_shared_and_repeated_queries() -> None:
    decoder_config = DecoderConfig(attention=AttentionConfig(num_heads=2), output_channels=5)
    decoder = randomise(PerceiverDecoder(decoder_config, query_channels=12, latent_channels=16))
    queries, latents = torch.randn(1, 6, 12), torch.randn(3, 4, 16)
    assert_same(decoder(queries, latents), decoder(queries.expand(3, -1, -1), decoder.keys_values(latents)))
