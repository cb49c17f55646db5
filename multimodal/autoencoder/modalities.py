"""What the autoencoder knows of a modality, each in one class: all other files go through `Modality`.

A new modality is one more subclass here, its settings in a preset (`multimodal.autoencoder.model.PRESETS`) and its loss
term in the recipe (`multimodal.autoencoder.settings`). Model, loss, hidden inputs, metrics, baselines, report, preview
and run folders then follow. A modality is derived from a `ClipBatch`, so it is cropped together with what it is
derived from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.autoencoder.metrics import (
    AUDIO_PEAK,
    VIDEO_PEAK,
    psnr,
    spectral_convergence,
    spectral_distance,
    ssim,
)
from multimodal.autoencoder.settings import LossTerm, SignalTerm
from multimodal.clips.clip import ClipFormat
from multimodal.clips.loader import ClipBatch
from perceiver_core import presets as core
from perceiver_core.inputs import split_patches


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How well a reconstruction meets the truth.

    Attributes:
        name: short name; reports use `<modality>_<name>`.
        title: what a reader sees.
        of: from estimate and truth `[B, ...]` to `[B]`.
        unit: of the value.
        digits: shown after the point.
        higher_is_better: which way is good.
        headline: whether reports say in words where a baseline is as good.
    """

    name: str
    title: str
    of: Callable[[Tensor, Tensor], Tensor]
    unit: str = ""
    digits: int = 2
    higher_is_better: bool = True
    headline: bool = False


@dataclass(frozen=True, kw_only=True)
class Modality(ABC):
    """One modality of clips of a format. Fields of subclasses are its sizes; they are kept in `run.json`."""

    kinds: ClassVar[dict[str, type[Modality]]] = {}
    """All subclasses by name, for reading `run.json`."""
    name: ClassVar[str]
    """In options, run folders and reports."""
    core_name: ClassVar[str]
    """In the model's weights; published checkpoints use these names."""
    measures: ClassVar[tuple[Measure, ...]] = ()
    """Of reconstructions; none for a class."""
    view: ClassVar[Literal["frames", "sound"] | None] = None
    """How reports show it: frames `[B, T, 1 or 3, H, W]` in [0, 1], or sound `[B, S]` in [-1, 1]. None: a class."""
    trivial_name: ClassVar[str] = ""
    """What `trivial` gives, in words."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            Modality.kinds[cls.name] = cls

    def check(self, clip: ClipFormat) -> None:  # noqa: B027 (most sizes fit every clip)
        """Raises ValueError where clips of this format cannot be cut as the sizes ask."""

    @abstractmethod
    def values(self, clip: ClipFormat) -> int:
        """Numbers of a clip that it stands for, in the compression ratio."""

    @abstractmethod
    def num_queries(self, clip: ClipFormat) -> int:
        """Queries that decode all of it."""

    @abstractmethod
    def describe(self, clip: ClipFormat, num_classes: int) -> core.Modality:
        """Inputs, queries and outputs in the core."""

    def present(self, batch: ClipBatch) -> Tensor:
        """Which clips have it, bool `[B]`."""
        present: Tensor = getattr(batch, f"has_{self.name}")
        return present

    @abstractmethod
    def truth(self, batch: ClipBatch) -> Tensor:
        """What a reconstruction is compared with: frames in [0, 1], sound in [-1, 1], or class numbers."""

    @abstractmethod
    def shown(self, batch: ClipBatch) -> Tensor:
        """The model's input."""

    @abstractmethod
    def loss(self, term: LossTerm, decoded: Tensor, shown: Tensor, asked: Tensor | None) -> Tensor:
        """Error of each clip `[B]`, at the asked queries `[O]` (None: all)."""

    @abstractmethod
    def restore(self, decoded: Tensor, clip: ClipFormat) -> Tensor:
        """The decoded whole in the units of `truth`; logits `[B, K]` for a class."""

    def trivial(self, truth: Tensor) -> Tensor:
        """The simplest reconstruction, of the same shape: what every report holds the model against."""
        raise NotImplementedError(f"{self.name} has no measures, so nothing to compare")


