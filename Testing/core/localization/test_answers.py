"""From positions, round trips and signals of queries to answers: what counts as found, and how sure it is."""

import dataclasses
import json
import math

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.answers import Answers, confidence_text
from APELocalizerLib.core.localization.confidence import TABLE, Signals, read_calibrations
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.queries import Shots, queries_of
from APELocalizerLib.core.localization.votes import Located, Votes

BOX = Box((-40, -30, -60), (50, 30, 40))
VIEW = Box((-80, -88, -144), (80, 88, 144))
MEASURED = json.loads(TABLE.read_text(encoding="utf-8"))["model_id"]
"""The model whose errors were measured."""


@pytest.fixture(scope="module")
def library(support_map):
    """One landmark in the middle, and one organ."""
    learned = learn_points(LandmarkLibrary(), support_map, {"middle": (0.0, 0.0, 0.0)})
    return learn_box(learned, support_map, "liver", BOX, alpha=1.2)


@pytest.fixture(scope="module")
def scan(support_map):
    return dataclasses.replace(support_map, field_of_view=VIEW)


def located(library, scan, inner=False, signals=None, **changes) -> tuple[list, Located]:
    """Everything found where it was clicked, but for the changes."""
    queries = queries_of(library, inner)
    shots = Shots.of(queries)
    n = len(queries)
    positions = shots.click[np.searchsorted(shots.query, np.arange(n))].astype(float)
    fields = {"positions": positions, "distances": np.zeros(n), "round_trip_mm": np.full(n, 10.0), "signals": signals}
    fields["votes"] = Votes(positions[shots.query][:, None], np.zeros((len(shots.query), 1)))
    return queries, Located(shots, **{**fields, **changes})


def middle(library, scan, position=(0.0, 0.0, 0.0), round_trip_mm=10.0, distance=0.0, signals=None):
    """The answer for the landmark."""
    queries, found = located(library, scan, signals=signals)
    positions = found.positions.copy()
    positions[0] = position
    trips, distances = found.round_trip_mm.copy(), found.distances.copy()
    trips[0], distances[0] = round_trip_mm, distance
    found = dataclasses.replace(found, positions=positions, round_trip_mm=trips, distances=distances)
    return Answers(scan, queries, found, 25.0, False).point(library.landmarks[0])


# Landmarks


@pytest.mark.parametrize(("round_trip_mm", "found"), [(25.0, True), (25.1, False)])
def test_a_landmark_is_found_up_to_the_threshold(library, scan, round_trip_mm, found):
    point = middle(library, scan, round_trip_mm=round_trip_mm)
    assert point.found is found and point.round_trip_mm == round_trip_mm
    assert (point.position_ras is None) is not found and point.candidate_ras == (0.0, 0.0, 0.0)
    assert point.reason == ("" if found else "no consistent match (round trip 25 mm)")
    assert (point.status, point.grade) == (("found", "check") if found else ("not_found", "not found"))


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("axis", range(3))
def test_a_landmark_may_be_off_the_scan_by_the_rounding_of_a_millimeter_only(library, scan, axis, side):
    edge = (VIEW.maximum if side > 0 else VIEW.minimum)[axis]
    position = np.zeros(3)
    position[axis] = edge + side * 0.9
    answer = middle(library, scan, position)
    assert answer.found and answer.position_ras[axis] == edge, "and is then taken to the border"
    position[axis] = edge + side * 1.1
    assert not middle(library, scan, position).found


@pytest.mark.parametrize(
    ("to_border", "distance", "found"), [(19.9, 5.1, False), (20.1, 5.1, True), (19.9, 4.9, True), (0.0, 5.1, False)]
)
@pytest.mark.parametrize("side", [-1, 1])
def test_near_the_border_its_coordinates_must_be_those_looked_for(library, scan, side, to_border, distance, found):
    """Else what was looked for lies beyond it."""
    position = (0.0, side * (88 - to_border), 0.0)
    answer = middle(library, scan, position, distance=distance)
    assert answer.found is found and answer.distance == distance
    if not found:
        assert answer.reason == "probably outside the field of view" and answer.candidate_ras == pytest.approx(position)


