"""Nodes become core types in world coordinates, whatever transforms are above them."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.scene.volumes import labels_from_segmentation, points_from_markups, scan_from_volume_node
from made_up.nodes import ROTATION, SHEAR, STRETCH, bent_transform, contents, linear_transform, raises


def test_scan_has_the_nodes_voxels_without_copying_them(a_volume_node):
    scan = scan_from_volume_node(a_volume_node)
    stored = slicer.util.arrayFromVolume(a_volume_node)
    assert scan.name == "torso"
    assert scan.voxels.shape == a_volume_node.GetImageData().GetDimensions()
    assert np.shares_memory(scan.voxels, stored)
    assert scan.voxels[3, 20, 40] == stored[40, 20, 3]


@pytest.mark.parametrize("chain", [[], [ROTATION], [ROTATION, STRETCH], [SHEAR, ROTATION, STRETCH]])
def test_scan_lies_where_slicer_shows_it(a_scene, a_volume_node, chain):
    parent = None
    for matrix in chain:
        parent = linear_transform(a_scene, matrix, parent)
    a_volume_node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    corner, local = (7, 11, 13), vtk.vtkMatrix4x4()
    a_volume_node.GetIJKToRASMatrix(local)
    position = np.array(local.MultiplyPoint((*corner, 1.0)))
    for matrix in reversed(chain):
        position = matrix @ position
    np.testing.assert_allclose(apply_affine(scan_from_volume_node(a_volume_node).ijk_to_ras, [corner])[0], position[:3])


def test_non_linear_transform_is_refused_with_the_way_out(a_scene, a_volume_node):
    a_volume_node.SetAndObserveTransformNodeID(bent_transform(a_scene).GetID())
    with raises("(?i)harden"):
        scan_from_volume_node(a_volume_node)


def test_non_linear_transform_further_up_is_refused(a_scene, a_volume_node):
    lower = linear_transform(a_scene, ROTATION, bent_transform(a_scene))
    a_volume_node.SetAndObserveTransformNodeID(lower.GetID())
    with raises("(?i)harden"):
        scan_from_volume_node(a_volume_node)


def test_volumes_that_are_no_ct_are_refused(a_scene):
    empty = a_scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    color = a_scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(color, np.zeros((4, 5, 6, 3), np.uint8))
    labels = a_scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    points = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    with raises("'nothing' holds no voxels"):
        scan_from_volume_node(empty)
    with raises("3 values per voxel"):
        scan_from_volume_node(color)
    for node in (None, labels, points):
        with raises("Choose a CT scan"):
            scan_from_volume_node(node)


def test_what_cannot_be_a_torso_ct_in_hounsfield_units_is_refused(a_volume_node):
    a_volume_node.SetSpacing(2000.0, 2000.0, 2000.0)
    with pytest.raises(ScanError, match="torso"):
        scan_from_volume_node(a_volume_node)
    a_volume_node.SetSpacing(5.0, 5.0, 5.0)
    slicer.util.arrayFromVolume(a_volume_node)[:] %= 5
    with pytest.raises(ScanError, match="Hounsfield"):
        scan_from_volume_node(a_volume_node)


def test_points_come_in_world_and_only_where_placed(a_scene):
    node = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clicks")
    node.SetAndObserveTransformNodeID(linear_transform(a_scene, ROTATION).GetID())
    node.AddControlPoint((10.0, 20.0, 30.0), "carina")
    node.AddControlPoint((0.0, 0.0, 0.0), "missing")
    node.SetNthControlPointPositionMissing(1)
    node.AddControlPoint((0.0, 0.0, 0.0), "never placed")
    node.UnsetNthControlPointPosition(2)
    points = points_from_markups(node)
    assert list(points) == ["carina"]
    np.testing.assert_allclose(points["carina"], (ROTATION @ (10.0, 20.0, 30.0, 1.0))[:3])


def test_point_lists_that_cannot_be_learned_are_refused(a_scene):
    node = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clicks")
    with raises("Click at least one landmark"):
        points_from_markups(node)
    node.AddControlPoint((1.0, 2.0, 3.0), "apex")
    node.AddControlPoint((4.0, 5.0, 6.0), " apex ")
    with raises("Two points of 'clicks' are called 'apex'"):
        points_from_markups(node)
    node.SetNthControlPointLabel(1, "")
    with raises("Point 2 of 'clicks' has no name"):
        points_from_markups(node)
    with raises("No point list is selected"):
        points_from_markups(None)


def add_segmentation(scene, volume_node, masks: dict[str, np.ndarray]):
    """Segmentation whose segments are boolean (i, j, k) masks on the volume's voxels."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    for name, mask in masks.items():
        labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        slicer.util.updateVolumeFromArray(labelmap, mask.transpose(2, 1, 0).astype(np.uint8))
        labelmap.CopyOrientation(volume_node)
        image = logic.CreateOrientedImageDataFromVolumeNode(labelmap)
        image.UnRegister(None)
        assert logic.SetBinaryLabelmapToSegment(image, node, node.GetSegmentation().AddEmptySegment(name, name))
        scene.RemoveNode(labelmap)
    return node


