"""What stands above a picture of a run: the scan, how much was found on it, and what the colors mean."""

import numpy as np

from APELocalizerLib.core.library.spoken_names import spoken_name
from APELocalizerLib.scene.pictures import text_banner
from APELocalizerLib.scene.results import ResultNodes
from APELocalizerLib.scene.volumes import points_from_markups

MOST_NAMED = 5
"""So many of the landmarks that were not found are named."""

HEIGHT = 64
SOFT = {"color": (0.72, 0.74, 0.78)}


def found_points(result_nodes: ResultNodes) -> dict[str, np.ndarray]:
    """Positions (3,), RAS mm, of the landmarks that were found, by the names at the points."""
    node = result_nodes.points_node
    return points_from_markups(node) if node.GetNumberOfDefinedControlPoints() else {}


def banner(width: int, title: str, result_nodes: ResultNodes, overlay: bool, crosses: bool) -> np.ndarray:
    """The heading, (HEIGHT, width, 3) uint8. `overlay`, `crosses`: whether the map's colors and crosses are shown."""
    node = result_nodes.points_node
    labels = [node.GetNthControlPointLabel(i) for i in range(node.GetNumberOfControlPoints())]
    points = found_points(result_nodes)
    missing = [spoken_name(label) for label in labels if label not in points]
    summary = f"{len(points)} of {len(labels)} landmarks and {len(result_nodes.roi_nodes)} organ boxes found"
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        summary += f"; not found: {', '.join(missing[:MOST_NAMED])}{more}"
    texts = [(title, (10, 36), 24, {"bold": True}), (summary, (10, 12), 16, SOFT)]
    if crosses:
        texts.append(
            ("yellow: found; white cross: marked by a reader", (width - 10, 36), 16, {**SOFT, "align": "right"})
        )
    if overlay:
        channels = "color: right red, front green, top blue"
        texts.append((channels, (width - 10, 12), 16, {**SOFT, "align": "right"}))
    return text_banner((width, HEIGHT), texts)
