"""Settings of pretraining and fine-tuning on text, and their recipes. No heavy import: commands read them first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from multimodal.common.settings import OptimizerConfig, TrainingSettings
from perceiver_agents.paths import absolute_if_exists, absolute_if_folder, make_absolute

MODALITY = "language"
"""What `run.json` says that was trained."""

Encoder = Literal["perceiver", "transformer"]
Match = Literal["flops", "parameters"]


def _recipe() -> OptimizerConfig:
    """Of both jobs at the size of `tiny`: Muon for the attention layers, a fast AdamW for embeddings and heads."""
    return OptimizerConfig(learning_rate=5e-3, muon_learning_rate=6e-3, warmup_steps=50, beta2=0.95)


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingSettings):
    """A pretraining on text."""

    data: str | None = None
    """File or folder of text (.txt, .md, .rst, .jsonl, .parquet); None takes the docstrings of installed packages."""
    text_column: str = "text"
    """Where the text is in JSON Lines and Parquet."""
    preset: str = "tiny"
    """Sizes: tiny (256 tokens, minutes on two cores), small (1,024 tokens, one GPU) or paper (as published: 2,048)."""
    max_length: int | None = None
    """Another row length than the preset's."""
    num_latents: int | None = None
    """Another number of latents than the preset's."""
    tokens: Literal["bytes", "wordpiece", "bpe"] = "bytes"
    """UTF-8 bytes, or pieces learnt from the data."""
    vocabulary: int = 8000
    """Size of a vocabulary that is learnt."""
    objective: Literal["masked", "next"] = "masked"
    """Tell masked tokens, or the next one (Perceiver AR), to generate text."""
    encoder: Encoder = "perceiver"
    """`transformer` trains the baseline by the same recipe."""
    match: Match = "flops"
    """What a Transformer has as much of as the preset's Perceiver IO."""
    mask_unit: Literal["tokens", "words"] = "tokens"
    """Mask single tokens, or whole words, as published."""
    mask_share: float = 0.15
    """Share of the tokens that are masked."""
    start_from: str | None = None
    """Run folder, or folder or hub id of a published checkpoint, whose weights this run begins with."""
    held_out_rows: int = 512
    """Held-out rows that are measured with every checkpoint."""
    checkpoint_every: int = 250
    """Steps between checkpoints and held-out measures."""
    optimizer: OptimizerConfig = field(default_factory=_recipe)
    """Step sizes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        make_absolute(self, "data")
        if self.start_from is not None:
            object.__setattr__(self, "start_from", absolute_if_folder(self.start_from))
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share is {self.mask_share}; it must lie between 0 and 1")
        for name in ("max_length", "num_latents"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ValueError(f"{name} is {value}; it must be at least 2")
        if not 300 <= self.vocabulary <= 2**16:
            raise ValueError(f"vocabulary is {self.vocabulary}; it must lie between 300 and 65,536")
        if self.held_out_rows < 1:
            raise ValueError(f"held_out_rows is {self.held_out_rows}; it must be at least 1")

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        names = (
            *("data", "text_column", "preset", "max_length", "num_latents", "tokens", "vocabulary", "objective"),
            *("encoder", "match", "mask_unit", "mask_share", "start_from"),
        )
        return super().course() | {name: getattr(self, name) for name in names}


PRESETS = ("tiny", "small", "paper")


def pretraining_recipe(preset: str, out: str) -> PretrainingConfig:
    """The whole recipe of a preset.

    Raises:
        ValueError: no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    base = PretrainingConfig(out=out, preset=preset)
    if preset == "tiny":
        return replace(base, steps=1500, batch_size=12, cpus_per_process=1)
    # The paper's batch and rate, scaled to one GPU: it takes 2,048 rows, LAMB at 1.25e-3 and 500,000 steps.
    published = OptimizerConfig(learning_rate=5e-4, warmup_steps=1000)
    if preset == "small":
        faster = replace(published, learning_rate=2e-3, muon_learning_rate=2e-3, beta2=0.95)
        return replace(base, steps=20_000, batch_size=64, optimizer=faster, checkpoint_every=1000)
    return replace(base, steps=500_000, batch_size=512, mask_unit="words", optimizer=published, checkpoint_every=1000)


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(TrainingSettings):
    """A training on labelled tasks, one or many at once."""

    start_from: str | None = None
    """Run folder of a pretraining, or folder or hub id of a published byte model; None begins at random."""
    tasks: tuple[str, ...] = ()
    """Names: embedded ones (package, signature, follows, order, parameter-count) without --data, GLUE's with it. Empty:
    all embedded ones, or with --data the table there."""
    data: str | None = None
    """Folder of GLUE, hub id, or your table or folder of tables; None takes docstrings of installed packages."""
    text_columns: tuple[str, ...] = ("text",)
    """One or two columns of your table."""
    label_column: str = "label"
    """Of your table."""
    scored: bool = False
    """Labels of your table are scores."""
    sign_margin: float | None = None
    """The classes are the signs of your table's scores; those nearer to zero than this are left out."""
    way: Literal["task-queries", "shared-token", "task-tokens"] = "task-queries"
    """How tasks are told apart: a query each, heads on one shared token, or an input token each."""
    hide_share: float = 0.0
    """Share of the tokens that a step shows as `[MASK]`, others in every epoch. In long trainings on few texts it keeps
    n-grams from being learnt by heart; short ones are better without."""
    preset: str = "tiny"
    """Sizes where nothing is started from."""
    max_length: int | None = None
    """Another longest text than the preset's; without --start-from."""
    num_latents: int | None = None
    """Another number of latents than the preset's; without --start-from."""
    encoder: Encoder = "perceiver"
    """`transformer` trains the baseline by the same recipe; without --start-from."""
    match: Match = "flops"
    """What that Transformer has as much of as the preset's Perceiver IO."""
    steps: int = 1500
    """Optimizer steps."""
    checkpoint_every: int = 500
    """Steps between checkpoints and measures of test examples."""
    cpus_per_process: int | None = 1
    """CPU cores and torch threads of each process; None shares this machine's."""
    optimizer: OptimizerConfig = field(default_factory=lambda: finetuning_rates())
    """Step sizes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start_from", "data"):
            if getattr(self, name) is not None:  # else a hub id
                object.__setattr__(self, name, absolute_if_exists(getattr(self, name)))
        if not 1 <= len(self.text_columns) <= 2:
            raise ValueError(f"text_columns are {', '.join(self.text_columns)}; expected one or two")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks are {', '.join(self.tasks)}; each may come once")
        if not 0 <= self.hide_share < 1:
            raise ValueError(f"hide_share is {self.hide_share}; it must be at least 0 and below 1")
        if self.scored and self.sign_margin is not None:
            raise ValueError("--scored keeps scores and --sign-margin makes classes of them; give one of them")

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        names = (
            *("start_from", "tasks", "data", "text_columns", "label_column", "scored", "sign_margin", "way"),
            *("hide_share", "preset", "max_length", "num_latents", "encoder", "match"),
        )
        return super().course() | {name: getattr(self, name) for name in names}


def finetuning_rates() -> OptimizerConfig:
    """Step sizes of fine-tuning at the size of `tiny`; for a published model take some 1e-5, without Muon."""
    return OptimizerConfig(learning_rate=5e-3, muon_learning_rate=6e-3, warmup_steps=30, beta2=0.95)
