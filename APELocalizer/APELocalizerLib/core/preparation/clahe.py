"""Contrast limited adaptive histogram equalization of whole volumes, equal to scikit-image's.

The image is split into tiles of 1/8 of each axis. Each tile's histogram is clipped, and its cumulative sum maps gray
levels; every voxel is mapped through the eight nearest tiles' maps, blended linearly (Zuiderveld, Graphics Gems IV,
1994).
"""

import numpy as np

from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, sub_progress

GRAYS = 2**14
"""Gray values before binning and after mapping."""

BINS = 256
"""Histogram bins."""

BIN_SIZE = 1 + GRAYS // BINS
"""Gray values per bin; the last few bins stay empty."""

UNSURE = 255
"""Level that no gray value has: marks values too near the border of a level to be told in float32."""


def equalize_adapthist(image: np.ndarray, clip_limit: float = 0.01) -> np.ndarray:
    """Equalize an image with 1 to 3 axes and values from 0 to 1; returns float32 from 0 to 1.

    Equals `skimage.exposure.equalize_adapthist(image, clip_limit=clip_limit)` with its default tiles and bins.
    """
    image = np.asarray(image, np.float32)
    if image.ndim not in (1, 2, 3) or image.size == 0:
        raise ValueError(f"equalize_adapthist needs a non-empty image with 1 to 3 axes, not shape {image.shape}.")
    if image.min() < 0 or image.max() > 1:
        raise ValueError("equalize_adapthist needs values from 0 to 1.")
    volume = image.reshape((1,) * (3 - image.ndim) + image.shape)
    levels = _levels(image_16_bit(volume), *image_16_bit(np.array([volume.min(), volume.max()])))
    return equalize_levels(levels, clip_limit).reshape(image.shape)


