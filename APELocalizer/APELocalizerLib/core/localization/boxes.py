"""Boxes of organs, from their six extreme points and from positions inside, which locate the box, too.

An extreme point lies at a surface that may look different in another patient; the center of the box and the positions
halfway to its corners err independently of it. A box is fitted to them by its center and its size along each axis.
"""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap

INNER_POINTS = np.array([(0, 0, 0), *np.ndindex(2, 2, 2)], dtype=np.float64)
INNER_POINTS[1:] = 0.6 * (2 * INNER_POINTS[1:] - 1)
"""Center of a box and eight positions toward its corners (9, 3), in halves of its size from the center."""

SIZE_WEIGHT = 0.1
"""Weight of the supports' size in a fit, relative to that of the positions."""

STEPS = 4
"""Rounds of reweighting in a fit."""


def sides_of(extreme_points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Lower and upper sides (2, 3) of six extreme points (6, 3): every side from its extreme point."""
    points = np.asarray(extreme_points)
    return np.array([points[[0, 2, 4], [0, 1, 2]], points[[1, 3, 5], [0, 1, 2]]])


def with_sides(extreme_points: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The extreme points (6, 3), moved onto the `sides` (2, 3)."""
    moved = extreme_points.copy()
    for axis in range(3):
        moved[2 * axis : 2 * axis + 2, axis] = sides[:, axis]
    return moved


def box_between(sides: np.ndarray) -> Box | None:
    """Box between lower and upper sides (2, 3); None where they are so inconsistent that no box remains."""
    return Box(tuple(sides[0]), tuple(sides[1])) if np.all(sides[1] > sides[0]) else None


def mean_bounding_sides(extreme_points: np.ndarray) -> np.ndarray:
    """Sides (2, 3) of the mean of the bounding boxes of several sets of extreme points (n, 6, 3): the paper's rule."""
    boxes = [Box.around(six) for six in extreme_points]
    return np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)


def inner_points(maps: Sequence[EmbeddingMap], sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (k, 3) of INNER_POINTS that lie in the body on every support, and their positions (m, k, 3) RAS mm.

    `maps` of m supports, `sides` (m, 2, 3) RAS mm of the organ's box on each. The center is always among them.
    """
    center, half = sides.mean(axis=1), np.ptp(sides, axis=1) / 2
    positions = center[:, None] + INNER_POINTS * half[:, None]
    inside = np.all([support.is_body(points) for support, points in zip(maps, positions, strict=True)], axis=0)
    inside[0] = True
    return INNER_POINTS[inside], positions[:, inside]


def fitted_sides(points: np.ndarray, positions: np.ndarray, half_size: np.ndarray) -> np.ndarray:
    """Sides (2, 3) RAS mm of the box in which `points` (k, 3), in halves of its size, were found at `positions` (k, 3).

    Weighted least squares along each axis, in which the half size is drawn to `half_size` (3,); positions that fit
    badly count less (Cauchy weights, reweighted).
    """
    weight = np.ones(len(points))
    for _ in range(STEPS):
        total = weight.sum()
        mean_point, mean_position = weight @ points / total, weight @ positions / total
        spread = weight @ (points - mean_point) ** 2 + SIZE_WEIGHT * total
        wanted = weight @ ((points - mean_point) * (positions - mean_position)) + SIZE_WEIGHT * total * half_size
        half = wanted / spread
        center = mean_position - half * mean_point
        off = np.linalg.norm(positions - center - half * points, axis=1)
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
        if np.mean([box_recall(box.enlarged(alpha), truth) for box, truth in pairs]) >= recall:
            return float(alpha)
    return largest
