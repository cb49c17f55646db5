from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from multimodal.autoencoder.losses import autoencoder_loss, draw
from multimodal.autoencoder.modalities import Audio, Label, Video
from multimodal.autoencoder.model import PRESETS, AutoencoderConfig, absent, build, encode, preset, reconstruct
from multimodal.autoencoder.preparation import prepare
from multimodal.autoencoder.runs import load_model, load_run
from multimodal.autoencoder.settings import (
    RECIPES,
    AutoencoderTrainingConfig,
    LossTerm,
    SignalTerm,
    default_config,
    paper_loss,
)
from multimodal.clips.clip import ClipFormat
from multimodal.clips.loader import ClipBatch
from multimodal.clips.settings import LoaderConfig
from multimodal.clips.synthetic import SyntheticConfig, generate
from multimodal.common.errors import DataError
from multimodal.common.optimizers import Muon, Optimizers, orthogonalize
from multimodal.common.records import read_lines, skipped_files
from multimodal.common.run_folder import checkpoints, claim
from multimodal.common.sampling import EpochBatches
from multimodal.common.settings import OptimizerConfig
from multimodal.common.training import alone, train
from perceiver_core.model import PerceiverIO

MICRO = AutoencoderConfig(
    clip=ClipFormat(num_frames=4, frame_rate=12.5, height=8, width=8, sample_rate=8_000),
    modalities=(Video(patch=4, bands=2), Audio(samples_per_patch=16, bands=4), Label(query_channels=8)),
    num_latents=4,
    latent_channels=16,
    num_self_attends=1,
    num_heads=2,
    output_channels=16,
)
LOSS = {
    "video": SignalTerm(weight=1.0, hide=0.2, queries=20),
    "audio": SignalTerm(weight=1.0, hide=0.2, queries=6),
    "label": LossTerm(weight=0.5, hide=0.5),
}


@pytest.fixture(autouse=True)
def micro_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "micro", MICRO)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data")
    config = SyntheticConfig(clips_per_class=3, held_out=0.3, seconds=0.4, size=16)
    return str(generate(root / "clips", config))


def random_batch(size: int, seed: int = 0, sizes: AutoencoderConfig = MICRO) -> ClipBatch:
    clip = sizes.clip
    chance = torch.Generator().manual_seed(seed)
    yes = torch.ones(size, dtype=torch.bool)
    return ClipBatch(
        video=torch.randint(
            0, 256, (size, clip.num_frames, 3, clip.height, clip.width), generator=chance, dtype=torch.uint8
        ),
        audio=torch.rand(size, clip.num_samples, generator=chance) - 0.5,
        label=torch.randint(0, 3, (size,), generator=chance),
        has_video=yes.clone(),
        has_audio=yes.clone(),
        has_label=yes.clone(),
        index=torch.arange(size),
        start=torch.zeros(size, dtype=torch.float64),
    )


def rows(batch: ClipBatch, part: slice) -> ClipBatch:
    return ClipBatch(**{name: value[part] for name, value in vars(batch).items() if isinstance(value, Tensor)})


def micro_model() -> PerceiverIO:
    torch.manual_seed(0)
    return build(MICRO, 3)


def test_presets_have_the_published_sizes() -> None:
    paper = preset("paper")
    assert [modality.num_queries(paper.clip) for modality in paper.modalities] == [802_816, 1_920, 1]
    assert paper.compression == pytest.approx(2_439_168 / 401_408)
    with torch.device("meta"):
        model = build(paper, 700)
    assert sum(parameter.numel() for parameter in model.parameters()) == 19_858_855
    assert set(PRESETS) == {*RECIPES, "micro"}
    assert preset("tiny", num_latents=32).code_values == 2 * preset("tiny").code_values
    with pytest.raises(ValueError, match="no preset 'huge'; there are tiny, small, paper"):
        preset("huge")


def test_a_sample_rate_that_the_model_cannot_take_is_refused() -> None:
    clip = ClipFormat(num_frames=4, frame_rate=12.5, height=8, width=8, sample_rate=8_025)
    with pytest.raises(ValueError, match=r"2568 samples at 8025 Hz, not a multiple of samples_per_patch 16"):
        replace(MICRO, clip=clip)
    with pytest.raises(ValueError, match="must be multiples of it"):
        replace(MICRO, modalities=(Video(patch=3, bands=2), *MICRO.modalities[1:]))
    with pytest.raises(ValueError, match="each may come once, and label must"):
        replace(MICRO, modalities=MICRO.modalities[:2])


