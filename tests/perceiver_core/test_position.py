"""Position encodings against their definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceiver_core.position import FourierPosition, PositionEncoding, TrainablePosition, axis_positions


def test_fourier_features_by_definition() -> None:
    """Coordinates first, then sines, then cosines, axis by axis, bands from 1 to half the resolution."""
    encoding = FourierPosition.Config(shape=(3, 4), num_bands=5, resolution=(6, 20)).build()
    table = encoding().view(3, 4, -1)
    assert encoding.channels == table.shape[-1] == 2 + 2 * 2 * 5
    for i, j in [(0, 0), (1, 3), (2, 2)]:
        x, y = -1 + 2 * i / 2, -1 + 2 * j / 3
        fx, fy = ([1 + k * (res / 2 - 1) / 4 for k in range(5)] for res in (6, 20))
        expected = [x, y]
        for wave in (math.sin, math.cos):
            expected += [wave(math.pi * f * x) for f in fx] + [wave(math.pi * f * y) for f in fy]
        torch.testing.assert_close(table[i, j], torch.tensor(expected), atol=1e-5, rtol=0)


def test_half_open_spacing_excludes_the_end() -> None:
    torch.testing.assert_close(axis_positions(4, "closed"), torch.tensor([-1, -1 / 3, 1 / 3, 1]))
    torch.testing.assert_close(axis_positions(4, "half_open"), torch.tensor([-1.0, -0.5, 0.0, 0.5]))


ENCODINGS = [
    FourierPosition.Config(shape=(3, 4, 2), num_bands=3),
    FourierPosition.Config(shape=(3, 4, 2), num_bands=3, spacing="half_open", projected_channels=7),
    TrainablePosition.Config(shape=(3, 4, 2), channels=6),
    TrainablePosition.Config(shape=(3, 4, 2), channels=6, projected_channels=7),
]


@pytest.mark.parametrize("config", ENCODINGS, ids=str)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(index=st.lists(st.integers(0, 23), min_size=1, max_size=9))
def test_subsets_are_rows_of_the_whole(
    config: FourierPosition.Config | TrainablePosition.Config, index: list[int]
) -> None:
    encoding: PositionEncoding = config.build()
    whole = encoding()
    assert whole.shape == (24, encoding.channels) and encoding.count == 24
    rows = torch.tensor(index)
    torch.testing.assert_close(encoding(rows), whole[rows])
    torch.testing.assert_close(encoding(rows.expand(2, 3, -1)), whole[rows].expand(2, 3, -1, -1))


def test_fourier_features_of_another_grid() -> None:
    """Another image size keeps the range [-1, 1] and the frequencies."""
    small = FourierPosition.Config(shape=(3, 4), num_bands=3, resolution=(8, 8)).build()
    large = FourierPosition.Config(shape=(5, 6), num_bands=3, resolution=(8, 8)).build()
    torch.testing.assert_close(small(shape=(5, 6)), large())
    with pytest.raises(ValueError, match=r"grid \(3, 4\) only"):
        TrainablePosition.Config(shape=(3, 4), channels=3).build()(shape=(5, 6))


def test_tables_are_not_saved() -> None:
    """They follow from the configuration."""
    assert not FourierPosition.Config(shape=(3, 4), num_bands=3).build().state_dict()
