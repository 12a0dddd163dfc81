"""Everything marked on one scan is learned in one go, and what could not be is named."""

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.library.marks import Marks, learn_marks
from made_up.maps import CLICKS, smooth_map
from made_up.organs import asymmetric_mask, label_grid

EMPTY, HEART = LandmarkLibrary(), Box((-40, -30, -60), (40, 30, 60))


@pytest.fixture
def labels():
    """A liver (1) that lies within the scan, and a bladder (2) that its lower end cuts."""
    labels = np.zeros((40, 36, 30), np.int16)
    labels[18:24, 14:20, :4] = 2
    labels[asymmetric_mask(seed=1)] = 1
    return labels, label_grid()


@pytest.fixture
def cut_below(labels):
    """Map of a scan whose lower end is that of the label map."""
    lowest = (label_grid() @ (0, 0, 0, 1))[2]
    return smooth_map(shape=(20, 22, 24), center=(0, 0, lowest + 144))


def test_points_labels_and_boxes_are_learned_together(support_map, labels):
    marks = Marks(CLICKS, labels, {1: "liver"}, {"heart": HEART})
    learned = learn_marks(EMPTY, support_map, marks)
    assert [landmark.name for landmark in learned.library.landmarks] == list(CLICKS)
    assert [organ.name for organ in learned.library.organs] == ["liver", "heart"]
    assert learned.left_out == () and len(learned.library.supports) == 1
    assert EMPTY == LandmarkLibrary()


def test_each_kind_of_mark_is_enough(support_map, labels):
    assert learn_marks(EMPTY, support_map, Marks(CLICKS)).library.names == tuple(CLICKS)
    assert learn_marks(EMPTY, support_map, Marks(boxes={"heart": HEART})).library.names == ("heart",)
    assert learn_marks(EMPTY, support_map, Marks(labels=labels, label_names={1: "liver"})).library.names == ("liver",)


def test_no_mark_at_all_is_an_error(support_map):
    for marks in (Marks(), Marks({}, None, {}, {})):
        with pytest.raises(LearningError, match="nothing to learn"):
            learn_marks(EMPTY, support_map, marks)
    with pytest.raises(LearningError, match="names no organ"):
        learn_marks(EMPTY, support_map, Marks(labels=(np.ones((4, 4, 4), int), np.eye(4))))


def test_organs_that_could_not_be_learned_are_named(cut_below, labels):
    marks = Marks(labels=labels, label_names={1: "liver", 2: "bladder", 3: "spleen"})
    learned = learn_marks(EMPTY, cut_below, marks)
    assert learned.library.names == ("liver",)
    assert learned.left_out == ("bladder", "spleen")


def test_an_organ_that_another_support_has_is_still_left_out_here(support_map, cut_below, labels):
    """The library knows a bladder; but no shot of it comes from this scan."""
    before = learn_marks(EMPTY, support_map, Marks(boxes={"bladder": HEART})).library
    learned = learn_marks(before, cut_below, Marks(labels=labels, label_names={1: "liver", 2: "bladder"}))
    assert learned.left_out == ("bladder",) and len(learned.library.organ("bladder").shots) == 1
