from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.clips.clip import ClipFormat
from multimodal.clips.datasets import check_files, find_files
from multimodal.clips.groups import held_out_groups
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


@pytest.mark.parametrize("link", [False, True])
def test_kinetics_files_behind_links_and_a_byte_order_mark(tmp_path: Path, clip: Path, link: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    place(clip, elsewhere / "deep/aaaaaaaaaaa_000005_000015.mp4")
    root = tmp_path / "kinetics"
    root.mkdir()
    (root / "train.csv").write_bytes(b"\xef\xbb\xbflabel,youtube_id,time_start,time_end\njuggling,aaaaaaaaaaa,5,15\n")
    if link:
        (root / "train").symlink_to(elsewhere, target_is_directory=True)
        (elsewhere / "deep/circle").symlink_to(elsewhere, target_is_directory=True)
    else:
        (root / "aaaaaaaaaaa.mp4").symlink_to(elsewhere / "deep/aaaaaaaaaaa_000005_000015.mp4")
    found = find_files(root, "train")
    assert found.classes == ("juggling",) and len(found.files) == 1 and not found.missing
    with pytest.raises(DataError, match=r"no list for split 'val', but one for the other"):
        find_files(root, "val")


def test_files_of_a_class_lie_at_any_depth_and_in_any_container(tmp_path: Path, clip: Path) -> None:
    inside = ["1.gif", "tv/2.ts", "tv/old/3.FLV", "tv/4.wmv", "5.mpg"]
    place(clip, *(tmp_path / "train/dog" / name for name in inside), tmp_path / "train/cat/6.mp4")
    found = find_files(tmp_path, "train")
    assert found.classes == ("cat", "dog")
    assert sorted(names(tmp_path / "train/dog", found.files[1:])) == sorted(inside)


@pytest.mark.parametrize(
    "stems",
    [
        [f"v_Archery_g{g:02d}_c{c:02d}" for g in range(1, 13) for c in range(1, 4)],
        [f"{v:011d}_{s:06d}_{s + 10:06d}" for v in range(12) for s in (0, 20, 70)],
        [f"Film_{v}_golf_f_cm_np1_ba_med_{c}" for v in range(12) for c in range(3)],
        [f"video{v}/part{c}" for v in range(12) for c in range(3)],
    ],
)
def test_clips_of_one_source_are_held_out_together(tmp_path: Path, clip: Path, stems: list[str]) -> None:
    place(clip, *(tmp_path / "golf" / f"{stem}.avi" for stem in stems))
    train, held_out = (find_files(tmp_path, split) for split in ("train", "val"))  # type: ignore[arg-type]
    groups = [
        {stems.index(name.removeprefix("golf/").removesuffix(".avi")) // 3 for name in names(tmp_path, part.files)}
        for part in (train, held_out)
    ]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 12
    assert len(held_out.files) == 6  # a tenth of 36, in whole groups of three


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60))
def test_no_group_is_on_both_sides_and_every_class_can_train(clips: list[tuple[int, int]]) -> None:
    labels, groups = [label for label, _ in clips], [str(group) for _, group in clips]
    chosen = held_out_groups(labels, groups)
    assert chosen <= set(groups)
    trained = {label for label, group in zip(labels, groups, strict=True) if group not in chosen}
    assert trained == set(labels)
    of_class = [{g for one, g in zip(labels, groups, strict=True) if one == label} for label in set(labels)]
    if not chosen:  # each group is all that some class has
        assert all({group} in of_class for found in of_class for group in found)


def test_single_files_a_class_cannot_be_split_and_the_message_says_so(tmp_path: Path, clip: Path) -> None:
    place(clip, tmp_path / "a/1.mp4", tmp_path / "b/2.mp4")
    with pytest.raises(
        DataError, match=r"each of its 2 classes has a single file or .* add clips, or give held-out ones"
    ):
        find_files(tmp_path, "train")


def test_official_splits_of_ucf101(tmp_path: Path, clip: Path) -> None:
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 Archery\n")
    for number, group in (("01", "08"), ("02", "09")):
        (lists / f"trainlist{number}.txt").write_text(
            f"ApplyEyeMakeup/v_ApplyEyeMakeup_g{group}_c01.avi 1\nArchery/v_Archery_g01_c01.avi 2\n"
        )
        (lists / f"testlist{number}.txt").write_text("Archery/v_Archery_g03_c01.avi\nArchery/v_Archery_g04_c01.avi\n")
    videos = tmp_path / "UCF-101"
    place(clip, videos / "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", videos / "Archery/v_Archery_g01_c01.avi")
    place(clip, videos / "Archery/v_Archery_g03_c01.avi")
    train = find_files(tmp_path, "train")
    assert train.classes == ("ApplyEyeMakeup", "Archery") and [file.label for file in train.files] == [0, 1]
    held_out = find_files(tmp_path, "val", train.classes)
    assert names(videos, held_out.files) == ["Archery/v_Archery_g03_c01.avi"]
    assert [Path(problem.path).name for problem in held_out.missing] == ["v_Archery_g04_c01"]
    (lists / "trainlist01.txt").write_text("v_Archery_g01_c01.avi\n")
    with pytest.raises(DataError, match=r"trainlist01.txt line 1: expected class/file.avi"):
        find_files(tmp_path, "train")


def test_official_splits_of_hmdb51(tmp_path: Path, clip: Path) -> None:
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for name, marks in (("brush_hair", "1120"), ("wave", "1200")):
        clips = [f"{name}_{n}.avi" for n in range(4)]
        place(clip, *(tmp_path / name / file for file in clips))
        lines = "".join(f"{file} {mark} \n" for file, mark in zip(clips, marks, strict=True))
        (lists / f"{name}_test_split1.txt").write_text(lines)
        (lists / f"{name}_test_split2.txt").write_text("")
    train, held_out = (find_files(tmp_path, split) for split in ("train", "val"))  # type: ignore[arg-type]
    assert train.classes == held_out.classes == ("brush_hair", "wave")
    assert names(tmp_path, train.files) == [
        "brush_hair/brush_hair_0.avi",
        "brush_hair/brush_hair_1.avi",
        "wave/wave_0.avi",
    ]
    assert names(tmp_path, held_out.files) == ["brush_hair/brush_hair_2.avi", "wave/wave_1.avi"]
    (lists / "wave_test_split1.txt").write_text("wave_0.avi 3\n")
    with pytest.raises(DataError, match=r"wave_test_split1.txt line 1: expected a file and 0, 1 or 2"):
        find_files(tmp_path, "train")


def test_trying_files_is_told(tmp_path: Path, clip: Path) -> None:
    place(clip, tmp_path / "train/a/1.mp4")
    (tmp_path / "train/a/2.mp4").write_bytes(b"broken")
    lines: list[str] = []
    check_files(find_files(tmp_path, "train"), FORMAT, "here", lines.append)
    assert lines[0] == "tried 1 of 2 files of here, 0 cannot be used"
    assert lines[1].startswith("tried 2 of 2 files of here, 1 cannot be used; 2.mp4: ")
