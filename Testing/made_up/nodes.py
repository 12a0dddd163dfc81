"""What the tests of the scene share: results, transforms, and a look at what is in a scene."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.localization.answers import LocatedOrgan, LocatedPoint

LIVER = Code("SCT", "10200004", "Liver")
LIVER_BOX = Box((0.0, -60.0, -90.0), (140.0, 80.0, 0.0))
CARINA = (5.0, 0.0, 60.0)
ROTATION = np.array([[0.8, -0.6, 0.0, 30.0], [0.6, 0.8, 0.0, -20.0], [0.0, 0.0, 1.0, 50.0], [0.0, 0.0, 0.0, 1.0]])
STRETCH = np.diag([1.5, 0.75, 1.2, 1.0])
SHEAR = np.array([[1.0, 0.0, 0.0, 5.0], [0.0, 1.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
TRANSFORMS = {"rotated": ROTATION, "mirrored": np.diag([-1.0, 1.0, 1.0, 1.0]), "sheared": SHEAR, "stretched": STRETCH}


def located(name: str, position) -> LocatedPoint:
    return LocatedPoint(name, True, tuple(position), tuple(position), 3.2, 1.5, "", (1.0, 0.8, 0.2))


def located_box(name: str, box: Box, code: Code | None = None) -> LocatedOrgan:
    return LocatedOrgan(name, True, box, box, 1.1, 0.4, 5.5, 2.0, (CARINA,) * 6, "", (0.8, 0.3, 0.2), code)


def linear_transform(scene, matrix: np.ndarray, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def bent_transform(scene):
    """A transform that is not linear: the middle of space is pulled to one side."""
    points = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.indices((2, 2, 2)).reshape(3, -1).T * 200.0 - 100.0:
        points[0].InsertNextPoint(corner)
        points[1].InsertNextPoint(corner)
    points[0].InsertNextPoint(0, 0, 0)
    points[1].InsertNextPoint(30, 0, 0)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "breathing")
    node.SetAndObserveTransformToParent(spline)
    return node


def overwrite_descriptions(scene) -> None:
    """Do what the application does soon after a box was made (WriteMeasurementsToDescription): describe it anew, by its
    measurements."""
    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode", scene):
        node.SetDescription("volume: 1.0cm3")


def contents(scene) -> tuple[set[str], int]:
    """Ids of all nodes and the number of subject hierarchy items: to see whether anything was left behind."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    return {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}, hierarchy.GetNumberOfItems()


def raises(text: str):
    """A SceneError whose sentence contains `text`."""
    return pytest.raises(SceneError, match=text)
