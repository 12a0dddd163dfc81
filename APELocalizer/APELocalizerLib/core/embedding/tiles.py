"""Where tiles lie, and how their results are blended."""

import numpy as np

Size = tuple[int, int, int]


def tile_starts(length: int, tile: int, overlap: float, stride: int) -> list[int]:
    """First voxels of the tiles along one axis.

    Tiles lie inside the volume, begin at multiples of `stride` (so that all tiles share one grid of cells) and overlap
    by at least `overlap` (0..1) of their length. `length` and `tile` are multiples of `stride`, `length >= tile`.
    """
    step = max(stride, int(tile * (1 - overlap)) // stride * stride)
    starts = list(range(0, length - tile, step))
    return [*starts, length - tile]


def gaussian_weights(cells: Size, sigma: float = 0.125) -> np.ndarray:
    """Blending weights of one tile (cells), highest in its middle; `sigma` is a fraction of the tile's length."""
    axes = []
    for count in cells:
        position = np.arange(count) - (count - 1) / 2
        axes.append(np.exp(-0.5 * (position / (sigma * count)) ** 2))
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2]
    return np.maximum(weights, 1e-3 * weights.max()).astype(np.float32)


def padded_length(length: int, smallest: int, stride: int) -> int:
    """Length grown to at least `smallest` and to a multiple of `stride`."""
    return max(-(-length // stride) * stride, smallest)
