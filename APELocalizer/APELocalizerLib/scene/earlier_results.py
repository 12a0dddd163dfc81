"""What happens to a scan's earlier results when it is localized again: replaced, or kept and hidden. No Qt."""

import slicer
import slicer.util
import vtk

from APELocalizerLib.scene.cleanup import subject_hierarchy
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.references import RUN_ATTRIBUTE, SCAN_REFERENCE
from APELocalizerLib.scene.result_visibility import SHOWN_IN_VIEWS
from APELocalizerLib.scene.results import ResultNodes, folder_title, points_title, put_in_folder, table_title


def replace_earlier_results(volume_node: VolumeNode, nodes: ResultNodes) -> None:
    """Remove what earlier runs made of this scan, and let the new results `nodes` take over its names.

    Kept are results that the user unlocked (they may be corrected by hand), copied, or moved out of their folder, and
    folders that hold anything else.
    """
    hierarchy, scene = subject_hierarchy(), slicer.mrmlScene
    if nodes.overlay_node is not None:
        put_in_folder(nodes.overlay_node, nodes.folder_item_id)
    for folder in _earlier_folders(nodes.folder_item_id):
        for node in _nodes_of_run(folder, volume_node):
            if not (node.IsA("vtkMRMLMarkupsNode") and not node.GetLocked()):
                hierarchy.RemoveItem(hierarchy.GetItemByDataNode(node), False, False)  # as in `cleanup`
                scene.RemoveNode(node)
        if not hierarchy.GetNumberOfItemChildren(folder):
            hierarchy.RemoveItem(folder, False, False)
    _take_names(volume_node, nodes)


def hide_earlier_results(volume_node: VolumeNode, nodes: ResultNodes) -> None:
    """Hide the points and boxes of this scan's earlier results; they can be shown again in the Data module."""
    new = {nodes.points_node.GetID(), *(roi.GetID() for roi in nodes.roi_nodes.values())}
    for kind in SHOWN_IN_VIEWS:
        for node in slicer.util.getNodesByClass(kind):
            if node.GetNodeReference(SCAN_REFERENCE) is volume_node and node.GetID() not in new:
                node.SetDisplayVisibility(0)


def _earlier_folders(newest: int) -> list[int]:
    """Items of result folders other than the newest."""
    hierarchy, items = subject_hierarchy(), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    all_items = (items.GetId(index) for index in range(items.GetNumberOfIds()))
    return [item for item in all_items if item != newest and hierarchy.GetItemAttribute(item, RUN_ATTRIBUTE)]


def _nodes_of_run(folder: int, volume_node: VolumeNode) -> list:
    """Nodes that a run made of the scan, and that still lie in its folder."""
    hierarchy = subject_hierarchy()
    ids = hierarchy.GetItemAttribute(folder, RUN_ATTRIBUTE).split()
    nodes = (slicer.mrmlScene.GetNodeByID(node_id) for node_id in ids)
    return [
        node
        for node in nodes
        if node is not None
        and node.GetNodeReference(SCAN_REFERENCE) is volume_node
        and hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder
    ]


def _take_names(volume_node: VolumeNode, nodes: ResultNodes) -> None:
    """Give the new results the names that became free."""
    scene, hierarchy = slicer.mrmlScene, subject_hierarchy()
    titles = {nodes.points_node: points_title(volume_node), nodes.table_node: table_title(volume_node)}
    titles |= {roi: name for name, roi in nodes.roi_nodes.items()}
    for node, title in titles.items():
        if node.GetName() != title and not scene.GetFirstNodeByName(title):
            node.SetName(title)
    parent, title = hierarchy.GetItemParent(nodes.folder_item_id), folder_title(volume_node)
    if not hierarchy.GetItemChildWithName(parent, title):
        hierarchy.SetItemName(nodes.folder_item_id, title)
