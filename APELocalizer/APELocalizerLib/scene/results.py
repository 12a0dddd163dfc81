"""A `Localization` as nodes of the scene: landmarks, boxes, a table and the overlay, in one folder beside the scan.

Positions come in as RAS world mm. The nodes are put under the scan's own parent transform, in its coordinates, so
that they lie right now and keep lying on the same anatomy when the scan is moved later.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer
import slicer.util

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.spoken_names import spoken_names
from APELocalizerLib.scene.cleanup import all_or_nothing, subject_hierarchy
from APELocalizerLib.scene.nodes import BoxNode, MarkupsNode, TableNode, VolumeNode
from APELocalizerLib.scene.overlays import add_rgb_overlay
from APELocalizerLib.scene.references import RUN_ATTRIBUTE, SCAN_REFERENCE
from APELocalizerLib.scene.result_table import fill_table, organ_note
from APELocalizerLib.scene.slice_views import rendering_paused
from APELocalizerLib.scene.volumes import check_scalar_volume, parent_to_world

if TYPE_CHECKING:  # these modules load torch, which showing results does not need
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.entries import Code
    from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint

POINT_COLOR = (1.0, 0.8, 0.2)
TERMINOLOGY_ATTRIBUTE = "Terminologies.TerminologyEntry"


@dataclass(frozen=True)
class ResultNodes:
    """What one run put into the scene. `roi_nodes` maps the name of each found organ to its ROI node."""

    folder_item_id: int
    points_node: MarkupsNode
    roi_nodes: dict[str, BoxNode]
    table_node: TableNode
    overlay_node: VolumeNode | None = None


def show_localization(
    volume_node: VolumeNode,
    localization: "Localization",
    embedding_map: "EmbeddingMap | None" = None,
    folder_name: str | None = None,
    overlay_node: VolumeNode | None = None,
    anchored: bool = True,
) -> ResultNodes:
    """Show what was found on a scan; with `embedding_map` also its RGB overlay.

    An `overlay_node` of the same map that an earlier run made is used again, and stays in that run's folder.
    `anchored`: whether the map's channels are anatomical directions (see `overlays.add_rgb_overlay`).
    The folder lies under the scan's study (or wherever the scan lies). Every name is made unique by choosing another
    name for the new node: nodes that are already in the scene are never touched. All or nothing: if anything fails,
    what was made so far is removed. Raises SceneError for an unusable scan node.
    """
    check_scalar_volume(volume_node)
    parent_to_world(volume_node)
    with rendering_paused(), all_or_nothing():
        folder = _add_folder(volume_node, folder_name or folder_title(volume_node))
        points_node = _add_points(volume_node, localization)
        roi_nodes = {organ.name: _add_roi(volume_node, organ) for organ in localization.organs if organ.found}
        table_node = _add_table(volume_node, localization)
        new = [points_node, *roi_nodes.values(), table_node]
        if embedding_map is not None and overlay_node is None:
            overlay_node = add_rgb_overlay(volume_node, embedding_map, anchored)
            new.append(overlay_node)
        for node in new:
            put_in_folder(node, folder)
        subject_hierarchy().SetItemAttribute(folder, RUN_ATTRIBUTE, " ".join(node.GetID() for node in new))
        return ResultNodes(folder, points_node, roi_nodes, table_node, overlay_node)


def folder_title(volume_node: VolumeNode) -> str:
    """Name of the folder with a scan's results, if it is free."""
    return f"{volume_node.GetName()} landmarks"


def points_title(volume_node: VolumeNode) -> str:
    """Name of the point list with a scan's landmarks, if it is free."""
    return f"{volume_node.GetName()} landmarks"


def table_title(volume_node: VolumeNode) -> str:
    """Name of the table with a scan's results, if it is free."""
    return f"{volume_node.GetName()} landmark table"


def put_in_folder(node, folder_item_id: int) -> None:
    """Move a node's subject hierarchy item under a folder; outside Slicer's GUI the item is made first."""
    hierarchy = subject_hierarchy()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder_item_id, node)
    hierarchy.SetItemParent(item, folder_item_id)


def _add_folder(volume_node: VolumeNode, name: str) -> int:
    hierarchy = subject_hierarchy()
    scan_item = hierarchy.GetItemByDataNode(volume_node)
    parent = hierarchy.GetSceneItemID()
    if scan_item:
        study = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
        parent = hierarchy.GetItemAncestorAtLevel(scan_item, study) or hierarchy.GetItemParent(scan_item) or parent
    unique, number = name, 1
    while hierarchy.GetItemChildWithName(parent, unique):
        number += 1
        unique = f"{name} {number}"
    return hierarchy.CreateFolderItem(parent, unique)


