"""The digits example trains, reports, saves, and refuses to overwrite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from examples.train_digits import DigitsConfig, accuracy, main, read_digits, shift_randomly
from perceiver_core import PerceiverIO


def test_a_short_run_learns_and_saves(tmp_path: Path) -> None:
    """Four epochs are far from the 97% of a whole run, and well above the 10% of chance."""
    out = tmp_path / "digits"
    main(DigitsConfig(out=out, epochs=4))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["held_out_accuracy"] > 0.3
    data = read_digits(0)
    model = PerceiverIO.from_pretrained(out)
    assert accuracy(model, data.test_images, data.test_labels) == metrics["held_out_accuracy"]
    with pytest.raises(SystemExit, match=r"digits exists: choose another --out, or replace it with --overwrite"):
        main(DigitsConfig(out=out, epochs=1))
    main(DigitsConfig(out=out, epochs=1, overwrite=True))
    assert json.loads((out / "metrics.json").read_text())["epochs"] == 1


def test_the_split_is_disjoint_and_stratified() -> None:
    data = read_digits(3)
    assert len(data.train_labels) + len(data.test_labels) == 1797 and len(data.test_labels) == 360
    assert data.test_labels.bincount().min() >= 34
    train = {tuple(image.flatten().tolist()) for image in data.train_images}
    assert not any(tuple(image.flatten().tolist()) in train for image in data.test_images)


def test_shifts_move_images_by_at_most_a_pixel() -> None:
    torch.manual_seed(0)
    images = torch.full((500, 1, 8, 8), -1.0)
    images[:, 0, 4, 4] = 1.0
    places = {tuple(place.tolist()) for place in (shift_randomly(images)[:, 0] == 1).nonzero()[:, 1:]}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}


@pytest.mark.slow
def test_a_whole_run_reaches_97_percent(tmp_path: Path) -> None:
    main(DigitsConfig(out=tmp_path / "digits"))
    assert json.loads((tmp_path / "digits" / "metrics.json").read_text())["held_out_accuracy"] >= 0.97