@dataclass(frozen=True, kw_only=True)
class Signal(Modality):
    """A modality of real numbers, normalised for the model: its error is absolute or squared."""

    @abstractmethod
    def rows(self, shown: Tensor) -> Tensor:
        """The normalised signal as the model's queries decode it, `[B, O, values]`."""

    def loss(self, term: LossTerm, decoded: Tensor, shown: Tensor, asked: Tensor | None) -> Tensor:
        assert isinstance(term, SignalTerm)
        rows = self.rows(shown)
        true = rows if asked is None else rows[:, asked]
        error = decoded.float() - true.reshape(decoded.shape)
        error = error.abs() if term.error == "absolute" else error.square()
        return error.mean(dim=tuple(range(1, error.dim())))


@dataclass(frozen=True, kw_only=True)
class Frames(Signal):
    """Pictures over time, `channels` colours each."""

    patch: int
    """Height and width in pixels of an input patch."""
    bands: int
    """Fourier bands along time, height and width."""
    query_patch: int = 1
    """Height and width in pixels of what one output query decodes."""
    resolution: int | None = None
    """Nyquist resolution of the bands along height and width; None: the input patches."""
    mean: float = 0.0
    """The model sees and decodes `(pixel - mean) / deviation`, of pixels in [0, 1]."""
    deviation: float = 1.0
    """See `mean`."""

    channels: ClassVar[int] = 3
    view = "frames"
    trivial_name = "mean colour of the clip"

    def check(self, clip: ClipFormat) -> None:
        for patch in (self.patch, self.query_patch):
            if clip.height % patch or clip.width % patch:
                raise ValueError(
                    f"clips of {clip.height} x {clip.width} pixels cannot be cut into patches of {patch}; height and "
                    "width must be multiples of it"
                )

    def values(self, clip: ClipFormat) -> int:
        return clip.num_frames * clip.height * clip.width * self.channels

    def num_queries(self, clip: ClipFormat) -> int:
        return clip.num_frames * clip.height * clip.width // self.query_patch**2

    def describe(self, clip: ClipFormat, num_classes: int) -> core.Modality:
        side = self.resolution
        return core.VideoModality(
            num_frames=clip.num_frames,
            size=(clip.height, clip.width),
            patch=(self.patch, self.patch),
            query_patch=(self.query_patch, self.query_patch),
            bands=self.bands,
            resolution=None if side is None else (clip.num_frames, side, side),
            channels=self.channels,
        )

    def shown(self, batch: ClipBatch) -> Tensor:
        return (self.truth(batch) - self.mean) / self.deviation

    def rows(self, shown: Tensor) -> Tensor:
        patch = (1, self.query_patch, self.query_patch)
        return split_patches(shown.movedim(2, -1), patch).flatten(1, 3)

    def restore(self, decoded: Tensor, clip: ClipFormat) -> Tensor:
        frames = decoded.float()
        if self.query_patch == 1:  # pixels in a row, as published
            frames = frames.unflatten(1, (clip.num_frames, clip.height, clip.width)).permute(0, 1, 4, 2, 3)
        return (self.mean + self.deviation * frames).clamp(0.0, 1.0)

    def trivial(self, truth: Tensor) -> Tensor:
        return truth.mean(dim=(1, 3, 4), keepdim=True).expand_as(truth)


def _video_psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    return psnr(estimate, truth, VIDEO_PEAK)


def _audio_psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    return psnr(estimate, truth, AUDIO_PEAK)


@dataclass(frozen=True, kw_only=True)
class Video(Frames):
    """The picture: `ClipBatch.video`."""

    name = "video"
    core_name = "image"
    measures = (
        Measure(name="psnr", title="video PSNR", of=_video_psnr, unit="dB", headline=True),
        Measure(name="ssim", title="video SSIM", of=ssim, digits=3),
    )

    def truth(self, batch: ClipBatch) -> Tensor:
        return batch.video.float() / 255


