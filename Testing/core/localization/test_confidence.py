"""Expected errors and grades: monotone, honest about what is unknown, and never outside the scan."""

import dataclasses
import json
import math

import numpy as np
import pytest

from APELocalizerLib.core.localization.answers import LocatedPoint, confidence_text
from APELocalizerLib.core.localization.confidence import (
    CHECK,
    SURE,
    TABLE,
    UNKNOWN,
    Calibration,
    Calibrations,
    Confidence,
    Signals,
    lies_beyond,
    read_calibrations,
)
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from made_up.maps import CLICKS, Patient, smooth_map
from made_up.paths import MODULE

LINEAR = Calibration(np.ones(3), np.array([0.0, 10.0]), np.array([2.0, 12.0]), np.array([10.0, 50.0]))
"""Scores 0 … 10 are errors of 2 … 12 mm, of which 9 of 10 are below 10 … 50 mm."""


@pytest.mark.parametrize("features, expected, radius", [((1, 1, 0), 4.0, 18.0), ((9, 9, 9), 12.0, 50.0)])
def test_errors_are_read_between_the_rows_of_the_table_and_not_beyond_it(features, expected, radius):
    confidence = LINEAR.confidence(np.array(features, float))
    assert confidence.expected_error_mm == pytest.approx(expected) and confidence.radius_90_mm == pytest.approx(radius)


def test_a_missing_signal_leaves_the_error_unknown_and_the_answer_to_be_checked():
    confidence = LINEAR.confidence(np.array([1.0, math.nan, 1.0]))
    assert confidence == UNKNOWN or math.isnan(confidence.expected_error_mm)
    assert confidence.grade == CHECK


@pytest.mark.parametrize("radius, grade", [(25.0, SURE), (25.1, CHECK), (math.nan, CHECK)])
def test_an_answer_is_sure_if_9_of_10_such_are_within_25_mm(radius, grade):
    assert Confidence(5.0, radius).grade == grade


def test_one_shot_and_several_have_errors_of_their_own():
    worse = dataclasses.replace(LINEAR, expected_error_mm=np.array([20.0, 40.0]))
    both, features = Calibrations(one=worse, several=LINEAR), np.zeros(3)
    assert both.confidence(features, 1).expected_error_mm == 20.0
    assert both.confidence(features, 2).expected_error_mm == 2.0


def test_signals_enter_by_their_logarithms():
    one = np.expm1([1.0])
    np.testing.assert_allclose(Signals(one, one, one).features, [[1.0, 1.0, 1.0]])


def test_the_table_shipped_is_of_the_shipped_model_and_only_ever_rises():
    model_id = json.loads(TABLE.read_text(encoding="utf-8"))["model_id"]
    assert model_id.startswith("ape-default@")
    assert model_id in (MODULE / "Resources" / "Libraries" / "torso.json").read_text(encoding="utf-8")
    calibrations = read_calibrations(model_id)
    for table in (calibrations.one, calibrations.several):
        assert (table.weights >= 0).all() and (np.diff(table.scores) > 0).all()
        assert (np.diff(table.expected_error_mm) >= 0).all() and (np.diff(table.radius_90_mm) >= 0).all()
        assert (table.radius_90_mm > table.expected_error_mm).all()
    assert read_calibrations("other@0123456789ab") is None


@pytest.mark.parametrize("distance, border, beyond", [(6.0, 19.0, True), (6.0, 21.0, False), (4.0, 0.0, False)])
def test_other_coordinates_at_the_border_lie_beyond_it(distance, border, beyond):
    assert lies_beyond(distance, border) is beyond


def test_a_landmark_outside_the_scan_is_not_found_at_its_border(library):
    """The dome lies at S -41. A scan that starts at S -21 holds at its lowest slices what is nearest to it."""
    chest = smooth_map(Patient(), shape=(20, 22, 12), center=(0, 0, -21 + 6 * 12), name="chest")
    points = localize(chest, library, LocalizationSettings("paper", 1e6)).points
    (dome,) = (point for point in points if point.name == "dome")
    assert not dome.found and dome.grade == "not found" and dome.reason == "probably below the field of view"
    assert all(point.found for point in points if point.name != "dome")


def test_found_positions_never_lie_outside_the_scan(library, support_map):
    """The field of view ends 0.6 mm before the carina: within the tolerance, so it is found, at the border."""
    view, carina = support_map.field_of_view, CLICKS["carina"]
    cut = dataclasses.replace(view, maximum=(carina[0] - 0.6, *view.maximum[1:]))
    points = localize(dataclasses.replace(support_map, field_of_view=cut), library).points
    (answer,) = (point for point in points if point.name == "carina")
    assert answer.found and answer.position_ras[0] == pytest.approx(carina[0] - 0.6)


def test_the_text_says_grade_error_and_round_trip():
    point = LocatedPoint(
        "carina", True, (0, 0, 0), (0, 0, 0), 4.14, 0.0, "", (1, 1, 1),
        expected_error_mm=6.2, radius_90_mm=14.4, grade=SURE,
    )  # fmt: skip
    assert confidence_text(point) == "sure: expected error 6 mm (90 % within 14 mm); round trip 4.1 mm"
    unknown = dataclasses.replace(point, expected_error_mm=math.nan, radius_90_mm=math.nan, grade=CHECK)
    assert confidence_text(unknown) == "found, round trip 4.1 mm"