def test_the_loss_is_what_it_says() -> None:
    model, batch = micro_model(), random_batch(3)
    choice = draw(MICRO, LOSS, seed=0, step=5, global_batch=3, part=slice(0, 3))
    with torch.no_grad():
        losses = autoencoder_loss(model, model, MICRO, LOSS, batch, choice)
        latents = encode(model, MICRO, batch, choice.hidden)
        whole = model.decode(latents)
    assert isinstance(whole, dict)
    pixels = batch.video.permute(0, 1, 3, 4, 2).reshape(3, -1, 3)[:, choice.asked["video"]] / 255
    assert float(losses["video"]) == pytest.approx(
        float((whole["image"][:, choice.asked["video"]] - pixels).abs().mean()), rel=1e-4
    )
    patches = lambda sound: sound.reshape(3, -1, 16)[:, choice.asked["audio"]]  # noqa: E731
    assert float(losses["audio"]) == pytest.approx(
        float((patches(whole["audio"]) - patches(batch.audio)).abs().mean()), rel=1e-4
    )
    chosen = whole["label"].softmax(1)[torch.arange(3), batch.label]
    assert float(losses["label"]) == pytest.approx(float(-chosen.log().mean()), rel=1e-4)
    total = losses["video"] + losses["audio"] + 0.5 * losses["label"]
    torch.testing.assert_close(losses["total"], total)
    assert {name: (term.weight, term.hide) for name, term in paper_loss().items()} == {
        "video": (0.03, 0.0),
        "audio": (1.0, 0.0),
        "label": (1e-4, 0.5),
    }


def test_normalised_patches_come_back_as_pixels_and_samples() -> None:
    video = Video(patch=4, bands=2, query_patch=2, mean=0.5, deviation=0.05)
    audio = Audio(samples_per_patch=16, bands=4, deviation=0.1)
    sizes = replace(MICRO, modalities=(video, audio, Label(query_channels=8)), code_channels=3)
    assert (sizes.code_values, video.num_queries(sizes.clip)) == (12, 64)
    torch.manual_seed(0)
    model, batch = build(sizes, 3).eval(), random_batch(2)
    loss = {
        "video": SignalTerm(weight=1.0, queries=64, error="squared"),
        "audio": SignalTerm(weight=1.0, queries=999, error="squared"),
        "label": LossTerm(weight=0.5, hide=1.0),
    }
    choice = draw(sizes, loss, seed=0, step=0, global_batch=2, part=slice(0, 2))
    with torch.no_grad():
        losses = autoencoder_loss(model, model, sizes, loss, batch, choice)
    result = reconstruct(model, sizes, batch)
    inside = (result["video"] > 0) & (result["video"] < 1)
    assert bool(inside.all()) and bool((result["audio"].abs() < 1).all()), "clamping would hide a wrong scale"
    seen = ((result["video"] - batch.video / 255) / 0.05).square().mean()
    heard = ((result["audio"] - batch.audio) / 0.1).square().mean()
    assert float(losses["video"]) == pytest.approx(float(seen), rel=1e-4)
    assert float(losses["audio"]) == pytest.approx(float(heard), rel=1e-4)


def test_muon_takes_the_matrices_of_attention_and_adamw_the_rest() -> None:
    model = micro_model()
    optimizers = Optimizers(model, OptimizerConfig(muon_learning_rate=1e-3, warmup_steps=4))
    (adamw, _), (muon, _) = optimizers.parts
    counts = [sum(len(group["params"]) for group in part.param_groups) for part in (adamw, muon)]
    assert counts[1] == 3 * 6, "encoder, one self-attention, decoder: query, key, value, output, expand, contract"
    assert sum(counts) == len(list(model.parameters()))
    assert optimizers.config.share(0, 20) == 0.25 and optimizers.config.share(3, 20) == 1.0
    assert optimizers.config.share(19, 20) < 0.02
    with pytest.raises(ValueError, match="muon_learning_rate is -1; it must be positive, or None"):
        OptimizerConfig(muon_learning_rate=-1)


