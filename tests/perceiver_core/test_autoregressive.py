"""Laws of Perceiver AR: causality, equality with an ordinary Transformer, and caches that change nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perceiver_core import presets
from perceiver_core.autoregressive import (
    AutoregressiveConfig,
    Continuation,
    PerceiverAR,
    Rotation,
    Sampling,
    window,
)

VOCABULARY = 50
each_kind = pytest.mark.parametrize("positions", ["rotary", "learned"])


def small(positions: str = "rotary", **sizes: Any) -> PerceiverAR:
    """A model whose every weight matters, in float64: differences are then either of rounding or plain to see."""
    torch.manual_seed(0)
    fields = {"max_length": 24, "num_latents": 8, "channels": 32, "num_self_attends": 2, "num_heads": 4, **sizes}
    model = PerceiverAR(AutoregressiveConfig(vocabulary=VOCABULARY, positions=positions, **fields))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.2
            parameter.normal_(std=1.0 if "embedding" in name or name == "position" else scale)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.add_(1.0)
    return model.double().eval()


def text(length: int, batch: int = 2) -> Tensor:
    return torch.randint(VOCABULARY, (batch, length))


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@each_kind
@settings(max_examples=25, deadline=None, derandomize=True)
@given(length=st.integers(1, 24), latents=st.integers(1, 24), changed=st.integers(0, 23), seed=st.integers(0, 99))
def test_later_tokens_change_no_earlier_logits(
    positions: str, length: int, latents: int, changed: int, seed: int
) -> None:
    latents, changed = min(latents, length), min(changed, length - 1)
    model = small(positions)
    torch.manual_seed(seed)
    tokens = text(length)
    other = tokens.clone()
    other[:, changed:] = (other[:, changed:] + torch.randint(1, VOCABULARY, (2, length - changed))) % VOCABULARY
    with torch.no_grad():
        expected, found = model(tokens, latents), model(other, latents)
    before = max(0, changed - (length - latents))
    assert_same(found[:, :before], expected[:, :before])
    assert (found[:, before:] - expected[:, before:]).abs().amax(-1).min() > 1e-6, "what may depend on it does"


def plain_transformer(model: PerceiverAR, tokens: Tensor) -> Tensor:
    """The same weights as a causal Transformer, written down independently: complex rotations, torch's attention."""
    weights = dict(model.named_parameters())
    config = model.config
    heads, width, length = config.num_heads, config.channels // config.num_heads, tokens.shape[1]
    x = weights["embedding.weight"][tokens]
    if config.positions == "learned":
        x = x + weights["position"][:length]
    bands = width // 4
    frequencies = torch.tensor([config.max_length ** -(band / (bands - 1)) for band in range(bands)])
    turns = torch.polar(torch.ones(length, bands), torch.arange(length)[:, None] * frequencies).to(torch.complex128)

    def turned(part: Tensor) -> Tensor:
        if config.positions == "learned":
            return part
        numbers = torch.view_as_complex(part[..., : 2 * bands].unflatten(-1, (bands, 2)).contiguous()) * turns
        return torch.cat([torch.view_as_real(numbers).flatten(-2), part[..., 2 * bands :]], dim=-1)

    for number in range(1 + config.num_self_attends):
        own = {name.removeprefix(f"layers.{number}."): w for name, w in weights.items() if f"layers.{number}." in name}

        def linear(name: str, inputs: Tensor, own: Mapping[str, Tensor] = own) -> Tensor:
            return F.linear(inputs, own[f"{name}.weight"], own[f"{name}.bias"])

        def norm(name: str, inputs: Tensor, own: Mapping[str, Tensor] = own) -> Tensor:
            return F.layer_norm(inputs, inputs.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"])

        normed = norm("norm", x)
        q, k, v = (
            linear(name, normed).view(len(x), length, heads, width).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + linear("output", attended.transpose(1, 2).reshape(x.shape))
        hidden = F.gelu(linear("feed_forward.expand", norm("feed_forward.norm", x)))
        x = x + linear("feed_forward.contract", hidden)
    x = F.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"])
    return F.linear(x, weights["final.weight"], weights["final.bias"])


@each_kind
@pytest.mark.parametrize("length", [1, 2, 24])
def test_as_many_latents_as_tokens_make_a_causal_transformer(positions: str, length: int) -> None:
    model = small(positions, num_latents=24)
    tokens = text(length)
    with torch.no_grad():
        # The frequencies are float32 in both.
        torch.testing.assert_close(model(tokens), plain_transformer(model, tokens), rtol=1e-5, atol=1e-5)


@each_kind
def test_latents_stand_on_the_whole_context(positions: str) -> None:
    """With one latent, one layer over the context and the rest on the latent alone."""
    model = small(positions)
    tokens = text(20)
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % VOCABULARY
    with torch.no_grad():
        assert model(tokens, 1).shape == (2, 1, VOCABULARY)
        assert (model(tokens, 1) - model(other, 1)).abs().max() > 1e-6
        # Another beginning of the latents is another model.
        assert (model(tokens, 8)[:, -1] - model(tokens, 5)[:, -1]).abs().max() > 1e-6


def test_rotary_attention_depends_on_distances_only() -> None:
    torch.manual_seed(0)
    queries, keys = torch.randn(1, 2, 5, 16, dtype=torch.float64), torch.randn(1, 2, 9, 16, dtype=torch.float64)

    def scores(first: int) -> Tensor:
        places = torch.arange(first, first + 9)
        rotation = Rotation.of(places, 8, 64)
        return rotation.last(5)(queries) @ rotation(keys).transpose(-1, -2)

    torch.testing.assert_close(scores(0), scores(37), rtol=1e-5, atol=1e-5)
    assert (scores(0) - queries @ keys.transpose(-1, -2)).abs().max() > 0.1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(latents=st.integers(1, 40), extra=st.integers(0, 60), length=st.integers(1, 400))
def test_windows(latents: int, extra: int, length: int) -> None:
    """The last token is a latent, at most N are, the context holds them and has at most M, and more than M - N."""
    config = AutoregressiveConfig(
        vocabulary=2, max_length=latents + extra, num_latents=latents, channels=32, num_self_attends=1
    )
    found, following = window(length, config), window(length + 1, config)
    assert 1 <= length - found.latents <= latents
    assert length - found.latents >= min(length, latents - latents // 2)
    assert 0 <= found.context <= found.latents
    assert length - found.context <= config.max_length
    assert found.context == 0 or length - found.context >= config.max_length - latents // 2
    assert following.latents - found.latents in (0, max(1, latents // 2))
    assert 0 <= following.context - found.context <= following.latents - found.latents


@each_kind
@pytest.mark.parametrize("num_latents", [1, 5, 8, 24])
@pytest.mark.parametrize("prompt", [1, 7, 30])
def test_cached_logits_are_the_uncached_ones(positions: str, num_latents: int, prompt: int) -> None:
    """Token by token and in pieces, across several moves of latents and context."""
    model = small(positions, num_latents=num_latents)
    tokens = text(prompt + 60)
    cached, uncached = Continuation(model), Continuation(model, cached=False)
    pieces = [1] * 40 + [3, 2, 5, 10]
    parts = tokens.split([prompt, *pieces], dim=1)
    for part in parts:
        assert_same(cached.append(part), uncached.append(part))


@each_kind
def test_uncached_logits_are_those_of_the_window(positions: str) -> None:
    """What is generated from is what `forward` computes on the window's tokens and latents."""
    model = small(positions)
    tokens = text(60)
    continuation = Continuation(model)
    with torch.no_grad():
        for length in range(1, 61):
            found = window(length, model.config)
            expected = model(tokens[:, found.context : length], length - found.latents)[:, -1]
            assert_same(continuation.append(tokens[:, length - 1 : length]), expected)


@each_kind
@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}], ids=str
)
def test_cached_generation_is_uncached_generation(positions: str, options: dict[str, Any]) -> None:
    """In float32, as it is used."""
    model = small(positions).float()
    prompt = text(10)
    found, expected = (
        model.generate(prompt, 50, cached=cached, generator=torch.Generator().manual_seed(3), **options)
        for cached in (True, False)
    )
    assert torch.equal(found, expected) and torch.equal(found[:, :10], prompt) and found.shape == (2, 60)
    assert len(set(found[0].tolist())) > 3


def test_stream_gives_token_after_token() -> None:
    model = small()
    prompt = text(5)
    stream = model.stream(prompt, generator=torch.Generator().manual_seed(1))
    tokens = torch.stack(list(islice(stream, 12)), dim=1)
    whole = model.generate(prompt, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat([prompt, tokens], dim=1), whole)
    # Gradients are off inside the stream only.
    assert torch.is_grad_enabled()
    # To go on from what there is is to go on.
    greedy = model.generate(prompt, 40, temperature=0.0)
    assert torch.equal(model.generate(greedy[:, :23], 22, temperature=0.0), greedy)


def test_prefix_dropout_leaves_out_prefix_tokens_in_training_only() -> None:
    whole, model = small(), small(prefix_dropout=0.5)
    model.load_state_dict(whole.state_dict())
    tokens = text(20)
    assert_same(model(tokens), whole(tokens))
    seen = []
    model.layers[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    model.train()
    # All tokens alike: what was left out then shows in the positions only.
    first, second = model(tokens), model(tokens)
    assert seen == [6 + 8, 6 + 8] and (first - second).abs().max() > 1e-6
    assert_same(model(tokens[:, :8]), whole(tokens[:, :8]))  # no prefix, nothing to leave out


def test_dropped_prefix_keeps_order_and_positions() -> None:
    model = small(prefix_dropout=0.25)
    torch.manual_seed(1)
    kept = model._without_some_prefix(torch.arange(20), 8, 500)
    assert kept.shape == (500, 9 + 8)
    assert (kept.diff(dim=1) > 0).all() and (kept[:, 9:] == torch.arange(12, 20)).all()
    counts = torch.bincount(kept[:, :9].flatten(), minlength=12)
    assert (counts / 500 - 0.75).abs().max() < 0.1, "every position as often as any other"


@each_kind
def test_loss_is_the_next_tokens_cross_entropy(positions: str) -> None:
    model = small(positions)
    tokens = text(25)
    logits = model(tokens[:, :-1])
    picked = logits.log_softmax(-1).gather(-1, tokens[:, -8:, None])
    assert_same(model.loss(tokens), -picked.mean())
    fresh = PerceiverAR(model.config)
    assert fresh.loss(tokens).item() == pytest.approx(math.log(VOCABULARY))


def test_all_parameters_get_gradients() -> None:
    for positions in ("rotary", "learned"):
        model = small(positions).train()
        model.loss(text(25)).backward()
        # A key's bias shifts all scores of a query alike, except where rotation turns it.
        still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12}
        assert all(name.endswith("key.bias") for name in still)


def test_a_small_model_learns_to_repeat() -> None:
    """A copy task that only works through the context: the period is longer than the latents."""
    torch.manual_seed(0)
    config = AutoregressiveConfig(
        vocabulary=8, max_length=24, num_latents=6, channels=32, num_self_attends=1, num_heads=2
    )
    model = PerceiverAR(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(150):
        period = torch.randint(8, (32, 10))
        loss = model.loss(period.repeat(1, 3)[:, :25])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    period = torch.randint(8, (16, 10))
    found = model.generate(period.repeat(1, 2), 10, temperature=0.0)[:, 20:]
    assert (found == period).float().mean() > 0.9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 3, 100]),
    top_p=st.sampled_from([None, 0.01, 0.6, 1.0]),
)
def test_sampling_keeps_the_likeliest(seed: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    torch.manual_seed(seed)
    logits = 2 * torch.randn(3, 12)
    found = Sampling(temperature, top_k, top_p).probabilities(logits)
    full = (logits / temperature).softmax(-1)
    torch.testing.assert_close(found.sum(-1), torch.ones(3))
    for row, whole in zip(found, full, strict=True):
        ranked = sorted(range(12), key=lambda token: -float(whole[token]))
        among_k = ranked if top_k is None else ranked[:top_k]
        mass = sum(float(whole[token]) for token in among_k)
        kept, total = [], 0.0
        for token in among_k:
            if top_p is None or total < top_p:
                kept.append(token)
            total += float(whole[token]) / mass
        # A cut that falls on a rounding may go either way.
        alike = {token for token in range(12) if row[token] > 0} ^ set(kept)
        assert not alike or (top_p == 1.0 and all(float(whole[token]) < 1e-6 for token in alike))
        expected = torch.tensor([float(whole[token]) if token in kept else 0.0 for token in range(12)])
        torch.testing.assert_close(row, expected / expected.sum(), rtol=1e-4, atol=1e-6)


def test_no_temperature_takes_the_likeliest() -> None:
    logits = torch.randn(6, 12)
    assert torch.equal(Sampling(temperature=0.0)(logits), logits.argmax(-1))
    assert torch.equal(Sampling(temperature=0.0).probabilities(logits).argmax(-1), logits.argmax(-1))


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(40_000, -1)
    drawn = Sampling(top_k=3, generator=torch.Generator().manual_seed(0))(logits)
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, Sampling(top_k=3).probabilities(logits)[0], rtol=0, atol=0.01)


