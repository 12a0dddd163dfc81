"""Learning from clicks, boxes, six points and segmentations."""

import numpy as np
import pytest

from APELocalizerLib.core.annotations.extreme_points import sorted_extreme_points
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_segmentation, learn_six_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from made_up.maps import CLICKS, smooth_map
from made_up.organs import asymmetric_mask, brute_force_extreme_points, label_grid

EMPTY = LandmarkLibrary()
SIX = np.array([[-41, 2, 5], [38, -4, 9], [6, -29, 3], [3, 31, -7], [-8, 5, -63], [2, 1, 58]], float)
"""rmin, rmax, amin, amax, smin, smax of an organ."""


# Points ------------------------------------------------------------------------------------------------------------


def test_a_click_becomes_the_embedding_of_its_place(support_map):
    library = learn_points(EMPTY, support_map, CLICKS)
    assert library.model_id == support_map.model_id
    for name, place in CLICKS.items():
        shot = library.landmark(name).shots[0]
        assert shot.position_ras == tuple(place)
        np.testing.assert_allclose(shot.embedding, support_map.embedding_at(place[None])[0])
        assert shot.support_id == support_map.scan_fingerprint
        assert len(shot.date.split("-")) == 3
    assert EMPTY == LandmarkLibrary(), "the given library is unchanged"


def test_clicks_in_air_or_outside_the_scan_are_refused(support_map):
    half = support_map.field_of_view.size / 2
    with pytest.raises(LearningError, match=r'"x" \(R 0, A 0, S 400 mm\) lies outside the support scan'):
        learn_points(EMPTY, support_map, {"x": (0, 0, 400)})
    with pytest.raises(LearningError, match="in the air outside the body"):
        learn_points(EMPTY, support_map, {"x": (half[0] - 3, half[1] - 3, 0)})
    with pytest.raises(LearningError, match="not a number"):
        learn_points(EMPTY, support_map, {"x": (0, float("nan"), 0)})
    with pytest.raises(LearningError, match="nothing to learn"):
        learn_points(EMPTY, support_map, {})


def test_clicks_in_the_air_that_the_preparation_cropped_off_are_refused():
    """The map covers the body only; the scan's field of view goes on beside it."""
    import dataclasses

    cropped = smooth_map(shape=(10, 12, 14), body=lambda p: np.ones(len(p), bool))
    wide = dataclasses.replace(cropped, field_of_view=Box((-250, -250, -84), (250, 250, 84)))
    with pytest.raises(LearningError, match="in the air"):
        learn_points(EMPTY, wide, {"x": (200, 0, 0)})


# Segmentations -----------------------------------------------------------------------------------------------------


def test_organs_are_learned_from_a_segmentation(support_map):
    labels = np.zeros((40, 36, 30), np.int16)
    labels[asymmetric_mask(seed=1)] = 3
    labels[18:20, 17:19, 2:5] = 7
    library = learn_segmentation(EMPTY, support_map, labels, label_grid(), {3: "liver", 7: "stone"})
    assert [organ.name for organ in library.organs] == ["liver", "stone"]
    shot = library.organ("liver").shots[0]
    expected = brute_force_extreme_points(labels == 3, label_grid())
    np.testing.assert_allclose(shot.extreme_points_ras, expected)
    np.testing.assert_allclose(shot.embeddings, support_map.embedding_at(expected))


def test_an_organ_that_the_field_of_view_cuts_is_left_out(support_map):
    """The scan spans S -144 to 144 mm; the label grid is the scan's own here, so its last slices are the scan's."""
    shape, spacing = (40, 36, 36), (4.0, 4.0, 8.0)
    affine = label_grid(shape, spacing)
    labels = np.zeros(shape, np.int16)
    labels[18:24, 14:20, 10:20] = 1
    labels[18:24, 14:20, 30:36] = 2
    library = learn_segmentation(EMPTY, support_map, labels, affine, {1: "whole", 2: "cut"})
    assert library.names == ("whole",)
    with pytest.raises(LearningError, match="field of view of the support cuts cut"):
        learn_segmentation(EMPTY, support_map, labels, affine, {2: "cut"})


def test_an_organ_that_reaches_into_the_air_is_left_out():
    """One stray voxel of one label must not cost all the others."""
    slim = smooth_map(body=lambda p: np.abs(p[:, 1]) < 30)
    labels = np.zeros((40, 36, 30), np.int16)
    labels[18:24, 16:20, 10:20] = 1
    labels[18:24, 2:20, 21:25] = 2
    library = learn_segmentation(EMPTY, slim, labels, label_grid(), {1: "inside", 2: "stray"})
    assert library.names == ("inside",)
    with pytest.raises(LearningError, match="stray reaches into the air"):
        learn_segmentation(EMPTY, slim, labels, label_grid(), {2: "stray"})


