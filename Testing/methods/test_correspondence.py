"""The correspondence as a method: places are carried from supports to a target where the truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.ape import ApeMethod
from APELocalizerLib.methods.correspondence import CorrespondenceMethod
from APELocalizerLib.methods.method import PAIR
from made_up.maps import Patient, smooth_map

LANDMARK, ORGAN, LOW = (
    Place("landmark", "point", "carina"),
    Place("organ", "box", "liver"),
    Place("landmark", "point", "hip"),
)
SIX = np.array([(30, 0, 0), (-30, 0, 0), (0, 30, 0), (0, -30, 0), (0, 0, 30), (0, 0, -30)], float)
STRETCH, SHIFT = (1.05, 0.95, 1.04), (0.0, 10.0, 40.0)


@pytest.fixture
def method():
    """A method that has seen a support, and a larger patient whose scan ends above the hip."""
    ape = ApeMethod("ape", lambda scan: (scan, 0.0), SimpleNamespace())
    target = smooth_map(Patient(STRETCH, SHIFT), shape=(20, 22, 16), center=(0, 10, 80), name="target")
    made = CorrespondenceMethod(ape)
    for one_map in (smooth_map(name="support"), smooth_map(name="other"), target):
        made.prepare(one_map.scan_name, one_map)
    return made


def support(name="support"):
    places = {LANDMARK: np.array([[10.0, 5, 30]]), ORGAN: SIX, LOW: np.array([[0.0, 0, -125]])}
    box = Box((-1.0,) * 3, (1.0,) * 3)
    return AnnotatedCase(name, name, {}, {}, {}, box, box, np.eye(4), places)


def test_places_and_boxes_are_carried(method):
    answers = method.find("target", [support(), support("other")], [LANDMARK, ORGAN])
    assert answers[LANDMARK].positions == pytest.approx(np.multiply([[10, 5, 30]], STRETCH) + SHIFT, abs=2)
    assert answers[ORGAN].box.size == pytest.approx(np.multiply(60, STRETCH), abs=4)
    assert answers[LANDMARK].found and answers[ORGAN].found
    assert method.clock.spent[PAIR][1] == 2, "every pair is compared once"


def test_what_lies_beyond_the_target_is_not_found_and_less_sure(method):
    answers = method.find("target", [support()], [LANDMARK, LOW])
    assert answers[LANDMARK].found and answers[LOW].found is False
    assert answers[LOW].round_trip_mm > answers[LANDMARK].round_trip_mm


def test_scans_that_share_nothing_find_nothing(method):
    method.prepare("neck", smooth_map(Patient(shift=(0, 0, -900)), name="neck"))
    assert method.find("neck", [support()], [LANDMARK])[LANDMARK].found is False
