"""What a `config.json` of transformers' PerceiverConfig says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from perceiver_core.attention import AttentionConfig
from perceiver_core.model import EncoderConfig

# What `labels` are: numbers to predict, one class, or any number of classes.
PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig:
    """The fields of transformers' PerceiverConfig that decide on the architecture, with its defaults.

    Attributes:
        label_query_channels: transformers' `_label_trainable_num_channels`.
        num_labels: classes.
        id2label: names of the classes by number; given none, LABEL_0 and so on.
        problem_type: what `labels` are; None: told by their dtype and the number of classes.
    """

    num_latents: int = 256
    d_latents: int = 1280
    d_model: int = 768
    num_blocks: int = 1
    num_self_attends_per_block: int = 26
    num_self_attention_heads: int = 8
    num_cross_attention_heads: int = 8
    qk_channels: int | None = None
    v_channels: int | None = None
    cross_attention_shape_for_attention: Literal["q", "kv"] = "kv"
    self_attention_widening_factor: int = 1
    cross_attention_widening_factor: int = 1
    hidden_act: str = "gelu"
    use_query_residual: bool = True
    vocab_size: int = 262
    max_position_embeddings: int = 2048
    image_size: int | tuple[int, int] = 56
    train_size: tuple[int, int] = (368, 496)
    num_frames: int = 16
    audio_samples_per_frame: int = 1920
    samples_per_patch: int = 16
    output_shape: tuple[int, int, int, int] = (1, 16, 224, 224)
    output_num_channels: int = 512
    label_query_channels: int = 1024
    num_labels: int = 2
    id2label: Mapping[int, str] = field(default_factory=dict)
    problem_type: str | None = None

    def __post_init__(self) -> None:
        if not self.id2label:
            names = {number: f"LABEL_{number}" for number in range(self.num_labels)}
            object.__setattr__(self, "id2label", names)
        if sorted(self.id2label) != list(range(self.num_labels)):
            raise ValueError(
                f"`id2label` must name the {self.num_labels} classes 0 to {self.num_labels - 1}, "
                f"got the numbers {sorted(self.id2label)}"
            )
        if self.problem_type not in (None, *PROBLEMS):
            raise ValueError(f"`problem_type` must be one of {', '.join(PROBLEMS)}, got {self.problem_type!r}")

    @property
    def label2id(self) -> dict[str, int]:
        """Numbers of the classes by name."""
        return {name: number for number, name in self.id2label.items()}

    def with_labels(self, num_labels: int | None, id2label: Mapping[int, str] | None) -> HuggingFaceConfig:
        """The same model with other classes; what is None stays, or follows from the other."""
        if num_labels is None and id2label is None:
            return self
        count = len(id2label or ()) if num_labels is None else num_labels
        if id2label is None:
            id2label = self.id2label if count == self.num_labels else {}
        return replace(self, num_labels=count, id2label=dict(id2label))

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> HuggingFaceConfig:
        """Take the fields from the JSON object of a `config.json`; absent ones keep transformers' defaults."""
        given = {name: data[name] for name in cls.__annotations__ if name in data}
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        if "_label_trainable_num_channels" in data:
            fields["label_query_channels"] = data["_label_trainable_num_channels"]
        if data.get("id2label"):
            fields["num_labels"] = len(data["id2label"])
            fields["id2label"] = {int(number): name for number, name in data["id2label"].items()}
        return cls(**fields)

    @property
    def image_grid(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
        return height, width

    def encoder(self) -> EncoderConfig:
        """The encoder's sizes."""
        return EncoderConfig(
            num_latents=self.num_latents,
            latent_channels=self.d_latents,
            num_self_attends=self.num_self_attends_per_block,
            num_blocks=self.num_blocks,
            cross_attention=AttentionConfig(
                num_heads=self.num_cross_attention_heads,
                qk_channels=self.qk_channels or self.cross_attention_shape_for_attention,
                v_channels=self.v_channels,
                widening_factor=self.cross_attention_widening_factor,
                query_residual=self.use_query_residual,
            ),
            self_attention=AttentionConfig(
                num_heads=self.num_self_attention_heads,
                qk_channels=self.qk_channels or "q",
                v_channels=self.v_channels,
                widening_factor=self.self_attention_widening_factor,
            ),
        )
