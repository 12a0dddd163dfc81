"""Nothing half-done stays in the scene: contexts that take back the nodes made inside them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import slicer
import vtk


@contextlib.contextmanager
def all_or_nothing() -> Iterator[None]:
    """Remove every node and subject hierarchy item made inside the context if it is left by an exception."""
    nodes, items = _node_ids(), _item_ids()
    try:
        yield
    except BaseException:  # also KeyboardInterrupt: what was made is taken back, and the exception goes on
        _remove_new(nodes, items)
        raise


@contextlib.contextmanager
def temporary_nodes() -> Iterator[None]:
    """Remove every node and subject hierarchy item made inside the context when it is left."""
    nodes, items = _node_ids(), _item_ids()
    try:
        yield
    finally:
        _remove_new(nodes, items)


def subject_hierarchy() -> Any:
    """The scene's subject hierarchy node (made if the scene has none)."""
    return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(slicer.mrmlScene)


def _node_ids() -> set[str]:
    scene = slicer.mrmlScene
    return {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}


def _item_ids() -> set[int]:
    hierarchy, items = subject_hierarchy(), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return {items.GetId(index) for index in range(items.GetNumberOfIds())}


def _remove_new(nodes: set[str], items: set[int]) -> None:
    hierarchy, scene = subject_hierarchy(), slicer.mrmlScene
    for item in sorted(_item_ids() - items, reverse=True):  # children are newer than their folder
        hierarchy.RemoveItem(item, False, False)
    for node_id in sorted(_node_ids() - nodes):
        node = scene.GetNodeByID(node_id)
        if node is not None and node is not hierarchy:
            scene.RemoveNode(node)
