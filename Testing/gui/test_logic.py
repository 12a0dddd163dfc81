"""The logic without a panel, as used from the Python console; and with a real, untrained network."""

import numpy as np
import pytest
import slicer
import slicer.util

from APELocalizer import APELocalizerLogic
from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled, SceneError
from made_up.scans import LANDMARKS


@pytest.fixture
def logic(engine):
    return APELocalizerLogic(engine)


def test_the_console_example_works(logic, patient, add_patient, tmp_path):
    other = add_patient("patient B")
    library = logic.learn(patient.volume, pointsNode=patient.points)
    logic.saveLibrary(library, tmp_path / "landmarks.json")
    results = logic.localize(other.volume, str(tmp_path / "landmarks.json"), spacing="standard", device="auto")
    positions = slicer.util.arrayFromMarkupsControlPoints(results.points_node, world=True)
    assert np.allclose(positions, [LANDMARKS[name] for name in library.names], atol=2.0)
    assert results.table_node.GetNumberOfRows() == 4 and results.overlay_node is not None
    shown = logic.overlays.show(other.volume, "similarity", library=library, landmark=library.names[0])
    assert "carina" in shown.GetName()


def test_another_library_on_the_same_scan_uses_the_overlay_that_is_there(logic, patient, add_patient):
    library, scan = logic.learn(patient.volume, pointsNode=patient.points), add_patient("patient B").volume
    first = logic.localize(scan, library)
    second = logic.localize(scan, library.without("heart"))
    assert second.overlay_node is first.overlay_node and second.points_node is not first.points_node
    assert logic.localize(scan, library, overlay=False).overlay_node is None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(first.overlay_node)) == first.folder_item_id
    slicer.mrmlScene.RemoveNode(first.overlay_node)
    third = logic.localize(scan, library)
    assert third.overlay_node is not None and slicer.mrmlScene.IsNodePresent(third.overlay_node)
    assert logic.localize(scan, library, spacing="fast").overlay_node is not third.overlay_node
    scan.GetImageData().Modified()
    assert logic.localize(scan, library, spacing="fast").overlay_node is not third.overlay_node


def test_the_console_uses_the_overlay_that_the_panel_made(engine, logic, patient, add_patient):
    library, scan = logic.learn(patient.volume, pointsNode=patient.points), add_patient("patient B").volume
    first = logic.localize(scan, library)
    assert APELocalizerLogic(engine).localize(scan, library).overlay_node is first.overlay_node


def test_a_scan_under_a_transform_gives_results_where_it_is_seen(logic, patient, add_patient, scene):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    other = add_patient("patient B").volume
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1.0, 1.0, 1.0])))
    matrix = np.eye(4)
    matrix[:3, 3] = (2.0, -3.0, 5.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    other.SetAndObserveTransformNodeID(transform.GetID())
    results = logic.localize(other, library)
    positions = slicer.util.arrayFromMarkupsControlPoints(results.points_node, world=True)
    # The embedder of these tests knows world positions, so the landmarks stay in place and the anatomy has moved.
    assert np.allclose(positions, [LANDMARKS[name] for name in library.names], atol=2.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.eye(4)))
    moved = slicer.util.arrayFromMarkupsControlPoints(results.points_node, world=True)
    assert np.allclose(moved, positions - matrix[:3, 3], atol=1e-6)


def test_progress_rises_to_the_end(logic, patient):
    fractions = []
    logic.learn(patient.volume, pointsNode=patient.points, progress=lambda fraction, text: fractions.append(fraction))
    library = logic.learn(patient.volume, pointsNode=patient.points)
    logic.localize(patient.volume, library, progress=lambda fraction, text: fractions.append(fraction))
    assert fractions and max(fractions) == 1.0


def test_cancel_and_errors_leave_the_scene_as_it_was(logic, patient, add_patient, embedder, node_ids):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    other = add_patient("patient B").volume
    before = node_ids()
    with pytest.raises(Cancelled):
        logic.localize(other, library, cancelled=lambda: True)
    embedder.fail_with = RuntimeError("broken")
    with pytest.raises(RuntimeError):
        logic.localize(other, library)
    assert node_ids() == before


@pytest.mark.parametrize("missing", ["volume", "library", "points"])
def test_missing_input_is_refused_with_a_sentence(logic, patient, missing):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    with pytest.raises(APELocalizerError) as caught:
        if missing == "volume":
            logic.localize(None, library)
        elif missing == "library":
            logic.localize(patient.volume, None)
        else:
            logic.learn(patient.volume)
    assert str(caught.value).endswith(".")


def test_a_mask_or_color_image_is_refused(logic, patient, scene):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    with pytest.raises(SceneError):
        logic.localize(labels, library)


# The cache ---------------------------------------------------------------------------------------------------------


def test_a_scan_is_embedded_once_for_learning_and_searching(logic, patient, embedder):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    logic.localize(patient.volume, library)
    logic.localize(patient.volume, library, device="cpu")
    assert embedder.embedded == ["patient A"]


def changed_voxels(volume, logic):
    slicer.util.arrayFromVolume(volume)[20, 20, 20] += 5
    slicer.util.arrayFromVolumeModified(volume)


def moved_origin(volume, logic):
    volume.SetOrigin(1.0, 2.0, 3.0)


def parent_transform(volume, logic):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 10.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())


@pytest.mark.parametrize("change", [changed_voxels, moved_origin, parent_transform])
def test_a_changed_scan_is_embedded_again(logic, patient, embedder, change):
    library = logic.learn(patient.volume, pointsNode=patient.points)
    change(patient.volume, logic)
    logic.localize(patient.volume, library)
    assert len(embedder.embedded) == 2


def test_another_spacing_or_model_is_embedded_again(logic, patient, embedder):
    logic.learn(patient.volume, pointsNode=patient.points)
    logic.learn(patient.volume, pointsNode=patient.points, spacing="fast")
    logic.learn(patient.volume, pointsNode=patient.points, checkpoint="another")
    logic.learn(patient.volume, pointsNode=patient.points, spacing="fast")
    assert len(embedder.embedded) == 3


# The real pipeline -------------------------------------------------------------------------------------------------


def test_with_a_real_network_each_click_is_recognized_on_its_own_scan(scene, patient, load_tiny):
    logic = APELocalizerLogic(Engine(memory=Memory(load_tiny)))
    fractions = []

    def progress(fraction: float, text: str) -> None:
        fractions.append(fraction)

    library = logic.learn(patient.volume, pointsNode=patient.points, device="cpu", progress=progress)
    assert fractions == sorted(fractions) and len(fractions) > 2
    results = logic.localize(patient.volume, library, device="cpu")
    table = results.table_node.GetTable()
    distances = [float(table.GetValueByName(row, "Distance").ToString()) for row in range(table.GetNumberOfRows())]
    # Untrained, it cannot tell where it is, but it must find a place that looks just like the click.
    assert len(distances) == 4 and max(distances) < 3.0
    assert results.overlay_node.GetImageData().GetNumberOfScalarComponents() == 3
