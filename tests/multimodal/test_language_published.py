"""Published byte models are fine-tuned: logits before the first step, its loss and gradients are transformers'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multimodal.common.errors import DataError
from multimodal.language.finetuning import LabelledBatch, task_losses
from multimodal.language.finetuning_preparation import prepare
from multimodal.language.model import build_masked, build_tasks
from multimodal.language.pretraining import MaskedBatch, masked_loss
from multimodal.language.published import published_classes, sizes_of, take_pretrained
from multimodal.language.settings import FinetuningConfig
from multimodal.language.tasks.labelled import TaskInfo
from perceiver_core.hub import HubModel
from perceiver_core.pretrained.checkpoints import hugging_face_name, hugging_face_weights
from tests.perceiver_core.huggingface import FULL, SMALL, Case, _tokens, save_random

SMALL_SIZES = {
    "num_latents": 12,
    "d_latents": 32,
    "num_self_attends_per_block": 2,
    "num_blocks": 1,
    "d_model": 24,
    "qk_channels": 256,
    "v_channels": 32,
    "max_position_embeddings": 40,
    "num_labels": 5,
}
MASKED = Case(name="PerceiverForMaskedLM", config=SMALL_SIZES, arguments=_tokens(3, 40), mask_length=40)
CLASSIFIER = replace(MASKED, name="PerceiverForSequenceClassification")


def published(name: str) -> Case:
    (case,) = [case for case in FULL if case.name == name]
    return case


def compare_gradients(ours: HubModel, theirs: nn.Module, architecture: str, renamed: dict[str, str]) -> float:
    """The largest difference of any parameter's gradients over the largest gradient of that parameter."""
    named = {renamed.get(name, name): parameter for name, parameter in ours.named_parameters()}
    gradients = {name: parameter.grad for name, parameter in named.items()}
    expected = dict(theirs.named_parameters())
    compared, worst = 0, 0.0
    scale = max(float(p.grad.abs().max()) for p in expected.values() if p.grad is not None)
    for name, gradient in gradients.items():
        assert gradient is not None, name
        wanted = expected[hugging_face_name(name, architecture)].grad
        assert wanted is not None, name
        difference = float((gradient.reshape(wanted.shape) - wanted).abs().max())
        # Gradients that cancel to nothing (key biases) are rounding alone.
        worst = max(worst, difference / max(float(wanted.abs().max()), 1e-4 * scale))
        compared += 1
    assert compared == len(list(expected.values())), "every parameter of theirs is one of ours"
    return worst


