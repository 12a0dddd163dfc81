"""One picture of a run: axial, coronal and sagittal slices with landmarks, boxes and the map over them.

Drawn by Slicer's own displayable managers outside the application; inside Slicer use its Screen Capture module.
Radiological convention: the patient's right is on the left of the picture.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.spoken_names import spoken_name
from APELocalizerLib.scene.cleanup import temporary_nodes
from APELocalizerLib.scene.display_grid import body_bounds
from APELocalizerLib.scene.headless import inside_slicer
from APELocalizerLib.scene.labels import Label, place_labels
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.pictures import check_rendering, write_png
from APELocalizerLib.scene.rendering import SliceView, only_shown
from APELocalizerLib.scene.results import ResultNodes
from APELocalizerLib.scene.snapshot_3d import threed_tile
from APELocalizerLib.scene.snapshot_banner import banner, found_points

AXES = {"Axial": (0, 1, 2), "Coronal": (0, 2, 1), "Sagittal": (1, 2, 0)}
"""World axes of a view: across, up, and through the slice."""

SLAB_MM = 15.0
"""Landmarks nearer than this to a slice are drawn on it; others would seem to be what the slice shows there."""
WINDOW_HU = (-1050.0, 450.0)
"""Black and white: lungs and airways are told apart, and so are soft tissues."""

MARGIN = 1.06
GAP = 6
WIDTH_3D = 1.5
"""Width of the 3D tile in widths of the coronal one."""
LABEL_SIZE = 17


@dataclass(frozen=True)
class _Layout:
    """Sizes of the three tiles of a row in pixels, one scale for all, and where the slices cut."""

    sizes: dict[str, tuple[int, int]]
    mm_per_pixel: float
    body: Box
    focus: np.ndarray

    def center(self, orientation: str) -> np.ndarray:
        """Middle of the tile (3,) RAS: the body's middle, on the slice through the focus."""
        center = self.body.center.copy()
        through = AXES[orientation][2]
        center[through] = self.focus[through]
        return center


