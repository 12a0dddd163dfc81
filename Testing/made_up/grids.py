"""Grids of voxels and cells: index-to-RAS matrices of any direction, and what turns them."""

import numpy as np

TOWARD_PLI = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Columns: RAS directions of posterior, left and inferior."""


def grid_to_ras(shape, spacing, center=(0.0, 0.0, 0.0), rotation=None) -> np.ndarray:
    """4x4 index-to-RAS matrix of a RAS+ grid centered at `center`, its axes turned by `rotation` (3x3)."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.array(spacing, float)
    affine[:3, 3] = np.array(center, float) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def pli_grid(shape, cell_mm, center=(0.0, 0.0, 0.0)) -> np.ndarray:
    """4x4 index-to-RAS matrix of a posterior-left-inferior grid centered at `center`."""
    return grid_to_ras(shape, cell_mm, center, TOWARD_PLI)


def rotation(axis: int, degrees: float) -> np.ndarray:
    """4x4 rotation about a RAS axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [a for a in range(3) if a != axis]
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around the True elements of a mask of any number of axes."""
    axes = range(mask.ndim)
    ends = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis)))[[0, -1]] + [0, 1] for axis in axes]
    return tuple(slice(*end) for end in ends)
