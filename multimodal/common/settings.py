"""The settings that a training of any modality has. No heavy import: commands read them first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from perceiver_agents.paths import make_absolute


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, and Muon if asked for, with linear warm-up and cosine decay to zero."""

    learning_rate: float = 1e-3
    """Of AdamW at the end of the warm-up."""
    muon_learning_rate: float | None = None
    """Of Muon, for the matrices of attention layers and their feed-forward networks, in the scale of AdamW (root mean
    square of a step's entries). None: AdamW takes them too."""
    warmup_steps: int = 100
    """Steps of the warm-up."""
    weight_decay: float = 0.01
    """Of matrices; vectors (biases, norms, latents' scale) are not decayed."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    beta2: float = 0.999
    """Decay of AdamW's mean squared gradient; shorter runs take a faster one."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_gradient_norm <= 0 or self.weight_decay < 0 or self.warmup_steps < 0:
            raise ValueError(
                "learning_rate and max_gradient_norm must be positive, weight_decay and warmup_steps not negative; got "
                f"{self}"
            )
        if self.muon_learning_rate is not None and self.muon_learning_rate <= 0:
            raise ValueError(f"muon_learning_rate is {self.muon_learning_rate}; it must be positive, or None")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 is {self.beta2}; it must be in [0, 1)")

    def share(self, step: int, steps: int) -> float:
        """Share of the learning rates that `step` in a training of `steps` has, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """A training run: how long, how fast, where. A modality's own settings are a subclass."""

    out: str
    """Run folder; an interrupted run in it is continued. On several machines it must be shared storage."""
    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 32
    """Samples in a step, over all processes."""
    accumulate: int = 1
    """Forward and backward passes in a step; more of them need less memory."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` runs matrix products in it (autocast); parameters stay float32."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Step sizes."""
    num_processes: int = 1
    """Data-parallel processes."""
    gpu: bool = False
    """One GPU for each process; otherwise they run on the CPU."""
    cpus_per_process: int | None = None
    """CPU cores and torch threads of each process; None shares this machine's."""
    ray_address: str | None = None
    """An existing Ray cluster (`auto` or host:port); None starts Ray on this machine for the run."""
    checkpoint_every: int = 500
    """Steps between checkpoints, and previews for TensorBoard."""
    log_every: int = 10
    """Steps between logged losses."""
    max_failures: int = 3
    """How often dead processes are replaced before the run gives up; each time it goes on from the last checkpoint."""
    seed: int = 0
    """Of initialisation, sample order and every random choice."""

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        for name in ("steps", "batch_size", "accumulate", "num_processes", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_failures < 0:
            raise ValueError(f"max_failures is {self.max_failures}; it must be at least 0")
        if self.cpus_per_process is not None and self.cpus_per_process < 1:
            raise ValueError(f"cpus_per_process is {self.cpus_per_process}; it must be at least 1")
        parts = self.num_processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.num_processes} processes x "
                f"{self.accumulate} accumulated parts; take a multiple of {parts}"
            )

    def course(self) -> dict[str, Any]:
        """The settings that the course of training depends on, as plain values; a run is continued with the same."""
        names = ("steps", "batch_size", "precision", "seed")
        return {name: getattr(self, name) for name in names} | {"optimizer": asdict(self.optimizer)}


def options(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full names and values: `("optimizer.learning_rate", 0.001)`. Parts of parts come one by one.

    Takes dataclasses and mappings, so what `run.json` holds too.
    """
    pairs = (
        settings.items()
        if isinstance(settings, Mapping)
        else ((item.name, getattr(settings, item.name)) for item in fields(settings))
    )
    for name, value in pairs:
        full = f"{prefix}{name}"
        if is_dataclass(value) or isinstance(value, Mapping):
            yield from options(value, f"{full}.")
        else:
            yield full, value


def differences(settings: Any, preset: Any) -> list[str]:
    """What of `settings` is not as in `preset`, as options: `--optimizer.learning-rate 0.001 (preset: 0.0015)`."""
    usual = dict(options(preset))
    return [
        f"--{name.replace('_', '-')} {value}" + (f" (preset: {usual[name]})" if name in usual else "")
        for name, value in options(settings)
        if name not in usual or value != usual[name]
    ]