def _add_node(class_name: str, name: str, volume_node: VolumeNode):
    """New node with a unique name under the scan's parent transform, and a reference to the scan."""
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass(class_name, _free_name(name))
    node.SetNodeReferenceID(SCAN_REFERENCE, volume_node.GetID())
    if node.IsA("vtkMRMLDisplayableNode"):
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        node.CreateDefaultDisplayNodes()
    return node


def _free_name(name: str) -> str:
    """The name itself, or the first of name_1, name_2 … that no node has; Slicer's own would count on for ever."""
    scene, unique, number = slicer.mrmlScene, name, 0
    while scene.GetFirstNodeByName(unique):
        number += 1
        unique = f"{name}_{number}"
    return unique


def _add_points(volume_node: VolumeNode, localization: "Localization"):
    node = _add_node("vtkMRMLMarkupsFiducialNode", points_title(volume_node), volume_node)
    node.SetAttribute("APELocalizer.CheckpointId", localization.model_id)
    node.SetAttribute("APELocalizer.Spacing", localization.spacing)
    colors = {point.color for point in localization.points}
    _set_color(node, colors.pop() if len(colors) == 1 else POINT_COLOR)
    labels = spoken_names(point.name for point in localization.points)
    for point in localization.points:
        _add_point(node, point, labels[point.name])
    node.SetLocked(True)
    display = node.GetDisplayNode()
    display.SetPointLabelsVisibility(True)
    display.SetTextScale(3.0)
    display.SetGlyphScale(2.0)
    return node


def _add_point(node, point: "LocatedPoint", label: str) -> None:
    from APELocalizerLib.core.localization.answers import confidence_text  # not at file scope: it loads torch

    index = node.AddControlPointWorld(point.position_ras if point.found else (0.0, 0.0, 0.0), label)
    node.SetNthControlPointLabel(index, label)
    node.SetNthControlPointDescription(index, confidence_text(point))
    if not point.found:
        node.SetNthControlPointPositionMissing(index)


def _add_roi(volume_node: VolumeNode, organ: "LocatedOrgan"):
    node = _add_node("vtkMRMLMarkupsROINode", organ.name, volume_node)
    if organ.box is not None:
        _place_roi(node, organ.box, parent_to_world(volume_node))
    node.SetLocked(True)
    node.SetNthControlPointVisibility(0, False)  # the handle in the middle looks like a landmark
    node.SetNthControlPointDescription(0, organ_note(organ))  # Slicer overwrites the node's own description
    if organ.code is not None:
        node.SetAttribute(TERMINOLOGY_ATTRIBUTE, terminology_entry(organ.code))
    _set_color(node, organ.color)
    display = node.GetDisplayNode()
    display.SetFillOpacity(0.05)
    display.SetHandlesInteractive(False)
    display.SetPropertiesLabelVisibility(True)
    display.SetTextScale(3.0)
    return node


def _place_roi(node, box: Box, parent_matrix: np.ndarray) -> None:
    """Let a ROI under a parent transform cover a box that is axis-aligned in world."""
    local = np.linalg.inv(parent_matrix)
    center = np.append(box.center, 1.0)
    stretch = np.linalg.norm(local[:3, :3], axis=0)
    object_to_node = np.eye(4)
    object_to_node[:3, :3] = local[:3, :3] / stretch
    if np.linalg.det(object_to_node[:3, :3]) < 0:  # mirroring an axis keeps the box, and makes it right-handed
        object_to_node[:3, 0] *= -1
    object_to_node[:3, 3] = (local @ center)[:3]
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(object_to_node))
    node.SetSize(*(box.size * stretch))


def _set_color(node, color: tuple[float, float, float]) -> None:
    display = node.GetDisplayNode()
    display.SetColor(*color)
    display.SetSelectedColor(*color)


def _add_table(volume_node: VolumeNode, localization: "Localization"):
    node = _add_node("vtkMRMLTableNode", table_title(volume_node), volume_node)
    fill_table(node, localization)
    return node


def terminology_entry(code: "Code") -> str:
    """Slicer's serialized terminology entry for an anatomical structure (vtkSlicerTerminologiesModuleLogic)."""
    return (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
        f"~{code.scheme}^{code.value}^{code.meaning}~^^~Anatomic codes - DICOM master list~^^~^^"
    )
