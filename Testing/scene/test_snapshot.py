"""The pictures show the right side on the right side, points and boxes in their places, and air without color."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from APELocalizerLib.scene.overlays import add_rgb_overlay
from APELocalizerLib.scene.pictures import MissingRenderingLibrary, check_rendering
from APELocalizerLib.scene.rendering import SliceView
from APELocalizerLib.scene.results import show_localization
from APELocalizerLib.scene.snapshot import render_views
from made_up.maps import torso_map
from made_up.nodes import ROTATION, contents, linear_transform, raises

HEART = (-35.0, 30.0, 25.0)  # on the patient's left, in front


@pytest.fixture(scope="module", autouse=True)
def drawing_is_possible():
    try:
        check_rendering()
    except MissingRenderingLibrary as error:
        pytest.skip(str(error))


def draw(orientation: str, volume_node, center=HEART, overlay_node=None, opacity=1.0, show=True):
    """Picture (400, 400, 3), 1 mm per pixel, `center` in the middle."""
    view = SliceView(orientation, (400, 400), center, 1.0)
    try:
        view.show(volume_node, overlay_node, opacity)
        return view.capture().astype(int)
    finally:
        view.close()


def at(picture, across_mm: float, up_mm: float) -> np.ndarray:
    """Mean color of 5x5 pixels that many mm right of and above the middle of the picture."""
    column, row = round(200 + across_mm), round(200 - up_mm)
    return picture[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3).mean(axis=0)


def brightness(picture, across_mm: float, up_mm: float) -> float:
    return float(at(picture, across_mm, up_mm).mean())


def test_patients_right_is_on_the_left_and_front_is_up(a_volume_node):
    axial = draw("Axial", a_volume_node)
    assert brightness(axial, 0, 0) > brightness(axial, -70, 0) + 30, "blood in the heart is brighter than its mirror"
    assert brightness(axial, -35, -100) > 200 > brightness(axial, 35, -100), "the spine is behind, on the midline"
    coronal = draw("Coronal", a_volume_node, (0.0, 0.0, 0.0))
    assert brightness(coronal, -75, 55) < 20 < brightness(coronal, -75, -45), "lungs above the liver, both on the right"
    sagittal = draw("Sagittal", a_volume_node, (0.0, 0.0, 0.0))
    assert brightness(sagittal, 70, -50) > 200, "the spine is at the back, on the right of the picture"
    assert brightness(sagittal, -70, -50) < 200


def test_the_scan_is_drawn_where_its_transform_puts_it(a_scene, a_volume_node):
    still = draw("Axial", a_volume_node)
    a_volume_node.SetAndObserveTransformNodeID(linear_transform(a_scene, ROTATION).GetID())
    moved_heart = (ROTATION @ (*HEART, 1.0))[:3]
    moved = draw("Axial", a_volume_node, moved_heart)
    assert brightness(moved, 0, 0) == pytest.approx(brightness(still, 0, 0), abs=12)
    lung = (ROTATION @ (75.0, 5.0, 25.0, 1.0))[:3] - moved_heart
    assert brightness(moved, -lung[0], lung[1]) < 20


@pytest.mark.parametrize("orientation", ["Axial", "Coronal", "Sagittal"])
def test_overlay_colors_the_body_and_leaves_air_as_it_is(a_volume_node, an_embedding_map, orientation):
    overlay = add_rgb_overlay(a_volume_node, an_embedding_map)
    a_volume_node.GetDisplayNode().SetWindowLevel(2000.0, -500.0)  # air is dark gray, not black
    plain = draw(orientation, a_volume_node, (0.0, 0.0, 0.0))
    colored = draw(orientation, a_volume_node, (0.0, 0.0, 0.0), overlay)
    air = {"Axial": (-185, 105), "Coronal": (-190, 0), "Sagittal": (-130, 0)}[orientation]
    np.testing.assert_array_equal(at(colored, *air), at(plain, *air))
    assert 30 < at(plain, *air).mean() < 100
    assert np.ptp(at(plain, 20, 20)) == 0 and np.ptp(at(colored, 20, 20)) > 5


def test_overlay_colors_grow_to_right_front_and_top(a_volume_node, an_embedding_map):
    overlay = add_rgb_overlay(a_volume_node, an_embedding_map)
    axial = draw("Axial", a_volume_node, (0.0, 0.0, 0.0), overlay)
    coronal = draw("Coronal", a_volume_node, (0.0, 0.0, 0.0), overlay)
    assert at(axial, -120, 0)[0] > at(axial, 120, 0)[0] + 100, "right is red"
    assert at(axial, 0, 80)[1] > at(axial, 0, -80)[1] + 100, "front is green"
    assert at(coronal, 0, 80)[2] > at(coronal, 0, -80)[2] + 100, "top is blue"


def test_overlay_is_drawn_on_the_moved_scan(a_scene, a_volume_node):
    a_volume_node.SetAndObserveTransformNodeID(linear_transform(a_scene, ROTATION).GetID())
    overlay = add_rgb_overlay(a_volume_node, torso_map(ROTATION))
    center = ROTATION[:3, 3]
    picture = draw("Axial", a_volume_node, center, overlay)
    right = ROTATION[:3, :3] @ (120.0, 0.0, 0.0)
    assert at(picture, -right[0], right[1])[0] > at(picture, right[0], -right[1])[0] + 100


def yellow(picture) -> np.ndarray:
    """Pixels (n, 2) as (row, column) in the color of the landmarks."""
    return np.argwhere((picture[..., 0] > 200) & (picture[..., 1] > 150) & (picture[..., 2] < 110))


def test_landmark_and_box_are_drawn_on_their_anatomy(a_volume_node, a_localization):
    nodes = show_localization(a_volume_node, a_localization)
    nodes.points_node.GetDisplayNode().SetPointLabelsVisibility(False)
    picture = draw("Axial", a_volume_node, a_localization.points[1].position_ras)
    pixels = yellow(picture)
    assert len(pixels) > 4
    np.testing.assert_allclose(np.median(pixels, axis=0), (200, 200), atol=6)
    edge = picture[200 - 20 : 200 + 20, 200 + 65 : 200 + 75]  # the box's left side lies 70 mm left of the liver
    reddish = (edge[..., 0] > edge[..., 1] + 80).any(axis=1)
    assert reddish.mean() > 0.9


def test_picture_is_written_with_all_rows_and_the_scene_stays_as_it_was(
    a_scene, a_volume_node, a_localization, an_embedding_map, tmp_path
):
    mine = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "my clicks")
    mine.CreateDefaultDisplayNodes()
    nodes = show_localization(a_volume_node, a_localization, an_embedding_map)
    before, visible = contents(a_scene), nodes.points_node.GetDisplayNode().GetVisibility()
    render_views(a_volume_node, nodes, tmp_path / "out" / "views.png", nodes.overlay_node, width=700, view_3d=False)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "views.png"))).astype(int)
    assert abs(picture.shape[1] - 700) < 8 and picture.shape[2] == 3
    upper, lower = np.array_split(picture[64:], 2)
    assert np.ptp(lower, axis=2).mean() > 2 * np.ptp(upper, axis=2).mean(), "the map's colors are in the lower row"
    assert contents(a_scene) == before
    assert mine.GetDisplayNode().GetVisibility() and nodes.points_node.GetDisplayNode().GetVisibility() == visible
    assert all(node.GetDisplayNode().GetVisibility() for node in nodes.roi_nodes.values())


def test_a_white_cross_stands_where_a_landmark_is_known_to_be(a_volume_node, a_localization, tmp_path):
    """10 cm to the left of and 5 cm behind the found one, at the same height: seen on the axial slice only."""
    nodes = show_localization(a_volume_node, a_localization)
    focus = np.array(a_localization.points[1].position_ras)
    pictures = []
    for known in (None, {"liver": focus + (-100.0, -50.0, 0.0)}):
        render_views(a_volume_node, nodes, tmp_path / "views.png", focus=focus, width=900, view_3d=False, known=known)
        pictures.append(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "views.png")))[64:].astype(int))
    new = np.argwhere(np.abs(pictures[1] - pictures[0]).max(axis=2) > 60)
    assert len(new) > 10 and np.ptp(new, axis=0).max() < 30, "one cross"
    found = np.median(yellow(pictures[0][:, : new[:, 1].max() + 1]), axis=0)
    assert new[:, 1].mean() > found[1] + 40 and new[:, 0].mean() > found[0] + 20, (
        "left is right in the picture, back below"
    )


def test_the_scans_own_window_is_put_back(a_volume_node, a_localization, tmp_path):
    display = a_volume_node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(350, 40)
    nodes = show_localization(a_volume_node, a_localization)
    render_views(a_volume_node, nodes, tmp_path / "views.png", width=400, view_3d=False)
    assert (display.GetAutoWindowLevel(), display.GetWindow(), display.GetLevel()) == (0, 350, 40)


def test_body_in_3d_is_drawn_and_taken_back(a_scene, a_volume_node, a_localization, tmp_path):
    nodes = show_localization(a_volume_node, a_localization)
    before = contents(a_scene)
    render_views(a_volume_node, nodes, tmp_path / "views.png", width=600)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "views.png"))).astype(int)
    tile = picture[64:, -round(600 / 3.6) :]
    assert (tile.max(axis=2) > 40).mean() > 0.2, "skin and bones fill much of the tile"
    assert len(yellow(tile)) > 5, "landmarks shine through"
    assert contents(a_scene) == before


def test_focus_is_a_landmark_that_was_found(a_volume_node, a_localization, tmp_path):
    nodes = show_localization(a_volume_node, a_localization)
    with raises("'bladder' was not found"):
        render_views(a_volume_node, nodes, tmp_path / "views.png", focus="bladder")
    assert not (tmp_path / "views.png").exists()


def test_inside_slicer_the_way_is_screen_capture(a_volume_node, a_localization, tmp_path, monkeypatch):
    nodes = show_localization(a_volume_node, a_localization)
    monkeypatch.setattr(slicer, "app", object(), raising=False)
    with raises("Screen Capture"):
        render_views(a_volume_node, nodes, tmp_path / "views.png")


@pytest.mark.skipif(sys.platform != "linux", reason="the system library is one of Linux")
def test_missing_drawing_library_is_one_sentence_with_the_packages_name():
    module = Path(__file__).parents[2] / "APELocalizer"
    code = "from APELocalizerLib.scene.pictures import check_rendering; check_rendering()"
    environment = {
        **os.environ,
        "PYTHONPATH": str(module),
        "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow",
        "LIBGL_DRIVERS_PATH": "/nonexistent",  # Mesa finds no driver, as if its package were not installed
        "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent",
    }
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1, "an exception, not an abort of the process"
    assert "MissingRenderingLibrary" in run.stderr
    assert "libegl1" in run.stderr and "libgl1-mesa-dri" in run.stderr
