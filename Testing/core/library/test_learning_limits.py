"""Exactly where a mark still counts as on the support, and what is said of one that does not."""

import dataclasses
from datetime import datetime, timezone

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_segmentation, learn_six_points
from APELocalizerLib.core.library.library import LandmarkLibrary, Support, support_id_of
from made_up.maps import CLICKS, smooth_map
from made_up.organs import asymmetric_mask, label_grid

EMPTY = LandmarkLibrary()
LIVER = Code("SCT", "10200004", "Liver")


@pytest.fixture
def trunk():
    """A trunk of S -144 to 144 mm, body everywhere; 200 mm of neck and head and 300 mm of legs were left out."""
    whole = smooth_map(body=lambda positions: np.ones(len(positions), bool))
    return dataclasses.replace(whole, left_out_mm=(200.0, 300.0))


@pytest.mark.parametrize("side", [-1, 1])
def test_a_click_up_to_one_millimeter_outside_the_scan_is_on_it(trunk, side):
    """Rounding of a viewer, not another place."""
    assert learn_points(EMPTY, trunk, {"x": (0, 0, side * 144.9)}).names == ("x",)
    with pytest.raises(LearningError):
        learn_points(EMPTY, trunk, {"x": (0, 0, side * 145.1)})


@pytest.mark.parametrize(
    ("s", "left_out"), [(200, True), (343, True), (346, False), (-200, True), (-443, True), (-446, False)]
)
def test_a_click_in_a_part_that_was_left_out_is_told_from_one_beside_the_scan(trunk, s, left_out):
    sentence = "lies in the neck, the head or the legs" if left_out else "lies outside the support scan"
    with pytest.raises(LearningError, match=f'"x" .*{sentence}'):
        learn_points(EMPTY, trunk, {"x": (0, 0, s)})
    with pytest.raises(LearningError, match="outside the support scan"):
        learn_points(EMPTY, trunk, {"x": (200, 0, s)})


def test_the_first_wrong_click_is_named(support_map):
    with pytest.raises(LearningError, match='"far"'):
        learn_points(EMPTY, support_map, {"carina": CLICKS["carina"], "far": (0, 0, 500)})


def test_codes_and_descriptions_go_to_the_landmark_of_their_name(support_map):
    code = Code("FMA", "7465", "Carina of trachea")
    library = learn_points(EMPTY, support_map, CLICKS, {"carina": code}, {"apex": "top of the lung"})
    assert [landmark.code for landmark in library.landmarks] == [code, None, None]
    assert [landmark.description for landmark in library.landmarks] == ["", "top of the lung", ""]


def test_a_shot_keeps_the_day_and_the_scan(support_map):
    before = datetime.now(timezone.utc).date()
    library = learn_points(EMPTY, support_map, CLICKS)
    day = datetime.strptime(library.landmark("carina").shots[0].date, "%Y-%m-%d").date()
    assert before <= day <= datetime.now(timezone.utc).date()
    assert library.supports[0].id == library.landmark("carina").shots[0].support_id == "fingerprint of support"


def test_a_scan_without_fingerprint_goes_by_its_name(support_map):
    nameless = dataclasses.replace(support_map, scan_fingerprint="")
    assert support_id_of(nameless) == "support" and Support.of(nameless).id == "support"


def test_an_organ_keeps_its_code_and_enlargement_whichever_way_it_is_learned(support_map):
    box = Box((-50, -30, -60), (40, 35, 70))
    six = np.array([[-41, 2, 5], [38, -4, 9], [6, -29, 3], [3, 31, -7], [-8, 5, -63], [2, 1, 58]], float)
    labels = np.where(asymmetric_mask(seed=1), 3, 0)
    learned = [
        learn_box(EMPTY, support_map, "liver", box, LIVER, 1.3),
        learn_six_points(EMPTY, support_map, "liver", six, LIVER, 1.3),
        learn_segmentation(EMPTY, support_map, labels, label_grid(), {3: "liver"}, {"liver": LIVER}),
    ]
    assert [library.organ("liver").code for library in learned] == [LIVER] * 3
    assert [library.organ("liver").alpha for library in learned] == [1.3, 1.3, 1.0]
    assert learn_box(EMPTY, support_map, "liver", box).organ("liver").alpha == 1.0
    assert learn_six_points(EMPTY, support_map, "liver", six).organ("liver").alpha == 1.0


def test_a_side_in_the_air_is_moved_to_the_first_millimeter_of_the_body():
    """The body ends at A 30 mm, within a cell; the whole way is tried in steps of a millimeter."""
    slim = smooth_map(body=lambda positions: np.abs(positions[:, 1]) < 30)
    shot = learn_box(EMPTY, slim, "trunk", Box((-60, -20, -60), (60, 80, 70))).organ("trunk").shots[0]
    front = np.array(shot.extreme_points_ras[3])
    assert slim.is_body(front[None])[0] and not slim.is_body(front[None] + [0, 1.01, 0])[0]
    np.testing.assert_allclose(front[[0, 2]], [0, 5])


def test_the_way_to_the_skin_is_tried_in_millimeters_wherever_the_box_lies():
    """The body ends at S 10; the box reaches from its middle at S -50 up to S 60."""
    lower = smooth_map(body=lambda positions: positions[:, 2] < 10)
    shot = learn_box(EMPTY, lower, "abdomen", Box((-20, -20, -160), (20, 20, 60))).organ("abdomen").shots[0]
    top = np.array(shot.extreme_points_ras[5])
    assert lower.is_body(top[None])[0] and not lower.is_body(top[None] + [0, 0, 1.01])[0]


def test_a_side_beyond_the_field_of_view_is_moved_into_it(trunk):
    shot = learn_box(EMPTY, trunk, "spine", Box((-20, -30, -400), (20, 30, 300))).organ("spine").shots[0]
    bottom, top = shot.extreme_points_ras[4:]
    assert -144.0 <= bottom[2] <= -142.9


def test_six_clicks_in_one_plane_are_no_box_but_a_thin_organ_is(support_map):
    flat = np.array([[-40, 0, 5], [40, 0, 5], [0, -30, 5], [0, 30, 5], [0, 0, 5], [0, 0, 5]], float)
    with pytest.raises(LearningError, match="do not form a box"):
        learn_six_points(EMPTY, support_map, "liver", flat)
    thin = flat + np.array([[0, 0, 0]] * 5 + [[0, 0, 0.5]])
    assert learn_six_points(EMPTY, support_map, "liver", thin).names == ("liver",)
    with pytest.raises(LearningError, match="needs six extreme points, but 7"):
        learn_six_points(EMPTY, support_map, "liver", np.vstack([thin, thin[:1]]))
    assert learn_box(EMPTY, support_map, "disc", Box((-20, -20, 0), (20, 20, 0.5))).names == ("disc",)


def test_why_no_organ_was_learned_names_all_of_them():
    slim = smooth_map(body=lambda positions: np.abs(positions[:, 1]) < 30)
    labels = np.zeros((40, 36, 30), np.int16)
    labels[18:24, 2:20, 21:25], labels[18:24, 2:20, 10:14], labels[:6, 16:20, 10:20] = 1, 2, 3
    grid = label_grid()
    view = Box((grid[0, 3] - 2, -300, -300), (300, 300, 300))
    cut = dataclasses.replace(slim, field_of_view=view)
    with pytest.raises(LearningError) as error:
        learn_segmentation(EMPTY, cut, labels, grid, {1: "stray", 2: "other", 3: "cut one"})
    assert "the field of view of the support cuts cut one, and stray, other reaches into the air" in str(error.value)
