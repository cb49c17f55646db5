"""The published models, at their published sizes by default."""

from __future__ import annotations

from perceiver_core.entities import EntityEncoder, EntityEncoding, entity_encoder

__all__ = ["EntityEncoder", "EntityEncoding", "entity_encoder"]
