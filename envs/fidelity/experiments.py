"""Calibration's experiments as recorded on a real game, beside the same experiments on this simulator."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from envs.fidelity.verdicts import Figure, Row
from envs.pysc2.calibration import Recording, compare, record_all

SHARE, LOOPS = 0.02, 1.0  # a value agrees within two per cent, or within a loop or a point


def read_recordings(path: Path) -> list[Recording]:
    """The recordings of a file of `envs.pysc2.calibration`.

    Raises:
        ValueError: the file is none.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return [Recording(**entry) for entry in saved["recordings"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file that envs.pysc2.calibration wrote: {error!r}") from None


def experiment_rows(path: Path | None) -> Iterator[Row]:
    """A row a measure of every recorded experiment; measures that one side lacks are left out."""
    assert path is not None
    recordings = read_recordings(path)
    ours = {entry.experiment: entry.measures for entry in record_all("memory")}
    for entry in compare({recording.experiment: recording.measures for recording in recordings}, ours):
        real, mine = entry["recorded"], entry["simulator"]
        if math.isnan(real) or math.isnan(mine):
            continue
        speed = entry["measure"] in ("top speed", "health a loop", "energy a point, net")
        half = SHARE * abs(real) if speed else max(SHARE * abs(real), LOOPS)
        rule = f"within {SHARE:.0%}" + ("" if speed else " or 1")
        name = f"{entry['experiment']}: {entry['measure']}"
        yield Row("calibration", name, "", Figure(real), Figure(mine), (real - half, real + half), rule)
