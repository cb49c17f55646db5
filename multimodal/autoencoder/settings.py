"""Settings of the autoencoder's training, and the recipe of each preset. No heavy import: commands read them first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from multimodal.clips.settings import CacheConfig, LoaderConfig
from multimodal.common.settings import OptimizerConfig, TrainingSettings
from perceiver_agents.paths import make_absolute

MODALITY = "autoencoder"
"""What `run.json` says that was trained."""


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """How much a modality's reconstruction counts, and how often training hides its input."""

    weight: float
    """Factor of the term."""
    hide: float = 0.0
    """Probability that a clip's input is hidden. Of picture, sound and their like at most one is, so theirs add to at
    most 1. In the paper 0 for these; more is needed to reconstruct one from the other."""

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight is {self.weight}; a loss weight cannot be negative")
        if not 0 <= self.hide <= 1:
            raise ValueError(f"hide is {self.hide}; a probability is in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class SignalTerm(LossTerm):
    """The term of picture, sound and their like."""

    queries: int = 512
    """Random outputs (pixels, patches) asked of every clip in a step; all if a clip has fewer."""
    error: Literal["absolute", "squared"] = "absolute"
    """Squared error is what PSNR measures; absolute error prefers silence to a tone of uncertain phase."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1:
            raise ValueError(f"queries is {self.queries}; at least one output must be asked for")


Loss = Mapping[str, LossTerm]
"""Terms by the modality's name."""


def paper_loss() -> dict[str, LossTerm]:
    """The paper's: absolute errors and 512 queries of each signal, the label hidden half of the time."""
    return {
        "video": SignalTerm(weight=0.03),
        "audio": SignalTerm(weight=1.0),
        "label": LossTerm(weight=0.0001, hide=0.5),
    }


def tiny_loss() -> dict[str, LossTerm]:
    """For the generated clips: picture and sound are weighted to about the same variance, the label is worth more.
    Inputs are hidden so that each modality can be had from the other.
    """
    return {
        "video": SignalTerm(weight=9.0, hide=0.05, queries=128, error="squared"),
        "audio": SignalTerm(weight=4.5, hide=0.05, error="squared"),
        "label": LossTerm(weight=0.2, hide=0.75),
    }


def check_hidden(loss: Loss) -> None:
    """Raises ValueError where signals are hidden more often than always."""
    shares = {name: term.hide for name, term in loss.items() if isinstance(term, SignalTerm)}
    if sum(shares.values()) > 1:
        listed = ", ".join(f"{name} {share}" for name, share in shares.items())
        raise ValueError(f"`hide` of {listed} adds to more than 1; a clip has one of them hidden at a time")


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainingConfig(TrainingSettings):
    """A training run of the autoencoder."""

    data: str | None = None
    """Folder with labelled clips (see `multimodal.clips.datasets`); None generates the default set under `out`."""
    preset: str = "tiny"
    """Recipe: tiny (8 frames of 32 x 32, minutes on two cores), small (16 frames of 64 x 64, one GPU) or paper (the
    published configuration)."""
    num_latents: int | None = None
    """Another number of latents than the preset's: the compression knob."""
    start_from: str | None = None
    """Run folder whose weights and class list this run begins with; None begins at random. Its sizes must be the same;
    modalities that it lacks begin at random. `multimodal.autoencoder.published` makes one of a published checkpoint."""
    loss: dict[str, LossTerm] = field(default_factory=paper_loss)
    """Terms by modality: weight, random subset of outputs, hidden inputs."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """Decoding processes, augmentation, cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        make_absolute(self, "data", "start_from")
        if self.num_latents is not None and self.num_latents < 1:
            raise ValueError(f"num_latents is {self.num_latents}; it must be at least 1")
        check_hidden(self.loss)

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        return super().course() | {
            "data": self.data,
            "preset": self.preset,
            "start_from": self.start_from,
            "loss": {name: asdict(term) for name, term in self.loss.items()},
            "augmentation": asdict(self.loader.augmentation),
        }


RECIPES = ("tiny", "small", "paper")
"""The presets."""


def default_config(name: str, out: str) -> AutoencoderTrainingConfig:
    """The whole recipe of a preset: model, loss, rates, loader.

    Raises:
        ValueError: no such preset.
    """
    if name not in RECIPES:
        raise ValueError(f"no preset {name!r}; there are {', '.join(RECIPES)}")
    base = AutoencoderTrainingConfig(out=out, preset=name)
    if name == "tiny":
        return replace(
            base,
            steps=5_000,
            batch_size=16,
            checkpoint_every=1000,
            loss=tiny_loss(),
            optimizer=OptimizerConfig(learning_rate=1.5e-3, muon_learning_rate=3e-3, beta2=0.95),
            cpus_per_process=1,  # its products are too small to share: a second thread makes a step slower
            # Decoding anew would take as long as a training step.
            loader=LoaderConfig(num_workers=1, cache=CacheConfig(max_bytes=2**30)),
        )
    return replace(
        base, steps=100_000, batch_size=64, checkpoint_every=1000, optimizer=OptimizerConfig(warmup_steps=5000)
    )
