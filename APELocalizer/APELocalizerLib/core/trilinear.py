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


def sample_with_gradient(values: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read `values` (a, b, c, channels) and their derivatives at fractional `indices` (n, 3) inside the grid.

    Returns values (n, channels) and derivatives (n, channels, 3) per cell along each axis, of the trilinear piece in
    which the index lies.
    """
    shape = np.array(values.shape[:3])
    indices = np.clip(indices, 0, shape - 1)
    base = np.minimum(indices.astype(np.int64), np.maximum(shape - 2, 0))
    x, y, z = (indices - base).astype(values.dtype).T[:, :, None]
    step = np.minimum(shape - 1, 1) * np.array([shape[1] * shape[2], shape[2], 1])
    flat = values.reshape(-1, values.shape[3])
    origin = base @ np.array([shape[1] * shape[2], shape[2], 1])
    ends = (0, 1)
    corner = [[[flat[origin + step @ (i, j, k)] for k in ends] for j in ends] for i in ends]
    along_z = [[corner[i][j][0] + z * (corner[i][j][1] - corner[i][j][0]) for j in (0, 1)] for i in (0, 1)]
    along_y = [along_z[i][0] + y * (along_z[i][1] - along_z[i][0]) for i in (0, 1)]
    dz = [[corner[i][j][1] - corner[i][j][0] for j in (0, 1)] for i in (0, 1)]
    dz = [dz[i][0] + y * (dz[i][1] - dz[i][0]) for i in (0, 1)]
    dy = [along_z[i][1] - along_z[i][0] for i in (0, 1)]
    derivatives = (along_y[1] - along_y[0], dy[0] + x * (dy[1] - dy[0]), dz[0] + x * (dz[1] - dz[0]))
    return along_y[0] + x * (along_y[1] - along_y[0]), np.stack(derivatives, axis=2)


PAD = 1
"""Cells that `extend_from_mask` adds on every side of the grid."""


def extend_from_mask(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue the values inside `mask` two cells outward, also beyond the grid.

    `values` (a, b, c, channels) and `mask` (a, b, c) bool; returns float32 (a + 2 PAD, b + 2 PAD, c + 2 PAD, channels).
    The first layer continues the slope of the two cells before it where there are two, else it is the mean of its
    neighbours, as is the second; farther out the values are 0. So a trilinear reading at the body's surface or at the
    edge of the field of view does not mix in what the network says about air, and does not stand still half a cell
    before the edge.
    """
    around = [(PAD, PAD)] * 3
    filled = np.pad(mask, around)
    result = np.pad(np.where(mask[..., None], values, 0).astype(np.float32), [*around, (0, 0)])
    for layer in range(2):
        total, count = _sum_of_neighbours(result), _sum_of_neighbours(filled[..., None].astype(np.float32))[..., 0]
        if layer == 0:
            slopes, known = _continued(result, filled)
            total, count = np.where(known[..., None] > 0, slopes, total), np.where(known > 0, known, count)
        rim = ~filled & (count > 0)
        result[rim] = total[rim] / count[rim][:, None]
        filled |= rim
    return result


def _continued(values: np.ndarray, filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number, per cell, of the values 2 v1 - v2 continued from the two cells beside it in each direction."""
    total, count = np.zeros_like(values), np.zeros(filled.shape, dtype=np.float32)
    for axis in range(3):
        for step in (1, -1):
            first, second = _shifted(filled, axis, step), _shifted(filled, axis, 2 * step)
            known = first & second
            slope = 2 * _shifted(values, axis, step) - _shifted(values, axis, 2 * step)
            total += np.where(known[..., None], slope, 0)
            count += known
    return total, count


def _shifted(array: np.ndarray, axis: int, step: int) -> np.ndarray:
    """The array moved by `step` cells along an axis; what comes in from outside is 0."""
    result = np.zeros_like(array)
    to, since = [slice(None)] * array.ndim, [slice(None)] * array.ndim
    to[axis] = slice(step, None) if step > 0 else slice(None, step)
    since[axis] = slice(None, -step) if step > 0 else slice(-step, None)
    result[tuple(to)] = array[tuple(since)]
    return result


def _sum_of_neighbours(array: np.ndarray) -> np.ndarray:
    for axis in range(3):
        array = array + _shifted(array, axis, 1) + _shifted(array, axis, -1)
    return array
