"""Hugging Face's ways of calling a model: names of arguments, losses, attention, other sizes, other classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perceiver_core import pretrained
from perceiver_core.attention_maps import record_attention
from tests.perceiver_core.huggingface import SMALL, Case, save_random, worst_ratio

TOLERANCE = 1e-5
CASES = {case.name.removeprefix("PerceiverFor"): case for case in SMALL}
LANGUAGE, SEQUENCE = CASES["MaskedLM"], CASES["SequenceClassification"]
LEARNED, FOURIER = CASES["ImageClassificationLearned"], CASES["ImageClassificationFourier"]
FLOW, AUTOENCODER = CASES["OpticalFlow"], CASES["MultimodalAutoencoding"]

each_case = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)


def pair(case: Case, folder: Path) -> tuple[Any, pretrained.PretrainedPerceiver]:
    theirs = save_random(case, folder, seed=2)
    return theirs, pretrained.load(folder)


@pytest.mark.parametrize("case", [LANGUAGE, SEQUENCE, LEARNED, FOURIER], ids=lambda case: case.name)
def test_inputs_by_their_name(case: Case, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    inputs = case.arguments()["inputs"]
    own, other = (
        ("input_ids", "pixel_values")
        if "MaskedLM" in case.name or "Sequence" in case.name
        else (
            "pixel_values",
            "input_ids",
        )
    )
    with torch.inference_mode():
        found = ours(**{own: inputs})
        assert worst_ratio(found.logits, theirs(**{own: inputs}).logits) <= TOLERANCE
        torch.testing.assert_close(found.logits, ours(inputs).logits, rtol=0, atol=0)
    assert found.loss is None and found.attentions is None and found.hidden_states is None
    takes = f"takes `inputs` or `{own}`, got"
    for arguments, given in (
        ({own: inputs, "inputs": inputs}, f"inputs and {own}"),
        ({other: inputs}, other),
        ({}, "neither"),
    ):
        with pytest.raises(ValueError, match=f"{case.name} {takes} {given}"):
            ours(**arguments)


def labels_for(case: Case, kind: str) -> Tensor:
    torch.manual_seed(7)
    count = case.config.get("num_labels", 2)
    batch = len(case.arguments()["inputs"])
    if case is LANGUAGE:
        labels = torch.randint(0, 262, (batch, 40))
        labels[:, ::3] = -100
        return labels
    if kind == "single_label_classification":
        return torch.randint(0, count, (batch,))
    return torch.rand(batch, count) if kind == "regression" else (torch.rand(batch, count) > 0.5).float()


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (LANGUAGE, None),
        *((case, kind) for case in (SEQUENCE, LEARNED, FOURIER) for kind in pretrained.PROBLEMS),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_losses_and_their_gradients(case: Case, kind: str | None, tmp_path: Path) -> None:
    extra = {} if kind is None else {"problem_type": kind}
    theirs, ours = pair(replace(case, config={**case.config, **extra}), tmp_path)
    inputs, labels = case.arguments()["inputs"], labels_for(case, kind or "")
    expected = theirs(inputs, labels=labels)
    found = ours(inputs, labels=labels)
    assert found.loss is not None
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-6)
    expected.loss.backward()
    found.loss.backward()
    latents, reference = ours.model.encoder.latents.grad, theirs.perceiver.embeddings.latents.grad
    assert latents is not None and worst_ratio(latents, reference) <= 1e-4


def test_kind_of_labels_is_told_by_the_labels(tmp_path: Path) -> None:
    theirs, ours = pair(SEQUENCE, tmp_path)
    inputs = SEQUENCE.arguments()["inputs"]
    with torch.inference_mode():
        for labels in (torch.tensor([0, 4, 2]), torch.rand(3, 5)):
            # Transformers keeps the first kind that it sees.
            theirs.config.problem_type = None
            expected = theirs(inputs, labels=labels).loss
            torch.testing.assert_close(ours(inputs, labels=labels).loss, expected, rtol=1e-5, atol=1e-6)
    single = replace(SEQUENCE, config={**SEQUENCE.config, "num_labels": 1})
    theirs, ours = pair(single, tmp_path)
    labels = torch.rand(3)
    with torch.inference_mode():
        expected = theirs(inputs, labels=labels).loss
        for shape in (labels, labels[:, None]):
            torch.testing.assert_close(ours(inputs, labels=shape).loss, expected, rtol=1e-5, atol=1e-6)


def test_labels_of_a_short_text(tmp_path: Path) -> None:
    """Transformers wants labels for the longest text; here those of the text will do."""
    theirs, ours = pair(LANGUAGE, tmp_path)
    inputs, labels = LANGUAGE.arguments()["inputs"][:, :25], labels_for(LANGUAGE, "")[:, :25]
    padded = torch.cat([labels, torch.full((3, 15), -100)], dim=1)
    with torch.inference_mode():
        found = ours(inputs, labels=labels).loss
        torch.testing.assert_close(found, theirs(inputs, labels=padded).loss, rtol=1e-5, atol=1e-6)


@each_case
def test_attentions_and_hidden_states(case: Case, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    theirs.config._attn_implementation = "eager"
    arguments = case.arguments()
    masked = arguments if case.mask_length is None else case.masked(arguments)
    asked = {"output_attentions": True, "output_hidden_states": True}
    with torch.inference_mode():
        expected, found = theirs(**masked, **asked), ours(**masked, **asked)
        assert worst_ratio(found.logits, expected.logits) <= TOLERANCE
        for name in ("attentions", "cross_attentions", "hidden_states"):
            ours_of_it, theirs_of_it = getattr(found, name), getattr(expected, name)
            assert len(ours_of_it) == len(theirs_of_it)
            assert max(worst_ratio(a, b) for a, b in zip(ours_of_it, theirs_of_it, strict=True)) <= TOLERANCE
        torch.testing.assert_close(found.hidden_states[-1], found.last_hidden_state, rtol=0, atol=0)
        chunks = ours(**masked, output_attentions=True, chunk_size=7)
        torch.testing.assert_close(chunks.cross_attentions[-1], found.cross_attentions[-1], rtol=1e-4, atol=1e-6)
    assert not ours.model.encoder.cross_attends[0]._forward_pre_hooks


def test_recorded_attention_is_a_distribution_with_gradients(tmp_path: Path) -> None:
    _, ours = pair(SEQUENCE, tmp_path)
    arguments = SEQUENCE.arguments()
    mask = torch.rand(3, 30) > 0.4
    mask[0] = False
    with record_attention(ours.model) as maps:
        ours.model(arguments["inputs"], mask)
    names = [found.layer for found in maps]
    assert names[0] == "encoder.cross_attends.0" and names[-1] == "decoder.cross_attend" and len(names) == 6
    first = maps[0].probabilities
    assert (first[~mask[:, None, None].expand_as(first)] == 0).all()
    for found in maps[1:]:
        torch.testing.assert_close(found.probabilities.sum(-1), torch.ones_like(found.probabilities[..., 0]))
    torch.testing.assert_close(first[1:].sum(-1), torch.ones_like(first[1:, ..., 0]))
    key_weight = ours.model.get_parameter("encoder.cross_attends.0.key.weight")
    (gradient,) = torch.autograd.grad(first.square().sum(), key_weight)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("size", [(12, 12), (9, 15), (20, 20)])
def test_interpolated_positions(size: tuple[int, int], tmp_path: Path) -> None:
    theirs, ours = pair(LEARNED, tmp_path)
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = theirs(pixel_values=images, interpolate_pos_encoding=True).logits
        assert worst_ratio(ours(pixel_values=images, interpolate_pos_encoding=True).logits, expected) <= TOLERANCE
    if size != (12, 12):
        message = r"for the grid \(12, 12\) only, got .*; `interpolate_pos_encoding` of a published model resizes them"
        with pytest.raises(ValueError, match=message):
            ours(images)


def test_fourier_positions_need_no_interpolation(tmp_path: Path) -> None:
    _, ours = pair(FOURIER, tmp_path)
    images = torch.randn(2, 3, 9, 11)
    with torch.inference_mode():
        plain, asked = ours(images).logits, ours(images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(asked, plain, rtol=0, atol=0)


def test_flow_of_another_size_says_which_is_possible(tmp_path: Path) -> None:
    _, ours = pair(FLOW, tmp_path)
    message = r"frames of 12 x 14 pixels, and this model computes flow of 10 x 14 only: cut larger frames into"
    with pytest.raises(ValueError, match=message):
        ours(torch.randn(1, 2, 27, 12, 14))


def test_arguments_of_other_classes_are_refused(tmp_path: Path) -> None:
    _, flow = pair(FLOW, tmp_path / "flow")
    inputs = FLOW.arguments()["inputs"]
    with pytest.raises(ValueError, match="PerceiverForOpticalFlow has no loss for `labels`; compute one from `logits`"):
        flow(inputs, labels=torch.zeros(2))
    with pytest.raises(ValueError, match="`interpolate_pos_encoding` is for image classifiers, not for"):
        flow(inputs, interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match="PerceiverForOpticalFlow takes `inputs`, got pixel_values"):
        flow(pixel_values=inputs)
    _, language = pair(LANGUAGE, tmp_path / "language")
    tokens = LANGUAGE.arguments()["inputs"]
    with pytest.raises(ValueError, match="`labels` has 41 positions, more than the 40 of the model"):
        language(tokens, labels=torch.zeros(3, 41, dtype=torch.long))
    with pytest.raises(IndexError, match="`labels` must hold indices from 0 to 261, got 5 to 262"):
        language(tokens, labels=torch.tensor([[5, 262, -100]] * 3))
    _, classifier = pair(SEQUENCE, tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"`labels` must be a tensor \[B, K\] with B = 3, K = 5, got K = 4"):
        classifier(tokens[:, :30], labels=torch.rand(3, 4))


def test_names_of_classes_are_kept(tmp_path: Path) -> None:
    names = {0: "cat", 1: "dog", 2: "axolotl"}
    config = {**SEQUENCE.config, "id2label": names, "label2id": {name: number for number, name in names.items()}}
    del config["num_labels"]
    theirs, ours = pair(replace(SEQUENCE, config=config), tmp_path / "theirs")
    assert ours.config.id2label == names == theirs.config.id2label
    assert ours.config.label2id == theirs.config.label2id and ours.config.num_labels == 3
    assert ours.config.d_latents == theirs.config.d_latents == 32
    ours.save_pretrained(tmp_path / "ours")
    assert pretrained.load(tmp_path / "ours").config == ours.config
    unnamed = pretrained.load(tmp_path / "theirs", num_labels=2)
    assert unnamed.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


@each_case
def test_transformers_loads_what_we_save(case: Case, tmp_path: Path) -> None:
    from transformers.models.perceiver import modeling_perceiver

    theirs, ours = pair(case, tmp_path / "theirs")
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(1.01)
        for parameter in theirs.parameters():
            parameter.mul_(1.01)
    ours.save_pretrained(tmp_path / "ours")
    again, report = getattr(modeling_perceiver, case.name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    arguments = case.arguments()
    with torch.inference_mode():
        expected = theirs(**arguments).logits
        assert worst_ratio(again.eval()(**arguments).logits, expected) <= TOLERANCE
        assert worst_ratio(pretrained.load(tmp_path / "ours")(**arguments).logits, expected) <= TOLERANCE
    saved, original = (json.loads((tmp_path / who / "config.json").read_text()) for who in ("ours", "theirs"))
    assert {**original, "id2label": saved["id2label"], "label2id": saved["label2id"]} == saved


@pytest.mark.parametrize("case", [SEQUENCE, LEARNED, FOURIER], ids=lambda case: case.name)
def test_head_for_other_classes(case: Case, tmp_path: Path) -> None:
    _, ours = pair(case, tmp_path)
    torch.manual_seed(0)
    other = pretrained.load(tmp_path, num_labels=11)
    inputs = case.arguments()["inputs"]
    with torch.inference_mode():
        assert other(inputs).logits.shape == (len(inputs), 11)
        torch.testing.assert_close(other(inputs).last_hidden_state, ours(inputs).last_hidden_state, rtol=0, atol=0)
    new = {name for name, tensor in other.state_dict().items() if not torch.equal(tensor, ours.state_dict()[name])}
    assert new == {"model.decoder.final.weight", "model.decoder.final.bias"}
    assert not any(tensor.is_meta for tensor in [*other.parameters(), *other.buffers()])
    loss = other(inputs, labels=torch.arange(len(inputs))).loss
    assert loss is not None and loss.isfinite()
    # The same number of classes keeps the head; names may change.
    count = ours.config.num_labels
    renamed = pretrained.load(tmp_path, id2label={number: f"class {number}" for number in range(count)})
    assert renamed.config.id2label[1] == "class 1"
    torch.testing.assert_close(renamed.state_dict(), ours.state_dict(), rtol=0, atol=0)


def test_a_language_model_becomes_a_classifier(tmp_path: Path) -> None:
    _, language = pair(LANGUAGE, tmp_path)
    classifier = pretrained.load(tmp_path, architecture="PerceiverForSequenceClassification", num_labels=4)
    inputs = LANGUAGE.arguments()["inputs"]
    with torch.inference_mode():
        expected = language(inputs).last_hidden_state
        torch.testing.assert_close(classifier(inputs).last_hidden_state, expected, rtol=0, atol=0)
        assert classifier(inputs).logits.shape == (3, 4)
    assert not any(tensor.is_meta for tensor in [*classifier.parameters(), *classifier.buffers()])
    classifier.save_pretrained(tmp_path / "fine-tuned")
    again = pretrained.load(tmp_path / "fine-tuned")
    assert again.architecture == "PerceiverForSequenceClassification"
    torch.testing.assert_close(again.state_dict(), classifier.state_dict(), rtol=0, atol=0)


def test_heads_that_cannot_be(tmp_path: Path) -> None:
    save_random(FLOW, tmp_path, seed=0)
    with pytest.raises(ValueError, match="PerceiverForOpticalFlow has no classes to choose"):
        pretrained.load(tmp_path, num_labels=3)
    with pytest.raises(ValueError, match="a PerceiverForOpticalFlow does not make a PerceiverForMaskedLM"):
        pretrained.load(tmp_path, architecture="PerceiverForMaskedLM")
    with pytest.raises(ValueError, match=r"`architecture` must be one of PerceiverForMaskedLM, .*, got 'Bert'"):
        pretrained.load(tmp_path, architecture="Bert")
    save_random(SEQUENCE, tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"`id2label` must name the 3 classes 0 to 2, got the numbers \[0, 1\]"):
        pretrained.load(tmp_path, num_labels=3, id2label={0: "no", 1: "yes"})


@pytest.mark.parametrize("stored", ["PerceiverModel", SEQUENCE.name])
def test_bare_model(stored: str, tmp_path: Path) -> None:
    """The encoder alone, from its own checkpoint or out of a class's."""
    from transformers import PerceiverConfig, PerceiverModel

    case = replace(SEQUENCE, name=stored, config={**SEQUENCE.config, "d_model": 24})
    save_random(case, tmp_path, seed=3)
    theirs = PerceiverModel.from_pretrained(tmp_path, config=PerceiverConfig.from_pretrained(tmp_path)).eval()
    theirs.config._attn_implementation = "eager"
    ours = pretrained.PerceiverModel.from_pretrained(tmp_path)
    inputs = torch.randn(3, 20, 24) + torch.randn(3, 1, 24)
    mask = torch.arange(20).expand(3, -1) < torch.tensor([[4], [20], [11]])
    with torch.inference_mode():
        arguments = {"attention_mask": mask.long(), "output_attentions": True, "output_hidden_states": True}
        expected, found = theirs(inputs, **arguments), ours(inputs, **arguments)
    assert found.logits is None
    assert worst_ratio(found.last_hidden_state, expected.last_hidden_state) <= TOLERANCE
    for name in ("attentions", "cross_attentions", "hidden_states"):
        parts = zip(getattr(found, name), getattr(expected, name), strict=True)
        assert max(worst_ratio(a, b) for a, b in parts) <= TOLERANCE
    if stored == "PerceiverModel":
        with pytest.raises(ValueError, match=r"a bare PerceiverModel; load it with PerceiverModel.from_pretrained"):
            pretrained.load(tmp_path)
