"""Extreme points of an organ: the outermost places along R, A and S, on a mask or from six clicks. RAS mm."""

import numpy as np

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box, apply_affine


def is_cut(field_of_view: Box, edges: np.ndarray, ijk_to_ras: np.ndarray) -> bool:
    """Whether an organ with the extreme points (6, 3) reaches the border of the field of view.

    It does if an extreme voxel of its grid lies within 1.5 voxels of the border, measured along that direction.
    """
    margin = 1.5 * np.abs(np.asarray(ijk_to_ras)[:3, :3]).max(axis=1)
    extreme = Box.around(edges)
    return bool(
        np.any(np.array(extreme.minimum) - np.array(field_of_view.minimum) < margin)
        or np.any(np.array(field_of_view.maximum) - np.array(extreme.maximum) < margin)
    )


def extreme_points_of_mask(mask: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Six extreme points (6, 3) RAS mm of a mask (i, j, k), in the order rmin, rmax, amin, amax, smin, smax.

    For every direction the extreme slice of the grid axis nearest to it is taken, and in it the middle element of the
    slice's voxels in C order, its two axes taken cyclically (RPR-Loc's code; APE's paper leaves the voxel open). On an
    oblique grid the extremes are those of the grid's axes.
    """
    indices = np.argwhere(mask)
    if not len(indices):
        raise LearningError("The organ's mask is empty.")
    directions = np.asarray(ijk_to_ras, dtype=np.float64)[:3, :3]
    axes = _axis_for_direction(directions)
    edges = []
    for world_axis in range(3):
        grid_axis = axes[world_axis]
        along = indices[:, grid_axis]
        rising = directions[world_axis, grid_axis] > 0
        for extreme in (along.min(), along.max()) if rising else (along.max(), along.min()):
            in_slice = indices[along == extreme]
            first, second = (grid_axis + 1) % 3, (grid_axis + 2) % 3
            order = np.lexsort((in_slice[:, second], in_slice[:, first]))
            edges.append(in_slice[order[len(order) // 2]])
    return apply_affine(ijk_to_ras, np.array(edges))


def sorted_extreme_points(points: np.ndarray) -> np.ndarray:
    """Six clicks (6, 3) in any order, sorted into (rmin, rmax, amin, amax, smin, smax)."""
    from itertools import permutations

    best, best_extent = points, -np.inf
    signs = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    axes = np.array([0, 0, 1, 1, 2, 2])
    centered = points - points.mean(axis=0)
    for order in permutations(range(6)):
        extent = (signs * centered[list(order), axes]).sum()
        if extent > best_extent:
            best, best_extent = points[list(order)], extent
    return best


def _axis_for_direction(directions: np.ndarray) -> list[int]:
    """Grid axis that runs along R, A and S: the permutation with the largest total alignment."""
    from itertools import permutations

    aligned = np.abs(directions / np.linalg.norm(directions, axis=0))
    orders = [list(order) for order in permutations(range(3))]
    return max(orders, key=lambda order: sum(aligned[w, order[w]] for w in range(3)))
