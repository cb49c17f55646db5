"""Perceiver AR: next tokens from long contexts (Hawthorne et al. 2022, arXiv 2202.07765).

    tokens [B, M] -> [B, M, C] -> causal cross-attend -> latents [B, N, C] -> causal self-attends -> logits [B, N, V]

The latents are the last N positions. In the first layer, a latent attends to all tokens up to its own position. In the
other layers it attends to the latents up to itself. Its logits predict the token that follows. The cost grows linearly
with the context. With N = M the model is an ordinary causal Transformer.

Published parts: rotary positions on half of each head's channels, or learned ones; pre-norm layers; a zero initial
output layer; dropout of prefix positions. Three parts differ. One norm serves queries and inputs of the first layer,
since the affine parts of two would fold into the projections. Tokens become latents as they are, without a linear map.
And the feed-forward networks have this package's GELU instead of a squared ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceiver_core.accelerated.kernels import KeysValues, attend_causally
from perceiver_core.attention import FeedForward, init_linear, merge_heads, split_heads
from perceiver_core.checks import check_heads, check_indices, check_positive, check_tensor
from perceiver_core.config import config_class
from perceiver_core.hub import HubModel


@config_class
class AutoregressiveConfig:
    """Sizes of the model.

    Args:
        vocabulary: V, number of tokens.
        max_length: M, longest context.
        num_latents: N, last positions that are latents; at most `max_length`.
        channels: C, width of tokens and latents.
        num_self_attends: self-attention layers over the latents.
        num_heads: heads of every layer.
        widening_factor: hidden width of the feed-forward networks over C.
        positions: "rotary" ones turn queries and keys; "learned" ones are added to the tokens.
        prefix_dropout: share of the tokens before the latents that a training step leaves out, at random.
    """

    vocabulary: int
    max_length: int
    num_latents: int
    channels: int
    num_self_attends: int
    num_heads: int = 8
    widening_factor: int = 4
    positions: Literal["rotary", "learned"] = "rotary"
    prefix_dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("vocabulary", "max_length", "num_latents", "channels", "num_self_attends", "num_heads")
        check_positive("AutoregressiveConfig", **{name: getattr(self, name) for name in (*sizes, "widening_factor")})
        check_heads("channels", self.channels, self.num_heads)
        if self.num_latents > self.max_length:
            raise ValueError(f"`num_latents` = {self.num_latents} exceeds `max_length` = {self.max_length}")
        if self.positions not in ("rotary", "learned"):
            raise ValueError(f"`positions` must be 'rotary' or 'learned', got {self.positions!r}")
        if self.positions == "rotary" and self.rotated_channels < 2:
            raise ValueError(
                f"rotary positions need heads of at least 4 channels, got `channels` = {self.channels} over "
                f"`num_heads` = {self.num_heads}"
            )
        if not 0.0 <= self.prefix_dropout < 1.0:
            raise ValueError(f"`prefix_dropout` must lie in [0, 1), got {self.prefix_dropout}")

    @property
    def rotated_channels(self) -> int:
        """Channels of a head that rotary positions turn: half of them, in pairs."""
        return self.channels // self.num_heads // 4 * 2


# ------------------------------------------------------------------------------------------------------- positions


class Rotation(NamedTuple):
    """Cosines and sines [M or B x 1 x M, R / 2] by which positions turn the first R channels of a head."""

    cosines: Tensor
    sines: Tensor

    @classmethod
    def of(cls, positions: Tensor, channels: int, longest: int) -> Rotation:
        """Rotations of positions [M] or [B, M], with wavelengths / 2 pi from 1 to `longest`, geometrically spaced."""
        wavelengths = longest ** torch.linspace(0.0, 1.0, channels // 2, device=positions.device)
        angles = positions[..., None] / wavelengths
        angles = angles if positions.dim() == 1 else angles[:, None]
        return cls(angles.cos(), angles.sin())

    def last(self, count: int) -> Rotation:
        """That of the last positions."""
        return Rotation(self.cosines[..., -count:, :], self.sines[..., -count:, :])

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys [B, H, M, E]."""
        rotated = 2 * self.cosines.shape[-1]
        pairs = x[..., :rotated].unflatten(-1, (-1, 2))
        even, odd = pairs[..., 0], pairs[..., 1]
        turned = torch.stack(
            [even * self.cosines - odd * self.sines, odd * self.cosines + even * self.sines], dim=-1
        ).flatten(-2)
        return torch.cat([turned.to(x.dtype), x[..., rotated:]], dim=-1)


