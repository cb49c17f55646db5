"""The training loss on a random subset of outputs (arXiv 2107.14795, section 4.3 and appendix on Kinetics).

Absolute or squared error for (normalised) pixels and sound samples, cross-entropy for the label, each a mean over the
asked outputs of a clip. The paper takes absolute errors, weights them 0.03 (video), 1 (audio) and 0.0001 (label), asks
for 512 pixels, 512 sound patches and the label in each step, and hides the label from the input half of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multimodal.autoencoder.model import AutoencoderConfig, Hidden, absent, model_inputs, token_masks
from multimodal.autoencoder.settings import Loss, SignalTerm
from multimodal.clips.loader import ClipBatch
from multimodal.common.errors import DataError
from perceiver_core.model import PerceiverIO


def check_terms(config: AutoencoderConfig, loss: Loss) -> None:
    """Refuse a loss that does not fit the model.

    Raises:
        DataError: a modality without a term, or a term without its modality.
    """
    if set(loss) != set(config.names):
        raise DataError(
            f"the loss has terms for {', '.join(sorted(loss))}, but the model's modalities are "
            f"{', '.join(sorted(config.names))}; give each modality one"
        )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The random choices of a training step.

    Attributes:
        asked: by modality, int64 `[queries]`, positions in the grid of its queries, the same for all clips. None: all.
        hidden: inputs to hide of each clip of the process's share.
    """

    asked: dict[str, Tensor | None]
    hidden: Hidden


def draw(config: AutoencoderConfig, loss: Loss, *, seed: int, step: int, global_batch: int, part: slice) -> Draw:
    """The choices of a step for the clips `part` of its global batch.

    They follow from (`seed`, `step`) alone, so runs with another number of processes but the same global batch, and
    resumed runs, make the same ones.
    """
    chance = torch.Generator().manual_seed((seed << 32) ^ step)
    asked: dict[str, Tensor | None] = {}
    signals, others = [], []
    for modality in config.modalities:
        term = loss[modality.name]
        if isinstance(term, SignalTerm):
            asked[modality.name] = _subset(modality.num_queries(config.clip), term.queries, chance)
            signals.append(modality.name)
        else:
            asked[modality.name] = None
            others.append(modality.name)
    numbers = torch.rand(len(others) + 1, global_batch, generator=chance)[:, part]
    hidden = {name: row < loss[name].hide for name, row in zip(others, numbers, strict=False)}
    # One number decides which of the signals is hidden: the first takes its share from below, the others from above.
    upper = 1.0
    for place, name in enumerate(signals):
        share = loss[name].hide
        if place == 0:
            hidden[name] = numbers[-1] < share
        else:
            hidden[name] = (numbers[-1] >= upper - share) & (numbers[-1] < upper)
            upper -= share
    return Draw(asked=asked, hidden=hidden)


def _subset(total: int, count: int, chance: torch.Generator) -> Tensor:
    if count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=chance)[:count]


def autoencoder_loss(
    model: nn.Module, core: PerceiverIO, config: AutoencoderConfig, loss: Loss, batch: ClipBatch, choice: Draw
) -> dict[str, Tensor]:
    """The loss of a batch.

    What a clip lacks is hidden from the input and adds zero to its term; the terms are divided by the batch size
    whatever is lacking, so that the mean over the processes of a distributed run is the loss of the global batch.

    Args:
        model: called for the forward pass; the core itself or its distributed wrapper.
        core: the core.
        config: its sizes.
        loss: weights.
        batch: clips on the model's device.
        choice: this step's `draw`.

    Returns:
        Scalars: the weighted "total", and each modality's term before weighting.
    """
    device = batch.label.device
    lacking = absent(config, batch)
    hidden = {name: choice.hidden[name].to(device) | lacking[name] for name in config.names}
    asked = {name: None if places is None else places.to(device) for name, places in choice.asked.items()}
    inputs = model_inputs(config, batch)
    decoded = model(
        inputs,
        masked=token_masks(core, config, hidden),
        positions={modality.core_name: asked[modality.name] for modality in config.modalities},
    )
    terms = {}
    for modality in config.modalities:
        name, core_name = modality.name, modality.core_name
        errors = modality.loss(loss[name], decoded[core_name], inputs[core_name], asked[name])
        terms[name] = (errors * modality.present(batch)).mean()
    weighted = [loss[name].weight * term for name, term in terms.items()]
    return {"total": sum(weighted[1:], weighted[0]), **terms}
