"""`learn` as a user runs it: clicks, label maps and point lists become a library."""

import json

import numpy as np

from APELocalizerLib.cli import console
from APELocalizerLib.core.library.files import load_library
from made_up.files import POINTS, SHAPE, small_torso, write_table, write_voxels


def test_learning_again_on_another_scan_adds_a_shot(run, files):
    second = write_voxels(files.folder / "second.nii.gz", np.roll(small_torso().voxels, 2, axis=2))
    arguments = ("--points", files.points, "--library", files.library, "--model", files.model)
    assert run("learn", second, *arguments).code == 0
    library = load_library(files.library)
    assert [len(landmark.shots) for landmark in library.landmarks] == [2, 2, 2]
    assert len(library.organs) == 1


def test_learn_from_a_segmentation_takes_the_organs_extremes(run, files):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[30:40, 15:25, 20:30] = 7
    names = files.folder / "labels.json"
    names.write_text('{"7": "cube"}')
    segmentation = write_voxels(files.folder / "labels.nii.gz", labels)
    library = files.folder / "new.json"
    arguments = ("--segmentation", segmentation, "--labels", names, "--library", library, "--model", files.model)
    done = run("learn", files.scan, *arguments)
    assert (done.code, done.errors) == (0, "")
    edges = np.array(load_library(library).organ("cube").shots[0].extreme_points_ras)
    half = (np.array(labels.shape) - 1) / 2
    low, high = (np.array([30, 15, 20]) - half) * [5, 5, 6], (np.array([39, 24, 29]) - half) * [5, 5, 6]
    assert np.allclose([edges[0, 0], edges[2, 1], edges[4, 2]], low)
    assert np.allclose([edges[1, 0], edges[3, 1], edges[5, 2]], high)


def test_learn_says_which_organ_the_field_of_view_cuts(run, files, monkeypatch):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[30:40, 15:25, 20:30] = 7
    labels[20:28, 15:25, :6] = 8
    names = files.folder / "labels.json"
    names.write_text('{"7": "cube", "8": "cut cube"}')
    segmentation = write_voxels(files.folder / "labels.nii.gz", labels)
    library = files.folder / "new.json"
    said = []
    monkeypatch.setattr(console.Console, "warning", lambda _, text: said.append(text))
    arguments = ("--segmentation", segmentation, "--labels", names, "--library", library, "--model", files.model)
    assert run("learn", files.scan, *arguments).code == 0
    assert load_library(library).names == ("cube",)
    assert any(text.startswith("1 of the organs named") and text.endswith("cut cube.") for text in said)


def test_learn_reads_slicer_point_lists(run, files):
    point = {"label": "bone", "position": [0.0, 70.0, -30.0], "positionStatus": "defined"}
    markup = {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]}]}
    points = files.folder / "clicks.mrk.json"
    points.write_text(json.dumps(markup))
    library = files.folder / "new.json"
    assert run("learn", files.scan, "--points", points, "--library", library, "--model", files.model).code == 0
    assert load_library(library).landmark("bone").shots[0].position_ras == POINTS["bone"]


def test_learn_writes_nothing_when_one_mark_is_wrong(run, files):
    before = files.library.read_text(encoding="utf-8")
    points = write_table(files.folder / "far.csv", "name,r_mm,a_mm,s_mm", [["bone", 0, 0, 0], ["far", 0, 0, 9999]])
    arguments = ("--points", points, "--library", files.library, "--model", files.model)
    done = run("learn", files.scan, *arguments)
    assert done.code == 1 and "far" in done.errors
    assert files.library.read_text(encoding="utf-8") == before
