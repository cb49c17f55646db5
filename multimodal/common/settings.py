"""The settings that a training of any modality has."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from multimodal.common.optimizers import OptimizerConfig
from perceiver_agents.paths import make_absolute


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


def differences(settings: Any, preset: Any, prefix: str = "") -> list[str]:
    """What of `settings` is not as in `preset`, as options: `--optimizer.learning-rate 0.001 (preset: 0.0015)`."""
    found: list[str] = []
    for item in fields(settings):
        value, usual = getattr(settings, item.name), getattr(preset, item.name)
        name = f"{prefix}{item.name.replace('_', '-')}"
        if value == usual:
            continue
        if is_dataclass(value) and is_dataclass(usual):
            found += differences(value, usual, f"{name}.")
        else:
            found.append(f"--{name} {value} (preset: {usual})")
    return found
