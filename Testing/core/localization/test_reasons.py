"""Why something was not found: in words that fit where the best guess lies."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.localization.reasons import IN_LEGS, IN_NECK, why_not_found
from made_up.maps import smooth_map

BELOW, ABOVE = "probably below the field of view", "probably above the field of view"


@pytest.fixture(scope="module")
def trunk():
    """Cells of 8 x 8 x 12 mm; the field of view reaches 80 mm to the sides and 144 mm up and down."""
    scan = smooth_map(shape=(20, 20, 24))
    view = scan.field_of_view
    np.testing.assert_allclose([view.minimum, view.maximum], [(-80, -80, -144), (80, 80, 144)])
    return scan


def reason(scan, position, round_trip_mm=40.0):
    return why_not_found(scan, np.array(position, float), round_trip_mm, 25.0)


@pytest.mark.parametrize(("s", "sentence"), [(-126.0, BELOW), (-150.0, BELOW), (126.0, ABOVE), (150.0, ABOVE)])
def test_in_the_last_cell_and_a_half_the_place_probably_lies_beyond_the_scan(trunk, s, sentence):
    """A cell is 12 mm high: what is looked for piles up within 18 mm of the end."""
    assert reason(trunk, (0, 0, s)) == sentence
    assert reason(trunk, (0, 0, s), round_trip_mm=1.0) == sentence


@pytest.mark.parametrize("s", [-125.9, 125.9])
def test_farther_inside_it_is_the_match_that_fails(trunk, s):
    assert reason(trunk, (0, 0, s)) == "no consistent match (round trip 40 mm)"


@pytest.mark.parametrize(("left_out_mm", "below", "above"), [
    ((0.0, 300.0), IN_LEGS, ABOVE), ((200.0, 0.0), BELOW, IN_NECK), ((200.0, 300.0), IN_LEGS, IN_NECK),
])  # fmt: skip
def test_where_the_scan_goes_on_the_place_is_in_the_part_that_was_left_out(trunk, left_out_mm, below, above):
    """`left_out_mm`: above the trunk, below it."""
    longer = dataclasses.replace(trunk, left_out_mm=left_out_mm)
    assert (reason(longer, (0, 0, -140)), reason(longer, (0, 0, 140))) == (below, above)
    assert "left out" in IN_LEGS and "legs" in IN_LEGS and "neck" in IN_NECK


def test_beside_the_scan_it_is_outside_but_for_a_millimeter_of_rounding(trunk):
    for axis in (0, 1):
        for side in (-1, 1):
            position = np.zeros(3)
            position[axis] = side * 81.1
            assert reason(trunk, position) == "outside the field of view"
            position[axis] = side * 80.9
            assert reason(trunk, position) == "no consistent match (round trip 40 mm)"


@pytest.mark.parametrize("round_trip_mm", [25.0, 3.0])
def test_a_consistent_match_inside_means_that_its_coordinates_lie_elsewhere(trunk, round_trip_mm):
    """Only what lies beyond the border is refused in spite of a round trip within the threshold."""
    assert reason(trunk, (0, 0, 0), round_trip_mm) == "probably outside the field of view"
    assert reason(trunk, (0, 0, 0), 25.1) == "no consistent match (round trip 25 mm)"
