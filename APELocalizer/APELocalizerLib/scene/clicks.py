"""Whether landmarks were clicked on the scan they are to be learned from. No Qt."""

import slicer

from APELocalizerLib.scene.nodes import MarkupsNode, VolumeNode


def clicked_elsewhere(points_node: MarkupsNode, support_node: VolumeNode) -> dict[str, list[str]]:
    """Labels of points that were clicked on another scan than the support: {name of that scan: labels}.

    Slicer notes for each clicked point which volume was in view. Points made by a program carry no such note, and
    points on a volume that is no longer in the scene cannot be judged: neither is listed.
    """
    elsewhere: dict[str, list[str]] = {}
    if points_node is None or support_node is None:
        return elsewhere
    for index in range(points_node.GetNumberOfControlPoints()):
        if points_node.GetNthControlPointPositionStatus(index) != slicer.vtkMRMLMarkupsNode.PositionDefined:
            continue
        volume = slicer.mrmlScene.GetNodeByID(points_node.GetNthControlPointAssociatedNodeID(index) or "")
        if volume is not None and volume.IsA("vtkMRMLVolumeNode") and volume is not support_node:
            elsewhere.setdefault(volume.GetName(), []).append(points_node.GetNthControlPointLabel(index))
    return elsewhere
