"""The 3D tile of a snapshot: see-through bones and skin with landmarks and boxes, seen from the front."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product

import numpy as np
import slicer
import slicer.util
import vtk
from scipy import ndimage
from vtk.util import numpy_support

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.spoken_names import spoken_name
from APELocalizerLib.scene.cleanup import temporary_nodes
from APELocalizerLib.scene.display_grid import DisplayGrid, coarse_grid, large_parts
from APELocalizerLib.scene.labels import Label, place_labels
from APELocalizerLib.scene.nodes import BoxNode, VolumeNode
from APELocalizerLib.scene.rendering import ThreeDView

LABEL_SIZE = 18
VOXEL_MM = 3.0
BONE_HU = 200.0
BONE = ((0.93, 0.89, 0.80), 0.45)
SKIN = ((0.75, 0.55, 0.45), 0.12)
"""Color and opacity."""


def threed_tile(
    volume_node: VolumeNode,
    points: dict[str, np.ndarray],
    roi_nodes: Mapping[str, BoxNode],
    size: tuple[int, int],
    body: Box,
) -> np.ndarray:
    """Picture (height, width, 3) uint8 of the body with landmarks and boxes, and a name at each.

    `points` are RAS world mm by name. Every node made for it is removed again.
    """
    height_mm = max(body.size[2], body.size[0] * size[1] / size[0]) * 1.12
    with temporary_nodes():
        grid = coarse_grid(volume_node, VOXEL_MM)
        body_mask = large_parts(ndimage.binary_opening(grid.hu > -500.0))
        _add_surface(grid, np.where(ndimage.binary_dilation(body_mask), grid.hu, -1000.0), BONE_HU, 0.7, BONE)
        _add_surface(grid, body_mask.astype(np.float32), 0.5, 1.2, SKIN)
        _add_points(points)
        view = ThreeDView(size)
        try:
            view.look_at(body.center, height_mm)
            with _unnamed(list(roi_nodes.values())):
                for label in _labels(view, points, roi_nodes):
                    view.add_text(label.text, label.position, label.size, color=label.color)
                return view.capture()
        finally:
            view.close()


def _add_surface(grid: DisplayGrid, values: np.ndarray, level: float, blur: float, look) -> None:
    """Model node of the surface where the blurred values cross a level."""
    smooth = np.pad(ndimage.gaussian_filter(values.astype(np.float32), blur), 1, constant_values=float(values.min()))
    image = vtk.vtkImageData()
    image.SetDimensions(*smooth.shape)
    image.SetOrigin(-1, -1, -1)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(smooth.ravel(order="F"), deep=True))
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, level)
    edges.ComputeNormalsOff()
    edges.ComputeScalarsOff()
    to_world = vtk.vtkTransform()
    to_world.SetMatrix(slicer.util.vtkMatrixFromArray(grid.ijk_to_world))
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetInputConnection(edges.GetOutputPort())
    placed.SetTransform(to_world)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(placed.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "snapshot surface")
    node.SetAndObservePolyData(normals.GetOutput())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetScalarVisibility(False)
    display.SetBackfaceCulling(False)
    display.SetColor(*look[0])
    display.SetOpacity(look[1])


@contextmanager
def _unnamed(roi_nodes: list[BoxNode]) -> Iterator[None]:
    """Boxes without their own names, which would lie over each other."""
    displays = [node.GetDisplayNode() for node in roi_nodes]
    before = [display.GetPropertiesLabelVisibility() for display in displays]
    for display in displays:
        display.SetPropertiesLabelVisibility(False)
    try:
        yield
    finally:
        for display, visible in zip(displays, before, strict=True):
            display.SetPropertiesLabelVisibility(visible)


def _labels(view: ThreeDView, points: dict[str, np.ndarray], roi_nodes: Mapping[str, BoxNode]) -> list[Label]:
    """Names at the upper left of the boxes, and beside the points, none over another."""
    anchors = []
    for name, node in roi_nodes.items():
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        corners = np.array([view.to_pixel(corner) for corner in product(bounds[:2], bounds[2:4], bounds[4:])])
        front = view.to_pixel((bounds[1], bounds[3], bounds[5]))
        color = node.GetDisplayNode().GetSelectedColor()
        anchors.append(Label(spoken_name(name), (corners[:, 0].min(), front[1]), LABEL_SIZE, color, inside=True))
    anchors += [Label(spoken_name(name), tuple(view.to_pixel(point)), LABEL_SIZE) for name, point in points.items()]
    return place_labels(anchors, view.size)


def _add_points(points: dict[str, np.ndarray]) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "snapshot points")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSelectedColor(1.0, 0.85, 0.2)
    display.SetUseGlyphScale(True)
    display.SetGlyphScale(2.2)
    display.SetPointLabelsVisibility(False)
    display.SetOccludedVisibility(True)
    display.SetOccludedOpacity(0.7)
    for index, point in enumerate(points.values()):
        node.AddControlPointWorld(tuple(point))
        node.SetNthControlPointLabel(index, "")
