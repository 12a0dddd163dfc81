"""Every landmark and organ of a library on one scan: found, or not found and why."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, LocalizationError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE, CoordinateSpace
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.answers import Answers
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.queries import Shots, queries_of
from APELocalizerLib.core.localization.votes import RULES, find_by_coordinates
from made_up.maps import CLICKS, Patient, library_of, smooth_map
from made_up.models import MODEL_ID, tiny_model

PATIENT = Patient((1.08, 0.94, 1.03), (6, -9, 4))
ORGAN = Box((-45, -30, -60), (40, 25, 20))
STRICT = LocalizationSettings(round_trip_threshold_mm=25.0)


@pytest.fixture(scope="module")
def organ_library(library, support_map):
    return learn_box(library, support_map, "liver", ORGAN, Code("SCT", "10200004", "Liver"), alpha=1.2)


@pytest.fixture(scope="module")
def target():
    """Another patient's whole trunk."""
    return smooth_map(PATIENT, shape=(24, 26, 28), name="target")


@pytest.fixture(scope="module")
def abdomen():
    """The lower half of the same patient: S -165 to -9 mm."""
    return smooth_map(PATIENT, shape=(24, 26, 13), center=(6, -9, -87), name="abdomen")


def by_name(results) -> dict:
    return {result.name: result for result in results}


@pytest.mark.parametrize("rule", RULES)
def test_the_support_gives_each_click_back(organ_library, support_map, rule):
    """The promise on the support itself is 2 mm; on a smooth map it is far better."""
    result = localize(support_map, organ_library, LocalizationSettings(rule))
    for point in result.points:
        assert point.found and point.status == "found" and point.reason == ""
        assert np.linalg.norm(point.position_ras - CLICKS[point.name]) < 0.5
        assert point.round_trip_mm < 0.5
    organ = result.organs[0]
    np.testing.assert_allclose([organ.raw_box.minimum, organ.raw_box.maximum], [ORGAN.minimum, ORGAN.maximum], atol=0.5)


@pytest.mark.parametrize("rule", RULES)
def test_every_landmark_is_found_on_another_patient(organ_library, target, rule):
    result = localize(target, organ_library, LocalizationSettings(rule, 25.0))
    assert [point.name for point in result.points] == list(CLICKS)
    for point in result.points:
        assert point.found
        assert np.linalg.norm(point.position_ras - PATIENT.place(CLICKS[point.name])) < 1.0
        assert point.position_ras == point.candidate_ras
        assert point.round_trip_mm < 2.0  # the patient's size differs, so neighbors come back up to 2 mm apart
    assert (result.scan_name, result.model_id, result.rule) == ("target", target.model_id, rule)


@pytest.mark.parametrize("rule", RULES)
def test_an_organs_box_is_found_enlarged_and_measured(organ_library, target, rule):
    organ = localize(target, organ_library, LocalizationSettings(rule, 25.0)).organs[0]
    expected = Box(tuple(PATIENT.place(ORGAN.minimum)), tuple(PATIENT.place(ORGAN.maximum)))
    assert organ.found and organ.alpha == 1.2 and organ.code.value == "10200004"
    assert organ.raw_box.iou(expected) > 0.95
    assert organ.box.iou(expected.enlarged(1.2)) > 0.95


def test_an_organs_center_is_not_moved_where_the_field_of_view_cuts_the_enlarged_box(support_map, target):
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN, alpha=4.0)
    organ = localize(target, library, LocalizationSettings("paper", 25.0)).organs[0]
    expected = PATIENT.place(ORGAN.center)
    np.testing.assert_allclose(organ.center_ras, expected, atol=1.5)
    assert np.linalg.norm(organ.box.center - expected) > 5.0
    assert organ.volume_ratio == pytest.approx(target.field_of_view.volume_mm3 / organ.box.volume_mm3)
    assert np.array(organ.extreme_points_ras).shape == (6, 3)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_cropped_away_is_not_found(organ_library, abdomen, rule):
    """Carina and apex lie 70 to 110 mm above this scan, the dome lies in it."""
    result = by_name(localize(abdomen, organ_library, LocalizationSettings(rule, 25.0)).points)
    assert result["dome"].found
    for name in ("carina", "apex"):
        point = result[name]
        assert point.status == "not_found" and point.position_ras is None
        assert np.isfinite(point.candidate_ras).all(), "the best guess is still told"
        assert point.round_trip_mm > 25
        assert "above the field of view" in point.reason


def test_what_lies_below_the_scan_is_said_to_lie_below(organ_library):
    chest = smooth_map(PATIENT, shape=(24, 26, 9), center=(6, -9, 90), name="chest")
    dome = by_name(localize(chest, organ_library, STRICT).points)["dome"]
    assert not dome.found and "below the field of view" in dome.reason


def test_a_landmark_that_the_scans_disagree_about_is_not_found(organ_library):
    """Another anatomy altogether, with nothing where the landmarks are: the reason names the disagreement."""
    hollow = smooth_map(body=lambda p: np.all(np.abs(p) < [60, 60, 130], axis=1) & (np.abs(p[:, 2] - 60) > 50))
    carina = by_name(localize(hollow, organ_library, STRICT).points)["carina"]
    assert not carina.found
    assert "no consistent match" in carina.reason


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


