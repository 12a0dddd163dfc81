"""Learning organs from a segmentation, in the panel."""

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk


def with_liver(scene, patient, phantom):
    """A segmentation of the patient's scan that holds a liver, and the liver's voxels."""
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(patient.volume)
    liver = np.zeros(phantom.voxels.shape, dtype=np.uint8)
    liver[40:52, 18:30, 8:18] = 1
    add_segment(segmentation, "liver", liver, phantom.ijk_to_ras)
    return segmentation, liver


def test_organs_of_a_segmentation_are_found_as_boxes(panel, patient, scene, phantom):
    segmentation, _ = with_liver(scene, patient, phantom)
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    panel.click("learnOrgansButton")
    panel.wait()
    assert "1 organ " in panel.ui.librarySummaryLabel.text
    panel.localize(patient.volume)
    assert panel.rows()[0][0] == "liver"
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1


def test_organs_that_cannot_be_learned_are_named(panel, patient, scene, phantom):
    segmentation, liver = with_liver(scene, patient, phantom)
    far_away = np.eye(4)
    far_away[:3, 3] = 5000.0
    add_segment(segmentation, "bladder", liver, far_away)
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    panel.click("learnOrgansButton")
    panel.wait()
    assert panel.session.library.names == ("liver",)
    assert "Left out" in panel.ui.warningsLabel.text and "bladder" in panel.ui.warningsLabel.text


def add_segment(segmentation, name: str, mask: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """A segment from a mask (i, j, k)."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape)
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(order="F"), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation("Binary labelmap", image)
    segmentation.GetSegmentation().AddSegment(segment)
