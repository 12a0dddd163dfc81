"""Equalization of contrast on any device: the same arithmetic as `clahe.py`, so that the same floats come out."""

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.preparation.clahe import BINS, maps_of_histograms, neighbors, tiles_of

CHUNK = 32
"""Slices handled together."""


def equalize_levels(
    levels: Tensor, clip_limit: float, progress: Progress | None = None, cancelled: CancelCheck | None = None
) -> Tensor:
    """As `clahe.equalize_levels`, for a tensor of histogram bins (uint8, 3 axes)."""
    tile, counts = tiles_of(shape_of(levels.shape))
    histograms = _histograms(levels, tile, counts, cancelled)
    maps = maps_of_histograms(histograms.cpu().numpy(), tile, counts, clip_limit)
    report(progress, 0.3, "Equalizing contrast")
    mapped = _blend(levels, torch.from_numpy(maps).to(levels.device), tile, cancelled)
    report(progress, 1.0, "Equalizing contrast")
    low, high = mapped.min(), mapped.max()
    mapped -= low
    scale = np.float32(1.0 / (high - low).item()) if high > low else np.float32(1.0)
    return mapped.mul_(float(scale))


def _histograms(levels: Tensor, tile: list[int], counts: list[int], cancelled: CancelCheck | None) -> Tensor:
    """Histogram of every tile, int64 (tiles, BINS); incomplete tiles are completed by reflection."""
    index = [_reflected(n, c * t) for n, c, t in zip(levels.shape, counts, tile, strict=True)]
    rows, columns = (torch.from_numpy(i).to(levels.device) for i in index[1:])
    row_tile = torch.arange(len(rows), device=levels.device) // tile[1]
    column_tile = torch.arange(len(columns), device=levels.device) // tile[2]
    offset = (row_tile[:, None] * counts[2] + column_tile) * BINS
    size = counts[1] * counts[2] * BINS
    layers = []
    for n in range(counts[0]):
        check_cancelled(cancelled)
        planes = torch.from_numpy(index[0][n * tile[0] : (n + 1) * tile[0]]).to(levels.device)
        layer = levels.index_select(0, planes).index_select(1, rows).index_select(2, columns)
        layers.append(torch.bincount((layer + offset).flatten(), minlength=size))
    return torch.stack(layers).view(-1, BINS)


def _reflected(length: int, wanted: int) -> np.ndarray:
    """Indices of an axis continued by reflection, without repeating the last voxel."""
    return np.pad(np.arange(length), (0, wanted - length), mode="reflect")


def _blend(levels: Tensor, maps: Tensor, tile: list[int], cancelled: CancelCheck | None) -> Tensor:
    """Map every voxel through the maps of the eight nearest tiles, blended linearly; float32 gray values."""
    device = levels.device
    pairs = [neighbors(*lengths) for lengths in zip(levels.shape, tile, strict=True)]
    axes = [tuple(torch.from_numpy(part).to(device) for part in pair) for pair in pairs]
    (before, weight), (row, row_weight), (column, column_weight) = axes
    padded = maps
    for axis in range(3):
        first, last = padded.narrow(axis, 0, 1), padded.narrow(axis, padded.shape[axis] - 1, 1)
        padded = torch.cat([first, padded, last], dim=axis)
    width, entries = padded.shape[2], padded[0].numel()
    base = (row[:, None] * width + column) * BINS
    out = torch.empty(levels.shape, device=device)
    for start in range(0, len(levels), CHUNK):
        check_cancelled(cancelled)
        part = slice(start, start + CHUNK)
        share = weight[part].view(-1, 1, 1, 1)
        table = (padded[before[part]] * (1 - share) + padded[before[part] + 1] * share).flatten()
        layer = torch.arange(len(before[part]), device=device).view(-1, 1, 1) * entries
        index = base + layer + levels[part]
        total = out[part]
        for n, (down, right) in enumerate(np.ndindex(2, 2)):
            rows = (row_weight if down else 1 - row_weight)[:, None]
            columns = column_weight if right else 1 - column_weight
            value = table[index + (down * width + right) * BINS] * (rows * columns)
            if n == 0:
                total.copy_(value)
            else:
                total += value
        total.floor_()
    return out
