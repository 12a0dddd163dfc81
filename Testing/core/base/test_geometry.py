"""Affines and boxes."""

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box, apply_affine, grid_corners, spacing_of, subgrid_affine
from made_up.grids import pli_grid, rotation


def test_apply_affine_equals_the_matrix_product():
    affine = rotation(1, 20) @ pli_grid((5, 6, 7), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0))
    point = np.array([1.5, -2.25, 4.0])
    np.testing.assert_allclose(apply_affine(affine, point)[0], (affine @ [*point, 1.0])[:3])
    np.testing.assert_allclose(spacing_of(affine), [1.0, 2.0, 3.0])


def test_a_subgrid_lies_where_its_parent_says():
    affine = rotation(0, 11) @ pli_grid((9, 9, 9), (1.0, 2.0, 3.0))
    start, step = np.array([1.5, 0.0, 2.0]), np.array([4.0, -1.0, 0.5])
    sub = subgrid_affine(affine, start, step)
    n = np.array([[0, 0, 0], [3, 1, 2]])
    np.testing.assert_allclose(apply_affine(sub, n), apply_affine(affine, start + n * step))


def test_corners_are_half_a_voxel_outside():
    box = Box.around(grid_corners((10, 20, 30), np.diag([2.0, 1.0, 0.5, 1.0])))
    assert box.minimum == (-1.0, -0.5, -0.25)
    assert box.maximum == (19.0, 19.5, 14.75)


def test_box_enlarged_keeps_its_center_and_clipping_cuts_it():
    box = Box((0, 0, 0), (10, 20, 40)).enlarged(1.5)
    assert box == Box((-2.5, -5, -10), (12.5, 25, 50))
    assert box.clipped(Box((0, 0, 0), (100, 100, 30))) == Box((0, 0, 0), (12.5, 25, 30))
    assert box.clipped(Box((50, 0, 0), (60, 1, 1))) is None
    assert box.volume_mm3 == pytest.approx(15 * 30 * 60)


def test_iou_of_half_overlapping_boxes():
    box = Box((0, 0, 0), (2, 1, 1))
    assert box.iou(Box((1, 0, 0), (3, 1, 1))) == pytest.approx(1 / 3)
    assert box.iou(box) == 1.0
    assert box.iou(Box((5, 5, 5), (6, 6, 6))) == 0.0


def test_contains_with_a_margin():
    box = Box((0, 0, 0), (1, 1, 1))
    points = np.array([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [1.5, 0.5, 0.5]])
    assert box.contains(points).tolist() == [True, True, False]
    assert box.contains(points, margin=0.6).tolist() == [True, True, True]


@pytest.mark.parametrize("low, high", [((0, 0, 0), (1, -1, 1)), ((0, 0, np.nan), (1, 1, 1)), ((0, 0), (1, 1))])
def test_impossible_boxes_are_refused(low, high):
    with pytest.raises(ValueError, match="minimum <= maximum"):
        Box(low, high)
