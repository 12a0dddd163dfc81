"""Organ boxes are also fitted to places inside them."""

import numpy as np
import pytest

from APELocalizerLib.core.localization.boxes import INNER_POINTS, fitted_sides, inner_points
from made_up.maps import smooth_map

HALF = np.array([40.0, 30.0, 50.0])
CENTER = np.array([10.0, -20.0, 35.0])


def places(center=CENTER, half=HALF) -> np.ndarray:
    return center + INNER_POINTS * half


def test_a_box_of_the_supports_size_is_found_where_its_places_are():
    np.testing.assert_allclose(fitted_sides(INNER_POINTS, places(), HALF), [CENTER - HALF, CENTER + HALF])


def test_a_larger_organ_gives_a_larger_box_drawn_a_little_to_the_supports_size():
    low, high = fitted_sides(INNER_POINTS, places(half=1.2 * HALF), HALF)
    np.testing.assert_allclose((low + high) / 2, CENTER)
    growth = (high - low) / 2 / HALF
    assert np.all(growth > 1.1) and np.all(growth < 1.2)


@pytest.mark.parametrize("stray", range(9))
def test_one_stray_place_moves_the_box_little(stray):
    moved = places()
    moved[stray] += (0.0, 0.0, 80.0)
    sides = fitted_sides(INNER_POINTS, moved, HALF)
    assert np.abs(sides - [CENTER - HALF, CENTER + HALF]).max() < 2.0, "a plain mean would move it by 9 mm"


def test_the_center_alone_gives_the_supports_size():
    sides = fitted_sides(INNER_POINTS[:1], places()[:1], HALF)
    np.testing.assert_allclose(sides, [CENTER - HALF, CENTER + HALF])


def test_places_in_the_air_of_any_support_are_left_out():
    whole, slim = smooth_map(), smooth_map(body=lambda p: p[:, 1] < 20)
    sides = np.array([[[-60, -60, -60], [60, 60, 60]]] * 2, dtype=float)
    points, positions = inner_points([whole, slim], sides)
    assert len(inner_points([whole], sides[:1])[0]) == 9
    np.testing.assert_array_equal(points[0], 0.0)
    assert len(points) == 5 and np.all(points[1:, 1] == -0.6)
    np.testing.assert_allclose(positions[1], 60 * points)
