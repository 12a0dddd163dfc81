"""Which places two scans are compared at, and what is said of an answer there."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization import control_points, correspondence
from APELocalizerLib.core.localization.control_points import ControlPoints, body_lattice, find_control_points, thinned
from APELocalizerLib.core.localization.correspondence import Correspondence, check_pair, correspond
from made_up.grids import grid_to_ras
from made_up.maps import map_of

SHIFT = np.array([10.0, -20.0, 30.0])


def a_map(shift=(0.0, 0.0, 0.0), body=None, name="first"):
    """160 x 160 x 200 mm in cells of 8 mm around `shift`; coordinates are positions in the patient."""
    grid = grid_to_ras((20, 20, 25), (8.0, 8.0, 8.0), center=np.array(shift))
    return map_of((20, 20, 25), grid, lambda positions: positions - np.array(shift), body, scan_name=name)


@pytest.fixture(scope="module")
def pair():
    return a_map(), a_map(SHIFT, name="second")


def test_the_lattice_is_upright_even_and_centered():
    """5.12 liters in 200 places: one in 29.47 mm."""
    places, step_mm = body_lattice(a_map(SHIFT), 200)
    assert step_mm == pytest.approx((160 * 160 * 200 / 200) ** (1 / 3))
    assert len(places) == 5 * 5 * 6
    for axis, count in enumerate((5, 5, 6)):
        along = np.unique(places[:, axis].round(6))
        np.testing.assert_allclose(along, SHIFT[axis] + step_mm * (np.arange(count) - (count - 1) / 2), atol=1e-5)


def test_places_are_not_closer_than_15_mm_and_lie_in_the_body():
    half = a_map(body=lambda positions: positions[:, 0] > 4)
    places, step_mm = body_lattice(half, 10**6)
    assert step_mm == 15.0 and half.is_body(places).all() and places[:, 0].min() > -8
    assert len(body_lattice(a_map(), 10**6)[0]) == 10 * 10 * 13
    fewer, wider = body_lattice(half, 200)
    assert wider == pytest.approx((half.body.sum() * 512 / 200) ** (1 / 3)), "of the body's volume"


def test_thinning_keeps_few_places_spread_evenly():
    places = np.argwhere(np.ones((10, 10, 13), bool)) * 15.0
    for most in (20, 220, 800):
        rows = thinned(places, 15.0, most)
        assert most / 3 < len(rows) <= most and list(rows) == sorted(set(rows))
        kept = places[rows]
        apart = np.linalg.norm(kept[:, None] - kept, axis=2) + 1e9 * np.eye(len(kept))
        assert apart.min() >= 15.0
        octants = {tuple(corner) for corner in kept > places.mean(axis=0)}
        assert len(octants) == 8, "nowhere is left out"
    np.testing.assert_array_equal(thinned(places, 15.0, 1300), np.arange(1300))
    assert len(thinned(places, 15.0, 1299)) <= 1299


def test_of_every_cube_the_most_central_place_is_kept():
    """Two places in a cube around 0, two in one around 100 mm."""
    places = np.array([[9.0, 0, 0], [1.0, 0, 0], [96.0, 0, 0], [99.0, 0, 0]])
    np.testing.assert_array_equal(thinned(places, 30.0, 2), [1, 3])


def test_places_of_both_scans_are_found_on_the_other(pair):
    found = find_control_points(*pair)
    assert 150 < len(found) <= 440
    np.testing.assert_allclose(found.second - found.first, np.tile(SHIFT, (len(found), 1)), atol=0.05)
    assert np.isnan(found.spread_mm).all(), "no image was compared"


def test_the_first_scans_places_come_first_and_none_more_than_asked_for(pair):
    """The second scan is 6 mm shorter at one end of each axis, so that its lattice lies 3 mm beside the first's."""
    first, second = pair
    second = replace(second, field_of_view=Box((-70, -100, -70), (84, 54, 124)))
    found = find_control_points(first, second, most=30)
    of_first, of_second = (set(map(tuple, body_lattice(one_map, 1500)[0].round(6))) for one_map in (first, second))
    count = sum(tuple(place) in of_first for place in found.first.round(6))
    assert 10 < count <= 30 and 10 < len(found) - count <= 30
    assert all(tuple(place) in of_first for place in found.first[:count].round(6))
    assert all(tuple(place) in of_second for place in found.second[count:].round(6))


def test_only_places_8_mm_within_both_scans_count(pair):
    """The second scan ends 30 mm below the first one's upper end, and goes as far beyond its lower one."""
    first, second = pair
    cut = replace(second, field_of_view=Box((-70, -100, -70), (90, 60, 100)))
    found = find_control_points(first, cut)
    for places, view in ((found.first, first.field_of_view), (found.second, cut.field_of_view)):
        assert view.contains(places, margin=-8.0).all()
    assert found.second[:, 2].max() > 100 - 8 - 16 and found.first[:, 0].min() < -80 + 8 + 16


def test_places_whose_coordinates_the_other_scan_lacks_do_not_count(pair):
    """A hole of 50 mm in the second body: in its middle nothing is met to within 12 mm."""
    first, second = pair
    hollow = replace(second, body=second.body.copy())
    hollow.body[6:14, 6:14, 8:17] = False
    found = find_control_points(first, hollow)
    assert len(found) > 50
    nearest = hollow.nearest(first.embedding_at(found.first))
    assert nearest.distances.max() <= 12.0
    places = body_lattice(first, 1500)[0]
    missing = hollow.nearest(first.embedding_at(places)).distances
    assert missing.max() > 20, "some are"