@pytest.mark.parametrize("rule", RULES)
def test_several_shots_find_the_same_place(support_map, target, rule):
    second = Patient((0.93, 1.05, 1.0), (0, 4, 0))
    shots = library_of((Patient(), support_map), (second, smooth_map(second, name="second")))
    assert all(len(landmark.shots) == 2 for landmark in shots.landmarks)
    for point in localize(target, shots, LocalizationSettings(rule, 25.0)).points:
        assert point.found and np.linalg.norm(point.position_ras - PATIENT.place(CLICKS[point.name])) < 1.5


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
    low, high = PATIENT.place(ORGAN.minimum), PATIENT.place(ORGAN.maximum)
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


def test_the_threshold_is_the_models_unless_it_is_set(library, target):
    model = tiny_model(round_trip_threshold_mm=12.5)
    assert localize(target, library, model=model).threshold_mm == 12.5
    assert localize(target, library, STRICT, model).threshold_mm == 25.0
    shifted = dataclasses.replace(target, values=target.values + np.float32([0, 0, 20]))
    off = localize(shifted, library, LocalizationSettings(round_trip_threshold_mm=0.001)).points
    assert not any(point.found for point in off)


def test_color_code_and_description_come_along(support_map, target):
    code = Code("FMA", "7465", "Carina of trachea")
    library = learn_points(
        LandmarkLibrary(), support_map, {"carina": CLICKS["carina"]}, {"carina": code}, {"carina": "the fork"}
    )
    library = library.with_landmark(dataclasses.replace(library.landmark("carina"), color=(0, 1, 0)))
    point = localize(target, library).points[0]
    assert (point.code, point.description) == (code, "the fork")
    assert point.color == library.landmark("carina").color


def test_notes_of_the_map_reach_the_result(library, target):
    noted = dataclasses.replace(target, notes=("Memory ran out.",))
    assert localize(noted, library).notes[0] == "Memory ran out."


def test_the_same_question_gives_the_same_answer(organ_library, target):
    assert localize(target, organ_library, STRICT) == localize(target, organ_library, STRICT)


def test_what_does_not_belong_together_is_refused(library, target):
    with pytest.raises(LocalizationError, match="library is empty"):
        localize(target, LandmarkLibrary())
    foreign = smooth_map(model_id="other@abcdefabcdef")
    with pytest.raises(LocalizationError, match="made-up@0123456789ab.*other@abcdefabcdef"):
        localize(foreign, library)
    with pytest.raises(LocalizationError, match="no retrieval rule"):
        localize(target, library, LocalizationSettings("magic"))


def test_progress_and_cancel(organ_library, target):
    seen = []
    localize(target, organ_library, progress=lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert all(text for _, text in seen)
    asked = []
    with pytest.raises(Cancelled, match="Nothing was changed"):
        localize(target, organ_library, cancelled=lambda: bool(asked.append(0)) or len(asked) >= 3)
    assert len(asked) == 3, "it stops at once, before the places are checked"


def test_an_answer_outside_the_scan_is_not_found_whatever_its_round_trip(support_map):
    """The outermost cells reach beyond the last slice, so a place there can still match perfectly."""
    view = support_map.field_of_view
    tip = np.array([0.0, 0.0, view.minimum[2] + 4.0])
    library = learn_points(LandmarkLibrary(), support_map, {"tip": tip})
    shorter = dataclasses.replace(support_map, field_of_view=Box((*view.minimum[:2], tip[2] + 3.0), view.maximum))
    answer = localize(shorter, library, LocalizationSettings("robust", 25.0)).points[0]
    assert answer.round_trip_mm < 1.0
    assert not answer.found and answer.position_ras is None
    assert answer.reason == "probably below the field of view"


def read_with(reference: str | None, patient: Patient = PATIENT, name: str = "target"):
    return dataclasses.replace(smooth_map(patient, name=name), space=CoordinateSpace(MODEL_ID, reference))


def test_a_scan_aligned_with_one_reference_does_not_meet_landmarks_aligned_with_another():
    library = library_of((Patient(), read_with("a", Patient(), "support")))
    with pytest.raises(LocalizationError, match="reference library a, .* reference library b.*learn the landmarks ag"):
        localize(read_with("b"), library, STRICT)
    for reference in ("a", None):
        result = localize(read_with(reference), library, STRICT)
        assert result.space == CoordinateSpace(MODEL_ID, reference) and len(result.notes) == 1  # no coarse CT


def test_older_files_are_taken_as_aligned_with_the_same_and_it_is_said():
    old = library_of((Patient(), read_with(UNKNOWN_REFERENCE, Patient(), "support")))
    assert any("The library does not say" in note for note in localize(read_with("a"), old, STRICT).notes)
    assert not any("does not say" in note for note in localize(read_with(None), old, STRICT).notes)
    new = library_of((Patient(), read_with("a", Patient(), "support")))
    assert any("scan's map does not say" in note for note in localize(read_with(UNKNOWN_REFERENCE), new, STRICT).notes)


@pytest.mark.parametrize("seen, is_found", [(2, False), (3, True), (6, True)])
def test_an_organ_is_found_by_three_of_its_six_extreme_points(support_map, seen, is_found):
    library = learn_box(LandmarkLibrary(), support_map, "liver", ORGAN)
    queries = queries_of(library, inner=False)
    located = find_by_coordinates(support_map, [support_map], Shots.of(queries), "paper")
    round_trip_mm = np.where(np.arange(6) < seen, 25.0, 25.1)
    located = dataclasses.replace(located, round_trip_mm=round_trip_mm)
    organ = Answers(support_map, queries, located, 25.0, boxes_of_shots=False).organ(library.organs[0])
    assert organ.found is is_found
