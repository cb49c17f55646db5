"""Labelled media files on disk: one folder per class, or the CSV lists of Kinetics.

Layouts under a data folder, tried in this order for a split ("train" or "val"):

1. `train.csv`, `val.csv`: Kinetics lists with the columns label, youtube_id, time_start, time_end. The file of a row
   is any media file under the folder named `<youtube_id>_<start:06>_<end:06>.*` or `<youtube_id>.*` (already cut to
   the segment, as Kinetics' down-loaders store it). Rows without a file are listed as missing: parts of Kinetics
   vanish over time.
2. `train/<class>/*`, `val/<class>/*`.
3. `<class>/*`: a tenth of each class, chosen by a hash of the file names, is held out as "val".
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multimodal.clips.clip import ClipFormat, check_long_enough
from multimodal.clips.media import MEDIA_SUFFIXES, MediaInfo, UnreadableMedia
from multimodal.clips.probing import probe_files
from multimodal.common.errors import DataError
from multimodal.common.records import Problem

Split = Literal["train", "val"]
SPLIT_NAMES: dict[str, tuple[str, ...]] = {"train": ("train",), "val": ("val", "validate", "validation", "test")}
HELD_OUT = 0.1
# Files tried before a run starts; the others are met, and listed if damaged, on the way.
TRIED_FILES = 32


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """A media file and its class, an index into the list of classes."""

    path: str
    label: int


@dataclass(frozen=True, kw_only=True)
class LabelledFiles:
    """The files of one split.

    Attributes:
        classes: class names, sorted; a label is an index into it.
        files: in a fixed order, which sample orders refer to.
        missing: listed files that are not there.
    """

    classes: tuple[str, ...]
    files: tuple[LabelledFile, ...]
    missing: tuple[Problem, ...] = ()


def find_files(root: str | Path, split: Split, classes: tuple[str, ...] | None = None) -> LabelledFiles:
    """The labelled files of a split.

    Args:
        root: the data folder.
        split: "train" or "val".
        classes: the class list of an earlier run, which the data must have too.

    Raises:
        DataError: missing or empty folder, files outside class folders, unknown CSV columns, or other classes than
            `classes`.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; give a folder with one subfolder per class, or train.csv")
    lists = [root / f"{name}.csv" for name in SPLIT_NAMES[split] if (root / f"{name}.csv").is_file()]
    folders = [root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()]
    if lists:
        found = _from_csv(root, lists[0], classes)
    elif folders:
        found = _from_folders(folders[0], classes)
    elif any((root / name).is_dir() for names in SPLIT_NAMES.values() for name in names):
        raise DataError(f"data folder {root} has no split {split!r}; add {root / split}/<class>/ with media files")
    else:
        found = _held_out(_from_folders(root, classes), root, split)
    if not found.files:
        raise DataError(f"{root}: split {split!r} has no media files ({', '.join(sorted(MEDIA_SUFFIXES))})")
    return found


def _media_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in MEDIA_SUFFIXES)


def _from_folders(folder: Path, classes: tuple[str, ...] | None) -> LabelledFiles:
    class_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    loose = _media_files(folder)
    if loose:
        raise DataError(
            f"{len(loose)} media files lie in {folder} outside any class folder (first: {loose[0].name}); "
            f"move each into {folder}/<class>/"
        )
    if not class_folders:
        raise DataError(f"data folder {folder} is empty; expected one subfolder per class with media files in it")
    found = {path.name: _media_files(path) for path in class_folders}
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(
            f"class folders without media files in {folder}: {', '.join(empty[:10])}; "
            f"fill them ({', '.join(sorted(MEDIA_SUFFIXES))}) or remove them"
        )
    names = _agreed_classes(tuple(found), classes, folder)
    files = [
        LabelledFile(path=str(path), label=label) for label, name in enumerate(names) for path in found.get(name, [])
    ]
    return LabelledFiles(classes=names, files=tuple(files))


