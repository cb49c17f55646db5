"""Perceiver IO (arXiv 2107.14795) and the original Perceiver (arXiv 2103.03206).

    inputs -> input adapter -> tokens [B, M, C] -> encode -> latents [B, N, D] -> decode(queries [B, O, E]) -> [B, O, F]

Encoder and decoder know nothing of modalities; input adapters, query generators and output adapters do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from perceiver_core.accelerated.kernels import KeysValues
from perceiver_core.accelerated.padded import PaddedTokens
from perceiver_core.attention import AttentionConfig, CrossAttention, SelfAttention, check_mask, init_linear
from perceiver_core.bottleneck import Bottleneck, BottleneckConfig
from perceiver_core.checks import check_positive, check_tensor
from perceiver_core.config import config_class
from perceiver_core.hub import HubModel
from perceiver_core.inputs import InputAdapter, MultimodalInput
from perceiver_core.outputs import MultimodalOutput, OutputAdapter
from perceiver_core.queries import NamedQueries, QueryGenerator

Outputs = Tensor | dict[str, Tensor]
Positions = Tensor | Mapping[str, Tensor | None]


@config_class
class EncoderConfig:
    """Sizes of the encoder.

    The encoder runs `num_blocks` blocks of `num_self_attends` self-attention layers over the latents. A cross-attend
    to the inputs stands before each of the first `num_cross_attends` blocks: one in Perceiver IO, several in the
    original Perceiver. Blocks and cross-attends repeat their weights: the i-th uses the i-th distinct set, and all
    that come after the last distinct set use that one.

    Args:
        num_latents: N.
        latent_channels: D.
        num_self_attends: self-attention layers in a block.
        num_blocks: blocks.
        num_cross_attends: blocks that start with a cross-attend.
        distinct_blocks: sets of block weights (1: all blocks share).
        distinct_cross_attends: sets of cross-attend weights (2: the first has its own, the others share).
        cross_attention: the cross-attends' layer.
        self_attention: the self-attends' layer.
    """

    num_latents: int
    latent_channels: int
    num_self_attends: int
    num_blocks: int = 1
    num_cross_attends: int = 1
    distinct_blocks: int = 1
    distinct_cross_attends: int = 1
    cross_attention: AttentionConfig = field(default_factory=lambda: AttentionConfig(num_heads=1))
    self_attention: AttentionConfig = field(default_factory=lambda: AttentionConfig(num_heads=8))

    def __post_init__(self) -> None:
        counts = ("num_latents", "latent_channels", "num_self_attends", "num_blocks", "num_cross_attends")
        shared = ("distinct_blocks", "distinct_cross_attends")
        check_positive("EncoderConfig", **{name: getattr(self, name) for name in counts + shared})
        for name, limit in (
            ("num_cross_attends", "num_blocks"),
            ("distinct_blocks", "num_blocks"),
            ("distinct_cross_attends", "num_cross_attends"),
        ):
            if getattr(self, name) > getattr(self, limit):
                raise ValueError(
                    f"EncoderConfig: `{name}` = {getattr(self, name)} exceeds `{limit}` = {getattr(self, limit)}"
                )
        self.self_attention.widths(self.latent_channels, self.latent_channels)


class PerceiverEncoder(nn.Module):
    """Inputs to latents: [B, M, C] -> [B, N, D].

    Attributes:
        checkpoint_activations: keep only each layer's input for the backward pass and compute the rest again there:
            less memory for a third more time, same gradients. May be set at any time.
    """

    checkpoint_activations: bool = False

    def __init__(self, config: EncoderConfig, *, input_channels: int) -> None:
        super().__init__()
        check_positive("PerceiverEncoder", input_channels=input_channels)
        self.config = config
        self.input_channels = input_channels
        self.latents = nn.Parameter(torch.empty(config.num_latents, config.latent_channels))
        nn.init.trunc_normal_(self.latents, std=0.02, a=-0.04, b=0.04)
        self.cross_attends = nn.ModuleList(
            CrossAttention(config.cross_attention, query_channels=config.latent_channels, input_channels=input_channels)
            for _ in range(config.distinct_cross_attends)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                SelfAttention(config.self_attention, channels=config.latent_channels)
                for _ in range(config.num_self_attends)
            )
            for _ in range(config.distinct_blocks)
        )

    def forward(self, inputs: Tensor | PaddedTokens, mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            inputs: [B, M, C], in parts of the same padding or not.
            mask: bool [B, M], True for valid inputs. Masked slots may hold anything, NaN included: nothing of them
                reaches the output. A sample without valid inputs is encoded as if nothing had been attended to.

        Returns:
            Latents [B, N, D].
        """
        if isinstance(inputs, PaddedTokens):
            if mask is None:
                return self.run(lambda cross_attend, latents: cross_attend(latents, inputs))
            inputs = inputs.joined()
        check_tensor("inputs", inputs, "B M C", C=self.input_channels)
        check_mask("mask", mask, inputs.shape[0], inputs.shape[1])
        if mask is not None:
            inputs = torch.where(mask[..., None], inputs, 0.0)
        return self.run(lambda cross_attend, latents: cross_attend(latents, inputs, mask))

    def run(self, attend_inputs: Callable[[CrossAttention, Tensor], Tensor]) -> Tensor:
        """Run the encoder's layers, with the caller's way to the inputs.

        Args:
            attend_inputs: called with a cross-attend and the latents [B or 1, N, D] in the place of
                `cross_attend(latents, inputs, mask)`; gives latents [B, N, D]. Packed sets come in here.

        Returns:
            Latents [B, N, D].
        """
        latents = self.latents[None]
        for i in range(self.config.num_blocks):
            if i < self.config.num_cross_attends:
                cross_attend = self.cross_attends[min(i, self.config.distinct_cross_attends - 1)]
                latents = self._maybe_checkpoint(attend_inputs, cross_attend, latents)
            block = self.blocks[min(i, self.config.distinct_blocks - 1)]
            assert isinstance(block, nn.ModuleList)
            for self_attend in block:
                latents = self._maybe_checkpoint(self_attend, latents)
        return latents

    def _maybe_checkpoint(self, layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
        if self.checkpoint_activations and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)