def test_muon_steps_like_torchs_in_bfloat16() -> None:
    chance = torch.Generator().manual_seed(0)
    shapes = [(24, 24), (24, 24), (48, 24), (24, 60)]
    ours = [torch.nn.Parameter(torch.randn(shape, generator=chance)) for shape in shapes]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    muon = Muon(ours, lr=1e-2, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        before = [parameter.detach().clone() for parameter in ours]
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=chance)
            other.grad = mine.grad.clone()
        muon.step()
        reference.step()
    for mine, other, start in zip(ours, theirs, before, strict=True):
        assert float((mine - other).detach().norm()) < 0.05 * float((mine - start).detach().norm())
    values = torch.linalg.svdvals(orthogonalize(torch.randn(2, 24, 60, generator=chance)))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_what_a_clip_lacks_reaches_neither_loss_nor_latents() -> None:
    model, batch = micro_model(), random_batch(3)
    batch.has_audio[1] = batch.has_video[2] = batch.has_label[0] = False
    choice = draw(MICRO, LOSS, seed=0, step=0, global_batch=3, part=slice(0, 3))
    losses = autoencoder_loss(model, model, MICRO, LOSS, batch, choice)
    changed = random_batch(3)
    changed.audio[1], changed.video[2], changed.label[0] = 0.9, 255, 2
    changed.has_audio[1] = changed.has_video[2] = changed.has_label[0] = False
    again = autoencoder_loss(model, model, MICRO, LOSS, changed, choice)
    torch.testing.assert_close(losses, again)
    seen = encode(model, MICRO, batch, absent(MICRO, batch))
    assert not torch.allclose(seen, encode(model, MICRO, batch, absent(MICRO, batch, also=("video",))))


def test_the_label_is_seen_only_where_it_is_not_hidden() -> None:
    model = micro_model().eval()
    batch, relabelled = random_batch(2), random_batch(2)
    relabelled.label[:] = (batch.label + 1) % 3
    hidden = reconstruct(model, MICRO, batch), reconstruct(model, MICRO, relabelled)
    torch.testing.assert_close(hidden[0]["label"], hidden[1]["label"])
    shown = reconstruct(model, MICRO, batch, hide=()), reconstruct(model, MICRO, relabelled, hide=())
    assert not torch.allclose(shown[0]["label"], shown[1]["label"])
    only = reconstruct(model, MICRO, batch, hide=("video", "label"), ask=("video",))
    assert list(only) == ["video"] and only["video"].shape == (2, 4, 3, 8, 8)


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(world_size: int, accumulate: int) -> None:
    batch = random_batch(8)
    batch.has_audio[3] = False

    def gradients(parts: list[slice]) -> list[Tensor]:
        model = micro_model().double()  # the paths for hidden and for whole modalities round apart
        for part in parts:
            choice = draw(MICRO, LOSS, seed=1, step=7, global_batch=8, part=part)
            losses = autoencoder_loss(model, model, MICRO, LOSS, rows(batch, part), choice)
            (losses["total"] / len(parts)).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    cut = [
        EpochBatches(8, 8, seed=0, rank=rank, world_size=world_size, accumulate=accumulate).part(round_)
        for rank in range(world_size)
        for round_ in range(accumulate)
    ]
    torch.testing.assert_close(gradients(cut), gradients([slice(0, 8)]), atol=1e-12, rtol=1e-10)


def test_random_choices_follow_their_probabilities() -> None:
    choice = draw(MICRO, LOSS, seed=3, step=0, global_batch=4_000, part=slice(0, 4_000))
    shares = [float(choice.hidden[name].float().mean()) for name in ("label", "video", "audio")]
    assert shares == pytest.approx([0.5, 0.2, 0.2], abs=0.03)
    assert not bool((choice.hidden["video"] & choice.hidden["audio"]).any()), "nothing but the label is left of a clip"
    assert len(set(choice.asked["video"].tolist())) == 20
    other = draw(MICRO, LOSS, seed=3, step=1, global_batch=4_000, part=slice(0, 4_000))
    assert not torch.equal(choice.asked["video"], other.asked["video"])


def config_for(out: Path, data: str, **changes: object) -> AutoencoderTrainingConfig:
    base = AutoencoderTrainingConfig(
        out=str(out),
        data=data,
        preset="micro",
        steps=9,
        batch_size=4,
        loss=LOSS,
        optimizer=OptimizerConfig(warmup_steps=2, muon_learning_rate=2e-3),
        loader=LoaderConfig(num_workers=0),
        checkpoint_every=2,
        log_every=1,
    )
    return replace(base, **changes)


def test_an_interrupted_run_ends_like_an_unbroken_one(tmp_path: Path, data: str) -> None:
    unbroken = config_for(tmp_path / "a", data)
    train(prepare(unbroken), alone())
    broken = config_for(tmp_path / "b", data)
    # 16 files make epochs of 4 steps: both breaks are inside one. The last is after step 6 without its checkpoint.
    train(prepare(broken), alone(), until=3)
    train(prepare(broken), alone(), until=7)
    for leftover in checkpoints(broken.out)[-1:]:
        leftover.rename(leftover.with_name(".partial-00000007-1"))
    means = train(prepare(broken), alone())
    first, second = load_model(unbroken.out)[0].state_dict(), load_model(broken.out)[0].state_dict()
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    lines = [read_lines(Path(config.out) / "metrics.jsonl") for config in (unbroken, broken)]
    assert [line["step"] for line in lines[1]] == list(range(1, 10))
    assert [line["total"] for line in lines[0]] == [line["total"] for line in lines[1]]
    assert means["total"] == lines[0][-1]["total"] and math.isfinite(means["samples_per_second"])
    assert [path.name for path in checkpoints(broken.out)] == ["step-00000008", "step-00000009"]
    assert not list((Path(broken.out) / "checkpoints").glob(".partial*"))


