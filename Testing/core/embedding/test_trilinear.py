"""Trilinear reading, and the continuation of a map beyond its body."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from APELocalizerLib.core.embedding import trilinear
from APELocalizerLib.core.embedding.trilinear import (
    PAD,
    corner_offsets,
    extend_from_mask,
    sample_trilinear,
    touches,
    value_and_gradient,
)
from made_up.maps import smooth_map
from made_up.plain_search import plain_extension

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_readings_are_those_of_scipy_also_outside(shape, channels, monkeypatch):
    monkeypatch.setattr(trilinear, "PLACES_PER_BLOCK", 64)
    values = RNG.normal(0, 100, (*shape, channels)).astype(np.float32)
    indices = np.concatenate([RNG.uniform(-2, np.array(shape) + 1, (200, 3)), np.argwhere(np.ones(shape))[:20]])
    layers = np.moveaxis(values.astype(float), 3, 0)
    expected = np.transpose([map_coordinates(layer, indices.T, order=1, mode="nearest") for layer in layers])
    np.testing.assert_allclose(sample_trilinear(values, indices), expected, atol=1e-9)
    np.testing.assert_allclose(sample_trilinear(np.asfortranarray(values), indices), expected, atol=1e-9)


def test_the_gradient_is_that_of_small_differences():
    values = RNG.normal(0, 10, (3, 4, 5, 3))
    base, fraction = np.array([[0, 1], [2, 1], [1, 3]]), RNG.uniform(0.1, 0.9, (3, 2))
    strides = np.array([60, 15, 3])
    corners = values.reshape(-1).take(strides @ base + corner_offsets(strides, 3))
    value, slope = value_and_gradient(corners, fraction)
    at = (base + fraction).T
    np.testing.assert_allclose(value.T, sample_trilinear(values, at), atol=1e-12)
    for axis in range(3):
        step = 1e-6 * np.eye(3)[axis]
        difference = (sample_trilinear(values, at + step) - sample_trilinear(values, at - step)) / 2e-6
        np.testing.assert_allclose(slope[axis].T, difference, atol=1e-5)


def test_a_place_touches_a_cell_that_is_less_than_one_cell_away():
    mask = RNG.random((6, 7, 5)) < 0.1
    indices = np.concatenate([RNG.uniform(-1, [7, 8, 6], (300, 3)), np.argwhere(np.ones(mask.shape))])
    on_grid = np.clip(indices, 0, np.array(mask.shape) - 1)
    gaps = np.abs(on_grid[:, None] - np.argwhere(mask)).max(axis=2).min(axis=1)
    np.testing.assert_array_equal(touches(mask, indices), gaps < 1)


def test_rounding_does_not_decide_whether_a_place_one_cell_away_touches():
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    near = np.array([[2, 2, 1 + 1e-9], [2, 2, 1 - 1e-9], [2, 2, 1], [2, 3 - 1e-9, 2], [2, 3 + 1e-9, 2]])
    assert not touches(mask, near).any()
    assert touches(mask, [[2, 2, 1.001], [2, 2.999, 2], [2, 2, 2]]).all()


@pytest.mark.parametrize(
    "mask",
    [
        smooth_map(shape=(9, 10, 6)).body,
        RNG.random((6, 5, 7)) < 0.15,
        np.ones((1, 4, 2), bool),
        np.ones((1, 1, 1), bool),
    ],
    ids=["torso", "scattered", "thin", "one cell"],
)
def test_the_extension_is_that_of_the_plain_way(mask):
    values = RNG.normal(0, 100, (*mask.shape, 3)).astype(np.float32)
    extended = extend_from_mask(values, mask)
    assert extended.dtype == np.float32 and extended.flags.c_contiguous
    np.testing.assert_allclose(extended, plain_extension(values, mask), atol=1e-3)


def test_trilinear_reading_on_a_flat_grid_and_outside():
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    np.testing.assert_allclose(sample_trilinear(values, [[0, 0.5, 1.5]]), [[3.0]])
    np.testing.assert_allclose(sample_trilinear(values, [[-5, 7, 9], [0, -1, -1]]), [[5.0], [0.0]])


def test_extension_reaches_two_cells_and_no_farther():
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 4] = True
    values = np.where(mask[..., None], 7.0, -900.0)
    extended = extend_from_mask(values, mask)[..., 0]
    assert extended.shape == (9 + 2 * PAD,) * 3
    assert np.all(extended[3:8, 3:8, 3:8] == 7.0)
    assert np.all(extended[[0, 1, 2, 8, 9, 10]] == 0.0)


def test_a_slope_goes_on_beyond_the_edge_and_the_skin():
    """The outer half of the last cells is scan too: its places differ from those in the middle of the cells."""
    cells = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij"), axis=-1)
    mask = np.ones((6, 6, 6), bool)
    mask[:, :2] = False
    extended = extend_from_mask(np.where(mask[..., None], 10 * cells, -900.0), mask)
    np.testing.assert_allclose(extended[0, 4, 4], [-10, 30, 30])
    np.testing.assert_allclose(extended[4, 4, 7], [30, 30, 60])
    np.testing.assert_allclose(extended[4, 2, 4], [30, 10, 30])
