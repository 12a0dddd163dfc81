"""Trilinear reading of a channel-last grid at fractional indices (numpy only)."""

import numpy as np


def sample_trilinear(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Read `values` (a, b, c, channels) at fractional `indices` (n, 3); returns (n, channels) float64.

    Positions outside the grid take the value of the nearest position on it, as torch's interpolation does.
    """
    shape = np.array(values.shape[:3])
    indices = np.clip(np.asarray(indices, dtype=np.float64).reshape(-1, 3), 0, shape - 1)
    base = np.minimum(indices.astype(np.int64), np.maximum(shape - 2, 0))
    fraction = indices - base
    step = np.minimum(shape - 1, 1)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    flat = values.reshape(-1, values.shape[3])
    origin = base @ strides
    result = np.zeros((len(indices), values.shape[3]))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, fraction, 1 - fraction), axis=1)
        result += weight[:, None] * flat[origin + (np.array(corner) * step) @ strides]
    return result


def extend_from_mask(values: np.ndarray, mask: np.ndarray, layers: int = 2) -> np.ndarray:
    """Fill cells outside `mask` with the mean of their already filled neighbours, `layers` cells outward.

    `values` (a, b, c, channels) and `mask` (a, b, c) bool; returns a float32 copy in which cells farther out are 0.
    So a trilinear reading at the body surface does not mix in what the network says about air.
    """
    filled = mask.copy()
    result = np.where(mask[..., None], values, 0).astype(np.float32)
    for _ in range(layers):
        count = _sum_of_neighbours(filled.astype(np.float32)[..., None])
        total = _sum_of_neighbours(result)
        rim = ~filled & (count[..., 0] > 0)
        result[rim] = total[rim] / count[rim]
        filled |= rim
    return result


def _sum_of_neighbours(array: np.ndarray) -> np.ndarray:
    for axis in range(3):
        padded = np.pad(array, [(1, 1) if a == axis else (0, 0) for a in range(array.ndim)])
        n = array.shape[axis]
        array = sum(np.take(padded, range(start, start + n), axis=axis) for start in range(3))
    return array
