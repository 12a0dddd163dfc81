"""Trilinear reading of a channel-last grid at fractional indices, and the continuation of a map beyond its body.

Numbers are kept channel by channel, so that numpy works on long rows; a block of places fits the processor's cache.
"""

import itertools

import numpy as np

PLACES_PER_BLOCK = 4096

ROUNDING = 1e-4
"""Share of a cell that two positions may differ by and still be the same."""


def sample_trilinear(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Read `values` (a, b, c, channels) at fractional `indices` (n, 3); returns (n, channels) float64.

    Positions outside the grid take the value of the nearest position on it, as torch's interpolation does.
    """
    indices = np.asarray(indices, dtype=np.float64).reshape(-1, 3)
    shape, channels = np.array(values.shape[:3]), values.shape[3]
    strides = np.array([shape[1] * shape[2], shape[2], 1]) * channels
    flat = np.ascontiguousarray(values).reshape(-1)
    steps = corner_offsets(strides * np.minimum(shape - 1, 1), channels)
    result = np.empty((len(indices), channels))
    for start in range(0, len(indices), PLACES_PER_BLOCK):
        block = np.clip(indices[start : start + PLACES_PER_BLOCK].T, 0, (shape - 1)[:, None])
        base = np.minimum(block.astype(np.int64), np.maximum(shape - 2, 0)[:, None])
        x, y, z = block - base
        corners = flat.take(strides @ base + steps).astype(np.float64, copy=False)
        along_z = corners[:, :, 0] + z * (corners[:, :, 1] - corners[:, :, 0])
        along_y = along_z[:, 0] + y * (along_z[:, 1] - along_z[:, 0])
        result[start : start + PLACES_PER_BLOCK] = (along_y[0] + x * (along_y[1] - along_y[0])).T
    return result


def corner_offsets(strides: np.ndarray, channels: int) -> np.ndarray:
    """Offsets (2, 2, 2, channels, 1) from a cell's first number to those of its eight corners in a flat grid."""
    i, j, k = (np.array([0, int(stride)]) for stride in strides)
    corners = i[:, None, None] + j[:, None] + k
    return corners[..., None, None] + np.arange(channels)[:, None]


def value_and_gradient(corners: np.ndarray, fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value (channels, n) and derivatives (3, channels, n) per cell along each axis, inside one cell.

    `corners` (2, 2, 2, channels, n) are the values at the cell's corners, `fraction` (3, n) the position in it, 0..1.
    """
    x, y, z = fraction
    dz = corners[:, :, 1] - corners[:, :, 0]
    along_z = corners[:, :, 0] + z * dz
    dy = along_z[:, 1] - along_z[:, 0]
    along_y = along_z[:, 0] + y * dy
    dz = dz[:, 0] + y * (dz[:, 1] - dz[:, 0])
    derivatives = np.empty((3, *along_y.shape[1:]), dtype=along_y.dtype)
    np.subtract(along_y[1], along_y[0], out=derivatives[0])
    for number, slope in ((1, dy), (2, dz)):
        np.add(slope[0], x * (slope[1] - slope[0]), out=derivatives[number])
    return along_y[0] + x * derivatives[0], derivatives


def touches(mask: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Which fractional indices (n, 3) have a cell of `mask` (a, b, c) bool less than one cell away; bool (n,).

    Positions outside the grid are taken to the nearest position on it. One cell less `ROUNDING` counts as one cell,
    so that rounding does not decide about places that a search has stopped at, which is exactly there.
    """
    inside = np.clip(np.asarray(indices, dtype=np.float64).reshape(-1, 3), 0, np.array(mask.shape) - 1).T
    ends = np.stack([np.floor(inside + ROUNDING), np.ceil(inside - ROUNDING)]).astype(np.int64)
    corners = itertools.product(*(ends[:, axis] for axis in range(3)))
    return np.any([mask[i, j, k] for i, j, k in corners], axis=0)


PAD = 1
"""Cells that `extend_from_mask` adds on every side of the grid."""

_REACH = 2
"""Cells beyond the padded grid that a continued slope may ask for."""


def extend_from_mask(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue the values inside `mask` two cells outward, also beyond the grid.

    `values` (a, b, c, channels) and `mask` (a, b, c) bool; returns float32 (a + 2 PAD, b + 2 PAD, c + 2 PAD, channels).
    The first layer continues the slope of the two cells before it where there are two, else it is the mean of its
    neighbors, as is the second; farther out the values are 0. So a trilinear reading at the body's surface or at the
    edge of the field of view does not mix in what the network says about air, and does not stand still half a cell
    before the edge.
    """
    around = PAD + _REACH
    shape = tuple(n + 2 * around for n in mask.shape)
    inside, on_grid = (slice(around, -around),) * 3, (slice(_REACH, -_REACH),) * 3
    filled, result = np.zeros(shape, dtype=bool), np.zeros((*shape, values.shape[3]), dtype=np.float32)
    filled[inside] = mask
    result[inside][mask] = values[mask]
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    for continued in (True, False):
        rim = np.zeros(shape, dtype=bool)
        rim[on_grid] = (_grown(filled) & ~filled)[on_grid]
        cells = np.flatnonzero(rim)
        known, numbers = filled.reshape(-1), result.reshape(-1, values.shape[3])
        total, count = _sum_of_neighbors(numbers, known, cells, strides)
        if continued:
            slopes, pairs = _continued(numbers, known, cells, strides)
            total, count = np.where(pairs[:, None] > 0, slopes, total), np.where(pairs > 0, pairs, count)
        numbers[cells] = total / count[:, None]
        known[cells] = True
    return np.ascontiguousarray(result[on_grid])


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and the 26 neighbors of its cells."""
    for axis in range(3):
        grown, along = mask.copy(), np.moveaxis(mask, axis, 0)
        view = np.moveaxis(grown, axis, 0)
        view[1:] |= along[:-1]
        view[:-1] |= along[1:]
        mask = grown
    return mask


def _sum_of_neighbors(numbers, known, cells, strides) -> tuple[np.ndarray, np.ndarray]:
    """Sum (n, channels) and number (n,) of the known values around each cell; unknown ones hold 0."""
    total, count = np.zeros((len(cells), numbers.shape[1]), np.float32), np.zeros(len(cells), np.float32)
    for step in itertools.product((-1, 0, 1), repeat=3):
        neighbors = cells + strides @ step
        total += numbers.take(neighbors, axis=0)
        count += known.take(neighbors)
    return total, count


def _continued(numbers, known, cells, strides) -> tuple[np.ndarray, np.ndarray]:
    """Sum (n, channels) and number (n,) of the values 2 v1 - v2 continued from the two cells on each side."""
    total, count = np.zeros((len(cells), numbers.shape[1]), np.float32), np.zeros(len(cells), np.float32)
    for step in (*strides, *-strides):
        pair = known.take(cells + step) & known.take(cells + 2 * step)
        slope = 2 * numbers.take(cells + step, axis=0) - numbers.take(cells + 2 * step, axis=0)
        total += slope * pair[:, None]
        count += pair
    return total, count
