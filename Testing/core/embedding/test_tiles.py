"""Tiles cover everything and blend into one map."""

import numpy as np
import pytest

from APELocalizerLib.core.embedding.tiles import gaussian_weights, padded_length, tile_starts


@pytest.mark.parametrize("overlap", (0.0, 0.25, 0.5, 0.75))
@pytest.mark.parametrize("length, tile", [(32, 32), (36, 32), (100, 32), (64, 64), (100, 64), (268, 64), (268, 96)])
def test_tiles_cover_the_axis_with_the_overlap_asked_for(length, tile, overlap):
    starts = tile_starts(length, tile, overlap, 4)
    assert starts[0] == 0 and starts[-1] == length - tile, "no tile leaves the volume"
    assert all(start % 4 == 0 for start in starts)
    steps = np.diff(starts)
    assert np.all(steps > 0) and np.all(steps <= max(4, tile * (1 - overlap)))


def test_an_axis_of_one_tile_has_one_tile():
    assert tile_starts(64, 64, 0.5, 4) == [0]
    assert tile_starts(68, 64, 0.5, 4) == [0, 4]


def test_weights_are_highest_in_the_middle_and_never_zero():
    weights = gaussian_weights((8, 9, 16))
    assert weights.shape == (8, 9, 16) and weights.dtype == np.float32
    assert weights.min() > 0
    assert np.unravel_index(weights.argmax(), weights.shape)[1] == 4
    np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1], rtol=1e-5)


@pytest.mark.parametrize(
    "length, smallest, expected", [(10, 32, 32), (32, 32, 32), (33, 32, 36), (61, 32, 64), (64, 8, 64)]
)
def test_padded_length(length, smallest, expected):
    assert padded_length(length, smallest, 4) == expected
