from __future__ import annotations

import json
from pathlib import Path

import av
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.autoencoder import evaluate, reconstruct, rendering
from multimodal.autoencoder.baselines import Row, warnings
from multimodal.autoencoder.commands import ReconstructConfig
from multimodal.autoencoder.measures import measure_files, summarize
from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, psnr
from multimodal.autoencoder.model import PRESETS, build
from multimodal.autoencoder.model import reconstruct as reconstruct_clips
from multimodal.autoencoder.runs import RunInfo, load_model, save_run
from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import find_files
from multimodal.clips.loader import evaluation_loader
from multimodal.clips.media import UnreadableMedia, probe, read_window
from multimodal.clips.synthetic import CLASSES, SyntheticConfig, generate
from multimodal.common.checkpoints import save_checkpoint
from multimodal.common.errors import DataError
from tests.multimodal.material import lag_in_seconds, write_numbered
from tests.multimodal.test_training import MICRO

FORMAT = ClipFormat(num_frames=8, frame_rate=12.5, height=32, width=32, sample_rate=8_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SyntheticConfig(clips_per_class=2, held_out=0.5, seconds=0.8, size=16)
    return generate(tmp_path_factory.mktemp("data") / "clips", config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run folder with an untrained model."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = build(MICRO, len(CLASSES))
    save_run(folder, RunInfo(model=MICRO, classes=CLASSES, training={"data": str(data)}))
    save_checkpoint(folder, model, torch.optim.AdamW(model.parameters()), 1)
    return folder


@settings(deadline=None, max_examples=40, derandomize=True)
@given(overlap=st.integers(0, 4), count=st.integers(1, 5))
def test_joined_windows_of_a_signal_are_the_signal(overlap: int, count: int) -> None:
    hop = 8 - overlap
    signal = np.random.default_rng(overlap * 10 + count).random((hop * count + overlap, 2)).astype(np.float32)
    fade = rendering.CrossFade(overlap)
    parts = [fade.add(signal[number * hop : number * hop + 8]) for number in range(count)]
    end = fade.end()
    assert end is not None
    np.testing.assert_allclose(np.concatenate([*parts, end]), signal, atol=1e-6)


@pytest.mark.parametrize("num_frames", [9, 16, 40, 41])
def test_windows_of_a_file_join_to_the_file_in_step(tmp_path: Path, num_frames: int) -> None:
    path = write_numbered(tmp_path / "long.mp4", num_frames=num_frames)
    info = probe(path)
    total = rendering.total_frames(info, FORMAT)
    pictures, sounds = rendering.CrossFade(2), rendering.CrossFade(2 * 640)
    frames, samples = [], []
    for batch in rendering.read_batches(info, FORMAT, batch_size=2):
        for row in range(len(batch)):
            frames.append(pictures.add(batch.video[row].permute(0, 2, 3, 1).numpy()))
            samples.append(sounds.add(batch.audio[row].numpy()))
    end_frames, end_samples = pictures.end(), sounds.end()
    assert end_frames is not None and end_samples is not None
    joined = np.concatenate([*frames, end_frames])[:total]
    whole = read_window(path, start=0, num_frames=total, frame_rate=12.5, sample_rate=8_000)
    assert whole.sound is not None and whole.frames is not None
    heard = np.concatenate([*samples, end_samples])[: total * 640]
    np.testing.assert_allclose(heard, whole.sound, atol=0.02)
    # Stripes 2 to 5 are in the central square: bits 1 to 4 of the frame's number, doubled in width.
    assert len(joined) == total
    for number, frame in enumerate(joined):
        centre = whole.frames[number][:, 8:56]
        bright = [frame[16, column].mean() > 128 for column in (3, 11, 19, 27)]
        expected = [centre[24, column].mean() > 128 for column in (4, 16, 28, 40)]
        assert bright == expected


def test_a_file_of_any_length_goes_through_the_command(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_numbered(tmp_path / "in.mkv", num_frames=37)
    out = tmp_path / "out.mp4"
    reconstruct.main([str(run), str(source), "--out", str(out), "--side-by-side"])
    assert "wrote" in capsys.readouterr().out
    info = probe(out)
    assert (info.width, info.height, info.frame_rate, info.sample_rate) == (16, 8, 12.5, 8_000)
    assert info.duration == pytest.approx(37 / 25, abs=0.041)


def test_predicted_probabilities_and_hidden_modalities(run: Path, tmp_path: Path) -> None:
    source = str(write_numbered(tmp_path / "in.mp4", num_frames=25))
    outputs = {}
    for flag in ("", "from_audio_only", "from_video_only"):
        options = {flag: True} if flag else {}
        config = ReconstructConfig(run=str(run), clip=source, out=str(tmp_path / f"out{flag}.mp4"), **options)
        ranking = rendering.run(config)
        assert sum(probability for _, probability in ranking) == pytest.approx(1)
        assert sorted(name for name, _ in ranking) == list(CLASSES)
        assert [p for _, p in ranking] == sorted((p for _, p in ranking), reverse=True)
        outputs[flag] = dict(ranking)
    assert outputs[""] != outputs["from_audio_only"] != outputs["from_video_only"]


def test_what_cannot_be_reconstructed_is_refused(run: Path, tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "in.mp4", num_frames=25, sound=False)

    def attempt(clip: Path = source, out: str = "out.mp4", **options: bool) -> None:
        path = str(tmp_path / out)
        rendering.run(ReconstructConfig(run=str(run), clip=str(clip), out=path, **options))

    with pytest.raises(DataError, match="has no sound track, so nothing can be made from its sound"):
        attempt(from_audio_only=True)
    with pytest.raises(ValueError, match="give one of them"):
        attempt(from_audio_only=True, from_video_only=True)
    with pytest.raises(DataError, match=r"must end in one of"):
        attempt(out="out.txt")
    with pytest.raises(DataError, match=r"create it with: mkdir -p"):
        attempt(out="absent/out.mp4")
    with pytest.raises(UnreadableMedia, match=r"too short for clips of 0\.320 s"):
        attempt(clip=write_numbered(tmp_path / "short.mp4", num_frames=3))
    with pytest.raises(SystemExit, match=r"error: .*no such file"):
        reconstruct.main([str(run), str(tmp_path / "absent.mp4"), "--out", str(tmp_path / "x.mp4")])
    assert not (tmp_path / "out.mp4").exists()


def test_measures_are_those_of_the_reconstruction(run: Path, data: Path) -> None:
    model, info = load_model(run)
    files = find_files(data, "val", info.classes).files
    measures, problems = measure_files(model, MICRO, files, batch_size=3)
    assert not problems
    assert len(measures) == 2 * len(files), "0.8 s hold two windows of 0.32 s"
    batch = next(iter(evaluation_loader(files[:1], MICRO.clip, batch_size=1)))
    result = reconstruct_clips(model, MICRO, batch)
    first, truth = measures[0], batch.video / 255
    video_psnr, audio_psnr = first.measures["video_psnr"], first.measures["audio_psnr"]
    assert video_psnr == pytest.approx(float(psnr(result["video"], truth, VIDEO_PEAK)), abs=1e-3)
    assert audio_psnr == pytest.approx(float(psnr(result["audio"], batch.audio, AUDIO_PEAK)), abs=1e-3)
    flat = truth.mean(dim=(1, 3, 4), keepdim=True).expand_as(truth)
    assert first.trivial["video_psnr"] == pytest.approx(float(psnr(flat, truth, VIDEO_PEAK)), abs=1e-3)
    assert first.trivial["audio_spectral_convergence"] == 1.0, "silence"
    assert first.probabilities == pytest.approx(result["label"].softmax(1)[0].tolist(), abs=1e-5)
    summary = summarize(measures, MICRO, len(CLASSES))
    assert sum(map(sum, summary.confusion)) == len(measures)
    assert summary.top1 == pytest.approx(sum(summary.confusion[k][k] for k in range(8)) / len(measures))
    assert summary.chance == pytest.approx(1 / 8)
    assert summary.top5 >= summary.top1


def test_evaluation_writes_table_report_and_measures(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "val" / "ring" / "zzz.mp4"
    broken.write_bytes(b"broken")
    try:
        out = str(tmp_path / "report")
        evaluate.main([str(run), "--out", out, "--num-processes", "1", "--examples", "1"])
    finally:
        broken.unlink()
    assert "video PSNR" in capsys.readouterr().out
    values = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert values["clips"] == 16 and list(values["skipped"]) == [str(broken)]
    ways = {row["name"]: row for row in values["baselines"]}
    assert list(ways)[:2] == ["Perceiver IO", "mean colour of the clip, silence"]
    page = (tmp_path / "report" / "evaluation.html").read_text()
    assert page.count("<audio") == 2 and page.count("data:image/png") == 4
    assert "http" not in page, "the report loads something from elsewhere"
    assert len((tmp_path / "report" / "clips.jsonl").read_text().splitlines()) == 16


def test_what_is_no_better_than_nothing_is_said_in_words() -> None:

    def row(name: str, video: float, audio: float, convergence: float, called: dict[str, str]) -> Row:
        values = {"video_psnr": video, "audio_psnr": audio, "audio_spectral_convergence": convergence}
        usual = {"video_ssim": 0.5, "audio_spectral_distance": 1.0}
        return Row(name=name, measures=usual | values, names=called)

    nothing = {"video": "mean colour of the clip", "audio": "silence"}
    equal = dict.fromkeys(nothing, "PCA of equal size")
    model = row("Perceiver IO", 15.8, 32.3, 1.2, {})
    trivial = row("mean colour of the clip, silence", 14.3, 48.0, 1.0, nothing)
    linear = row("PCA, 32 joint components", 21.0, 30.0, 1.5, equal)
    assert warnings([model, trivial, linear], MICRO) == [
        "The video is below PCA of equal size: video PSNR 15.80 dB against 21.00 dB.",
        "The audio is below silence: audio PSNR 32.30 dB against 48.00 dB.",
        "The audio is no nearer to the truth than silence: audio spectral convergence (silence: 1) 1.20 against 1.00.",
    ]
    assert warnings([row("Perceiver IO", 25, 49, 0.5, {}), trivial, linear], MICRO) == []


def test_data_of_other_classes_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "other", SyntheticConfig(clips_per_class=2, held_out=0.5, seconds=0.4, size=16))
    (other / "val" / "ring").rename(other / "val" / "wheel")
    with pytest.raises(SystemExit, match="classes that the run was not trained on: wheel"):
        evaluate.main([str(run), "--data", str(other), "--num-processes", "1"])
    with pytest.raises(SystemExit, match="no checkpoint yet"):
        empty = tmp_path / "empty"
        (empty / "checkpoints").mkdir(parents=True)
        save_run(empty, RunInfo(model=MICRO, classes=CLASSES, training={"data": str(data)}))
        evaluate.main([str(empty)])


def test_sound_and_picture_of_a_long_file_stay_in_step(tmp_path: Path) -> None:
    """The instants read for the last window of a file are the right ones in both modalities."""
    path = write_numbered(tmp_path / "long.mp4", num_frames=200)
    batches = list(rendering.read_batches(probe(path), FORMAT, batch_size=3))
    last = batches[-2]
    start = float(last.start[0])
    assert abs(lag_in_seconds(last.audio[0].numpy(), start, 8_000)) < 1 / 25
    assert start > 5
    assert PRESETS["tiny"].clip == FORMAT


def test_the_sound_alone_and_its_spectrogram(run: Path, data: Path, tmp_path: Path) -> None:
    clip = next((data / "val").rglob("*.mp4"))
    out, picture = tmp_path / "sound.wav", tmp_path / "sound.png"
    reconstruct.main([str(run), str(clip), "--out", str(out), "--spectrogram", str(picture)])
    with av.open(str(out)) as container:
        assert not container.streams.video and container.streams.audio[0].codec_context.name == "pcm_s16le"
    assert probe(out).duration == pytest.approx(probe(clip).duration, abs=1 / FORMAT.frame_rate)
    assert plt.imread(picture).std() > 0.05, "an empty picture"
    with pytest.raises(ValueError, match="holds sound alone; give a video file"):
        ReconstructConfig(run=str(run), clip=str(clip), out=str(out), side_by_side=True)