def signals_of(n: int, mm: float) -> Signals:
    return Signals(*(np.full(n, mm) for _ in range(3)))


def test_how_far_off_an_answer_may_be_is_read_from_the_table_of_the_model(library, scan):
    n = len(queries_of(library, False))
    of_model = dataclasses.replace(scan, space=CoordinateSpace(MEASURED))
    calibration = read_calibrations(MEASURED).one
    answer = middle(library, of_model, signals=signals_of(n, 5.0))
    wanted = calibration.confidence(np.log1p([5.0, 5.0, 5.0]))
    assert (answer.expected_error_mm, answer.radius_90_mm) == (wanted.expected_error_mm, wanted.radius_90_mm)
    assert answer.grade == wanted.grade and 0 < answer.expected_error_mm < answer.radius_90_mm
    for unknown in (middle(library, of_model), middle(library, scan, signals=signals_of(n, 5.0))):
        assert unknown.found and math.isnan(unknown.expected_error_mm) and math.isnan(unknown.radius_90_mm)
        assert confidence_text(unknown) == "found, round trip 10.0 mm"
    missed = middle(library, of_model, round_trip_mm=99.0, signals=signals_of(n, 5.0))
    assert math.isnan(missed.expected_error_mm) and missed.grade == "not found"


def test_an_answer_from_several_shots_is_graded_as_such(library, scan, support_map):
    twin = dataclasses.replace(support_map, scan_fingerprint="twin")
    both = learn_points(library, twin, {"middle": (0.0, 0.0, 0.0)})
    of_model = dataclasses.replace(scan, space=CoordinateSpace(MEASURED))
    answer = middle(both, of_model, signals=signals_of(7, 5.0))
    wanted = read_calibrations(MEASURED).several.confidence(np.log1p([5.0, 5.0, 5.0]))
    assert answer.expected_error_mm == wanted.expected_error_mm


def test_the_text_says_only_what_is_known(library, scan):
    answer = middle(library, scan)
    assert confidence_text(dataclasses.replace(answer, round_trip_mm=math.nan)) == "found"
    known = dataclasses.replace(answer, round_trip_mm=math.nan, expected_error_mm=6.0, radius_90_mm=14.0, grade="sure")
    assert confidence_text(known) == "sure: expected error 6 mm (90 % within 14 mm)"
    assert confidence_text(dataclasses.replace(answer, found=False, reason="")) == "not found"
    assert confidence_text(dataclasses.replace(answer, found=False, reason="cut")) == "not found: cut"


# Organs


def liver(library, scan, inner=False, boxes_of_shots=False, **changes):
    """The answer for the organ."""
    queries, found = located(library, scan, inner, **changes)
    return Answers(scan, queries, found, 25.0, boxes_of_shots).organ(library.organs[0])


def test_an_organ_is_as_consistent_as_the_middle_of_its_extreme_points(library, scan):
    round_trip_mm = np.array([0.0, 1, 2, 3, 6, 90, 95])  # of the landmark, then of the six
    distances = np.array([50.0, 1, 2, 3, 4, 5, 90])
    organ = liver(library, scan, round_trip_mm=round_trip_mm, distances=distances)
    assert (organ.round_trip_mm, organ.distance) == (4.5, 3.5)
    assert organ.found and organ.reason == "" and organ.grade == ""
    assert organ.center_ras == pytest.approx((5, 0, -10))
    np.testing.assert_allclose([organ.raw_box.minimum, organ.raw_box.maximum], [BOX.minimum, BOX.maximum])
    np.testing.assert_allclose(organ.box.size, 1.2 * np.array(BOX.size))
    assert organ.volume_ratio == pytest.approx(160 * 176 * 288 / (90 * 60 * 100 * 1.2**3))


def test_an_organ_whose_points_do_not_lead_back_says_how_far_off_they_are(library, scan):
    organ = liver(library, scan, round_trip_mm=np.array([0.0, 25, 25, 26, 30, 40, 50]))
    assert not organ.found and organ.box is None and organ.center_ras is None and organ.grade == "not found"
    assert organ.reason == "no consistent match (round trip 28 mm)" and math.isnan(organ.volume_ratio)
    assert organ.raw_box == BOX, "where it was sought, found or not"
    assert len(organ.extreme_points_ras) == 6 and organ.extreme_points_ras[1] == pytest.approx((50, 0, -10))


