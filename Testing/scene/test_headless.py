"""A scene outside Slicer: opened, filled, saved as .mrb and read back."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.scene import headless
from APELocalizerLib.scene.headless import add_volume, load_scene, open_headless_scene, save_scene
from APELocalizerLib.scene.overlays import show_in_slices
from APELocalizerLib.scene.results import SCAN_REFERENCE, show_localization
from APELocalizerLib.scene.volumes import scan_from_volume_node
from made_up.nodes import CARINA, LIVER_BOX, ROTATION, SHEAR, linear_transform, raises


def test_scene_is_slicers_scene_until_it_is_closed():
    with open_headless_scene() as opened:
        assert slicer.mrmlScene is opened.scene
    assert not hasattr(slicer, "mrmlScene")
    with raises("No scene is open"):
        headless.current_headless_scene()


def test_opening_again_starts_empty(a_volume_node):
    with open_headless_scene() as second:
        assert slicer.mrmlScene is second.scene
        assert second.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_it_keeps_away_from_the_slicer_application(monkeypatch):
    monkeypatch.setattr(slicer, "app", object(), raising=False)
    with raises("already has a scene"):
        open_headless_scene()


def test_results_come_back_from_a_bundle(a_scene, a_volume_node, a_localization, an_embedding_map, tmp_path):
    a_volume_node.SetAndObserveTransformNodeID(linear_transform(a_scene, ROTATION).GetID())
    nodes = show_localization(a_volume_node, a_localization, an_embedding_map)
    show_in_slices(nodes.overlay_node, 0.3)
    voxels = slicer.util.arrayFromVolume(a_volume_node).copy()
    affine = scan_from_volume_node(a_volume_node).ijk_to_ras
    overlay_name = nodes.overlay_node.GetName()
    save_scene(tmp_path / "Ergebnis 1.mrb")
    with open_headless_scene():
        load_scene(tmp_path / "Ergebnis 1.mrb")
        scan_node, points = slicer.util.getNode("torso"), slicer.util.getNode("torso landmarks")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan_node), voxels)
        np.testing.assert_allclose(scan_from_volume_node(scan_node).ijk_to_ras, affine, atol=1e-3)
        np.testing.assert_allclose(points.GetNthControlPointPositionWorld(0), CARINA, atol=1e-3)
        assert points.GetNthControlPointPositionStatus(2) == slicer.vtkMRMLMarkupsNode.PositionMissing
        assert points.GetNthControlPointDescription(0) == "found, round trip 3.2 mm"
        assert points.GetNodeReference(SCAN_REFERENCE) is scan_node
        bounds = [0.0] * 6
        slicer.util.getNode("liver box").GetRASBounds(bounds)
        np.testing.assert_allclose(bounds[::2], LIVER_BOX.minimum, atol=1e-3)
        np.testing.assert_allclose(bounds[1::2], LIVER_BOX.maximum, atol=1e-3)
        overlay = slicer.util.getNode(overlay_name)
        assert overlay.IsA("vtkMRMLVectorVolumeNode") and overlay.GetDisplayNode().GetApplyThreshold()
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        assert {view.GetForegroundVolumeID() for view in views} == {overlay.GetID()}
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(slicer.mrmlScene)
        folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(points))
        assert hierarchy.GetItemName(folder) == "torso landmarks"
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(overlay)) == folder


def test_volume_is_placed_and_shown(a_volume_node):
    ends = apply_affine(scan_from_volume_node(a_volume_node).ijk_to_ras, [(0, 0, 0), (79, 55, 47)])
    np.testing.assert_allclose(ends, [(197.5, 137.5, -117.5), (-197.5, -137.5, 117.5)])
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {view.GetBackgroundVolumeID() for view in views} == {a_volume_node.GetID()}
    orientations = {node.GetName(): node.GetOrientation() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    assert orientations == {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def test_gantry_tilt_is_kept_and_saved(a_scene, tmp_path):
    tilted = SHEAR @ np.diag([-2.0, -2.0, 3.0, 1.0])
    voxels = np.arange(16 * 17 * 18, dtype=np.int16).reshape(16, 17, 18) % 2000 - 1000
    np.testing.assert_allclose(scan_from_volume_node(add_volume(voxels, tilted, "tilted")).ijk_to_ras, tilted)
    save_scene(tmp_path / "scene.mrb")
    with open_headless_scene():
        load_scene(tmp_path / "scene.mrb")
        scan = scan_from_volume_node(slicer.util.getNode("tilted"))
        np.testing.assert_allclose(scan.ijk_to_ras, tilted, atol=1e-6)
        np.testing.assert_array_equal(scan.voxels, voxels)


def test_program_ends_cleanly_with_a_loaded_scene_still_open(tmp_path):
    program = f"""
import numpy as np
from APELocalizerLib.scene.headless import add_volume, load_scene, open_headless_scene, save_scene
first = open_headless_scene()
node = add_volume(np.zeros((9, 9, 9), np.int16), np.eye(4), "scan")
save_scene({str(tmp_path / "scene.mrb")!r})
second = open_headless_scene()
load_scene({str(tmp_path / "scene.mrb")!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "APELocalizer")}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=120).returncode == 0


def test_only_bundles_are_written_and_read(a_scene, tmp_path):
    with raises("ending .mrb"):
        save_scene(tmp_path / "scene.mrml")
    (tmp_path / "broken.mrb").write_bytes(b"no archive")
    for name in ("broken.mrb", "absent.mrb"):
        with raises("not a scene bundle"):
            load_scene(tmp_path / name)


def test_failed_writing_keeps_the_earlier_file(a_scene, tmp_path, monkeypatch):
    target = tmp_path / "scene.mrb"
    target.write_bytes(b"earlier")

    class Full:
        def WriteToMRB(self, _path):
            return False

    monkeypatch.setattr(slicer, "mrmlScene", Full())
    with raises("could not be written"):
        save_scene(target)
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture(autouse=True)
def no_scene_left():
    yield
    assert headless._current is None
