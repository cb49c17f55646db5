"""A modality is one description: depth, added here, is trained, evaluated, reported, saved and loaded by the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from multimodal.autoencoder import evaluate
from multimodal.autoencoder.losses import autoencoder_loss, draw
from multimodal.autoencoder.metrics import psnr
from multimodal.autoencoder.modalities import Frames, Measure, Modality
from multimodal.autoencoder.model import PRESETS, build, reconstruct
from multimodal.autoencoder.preparation import prepare
from multimodal.autoencoder.runs import load_model, load_run
from multimodal.autoencoder.settings import AutoencoderTrainingConfig, SignalTerm
from multimodal.clips.loader import ClipBatch
from multimodal.clips.settings import Augmentation, LoaderConfig
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.errors import DataError
from multimodal.common.records import read_lines
from multimodal.common.training import alone, train
from tests.multimodal.test_training import LOSS, MICRO, random_batch


def depth_psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    return psnr(estimate, truth, 1.0)


@pytest.fixture(scope="module", autouse=True)
def depth() -> Iterator[type[Frames]]:
    """The whole description. A grey picture stands for the depth that a sensor would give."""

    @dataclass(frozen=True, kw_only=True)
    class Depth(Frames):
        name = "depth"
        core_name = "depth"
        channels = 1
        trivial_name = "mean depth of the clip"
        measures = (Measure(name="psnr", title="depth PSNR", of=depth_psnr, unit="dB", headline=True),)

        def truth(self, batch: ClipBatch) -> Tensor:
            return batch.video.float().mean(dim=2, keepdim=True) / 255

        def present(self, batch: ClipBatch) -> Tensor:
            return batch.has_video

    sizes = replace(MICRO, modalities=(*MICRO.modalities, Depth(patch=4, query_patch=2, bands=2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "micro", MICRO)
        patch.setitem(PRESETS, "micro-depth", sizes)
        yield Depth
    del Modality.kinds["depth"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = SyntheticConfig(clips_per_class=3, held_out=0.3, seconds=0.4, size=16)
    return str(generate(tmp_path_factory.mktemp("data") / "clips", config))


def config_for(out: Path, data: str, preset: str = "micro-depth", **changes: object) -> AutoencoderTrainingConfig:
    loss = dict(LOSS) | ({"depth": SignalTerm(weight=2.0, queries=9, hide=0.3)} if preset == "micro-depth" else {})
    base = AutoencoderTrainingConfig(
        out=str(out),
        data=data,
        preset=preset,
        steps=6,
        batch_size=4,
        loss=loss,
        loader=LoaderConfig(num_workers=0, augmentation=Augmentation(min_area=0.5, flip=0.5)),
        checkpoint_every=3,
        log_every=1,
    )
    return replace(base, **changes)


def test_a_new_modality_goes_through_training_evaluation_report_and_run_folder(tmp_path: Path, data: str) -> None:
    config = config_for(tmp_path / "run", data)
    train(prepare(config), alone(), until=4)
    train(prepare(config), alone())
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 6 and all(line["depth"] > 0 for line in lines)
    model, info = load_model(config.out)
    assert info.model == PRESETS["micro-depth"] and info.training["loss"]["depth"]["queries"] == 9
    result = reconstruct(model, info.model, random_batch(2))
    assert {name: tuple(value.shape) for name, value in result.items()} == {
        "video": (2, 4, 3, 8, 8),
        "audio": (2, 2_560),
        "label": (2, 8),
        "depth": (2, 4, 1, 8, 8),
    }
    evaluate.main([config.out, "--num-processes", "1", "--examples", "1", "--max-windows", "1"])
    values = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert values["measures"]["depth_psnr"] > 0 and values["trivial"]["depth_psnr"] > 0
    assert 0 <= values["top1_alone"]["depth"] <= 1
    trivial = values["baselines"][1]
    assert trivial["name"] == "mean colour of the clip, silence, mean depth of the clip"
    page = (tmp_path / "run" / "evaluation" / "evaluation.html").read_text()
    for text in ("depth PSNR", "from depth alone", "depth, original", "depth, reconstruction"):
        assert text in page
    tags = {path.name for path in (tmp_path / "run" / "tensorboard").iterdir()}
    assert tags


def test_the_new_modality_is_hidden_and_asked_for_like_the_others() -> None:
    sizes = PRESETS["micro-depth"]
    loss = LOSS | {"depth": SignalTerm(weight=2.0, queries=9, hide=0.3)}
    choice = draw(sizes, loss, seed=3, step=0, global_batch=4_000, part=slice(0, 4_000))
    shares = {name: float(hidden.float().mean()) for name, hidden in choice.hidden.items()}
    assert shares == pytest.approx({"label": 0.5, "video": 0.2, "audio": 0.2, "depth": 0.3}, abs=0.03)
    signals = torch.stack([choice.hidden[name] for name in ("video", "audio", "depth")])
    assert int(signals.sum(0).max()) == 1, "two signals of a clip are hidden at once"
    torch.manual_seed(0)
    model, batch = build(sizes, 3), random_batch(2)
    some = draw(sizes, loss, seed=0, step=0, global_batch=2, part=slice(0, 2))
    losses = autoencoder_loss(model, model, sizes, loss, batch, some)
    weighted = sum(loss[name].weight * losses[name] for name in sizes.names)
    torch.testing.assert_close(losses["total"], weighted)


def test_what_is_derived_from_the_picture_is_cropped_with_it(depth: type[Frames]) -> None:
    batch = random_batch(2)
    modality = depth(patch=4, bands=2)
    cropped = replace(batch, video=batch.video[..., 2:6, 1:5].flip(-1))
    torch.testing.assert_close(modality.truth(cropped), modality.truth(batch)[..., 2:6, 1:5].flip(-1))


def test_a_run_with_a_new_modality_starts_from_one_without_it(tmp_path: Path, data: str) -> None:
    first = config_for(tmp_path / "first", data, "micro", steps=2)
    train(prepare(first), alone())
    task = prepare(config_for(tmp_path / "second", data, start_from=first.out))
    torch.manual_seed(1)
    model = task.build()
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    task.begin(model)
    old = load_model(first.out)[0].state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, old[key] if key in old else fresh[key]), key
    assert any("depth" in key for key in fresh)


def test_a_loss_and_a_run_that_do_not_fit_are_refused(tmp_path: Path, data: str) -> None:
    with pytest.raises(DataError, match="terms for audio, label, video, but the model's modalities are audio, depth"):
        prepare(config_for(tmp_path / "run", data, loss=LOSS))
    with pytest.raises(ValueError, match="adds to more than 1; a clip has one of them hidden at a time"):
        config_for(
            tmp_path / "run",
            data,
            loss={"video": SignalTerm(weight=1, hide=0.6)} | LOSS | {"depth": SignalTerm(weight=1, hide=0.7)},
        )
    prepare(config_for(tmp_path / "run", data))
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    stored["model"]["modalities"]["depth"]["name"] = "smell"
    (tmp_path / "run" / "run.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="no modality 'smell'; there are audio, depth, label, video"):
        load_run(tmp_path / "run")
