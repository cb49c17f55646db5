"""Perceiver IO: the model, its input adapters, query generators, output adapters, presets and checkpoints."""

from perceiver_core.attention import AttentionConfig
from perceiver_core.entities import EntityEncoder, EntityEncoding
from perceiver_core.model import (
    DecoderConfig,
    EncoderConfig,
    Perceiver,
    PerceiverConfig,
    PerceiverDecoder,
    PerceiverEncoder,
    PerceiverIO,
    PerceiverIOConfig,
)

__all__ = [
    "AttentionConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EntityEncoder",
    "EntityEncoding",
    "Perceiver",
    "PerceiverConfig",
    "PerceiverDecoder",
    "PerceiverEncoder",
    "PerceiverIO",
    "PerceiverIOConfig",
]
