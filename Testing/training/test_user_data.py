"""Tables of landmarks and boxes as users write them: what is refused, and which scans have annotations enough."""

import logging

import numpy as np
import pytest

from APELocalizerLib.training import user_data
from APELocalizerLib.training.canonical import FrameModel
from APELocalizerLib.training.errors import TrainingError

GRID = np.array([[0, -4.0, 0, 40], [-4.0, 0, 0, 40], [0, 0, -4.0, 40], [0, 0, 0, 1]])
LANDMARKS, BOXES = "case,name,r_mm,a_mm,s_mm,uncertainty_mm\n", "case,name,rmin,rmax,amin,amax,smin,smax,cut_sides\n"


class Prepared:
    """A prepared scan of 20 x 20 x 20 voxels that are all body."""

    unit, grid_to_ras = 1.0, GRID

    def __init__(self, name):
        self.name = name

    def image(self):
        return np.full((20, 20, 20), 0.5, np.float32)

    def body(self):
        return np.ones((20, 20, 20), np.float32)


def training_set(tmp_path, landmarks, boxes, *names):
    tables = []
    for name, text in (("landmarks.csv", landmarks), ("boxes.csv", boxes)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        tables.append(str(tmp_path / name))
    return user_data.training_set([Prepared(name) for name in names], *tables, (), FrameModel())


@pytest.mark.parametrize("cells", ["nan,0,0,5", "0,inf,0,5", "0,0,0,nan"])
def test_a_landmark_that_is_not_finite_is_named(tmp_path, cells):
    with pytest.raises(TrainingError, match="“carina” of “one”"):
        training_set(tmp_path, f"{LANDMARKS}one,carina,{cells}\n", BOXES, "one")


def test_a_box_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(TrainingError, match="“liver” of “one”"):
        training_set(tmp_path, LANDMARKS, f"{BOXES}one,liver,0,50,nan,50,0,50,\n", "one")


@pytest.mark.parametrize("cells", ["0,50,left,50,0,50,", "0,50"], ids=["a word", "too few"])
def test_a_box_without_numbers_is_refused_in_a_sentence(tmp_path, cells):
    with pytest.raises(TrainingError, match=r"boxes.csv” has a line whose coordinates are not numbers"):
        training_set(tmp_path, LANDMARKS, f"{BOXES}one,liver,{cells}\n", "one")


def test_a_scan_that_is_not_annotated_along_all_axes_stays_unlabelled(tmp_path, caplog):
    """Boxes whose upper and lower sides are all cut give many observations, but none along S."""
    points = "".join(f"one,{name},{p},{-p},{2 * p},\n" for name, p in (("carina", 0), ("apex", 20), ("tip", -30)))
    boxes = "".join(f"two,{name},0,{mm},0,{mm},0,{mm},smin;smax\n" for name, mm in (("liver", 30), ("heart", 20)))
    with caplog.at_level(logging.WARNING):
        data = training_set(tmp_path, LANDMARKS + points, BOXES + boxes, "one", "two")
    assert [scan.name for scan in data.train] == ["one"] and [scan.name for scan in data.unlabelled] == ["two"]
    assert [record.args for record in caplog.records] == [("two",)]
    with pytest.raises(TrainingError, match="No scan has annotations enough"):
        training_set(tmp_path, LANDMARKS, BOXES + boxes, "one", "two")


def test_two_boxes_and_a_landmark_are_enough(tmp_path):
    boxes = "".join(f"one,{name},0,{mm},0,{mm},0,{mm},smin\n" for name, mm in (("liver", 30), ("heart", 20)))
    data = training_set(tmp_path, f"{LANDMARKS}one,carina,0,0,0,\n", BOXES + boxes, "one")
    assert [scan.name for scan in data.train] == ["one"]
