"""Where tiles lie, and how their results are blended."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import Shape, shape_of
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report

TileBox = tuple[slice, slice, slice]
"""The voxels of one tile, along every axis."""


def tile_starts(length: int, tile: int, overlap: float, stride: int) -> list[int]:
    """First voxels of the tiles along one axis.

    Tiles lie inside the volume, begin at multiples of `stride` (so that all tiles share one grid of cells) and overlap
    by at least `overlap` (0..1) of their length. `length` and `tile` are multiples of `stride`, `length >= tile`.
    """
    step = max(stride, int(tile * (1 - overlap)) // stride * stride)
    starts = list(range(0, length - tile, step))
    return [*starts, length - tile]


def gaussian_weights(cells: Shape, sigma: float = 0.125) -> np.ndarray:
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


def tile_boxes(size: Shape, tile: Shape, overlap: float, stride: int) -> list[TileBox]:
    """Boxes of all tiles of a volume, in voxels; see `tile_starts`."""
    starts = [tile_starts(n, t, overlap, stride) for n, t in zip(size, tile, strict=True)]
    return [
        (slice(i, i + tile[0]), slice(j, j + tile[1]), slice(k, k + tile[2]))
        for i in starts[0]
        for j in starts[1]
        for k in starts[2]
    ]


def blend_tiles(
    forward: Callable[[list[TileBox]], Tensor],
    tiles: list[TileBox],
    tile: Shape,
    size: Shape,
    stride: int,
    batch_size: int,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> Tensor:
    """Run every tile and average overlaps with Gaussian weights; (channels, a, b, c), where the tiles' outputs are."""
    cells = shape_of(n // stride for n in size)
    sums: tuple[Tensor, Tensor, Tensor] | None = None
    for start in range(0, len(tiles), batch_size):
        check_cancelled(cancelled)
        batch = tiles[start : start + batch_size]
        outputs = forward(batch)
        report(progress, min(1.0, (start + len(batch)) / len(tiles)), "Computing anatomical coordinates")
        if len(tiles) == 1:
            check_cancelled(cancelled)
            return outputs[0]
        if sums is None:
            weights = torch.from_numpy(gaussian_weights(shape_of(n // stride for n in tile))).to(outputs.device)
            sums = outputs.new_zeros((outputs.shape[1], *cells)), outputs.new_zeros(cells), weights
        total, weight, weights = sums
        for where, values in zip(batch, outputs, strict=True):
            region = tuple(slice(s.start // stride, s.stop // stride) for s in where)
            total[(slice(None), *region)] += values * weights
            weight[region] += weights
    check_cancelled(cancelled)
    return total / weight
