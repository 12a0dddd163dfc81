"""Places inside an organ's box, which tell where the box lies together with its six extreme points.

An extreme point lies at a surface that may look different in another patient; the center of the box and the places
halfway to its corners err independently of it. A box is fitted to them by its center and its size along each axis.
"""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap

INNER_POINTS = np.array([(0, 0, 0), *np.ndindex(2, 2, 2)], dtype=np.float64)
INNER_POINTS[1:] = 0.6 * (2 * INNER_POINTS[1:] - 1)
"""Center of a box and eight places toward its corners (9, 3), in halves of its size from the center."""

SIZE_WEIGHT = 0.1
"""Weight of the supports' size in a fit, relative to that of the places."""

STEPS = 4


def inner_points(maps: Sequence[EmbeddingMap], walls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (k, 3) of INNER_POINTS that lie in the body on every support, and their positions (m, k, 3) RAS mm.

    `maps` of m supports, `walls` (m, 2, 3) RAS mm of the organ's box on each. The center is always among them.
    """
    center, half = walls.mean(axis=1), np.ptp(walls, axis=1) / 2
    positions = center[:, None] + INNER_POINTS * half[:, None]
    inside = np.all([support.is_body(places) for support, places in zip(maps, positions, strict=True)], axis=0)
    inside[0] = True
    return INNER_POINTS[inside], positions[:, inside]


def fitted_sides(points: np.ndarray, found: np.ndarray, half_size: np.ndarray) -> np.ndarray:
    """Walls (2, 3) RAS mm of the box in which `points` (k, 3), in halves of its size, lie at `found` (k, 3) RAS mm.

    Weighted least squares along each axis, in which the half size is drawn to `half_size` (3,); places that fit badly
    count less (Cauchy weights, reweighted).
    """
    weight = np.ones(len(points))
    for _ in range(STEPS):
        total = weight.sum()
        middle, place = weight @ points / total, weight @ found / total
        spread = weight @ (points - middle) ** 2 + SIZE_WEIGHT * total
        wanted = weight @ ((points - middle) * (found - place)) + SIZE_WEIGHT * total * half_size
        half = wanted / spread
        center = place - half * middle
        off = np.linalg.norm(found - center - half * points, axis=1)
        weight = 1.0 / (1.0 + (off / (np.median(off) + 1.0)) ** 2)
    return np.array([center - half, center + half])


def box_recall(box: Box, truth: Box) -> float:
    """Part of the true box's volume inside `box`: a lower bound of the organ's recall, when only boxes are known."""
    common = box.clipped(truth)
    return 0.0 if common is None else common.volume_mm3 / truth.volume_mm3


def alpha_for_recall(pairs: list[tuple[Box, Box]], recall: float = 0.99, largest: float = 5.0) -> float:
    """Smallest enlargement of found boxes with which the mean recall of (found, true) pairs reaches `recall`.

    The search is in steps of 0.01 from 1.0; `largest` if it is not reached (APE paper, Table 4, with boxes as truth).
    """
    for alpha in np.arange(1.0, largest, 0.01):
        if np.mean([box_recall(found.enlarged(alpha), truth) for found, truth in pairs]) >= recall:
            return float(alpha)
    return largest
