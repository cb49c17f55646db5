"""Clips that were cut from one source video: they look alike, so training and validation must not share a source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

HELD_OUT = 0.1
# How data sets name a clip; the group is what comes before the number of the clip.
NAMES = (
    re.compile(r"(?P<group>v_.+_g\d+)_c\d+", re.IGNORECASE),  # UCF101: v_ApplyEyeMakeup_g08_c02
    re.compile(r"(?P<group>.+)_\d{6}_\d{6}"),  # Kinetics: -3B32lodo2M_000059_000069
    # HMDB51: April_09_brush_hair_u_nm_np1_ba_goo_0, the source and the action before visible body parts, camera motion,
    # people, viewpoint and quality.
    re.compile(r"(?P<group>.+)_[hufl]_(cm|nm)_np\d_(fr|ba|le|ri)_(goo|med|bad)_\d+"),
)


def group_of(path: str, root: Path) -> str:
    """The source video of a clip: what its name tells, or the folder between class and file, or the file itself.

    Args:
        path: `root/<class>/<file>`, or deeper.
        root: folder with the class folders.
    """
    inside = Path(path).relative_to(root)
    for pattern in NAMES:
        found = pattern.fullmatch(inside.stem)
        if found:
            return found["group"]
    return str(inside.parent) if len(inside.parts) > 2 else str(inside)


def held_out_groups(labels: Sequence[int], groups: Sequence[str]) -> set[str]:
    """The groups to hold out: a tenth of each class's clips, at least one group of a class that has two.

    They are chosen by a hash of their names, which moving the data folder does not change. A group with clips of
    several classes goes as a whole; none is taken that a class could not train without.

    Args:
        labels: class of each clip.
        groups: group of each clip.
    """
    of_class: dict[int, dict[str, int]] = {}
    for label, group in zip(labels, groups, strict=True):
        counts = of_class.setdefault(label, {})
        counts[group] = counts.get(group, 0) + 1
    chosen: set[str] = set()
    for label in sorted(of_class):
        counts = of_class[label]
        wanted = max(1, round(HELD_OUT * sum(counts.values())))
        for group in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
            if sum(counts[name] for name in counts if name in chosen) >= wanted:
                break
            needed = any(group in other and len(set(other) - chosen) == 1 for other in of_class.values())
            if group not in chosen and not needed:
                chosen.add(group)
    return chosen