def masked_step(case: Case, folder: Path, length: int) -> float:
    theirs = save_random(case, folder, seed=1).eval()  # its dropout of attention is off there
    sizes, _ = sizes_of(str(folder))
    ours = build_masked(sizes)
    take_pretrained(ours, str(folder))
    tokens = case.arguments()["inputs"]
    positions = torch.stack([torch.randperm(length)[: length // 6].sort().values for _ in tokens])
    targets = torch.randint(6, 262, positions.shape)
    labels = torch.full_like(tokens, -100).scatter(1, positions, targets)
    batch = MaskedBatch(
        tokens=tokens, positions=positions, targets=targets, counts=torch.ones_like(positions, dtype=torch.bool)
    )
    found = theirs(input_ids=tokens, labels=labels)
    loss, _ = masked_loss(ours, batch)
    torch.testing.assert_close(loss, found.loss, rtol=1e-4, atol=1e-6)
    loss.backward()
    found.loss.backward()
    return compare_gradients(ours, theirs, case.name, {})


def classifier_step(case: Case, folder: Path) -> float:
    theirs = save_random(case, folder, seed=1).eval()  # its dropout of attention is off there
    sizes, _ = sizes_of(str(folder))
    names = published_classes(str(folder))
    task = TaskInfo(name="mine", classes=names, metrics=("accuracy",))
    ours = build_tasks(sizes, {"mine": task.outputs}, "task-queries")
    take_pretrained(ours, str(folder))
    tokens = case.arguments()["inputs"]
    mask = torch.rand(tokens.shape) > 0.2
    labels = torch.randint(0, len(names), (len(tokens),))
    found = theirs(input_ids=tokens, attention_mask=mask.long(), labels=labels)
    logits = ours(tokens, mask)["mine"]
    torch.testing.assert_close(logits, found.logits, rtol=1e-4, atol=1e-4 * float(found.logits.detach().abs().max()))
    batch = LabelledBatch(tokens=tokens, mask=mask, task=torch.zeros_like(labels), target=labels.float())
    loss, _ = task_losses(ours, batch, [task])
    torch.testing.assert_close(loss, found.loss, rtol=1e-4, atol=1e-6)
    loss.backward()
    found.loss.backward()
    renamed = {
        "outputs.adapters.mine.projection.weight": "decoder.final.weight",
        "outputs.adapters.mine.projection.bias": "decoder.final.bias",
        "queries.table": "queries.position.table",
    }
    return compare_gradients(ours, theirs, case.name, renamed)


def test_a_step_of_the_masked_model(tmp_path: Path) -> None:
    assert masked_step(MASKED, tmp_path, 40) < 1e-3


def test_a_step_of_the_classifier(tmp_path: Path) -> None:
    assert classifier_step(CLASSIFIER, tmp_path) < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_step_of_the_masked_model_in_full_size(tmp_path: Path) -> None:
    worst = masked_step(published(MASKED.name), tmp_path, 2048)
    print(f"\nlargest relative difference of gradients {worst:.1e}")
    assert worst < 2e-3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_step_of_the_classifier_in_full_size(tmp_path: Path) -> None:
    worst = classifier_step(published(CLASSIFIER.name), tmp_path)
    print(f"\nlargest relative difference of gradients {worst:.1e}")
    assert worst < 2e-3


def table(folder: Path, labels: list[str]) -> Path:
    folder.mkdir()
    for part in ("train", "test"):
        lines = [f"text {number}\t{labels[number % len(labels)]}" for number in range(20)]
        (folder / f"{part}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return folder


def settings(tmp_path: Path, data: Path, **changes: Any) -> FinetuningConfig:
    base = FinetuningConfig(
        out=str(tmp_path / "run"), start_from=str(tmp_path / "hf"), data=str(data), steps=1, batch_size=4
    )
    return replace(base, **changes)


def test_a_published_classifier_goes_on_with_its_own_classes(tmp_path: Path) -> None:
    theirs = save_random(CLASSIFIER, tmp_path / "hf", seed=1).eval()
    data = table(tmp_path / "data", [f"LABEL_{number}" for number in (4, 2, 0, 1, 3)])
    task = prepare(settings(tmp_path, data))
    assert task.info.tasks[0].classes == tuple(f"LABEL_{number}" for number in range(5))
    model = task.build()
    task.begin(model)
    tokens = torch.randint(6, 262, (2, 30))
    with torch.no_grad():
        expected: Tensor = theirs(input_ids=tokens).logits
        torch.testing.assert_close(model.eval()(tokens)["data"], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match=r"label 'other' is none of the classes of wrong \(LABEL_0, "):
        prepare(settings(tmp_path, table(tmp_path / "wrong", ["LABEL_0", "other"])))


def test_a_published_masked_model_gives_its_trunk_to_tasks(tmp_path: Path) -> None:
    theirs = save_random(MASKED, tmp_path / "hf", seed=1)
    task = prepare(settings(tmp_path, table(tmp_path / "data", ["a", "b"])))
    model = task.build()
    task.begin(model)
    weights = hugging_face_weights(model.state_dict(), MASKED.name)
    published_weights = theirs.state_dict()
    trunk = [name for name in weights if name.startswith(("perceiver.encoder", "perceiver.embeddings"))]
    assert len(trunk) > 20
    for name in trunk:
        torch.testing.assert_close(weights[name], published_weights[name].reshape(weights[name].shape))


def test_other_published_models_are_refused(tmp_path: Path) -> None:
    (flow,) = [case for case in SMALL if "Flow" in case.name]
    save_random(flow, tmp_path / "hf", seed=1)
    with pytest.raises(DataError, match="is a PerceiverForOpticalFlow; expected a PerceiverForMaskedLM or"):
        sizes_of(str(tmp_path / "hf"))
