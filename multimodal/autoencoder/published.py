"""Make a run of a published checkpoint: `python -m multimodal.autoencoder.published deepmind/multimodal-perceiver --out
RUN`.

`perceiver-reconstruct` and `perceiver-evaluate-autoencoder --data` take the run as it is, and
`perceiver-train-autoencoder --preset paper --start-from RUN` trains on from its weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from rich.console import Console

from multimodal.autoencoder.commands import PublishedConfig
from multimodal.autoencoder.model import build, preset
from multimodal.autoencoder.runs import RunInfo, save_run
from multimodal.common.checkpoints import save_checkpoint
from multimodal.common.command import exit_with_sentence
from multimodal.common.errors import DataError
from multimodal.common.optimizers import Optimizers
from multimodal.common.run_folder import RUN_FILE
from multimodal.common.settings import OptimizerConfig
from perceiver_core import pretrained
from perceiver_core.hub import CONFIG_FILE, read_config, require

PROGRAM = "multimodal.autoencoder.published"
ARCHITECTURE = "PerceiverForMultimodalAutoencoding"


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
    sizes = preset("paper")
    label = sizes.modality("label").core_name
    count = int(loaded.model.state_dict()[f"outputs.adapters.{label}.projection.bias"].numel())
    info = RunInfo(
        model=sizes,
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
    arguments = sys.argv[1:] if arguments is None else arguments

    def work() -> None:
        config = tyro.cli(PublishedConfig, prog=PROGRAM, description=__doc__, args=arguments)
        try:
            info = import_checkpoint(config)
        except FileNotFoundError as error:
            raise DataError(str(error)) from error
        Console().print(f"wrote {config.out}: {len(info.classes)} classes, first {', '.join(info.classes[:3])}")

    exit_with_sentence(f"python -m {PROGRAM}", arguments, work)


if __name__ == "__main__":
    main()
