"""Labelled media files on disk: one folder per class, or the lists of Kinetics, UCF101 and HMDB51.

Layouts under a data folder, tried in this order for a split ("train" or "val"):

1. `train.csv`, `val.csv`: Kinetics lists with the columns label, youtube_id, time_start, time_end. The file of a row
   is any media file under the folder named `<youtube_id>_<start:06>_<end:06>.*` or `<youtube_id>.*` (already cut to
   the segment, as Kinetics' down-loaders store it). Rows without a file are listed as missing: parts of Kinetics
   vanish over time.
2. `trainlist01.txt`, `testlist01.txt` (UCF101) or `<class>_test_split1.txt` (HMDB51), beside the class folders or in
   the folder that they are published in. Of several splits the first that is there is taken.
3. `train/<class>/**`, `val/<class>/**`.
4. `<class>/**`: a tenth of each class is held out as "val", whole source videos at a time (`multimodal.clips.groups`).

Files lie in their class folder at any depth. Symbolic links are followed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multimodal.clips.clip import ClipFormat, check_long_enough
from multimodal.clips.groups import group_of, held_out_groups
from multimodal.clips.lists import SPLIT_NAMES, Listed, media_below, read_list
from multimodal.clips.media import MEDIA_SUFFIXES, MediaInfo, UnreadableMedia
from multimodal.clips.probing import probe_files
from multimodal.common.errors import DataError
from multimodal.common.records import Problem

Split = Literal["train", "val"]
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


def tell_nobody(text: str) -> None:
    """Says nothing of how far the work is."""


def find_files(
    root: str | Path,
    split: Split,
    classes: tuple[str, ...] | None = None,
    tell: Callable[[str], None] = tell_nobody,
) -> LabelledFiles:
    """The labelled files of a split.

    Args:
        root: the data folder.
        split: "train" or "val".
        classes: the class list of an earlier run, which the data must have too.
        tell: takes a line now and then: how many files were found so far.

    Raises:
        DataError: missing or empty folder, files outside class folders, unknown CSV columns, or other classes than
            `classes`.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; give a folder with one subfolder per class, or train.csv")
    folders = [root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()]
    listed = read_list(root, split, tell)
    if listed is not None:
        found = _from_list(listed, classes, root)
    elif folders:
        found = _from_folders(folders[0], classes, tell)
    elif read_list(root, "train" if split == "val" else "val", tell) is not None:
        raise DataError(f"data folder {root} has no list for split {split!r}, but one for the other; add it beside it")
    elif any((root / name).is_dir() for names in SPLIT_NAMES.values() for name in names):
        raise DataError(f"data folder {root} has no split {split!r}; add {root / split}/<class>/ with media files")
    else:
        found = _held_out(_from_folders(root, classes, tell), root, split)
    return found


def _from_list(listed: Listed, classes: tuple[str, ...] | None, root: Path) -> LabelledFiles:
    names = _agreed_classes(listed.classes, classes, root)
    number_of = {name: label for label, name in enumerate(names)}
    files = tuple(LabelledFile(path=str(path), label=number_of[name]) for path, name in listed.clips)
    return LabelledFiles(classes=names, files=files, missing=listed.missing)


def _from_folders(folder: Path, classes: tuple[str, ...] | None, tell: Callable[[str], None]) -> LabelledFiles:
    class_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    loose = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in MEDIA_SUFFIXES)
    if loose:
        raise DataError(
            f"{len(loose)} media files lie in {folder} outside any class folder (first: {loose[0].name}); "
            f"move each into {folder}/<class>/"
        )
    if not class_folders:
        raise DataError(f"data folder {folder} is empty; expected one subfolder per class with media files in it")
    found: dict[str, list[Path]] = {}
    for path in class_folders:
        found[path.name] = sorted(media_below(path))
        count = sum(map(len, found.values()))
        tell(f"{count} media files found in {len(found)} of {len(class_folders)} class folders of {folder}")
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
    groups = [group_of(file.path, root) for file in found.files]
    chosen = held_out_groups([file.label for file in found.files], groups)
    if not chosen:
        raise DataError(
            f"{root}: no clips can be held out, since each of its {len(found.classes)} classes has a single file or "
            f"clips of a single source video; add clips, or give held-out ones in {root}/val/<class>/ with the others "
            f"in {root}/train/<class>/"
        )
    kept = (file for file, group in zip(found.files, groups, strict=True) if (group in chosen) == (split == "val"))
    return LabelledFiles(classes=found.classes, files=tuple(kept))


def check_files(
    found: LabelledFiles,
    clip_format: ClipFormat,
    where: str | Path,
    tell: Callable[[str], None] = tell_nobody,
) -> list[Problem]:
    """Open some files, spread over the split, before a run starts.

    Args:
        found: the files of a split.
        clip_format: what clips are wanted of them.
        where: the data folder, for messages.
        tell: takes a line after each file: how many were tried, how many cannot be used, and why the last one cannot.

    Returns:
        Those among them that cannot be used.

    Raises:
        DataError: none of them can be used.
    """
    stride = max(1, len(found.files) // TRIED_FILES)
    tried = found.files[::stride][:TRIED_FILES]
    problems = []
    for number, info in enumerate(probe_files(file.path for file in tried), start=1):
        try:
            if isinstance(info, MediaInfo):
                check_long_enough(info, clip_format)
            else:
                problems.append(info)
        except UnreadableMedia as error:
            problems.append(Problem(path=error.path, reason=error.reason))
        why = f"; {Path(problems[-1].path).name}: {problems[-1].reason}" if problems else ""
        tell(f"tried {number} of {len(tried)} files of {where}, {len(problems)} cannot be used{why}")
    if len(problems) == len(tried):
        raise DataError(
            f"none of {len(tried)} files tried in {where} can be used; the first: {problems[0].path}: "
            f"{problems[0].reason}. "
            f"Give media files of at least {clip_format.duration / 2:g} s, or a model with shorter clips"
        )
    return problems