@pytest.fixture
def masks(a_volume_node):
    liver, spleen = (np.zeros(a_volume_node.GetImageData().GetDimensions(), bool) for _ in range(2))
    liver[10:30, 20:40, 10:25] = True
    spleen[60:70, 10:22, 8:20] = True
    return {"liver": liver, "spleen": spleen}


def test_segments_become_labels_on_the_scans_voxels(a_scene, a_volume_node, masks):
    labels, affine, names = labels_from_segmentation(add_segmentation(a_scene, a_volume_node, masks), a_volume_node)
    assert sorted(names.values()) == ["liver", "spleen"]
    for label, name in names.items():
        np.testing.assert_array_equal(labels == label, masks[name])
    np.testing.assert_allclose(affine, scan_from_volume_node(a_volume_node).ijk_to_ras)


def test_hidden_segments_are_left_out(a_scene, a_volume_node, masks):
    node = add_segmentation(a_scene, a_volume_node, masks)
    node.GetDisplayNode().SetSegmentVisibility("liver", False)
    labels, _, names = labels_from_segmentation(node, a_volume_node)
    assert list(names.values()) == ["spleen"]
    np.testing.assert_array_equal(labels > 0, masks["spleen"])
    node.GetDisplayNode().SetSegmentVisibility("spleen", False)
    with raises("no visible segments"):
        labels_from_segmentation(node, a_volume_node)


def test_segmentation_and_scan_under_different_transforms(a_scene, a_volume_node, masks):
    node = add_segmentation(a_scene, a_volume_node, masks)
    moved = np.eye(4)
    moved[0, 3] = -10.0  # two voxels to the left, where i grows
    node.SetAndObserveTransformNodeID(linear_transform(a_scene, moved).GetID())
    labels, _, names = labels_from_segmentation(node, a_volume_node)
    number = next(label for label, name in names.items() if name == "liver")
    np.testing.assert_array_equal(labels == number, np.roll(masks["liver"], 2, axis=0))


def test_overlapping_segments_are_refused_by_name(a_scene, a_volume_node, masks):
    masks["tumor"] = np.roll(masks["liver"], 5, axis=0)
    with raises("'liver' and 'tumor' overlap"):
        labels_from_segmentation(add_segmentation(a_scene, a_volume_node, masks), a_volume_node)


def test_segmentation_of_surfaces_is_read_and_left_as_it_is(a_scene, a_volume_node, masks):
    node = add_segmentation(a_scene, a_volume_node, masks)
    segmentation = node.GetSegmentation()
    segmentation.CreateRepresentation("Closed surface")
    segmentation.SetSourceRepresentationName("Closed surface")
    segmentation.RemoveRepresentation("Binary labelmap")
    before = contents(a_scene)
    labels, _, names = labels_from_segmentation(node, a_volume_node)
    number = next(label for label, name in names.items() if name == "liver")
    assert np.mean((labels == number)[masks["liver"]]) > 0.95
    assert not segmentation.ContainsRepresentation("Binary labelmap")
    assert contents(a_scene) == before


def test_segmentation_outside_the_scan_and_no_segmentation_are_refused(a_scene, a_volume_node, masks):
    node = add_segmentation(a_scene, a_volume_node, masks)
    far = np.eye(4)
    far[2, 3] = 5000.0
    node.SetAndObserveTransformNodeID(linear_transform(a_scene, far).GetID())
    with raises("lies inside the support scan"):
        labels_from_segmentation(node, a_volume_node)
    with raises("No segmentation is selected"):
        labels_from_segmentation(None, a_volume_node)