@pytest.mark.parametrize(
    ("s", "reason"), [(60, "no consistent match (round trip 40 mm)"), (-135, "probably below the field of view")]
)
def test_an_organ_that_was_not_found_lies_where_the_middle_of_its_points_does(library, scan, s, reason):
    positions = located(library, scan)[1].positions + (0, 0, s + 10)
    assert liver(library, scan, positions=positions, round_trip_mm=np.full(7, 40.0)).reason == reason


def test_points_that_do_not_lead_back_are_said_before_that_they_form_no_box(library, scan):
    """Left and right changed places, and nothing agrees: the match is what failed."""
    positions = located(library, scan)[1].positions[[0, 2, 1, 3, 4, 5, 6]]
    organ = liver(library, scan, positions=positions, round_trip_mm=np.full(7, 40.0))
    assert organ.raw_box is None and organ.reason == "no consistent match (round trip 40 mm)"
    assert "do not form a box" in liver(library, scan, positions=positions).reason


def test_positions_inside_and_extreme_points_locate_a_box_half_and_half(library, scan):
    """The extreme points say that the box is where it was; the positions inside say that it is 20 mm to the right."""
    queries, found = located(library, scan, inner=True)
    inner = np.array([query.kind == "inner point" for query in queries])
    positions = found.positions + np.where(inner[:, None], (20.0, 0.0, 0.0), 0.0)
    organ = liver(library, scan, inner=True, positions=positions)
    np.testing.assert_allclose([organ.raw_box.minimum, organ.raw_box.maximum], [(-30, -30, -60), (60, 30, 40)])
    np.testing.assert_allclose(organ.extreme_points_ras[0], (-30, 0, -10))
    np.testing.assert_allclose(organ.extreme_points_ras[2], (5, -30, -10), err_msg="moved along its axis only")


def test_the_supports_sizes_are_averaged_and_pull_at_the_fitted_box(library, scan, support_map):
    """Learned once as 90 mm wide and once as 130: all positions inside fall together, so that only the size counts."""
    twin = dataclasses.replace(support_map, scan_fingerprint="twin")
    both = learn_box(library, twin, "liver", Box((-60, -30, -60), (70, 30, 40)))
    queries, found = located(both, scan, inner=True)
    kinds = np.array([query.kind for query in queries])
    inner = np.array([query.in_box for query in queries if query.kind == "inner point"])
    positions = found.positions.copy()
    positions[kinds == "inner point"] = np.array([5.0, 0.0, -10.0]) + inner * [55, 30, 50]
    organ = liver(both, scan, inner=True, positions=positions)
    wanted = (np.array([[-40, -30, -60], [50, 30, 40]]) + [[-50, -30, -60], [60, 30, 40]]) / 2
    np.testing.assert_allclose([organ.raw_box.minimum, organ.raw_box.maximum], wanted, atol=1e-6)


def test_by_the_papers_rule_boxes_of_shots_are_averaged_and_by_the_image_not(library, scan, support_map):
    """One shot's right side is 30 mm off: the box of the shots follows by half, that of the positions not at all."""
    twin = dataclasses.replace(support_map, scan_fingerprint="twin")
    both = learn_box(library, twin, "liver", BOX)
    queries, found = located(both, scan)
    points = found.votes.points_ras.copy()
    row = np.flatnonzero((found.shots.query == 2) & (found.shots.support == 1))[0]
    points[row, 0, 0] += 30.0
    votes = Votes(points, found.votes.distances)
    assert liver(both, scan, votes=votes, boxes_of_shots=True).raw_box.maximum[0] == pytest.approx(65.0)
    assert liver(both, scan, votes=votes, boxes_of_shots=False).raw_box.maximum[0] == pytest.approx(50.0)


def test_landmarks_come_before_organs(library, support_map):
    result = localize(support_map, library, LocalizationSettings(round_trip_threshold_mm=25.0))
    assert [answer.name for answer in result.results] == ["middle", "liver"]
    assert result.model_id == support_map.model_id
