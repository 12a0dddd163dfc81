"""Label maps of made-up organs, and their extreme points by the definition, slice by slice."""

import numpy as np


def label_grid(shape=(40, 36, 30), spacing=(4.0, 4.5, 8.0)) -> np.ndarray:
    """Index-to-RAS matrix of a segmentation around the origin, axes along R, A, S."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * (np.array(shape) - 1) / 2
    return affine


def asymmetric_mask(shape=(40, 36, 30), seed=4) -> np.ndarray:
    """A lumpy organ whose extreme slices differ in size and place."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    index = np.indices(shape).reshape(3, -1).T
    for _ in range(6):
        center, radius = rng.uniform([14, 12, 10], [26, 24, 20]), rng.uniform(2.5, 6.5)
        mask |= (np.linalg.norm((index - center) / [1.0, 1.3, 0.8], axis=1) <= radius).reshape(shape)
    return mask


def brute_force_extreme_points(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The definition, slice by slice: axes along +R, +A, +S; middle of the slice in C order of the cyclic axes."""
    extreme_points = []
    for axis in range(3):
        present = [n for n in range(mask.shape[axis]) if np.take(mask, n, axis).any()]
        for n in (present[0], present[-1]):
            inside = np.take(mask, n, axis)  # remaining axes in their order
            others = [a for a in range(3) if a != axis]
            cyclic = [(axis + 1) % 3, (axis + 2) % 3]
            if others != cyclic:
                inside = inside.T
            listed = [(p, q) for p in range(inside.shape[0]) for q in range(inside.shape[1]) if inside[p, q]]
            middle = listed[len(listed) // 2]
            voxel = np.zeros(4)
            voxel[axis], voxel[cyclic[0]], voxel[cyclic[1]], voxel[3] = n, *middle, 1
            extreme_points.append((affine @ voxel)[:3])
    return np.array(extreme_points)
