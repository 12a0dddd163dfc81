"""Where the voxels of a prepared scan lie: samplings of a stack (I, P, L), and the grids that they give."""

from collections.abc import Iterable

import numpy as np

from APELocalizerLib.core.base.geometry import spacing_of, subgrid_affine
from APELocalizerLib.core.preparation.sampling import AxisSampling, antialiased, zoomed

Samplings = tuple[AxisSampling, AxisSampling, AxisSampling]
Box = tuple[slice, slice, slice]


def box_of(parts: Iterable[slice]) -> Box:
    """Exactly three slices as a box."""
    first, second, third = parts
    return first, second, third


def samplings_of(parts: Iterable[AxisSampling]) -> Samplings:
    """Exactly three samplings, of the axes I, P and L."""
    first, second, third = parts
    return first, second, third


def samplings_to(
    spacing: tuple,
    shape: tuple[int, int, int],
    grid_to_ras: np.ndarray,
    antialias: bool,
    drop_beyond: bool = False,
    starts: np.ndarray | None = None,
) -> Samplings:
    """One sampling per stack axis (I, P, L) to go from a canonical grid to `spacing` (P, L, I).

    `starts` (3,): stack indices of the first outputs, below 1; None to center them (antialiased only).
    """
    ratios = (np.array(spacing) / spacing_of(grid_to_ras))[[2, 0, 1]]
    if not antialias:
        return samplings_of(zoomed(n, float(1.0 / ratio), drop_beyond) for n, ratio in zip(shape, ratios, strict=True))
    begin = [None] * 3 if starts is None else [float(start) for start in starts]
    axes = zip(shape, ratios, begin, strict=True)
    return samplings_of(antialiased(n, float(ratio), start) for n, ratio, start in axes)


def on_lattice(
    box: Box, voxel_mm: np.ndarray, center: np.ndarray, spacing: tuple, lattice: tuple[int, int, int]
) -> tuple[Box, np.ndarray]:
    """(box, starts): the box begun at the last lattice points at or before its start, rounded down to a voxel, and the
    outputs' first positions (3,) in it, fractional. Slices are not added.

    `voxel_mm` (3,) along (I, P, L); `center` (3,) is the stack index (I, P, L) of the lattice point that fixes the
    others: the body's center of mass, which lies at the same anatomy wherever the scan's origin is.
    """
    period = (np.array(spacing) * lattice)[[2, 0, 1]] / voxel_mm
    start = np.array([part.start for part in box], float)
    starts = center + np.floor((start - center) / period + 1e-6) * period
    rows, columns = (slice(max(0, int(at)), part.stop) for at, part in zip(starts[1:], box[1:], strict=True))
    box = (box[0], rows, columns)
    return box, starts - [part.start for part in box]


def trimmed(box: Box, trim_mm: float, slice_mm: float) -> Box:
    """The box without the whole slices that `trim_mm` covers at either end; at least half of it is kept."""
    slices, rows, columns = box
    count = min(int(trim_mm / slice_mm + 1e-6), (slices.stop - slices.start) // 4)
    return slice(slices.start + count, slices.stop - count), rows, columns


def within(samplings: Samplings, shape: tuple[int, int, int]) -> np.ndarray:
    """Outputs (I, P, L) that lie inside the source voxels, not beyond their outer borders."""
    inside = []
    for sampling, n in zip(samplings, shape, strict=True):
        at = sampling.start + sampling.step * np.arange(len(sampling))
        inside.append((at >= -0.5) & (at <= n - 0.5))
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def nearest(samplings: Samplings, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Nearest source index of every output along each axis."""
    return [
        np.clip(np.floor(s.start + s.step * np.arange(len(s)) + 0.5).astype(int), 0, n - 1)
        for s, n in zip(samplings, shape, strict=True)
    ]


def common_box(boxes: list[Box]) -> Box:
    """Smallest box that holds all boxes."""
    axes = zip(*boxes, strict=True)
    return box_of(slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in axes)


def seen_from(samplings: Samplings, inner: Box, outer: Box) -> Samplings:
    """Samplings of the stack in box `inner` as samplings of the stack in box `outer`, which holds it."""
    moved = []
    for sampling, mine, other in zip(samplings, inner, outer, strict=True):
        shift = mine.start - other.start
        moved.append(AxisSampling(sampling.index + shift, sampling.weight, sampling.start + shift, sampling.step))
    return samplings_of(moved)


def moved(grid_to_ras: np.ndarray, origin) -> np.ndarray:
    """Canonical grid whose index 0 is stack index `origin` (I, P, L) of the given one."""
    return subgrid_affine(grid_to_ras, np.array(origin, float)[[1, 2, 0]], np.ones(3))


def sampled(grid_to_ras: np.ndarray, samplings: Samplings) -> np.ndarray:
    """Canonical grid of the sampled positions."""
    start = np.array([s.start for s in samplings])[[1, 2, 0]]
    return subgrid_affine(grid_to_ras, start, np.array([s.step for s in samplings])[[1, 2, 0]])
