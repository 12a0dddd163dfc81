"""Organs in label maps: centers, extreme points, boxes and what the field of view cuts, counted by hand."""

import numpy as np
import pytest

from APELocalizerLib.core.annotations.organ_marks import marks_of_box, marks_of_mask, side_centers
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.evaluation.protocol import Protocol

GRID = np.diag([2.0, 3.0, 4.0, 1.0])
VIEW = Box((-1.0, -1.5, -2.0), (39.0, 58.5, 78.0))
"""Outer border of 20 voxels per axis on GRID."""


@pytest.fixture
def mask():
    """An L of voxels: five along i at j = 5, and three along j at i = 4, all at k = 7."""
    found = np.zeros((20, 20, 20), bool)
    found[4:9, 5, 7] = True
    found[4, 5:8, 7] = True
    return found


def test_center_of_mass_nearest_voxel_and_center_of_the_box(mask):
    mass = marks_of_mask(mask, GRID, VIEW, Protocol()).center
    i, j = (4 + 5 + 6 + 7 + 8 + 4 + 4) / 7, (5 * 5 + 6 + 7) / 7
    assert mass == pytest.approx((2 * i, 3 * j, 28.0))
    inside = marks_of_mask(mask, GRID, VIEW, Protocol(center="inside")).center
    assert inside == pytest.approx((2 * 5, 3 * 5, 28))
    assert marks_of_mask(mask, GRID, VIEW, Protocol(center="box")).center == pytest.approx((12, 18, 28))


def test_extreme_points_are_middles_of_extreme_slices(mask):
    middle = marks_of_mask(mask, GRID, VIEW, Protocol()).edges
    assert middle[0] == pytest.approx((8, 18, 28)), "of the three voxels at i = 4 the second"
    assert middle[1] == pytest.approx((16, 15, 28))
    assert middle[3] == pytest.approx((8, 21, 28))
    central = marks_of_mask(mask, GRID, VIEW, Protocol(edge_voxel="center")).edges
    assert central[2] == pytest.approx((12, 15, 28)), "of i = 4…8 at j = 5 the middle one"


def test_box_ends_at_voxel_centers_or_at_their_edges(mask):
    assert marks_of_mask(mask, GRID, VIEW, Protocol()).box == Box((8, 15, 28), (16, 21, 28))
    assert marks_of_mask(mask, GRID, VIEW, Protocol(box_ends="edges")).box == Box((7, 13.5, 26), (17, 22.5, 30))


def test_islands_count_or_not(mask):
    mask[15, 15, 15] = True
    assert marks_of_mask(mask, GRID, VIEW, Protocol()).box.maximum == (30, 45, 60)
    assert marks_of_mask(mask, GRID, VIEW, Protocol(components="largest")).box.maximum == (16, 21, 28)


@pytest.mark.parametrize(("last", "cut"), [(17, False), (18, False), (19, True)])
def test_an_organ_in_the_last_slice_is_cut(mask, last, cut):
    mask[6, 5, 7 : last + 1] = True
    assert bool(marks_of_mask(mask, GRID, VIEW, Protocol()).cut) is cut


def test_a_box_is_cut_where_the_table_says_so_and_at_the_border():
    inner = Box((5, 6, 10), (30, 50, 70))
    assert marks_of_box(inner, (), 2.0, VIEW, np.array([2, 3, 4])).cut == ()
    assert marks_of_box(inner, ("smax",), 2.0, VIEW, np.array([2, 3, 4])).cut == ("smax",)
    outer = Box((5, 6, 3), (37, 50, 70))
    assert marks_of_box(outer, (), 2.0, VIEW, np.array([2, 3, 4])).cut == ("rmax", "smin")


def test_face_centers_in_the_order_of_extreme_points():
    faces = side_centers(Box((0, 10, 20), (2, 14, 26)))
    assert faces.tolist() == [[0, 12, 23], [2, 12, 23], [1, 10, 23], [1, 14, 23], [1, 12, 20], [1, 12, 26]]


def test_an_empty_label_has_no_marks():
    assert marks_of_mask(np.zeros((5, 5, 5), bool), GRID, VIEW, Protocol()) is None