def image_16_bit(image: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as 16-bit integers (held in the image's float type)."""
    return np.rint(image * image.dtype.type(65535))


def _levels(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Histogram bin (uint8) of 16-bit gray values, after stretching low..high to 14 bits."""
    span = float(high) - float(low)
    stretched = (image.astype(np.float64) - float(low)) / (span if span > 0 else 1.0)
    return (np.rint(np.clip(stretched, 0, 1) * (GRAYS - 1)).astype(np.int64) // BIN_SIZE).astype(np.uint8)


class Quantization:
    """Bins of Hounsfield units, by table.

    Calling it with float32 HU gives (bins uint8, flat indices of values within ERROR_HU of a border or of `threshold`);
    `exactly` gives the bins of values known exactly.
    """

    CELLS = 1 << 16
    ERROR_HU = 2e-3

    def __init__(self, lowest: float, highest: float, window: tuple[float, float], threshold: float) -> None:
        self.window = window
        self.ends = image_16_bit(self._unit(np.array([lowest, highest], np.float32)))
        edges = np.linspace(window[0], window[1], self.CELLS + 1)
        below = self.exactly((edges[:-1] - self.ERROR_HU).astype(np.float32))
        above = self.exactly((edges[1:] + self.ERROR_HU).astype(np.float32))
        beside = (edges[:-1] - self.ERROR_HU > threshold) | (edges[1:] + self.ERROR_HU < threshold)
        self.table = np.where((below == above) & beside, below, UNSURE).astype(np.uint8)
        self.scale = np.float32(self.CELLS / (window[1] - window[0]))

    def _unit(self, hu: np.ndarray) -> np.ndarray:
        low, high = self.window
        return np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)

    def exactly(self, hu: np.ndarray) -> np.ndarray:
        """Bins (uint8) of float32 HU."""
        return _levels(image_16_bit(self._unit(hu)), *self.ends)

    def __call__(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cell = (hu - np.float32(self.window[0])) * self.scale
        bins = np.take(self.table, cell.astype(np.intp), mode="clip")
        return bins, np.flatnonzero(bins == UNSURE)


def equalize_levels(
    levels: np.ndarray, clip_limit: float, progress: Progress | None = None, cancelled: CancelCheck | None = None
) -> np.ndarray:
    """Equalize a volume of histogram bins (uint8, 3 axes); returns float32 from 0 to 1."""
    tile, counts = tiles_of(levels.shape)
    beyond = [(0, c * t - n) for n, t, c in zip(levels.shape, tile, counts, strict=True)]
    padded = np.pad(levels, beyond, mode="reflect")
    histograms = _histograms(padded, tile, counts, sub_progress(progress, 0.0, 0.3), cancelled)
    maps = maps_of_histograms(histograms, tile, counts, clip_limit)
    check_cancelled(cancelled)
    mapped = _blend(levels, maps, tile, sub_progress(progress, 0.3, 0.9), cancelled)
    low, high = mapped.min(), mapped.max()
    mapped -= low
    mapped *= np.float32(1.0 / (high - low) if high > low else 1.0)
    return mapped


def tiles_of(shape: tuple[int, int, int]) -> tuple[list[int], list[int]]:
    """(voxels of a tile, number of tiles) along each axis of a volume."""
    tile = [max(n // 8, 1) for n in shape]
    return tile, [-(-n // t) for n, t in zip(shape, tile, strict=True)]


def maps_of_histograms(histograms: np.ndarray, tile: list[int], counts: list[int], clip_limit: float) -> np.ndarray:
    """Gray value of every level in every tile, float32 (*counts, BINS), from histograms (tiles, BINS)."""
    voxels = int(np.prod(tile))
    limit = max(1, int(clip_limit * voxels)) if clip_limit > 0 else voxels
    maps = np.cumsum(clip_histograms(histograms, limit), axis=-1) * ((GRAYS - 1) / voxels)
    return np.floor(np.minimum(maps, GRAYS - 1)).astype(np.float32).reshape(*counts, BINS)


def clip_histograms(histograms: np.ndarray, limit: int) -> np.ndarray:
    """Clip each histogram (row) at `limit` and spread what was cut off over its bins.

    First every bin gets an equal share; the rest goes one count at a time to evenly spaced bins that have room,
    starting at the first bin, then at the second, and so on, until nothing is left. All rows are treated at once.
    """
    clipped = np.minimum(histograms, limit).astype(np.int64)
    excess = histograms.sum(axis=1) - clipped.sum(axis=1)
    share = excess // BINS
    room_for_share = clipped < (limit - share)[:, None]
    excess -= room_for_share.sum(axis=1) * share
    clipped += room_for_share * share[:, None]
    topped_up = (clipped >= (limit - share)[:, None]) & (clipped < limit)
    excess -= np.where(topped_up, limit - clipped, 0).sum(axis=1)
    clipped[topped_up] = limit
    active = np.flatnonzero(excess > 0)
    while active.size:
        left, rows = _spread_once(clipped[active], excess[active], limit)
        clipped[active] = rows
        changed = left != excess[active]
        excess[active] = left
        active = active[changed & (left > 0)]
    return clipped


def _spread_once(rows: np.ndarray, excess: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """One pass over all first bins; returns (what is left, the rows)."""
    excess = excess.copy()
    bins = np.arange(BINS)
    open_rows = np.arange(len(rows))
    for first in range(BINS):
        room = rows[open_rows] < limit
        step = np.maximum(1, room.sum(axis=1) // excess[open_rows])[:, None]
        chosen = room & (bins >= first) & ((bins - first) % step == 0)
        rows[open_rows] += chosen
        excess[open_rows] -= chosen.sum(axis=1)
        open_rows = open_rows[excess[open_rows] > 0]
        if not open_rows.size:
            break
    return excess, rows


def _histograms(
    padded: np.ndarray, tile: list[int], counts: list[int], progress: Progress | None, cancelled: CancelCheck | None
) -> np.ndarray:
    """Histogram of every tile, int64, shape (tiles, BINS); tiles in C order."""
    histograms = np.empty((counts[0], counts[1] * counts[2], BINS), np.int64)
    row_tile, column_tile = np.arange(padded.shape[1]) // tile[1], np.arange(padded.shape[2]) // tile[2]
    offset = (row_tile[:, None] * counts[2] + column_tile) * BINS

    def work(n: int) -> None:
        total = np.zeros(histograms[n].size, np.int64)
        for plane in padded[n * tile[0] : (n + 1) * tile[0]]:
            total += np.bincount((offset + plane).ravel(), minlength=total.size)
        histograms[n] = total.reshape(-1, BINS)

    parallel_for(work, counts[0], progress, cancelled)
    return histograms.reshape(-1, BINS)


def _blend(
    levels: np.ndarray, maps: np.ndarray, tile: list[int], progress: Progress | None, cancelled: CancelCheck | None
) -> np.ndarray:
    """Map every voxel through the maps of the eight nearest tiles, blended linearly; float32 gray values.

    For each slice the maps of the two nearest tile layers are blended first, so that four look-ups per voxel remain.
    """
    (before, weight), rows, columns = (neighbors(n, t) for n, t in zip(levels.shape, tile, strict=True))
    maps = np.pad(maps, [(1, 1)] * 3 + [(0, 0)], mode="edge")
    width = maps.shape[2]
    base = (rows[0][:, None] * width + columns[0]) * BINS
    corners = [
        ((row * width + column) * BINS, _outer(rows[1], columns[1], row, column)) for row, column in np.ndindex(2, 2)
    ]
    out = np.empty(levels.shape, np.float32)

    def work(i: int) -> None:
        table = (maps[before[i]] * (1 - weight[i]) + maps[before[i] + 1] * weight[i]).ravel()
        index = base + levels[i]
        part = np.empty(index.shape, np.float32)
        for n, (shift, share) in enumerate(corners):
            np.take(table[shift:], index, out=part, mode="clip")
            part *= share
            if n == 0:
                out[i] = part
            else:
                out[i] += part
        np.floor(out[i], out=out[i])

    parallel_for(work, len(levels), progress, cancelled)
    return out


def neighbors(length: int, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """For each voxel of an axis: the tile center before it (index into edge-padded maps), and the next one's weight."""
    position = np.arange(length) + tile // 2
    return position // tile, (position % tile / tile).astype(np.float32)


def _outer(rows: np.ndarray, columns: np.ndarray, row: int, column: int) -> np.ndarray:
    """Weights of one of the four corners for all voxels of a slice."""
    return (rows if row else 1 - rows)[:, None] * (columns if column else 1 - columns)
