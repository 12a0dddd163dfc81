"""A contact sheet: each landmark on an axial and a coronal slice through it, beside its click on the support scan.

The quickest way for a reader to judge every landmark. Drawn outside Slicer, as the snapshot is.
"""

import math
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.core.library.spoken_names import spoken_name
from APELocalizerLib.scene.cleanup import temporary_nodes
from APELocalizerLib.scene.headless import inside_slicer
from APELocalizerLib.scene.nodes import MarkupsNode, VolumeNode
from APELocalizerLib.scene.pictures import check_rendering, text_banner, write_png
from APELocalizerLib.scene.rendering import SliceView, only_shown
from APELocalizerLib.scene.volumes import points_from_markups

TILE = 190
FIELD_MM = 130.0
HEADER = 44
GAP = 4
CELL_GAP = 24
FOUND_COLOR = (1.0, 0.85, 0.2)
CLICK_COLOR = (0.35, 0.9, 1.0)
MISSING_COLOR = (1.0, 0.45, 0.4)
SOFT = (0.72, 0.74, 0.78)


def render_landmark_sheet(
    volume_node: VolumeNode,
    points_node: MarkupsNode,
    path: str | Path,
    support_node: VolumeNode | None = None,
    support_points_node: MarkupsNode | None = None,
    columns: int = 4,
    title: str = "",
) -> None:
    """Write a PNG with one cell for each control point of `points_node`, found or missing.

    A cell shows the name, the point's description (its confidence), and an axial and a coronal slice of 130 mm through
    it with a crosshair. With the support's volume and its clicked points (same names) each cell starts with the two
    slices through the click. Raises SceneError inside Slicer or if there are no landmarks, MissingRenderingLibrary.
    """
    if inside_slicer():
        raise SceneError("Inside Slicer pictures are made with the Screen Capture module.")
    if points_node is None or points_node.GetNumberOfControlPoints() == 0:
        raise SceneError("There are no landmarks to draw. Localize a scan first.")
    check_rendering()
    with temporary_nodes(), only_shown([]):
        rows = _tiles(volume_node, _defined(points_node), FOUND_COLOR)
        clicks = {}
        if support_node is not None and support_points_node is not None:
            clicks = _tiles(support_node, _defined(support_points_node), CLICK_COLOR)
            clicks |= {spoken_name(name): tile for name, tile in clicks.items()}  # results are labeled as spoken
    cells = []
    for index in range(points_node.GetNumberOfControlPoints()):
        name = points_node.GetNthControlPointLabel(index)
        description = points_node.GetNthControlPointDescription(index)
        cells.append(_cell(name, description, rows.get(name), clicks.get(name), bool(clicks)))
    heading = title or _heading(volume_node, support_node if clicks else None)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_png(_sheet(cells, columns, heading), path)


def _defined(points_node: MarkupsNode) -> dict[str, np.ndarray]:
    return points_from_markups(points_node) if points_node.GetNumberOfDefinedControlPoints() else {}


def _tiles(volume_node: VolumeNode, points: dict[str, np.ndarray], color) -> dict[str, np.ndarray]:
    """Axial and coronal slice through each point, side by side, with a crosshair: (TILE, 2 TILE + GAP, 3) uint8."""
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in points}
    for orientation in ("Axial", "Coronal"):
        view = SliceView(orientation, (TILE, TILE), (0.0, 0.0, 0.0), FIELD_MM / TILE)
        try:
            view.show(volume_node)
            view.add_orientation_letters(13)
            for name, point in points.items():
                view.move_to(point)
                pictures[name].append(_with_crosshair(view.capture(), color))
        finally:
            view.close()
    return {name: np.concatenate([a, _black(TILE, GAP), b], axis=1) for name, (a, b) in pictures.items()}


def _with_crosshair(picture: np.ndarray, color) -> np.ndarray:
    """Thin lines through the middle that leave the place itself open."""
    middle, rgb = TILE // 2, np.round(np.array(color) * 255).astype(np.uint8)
    for near, far in ((-36, -7), (8, 37)):
        picture[middle + near : middle + far, middle] = rgb
        picture[middle, middle + near : middle + far] = rgb
    return picture


def _cell(
    name: str, description: str, tile: np.ndarray | None, click: np.ndarray | None, with_clicks: bool
) -> np.ndarray:
    """One landmark: its name and description above the slices through the result (None: not found) and the click."""
    pair = (TILE, 2 * TILE + GAP)
    parts = []
    if with_clicks:
        parts = [click if click is not None else _black(*pair), _black(TILE, 3 * GAP)]
    parts.append(tile if tile is not None else np.full((*pair, 3), 22, dtype=np.uint8))
    tiles = np.concatenate(parts, axis=1)
    color = FOUND_COLOR if tile is not None else MISSING_COLOR
    texts = [
        (spoken_name(name), (4, 22), 17, {"color": color, "bold": True}),
        (_shortened(description, tiles.shape[1] // 8), (4, 5), 13, {"color": SOFT}),
    ]
    return np.concatenate([text_banner((tiles.shape[1], HEADER), texts), tiles])


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def _heading(volume_node: VolumeNode, support_node: VolumeNode | None) -> str:
    if support_node is None:
        return f"{volume_node.GetName()}: landmarks on axial and coronal slices"
    return f"clicked on {support_node.GetName()} (blue), found on {volume_node.GetName()} (yellow)"


def _sheet(cells: list[np.ndarray], columns: int, heading: str) -> np.ndarray:
    height, width, _ = cells[0].shape
    columns = max(1, min(columns, len(cells)))
    rows = math.ceil(len(cells) / columns)
    banner = text_banner((columns * (width + CELL_GAP) + CELL_GAP, 48), [(heading, (14, 14), 22, {"bold": True})])
    sheet = _black(rows * (height + CELL_GAP), banner.shape[1])
    for number, cell in enumerate(cells):
        top, left = (number // columns) * (height + CELL_GAP), CELL_GAP + (number % columns) * (width + CELL_GAP)
        sheet[top : top + height, left : left + width] = cell
    return np.concatenate([banner, sheet])


def _black(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)
