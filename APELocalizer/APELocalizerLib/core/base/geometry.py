"""Positions, grids and boxes.

Positions are RAS world coordinates in millimeters, shape (n, 3), float64. A grid is an array with axes (i, j, k) and
a 4x4 index-to-RAS matrix; voxel centers lie at integer indices. LPS exists only at the SimpleITK and file boundary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Triple = tuple[float, float, float]
"""A position, spacing, size or color."""

Shape = tuple[int, int, int]
"""Numbers of voxels or cells along the axes of a grid."""

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""4x4 matrix that turns RAS into LPS coordinates and back."""


def triple(values: Iterable[float]) -> Triple:
    """Exactly three numbers as a tuple of floats."""
    first, second, third = values
    return float(first), float(second), float(third)


def shape_of(values: Iterable[int]) -> Shape:
    """Exactly three whole numbers as a tuple of ints."""
    first, second, third = values
    return int(first), int(second), int(third)


def stored_shape(values: object) -> Shape:
    """The shape of a grid as a file holds it. Raises ValueError for anything but three positive whole numbers."""
    if not isinstance(values, list) or len(values) != 3 or not all(type(size) is int and size > 0 for size in values):
        raise ValueError(f"{str(values)[:40]} is no shape")
    return shape_of(values)


def stored_grid(values: object) -> np.ndarray:
    """A 4x4 index→RAS matrix in mm as a file holds it. Raises ValueError for anything that is not a regular grid."""
    try:
        grid = np.array(values, dtype=np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{str(values)[:40]} is no grid") from error
    if grid.shape != (4, 4) or not np.isfinite(grid).all() or grid[3].tolist() != [0, 0, 0, 1]:
        raise ValueError("it holds no 4 x 4 grid")
    if not 1e-9 < abs(np.linalg.det(grid[:3, :3])) < 1e9 or np.abs(grid).max() > 1e6:
        raise ValueError("its grid is flat or impossibly large")
    return grid


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (n, 3) through a 4x4 matrix; returns (n, 3) float64."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    return points @ affine[:3, :3].T + affine[:3, 3]


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Distance in mm between neighboring voxel centers along each grid axis, shape (3,)."""
    return np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)


def subgrid_affine(
    affine: np.ndarray, start: Sequence[float] | np.ndarray, step: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Index-to-RAS matrix of the grid whose index n lies at index start + n * step of the given grid.

    `start` and `step` are (3,) in index units of the given grid and may be fractional.
    """
    return np.asarray(affine, dtype=np.float64) @ np.array(
        [
            [step[0], 0.0, 0.0, start[0]],
            [0.0, step[1], 0.0, start[1]],
            [0.0, 0.0, step[2], start[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def grid_corners(shape: Shape, affine: np.ndarray) -> np.ndarray:
    """RAS positions (8, 3) of the outer corners of a grid (half a voxel beyond the outermost voxel centers)."""
    ends = [(-0.5, n - 0.5) for n in shape]
    indices = np.array([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]])
    return apply_affine(affine, indices)


@dataclass(frozen=True)
class Box:
    """Axis-aligned box in RAS mm: `minimum` and `maximum` are (r, a, s)."""

    minimum: Triple
    maximum: Triple

    def __post_init__(self) -> None:
        low, high = (tuple(float(x) for x in side) for side in (self.minimum, self.maximum))
        if len(low) != 3 or len(high) != 3 or not np.all(np.isfinite(low + high)) or np.any(np.subtract(high, low) < 0):
            raise ValueError(f"A box needs finite corners with minimum <= maximum, not {low} and {high}.")
        object.__setattr__(self, "minimum", low)
        object.__setattr__(self, "maximum", high)

    @classmethod
    def around(cls, points: np.ndarray) -> "Box":
        """Smallest box holding the points (n, 3)."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        return cls(triple(points.min(axis=0)), triple(points.max(axis=0)))

    @property
    def center(self) -> np.ndarray:
        """Center (3,) in mm."""
        return (np.array(self.minimum) + np.array(self.maximum)) / 2

    @property
    def size(self) -> np.ndarray:
        """Edge lengths (3,) in mm."""
        return np.array(self.maximum) - np.array(self.minimum)

    @property
    def volume_mm3(self) -> float:
        """Volume in cubic millimeters."""
        return float(np.prod(self.size))

    def enlarged(self, alpha: float) -> "Box":
        """Box with the same center and edges `alpha` times as long (APE paper, section 3.3)."""
        half = self.size / 2 * alpha
        return Box(triple(self.center - half), triple(self.center + half))

    def clipped(self, other: "Box") -> "Box | None":
        """Part of this box inside `other`, or None if they do not touch."""
        low = np.maximum(self.minimum, other.minimum)
        high = np.minimum(self.maximum, other.maximum)
        return Box(triple(low), triple(high)) if np.all(high > low) else None

    def contains(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Which of the points (n, 3) lie inside the box grown by `margin` mm; bool (n,)."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        return np.all((points >= np.array(self.minimum) - margin) & (points <= np.array(self.maximum) + margin), axis=1)

    def iou(self, other: "Box") -> float:
        """Intersection over union of the two boxes, 0..1."""
        common = self.clipped(other)
        if common is None:
            return 0.0
        return common.volume_mm3 / (self.volume_mm3 + other.volume_mm3 - common.volume_mm3)


LPS = np.array([-1.0, -1.0, 1.0])
