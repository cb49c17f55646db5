"""Input adapters: from raw inputs to tokens [B, M, C] for the encoder, as in Perceiver IO (arXiv 2107.14795).

Position encodings are concatenated to the features, but for tokens of text, where they are added.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceiver_core.accelerated.padded import PaddedPart, PaddedTokens
from perceiver_core.attention import init_linear
from perceiver_core.checks import check_indices, check_names, check_positive, check_tensor
from perceiver_core.config import config_class
from perceiver_core.position import PositionEncoding


class InputAdapter(nn.Module):
    """Base of the adapters.

    Attributes:
        channels: C, the width of a token.
        length: M for inputs of the configured size; None where it varies.
    """

    channels: int
    length: int | None

    @abstractmethod
    def forward(self, inputs: Any) -> Tensor:
        """Raw inputs to tokens [B, M, C]."""


def split_patches(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Cut a grid into patches.

    Args:
        x: channels-last grid [B, *sizes, C]; every size a multiple of its patch size.
        patch: size of a patch per axis.

    Returns:
        [B, *(size / p), prod(patch) * C]: the patch's places row-major, channels fastest.
    """
    axes = len(patch)
    sizes = [part for size, p in zip(x.shape[1:-1], patch, strict=True) for part in (size // p, p)]
    x = x.reshape(x.shape[0], *sizes, x.shape[-1])
    outer, inner = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
    return x.permute(0, *outer, *inner, 2 * axes + 1).flatten(axes + 1)


def merge_patches(rows: Tensor, shape: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """Inverse of `split_patches` on a video: [B, O, pt * ph * pw * C] -> [B, T, C, H, W]."""
    (t, h, w), (pt, ph, pw) = ((s // p for s, p in zip(shape, patch, strict=True)), patch)
    x = rows.reshape(rows.shape[0], t, h, w, pt, ph, pw, -1)
    return x.permute(0, 1, 4, 7, 2, 5, 3, 6).reshape(rows.shape[0], t * pt, -1, h * ph, w * pw)


def _with_positions(features: Tensor, position: PositionEncoding, *, interpolate: bool = False) -> Tensor:
    """Flatten a channels-last grid [B, *sizes, C] and concatenate the encoding of its places."""
    places = position(shape=features.shape[1:-1], interpolate=interpolate).to(features.dtype)
    features = features.flatten(1, -2)
    return torch.cat([features, places.expand(features.shape[0], -1, -1)], dim=-1)


def _project(features: int, channels: int | None) -> tuple[nn.Module, int]:
    if channels is None:
        return nn.Identity(), features
    return init_linear(nn.Linear(features, channels)), channels


def _check_patches(owner: str, position: Any, patch: tuple[int, ...], **values: int) -> None:
    check_positive(owner, **values, **{f"patch[{i}]": size for i, size in enumerate(patch)})
    if len(position.shape) != len(patch):
        raise ValueError(f"{owner}: `position` is over {len(position.shape)} axes, `patch` {patch} over {len(patch)}")


def _check_multiple(name: str, shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    if any(size % p for size, p in zip(shape, patch, strict=True)):
        raise ValueError(f"`{name}` has a grid of {tuple(shape)}, which must be a multiple of the patch {patch}")


class _PatchInput(InputAdapter):
    """What pictures and videos share: patches, a linear map of each, positions."""

    def __init__(self, config: ImageInput.Config | VideoInput.Config) -> None:
        super().__init__()
        self.config = config
        self.position: PositionEncoding = config.position.build()
        self.projection, features = _project(math.prod(config.patch) * config.channels, config.projection_channels)
        self.channels = features + self.position.channels
        self.length = self.position.count

    def embed(self, grid: Tensor, *, interpolate: bool = False) -> Tensor:
        """[B, *sizes, channels] -> tokens [B, M, C]."""
        _check_multiple("inputs", grid.shape[1:-1], self.config.patch)
        patches = self.projection(split_patches(grid, self.config.patch))
        return _with_positions(patches, self.position, interpolate=interpolate)


class ImageInput(_PatchInput):
    """Images [B, channels, H, W] as pixels (patch 1 x 1) or patches, with an optional 1x1 convolution."""

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding over the grid of patches, (H / ph, W / pw).
        patch: (ph, pw).
        channels: colours.
        projection_channels: width of a linear map of the patch (a 1x1 convolution); None: none.
        """

        position: Any
        patch: tuple[int, int] = (1, 1)
        channels: int = 3
        projection_channels: int | None = None

        def __post_init__(self) -> None:
            _check_patches("ImageInput", self.position, self.patch, channels=self.channels)

        def build(self) -> ImageInput:
            return ImageInput(self)

    def forward(self, inputs: Tensor, *, interpolate_positions: bool = False) -> Tensor:
        """Images [B, channels, H, W] to tokens; other sizes than the configured one need `interpolate_positions` where
        positions are trainable.
        """
        check_tensor("inputs", inputs, "B C H W", C=self.config.channels)
        return self.embed(inputs.movedim(1, -1), interpolate=interpolate_positions)


class VideoInput(_PatchInput):
    """Videos [B, T, channels, H, W] in space-time patches."""

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding over the grid of patches, (T / pt, H / ph, W / pw).
        patch: (pt, ph, pw).
        channels: colours.
        projection_channels: width of a linear map of the patch; None: none.
        """

        position: Any
        patch: tuple[int, int, int] = (1, 4, 4)
        channels: int = 3
        projection_channels: int | None = None

        def __post_init__(self) -> None:
            _check_patches("VideoInput", self.position, self.patch, channels=self.channels)

        def build(self) -> VideoInput:
            return VideoInput(self)

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("inputs", inputs, "B T C H W", C=self.config.channels)
        return self.embed(inputs.movedim(2, -1))


class ConvStemInput(InputAdapter):
    """Images [B, channels, H, W] through a 7x7 convolution, batch norm, ReLU and a 3x3 maximum, each of stride 2.

    `padding="same"` is the reference's: each stride halves the size (224 -> 56), with the odd padding at the end.
    `padding="symmetric"` pads the convolution by 3 on every side and the maximum not at all (224 -> 55): the
    arithmetic of Hugging Face's port, which its checkpoints expect.
    """

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding over the grid behind the stem.
        channels: colours.
        features: output channels of the convolution.
        padding: see the class.
        """

        position: Any
        channels: int = 3
        features: int = 64
        padding: Literal["same", "symmetric"] = "same"

        def __post_init__(self) -> None:
            check_positive("ConvStemInput", channels=self.channels, features=self.features)
            if self.padding not in ("same", "symmetric"):
                raise ValueError(f"`padding` must be 'same' or 'symmetric', got {self.padding!r}")

        def build(self) -> ConvStemInput:
            return ConvStemInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.position: PositionEncoding = config.position.build()
        self.conv = nn.Conv2d(config.channels, config.features, kernel_size=7, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(config.features)
        self.channels = config.features + self.position.channels
        self.length = self.position.count

    def _pad(self, x: Tensor, kernel: int) -> Tensor:
        if self.config.padding == "symmetric":
            side = kernel // 2 if kernel == 7 else 0
            return F.pad(x, (side, side, side, side))
        # Size ceil(n / 2) at stride 2 needs (ceil(n / 2) - 1) * 2 + kernel inputs. Zeros are neutral for the maximum
        # too, which comes behind a ReLU.
        missing = [max((-(-size // 2) - 1) * 2 + kernel - size, 0) for size in (x.shape[3], x.shape[2])]
        return F.pad(x, [side for m in missing for side in (m // 2, m - m // 2)])

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("inputs", inputs, "B C H W", C=self.config.channels)
        if min(inputs.shape[2:]) < 7:
            raise ValueError(f"`inputs` must be at least 7 x 7 pixels for the stem, got {tuple(inputs.shape[2:])}")
        x = F.relu(self.norm(self.conv(self._pad(inputs, 7))))
        x = F.max_pool2d(self._pad(x, 3), kernel_size=3, stride=2)
        return _with_positions(x.movedim(1, -1), self.position)


class AudioInput(InputAdapter):
    """Sound [B, S] or [B, S, 1] in patches of consecutive samples."""

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding over the patches, (S / samples_per_patch,).
        samples_per_patch: samples of a token.
        """

        position: Any
        samples_per_patch: int = 16

        def __post_init__(self) -> None:
            _check_patches("AudioInput", self.position, (self.samples_per_patch,))

        def build(self) -> AudioInput:
            return AudioInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.position: PositionEncoding = config.position.build()
        self.channels = config.samples_per_patch + self.position.channels
        self.length = self.position.count

    def forward(self, inputs: Tensor) -> Tensor:
        if isinstance(inputs, Tensor) and inputs.dim() == 3:
            check_tensor("inputs", inputs, "B S C", C=1)
            inputs = inputs[..., 0]
        check_tensor("inputs", inputs, "B S")
        _check_multiple("inputs", (inputs.shape[1],), (self.config.samples_per_patch,))
        return _with_positions(inputs.unflatten(1, (-1, self.config.samples_per_patch)), self.position)


class TokenInput(InputAdapter):
    """Tokens or bytes, integers [B, L] with L up to `max_length`, embedded plus trainable positions.

    With `n_grams` a token's embedding has those of the n-grams that end there added, from one table in which n-grams
    share rows by chance (Byte Latent Transformer, arXiv 2412.09871, section 3.2.1). So bytes bring words with them.
    """

    @config_class
    class Config:
        """Args:
        vocabulary: number of tokens (published byte models: 256 bytes and 6 special tokens).
        max_length: longest sequence.
        channels: width of the embedding.
        n_grams: lengths of the n-grams that are embedded too; published models have none.
        buckets: rows of their table.
        """

        vocabulary: int
        max_length: int
        channels: int
        n_grams: tuple[int, ...] = ()
        buckets: int = 32768

        def __post_init__(self) -> None:
            check_positive("TokenInput", vocabulary=self.vocabulary, max_length=self.max_length, channels=self.channels)
            check_positive(
                "TokenInput", buckets=self.buckets, **{f"n_grams[{i}]": n for i, n in enumerate(self.n_grams)}
            )

        def build(self) -> TokenInput:
            return TokenInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding.from_pretrained(torch.empty(config.vocabulary, config.channels), freeze=False)
        self.position = nn.Parameter(torch.empty(config.max_length, config.channels))
        for table in (self.embedding.weight, self.position):
            nn.init.trunc_normal_(table, std=0.02, a=-0.04, b=0.04)
        self.n_grams: nn.Embedding | None = None
        if config.n_grams:
            zeros = torch.zeros(config.buckets, config.channels)  # n-grams that were never seen say nothing
            self.n_grams = nn.Embedding.from_pretrained(zeros, freeze=False)
        self.channels = config.channels
        self.length = None

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("inputs", inputs, "B L", "integer")
        check_indices("inputs", inputs, self.config.vocabulary)
        length = inputs.shape[1]
        if length > self.config.max_length:
            raise ValueError(f"`inputs` has {length} tokens, more than `max_length` = {self.config.max_length}")
        tokens = self.embedding(inputs) + self.position[:length]
        if self.n_grams is not None:
            for n in self.config.n_grams:
                tokens = tokens + self.n_grams(n_gram_rows(inputs, n, self.config.buckets))
        return tokens


def n_gram_rows(tokens: Tensor, n: int, buckets: int) -> Tensor:
    """Numbers in [0, buckets) of the n-grams that end at each token [B, L]; what lies before the first counts as -1.

    Equal n-grams have equal numbers, on every machine: the arithmetic is modulo a prime below 2^31.
    """
    prime, base = 2_147_483_629, 1_000_003
    value = torch.full_like(tokens, n, dtype=torch.long)
    for back in range(n):
        before = F.pad(tokens.long(), (back, 0), value=-1)[:, : tokens.shape[1]]
        value = (value * base + before + 2) % prime
    return value % buckets


class LabelInput(InputAdapter):
    """A class label as one token: integers [B], or probabilities or a one-hot code [B, K]."""

    @config_class
    class Config:
        """Args:
        num_classes: K.
        """

        num_classes: int

        def __post_init__(self) -> None:
            check_positive("LabelInput", num_classes=self.num_classes)

        def build(self) -> LabelInput:
            return LabelInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels = config.num_classes
        self.length = 1

    def forward(self, inputs: Tensor) -> Tensor:
        if isinstance(inputs, Tensor) and inputs.dim() == 1:
            check_tensor("inputs", inputs, "B", "integer")
            check_indices("inputs", inputs, self.channels)
            return F.one_hot(inputs.long(), self.channels).to(torch.get_default_dtype())[:, None]
        check_tensor("inputs", inputs, "B K", K=self.channels)
        return inputs[:, None]


def pixel_neighbourhoods(frames: Tensor) -> Tensor:
    """3x3 neighbourhoods of every pixel, zero beyond the border: [B, T, C, H, W] -> [B, T, 9 * C, H, W].

    The neighbours are row-major and colours fastest.
    """
    b, t, c, h, w = frames.shape
    cut = F.unfold(frames.flatten(0, 1), kernel_size=3, padding=1)
    return cut.view(b, t, c, 9, h, w).transpose(2, 3).reshape(b, t, 9 * c, h, w)


class FlowInput(InputAdapter):
    """Pairs of frames for optical flow: one token per pixel, made of its neighbourhood in both frames.

    Takes frames [B, 2, 3, H, W] in [-1, 1], or their neighbourhoods [B, 2, 27, H, W] (`pixel_neighbourhoods`).
    """

    @config_class
    class Config:
        """Args:
        position: `Config` of a position encoding over the pixels, (H, W).
        projection_channels: width of the linear map of the 54 values of a pixel.
        """

        position: Any
        projection_channels: int = 64

        def __post_init__(self) -> None:
            check_positive("FlowInput", projection_channels=self.projection_channels)

        def build(self) -> FlowInput:
            return FlowInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.position: PositionEncoding = config.position.build()
        self.projection, features = _project(2 * 27, config.projection_channels)
        self.channels = features + self.position.channels
        self.length = self.position.count

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("inputs", inputs, "B T C H W", T=2, C=(3, 27))
        height, width = self.position.shape
        if inputs.shape[3:] != (height, width):
            raise ValueError(
                f"`inputs` has frames of {inputs.shape[3]} x {inputs.shape[4]} pixels, and this model computes flow of "
                f"{height} x {width} only: cut larger frames into (overlapping) tiles of that size, pad or resize "
                "smaller ones"
            )
        patches = pixel_neighbourhoods(inputs) if inputs.shape[2] == 3 else inputs
        features = self.projection(patches.flatten(1, 2).movedim(1, -1))
        return _with_positions(features, self.position)


class EntityInput(InputAdapter):
    """Sets of entities [B, M, features] (StarCraft II units): no positions, so their order does not matter."""

    @config_class
    class Config:
        """Args:
        features: width of an entity's vector.
        projection_channels: width of a linear embedding of it; None: the vector itself.
        """

        features: int
        projection_channels: int | None = None

        def __post_init__(self) -> None:
            check_positive("EntityInput", features=self.features)

        def build(self) -> EntityInput:
            return EntityInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.features = config.features
        self.projection, self.channels = _project(config.features, config.projection_channels)
        self.length = None

    def forward(self, inputs: Tensor) -> Tensor:
        check_tensor("inputs", inputs, "B M C", C=self.features)
        return self.projection(inputs)


class MultimodalInput(InputAdapter):
    """Adapters by modality, padded with learned vectors to a common width and concatenated in order of sorted names.

    A hidden modality has its tokens replaced by its learned mask token. Training hides tokens at random, with the
    probability of the configuration; otherwise they are hidden on request. A modality that is missing from the inputs
    counts as hidden. Hiding the label makes a classifier of an autoencoder.
    """

    @config_class
    class Config:
        """Args:
        modalities: `Config` of an input adapter per modality.
        min_padding: learned channels of the widest modality.
        mask_probabilities: per modality that has a mask token, the probability of hiding each token in training.
        """

        modalities: Mapping[str, Any]
        min_padding: int = 2
        mask_probabilities: Mapping[str, float] = field(default_factory=dict)

        def __post_init__(self) -> None:
            if not self.modalities:
                raise ValueError("`modalities` must not be empty")
            check_positive("MultimodalInput", min_padding=self.min_padding)
            check_names("mask_probabilities", self.mask_probabilities, self.modalities)
            for name, probability in self.mask_probabilities.items():
                if not 0.0 <= probability <= 1.0:
                    raise ValueError(f"`mask_probabilities[{name!r}]` must lie in [0, 1], got {probability}")

        def build(self) -> MultimodalInput:
            return MultimodalInput(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.names = tuple(sorted(config.modalities))
        self.adapters = nn.ModuleDict({name: config.modalities[name].build() for name in self.names})
        lengths = [self.adapter(name).length for name in self.names]
        self.channels = max(self.adapter(name).channels for name in self.names) + config.min_padding
        self.length = None if None in lengths else sum(lengths)  # type: ignore[arg-type]
        self.padding = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(self.channels - self.adapter(name).channels)) for name in self.names}
        )
        self.mask_tokens = nn.ParameterDict(
            {name: nn.Parameter(torch.empty(self.channels)) for name in sorted(config.mask_probabilities)}
        )
        for vector in (*self.padding.values(), *self.mask_tokens.values()):
            nn.init.trunc_normal_(vector, std=0.02, a=-0.04, b=0.04)

    def adapter(self, name: str) -> InputAdapter:
        """The adapter of one modality."""
        adapter = self.adapters[name]
        assert isinstance(adapter, InputAdapter)
        return adapter

    def forward(  # type: ignore[override]
        self, inputs: Mapping[str, Tensor], masked: Collection[str] | Mapping[str, Tensor] = ()
    ) -> Tensor:
        """Adapt and concatenate.

        Args:
            inputs: raw inputs by modality; a missing one is hidden.
            masked: names of modalities to hide, or a mapping from name to bool [B, M of the modality], True for
                tokens to hide.

        Returns:
            Tokens [B, M, C].
        """
        return self.padded(inputs, masked).joined()

    def padded(self, inputs: Mapping[str, Tensor], masked: Collection[str] | Mapping[str, Tensor] = ()) -> PaddedTokens:
        """The tokens in parts of one padding each, not yet concatenated: what the encoder attends to cheaply."""
        adapted = self._adapt(inputs)
        batch = next(iter(adapted.values())).shape[0]
        some = masked if isinstance(masked, Mapping) else {}
        check_names("masked", masked, self.names)
        hidden = {name for name in self.names if name not in inputs or (name in masked and name not in some)}
        without_token = (hidden | set(some)) - set(self.mask_tokens)
        if without_token:
            raise ValueError(
                f"{', '.join(sorted(without_token))} cannot be missing or masked: no mask token, as "
                "`mask_probabilities` does not name it"
            )
        parts = []
        for name in self.names:
            if name in hidden:
                length = adapted[name].shape[1] if name in adapted else self.adapter(name).length
                if length is None:
                    raise ValueError(f"modality {name!r} has no fixed length, so it cannot be left out of `inputs`")
                token = self.mask_tokens[name]
                parts.append(PaddedPart(token.new_empty(batch, length, 0), token))
            else:
                padding = self.padding[name]
                parts.append(
                    self._hide_some(name, PaddedPart(adapted[name].to(padding.dtype), padding), some.get(name))
                )
        return PaddedTokens(tuple(parts))

    def _adapt(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokens of every given modality, not yet padded."""
        if not isinstance(inputs, Mapping) or not inputs:
            raise TypeError(
                f"`inputs` must map some of the modalities ({', '.join(self.names)}) to tensors, "
                f"got {inputs if isinstance(inputs, Mapping) else type(inputs).__name__}"
            )
        check_names("inputs", inputs, self.names)
        adapted = {}
        for name, value in inputs.items():
            try:
                adapted[name] = self.adapter(name)(value)
            except (TypeError, ValueError, IndexError) as error:
                raise type(error)(f"modality {name!r}: {error}") from error
        batches = {name: tokens.shape[0] for name, tokens in adapted.items()}
        if len(set(batches.values())) > 1:
            raise ValueError(f"`inputs` must have one batch size, got {batches}")
        return adapted

    def _hide_some(self, name: str, part: PaddedPart, hide: Tensor | None) -> PaddedPart:
        """Replace the requested tokens, and random ones in training, by the mask token."""
        batch, length = part.features.shape[:2]
        if hide is not None:
            check_tensor(f"masked[{name!r}]", hide, "B M", "bool", B=batch, M=length)
        probability = self.config.mask_probabilities.get(name, 0.0)
        if self.training and probability > 0.0:
            random = torch.rand(batch, length, device=part.features.device) < probability
            hide = random if hide is None else hide | random
        if hide is None:
            if self.training and name in self.mask_tokens:
                # Every parameter takes part in every step, as distributed training expects.
                part = PaddedPart(part.features, part.padding + 0.0 * self.mask_tokens[name].sum())
            return part
        tokens = torch.where(hide[..., None], self.mask_tokens[name], part.joined())
        return PaddedPart(tokens, part.padding[:0])

    def token_mask(self, masks: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        """Validity masks by modality, bool [B, M of the modality], as one [B, M]; a missing one is all valid."""
        check_names("mask", masks, self.names)
        lengths = {name: self.adapter(name).length for name in self.names}
        for name, mask in masks.items():
            check_tensor(f"mask[{name!r}]", mask, "B M", "bool", B=tokens.shape[0])
            lengths[name] = mask.shape[1]
        open_ended = [name for name, length in lengths.items() if length is None]
        if len(open_ended) > 1:
            raise ValueError(f"`mask` needs an entry for modalities without a fixed length: {', '.join(open_ended)}")
        known = sum(length for length in lengths.values() if length is not None)
        return torch.cat(
            [
                masks[name]
                if name in masks
                else tokens.new_ones(len(tokens), length or tokens.shape[1] - known, dtype=torch.bool)
                for name, length in lengths.items()
            ],
            dim=1,
        )
