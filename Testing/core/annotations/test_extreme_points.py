"""The six extreme points of an organ in a label map, and whether the field of view cuts it."""

import itertools

import numpy as np
import pytest

from APELocalizerLib.core.annotations.extreme_points import extreme_points_of_mask, is_cut
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.core.library.entries import EDGES
from made_up.grids import rotation
from made_up.organs import asymmetric_mask, brute_force_extreme_points, label_grid


@pytest.mark.parametrize("seed", range(4))
def test_extreme_points_are_the_middle_voxels_of_the_extreme_slices(seed):
    mask, affine = asymmetric_mask(seed=seed), label_grid()
    np.testing.assert_allclose(extreme_points_of_mask(mask, affine), brute_force_extreme_points(mask, affine))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_extreme_points_do_not_depend_on_how_the_voxels_are_stored(order, flips):
    """The extremes stay where they are in the patient, whatever the grid's axis order and directions."""
    mask, affine = asymmetric_mask(), label_grid()
    expected = extreme_points_of_mask(mask, affine)
    stored = mask.transpose(order)
    stored_affine = affine[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, axis)
            turn = np.eye(4)
            turn[axis, axis], turn[axis, 3] = -1, stored.shape[axis] - 1
            stored_affine = stored_affine @ turn
    extreme_points = extreme_points_of_mask(stored, stored_affine)
    for n, name in enumerate(EDGES):
        axis = n // 2
        assert extreme_points[n, axis] == pytest.approx(expected[n, axis]), name
        index = np.round(np.linalg.inv(stored_affine) @ [*extreme_points[n], 1]).astype(int)[:3]
        assert stored[tuple(index)], f"{name} lies in the organ"


def test_extreme_points_on_an_oblique_grid_lie_in_the_organ_and_near_its_extremes():
    mask, affine = asymmetric_mask(), rotation(2, 20) @ label_grid()
    extreme_points = extreme_points_of_mask(mask, affine)
    voxels = apply_affine(affine, np.argwhere(mask))
    true = Box.around(voxels)
    for n in range(6):
        assert np.linalg.norm(voxels - extreme_points[n], axis=1).min() < 1e-6
        side = (true.maximum if n % 2 else true.minimum)[n // 2]
        assert abs(extreme_points[n, n // 2] - side) < 16
    assert np.all(extreme_points[[1, 3, 5], [0, 1, 2]] > extreme_points[[0, 2, 4], [0, 1, 2]])


def test_extreme_points_of_one_voxel_and_of_none():
    mask = np.zeros((5, 5, 5), bool)
    with pytest.raises(LearningError, match="empty"):
        extreme_points_of_mask(mask, np.eye(4))
    mask[1, 2, 3] = True
    np.testing.assert_array_equal(extreme_points_of_mask(mask, np.eye(4)), np.tile([1.0, 2.0, 3.0], (6, 1)))


def test_thick_slices_do_not_widen_the_margin_within_a_slice():
    """10 mm slices: an organ 6 mm inside the left border is whole, one 6 mm below the top is cut."""
    view = Box((-100, -100, -100), (100, 100, 100))
    affine = np.diag([1.0, 1.0, 10.0, 1.0])
    beside = np.array([[94.0, 0, 0], [0, 0, 0], [0, 5, 0], [0, -5, 0], [0, 0, 20], [0, 0, -20]])
    on_top = np.array([[9.0, 0, 0], [0, 0, 0], [0, 5, 0], [0, -5, 0], [0, 0, 94.0], [0, 0, -20]])
    assert not is_cut(view, beside, affine)
    assert is_cut(view, on_top, affine)
