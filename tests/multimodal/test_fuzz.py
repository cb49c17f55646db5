"""The damaged files of `benchmarks.media_fuzz`: made where their structure is, and borne by the loader."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.media_fuzz import PARTS, FuzzConfig, damage, run, write_good


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return write_good(tmp_path_factory.mktemp("good"))


def test_the_structure_of_good_files_is_found(good: dict[str, bytes]) -> None:
    for suffix, data in good.items():
        parts = list(PARTS[suffix](data))
        assert len(parts) > 10 and all(0 <= p.start < p.payload <= p.end <= len(data) for p in parts), suffix
    kinds = {good["mp4"][part.start + 4 : part.start + 8] for part in PARTS["mp4"](good["mp4"])}
    assert {b"moov", b"trak", b"stts", b"mdat"} <= kinds
    assert {b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b"} <= {
        good["mkv"][p.start : p.start + 4] for p in PARTS["mkv"](good["mkv"])
    }


def test_damages_follow_from_the_seed_and_change_the_file(good: dict[str, bytes]) -> None:
    for suffix, data in good.items():
        parts = list(PARTS[suffix](data))
        damaged = [damage(data, parts, random.Random(seed)) for seed in range(40)]
        assert damaged == [damage(data, parts, random.Random(seed)) for seed in range(40)]
        assert sum(found != data for found in damaged) > 30 and len(set(damaged)) > 30


def test_no_damaged_file_is_lost_and_none_is_too_much(tmp_path: Path) -> None:
    assert run(FuzzConfig(files=27, seed=3, workers=1), tmp_path) == 0


@pytest.mark.slow
def test_many_damaged_files_are_borne(tmp_path: Path) -> None:
    assert run(FuzzConfig(files=2000, seed=1), tmp_path) == 0