def render_views(
    volume_node: VolumeNode,
    result_nodes: ResultNodes,
    path: str | Path,
    overlay_node: VolumeNode | None = None,
    opacity: float = 0.4,
    focus: str | np.ndarray | None = None,
    width: int = 2400,
    title: str = "",
    view_3d: bool = True,
    known: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a PNG: first row the CT with landmarks and boxes, second row (with `overlay_node`) the map over it, on the
    right (with `view_3d`) bones, skin, landmarks and boxes from the front. White crosses stand on the slices where the
    landmarks are `known` to be (name → RAS mm), if that is given.

    The slices cut through `focus`, a landmark's name or a RAS position (3,); by default through the found landmark
    nearest to the middle of the body. Raises SceneError inside Slicer or for an unknown landmark, and
    MissingRenderingLibrary.
    """
    if inside_slicer():
        raise SceneError("Inside Slicer pictures are made with the Screen Capture module.")
    check_rendering()
    points = found_points(result_nodes)
    body = body_bounds(volume_node)
    layout = _layout(body, _focus_position(points, body, focus), width, columns=4 if view_3d else 3)
    marks = _Marks(points, dict(known or {}), result_nodes)
    with temporary_nodes(), only_shown(list(result_nodes.roi_nodes.values())), _window(volume_node):
        rows = [_row(layout, volume_node, None, 0.0, marks)]
        if overlay_node is not None:
            rows.append(_row(layout, volume_node, overlay_node, opacity, replace(marks, boxes=None)))
        picture = _joined(rows, axis=0)
        if view_3d:
            size = (round(WIDTH_3D * layout.sizes["Coronal"][0]), picture.shape[0])
            picture = _joined([picture, threed_tile(volume_node, points, result_nodes.roi_nodes, size, body)], axis=1)
    heading = banner(
        picture.shape[1], title or volume_node.GetName(), result_nodes, overlay_node is not None, bool(known)
    )
    picture = np.concatenate([heading, picture])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_png(picture, path)


@dataclass(frozen=True)
class _Marks:
    """What is drawn on the slices: found and known positions by name, RAS mm, and the boxes."""

    points: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    boxes: ResultNodes | None


@contextlib.contextmanager
def _window(volume_node: VolumeNode) -> Iterator[None]:
    """Show the scan in the window of the picture, and put its own back afterwards."""
    display = volume_node.GetDisplayNode()
    before = display.GetAutoWindowLevel(), display.GetWindow(), display.GetLevel()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*WINDOW_HU)
    try:
        yield
    finally:
        display.SetWindowLevel(*before[1:])
        display.SetAutoWindowLevel(before[0])


def _focus_position(points: dict[str, np.ndarray], body: Box, focus) -> np.ndarray:
    if isinstance(focus, str):
        label = focus if focus in points else spoken_name(focus)
        if label not in points:
            raise SceneError(f"The landmark '{focus}' was not found on this scan, so it cannot be centered.")
        return points[label]
    if focus is not None:
        return np.asarray(focus, dtype=np.float64).reshape(3)
    if not points:
        return body.center
    return min(points.values(), key=lambda point: float(np.linalg.norm(point - body.center)))


def _layout(body: Box, focus: np.ndarray, width: int, columns: int) -> _Layout:
    """Fit the slices, and with four columns the 3D tile, into a width in pixels."""
    extent = body.size * MARGIN
    across = sum(extent[axes[0]] for axes in AXES.values()) + (columns - 3) * WIDTH_3D * extent[0]
    height = max(extent[axes[1]] for axes in AXES.values())
    mm_per_pixel = max(across / (width - (columns - 1) * GAP), height / (0.9 * width))
    rows = round(height / mm_per_pixel)
    sizes = {name: (round(extent[axes[0]] / mm_per_pixel), rows) for name, axes in AXES.items()}
    return _Layout(sizes, mm_per_pixel, body, focus)


def _row(
    layout: _Layout,
    volume_node: VolumeNode,
    overlay_node: VolumeNode | None,
    opacity: float,
    marks: _Marks,
) -> np.ndarray:
    return _joined([_tile(layout, name, volume_node, overlay_node, opacity, marks) for name in AXES], axis=1)


def _joined(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures side by side (axis 1) or one below the other (axis 0), with a black gap."""
    gap = list(pictures[0].shape)
    gap[axis] = GAP
    parts = [part for picture in pictures for part in (np.zeros(gap, dtype=np.uint8), picture)]
    return np.concatenate(parts[1:], axis=axis)


def _tile(
    layout: _Layout,
    orientation: str,
    volume_node: VolumeNode,
    overlay_node: VolumeNode | None,
    opacity: float,
    marks: _Marks,
) -> np.ndarray:
    through = AXES[orientation][2]

    def near(positions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: at for name, at in positions.items() if abs(at[through] - layout.focus[through]) <= SLAB_MM}

    points = near(marks.points)
    view = SliceView(orientation, layout.sizes[orientation], layout.center(orientation), layout.mm_per_pixel)
    try:
        view.show(volume_node, overlay_node, opacity)
        view.add_orientation_letters()
        with _points_in_view(points, view.node), _only_boxes(marks.boxes):
            for at in near(marks.known).values():
                view.add_cross(at)
            for label in _labels(view, points, marks.boxes, layout.focus[through], through):
                view.add_text(label.text, label.position, label.size, color=label.color)
            return view.capture()
    finally:
        view.close()


def _labels(view: SliceView, points: dict[str, np.ndarray], boxes, slice_mm: float, through: int) -> list[Label]:
    """Names beside the points and inside the upper left corner of the boxes, none over another."""
    anchors = []
    for name, node in (boxes.roi_nodes if boxes else {}).items():
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        low, high = np.array(bounds[::2]), np.array(bounds[1::2])
        if low[through] <= slice_mm <= high[through]:
            corners = np.array([view.to_pixel(low), view.to_pixel(high)])
            corner = (corners[:, 0].min(), corners[:, 1].max())
            anchors.append(
                Label(spoken_name(name), corner, LABEL_SIZE, node.GetDisplayNode().GetSelectedColor(), inside=True)
            )
    anchors += [Label(spoken_name(name), tuple(view.to_pixel(point)), LABEL_SIZE) for name, point in points.items()]
    return place_labels(anchors, view.size)


@contextlib.contextmanager
def _points_in_view(points: dict[str, np.ndarray], view_node) -> Iterator[None]:
    """A point list that only one view shows, also off the slice."""
    with temporary_nodes():
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "snapshot points")
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetViewNodeIDs((view_node.GetID(),))
        display.SetSelectedColor(1.0, 0.85, 0.2)
        display.SetPointLabelsVisibility(False)
        display.SetUseGlyphScale(True)
        display.SetGlyphScale(2.0)
        display.SetSliceProjection(True)
        display.SetSliceProjectionOpacity(0.75)
        for index, point in enumerate(points.values()):
            node.AddControlPointWorld(tuple(point))
            node.SetNthControlPointLabel(index, "")  # the names are written apart, so that none covers another
        yield


@contextlib.contextmanager
def _only_boxes(boxes: ResultNodes | None) -> Iterator[None]:
    """Show the boxes of `boxes`, and no other markups of the results."""
    with only_shown(list(boxes.roi_nodes.values()) if boxes else [], class_name="vtkMRMLMarkupsROINode"):
        yield
