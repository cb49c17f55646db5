"""Lists of labelled clips as data sets publish them: Kinetics' CSV, UCF101's and HMDB51's official splits."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from multimodal.clips.media import MEDIA_SUFFIXES
from multimodal.common.errors import DataError
from multimodal.common.records import Problem

# Kinetics' validation list has several names.
SPLIT_NAMES: dict[str, tuple[str, ...]] = {"train": ("train",), "val": ("val", "validate", "validation", "test")}
# Folders that the official lists are unpacked into.
LIST_FOLDERS = ("", "ucfTrainTestlist", "testTrainMulti_7030_splits", "splits")


@dataclass(frozen=True)
class Listed:
    """The clips of a list.

    Attributes:
        clips: path and class name of each file that is there.
        classes: names of all classes of the list, those without a file too.
        missing: listed files that are not there.
    """

    clips: list[tuple[Path, str]]
    classes: tuple[str, ...]
    missing: tuple[Problem, ...]


def media_below(folder: Path) -> Iterator[Path]:
    """Media files in a folder at any depth, in order of their names; symbolic links are followed, circles are not."""
    walked: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in walked:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix.lower() in MEDIA_SUFFIXES and not name.startswith("."):
                yield path


def read_list(root: Path, split: str, tell: Callable[[str], None]) -> Listed | None:
    """What the published list of a split names; None where the folder has no list.

    Raises:
        DataError: a list that is damaged, or none of whose files is there.
    """
    for name in SPLIT_NAMES[split]:
        if (root / f"{name}.csv").is_file():
            return _kinetics(root, root / f"{name}.csv", tell)
    for folder in (root / name for name in LIST_FOLDERS):
        if not folder.is_dir():
            continue
        pattern = "trainlist[0-9]*.txt" if split == "train" else "testlist[0-9]*.txt"
        listing = min(folder.glob(pattern), default=None)
        if listing is not None:
            return _ucf101(root, listing, tell)
        numbers = {found[1] for path in folder.glob("*_test_split*.txt") if (found := _HMDB.fullmatch(path.name))}
        if numbers:
            return _hmdb51(root, folder, min(numbers), split, tell)
    return None


def _kinetics(root: Path, listing: Path, tell: Callable[[str], None]) -> Listed:
    columns = ("label", "youtube_id", "time_start", "time_end")
    # Spreadsheets put a byte order mark before the first column's name.
    with listing.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise DataError(
                f"{listing} lacks the columns {', '.join(absent)}; Kinetics lists begin with the line "
                f"{','.join(columns)}"
            )
        rows = list(reader)
    wanted: list[tuple[tuple[str, ...], str]] = []
    for number, row in enumerate(rows, start=2):
        try:
            segment = f"{row['youtube_id']}_{round(float(row['time_start'])):06d}_{round(float(row['time_end'])):06d}"
        except (TypeError, ValueError) as error:
            raise DataError(f"{listing} line {number}: time_start and time_end must be seconds, got {row}") from error
        if not row["label"]:
            raise DataError(f"{listing} line {number}: the label is empty; every row of a training list needs one")
        wanted.append(((segment, row["youtube_id"]), row["label"]))
    return _found(root, listing, wanted, tell)


def _ucf101(root: Path, listing: Path, tell: Callable[[str], None]) -> Listed:
    """Lines `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`; test lists leave the number out."""
    wanted: list[tuple[tuple[str, ...], str]] = []
    for number, line in enumerate(listing.read_text(encoding="utf-8-sig").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        name, slash, file = words[0].partition("/")
        if not slash or len(words) > 2:
            raise DataError(f"{listing} line {number}: expected class/file.avi and perhaps a number; got {line!r}")
        wanted.append(((Path(file).stem,), name))
    return _found(root, listing, wanted, tell)


_HMDB = re.compile(r".+_test_split(\d+)\.txt")


def _hmdb51(root: Path, folder: Path, number: str, split: str, tell: Callable[[str], None]) -> Listed:
    """One file a class, `brush_hair_test_split1.txt`, with lines `name.avi 1`: 1 trains, 2 tests, 0 does neither."""
    wanted: list[tuple[tuple[str, ...], str]] = []
    mark = "1" if split == "train" else "2"
    for listing in sorted(folder.glob(f"*_test_split{number}.txt")):
        name = listing.name.removesuffix(f"_test_split{number}.txt")
        for line_number, line in enumerate(listing.read_text(encoding="utf-8-sig").splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise DataError(f"{listing} line {line_number}: expected a file and 0, 1 or 2; got {line!r}")
            if words[1] == mark:
                wanted.append(((Path(words[0]).stem,), name))
    names = [path.name.removesuffix(f"_test_split{number}.txt") for path in folder.glob(f"*_test_split{number}.txt")]
    return _found(root, folder / f"*_test_split{number}.txt", wanted, tell, names)


def _found(
    root: Path,
    listing: Path,
    wanted: list[tuple[tuple[str, ...], str]],
    tell: Callable[[str], None],
    classes: Iterable[str] = (),
) -> Listed:
    """Looks up each clip by the first of its names that a file below the root has, whatever its suffix.

    `classes` are there beside those of the clips.
    """
    by_stem: dict[str, Path] = {}
    for path in media_below(root):
        by_stem[path.stem] = path
        tell(f"{len(by_stem)} media files found in {root}, {len(wanted)} clips listed in {listing.name}")
    clips: list[tuple[Path, str]] = []
    missing: list[Problem] = []
    for stems, label in wanted:
        there = [by_stem[stem] for stem in stems if stem in by_stem]
        if not there:
            missing.append(Problem(path=str(root / stems[0]), reason=f"listed in {listing.name}, not found"))
        else:
            clips.append((there[0], label))
    if not clips:
        raise DataError(
            f"{listing} lists {len(wanted)} clips and none is under {root}; expected files such as "
            f"{root / wanted[0][0][0]}.mp4"
            if wanted
            else f"{listing} lists no clips"
        )
    # Classes come from all lines, so that files which are missing today do not renumber the labels.
    return Listed(clips, tuple({label for _, label in wanted} | set(classes)), tuple(missing))