@config_class
class DecoderConfig:
    """Sizes of the decoder.

    Args:
        attention: the decoder's cross-attention.
        output_channels: width of the final linear map; None: no such map, outputs are as wide as the queries.
    """

    attention: AttentionConfig = field(default_factory=lambda: AttentionConfig(num_heads=1))
    output_channels: int | None = None

    def __post_init__(self) -> None:
        if self.output_channels is not None:
            check_positive("DecoderConfig", output_channels=self.output_channels)


class PerceiverDecoder(nn.Module):
    """Queries and latents to outputs: [B, O, E], [B, N, D] -> [B, O, F]. Each output depends on its own query only."""

    def __init__(self, config: DecoderConfig, *, query_channels: int, latent_channels: int) -> None:
        super().__init__()
        check_positive("PerceiverDecoder", query_channels=query_channels, latent_channels=latent_channels)
        self.config = config
        self.query_channels = query_channels
        self.latent_channels = latent_channels
        self.cross_attend = CrossAttention(
            config.attention, query_channels=query_channels, input_channels=latent_channels
        )
        self.channels = config.output_channels or query_channels
        self.final: nn.Linear | nn.Identity = (
            init_linear(nn.Linear(query_channels, config.output_channels)) if config.output_channels else nn.Identity()
        )

    def keys_values(self, latents: Tensor) -> KeysValues:
        """Project latents [B, N, D] once, to decode any number of query sets from them."""
        check_tensor("latents", latents, "B N D", D=self.latent_channels)
        return self.cross_attend.keys_values(latents)

    def forward(self, queries: Tensor, latents: Tensor | KeysValues, query_mask: Tensor | None = None) -> Tensor:
        """Decode.

        Args:
            queries: [B or 1, O, E].
            latents: [B, N, D], or what `keys_values` made of them.
            query_mask: bool [B, O], True for queries that are wanted; the others' outputs are exact zeros.

        Returns:
            [B, O, F].
        """
        memory = latents if isinstance(latents, KeysValues) else self.keys_values(latents)
        batch = memory.keys.shape[0]
        check_tensor("queries", queries, "B O E", B=(1, batch), E=self.query_channels)
        check_mask("query_mask", query_mask, batch, queries.shape[1])
        out = self.final(self.cross_attend(queries, memory))
        return out if query_mask is None else torch.where(query_mask[..., None], out, 0.0)


@config_class
class PerceiverIOConfig:
    """The five parts of a model. Widths that follow from a neighbour are not repeated: they are taken from it.

    Args:
        inputs: `Config` of an input adapter (`perceiver_core.inputs`).
        encoder: sizes of the encoder.
        queries: `Config` of a query generator (`perceiver_core.queries`).
        decoder: sizes of the decoder.
        outputs: `Config` of an output adapter (`perceiver_core.outputs`).
        bottleneck: sizes of a code between encoder and decoder; None: the latents are decoded as they are.
    """

    inputs: Any
    encoder: EncoderConfig
    queries: Any
    decoder: DecoderConfig
    outputs: Any
    bottleneck: BottleneckConfig | None = None


