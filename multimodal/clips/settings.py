"""How clips are loaded and changed in training. No heavy import: commands read these settings first."""

from __future__ import annotations

from dataclasses import dataclass, field

from perceiver_agents.paths import make_absolute


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of the picture in training; the defaults change nothing but the place of the crop."""

    min_area: float = 1.0
    """Smallest share of the largest fitting crop's area that a random crop takes (1: always all of it)."""
    flip: float = 0.0
    """Probability of a left-right mirror image."""
    jitter: float = 0.0
    """Greatest relative change of brightness, contrast and saturation."""

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area is {self.min_area}; it must be in (0, 1]")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is {self.flip}; a probability is in [0, 1]")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where decoded files are kept, and how much of them."""

    folder: str | None = None
    """Cache folder, made if missing; it may be shared by runs. None: `decoded` in the run's folder."""
    max_bytes: int
    """Bound on the entries' total size."""

    def __post_init__(self) -> None:
        make_absolute(self, "folder")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}; give the bound in bytes, or no cache at all")


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How clips are loaded."""

    num_workers: int = 2
    """Decoding processes of each training process; 0 decodes in it."""
    prefetch: int = 4
    """Batches that each worker process prepares ahead."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the picture in training."""
    cache: CacheConfig | None = None
    """Decoded files on disk; None decodes anew each time."""

    def __post_init__(self) -> None:
        if self.num_workers < 0 or self.prefetch < 1:
            raise ValueError(
                f"num_workers is {self.num_workers} and prefetch {self.prefetch}; they must be at least 0 and 1"
            )
