"""What the panel shows, typed, in a node that is saved with the scene."""

from typing import TYPE_CHECKING, Annotated, Any

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from APELocalizerLib.scene.choices import Overlay, Spacing, SupportCTs


@parameterNodeWrapper
class APELocalizerParameterNode:
    """What the panel shows, kept in the scene.

    scan: CT on which to find; support, points, segmentation: CT, clicked landmarks and organs to learn from;
    spacing: accuracy against time; replaceResults: whether a run replaces the scan's earlier results;
    overlay, opacity: what is drawn over the scan; supportCTs: whether the scene keeps the supports' coarse CTs;
    device: "auto" or a name such as "cuda:1"; model: registry id, or a file's name (see `model_files`); resultPoints,
    resultTable: the last run's nodes.
    """

    scan: vtkMRMLScalarVolumeNode
    support: vtkMRMLScalarVolumeNode
    points: vtkMRMLMarkupsFiducialNode
    segmentation: vtkMRMLSegmentationNode
    spacing: Spacing = Spacing.STANDARD
    replaceResults: bool = True
    overlay: Overlay = Overlay.RGB
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.4
    supportCTs: SupportCTs = SupportCTs.UNLESS_IN_FILE
    device: str = "auto"
    model: str = "default"
    resultPoints: vtkMRMLMarkupsFiducialNode
    resultTable: vtkMRMLTableNode

    if TYPE_CHECKING:  # what the wrapper adds
        parameterNode: Any

        def __init__(self, parameterNode: Any) -> None: ...
        def connectGui(self, gui: Any) -> int: ...
        def disconnectGui(self, tag: int) -> None: ...