class PerceiverIO(HubModel):
    """Input adapter, encoder, query generator, decoder and output adapter.

    `encode` once and `decode` what is needed: all outputs, a subset of positions, or some of the modalities.
    """

    def __init__(self, config: PerceiverIOConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs: InputAdapter = config.inputs.build()
        self.encoder = PerceiverEncoder(config.encoder, input_channels=self.inputs.channels)
        sizes = {"num_latents": config.encoder.num_latents, "latent_channels": config.encoder.latent_channels}
        self.bottleneck = None if config.bottleneck is None else Bottleneck(config.bottleneck, **sizes)
        self.queries: QueryGenerator = config.queries.build(self.inputs)
        self.decoder = PerceiverDecoder(
            config.decoder,
            query_channels=self.queries.channels,
            latent_channels=config.encoder.latent_channels,
        )
        self.outputs: OutputAdapter = config.outputs.build(self.decoder.channels, self.inputs)
        if isinstance(self.queries, NamedQueries) != isinstance(self.outputs, MultimodalOutput):
            raise ValueError("`queries` by name (multimodal, tasks) and a multimodal `outputs` belong together")
        if isinstance(self.queries, NamedQueries) and isinstance(self.outputs, MultimodalOutput):
            self.outputs.check_covers(self.queries.names)

    def tokens(self, inputs: Any, masked: Collection[str] | Mapping[str, Tensor] = ()) -> Tensor:
        """Adapted inputs [B, M, C]: what the encoder attends to, and what input-derived queries are made of."""
        if isinstance(self.inputs, MultimodalInput):
            return self.inputs(inputs, masked)
        if masked:
            raise ValueError("`masked` names modalities to hide, and this model's input has only one")
        return self.inputs(inputs)

    def encode(
        self,
        inputs: Any,
        mask: Tensor | Mapping[str, Tensor] | None = None,
        *,
        masked: Collection[str] | Mapping[str, Tensor] = (),
    ) -> Tensor:
        """Encode raw inputs.

        Args:
            inputs: what the input adapter takes; a mapping by modality for a multimodal one.
            mask: bool [B, M] over the adapter's tokens, True for valid ones. Multimodal models also take one per
                modality; all tokens of a modality without an entry are valid.
            masked: modalities to replace by their mask token (see `MultimodalInput`).

        Returns:
            Latents [B, N, D], or with a bottleneck the code [B, N, c].
        """
        return self.encode_with_tokens(inputs, mask, masked=masked)[0]

    def encode_with_tokens(
        self,
        inputs: Any,
        mask: Tensor | Mapping[str, Tensor] | None = None,
        *,
        masked: Collection[str] | Mapping[str, Tensor] = (),
    ) -> tuple[Tensor, Tensor | None]:
        """`encode`, and the tokens [B, M, C] that `decode` needs where queries are derived from the inputs.

        The tokens are None where nothing needed them as one array.
        """
        if isinstance(self.inputs, MultimodalInput) and mask is None and not self.queries.uses_inputs:
            tokens, latents = None, self.encoder(self.inputs.padded(inputs, masked))
        else:
            tokens = self.tokens(inputs, masked)
            latents = self.encoder(tokens, self._token_mask(mask, tokens))
        return (latents if self.bottleneck is None else self.bottleneck.narrow(latents)), tokens

    def decode(
        self,
        latents: Tensor,
        positions: Positions | None = None,
        *,
        inputs: Any = None,
        tokens: Tensor | None = None,
        query_mask: Tensor | None = None,
        chunk_size: int | None = None,
    ) -> Outputs:
        """Decode outputs from latents.

        Args:
            latents: what `encode` gave: [B, N, D], or with a bottleneck [B, N, c].
            positions: which outputs, as integer indices [O] or [B, O]; None: all. For queries by name (modalities,
                tasks) a mapping from name to indices or None; names that are left out are not decoded.
            inputs: the raw inputs again, where the queries are derived from them.
            tokens: what `tokens` made of the inputs, in the place of `inputs`.
            query_mask: bool [B, O]: outputs to leave as zeros. For models with a single kind of query.
            chunk_size: most queries to decode at a time, which bounds memory; the latents' keys and values are
                computed once. None: all at once.

        Returns:
            What the output adapter makes of [B, O, F]; a dict of it by name for queries by name.
        """
        if chunk_size is not None:
            check_positive("decode", chunk_size=chunk_size)
        if tokens is None and inputs is not None and self.queries.uses_inputs:
            tokens = self.tokens(inputs)
        if self.bottleneck is not None:
            latents = self.bottleneck.widen(latents)
        if isinstance(self.queries, NamedQueries) and isinstance(self.outputs, MultimodalOutput):
            if query_mask is not None:
                raise ValueError("`query_mask` is for models with one kind of query; pass `positions` by name instead")
            return self._decode_by_name(self.queries, self.outputs, latents, positions, tokens, chunk_size)
        if isinstance(positions, Mapping):
            raise TypeError("`positions` by name need queries by name; pass an integer tensor [O] or [B, O]")
        memory = self.decoder.keys_values(latents)
        if chunk_size is None:
            rows = self.outputs(self.decoder(self.queries(positions, tokens), memory, query_mask))
        else:
            chunks = self._chunks(positions, self.queries.count(tokens), chunk_size, latents.device)
            masks = [None] * len(chunks) if query_mask is None else query_mask.split(chunk_size, dim=1)
            decoded = [
                self.outputs(self.decoder(self.queries(chunk, tokens), memory, mask))
                for chunk, mask in zip(chunks, masks, strict=True)
            ]
            rows = torch.cat(decoded, dim=1)
        return self.outputs.assemble(rows, whole=positions is None)

    def forward(
        self,
        inputs: Any,
        mask: Tensor | Mapping[str, Tensor] | None = None,
        positions: Positions | None = None,
        *,
        masked: Collection[str] | Mapping[str, Tensor] = (),
        query_mask: Tensor | None = None,
        chunk_size: int | None = None,
    ) -> Outputs:
        """`encode`, then `decode`; the arguments are theirs."""
        latents, tokens = self.encode_with_tokens(inputs, mask, masked=masked)
        return self.decode(latents, positions, tokens=tokens, query_mask=query_mask, chunk_size=chunk_size)

    def _token_mask(self, mask: Tensor | Mapping[str, Tensor] | None, tokens: Tensor) -> Tensor | None:
        if not isinstance(mask, Mapping):
            return mask
        if not isinstance(self.inputs, MultimodalInput):
            raise TypeError("`mask` by modality needs a multimodal input; pass a bool tensor [B, M]")
        return self.inputs.token_mask(mask, tokens)

    @staticmethod
    def _chunks(positions: Tensor | None, count: int, chunk_size: int, device: torch.device) -> Sequence[Tensor]:
        index = torch.arange(count, device=device) if positions is None else positions
        return index.split(chunk_size, dim=-1)

    def _decode_by_name(
        self,
        queries: NamedQueries,
        outputs: MultimodalOutput,
        latents: Tensor,
        positions: Positions | None,
        tokens: Tensor | None,
        chunk_size: int | None,
    ) -> dict[str, Tensor]:
        asked = queries.asked(positions)
        memory = self.decoder.keys_values(latents)
        if chunk_size is None:
            by_name = queries.by_name(asked, tokens)
            sizes = {name: rows.shape[1] for name, rows in by_name.items()}
            rows = outputs(self.decoder(queries.join(by_name), memory), sizes)
        else:
            rows = {}
            for name, index in asked.items():
                chunks = self._chunks(index, queries.count_name(name, tokens), chunk_size, latents.device)
                adapter = outputs.adapters[name]
                decoded = [adapter(self.decoder(queries.rows(name, chunk, tokens), memory)) for chunk in chunks]
                rows[name] = torch.cat(decoded, dim=1)
        return outputs.assemble_by_name(rows, whole={name: index is None for name, index in asked.items()})


@config_class
class PerceiverConfig:
    """The original Perceiver: input adapter, encoder with repeated cross-attends, classes.

    Args:
        inputs: `Config` of an input adapter.
        encoder: sizes of the encoder; set `num_cross_attends`.
        num_classes: width of the output.
    """

    inputs: Any
    encoder: EncoderConfig
    num_classes: int

    def __post_init__(self) -> None:
        check_positive("PerceiverConfig", num_classes=self.num_classes)


class Perceiver(HubModel):
    """The original Perceiver (arXiv 2103.03206): the latents' average, then one linear map to class logits."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs: InputAdapter = config.inputs.build()
        self.encoder = PerceiverEncoder(config.encoder, input_channels=self.inputs.channels)
        self.classifier = init_linear(nn.Linear(config.encoder.latent_channels, config.num_classes))

    def encode(self, inputs: Any, mask: Tensor | None = None) -> Tensor:
        """Raw inputs and a bool mask [B, M] over their tokens to latents [B, N, D]."""
        return self.encoder(self.inputs(inputs), mask)

    def forward(self, inputs: Any, mask: Tensor | None = None) -> Tensor:
        """Class logits [B, K]."""
        return self.classifier(self.encode(inputs, mask).mean(dim=1))
