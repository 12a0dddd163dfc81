"""The body mask and its box, against a flood fill and block minima."""

import itertools

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.preparation.body import body_box, body_center, body_mask
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from made_up.grids import bounding_box
from made_up.scans import body_phantom

STANDARD = (2.0, 2.0, 3.0)


def test_the_body_mask_holds_the_lungs_but_not_the_air_around():
    prepared = prepare(body_phantom(), PreparationConfig.plain(), STANDARD)
    inverse = np.linalg.inv(prepared.grid_to_ras)
    inside = np.round(apply_affine(inverse, [[75, 5, 55], [-75, 5, 50], [-50, 45, -60], [70, 10, -45]])).astype(int)
    assert prepared.body_mask[tuple(inside.T)].all()
    assert not prepared.body_mask[0, 0].any() and not prepared.body_mask[0, -1].any()
    assert prepared.image[tuple(inside[0])] < 0.25 < prepared.image[tuple(inside[3])]


@pytest.mark.parametrize("seed", range(6))
def test_the_body_mask_equals_a_flood_fill(seed):
    segmentation = pytest.importorskip("skimage.segmentation")
    rng = np.random.default_rng(seed)
    air = rng.random((21, 13, 17)) < (0.12, 0.2, 0.3, 0.5, 0.9, 0.0)[seed]
    around = np.pad(air, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    expected = ~segmentation.flood(around, (0, 0, 0))[:, 1:-1, 1:-1]
    assert np.array_equal(body_mask(air), expected)


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), (3.0, 2.2, 1.7), (1.0, 0.9, 8.0)])
def test_the_body_box_equals_a_block_minimum(spacing):
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(3)
    stack = np.full((37, 41, 45), -1000, np.int16)
    stack[5:36, 9:33, 2:44] = rng.integers(-400, 100, (31, 24, 42))
    block = tuple(np.ceil(5 / np.array(spacing)).astype(int))
    expected = bounding_box(measure.block_reduce(stack >= -500, block, np.min))
    expected = tuple(slice(s.start * b, s.stop * b) for s, b in zip(expected, block, strict=True))
    for flip in itertools.product((1, -1), repeat=3):
        steps = tuple(slice(None, None, step) for step in flip)
        view = np.ascontiguousarray(stack[steps])[steps]
        assert body_box(view, np.array(spacing), -500) == expected


def test_the_body_center_is_the_center_of_mass():
    stack = np.full((30, 40, 50), -1000, np.int16)
    stack[4:9, 10:21, 30:47] = 40
    assert np.allclose(body_center(stack), (6, 15, 38))
    assert np.allclose(body_center(np.full((9, 9, 9), -1000.0, np.float32)), (4, 4, 4)), "air alone: its middle"


def test_the_body_center_of_a_large_stack_is_about_its_center_of_mass():
    """So many voxels that only some are looked at."""
    stack = np.full((150, 160, 170), -1000, np.int16)
    stack[40:91, 10:61, 100:151] = 40
    assert np.allclose(body_center(stack), (65, 35, 125), atol=0.6)