@dataclass(frozen=True, kw_only=True)
class Audio(Signal):
    """The sound: `ClipBatch.audio`."""

    samples_per_patch: int
    """Sound samples of an input token and of an output query."""
    bands: int
    """Fourier bands along time."""
    resolution: int | None = None
    """Nyquist resolution of the bands; None: the samples."""
    deviation: float = 1.0
    """The model sees and decodes `sample / deviation`, of samples in [-1, 1]."""

    name = "audio"
    core_name = "audio"
    view = "sound"
    trivial_name = "silence"
    measures = (
        Measure(name="psnr", title="audio PSNR", of=_audio_psnr, unit="dB", headline=True),
        Measure(
            name="spectral_distance",
            title="audio multi-scale spectral distance",
            of=spectral_distance,
            digits=3,
            higher_is_better=False,
        ),
        Measure(
            name="spectral_convergence",
            title="audio spectral convergence (silence: 1)",
            of=spectral_convergence,
            higher_is_better=False,
            headline=True,
        ),
    )

    def check(self, clip: ClipFormat) -> None:
        if clip.num_samples % self.samples_per_patch:
            raise ValueError(
                f"a clip of {clip.num_frames} frames has {clip.num_samples} samples at {clip.sample_rate} Hz, not a "
                f"multiple of samples_per_patch {self.samples_per_patch}; change the sample rate or the number of "
                "frames"
            )

    def values(self, clip: ClipFormat) -> int:
        return clip.num_samples

    def num_queries(self, clip: ClipFormat) -> int:
        return clip.num_samples // self.samples_per_patch

    def describe(self, clip: ClipFormat, num_classes: int) -> core.Modality:
        return core.AudioModality(
            num_samples=clip.num_samples,
            samples_per_patch=self.samples_per_patch,
            bands=self.bands,
            resolution=self.resolution,
        )

    def truth(self, batch: ClipBatch) -> Tensor:
        return batch.audio

    def shown(self, batch: ClipBatch) -> Tensor:
        return batch.audio / self.deviation

    def rows(self, shown: Tensor) -> Tensor:
        return shown.unflatten(1, (-1, self.samples_per_patch))

    def restore(self, decoded: Tensor, clip: ClipFormat) -> Tensor:
        return (self.deviation * decoded.float()).clamp(-1.0, 1.0)

    def trivial(self, truth: Tensor) -> Tensor:
        return torch.zeros_like(truth)


@dataclass(frozen=True, kw_only=True)
class Label(Modality):
    """The class: `ClipBatch.label`. Hidden at the input, it makes a classifier of the autoencoder."""

    query_channels: int
    """Width of the learned query."""

    name = "label"
    core_name = "label"

    def values(self, clip: ClipFormat) -> int:
        return 0

    def num_queries(self, clip: ClipFormat) -> int:
        return 1

    def describe(self, clip: ClipFormat, num_classes: int) -> core.Modality:
        # Hidden by explicit masks only, so that hiding is reproducible.
        return core.LabelModality(num_classes=num_classes, query_channels=self.query_channels, mask_probability=0.0)

    def truth(self, batch: ClipBatch) -> Tensor:
        return batch.label

    def shown(self, batch: ClipBatch) -> Tensor:
        return batch.label

    def loss(self, term: LossTerm, decoded: Tensor, shown: Tensor, asked: Tensor | None) -> Tensor:
        return F.cross_entropy(decoded.float(), shown, reduction="none")

    def restore(self, decoded: Tensor, clip: ClipFormat) -> Tensor:
        return decoded.float()


def to_json(modality: Modality) -> dict[str, Any]:
    """Its name and sizes."""
    return {"name": modality.name, **vars(modality)}


def from_json(data: dict[str, Any]) -> Modality:
    """What `to_json` gave.

    Raises:
        ValueError: no such modality.
    """
    sizes = dict(data)
    name = sizes.pop("name")
    if name not in Modality.kinds:
        raise ValueError(f"no modality {name!r}; there are {', '.join(sorted(Modality.kinds))}")
    return Modality.kinds[name](**sizes)