def test_the_image_moves_each_place_on_the_other_scan(pair, monkeypatch):
    """`refine` gets the scan that a place is sought on, and the support that it is from; 0 mm apart means unknown."""
    asked = {}

    def refine(scans, scan, supports, query, support, clicks, start, cancelled=None, progress=None):
        asked.update(scan=scan, support=support, clicks=clicks, start=start)
        return start + (1.0, 2.0, 3.0), np.where(np.arange(len(start)) % 2, 4.0, 0.0)

    monkeypatch.setattr(control_points, "refine", refine)
    found = find_control_points(*pair, most=30)
    count = int((asked["support"] == 0).sum())
    np.testing.assert_array_equal(asked["support"], [0] * count + [1] * (len(found) - count))
    np.testing.assert_array_equal(asked["scan"], 1 - asked["support"])
    np.testing.assert_allclose(found.first[:count], asked["clicks"][:count])
    np.testing.assert_allclose(found.second[:count], asked["start"][:count] + (1, 2, 3))
    np.testing.assert_allclose(found.second[count:], asked["clicks"][count:])
    np.testing.assert_allclose(found.first[count:], asked["start"][count:] + (1, 2, 3))
    np.testing.assert_array_equal(np.isnan(found.spread_mm), np.arange(len(found)) % 2 == 0)


# What is said of an answer


def carried(pair, doubt=(8.0, 3.0), shift=SHIFT):
    """A correspondence whose field shifts everything, with the same doubt everywhere."""
    field = SimpleNamespace(
        forward=lambda points: points + shift, backward=lambda points: points - shift,
        doubt_at=lambda first, second: np.tile(doubt, (len(first), 1)),
    )  # fmt: skip
    return Correspondence(*pair, None, field)


def test_the_expected_error_grows_with_deviation_misfit_and_other_coordinates(pair):
    """As fitted: log(1 + error) is -0.68 + 0.65 log(1 + 8) + 0.8 log(1 + 3) + 0.25 log(1 + 10 mm apart)."""
    points = np.array([[0.0, 0, 0], [20, 20, 20]])
    for apart in (0.0, 10.0):
        moved = carried(pair, shift=SHIFT + (0, 0, apart))
        wanted = np.exp(-0.68 + 0.65 * np.log(9) + 0.8 * np.log(4) + 0.25 * np.log(1 + apart)) - 1
        for answers in (moved.to_second(points), moved.to_first(points + SHIFT)):
            np.testing.assert_allclose(answers.expected_error_mm, wanted, rtol=1e-3)
            np.testing.assert_allclose(answers.radius_90_mm, 2.6 * wanted, rtol=1e-3)
    np.testing.assert_allclose(carried(pair).to_second(points).positions_ras, points + SHIFT)
    np.testing.assert_allclose(carried(pair).to_first(points).positions_ras, points - SHIFT)


@pytest.mark.parametrize(("deviation", "known"), [(0.94 * 25, True), (0.96 * 25, False)])
def test_a_place_without_control_points_around_is_not_in_view(pair, deviation, known):
    answers = carried(pair, (deviation, 0.0)).to_second(np.zeros((1, 3)))
    assert bool(answers.in_view[0]) is known and np.isfinite(answers.radius_90_mm[0]) == known


def test_a_place_must_lie_in_both_fields_of_view(pair):
    """79 mm to the right on the first scan is 89 on the second, whose end is at 90; 81 and 91 are beyond both."""
    answers = carried(pair).to_second(np.array([[79.0, 0, 0], [81, 0, 0]]))
    np.testing.assert_array_equal(answers.in_view, [True, False])
    farther = carried(pair, shift=SHIFT + (5, 0, 0)).to_second(np.array([[79.0, 0, 0], [70, 0, 0]]))
    np.testing.assert_array_equal(farther.in_view, [False, True])


@pytest.mark.parametrize(
    ("count", "agreeing", "related"),
    [(11, 11, False), (12, 12, True), (13, 11, False), (40, 12, True), (60, 17, False), (60, 18, True)],
)
def test_twelve_control_points_and_three_in_ten_must_agree(pair, monkeypatch, count, agreeing, related):
    weights = np.where(np.arange(count) < agreeing, 0.5, 0.49)
    points = ControlPoints(np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count))
    monkeypatch.setattr(correspondence, "find_control_points", lambda *_, **__: points)
    monkeypatch.setattr(correspondence, "fit_field", lambda *_: SimpleNamespace(weights=weights))
    if related:
        assert correspond(*pair).control_points is points
    else:
        with pytest.raises(CorrespondenceError, match="do not seem to show a common part"):
            correspond(*pair)


def test_scans_without_a_fingerprint_are_told_apart_by_themselves(pair):
    first, second = (replace(one_map, scan_fingerprint="") for one_map in pair)
    check_pair(first, second)
    with pytest.raises(CorrespondenceError, match="given twice"):
        check_pair(first, first)
    check_pair(first, pair[1])
