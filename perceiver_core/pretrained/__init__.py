"""Checkpoints of the Perceiver classes of Hugging Face transformers, as their `save_pretrained` writes them.

`load` reads `config.json` and the weights, and gives a module with the same call and the same logits. It needs no
transformers. Its `model` is a `PerceiverIO` like any other: encode once, decode what is needed, save in our format.
`PerceiverModel.from_pretrained` reads the bare encoder.

One difference is intended. Where all inputs of a sample are masked, transformers averages over the masked inputs; here
such a sample attends to nothing.
"""

from perceiver_core.pretrained.calls import PerceiverOutput
from perceiver_core.pretrained.configuration import PROBLEMS, HuggingFaceConfig
from perceiver_core.pretrained.models import PerceiverModel, PretrainedPerceiver, load

__all__ = ["PROBLEMS", "HuggingFaceConfig", "PerceiverModel", "PerceiverOutput", "PretrainedPerceiver", "load"]
