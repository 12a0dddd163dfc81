"""The embedding map over the slices: three channels as colors, one channel, or the similarity to one landmark.

An overlay is a volume on the scan's own grid, coarsened to voxels of about 3 mm (the map is smooth, and at full
resolution that of a large CT would take more memory than the CT itself, and seconds to draw), under the scan's parent
transform. Outside the body it is transparent.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
import slicer.util

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.core.base.geometry import subgrid_affine
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_sampling import sample_on_grid
from APELocalizerLib.core.embedding.trilinear import PAD, extend_from_mask
from APELocalizerLib.scene.cleanup import all_or_nothing, subject_hierarchy
from APELocalizerLib.scene.color_maps import heat_colors, viridis_colors
from APELocalizerLib.scene.display_grid import DisplayGrid, body_outline, coarse_grid
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.references import SCAN_REFERENCE

CHANNEL_NAMES = ("right-left", "posterior-anterior", "inferior-superior")
VOXEL_MM = 3.0
LEAST_SIMILARITY = 0.2
"""Below this a place is so unlike the landmark that the heat map is transparent there."""
DARKEST = 40.0
"""Smallest color component inside the body, so that no body voxel is as dark as air."""
RANGES_ATTRIBUTE = "APELocalizer.ChannelRanges"


def add_rgb_overlay(
    volume_node: VolumeNode,
    embedding_map: EmbeddingMap,
    anchored: bool = True,
    ranges: tuple[tuple[float, float], ...] | None = None,
) -> VolumeNode:
    """Add the map as a color volume: red = right, green = anterior, blue = superior.

    Each channel is stretched from its 1st to its 99th percentile in the body, or over the given `ranges` (low, high)
    of embedding units, so that several scans can share their colors; the ranges are kept in the node's attribute
    "APELocalizer.ChannelRanges". With `anchored` False the channels of the model are not ordered
    anatomically, and the node's name does not promise so. Returns a vtkMRMLVectorVolumeNode.
    """
    grid = coarse_grid(volume_node, VOXEL_MM)
    values, body = _sample(embedding_map, grid)
    inside = values[body]
    ranges = ranges or tuple(map(tuple, np.percentile(inside, (1, 99), axis=0).T))
    low, high = np.array(ranges, dtype=np.float32).T
    fraction = np.clip((inside - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
    colors = np.zeros((*body.shape, 3), dtype=np.uint8)
    colors[body] = DARKEST + fraction * (255.0 - DARKEST)
    name = "anatomical coordinates" if anchored else "anatomical embedding"
    with all_or_nothing():
        node = _add_volume("vtkMRMLVectorVolumeNode", f"{volume_node.GetName()} {name}", volume_node, colors, grid)
        node.SetAttribute(RANGES_ATTRIBUTE, " ".join(f"{value:g}" for pair in ranges for value in pair))
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(255.0, 127.5)
        _hide_below(display, DARKEST / 2, 255.0)
    return node


def add_channel_overlay(volume_node: VolumeNode, embedding_map: EmbeddingMap, channel: int) -> VolumeNode:
    """Add one channel (0 right-left, 1 posterior-anterior, 2 inferior-superior) as a scalar volume with a color map.

    Voxel values are embedding units (mm for anchored models). Returns a vtkMRMLScalarVolumeNode.
    """
    if channel not in (0, 1, 2):
        raise SceneError(f"There is no channel {channel}: choose 0 (right-left), 1 (posterior-anterior) or 2 (height).")
    grid = coarse_grid(volume_node, VOXEL_MM)
    values, body = _sample(embedding_map, grid)
    low, high = (float(limit) for limit in np.percentile(values[body][:, channel], (0.5, 99.5)))
    name = f"{volume_node.GetName()} {CHANNEL_NAMES[channel]}"
    return _add_scalar(volume_node, name, values[..., channel], body, grid, (low, high), low, viridis_colors)


def add_similarity_overlay(
    volume_node: VolumeNode, embedding_map: EmbeddingMap, query: Sequence[float], name: str
) -> VolumeNode:
    """Add the similarity 0..1 to one query embedding (3,) as a heat map; the dissimilar is transparent.

    `name` is the landmark's name. Returns a vtkMRMLScalarVolumeNode.
    """
    grid = coarse_grid(volume_node, VOXEL_MM)
    values, body = _sample(embedding_map, grid)
    fine = replace(embedding_map, values=values, body=body, grid_to_ras=grid.ijk_to_world)
    similarity = fine.similarity(np.asarray(query, dtype=np.float64).reshape(3))
    title = f"{volume_node.GetName()} similarity to {name}"
    return _add_scalar(volume_node, title, similarity, body, grid, (0.0, 1.0), LEAST_SIMILARITY, heat_colors)


def show_in_slices(overlay_node: VolumeNode | None, opacity: float = 0.4) -> None:
    """Show an overlay as the foreground of all slice views; None takes the foreground away."""
    slicer.util.setSliceViewerLayers(foreground=overlay_node, foregroundOpacity=float(opacity))


def _sample(embedding_map: EmbeddingMap, grid: DisplayGrid) -> tuple[np.ndarray, np.ndarray]:
    """Map values (i, j, k, 3) float32 and body (i, j, k) bool on a display grid.

    The map's own mask has the size of its cells (10 to 15 mm); the outline shown is that of the scan itself.
    """
    values = extend_from_mask(embedding_map.values, embedding_map.body)
    extended = replace(
        embedding_map,
        values=values,
        body=np.ones(values.shape[:3], dtype=bool),
        grid_to_ras=subgrid_affine(embedding_map.grid_to_ras, (-PAD,) * 3, (1,) * 3),
    )
    values = sample_on_grid(extended, grid.hu.shape, grid.ijk_to_world)
    body = body_outline(embedding_map, grid) & np.isfinite(values).all(axis=3)
    if not body.any():
        raise SceneError("The map does not belong to this scan: their bodies do not overlap. Compute the map again.")
    return np.where(body[..., None], values, np.float32(0.0)), body


def _add_scalar(
    volume_node: VolumeNode,
    name: str,
    values: np.ndarray,
    body: np.ndarray,
    grid: DisplayGrid,
    window: tuple[float, float],
    least: float,
    colors: Callable[[], Any],
) -> VolumeNode:
    """Scalar volume whose voxels outside the body or below `least` are transparent; `window` is the color range."""
    low, high = window
    air = low - 20.0 * (high - low)  # far below, so that interpolation at the skin shows no fringe
    array = np.where(body, np.clip(values, low, high), air).astype(np.float32)
    with all_or_nothing():
        node = _add_volume("vtkMRMLScalarVolumeNode", name, volume_node, array, grid)
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(colors().GetID())
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(low, high)
        _hide_below(display, least - 1e-3 * (high - low), high)
    return node


def _add_volume(class_name: str, name: str, volume_node: VolumeNode, array: np.ndarray, grid: DisplayGrid) -> Any:
    """New volume node from (i, j, k[, component]) voxels, beside the scan in the subject hierarchy."""
    scene, hierarchy = slicer.mrmlScene, subject_hierarchy()
    node = scene.AddNewNodeByClass(class_name, scene.GetUniqueNameByString(name))
    axes = (2, 1, 0, 3)[: array.ndim]
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array.transpose(axes)))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grid.ijk_to_local))
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    node.SetNodeReferenceID(SCAN_REFERENCE, volume_node.GetID())
    node.CreateDefaultDisplayNodes()
    scan_item = hierarchy.GetItemByDataNode(volume_node)
    parent = hierarchy.GetItemParent(scan_item) if scan_item else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
    return node


def _hide_below(display, lower: float, upper: float) -> None:
    display.AutoThresholdOff()
    display.SetThreshold(lower, upper + 1.0)
    display.ApplyThresholdOn()
