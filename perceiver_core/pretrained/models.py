"""Published models behind the call of their Hugging Face class, loaded, given new heads, and saved again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from perceiver_core.checks import check_tensor
from perceiver_core.hub import CONFIG_FILE, WEIGHTS_FILE, load_weights, read_config, require
from perceiver_core.inputs import ImageInput
from perceiver_core.model import Outputs, PerceiverEncoder, PerceiverIO
from perceiver_core.pretrained.architectures import ARCHITECTURES
from perceiver_core.pretrained.calls import (
    PerceiverOutput,
    Recording,
    class_labels,
    classification_loss,
    token_labels,
    token_loss,
)
from perceiver_core.pretrained.checkpoints import hugging_face_name, hugging_face_weights, read_weights
from perceiver_core.pretrained.configuration import HuggingFaceConfig

AUTOENCODER = "PerceiverForMultimodalAutoencoding"


def _valid(mask: Tensor | None) -> Tensor | None:
    """Transformers' mask, non-zero for valid tokens, as ours."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    check_tensor("attention_mask", mask, "B M", "floating" if mask.is_floating_point() else "integer")
    return mask != 0


class PretrainedPerceiver(nn.Module):
    """A published model behind the call of its Hugging Face class.

    Attributes:
        model: the model itself.
        architecture: the name of the Hugging Face class.
        config: the fields of its `config.json`, names of the classes among them.
    """

    def __init__(
        self,
        model: PerceiverIO,
        architecture: str,
        config: HuggingFaceConfig,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            model: the model.
            architecture: the name of the Hugging Face class.
            config: its configuration.
            fields: all that its `config.json` held, to be written again by `save_pretrained`.
        """
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.config = config
        self._fields = dict(fields or {})

    def forward(
        self,
        inputs: Any = None,
        attention_mask: Tensor | None = None,
        subsampled_output_points: Mapping[str, Tensor | None] | None = None,
        *,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        interpolate_pos_encoding: bool = False,
        chunk_size: int | None = None,
    ) -> PerceiverOutput:
        """Call the model as its Hugging Face class is called.

        Args:
            inputs: what the class takes: token ids, images, frame pairs as neighbourhoods, or a mapping by modality.
                The label, which the published autoencoder always hides, may be left out.
            attention_mask: [B, M] over the input tokens, non-zero for valid ones.
            subsampled_output_points: for the autoencoder, the positions to decode per modality, None for all of one;
                modalities that are left out are not decoded. None decodes everything.
            input_ids: `inputs` of the language models by another name.
            pixel_values: `inputs` of the image classifiers by another name.
            labels: what the logits should say, for a loss: token numbers [B, L] with -100 where nothing is to be
                predicted, or the classes (see `class_labels`). Flow and autoencoder have no loss here.
            output_attentions: give the attention probabilities too; they are computed beside the model's own way.
            output_hidden_states: give the latents between the layers too.
            interpolate_pos_encoding: resize the trainable positions of an image classifier to the images' size.
            chunk_size: most queries to decode at a time.

        Raises:
            IndexError, TypeError, ValueError: an argument is not one of this class, or has a wrong size or value.
        """
        inputs = self._only_inputs(inputs, input_ids=input_ids, pixel_values=pixel_values)
        self._check_arguments(subsampled_output_points, interpolate_pos_encoding)
        loss = None if labels is None else self._loss_against(labels, inputs)
        mask = _valid(attention_mask)
        model = self.model
        recording = Recording(model, model.encoder, attentions=output_attentions, hidden_states=output_hidden_states)
        with recording.open() if output_attentions or output_hidden_states else nullcontext():
            if interpolate_pos_encoding and isinstance(model.inputs, ImageInput):
                tokens = model.inputs(inputs, interpolate_positions=True)
                latents = model.encoder(tokens, mask)
                logits = model.decode(latents, chunk_size=chunk_size)
            else:
                masked = ("label",) if self.architecture == AUTOENCODER else ()
                latents, tokens = model.encode_with_tokens(inputs, mask, masked=masked)
                logits = model.decode(latents, subsampled_output_points, tokens=tokens, chunk_size=chunk_size)
        return PerceiverOutput(
            logits=logits,
            last_hidden_state=latents,
            loss=None if loss is None else loss(logits),
            hidden_states=recording.hidden_states,
            attentions=recording.attentions,
            cross_attentions=recording.cross_attentions,
        )

    def _only_inputs(self, inputs: Any, **by_name: Tensor | None) -> Any:
        """The inputs, under whichever of their names they came."""
        own = ARCHITECTURES[self.architecture].input_name
        names = "`inputs`" if own is None else f"`inputs` or `{own}`"
        given = [name for name, value in {"inputs": inputs, **by_name}.items() if value is not None]
        if len(given) != 1 or given[0] not in ("inputs", own):
            raise ValueError(f"{self.architecture} takes {names}, got {' and '.join(given) or 'neither'}")
        return inputs if given == ["inputs"] else by_name[given[0]]

    def _check_arguments(self, points: Mapping[str, Tensor | None] | None, interpolate: bool) -> None:
        name = self.architecture
        if points is not None and name != AUTOENCODER:
            raise ValueError(f"`subsampled_output_points` is for multimodal models, not for {name}")
        if interpolate and ARCHITECTURES[name].input_name != "pixel_values":
            raise ValueError(f"`interpolate_pos_encoding` is for image classifiers, not for {name}")

    def _loss_against(self, labels: Tensor, inputs: Any) -> Callable[[Outputs], Tensor]:
        """The loss as a function of the logits; the labels are checked now, before any compute."""
        config, kind = self.config, ARCHITECTURES[self.architecture]
        if kind.input_name is None:
            raise ValueError(f"{self.architecture} has no loss for `labels`; compute one from `logits`")
        batch = len(inputs) if isinstance(inputs, Tensor) else 0  # the model refuses what is no tensor
        if kind.classifies:
            classes, problem = class_labels(
                labels, batch=batch, num_labels=config.num_labels, problem_type=config.problem_type
            )
            return lambda logits: classification_loss(cast(Tensor, logits), classes, problem)
        length = config.max_position_embeddings
        tokens = token_labels(labels, batch=batch, length=length, vocabulary=config.vocab_size)
        return lambda logits: token_loss(cast(Tensor, logits), tokens)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` as transformers does: it can load them, and so can `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        labels = {
            "id2label": {str(number): name for number, name in self.config.id2label.items()},
            "label2id": self.config.label2id,
        }
        fields = {name: value for name, value in self._fields.items() if name != "num_labels"}
        data = {**fields, "model_type": "perceiver", "architectures": [self.architecture], **labels}
        (folder / CONFIG_FILE).write_text(json.dumps(data, indent=2) + "\n")
        weights = hugging_face_weights(self.model.state_dict(), self.architecture)
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


class PerceiverModel(nn.Module):
    """The bare encoder of a published model: inputs [B, M, d_model] that are adapted already, to latents.

    Attributes:
        encoder: the encoder itself.
        config: the fields of its `config.json`.
    """

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PerceiverEncoder(config.encoder(), input_channels=config.d_model)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, *, revision: str | None = None) -> Self:
        """Load transformers' bare PerceiverModel, or the encoder of any of the seven classes.

        The model is on the CPU and in evaluation mode. The arguments and errors are those of `load`.
        """
        config_path, data = _read_config(folder_or_hub_id, revision)
        with torch.device("meta"):
            model = cls(_parse(config_path, data))
        path, weights = read_weights(folder_or_hub_id, revision)
        # The classes hold the bare model as `perceiver`, beside adapters and a decoder.
        prefix = "perceiver." if any(key.startswith("perceiver.") for key in weights) else ""
        parts = (f"{prefix}embeddings.latents", f"{prefix}encoder.")
        weights = {key: tensor for key, tensor in weights.items() if key.startswith(parts)}
        load_weights(
            model,
            weights,
            path,
            lambda name: hugging_face_name(name, "PerceiverModel").replace("perceiver.", prefix, 1),
        )
        return model.eval()

    def forward(
        self,
        inputs: Tensor,
        attention_mask: Tensor | None = None,
        *,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> PerceiverOutput:
        """Encode.

        Args:
            inputs: [B, M, d_model].
            attention_mask: [B, M], non-zero for valid inputs.
            output_attentions: give the attention probabilities too.
            output_hidden_states: give the latents between the layers too.
        """
        recording = Recording(self, self.encoder, attentions=output_attentions, hidden_states=output_hidden_states)
        with recording.open():
            latents = self.encoder(inputs, _valid(attention_mask))
        return PerceiverOutput(
            logits=None,
            last_hidden_state=latents,
            hidden_states=recording.hidden_states,
            attentions=recording.attentions,
            cross_attentions=recording.cross_attentions,
        )


def _read_config(folder_or_hub_id: str | Path, revision: str | None) -> tuple[Path, dict[str, Any]]:
    """The path of `config.json` and what it says, of a Perceiver."""
    path = require(folder_or_hub_id, CONFIG_FILE, revision)
    data = read_config(path)
    architecture = _architecture(data)
    if data.get("model_type") != "perceiver" or architecture not in (*ARCHITECTURES, "PerceiverModel"):
        raise ValueError(
            f"{path}: `model_type` {data.get('model_type')!r} with `architectures` "
            f"{json.dumps(data.get('architectures') or ['(none)'])} is none of {', '.join(ARCHITECTURES)}"
        )
    if data.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{path}: `hidden_act` must be 'gelu', got {data['hidden_act']!r}")
    return path, data


def _architecture(data: Mapping[str, Any]) -> str:
    return (data.get("architectures") or ["(none)"])[0]


def _parse(path: Path, data: Mapping[str, Any]) -> HuggingFaceConfig:
    try:
        return HuggingFaceConfig.read(data)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def load(
    folder_or_hub_id: str | Path,
    *,
    revision: str | None = None,
    architecture: str | None = None,
    num_labels: int | None = None,
    id2label: Mapping[int, str] | None = None,
) -> PretrainedPerceiver:
    """Load a checkpoint of one of the seven Hugging Face Perceiver classes, on the CPU and in evaluation mode.

        model = pretrained.load("deepmind/language-perceiver")
        classifier = pretrained.load(
            "deepmind/language-perceiver", architecture="PerceiverForSequenceClassification", num_labels=3
        )

    Args:
        folder_or_hub_id: a local folder (no network is used), or a hub repository such as
            `"deepmind/multimodal-perceiver"`.
        revision: branch, tag or commit of the hub repository.
        architecture: another class of the same inputs, which takes over input adapter and encoder and gets a new
            decoder. None: the class of the checkpoint.
        num_labels: classes of a classifier. Where it differs from the checkpoint's, the last linear map is new.
        id2label: their names by number. None: the checkpoint's names, or LABEL_0 and so on for another `num_labels`.

    Raises:
        FileNotFoundError: no such folder or repository, or no weights in it.
        ValueError: the configuration is of another model, or the weights do not fit; the message names the file and
            the keys. Or the class asked for has other inputs, or is no classifier.
    """
    config_path, data = _read_config(folder_or_hub_id, revision)
    stored = _architecture(data)
    if stored not in ARCHITECTURES:
        raise ValueError(f"{config_path}: a bare {stored}; load it with {stored}.from_pretrained")
    wanted = architecture or stored
    _check_heads(stored, wanted, relabelled=num_labels is not None or id2label is not None)
    given = _parse(config_path, data)
    config = given.with_labels(num_labels, id2label)
    new_head = config.num_labels != given.num_labels
    new_decoder = wanted != stored
    try:
        # A model that is not read whole needs initial values, so it is built for real.
        with nullcontext() if new_decoder or new_head else torch.device("meta"):
            model = ARCHITECTURES[wanted].build(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{config_path}: {error}") from error
    path, weights = read_weights(folder_or_hub_id, revision)
    initial: list[str] = []
    if new_decoder:
        initial = [name for name in model.state_dict() if not name.startswith(("inputs.", "encoder."))]
        trunk = {hugging_face_name(name, wanted) for name in set(model.state_dict()) - set(initial)}
        weights = {key: tensor for key, tensor in weights.items() if key in trunk}
    elif new_head:
        initial = [name for name in model.state_dict() if name.startswith("decoder.final.")]
    load_weights(model, weights, path, lambda name: hugging_face_name(name, wanted), keep=initial)
    return PretrainedPerceiver(model, wanted, config, data).eval()


def _check_heads(stored: str, wanted: str, *, relabelled: bool) -> None:
    """Check that one class can be made of another, with other classes or not."""
    if wanted not in ARCHITECTURES:
        raise ValueError(f"`architecture` must be one of {', '.join(ARCHITECTURES)}, got {wanted!r}")
    language = ("PerceiverForMaskedLM", "PerceiverForSequenceClassification")
    if wanted != stored and not (stored in language and wanted in language):
        raise ValueError(f"a {stored} does not make a {wanted}: only language models ({', '.join(language)}) do")
    if relabelled and not ARCHITECTURES[wanted].classifies:
        classifiers = ", ".join(name for name, kind in ARCHITECTURES.items() if kind.classifies)
        raise ValueError(f"{wanted} has no classes to choose: `num_labels` and `id2label` are for {classifiers}")
