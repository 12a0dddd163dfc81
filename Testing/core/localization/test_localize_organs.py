"""Every organ of a library on one scan: its box, or why there is none."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.learning import learn_box
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.answers import Answers
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.queries import Shots, queries_of
from APELocalizerLib.core.localization.votes import RULES, find_by_coordinates
from made_up.maps import ORGAN, OTHER_PATIENT, Patient, smooth_map

STRICT = LocalizationSettings(round_trip_threshold_mm=25.0)


@pytest.mark.parametrize("rule", RULES)
def test_an_organs_box_is_found_enlarged_and_measured(organ_library, target, rule):
    organ = localize(target, organ_library, LocalizationSettings(rule, 25.0)).organs[0]
    expected = Box(tuple(OTHER_PATIENT.place(ORGAN.minimum)), tuple(OTHER_PATIENT.place(ORGAN.maximum)))
    assert organ.found and organ.alpha == 1.2 and organ.code.value == "10200004"
    assert organ.raw_box.iou(expected) > 0.95
    assert organ.box.iou(expected.enlarged(1.2)) > 0.95


def test_an_organs_center_is_not_moved_where_the_field_of_view_cuts_the_enlarged_box(support_map, target):
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN, alpha=4.0)
    organ = localize(target, library, LocalizationSettings("paper", 25.0)).organs[0]
    expected = OTHER_PATIENT.place(ORGAN.center)
    np.testing.assert_allclose(organ.center_ras, expected, atol=1.5)
    assert np.linalg.norm(organ.box.center - expected) > 5.0
    assert organ.volume_ratio == pytest.approx(target.field_of_view.volume_mm3 / organ.box.volume_mm3)
    assert np.array(organ.extreme_points_ras).shape == (6, 3)


def test_an_organ_outside_the_field_of_view_is_not_found(library, support_map):
    high = learn_box(library, support_map, "heart", Box((-40, -30, 80), (40, 30, 130)))
    pelvis = smooth_map(shape=(20, 22, 10), center=(0, 0, -84))
    organ = localize(pelvis, high, STRICT).organs[0]
    assert not organ.found and organ.status == "not_found"
    assert organ.box is None and np.isnan(organ.volume_ratio) and organ.reason


@pytest.mark.parametrize("rule", RULES)
def test_a_box_never_leaves_the_scan(library, support_map, rule):
    organ_library = learn_box(library, support_map, "trunk", Box((-60, -50, -130), (60, 50, 130)), alpha=3.0)
    organ = localize(support_map, organ_library, LocalizationSettings(rule)).organs[0]
    view = support_map.field_of_view
    assert organ.box.clipped(view) == organ.box
    assert organ.volume_ratio >= 1.0


def test_the_papers_rule_averages_the_boxes_of_the_shots(support_map, target):
    """Not the extreme points: a stray point of one shot widens that shot's box, which counts with its share."""
    libraries = []
    for name in ("good", "stray"):
        support = dataclasses.replace(support_map, scan_fingerprint=name)
        libraries.append(learn_box(LandmarkLibrary(), support, "liver", ORGAN))
    organ = libraries[1].organ("liver")
    behind = tuple(Patient().embedding(np.array([[0.0, -45.0, 20.0]]))[0])  # instead of the middle of the upper side
    shot = dataclasses.replace(organ.shots[0], embeddings=(*organ.shots[0].embeddings[:5], behind))
    libraries[1] = dataclasses.replace(libraries[1], organs=(dataclasses.replace(organ, shots=(shot,)),))
    paper = LocalizationSettings("paper")
    alone = [localize(target, library, paper).organs[0].raw_box for library in libraries]
    both = localize(target, libraries[0].merged(libraries[1]), paper).organs[0].raw_box
    assert alone[1].minimum[1] < alone[0].minimum[1] - 10
    np.testing.assert_allclose(both.minimum, np.mean([box.minimum for box in alone], axis=0), atol=1e-6)
    np.testing.assert_allclose(both.maximum, np.mean([box.maximum for box in alone], axis=0), atol=1e-6)


def test_one_stray_extreme_point_does_not_ruin_a_box(support_map, target):
    """In the robust rule, a side follows its extreme point only."""
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN)
    shot = library.organs[0].shots[0]
    stray = (70.0, -10.0, 110.0)  # clicked instead of the posterior side
    points = (*shot.extreme_points_ras[:2], stray, *shot.extreme_points_ras[3:])
    embeddings = (*shot.embeddings[:2], tuple(Patient().embedding(np.array([stray]))[0]), *shot.embeddings[3:])
    odd = dataclasses.replace(shot, extreme_points_ras=points, embeddings=embeddings)
    library = dataclasses.replace(library, organs=(dataclasses.replace(library.organs[0], shots=(odd,)),))
    organ = localize(target, library, LocalizationSettings("robust", STRICT.round_trip_threshold_mm)).organs[0]
    low, high = OTHER_PATIENT.place(ORGAN.minimum), OTHER_PATIENT.place(ORGAN.maximum)
    assert organ.found
    np.testing.assert_allclose(np.array(organ.raw_box.minimum)[[0, 2]], low[[0, 2]], atol=3)
    np.testing.assert_allclose(organ.raw_box.maximum, high, atol=3)


def test_sides_found_in_the_wrong_order_are_no_box(support_map):
    """All six points come back exactly, so that the scans do not disagree: the reason must not say that they do."""
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN)
    shot = library.organs[0].shots[0]
    left, right, *others = zip(shot.extreme_points_ras, shot.embeddings, strict=True)
    points, embeddings = zip(right, left, *others, strict=True)
    swapped = dataclasses.replace(shot, extreme_points_ras=points, embeddings=embeddings)
    liver = dataclasses.replace(library.organs[0], shots=(swapped,))
    robust = LocalizationSettings("robust", STRICT.round_trip_threshold_mm)
    organ = localize(support_map, dataclasses.replace(library, organs=(liver,)), robust).organs[0]
    assert not organ.found and organ.box is None and organ.raw_box is None
    assert "do not form a box" in organ.reason


@pytest.mark.parametrize("seen, is_found", [(2, False), (3, True), (6, True)])
def test_an_organ_is_found_by_three_of_its_six_extreme_points(support_map, seen, is_found):
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN)
    queries = queries_of(library, inner=False)
    located = find_by_coordinates(support_map, [support_map], Shots.of(queries), "paper")
    round_trip_mm = np.where(np.arange(6) < seen, 25.0, 25.1)
    located = dataclasses.replace(located, round_trip_mm=round_trip_mm)
    organ = Answers(support_map, queries, located, 25.0, boxes_of_shots=False).organ(library.organs[0])
    assert organ.found is is_found
