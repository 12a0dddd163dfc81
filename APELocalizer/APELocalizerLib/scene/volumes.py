"""Nodes of the scene as core types.

Everything leaves the scene in RAS world coordinates: parent transforms are applied. Linear ones are carried exactly
in the 4x4 matrix; a non-linear one cannot be, and is refused with the advice to harden it.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import slicer
import slicer.util
import vtk

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.scene.cleanup import temporary_nodes
from APELocalizerLib.scene.nodes import SegmentationNode, VolumeNode

BINARY = "Binary labelmap"


def scan_from_volume_node(node) -> Scan:
    """CT volume node as a `Scan`: voxels (i, j, k) are a view of the node's own memory, ijk_to_ras leads to world.

    Raises SceneError for a node that is not a scalar volume, has no voxels, has several values per voxel or sits
    under a non-linear transform; ScanError for voxels that are not a usable CT.
    """
    check_scalar_volume(node)
    return Scan(slicer.util.arrayFromVolume(node).transpose(2, 1, 0), ijk_to_world(node), node.GetName() or "scan")


def check_scalar_volume(node) -> None:
    """Raise SceneError unless `node` is a volume with exactly one value per voxel."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise SceneError("No CT volume is selected. Choose a CT scan.")
    image, name = node.GetImageData(), node.GetName()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise SceneError(f"The volume '{name}' holds no voxels. Load the scan again or choose another one.")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise SceneError(f"The volume '{name}' has {components} values per voxel; a CT has one. Choose a CT scan.")


def ijk_to_world(volume_node: VolumeNode) -> np.ndarray:
    """4x4 matrix from the volume's voxel indices (i, j, k) to RAS world mm, parent transform included."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return parent_to_world(volume_node) @ slicer.util.arrayFromVTKMatrix(matrix)


def parent_to_world(node) -> np.ndarray:
    """4x4 matrix from a node's local coordinates to RAS world, through all its parent transforms.

    Raises SceneError if one of them is not linear.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise SceneError(
            f"'{node.GetName()}' is under the non-linear transform '{transform.GetName()}'. "
            "Harden it (right-click the volume in the Data module, 'Harden transform') and try again."
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def points_from_markups(node) -> dict[str, np.ndarray]:
    """Named control points of a markups node: {label: (3,) RAS world mm}, in the node's order.

    Only points with a defined position count (a preview, missing or undefined one does not). Raises SceneError for
    an empty list, a point without a name or two points with one name.
    """
    if node is None or not node.IsA("vtkMRMLMarkupsNode"):
        raise SceneError("No point list is selected. Choose a point list or click landmarks on the support scan.")
    points: dict[str, np.ndarray] = {}
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) != slicer.vtkMRMLMarkupsNode.PositionDefined:
            continue
        name = (node.GetNthControlPointLabel(index) or "").strip()
        if not name:
            raise SceneError(f"Point {index + 1} of '{node.GetName()}' has no name. Name each landmark.")
        if name in points:
            raise SceneError(f"Two points of '{node.GetName()}' are called '{name}'. Give each landmark its own name.")
        points[name] = np.array(node.GetNthControlPointPositionWorld(index), dtype=np.float64)
    if not points:
        raise SceneError(f"'{node.GetName()}' holds no placed points. Click at least one landmark.")
    return points


