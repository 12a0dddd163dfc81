"""Every landmark and organ of a library on one scan: found, or not found and why."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, LocalizationError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE, CoordinateSpace
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.votes import RULES
from made_up.maps import CLICKS, ORGAN, OTHER_PATIENT, Patient, library_of, smooth_map
from made_up.models import MODEL_ID, tiny_model

STRICT = LocalizationSettings(round_trip_threshold_mm=25.0)


@pytest.fixture(scope="module")
def abdomen():
    """The lower half of the same patient: S -165 to -9 mm."""
    return smooth_map(OTHER_PATIENT, shape=(24, 26, 13), center=(6, -9, -87), name="abdomen")


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
        assert np.linalg.norm(point.position_ras - OTHER_PATIENT.place(CLICKS[point.name])) < 1.0
        assert point.position_ras == point.candidate_ras
        assert point.round_trip_mm < 2.0  # the patient's size differs, so neighbors come back up to 2 mm apart
    assert (result.scan_name, result.model_id, result.rule) == ("target", target.model_id, rule)


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
    chest = smooth_map(OTHER_PATIENT, shape=(24, 26, 9), center=(6, -9, 90), name="chest")
    dome = by_name(localize(chest, organ_library, STRICT).points)["dome"]
    assert not dome.found and "below the field of view" in dome.reason


def test_a_landmark_that_the_scans_disagree_about_is_not_found(organ_library):
    """Another anatomy altogether, with nothing where the landmarks are: the reason names the disagreement."""
    hollow = smooth_map(body=lambda p: np.all(np.abs(p) < [60, 60, 130], axis=1) & (np.abs(p[:, 2] - 60) > 50))
    carina = by_name(localize(hollow, organ_library, STRICT).points)["carina"]
    assert not carina.found
    assert "no consistent match" in carina.reason


@pytest.mark.parametrize("rule", RULES)
def test_several_shots_find_the_same_place(support_map, target, rule):
    second = Patient((0.93, 1.05, 1.0), (0, 4, 0))
    shots = library_of((Patient(), support_map), (second, smooth_map(second, name="second")))
    assert all(len(landmark.shots) == 2 for landmark in shots.landmarks)
    for point in localize(target, shots, LocalizationSettings(rule, 25.0)).points:
        assert point.found and np.linalg.norm(point.position_ras - OTHER_PATIENT.place(CLICKS[point.name])) < 1.5


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


def read_with(reference: str | None, patient: Patient = OTHER_PATIENT, name: str = "target"):
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
