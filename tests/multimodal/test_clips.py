from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal.clips.clip import (
    Augmentation,
    ClipFormat,
    decoding_short_side,
    evaluation_transform,
    num_starts,
    read_clip,
    training_transform,
)
from multimodal.clips.media import UnreadableMedia
from tests.multimodal.material import read_numbers, write_numbered

FORMAT = ClipFormat(num_frames=8, frame_rate=25, height=32, width=32, sample_rate=8_000)


def test_format_sizes() -> None:
    paper = ClipFormat(num_frames=16, frame_rate=25, height=224, width=224, sample_rate=48_000)
    assert paper.samples_per_frame == 1920
    assert paper.num_samples == 30_720
    assert paper.values == 16 * 224 * 224 * 3 + 30_720
    assert paper.duration == pytest.approx(0.64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 44_101}, r"44101 Hz gives 1764.04 samples a frame .* take e.g. 44100"),
        ({"sample_rate": 10}, "sample_rate is 10"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"frame_rate": float("nan")}, "frame_rate is nan"),
    ],
)
def test_formats_that_cannot_be_are_refused(change: dict, message: str) -> None:
    values = {"num_frames": 8, "frame_rate": 25, "height": 32, "width": 32, "sample_rate": 8_000} | change
    with pytest.raises(ValueError, match=message):
        ClipFormat(**values)


def test_a_clip_has_the_formats_shape_and_the_right_instants(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4")
    clip = read_clip(path, FORMAT, start_frame=7)
    assert clip.video.shape == (8, 3, 32, 32) and clip.video.dtype == torch.uint8
    assert clip.audio.shape == (2_560,) and clip.audio.dtype == torch.float32
    assert clip.has_video and clip.has_audio and clip.start == pytest.approx(0.28)
    wide = ClipFormat(num_frames=8, frame_rate=25, height=36, width=48, sample_rate=8_000)
    frames = read_clip(path, wide, start_frame=7).video.permute(0, 2, 3, 1).numpy()
    assert read_numbers(frames).tolist() == list(range(7, 15))


def test_missing_modalities_are_marked_and_blank(tmp_path: Path) -> None:
    silent = read_clip(write_numbered(tmp_path / "silent.mp4", sound=False), FORMAT)
    assert silent.has_video and not silent.has_audio and not silent.audio.any()
    blind = read_clip(write_numbered(tmp_path / "blind.mp4", picture=False), FORMAT)
    assert blind.has_audio and not blind.has_video and not blind.video.any()


def test_a_short_file_is_extended_and_one_under_half_is_refused(tmp_path: Path) -> None:
    clip = read_clip(write_numbered(tmp_path / "five.mp4", num_frames=5), FORMAT)
    assert torch.equal(clip.video[5], clip.video[4]) and torch.equal(clip.video[7], clip.video[4])
    assert not torch.equal(clip.video[3], clip.video[4])
    assert float(clip.audio[2_000:].abs().max()) < 0.01 < float(clip.audio[:1_500].abs().max())
    with pytest.raises(UnreadableMedia, match=r"three.mp4: has only 38% of the clip"):
        read_clip(write_numbered(tmp_path / "three.mp4", num_frames=3), FORMAT)


def test_number_of_starts() -> None:
    assert num_starts(8 / 25, FORMAT) == 1
    assert num_starts(9 / 25, FORMAT) == 2
    assert num_starts(10.0, FORMAT) == 243
    assert num_starts(0.1, FORMAT) == 1


def test_evaluation_takes_the_central_square() -> None:
    frames = torch.zeros(2, 3, 32, 64, dtype=torch.uint8)
    frames[..., 16:48] = 200
    cut = evaluation_transform(FORMAT)(frames)
    assert cut.shape == (2, 3, 32, 32)
    assert bool((cut == 200).all())


def test_training_crops_all_frames_alike_within_the_picture() -> None:
    column = torch.arange(96, dtype=torch.uint8).expand(64, 96)
    frames = column.expand(4, 3, 64, 96).clone()
    transform = training_transform(FORMAT, Augmentation(min_area=0.5, flip=0.5))
    spans, mirrored = set(), set()
    for seed in range(20):
        torch.manual_seed(seed)
        cut = transform(frames).int()
        assert cut.shape == (4, 3, 32, 32)
        assert bool((cut == cut[:1]).all()), "frames of one clip were cut differently"
        row = cut[0, 0, 0]
        mirrored.add(bool(row[0] > row[-1]))
        spans.add(int((row[-1] - row[0]).abs()))
    assert mirrored == {True, False}
    # Between sqrt(0.5) of the largest square (64 columns) and all of it.
    assert min(spans) >= 42 and max(spans) <= 63 and len(spans) > 5


def test_decoding_size_leaves_no_crop_to_enlarge() -> None:
    assert decoding_short_side(FORMAT) == 32
    assert decoding_short_side(FORMAT, 0.5) == 46
    assert np.sqrt(0.5) * 46 >= 32


@pytest.mark.parametrize("values", [{"min_area": 0.0}, {"flip": 1.5}, {"jitter": 1.0}])
def test_augmentations_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Augmentation(**values)