def labels_from_segmentation(
    segmentation_node: SegmentationNode, reference_volume_node: VolumeNode
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Visible segments on the voxel grid of a reference volume.

    Returns labels (i, j, k) int32 (0 = background), the grid's 4x4 index-to-RAS-world matrix, and {label: segment
    name} of the segments that lie inside the volume. A segmentation that was never shown counts as visible. The two
    nodes may be under different linear transforms; neither is changed. Raises SceneError for no segments, two with
    one name, or two that overlap.
    """
    if segmentation_node is None or not segmentation_node.IsA("vtkMRMLSegmentationNode"):
        raise SceneError("No segmentation is selected. Choose the segmentation of the support scan.")
    check_scalar_volume(reference_volume_node)
    parent_to_world(segmentation_node)
    affine = ijk_to_world(reference_volume_node)
    names = segment_names(segmentation_node)
    labels = np.zeros(reference_volume_node.GetImageData().GetDimensions(), dtype=np.int32)
    numbers = {segment_id: number for number, segment_id in enumerate(names, start=1)}
    names_inside: dict[int, str] = {}
    with _with_voxels(segmentation_node) as node:
        for segment_ids in _layers(node, list(names)):
            layer = _export(node, segment_ids, reference_volume_node)
            for position, segment_id in enumerate(segment_ids, start=1):
                mask = layer == position
                if mask.any():
                    _add(labels, mask, numbers[segment_id], names[segment_id], names_inside)
    if not names_inside:
        raise SceneError(f"No visible segment of '{segmentation_node.GetName()}' lies inside the support scan.")
    return labels, affine, dict(sorted(names_inside.items()))


def _add(labels: np.ndarray, mask: np.ndarray, number: int, name: str, added: dict[int, str]) -> None:
    """Write one segment into the label map, and its name into `added`."""
    overlapped = labels[mask]
    if overlapped.any():
        other = added[int(overlapped[overlapped > 0][0])]
        raise SceneError(f"The segments '{other}' and '{name}' overlap. Hide one, learn, then learn the other.")
    labels[mask] = number
    added[number] = name


def segment_names(node) -> dict[str, str]:
    """Segment ids and names of the visible segments, in the node's order."""
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    names: dict[str, str] = {}
    for segment_id in segmentation.GetSegmentIDs():
        if display is not None and not display.GetSegmentVisibility(segment_id):
            continue
        name = (segmentation.GetSegment(segment_id).GetName() or "").strip()
        if not name:
            raise SceneError(f"A segment of '{node.GetName()}' has no name. Name each organ.")
        if name in names.values():
            raise SceneError(f"Two segments of '{node.GetName()}' are called '{name}'. Give each organ its own name.")
        names[segment_id] = name
    if not names:
        raise SceneError(f"'{node.GetName()}' has no visible segments. Show the organs that are to be learned.")
    return names


@contextlib.contextmanager
def _with_voxels(node) -> Iterator[object]:
    """The node itself if its segments are voxels, otherwise a temporary copy of it that is turned into voxels."""
    if node.GetSegmentation().ContainsRepresentation(BINARY):
        yield node
        return
    with temporary_nodes():
        copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "temporary segments")
        copy.GetSegmentation().DeepCopy(node.GetSegmentation())
        copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        if not copy.GetSegmentation().CreateRepresentation(BINARY):
            raise SceneError(f"The segments of '{node.GetName()}' cannot be turned into voxels.")
        yield copy


def _layers(node, segment_ids: list[str]) -> list[list[str]]:
    """Segments grouped by shared labelmap: those of one group cannot overlap and are exported together."""
    segmentation = node.GetSegmentation()
    groups: dict[int, list[str]] = {}
    for segment_id in segment_ids:
        groups.setdefault(segmentation.GetLayerIndex(segment_id, BINARY), []).append(segment_id)
    return list(groups.values())


def _export(node, segment_ids: list[str], reference_volume_node: VolumeNode) -> np.ndarray:
    """Labels 1..n (i, j, k) of the segments on the reference volume's grid."""
    ids = vtk.vtkStringArray()
    for segment_id in segment_ids:
        ids.InsertNextValue(segment_id)
    with temporary_nodes():
        labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "temporary labels")
        export = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode
        if not export(node, ids, labelmap, reference_volume_node):
            raise SceneError(f"The segments of '{node.GetName()}' could not be resampled to the scan.")
        return slicer.util.arrayFromVolume(labelmap).transpose(2, 1, 0).copy()
