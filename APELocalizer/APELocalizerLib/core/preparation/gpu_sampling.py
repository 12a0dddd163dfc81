"""Separable resampling of one stack to several grids at once, as matrix products on any device.

Going to coarser grids, `sampling.resample` would read every source voxel again for every grid and every tap. Here
the source is read once, a slab of slices at a time; along each axis the outputs of a few neighbors are one small matrix
times the sources that they share. Slices come first, because they shrink the data at the least cost.
"""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.parallel import worker_count
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.preparation.sampling import AxisSampling

Samplings = tuple[AxisSampling, AxisSampling, AxisSampling]


@dataclass(frozen=True)
class BlockSizes:
    """How much is computed together: source slices in a slab, outputs of one matrix product along each axis, and planes
    that are complete along I before rows and columns are done.

    Large products waste work on zeros, small ones waste time on starting.
    """

    slab: int
    slices: int
    planes: int
    rows: int
    columns: int

    @classmethod
    def of(cls, device: torch.device) -> "BlockSizes":
        """On a CPU a slab should fit into the cache; elsewhere the number of products counts."""
        return cls(8, 1, 4, 16, 16) if device.type == "cpu" else cls(128, 32, 32, 64, 64)


def resample_all(
    stack: np.ndarray | Tensor,
    grids: list[Samplings],
    limits: tuple[float, float] | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> list[Tensor]:
    """Resample a stack (I, P, L) to each of the grids; float32 tensors (I, P, L), on the device where the stack is.

    Equals `sampling.resample` for each of the grids, apart from the rounding of sums.

    Args:
        stack: an array of any number type and strides, or a tensor on any device.
        limits: values are clipped to this range first.
    """
    device = stack.device if isinstance(stack, Tensor) else torch.device("cpu")
    sizes = BlockSizes.of(device)
    works = [_Grid(grid, sizes, tuple(stack.shape[1:]), device) for grid in grids]
    longest = max(band.source.stop - band.source.start for work in works for band in work.slices)
    space = torch.empty((sizes.slab + longest, *stack.shape[1:]), device=device)
    ends = [*range(sizes.slab, stack.shape[0], sizes.slab), stack.shape[0]]
    with ThreadPoolExecutor(max_workers=worker_count()) as executor:
        for n, end in enumerate(ends, 1):
            check_cancelled(cancelled)
            bands = [work.complete(end) for work in works]
            start = min((parts[0].source.start for parts in bands if parts), default=end)
            source = _loaded(stack, slice(start, end), limits, space, executor)
            for work, complete in zip(works, bands, strict=True):
                work.add(source, start, complete)
            report(progress, n / len(ends), "Preparing the scan")
    return [work.result for work in works]


@dataclass(frozen=True, eq=False)
class _Band:
    """Neighboring outputs along one axis: weights (outputs, sources), float32."""

    source: slice
    outputs: slice
    weights: Tensor


class _Grid:
    """One grid to be filled slab by slab."""

    def __init__(self, samplings: Samplings, sizes: BlockSizes, shape: tuple[int, int], device: torch.device) -> None:
        lengths = (sizes.slices, sizes.rows, sizes.columns)
        bands = [_bands(sampling, size, device) for sampling, size in zip(samplings, lengths, strict=True)]
        self.slices, self._rows, self._columns = bands
        self.result = torch.empty(tuple(map(len, samplings)), device=device)
        self._planes = torch.empty((sizes.planes + sizes.slices - 1, *shape), device=device)
        self._wanted, self._first, self._count = sizes.planes, 0, 0

    def complete(self, end: int) -> list[_Band]:
        """Take out the bands whose source slices lie before `end`."""
        count = next((n for n, band in enumerate(self.slices) if band.source.stop > end), len(self.slices))
        bands, self.slices = self.slices[:count], self.slices[count:]
        return bands

    def add(self, source: Tensor, start: int, bands: list[_Band]) -> None:
        """Compute the outputs of `bands` from source slices (n, P, L) of which the first is slice `start`."""
        for band in bands:
            mine = source[band.source.start - start : band.source.stop - start]
            target = self._planes[self._count : self._count + len(band.weights)]
            torch.mm(band.weights, mine.flatten(1), out=target.flatten(1))
            self._count += len(band.weights)
            if self._count >= self._wanted or self._first + self._count == len(self.result):
                self._resample_planes()

    def _resample_planes(self) -> None:
        """Resample the planes that have gathered along rows and columns."""
        planes, out = self._planes[: self._count], self.result[self._first : self._first + self._count]
        by_rows = planes.new_empty((len(planes), out.shape[1], planes.shape[2]))
        for band in self._rows:
            by_rows[:, band.outputs] = torch.bmm(band.weights.expand(len(planes), -1, -1), planes[:, band.source])
        flat, target = by_rows.flatten(0, 1), out.flatten(0, 1)
        for band in self._columns:
            target[:, band.outputs] = torch.mm(flat[:, band.source], band.weights.t())
        self._first, self._count = self._first + self._count, 0


def _bands(sampling: AxisSampling, size: int, device: torch.device) -> list[_Band]:
    """The sampling in bands of `size` outputs."""
    used, count = sampling.weight != 0, int(sampling.index.max()) + 1
    matrix = np.zeros((len(sampling), count))
    np.add.at(matrix, (np.arange(len(sampling))[:, None], sampling.index), sampling.weight)
    weights = torch.from_numpy(matrix.astype(np.float32)).to(device)
    starts = range(0, len(sampling), size)
    first = np.minimum.reduceat(np.where(used, sampling.index, count).min(axis=1), starts).tolist()
    last = np.maximum.reduceat(np.where(used, sampling.index, 0).max(axis=1), starts).tolist()
    sources = [slice(a, b + 1) for a, b in zip(first, last, strict=True)]
    outputs = [slice(start, min(start + size, len(sampling))) for start in starts]
    return [_Band(a, b, weights[b, a]) for a, b in zip(sources, outputs, strict=True)]


def _loaded(
    stack: np.ndarray | Tensor, source: slice, limits: tuple[float, float] | None, space: Tensor, executor: Executor
) -> Tensor:
    """Slices of the stack as float32, clipped, in `space`."""
    target = space[: source.stop - source.start]
    if isinstance(stack, Tensor):
        target.copy_(stack[source])
        return target if limits is None else target.clamp_(*limits)
    array, planes = target.numpy(), range(source.start, source.stop)

    def load(part: range) -> None:
        mine = array[part.start - source.start : part.stop - source.start]
        np.copyto(mine, stack[part.start : part.stop], casting="unsafe")
        if limits is not None:
            np.clip(mine, np.float32(limits[0]), np.float32(limits[1]), out=mine)

    list(executor.map(load, [planes[n : n + 4] for n in range(0, len(planes), 4)]))
    return target