# ----------------------------------------------------------------------------------------------------------- model


class LayerCache:
    """Keys and values [B, H, m, E] of one layer for the positions so far, in buffers of a fixed capacity."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._length = 0
        self._keys = self._values = torch.empty(0)

    def append(self, keys: Tensor, values: Tensor) -> KeysValues:
        """Add those of new positions; gives all so far."""
        if self._length == 0:
            batch, heads, _, width = keys.shape
            self._keys = keys.new_empty(batch, heads, self._capacity, width)
            self._values = torch.empty_like(self._keys)
        end = self._length + keys.shape[2]
        self._keys[:, :, self._length : end] = keys
        self._values[:, :, self._length : end] = values
        self._length = end
        return KeysValues(self._keys[:, :, :end], self._values[:, :, :end])


class CausalLayer(nn.Module):
    """The last positions attend to all up to themselves, then a feed-forward network: [B, M, C] -> [B, N, C]."""

    def __init__(self, channels: int, num_heads: int, widening_factor: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.query, self.key, self.value, self.output = (init_linear(nn.Linear(channels, channels)) for _ in range(4))
        self.feed_forward = FeedForward(channels, widening_factor)

    def forward(
        self, x: Tensor, num_queries: int, rotation: Rotation | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: [B, M, C]; with a cache the new positions only.
            num_queries: N, the last positions, which attend and go on.
            rotation: of the M positions.
            cache: of the positions before `x`; these are added to it.

        Returns:
            [B, N, C].
        """
        normed = self.norm(x)
        queries = split_heads(self.query(normed[:, -num_queries:]), self.num_heads)
        keys, values = (split_heads(linear(normed), self.num_heads) for linear in (self.key, self.value))
        if rotation is not None:
            queries, keys = rotation.last(num_queries)(queries), rotation(keys)
        if cache is not None:
            keys, values = cache.append(keys, values)
        attended = self.output(merge_heads(attend_causally(queries, keys, values)))
        return self.feed_forward(x[:, -num_queries:] + attended)


