from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from multimodal.autoencoder.baselines import load_clips
from multimodal.autoencoder.comparison import codec_quality, pca_qualities
from multimodal.autoencoder.compression import main
from multimodal.autoencoder.model import PRESETS, build
from multimodal.autoencoder.runs import RunInfo, save_run
from multimodal.clips.datasets import find_files
from multimodal.clips.synthetic import CLASSES, SyntheticConfig, generate
from multimodal.common.checkpoints import save_checkpoint
from tests.multimodal.test_training import MICRO

FORMAT = PRESETS["tiny"].clip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "clips", SyntheticConfig(clips_per_class=4, held_out=0.25))


def test_more_code_gives_more_quality(data: Path) -> None:
    train = load_clips(find_files(data, "train").files, PRESETS["tiny"], 1)
    held_out = load_clips(find_files(data, "val").files, PRESETS["tiny"], 1)
    assert train["video"].shape == (24, 8, 3, 32, 32) and held_out["audio"].shape == (8, 5_120)
    few, many = pca_qualities(train, train, [4, 20])
    assert few is not None and many is not None
    assert many.video_psnr > few.video_psnr + 1 and many.audio_psnr > few.audio_psnr + 1
    assert pca_qualities(train, held_out, [24]) == [None], "24 clips have 23 principal components"
    some = {name: clips[:2] for name, clips in held_out.items()}
    small, large = codec_quality(some, FORMAT, 600), codec_quality(some, FORMAT, 4_000)
    assert small.code_bytes <= 700 < large.code_bytes <= 4_000
    assert large.video_psnr > small.video_psnr + 3


def test_the_curve_of_a_run_is_written(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model = build(MICRO, len(CLASSES))
    save_run(run, RunInfo(model=MICRO, classes=CLASSES, training={"data": str(data)}))
    save_checkpoint(run, model, torch.optim.AdamW(model.parameters()), 1)
    main([str(run), "--out", str(tmp_path / "curve"), "--codec-clips", "2", "--max-windows", "1"])
    assert "H.264 + Opus" in capsys.readouterr().out
    (point,) = json.loads((tmp_path / "curve" / "compression.json").read_text())
    assert point["compression"] == pytest.approx((4 * 8 * 8 * 3 + 2_560) / 64)
    assert point["perceiver"]["code_bytes"] == 128 and point["pca"] is None
    assert (tmp_path / "curve" / "compression.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="no runs given"):
        main(["--out", str(tmp_path / "curve")])
