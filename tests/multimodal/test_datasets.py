from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import check_files, find_files
from multimodal.common.errors import DataError
from tests.multimodal.material import write_numbered

FORMAT = ClipFormat(num_frames=8, frame_rate=25, height=32, width=32, sample_rate=8_000)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=10)


def place(clip: Path, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)


def names(root: Path, found_files) -> list[str]:
    return [str(Path(file.path).relative_to(root)) for file in found_files]


def test_folders_with_splits(tmp_path: Path, clip: Path) -> None:
    place(clip, tmp_path / "train/b/1.mp4", tmp_path / "train/a/2.MKV", tmp_path / "validate/a/3.webm")
    (tmp_path / "train/a/notes.txt").write_text("not a clip")
    train = find_files(tmp_path, "train")
    assert train.classes == ("a", "b")
    assert names(tmp_path, train.files) == ["train/a/2.MKV", "train/b/1.mp4"]
    assert [file.label for file in train.files] == [0, 1]
    held_out = find_files(tmp_path, "val", train.classes)
    assert names(tmp_path, held_out.files) == ["validate/a/3.webm"]


def test_folders_without_splits_hold_out_a_tenth_of_each_class(tmp_path: Path, clip: Path) -> None:
    place(clip, *(tmp_path / name / f"{number}.mp4" for name in "ab" for number in range(20)))
    train, held_out = find_files(tmp_path, "train"), find_files(tmp_path, "val")
    assert not set(train.files) & set(held_out.files)
    assert len(train.files) == 36 and [file.label for file in held_out.files] == [0, 0, 1, 1]
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    assert names(moved, find_files(moved, "val").files) == names(tmp_path, held_out.files)


def test_kinetics_lists(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "juggling,aaaaaaaaaaa,5,15,train,0\n"
        '"playing violin, badly",-bbbbbbbbbb,0,10,train,0\n'
        "juggling,ccccccccccc,7,17,train,0\n"
        "surfing,ddddddddddd,7,17,train,0\n"
    )
    place(clip, tmp_path / "train/aaaaaaaaaaa_000005_000015.mp4", tmp_path / "any/where/-bbbbbbbbbb.mkv")
    found = find_files(tmp_path, "train")
    # A class of which no file is left keeps its number.
    assert found.classes == ("juggling", "playing violin, badly", "surfing")
    assert names(tmp_path, found.files) == ["train/aaaaaaaaaaa_000005_000015.mp4", "any/where/-bbbbbbbbbb.mkv"]
    assert [file.label for file in found.files] == [0, 1]
    assert [Path(problem.path).name for problem in found.missing] == [
        "ccccccccccc_000007_000017",
        "ddddddddddd_000007_000017",
    ]


def test_unusable_folders_are_refused_with_path_and_remedy(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(DataError, match=r"absent does not exist; give a folder"):
        find_files(tmp_path / "absent", "train")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty is empty; expected one subfolder per class"):
        find_files(empty, "train")
    loose = tmp_path / "loose"
    place(clip, loose / "a/1.mp4", loose / "2.mp4")
    with pytest.raises(DataError, match=r"outside any class folder \(first: 2.mp4\); move each into .*<class>/"):
        find_files(loose, "train")
    hollow = tmp_path / "hollow"
    place(clip, hollow / "a/1.mp4")
    (hollow / "b").mkdir()
    with pytest.raises(DataError, match=r"class folders without media files in .*hollow: b; fill them"):
        find_files(hollow, "train")
    half = tmp_path / "half"
    place(clip, half / "train/a/1.mp4")
    with pytest.raises(DataError, match=r"no split 'val'; add .*half/val/<class>/"):
        find_files(half, "val")


def test_unusable_lists_are_refused(tmp_path: Path, clip: Path) -> None:
    listing = tmp_path / "train.csv"
    listing.write_text("name,label\nx,y\n")
    with pytest.raises(DataError, match=r"train.csv lacks the columns youtube_id, time_start, time_end"):
        find_files(tmp_path, "train")
    header = "label,youtube_id,time_start,time_end\n"
    listing.write_text(header + "a,xxxxxxxxxxx,0,10\n")
    with pytest.raises(DataError, match=r"lists 1 clips and none is under .*xxxxxxxxxxx_000000_000010.mp4"):
        find_files(tmp_path, "train")
    place(clip, tmp_path / "xxxxxxxxxxx.mp4")
    listing.write_text(header + ",xxxxxxxxxxx,0,10\n")
    with pytest.raises(DataError, match="line 2: the label is empty"):
        find_files(tmp_path, "train")
    listing.write_text(header + "a,xxxxxxxxxxx,soon,10\n")
    with pytest.raises(DataError, match="line 2: time_start and time_end must be seconds"):
        find_files(tmp_path, "train")


def test_other_classes_than_the_runs_are_refused_and_fewer_are_fine(tmp_path: Path, clip: Path) -> None:
    place(clip, tmp_path / "train/a/1.mp4", tmp_path / "val/a/1.mp4", tmp_path / "train/b/1.mp4")
    assert find_files(tmp_path, "val", ("a", "b")).classes == ("a", "b")
    with pytest.raises(DataError, match=r"classes that the run was not trained on: b; the run knows a, c"):
        find_files(tmp_path, "train", ("a", "c"))


def test_files_are_tried_before_a_run(tmp_path: Path, clip: Path) -> None:
    place(clip, tmp_path / "train/a/1.mp4")
    (tmp_path / "train/a/broken.mp4").write_bytes(b"broken")
    problems = check_files(find_files(tmp_path, "train"), FORMAT, tmp_path)
    assert [Path(problem.path).name for problem in problems] == ["broken.mp4"]
    long = ClipFormat(num_frames=50, frame_rate=25, height=32, width=32, sample_rate=8_000)
    with pytest.raises(DataError, match=r"none of 2 files .* lasts 0.400 s, too short for clips of 2.000 s"):
        check_files(find_files(tmp_path, "train"), long, tmp_path)