def _agreed_classes(found: tuple[str, ...], classes: tuple[str, ...] | None, where: Path) -> tuple[str, ...]:
    if classes is None:
        return tuple(sorted(found))
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise DataError(
            f"{where} has classes that the run was not trained on: {', '.join(unknown[:10])}; the run knows "
            f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}. Rename or remove those folders or rows, "
            "or train a new run on this data"
        )
    return classes


def _held_out(found: LabelledFiles, root: Path, split: Split) -> LabelledFiles:
    """Split each class by the order of a hash of the file's path below the root: stable under moving the data
    folder.
    """
    kept: list[LabelledFile] = []
    for label in range(len(found.classes)):
        files = [file for file in found.files if file.label == label]
        order = sorted(files, key=lambda file: hashlib.sha256(str(Path(file.path).relative_to(root)).encode()).digest())
        count = max(1, round(HELD_OUT * len(order))) if len(order) > 1 else 0
        held_out = {file.path for file in order[:count]}
        kept += [file for file in files if (file.path in held_out) == (split == "val")]
    return LabelledFiles(classes=found.classes, files=tuple(kept))


def _from_csv(root: Path, list_path: Path, classes: tuple[str, ...] | None) -> LabelledFiles:
    columns = ("label", "youtube_id", "time_start", "time_end")
    with list_path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise DataError(
                f"{list_path} lacks the columns {', '.join(absent)}; Kinetics lists begin with the line "
                f"{','.join(columns)}"
            )
        rows = list(reader)
    by_stem = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in MEDIA_SUFFIXES}
    labelled: list[tuple[Path, str]] = []
    missing: list[Problem] = []
    for number, row in enumerate(rows, start=2):
        try:
            segment = f"{row['youtube_id']}_{round(float(row['time_start'])):06d}_{round(float(row['time_end'])):06d}"
        except (TypeError, ValueError) as error:
            raise DataError(f"{list_path} line {number}: time_start and time_end must be seconds, got {row}") from error
        if not row["label"]:
            raise DataError(f"{list_path} line {number}: the label is empty; every row of a training list needs one")
        path = by_stem.get(segment) or by_stem.get(row["youtube_id"])
        if path is None:
            missing.append(Problem(path=str(root / segment), reason=f"listed in {list_path.name}, not found"))
        else:
            labelled.append((path, row["label"]))
    if not labelled:
        raise DataError(
            f"{list_path} lists {len(rows)} clips and none is under {root}; expected files such as {root}/{segment}.mp4"
            if rows
            else f"{list_path} lists no clips"
        )
    # Classes come from all rows, so that files which are missing today do not renumber the labels.
    names = _agreed_classes(tuple({row["label"] for row in rows}), classes, list_path)
    number_of = {name: label for label, name in enumerate(names)}
    files = tuple(LabelledFile(path=str(path), label=number_of[name]) for path, name in labelled)
    return LabelledFiles(classes=names, files=files, missing=tuple(missing))


def check_files(found: LabelledFiles, clip_format: ClipFormat, where: str | Path) -> list[Problem]:
    """Open some files, spread over the split, before a run starts.

    Returns:
        Those among them that cannot be used.

    Raises:
        DataError: none of them can be used.
    """
    stride = max(1, len(found.files) // TRIED_FILES)
    tried = found.files[::stride][:TRIED_FILES]
    problems = []
    for info in probe_files(file.path for file in tried):
        try:
            if isinstance(info, MediaInfo):
                check_long_enough(info, clip_format)
            else:
                problems.append(info)
        except UnreadableMedia as error:
            problems.append(Problem(path=error.path, reason=error.reason))
    if len(problems) == len(tried):
        raise DataError(
            f"none of {len(tried)} files tried in {where} can be used; the first: {problems[0].path}: "
            f"{problems[0].reason}. "
            f"Give media files of at least {clip_format.duration / 2:g} s, or a model with shorter clips"
        )
    return problems
