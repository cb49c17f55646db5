"""Make a run of a published checkpoint: `python -m multimodal.autoencoder.published deepmind/multimodal-perceiver --out
RUN`.

`perceiver-reconstruct` and `perceiver-evaluate-autoencoder --data` take the run as it is, and
`perceiver-train-autoencoder paper --start-from RUN` trains on from its weights.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from multimodal.autoencoder.model import build, preset
from multimodal.autoencoder.runs import RunInfo, save_run
from multimodal.common.errors import DataError
from multimodal.common.optimizers import OptimizerConfig, Optimizers
from multimodal.common.run_folder import RUN_FILE, save_checkpoint
from perceiver_agents.paths import absolute_if_folder, make_absolute
from perceiver_core import pretrained
from perceiver_core.hub import CONFIG_FILE, read_config, require

ARCHITECTURE = "PerceiverForMultimodalAutoencoding"


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """What to take over.

    Attributes:
        checkpoint: a folder that transformers' `save_pretrained` wrote, or a hub repository.
        out: new run folder.
        revision: branch, tag or commit of the hub repository.
    """

    checkpoint: Annotated[str, tyro.conf.Positional]
    out: str
    revision: str | None = None

    def __post_init__(self) -> None:
        make_absolute(self, "out")
        object.__setattr__(self, "checkpoint", absolute_if_folder(self.checkpoint))  # else a hub repository


def class_names(config: dict[str, object], count: int) -> tuple[str, ...]:
    """Names by number from transformers' `id2label`."""
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return tuple(f"LABEL_{number}" for number in range(count))
    return tuple(str(labels[str(number)]) for number in range(count))


def import_checkpoint(config: PublishedConfig) -> RunInfo:
    """Write the run.

    Raises:
        DataError: another class of model or other sizes than `paper`, a folder with a run in it, unwritable output.
        FileNotFoundError, ValueError: the checkpoint cannot be read, see `perceiver_core.pretrained.load`.
    """
    out = Path(config.out)
    if (out / RUN_FILE).exists():
        raise DataError(f"{out} holds a run already; give another --out")
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"run folder {out} cannot be written ({error.strerror}); choose another --out") from error
    loaded = pretrained.load(config.checkpoint, revision=config.revision)
    if loaded.architecture != ARCHITECTURE:
        raise DataError(f"{config.checkpoint} is a {loaded.architecture}; a video-audio-label run needs {ARCHITECTURE}")
    fields = read_config(require(config.checkpoint, CONFIG_FILE, config.revision))
    count = int(loaded.model.state_dict()["outputs.adapters.label.projection.bias"].numel())
    info = RunInfo(
        model=preset("paper"),
        classes=class_names(fields, count),
        training={"data": None, "start_from": config.checkpoint},
    )
    model = build(info.model, count)
    try:
        model.load_state_dict(loaded.model.state_dict())
    except RuntimeError as error:
        raise DataError(f"{config.checkpoint} has other sizes than the preset paper: {error}") from error
    save_run(out, info)
    save_checkpoint(out, model, Optimizers(model, OptimizerConfig()), 0)
    return info


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    try:
        config = tyro.cli(PublishedConfig, prog="multimodal.autoencoder.published", description=__doc__, args=arguments)
        info = import_checkpoint(config)
    except (DataError, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    Console().print(f"wrote {config.out}: {len(info.classes)} classes, first {', '.join(info.classes[:3])}")


if __name__ == "__main__":
    main()
