from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multimodal.autoencoder.metrics import AUDIO_PEAK, VIDEO_PEAK, psnr
from multimodal.autoencoder.model import PRESETS
from multimodal.clips import make_clips
from multimodal.clips.clip import read_clip
from multimodal.clips.datasets import find_files
from multimodal.clips.digits import DigitsConfig, speech_program, write_digits
from multimodal.clips.media import probe
from multimodal.clips.synthetic import (
    CLASSES,
    CORRELATION_CLASSES,
    PICTURE_CLASSES,
    SOUND_CLASSES,
    Scene,
    SyntheticConfig,
    draw_scene,
    generate,
    render,
    render_frames,
    render_sound,
    scene_of,
)
from multimodal.common.errors import DataError

SEED = 7


def rising(frames: np.ndarray) -> bool:
    """Whether the brightest place moves up."""
    light = frames.astype(float).max(axis=3)
    light = light - np.median(light, axis=(1, 2), keepdims=True)
    rows = (light.clip(min=60) - 60).sum(axis=2)
    centres = (rows * np.arange(rows.shape[1])).sum(axis=1) / rows.sum(axis=1)
    return bool(centres[-1] < centres[0])


def crossings(sound: np.ndarray) -> int:
    return int(np.sum(np.diff(np.signbit(sound))))


def test_generated_files_show_their_scene(tmp_path: Path) -> None:
    config = SyntheticConfig(clips_per_class=3, held_out=0.3, seed=SEED)
    generate(tmp_path / "set", config)
    train, held_out = find_files(tmp_path / "set", "train"), find_files(tmp_path / "set", "val")
    assert train.classes == held_out.classes == CLASSES
    assert (len(train.files), len(held_out.files)) == (16, 8)
    for file in (train.files[0], train.files[7], held_out.files[4]):
        number, split = int(Path(file.path).stem), Path(file.path).parts[-3]
        frames, sound = render(scene_of(config, split, CLASSES[file.label], number), config)
        info = probe(file.path)
        assert (info.width, info.height, info.sample_rate) == (64, 64, 8_000)
        clip = read_clip(file.path, PRESETS["tiny"].clip)
        small = frames.reshape(8, 32, 2, 32, 2, 3).mean(axis=(2, 4)) / 255
        video = clip.video.permute(0, 2, 3, 1).double().numpy() / 255
        assert 10 * np.log10(VIDEO_PEAK**2 / np.mean((video - small) ** 2)) > 30
        assert float(psnr(clip.audio[None], clip.audio.new_tensor(sound)[None], AUDIO_PEAK)) > 35
    with pytest.raises(DataError, match="not an empty folder"):
        generate(tmp_path / "set", config)


def test_a_clip_does_not_depend_on_the_size_of_the_set() -> None:
    few, many = SyntheticConfig(clips_per_class=2, seed=SEED), SyntheticConfig(clips_per_class=500, seed=SEED)
    assert scene_of(few, "train", "ring", 1) == scene_of(many, "train", "ring", 1)
    assert scene_of(few, "train", "ring", 1) != scene_of(many, "val", "ring", 1)
    other = SyntheticConfig(clips_per_class=2, seed=SEED + 1)
    assert scene_of(few, "train", "ring", 1) != scene_of(other, "train", "ring", 1)


def scenes(name: str, count: int = 40) -> list[Scene]:
    return [draw_scene(name, np.random.default_rng([SEED, number])) for number in range(count)]


def test_correlation_classes_differ_in_nothing_but_the_correlation() -> None:
    for pair in ("glide", "flash"):
        together, apart = scenes(f"{pair}-together"), scenes(f"{pair}-apart")
        times = np.arange(8) / 12.5
        for a, b in zip(together, apart, strict=True):
            # From the same draws, the two classes have the same picture and only the sound is turned around.
            np.testing.assert_array_equal(render_frames(a, times, 32), render_frames(b, times, 32))
            assert (a.glide, a.sounding) != (b.glide, b.sounding)
        for field in ("climb", "glide", "lit", "sounding"):
            values = {getattr(scene, field) for scene in together}
            assert values == {getattr(scene, field) for scene in apart}, "one modality tells the class"


def test_what_defines_a_class_is_in_pixels_and_samples() -> None:
    times = np.arange(8) / 12.5
    for scene in scenes("glide-together", 10) + scenes("glide-apart", 10):
        # Between the latest beginning and the earliest end of a tone.
        sound = render_sound(scene, 5_120, 8_000)[1_600:3_500]
        pitch_rises = crossings(sound[-800:]) > crossings(sound[:800])
        same = rising(render_frames(scene, times, 64)) == pitch_rises
        assert same == (scene.name == "glide-together")
    for scene in scenes("flash-together", 10) + scenes("flash-apart", 10):
        frames = render_frames(scene, times, 64).astype(float)
        contrast = frames.max(axis=(1, 2, 3)) - np.median(frames, axis=(1, 2, 3))
        loud = np.abs(render_sound(scene, 5_120, 8_000)).reshape(8, 640).mean(axis=1)
        assert (np.corrcoef(contrast, loud)[0, 1] > 0.3) == (scene.name == "flash-together")
        assert abs(np.corrcoef(contrast, loud)[0, 1]) > 0.3


def test_groups_name_every_class_once() -> None:
    assert sorted((*CORRELATION_CLASSES, *PICTURE_CLASSES, *SOUND_CLASSES)) == sorted(CLASSES)
    with pytest.raises(ValueError, match="no class 'square'"):
        draw_scene("square", np.random.default_rng(0))


def test_digits_move_and_speak_where_a_voice_is_installed(tmp_path: Path) -> None:
    assert write_digits(tmp_path / "digits", DigitsConfig(max_clips=12)) == 12
    found = [*(tmp_path / "digits").rglob("*.mp4")]
    assert len(found) == 12
    assert len([path for path in found if "val" in path.parts]) == 1
    clip = read_clip(found[0], PRESETS["tiny"].clip)
    assert clip.has_video and clip.has_audio == (speech_program() is not None)
    assert float(clip.video.float().std()) > 10
    assert not bool((clip.video[0] == clip.video[-1]).all()), "the digit does not move"


def test_data_sets_are_made_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clips.main(["digits", "--out", str(tmp_path / "digits"), "--clips.max-clips", "2"])
    assert "wrote 2 clips" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"error: .* is not an empty folder"):
        make_clips.main(["synthetic", "--out", str(tmp_path / "digits"), "--clips.clips-per-class", "2"])