def test_training_learns(tmp_path: Path, data: str) -> None:
    faster = OptimizerConfig(learning_rate=4e-3, warmup_steps=2)
    config = config_for(tmp_path / "run", data, steps=40, checkpoint_every=40, precision="bfloat16", optimizer=faster)
    train(prepare(config), alone())
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    early, late = (sum(line["total"] for line in part) for part in (lines[:8], lines[-8:]))
    assert late < 0.8 * early
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_unusable_runs_are_refused_before_training(tmp_path: Path, data: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match=r"run folder .*file/run cannot be written"):
        prepare(config_for(file / "run", data))
    with pytest.raises(DataError, match=r"16 samples do not fill one batch of 64; lower the batch size"):
        prepare(config_for(tmp_path / "large", data, batch_size=64))
    with pytest.raises(DataError, match="does not exist"):
        prepare(config_for(tmp_path / "none", str(tmp_path / "absent")))
    with pytest.raises(ValueError, match="take a multiple of 3"):
        config_for(tmp_path / "x", data, num_processes=3)
    with pytest.raises(DataError, match=r"holds no training run \(run.json is missing\)"):
        load_run(tmp_path)


def test_a_run_is_continued_only_as_it_was_begun(tmp_path: Path, data: str) -> None:
    begun = config_for(tmp_path / "run", data)
    prepare(begun)
    prepare(replace(begun, num_processes=2, checkpoint_every=5))
    with pytest.raises(DataError, match=r"begun with other settings \(batch_size 4 -> 8\)"):
        prepare(replace(begun, batch_size=8))
    other = generate(tmp_path / "other", SyntheticConfig(clips_per_class=2, held_out=0.5, seconds=0.4, size=16))
    for split in ("train", "val"):
        (other / split / "ring").rename(other / split / "wheel")
    with pytest.raises(DataError, match=r"other classes \(gone: ring; new: wheel\)"):
        prepare(replace(begun, data=str(other)))


def test_skipped_files_are_listed_in_the_run_folder(tmp_path: Path) -> None:
    root = generate(tmp_path / "clips", SyntheticConfig(clips_per_class=3, held_out=0.3, seconds=0.4, size=16))
    broken = root / "train" / "ring" / "000000.mp4"
    broken.write_bytes(b"broken")
    config = config_for(tmp_path / "run", str(root), steps=4, checkpoint_every=4)
    train(prepare(config), alone())
    assert list(skipped_files(config.out)) == [str(broken)]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(math.isfinite(json.loads(line)["total"]) for line in lines)


def test_default_settings_name_their_preset() -> None:
    assert default_config("paper", "x").loss == paper_loss()
    for name in RECIPES:
        assert default_config(name, "x").preset == name
        assert set(default_config(name, "x").loss) == set(PRESETS[name].names)
    with pytest.raises(ValueError, match="no preset 'huge'; there are tiny, small, paper"):
        default_config("huge", "x")


def test_training_starts_from_the_weights_of_a_run(tmp_path: Path, data: str) -> None:
    first = config_for(tmp_path / "first", data, steps=3)
    train(prepare(first), alone())
    hardly = OptimizerConfig(learning_rate=1e-9, warmup_steps=0)
    second = config_for(tmp_path / "second", data, start_from=first.out, steps=1, optimizer=hardly)
    train(prepare(second), alone())
    begun, ended = (load_model(config.out)[0].state_dict() for config in (first, second))
    torch.testing.assert_close(ended, begun, atol=1e-6, rtol=0)
    with pytest.raises(DataError, match=r"first has other sizes than this one"):
        prepare(replace(second, out=str(tmp_path / "third"), num_latents=5))


def test_one_training_at_a_time_writes_to_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = pytest.raises(DataError, match=r"another training is writing to .*; let it end or stop it")
    with claim(tmp_path), refused, claim(tmp_path, patience=0.3):
        pass
    assert "another training holds" in capsys.readouterr().err
    with claim(tmp_path, patience=0.0):
        pass