@each_kind
def test_saved_and_loaded(positions: str, tmp_path: Path) -> None:
    model = small(positions)
    model.save_pretrained(tmp_path)
    loaded = PerceiverAR.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    tokens = text(20)
    torch.testing.assert_close(loaded(tokens), model(tokens), rtol=0, atol=0)


def test_preset() -> None:
    model = presets.autoregressive_language_model(
        max_length=64, num_latents=16, channels=32, num_self_attends=1, num_heads=4, positions="learned"
    )
    assert isinstance(model, PerceiverAR)
    assert model(torch.randint(262, (2, 40))).shape == (2, 16, 262)


BAD = [
    (lambda m: m(text(25)), "`tokens` has 25 positions, more than `max_length` = 24"),
    (lambda m: m(text(5), 6), "`num_latents` must lie between 1 and the 5 tokens, got 6"),
    (lambda m: m(text(0)), "`tokens` must hold at least 1 tokens, got 0"),
    (lambda m: m.loss(text(1)), "`tokens` must hold at least 2 tokens, got 1"),
    (lambda m: m.generate(text(3), 0), "`num_tokens` must be a positive integer, got 0"),
    (lambda m: m.stream(text(0)), "`prompt` must hold at least 1 tokens, got 0"),
    (lambda m: m.stream(text(3), temperature=-1.0), "`temperature` must be a finite number of at least 0, got -1.0"),
    (lambda m: m.stream(text(3), top_k=0), "`top_k` must be a positive integer, got 0"),
    (lambda m: m.stream(text(3), top_p=0.0), r"`top_p` must lie in \(0, 1\], got 0.0"),
    (lambda m: small(num_latents=25), "`num_latents` = 25 exceeds `max_length` = 24"),
    (lambda m: small("absolute"), "`positions` must be 'rotary' or 'learned', got 'absolute'"),
    (lambda m: small(num_heads=16), "rotary positions need heads of at least 4 channels, got `channels` = 32"),
    (lambda m: small(num_heads=5), "`channels` = 32 must be a multiple of `num_heads` = 5"),
    (lambda m: small(prefix_dropout=1.0), r"`prefix_dropout` must lie in \[0, 1\), got 1.0"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input(call: Any, message: str) -> None:
    model = small()
    with pytest.raises(ValueError, match=message):
        call(model)


def test_unknown_tokens() -> None:
    with pytest.raises(IndexError, match="`tokens` must hold indices from 0 to 49, got 3 to 50"):
        small()(torch.tensor([[3, 50]]))
    with pytest.raises(TypeError, match="`prompt` must be a integer tensor"):
        small().stream(torch.zeros(1, 3))
