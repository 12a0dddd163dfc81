"""Sides, boxes and their fit to positions inside, against values worked out by hand."""

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.boxes import (
    INNER_POINTS,
    alpha_for_recall,
    box_between,
    box_recall,
    fitted_sides,
    inner_points,
    mean_bounding_sides,
    sides_of,
    with_sides,
)
from made_up.maps import smooth_map

SIX = np.array([[-41, 2, 5], [38, -4, 9], [6, -29, 3], [3, 31, -7], [-8, 5, -63], [2, 1, 58]], float)
"""rmin, rmax, amin, amax, smin, smax of an organ."""


def test_every_side_comes_from_its_own_extreme_point():
    np.testing.assert_array_equal(sides_of(SIX), [[-41, -29, -63], [38, 31, 58]])
    np.testing.assert_array_equal(sides_of([list(point) for point in SIX]), sides_of(SIX))


def test_moving_the_sides_moves_each_extreme_point_along_its_axis_only():
    before = SIX.copy()
    moved = with_sides(SIX, np.array([[-1.0, -2.0, -3.0], [4.0, 5.0, 6.0]]))
    wanted = [[-1, 2, 5], [4, -4, 9], [6, -2, 3], [3, 5, -7], [-8, 5, -3], [2, 1, 6]]
    np.testing.assert_array_equal(moved, wanted)
    np.testing.assert_array_equal(SIX, before)


@pytest.mark.parametrize("axis", range(3))
def test_sides_in_the_wrong_order_or_at_one_position_leave_no_box(axis):
    assert box_between(sides_of(SIX)) == Box((-41, -29, -63), (38, 31, 58))
    for off in (0.0, -1.0):
        sides = sides_of(SIX)
        sides[1, axis] = sides[0, axis] + off
        assert box_between(sides) is None


def test_the_papers_box_is_the_mean_of_boxes_around_all_six_points():
    other = SIX + [10, 0, -4]
    other[2] = (70, -29, 3)  # the posterior point lies farthest to the right
    np.testing.assert_allclose(mean_bounding_sides(np.stack([SIX, other])), [[-36, -29, -65], [54, 31, 56]])


# The positions inside


def test_a_box_is_looked_up_at_its_center_and_sixty_percent_toward_its_corners():
    np.testing.assert_array_equal(INNER_POINTS[0], 0)
    corners = {tuple(point) for point in INNER_POINTS[1:]}
    assert corners == {(x, y, z) for x in (-0.6, 0.6) for y in (-0.6, 0.6) for z in (-0.6, 0.6)}


def test_the_center_is_looked_up_even_where_it_lies_in_the_air():
    """A hollow organ or a gap between two slices must not cost the box."""
    hollow = smooth_map(body=lambda positions: np.linalg.norm(positions, axis=1) > 25)
    points, positions = inner_points([hollow], np.array([[[-60, -50, -90], [60, 50, 90]]], float))
    assert len(points) == 9
    np.testing.assert_allclose(positions[0], points * [60, 50, 90])


def test_the_fitted_size_is_drawn_to_the_supports_by_a_tenth():
    """A cube that is 20 % larger: of its nine points the center fits, and all corners miss by the same.

    Without weights the least squares are (8 * 0.36 * 1.2 + 0.9) / (8 * 0.36 + 0.9) = 1.152. Corners miss by 2 mm, and
    so count 0.69: (8 * 0.36 * 0.69 * 1.2 + 0.1 * (1 + 8 * 0.69)) / (8 * 0.36 * 0.69 + 0.1 * (1 + 8 * 0.69)) = 1.151.
    """
    half, center = np.array([40.0, 40.0, 40.0]), np.array([10.0, -20.0, 30.0])
    low, high = fitted_sides(INNER_POINTS, center + 1.2 * half * INNER_POINTS, half)
    np.testing.assert_allclose((low + high) / 2, center)
    np.testing.assert_allclose((high - low) / 2 / half, 1.151, atol=0.002)


def test_two_points_are_enough_and_agree_on_center_and_size():
    points = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]])
    positions = np.array([[0.0, 10.0, -30.0], [40.0, 30.0, 10.0]])
    low, high = fitted_sides(points, positions, np.array([40.0, 20.0, 40.0]))
    np.testing.assert_allclose([low, high], [[-20, 0, -50], [60, 40, 30]])


def test_positions_off_the_others_count_less_with_every_round():
    """Half of the points toward one side are 100 mm off: after four rounds they hardly count."""
    half = np.array([40.0, 30.0, 50.0])
    positions = half * INNER_POINTS
    positions[[1, 2]] += (100.0, 0.0, 0.0)
    sides = fitted_sides(INNER_POINTS, positions, half)
    assert np.abs(sides - [-half, half]).max() < 1.0, "by a plain mean 22 mm"


# Recall


def test_recall_is_the_part_of_the_true_box_that_is_inside():
    truth = Box((0, 0, 0), (10, 10, 10))
    assert box_recall(Box((0, 0, 0), (5, 10, 10)), truth) == pytest.approx(0.5)
    assert box_recall(Box((-50, -50, -50), (50, 50, 50)), truth) == 1.0
    assert box_recall(Box((20, 20, 20), (30, 30, 30)), truth) == 0.0


def test_the_smallest_enlargement_that_reaches_the_recall_is_found_in_steps_of_a_hundredth():
    truth = Box((-10, -10, -10), (10, 10, 10))
    half = Box((-5, -10, -10), (5, 10, 10))
    assert alpha_for_recall([(truth, truth)]) == 1.0
    assert alpha_for_recall([(half, truth)], recall=1.0) == pytest.approx(2.0, abs=0.011)
    assert alpha_for_recall([(half, truth), (truth, truth)], recall=0.75) == 1.0, "of the mean"
    far = Box((100, 0, 0), (101, 1, 1))
    assert alpha_for_recall([(far, truth)]) == 5.0
    assert alpha_for_recall([(half, truth)], recall=1.0, largest=1.5) == 1.5
