"""Settings of the commands that use a trained run, and what they refuse at once. No heavy import here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from multimodal.autoencoder.settings import MODALITY
from multimodal.common.errors import DataError
from multimodal.common.run_folder import newest_checkpoint, read_run
from perceiver_agents.paths import absolute_if_folder, make_absolute

OUTPUT_SUFFIXES = (".m4v", ".mkv", ".mov", ".mp4", ".wav")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to measure."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder of a training."""
    data: str | None = None
    """Folder with labelled clips; None takes the set that the run was trained on."""
    split: Literal["train", "val"] = "val"
    """`val` are the held-out clips."""
    out: str | None = None
    """Output folder; None is `RUN/evaluation`."""
    max_windows: int = 16
    """Most windows measured of one file, spread over it."""
    batch_size: int = 8
    """Clips decoded at once by a process."""
    num_processes: int | None = None
    """Ray tasks that share the files; None is one for each core. 1 measures without Ray."""
    gpu: bool = False
    """One GPU for each task."""
    ray_address: str | None = None
    """An existing Ray cluster; None starts Ray on this machine."""
    examples: int = 8
    """Clips shown in the report."""

    def __post_init__(self) -> None:
        make_absolute(self, "run", "data", "out")
        for name in ("max_windows", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_processes is not None and self.num_processes < 1:
            raise ValueError(f"num_processes is {self.num_processes}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """What to reconstruct."""

    run: Annotated[str, tyro.conf.Positional]
    """Run folder of a training."""
    clip: Annotated[str, tyro.conf.Positional]
    """Media file of any length and kind."""
    out: str
    """Output file (.mp4, .mkv, .mov; .wav for the sound alone)."""
    spectrogram: str | None = None
    """PNG file for spectrograms of the first minute, the original beside the reconstruction."""
    side_by_side: bool = False
    """The original's picture, brought to the model's format, left of the reconstruction."""
    from_audio_only: bool = False
    """Hide the picture from the model."""
    from_video_only: bool = False
    """Hide the sound from the model."""
    batch_size: int = 4
    """Windows decoded at once."""
    device: str = "cpu"
    """`cpu` or `cuda`."""

    def __post_init__(self) -> None:
        make_absolute(self, "run", "clip", "out", "spectrogram")
        if self.side_by_side and self.out.lower().endswith(".wav"):
            raise ValueError(f"--side-by-side shows pictures, but {self.out} holds sound alone; give a video file")
        if self.from_audio_only and self.from_video_only:
            raise ValueError("--from-audio-only and --from-video-only hide everything together; give one of them")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """What to compare."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, of the same data and clip format."""
    out: str
    """Output folder."""
    data: str | None = None
    """Folder with labelled clips; None takes the set that the first run was trained on."""
    max_windows: int = 4
    """Most windows of one file, for fitting and for measuring."""
    codec_clips: int = 32
    """Held-out clips that are encoded with H.264 and Opus."""

    def __post_init__(self) -> None:
        make_absolute(self, "runs", "data", "out")


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """What to take over."""

    checkpoint: Annotated[str, tyro.conf.Positional]
    """A folder that transformers' `save_pretrained` wrote, or a hub repository."""
    out: str
    """New run folder."""
    revision: str | None = None
    """Branch, tag or commit of the hub repository."""

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        object.__setattr__(self, "checkpoint", absolute_if_folder(self.checkpoint))  # else a hub repository


def data_folder(run: str, data: str | None) -> str:
    """The folder asked for, or the one that the run was trained on."""
    if data is not None:
        return data
    trained_on = read_run(run, MODALITY)["training"]["data"]
    return str(Path(run) / "generated") if trained_on is None else absolute_if_folder(trained_on)


def check_trained(run: str) -> None:
    """Raises DataError where a folder holds no run of the autoencoder, or one without a checkpoint."""
    read_run(run, MODALITY)
    newest_checkpoint(run)


def check_folder(folder: str) -> None:
    """Raises DataError where a data folder is not there."""
    if not Path(folder).is_dir():
        raise DataError(f"data folder {folder} does not exist; give a folder with labelled clips")


def check_evaluation(config: EvaluateConfig) -> None:
    """Raises DataError for folders that are not there."""
    check_trained(config.run)
    check_folder(data_folder(config.run, config.data))


def check_reconstruction(config: ReconstructConfig) -> None:
    """Raises DataError for a run, a file or a kind of output that is not there."""
    if Path(config.out).suffix.lower() not in OUTPUT_SUFFIXES:
        raise DataError(f"output {config.out} must end in one of {', '.join(OUTPUT_SUFFIXES)}")
    check_trained(config.run)
    if not Path(config.clip).is_file():
        raise DataError(f"{config.clip}: no such file")


def check_comparison(config: CompressionConfig) -> None:
    """Raises DataError for no runs, and for folders that are not there."""
    if not config.runs:
        raise DataError("no runs given; name the run folders of trainings with different --num-latents")
    for run in config.runs:
        check_trained(run)
    check_folder(data_folder(config.runs[0], config.data))