def test_segmentations_without_the_organ_are_refused(support_map):
    labels = np.zeros((40, 36, 30), np.int16)
    labels[18:20, 17:19, 12:15] = 7
    learned = learn_segmentation(EMPTY, support_map, labels, label_grid(), {1: "spleen", 7: "stone"})
    assert learned.names == ("stone",), "a label that is absent does not refuse the others"
    with pytest.raises(LearningError, match="no voxel of any organ named"):
        learn_segmentation(EMPTY, support_map, labels, label_grid(), {1: "spleen"})
    with pytest.raises(LearningError, match="names no organ"):
        learn_segmentation(EMPTY, support_map, labels, label_grid(), {})
    labels[22:24, 17:19, 12:15] = 8
    with pytest.raises(LearningError, match='Two labels of the label map are called "stone"'):
        learn_segmentation(EMPTY, support_map, labels, label_grid(), {7: "stone", 8: "stone"})


# Boxes and six clicks ----------------------------------------------------------------------------------------------


def test_a_box_becomes_the_centers_of_its_faces(support_map):
    box = Box((-50, -30, -60), (40, 35, 70))
    shot = learn_box(EMPTY, support_map, "liver", box, alpha=1.3).organ("liver").shots[0]
    expected = [(-50, 2.5, 5), (40, 2.5, 5), (-5, -30, 5), (-5, 35, 5), (-5, 2.5, -60), (-5, 2.5, 70)]
    np.testing.assert_allclose(shot.extreme_points_ras, expected)
    np.testing.assert_allclose(shot.embeddings, support_map.embedding_at(np.array(expected)))


def test_the_enlargement_is_kept(support_map):
    library = learn_box(EMPTY, support_map, "liver", Box((-50, -30, -60), (40, 35, 70)), alpha=1.3)
    assert library.organ("liver").alpha == 1.3


def test_impossible_boxes_are_refused(support_map):
    with pytest.raises(LearningError, match="zero thickness"):
        learn_box(EMPTY, support_map, "liver", Box((0, 0, 0), (10, 0, 10)))
    with pytest.raises(LearningError, match="outside the support scan"):
        learn_box(EMPTY, support_map, "liver", Box((300, 0, 0), (400, 10, 10)))


def test_a_box_that_reaches_into_the_air_is_learned_up_to_the_skin():
    """What the network says about air has no meaning; a side must be a position in the body."""
    slim = smooth_map(body=lambda p: np.abs(p[:, 1]) < 30)
    library = learn_box(EMPTY, slim, "trunk", Box((-60, -75, -60), (60, 20, 70)))
    shot = library.organ("trunk").shots[0]
    extreme_points = np.array(shot.extreme_points_ras)
    assert abs(extreme_points[2, 1] - -30) <= 8, "within a cell of the skin"
    np.testing.assert_array_equal(extreme_points[[0, 1, 3, 4, 5], [0, 0, 1, 2, 2]], [-60, 60, 20, -60, 70])
    assert slim.nearest(np.array(shot.embeddings)).distances.max() < 1.0
    assert np.linalg.norm(slim.nearest(np.array(shot.embeddings)).points_ras - extreme_points, axis=1).max() < 8


@pytest.mark.parametrize("seed", range(10))
def test_six_clicks_in_any_order(support_map, seed):
    order = np.random.default_rng(seed).permutation(6)
    np.testing.assert_array_equal(sorted_extreme_points(SIX[order]), SIX)
    shot = learn_six_points(EMPTY, support_map, "liver", SIX[order]).organ("liver").shots[0]
    np.testing.assert_array_equal(shot.extreme_points_ras, SIX)
    np.testing.assert_allclose(shot.embeddings, support_map.embedding_at(SIX))


def test_wrong_six_clicks_are_refused(support_map):
    with pytest.raises(LearningError, match="needs six extreme points, but 5"):
        learn_six_points(EMPTY, support_map, "liver", SIX[:5])
    with pytest.raises(LearningError, match="do not form a box"):
        learn_six_points(EMPTY, support_map, "liver", SIX * [1, 1, 0])
    with pytest.raises(LearningError, match="outside the support scan"):
        learn_six_points(EMPTY, support_map, "liver", SIX + [0, 0, 200])