class PerceiverAR(HubModel):
    """Tokens to the logits of the tokens that follow the last positions.

    Attributes:
        checkpoint_activations: keep only each layer's input for the backward pass and compute the rest again there:
            less memory for a third more time, same gradients. May be set at any time.
    """

    checkpoint_activations: bool = False

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding.from_pretrained(torch.empty(config.vocabulary, config.channels), freeze=False)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02, a=-0.04, b=0.04)
        self.position: nn.Parameter | None = None
        if config.positions == "learned":
            self.position = nn.Parameter(torch.empty(config.max_length, config.channels))
            nn.init.trunc_normal_(self.position, std=0.02, a=-0.04, b=0.04)
        self.layers = nn.ModuleList(
            CausalLayer(config.channels, config.num_heads, config.widening_factor)
            for _ in range(1 + config.num_self_attends)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.final = nn.Linear(config.channels, config.vocabulary)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, tokens: Tensor, num_latents: int | None = None) -> Tensor:
        """Logits of the next tokens.

        Args:
            tokens: integers [B, L] with L <= M.
            num_latents: N, the last positions, which get logits; None: as configured, or L if that is less.

        Returns:
            [B, N, V]: entry n predicts the token after position L - N + n from all tokens up to that position.
        """
        self._check_tokens("tokens", tokens)
        length = tokens.shape[1]
        if length > self.config.max_length:
            raise ValueError(f"`tokens` has {length} positions, more than `max_length` = {self.config.max_length}")
        num_latents = min(self.config.num_latents, length) if num_latents is None else num_latents
        if not 1 <= num_latents <= length:
            raise ValueError(f"`num_latents` must lie between 1 and the {length} tokens, got {num_latents}")
        positions = torch.arange(length, device=tokens.device)
        if self.training and self.config.prefix_dropout > 0.0:
            positions = self._without_some_prefix(positions, num_latents, len(tokens))
            tokens = tokens.gather(1, positions)
        return self.final(self.latents(tokens, positions, num_latents))

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy, in nats a token, of the last N of tokens [B, L] with L <= M + 1."""
        self._check_tokens("tokens", tokens, at_least=2)
        logits = self(tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, -logits.shape[1] :].flatten().long())

    def latents(
        self, tokens: Tensor, positions: Tensor, num_latents: int, caches: list[LayerCache] | None = None
    ) -> Tensor:
        """What the logits are a linear map of.

        Args:
            tokens: [B, L]; with caches the new ones only.
            positions: of the tokens in the context, [L] or [B, L].
            num_latents: N, the last of them.
            caches: one a layer, of the positions before.

        Returns:
            [B, N, C], normalised.
        """
        config = self.config
        x = self.embedding(tokens)
        rotation = None
        if self.position is not None:
            x = x + self.position[positions]
        else:
            rotation = Rotation.of(positions, config.rotated_channels, config.max_length)
        checkpointed = self.checkpoint_activations and torch.is_grad_enabled()
        for number, layer in enumerate(self.layers):
            if checkpointed:
                x = checkpoint(layer, x, num_latents, rotation, use_reentrant=False)
            else:
                x = layer(x, num_latents, rotation, None if caches is None else caches[number])
            rotation = None if rotation is None else rotation.last(num_latents)
        return self.norm(x)

    def _without_some_prefix(self, positions: Tensor, num_latents: int, batch: int) -> Tensor:
        """Positions [B, kept + N] in order: a random part of the prefix, and all latents."""
        prefix = len(positions) - num_latents
        kept = prefix - int(self.config.prefix_dropout * prefix)
        chosen = torch.rand(batch, prefix, device=positions.device).argsort(dim=1)[:, :kept].sort(dim=1).values
        return torch.cat([chosen, positions[prefix:].expand(batch, -1)], dim=1)

    def _check_tokens(self, name: str, tokens: Tensor, at_least: int = 1) -> None:
        check_tensor(name, tokens, "B L", "integer")
        check_indices(name, tokens, self.config.vocabulary)
        if tokens.shape[1] < at_least:
            raise ValueError(f"`{name}` must hold at least {at_least} tokens, got {tokens.shape[1]}")

    # ------------------------------------------------------------------------------------------------- generation

    def generate(
        self,
        prompt: Tensor,
        num_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        cached: bool = True,
    ) -> Tensor:
        """A prompt [B, L] and `num_tokens` more, [B, L + num_tokens]; the other arguments are those of `stream`."""
        check_positive("generate", num_tokens=num_tokens)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator}
        stream = self.stream(prompt, cached=cached, **options)  # type: ignore[arg-type]
        return torch.cat([prompt, torch.stack([next(stream) for _ in range(num_tokens)], dim=1)], dim=1)

    def stream(
        self,
        prompt: Tensor,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        cached: bool = True,
    ) -> Iterator[Tensor]:
        """Tokens that follow a prompt, one [B] after another, without an end: take as many as are wanted.

        Args:
            prompt: integers [B, L], of any length; of a long one the last M count.
            temperature: divides the logits; 0 takes the most likely token.
            top_k: sample from the k most likely tokens only; None: from all.
            top_p: sample from the fewest most likely tokens that have this probability together; None: from all.
            generator: source of randomness; None: torch's own.
            cached: keep keys and values between tokens. The logits are the same up to rounding, only later without.
        """
        self._check_tokens("prompt", prompt)
        check_sampling(temperature, top_k, top_p)
        return self._stream(prompt, Sampling(temperature, top_k, top_p, generator), cached)

    def _stream(self, prompt: Tensor, sampling: Sampling, cached: bool) -> Iterator[Tensor]:
        continuation = Continuation(self, cached=cached)
        tokens = prompt
        while True:
            sampled = sampling(continuation.append(tokens))
            yield sampled
            tokens = sampled[:, None]


class Window(NamedTuple):
    """Where the context and the latents of a long sequence begin."""

    context: int
    latents: int


def window(length: int, config: AutoregressiveConfig) -> Window:
    """The window from which the token after `length` others is predicted.

    The latents' beginning stays while they grow from about N / 2 to N. Then it moves on by N / 2. The context's
    beginning moves with it once M is reached. The paper samples in this way too, for the sake of the cache: a latent's
    state depends on where the latents begin. If that moved with every token, no state could be kept.
    """
    stride = max(1, config.num_latents // 2)
    latents = stride * -(-max(0, length - config.num_latents) // stride)
    return Window(max(0, latents + config.num_latents - config.max_length), latents)


class Continuation:
    """Logits of the next token of a sequence that grows.

    Args:
        model: in evaluation mode.
        cached: keep keys and values as long as the window stays; otherwise compute everything for every token.
    """

    def __init__(self, model: PerceiverAR, *, cached: bool = True) -> None:
        self._model = model
        self._cached = cached
        self._tokens: Tensor | None = None
        self._window: Window | None = None
        self._caches: list[LayerCache] = []

    @torch.no_grad()
    def append(self, tokens: Tensor) -> Tensor:
        """Add tokens [B, l]; gives the logits [B, V] of the next one."""
        model, config = self._model, self._model.config
        self._tokens = tokens if self._tokens is None else torch.cat([self._tokens, tokens], dim=1)
        length = self._tokens.shape[1]
        found = window(length, config)
        if self._cached and found == self._window:
            # The window has not moved, so the new positions are latents, all of them.
            start = length - tokens.shape[1]
            num_latents = tokens.shape[1]
        else:
            start, num_latents = found.context, length - found.latents
            self._window = found
            self._caches = [LayerCache(config.max_length)]
            self._caches += [LayerCache(config.num_latents) for _ in range(config.num_self_attends)]
        positions = torch.arange(start, length, device=tokens.device) - found.context
        caches = self._caches if self._cached else None
        latents = model.latents(self._tokens[:, start:], positions, num_latents, caches)
        return model.final(latents[:, -1])


# -------------------------------------------------------------------------------------------------------- sampling


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Check the arguments of `Sampling`."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` must be a finite number of at least 0, got {temperature}")
    if top_k is not None:
        check_positive("Sampling", top_k=top_k)
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"`top_p` must lie in (0, 1], got {top_p}")


class Sampling(NamedTuple):
    """How tokens are drawn from logits; see `PerceiverAR.stream`."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    generator: torch.Generator | None = None

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits [B, V] to the probabilities [B, V] by which tokens are drawn: temperature, then top-k, then top-p."""
        if self.temperature == 0.0:
            return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        logits = logits.float() / self.temperature
        order = logits.argsort(dim=-1, descending=True, stable=True)
        probabilities = logits.gather(-1, order).softmax(-1)
        if self.top_k is not None:
            probabilities[..., self.top_k :] = 0.0
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        if self.top_p is not None:
            # A token stays where those before it have not reached the share yet, so one always does.
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        kept = torch.zeros_like(probabilities).scatter(-1, order, probabilities)
        return kept / kept.sum(-1, keepdim=True)

    def __call__(self, logits: Tensor) -> Tensor:
        """Draw tokens [B]."""
        if self.temperature == 0.0:
            return logits.argmax(-1)
        return torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[:, 0]
