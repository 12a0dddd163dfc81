"""Where the patient is: the box around the body, and the body mask.

Stacks have axes (I, P, L): slices from head to feet, rows toward posterior, columns toward left.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.preparation.grids import Box, box_of

SLICES = 16
"""Slices handled together by one thread."""

SLICE_STEPS, ROW_STEPS = np.array([(s, r) for s in (-1, 0, 1) for r in (-1, 0, 1) if (s, r) != (0, 0)]).T
"""Steps to the eight rows around a row."""

RUNS = 4096
"""Runs of air whose neighbors are looked for together by one thread."""

MASS_HU = (-1000, 300)
"""Voxels weigh nothing below, and no more above: metal weighs as bone. Between, resampled copies weigh the same."""

MASS_VOXELS = 2_000_000
"""About how many voxels are weighed."""

BLOCK_MM = 5.0
"""Blocks of about this size count as body only if every voxel in them is denser than the threshold."""


def body_box(
    stack: np.ndarray, spacing: np.ndarray, threshold: float, margins: tuple[int, int, int] = (0, 0, 0)
) -> Box | None:
    """Box around all blocks of ceil(5 mm / spacing) voxels that are at least `threshold` HU throughout.

    Blocks start at the head, front and right; the incomplete ones at the other ends never count (published APE
    preprocessing, step 1). With `margins` (I, P, L) the box grows by that many blocks per axis, up to the ends
    of the scan.

    Args:
        stack: HU, shape (I, P, L).
        spacing: mm along (I, P, L).

    Returns:
        A slice per axis, or None if there is no such block.
    """
    block = np.ceil(BLOCK_MM / np.asarray(spacing, float)).astype(int)
    counts = np.array(stack.shape) // block
    if counts.min() < 1:
        return None
    dense = np.zeros(counts, bool)

    def work(n: int) -> None:
        lowest = stack[n * block[0]]
        for k in range(n * block[0] + 1, (n + 1) * block[0]):
            lowest = np.minimum(lowest, stack[k])
        for axis in (0, 1):
            parts = [_every(lowest, axis, t, block[axis + 1], counts[axis + 1]) for t in range(block[axis + 1])]
            lowest = parts[0]
            for part in parts[1:]:
                lowest = np.minimum(lowest, part)
        dense[n] = lowest >= threshold

    parallel_for(work, int(counts[0]))
    return box_around(dense, block.tolist(), shape_of(stack.shape), margins)


def body_center(stack: np.ndarray) -> np.ndarray:
    """Center of mass (3,) of the body, as a fractional index (I, P, L): the same anatomy on every copy of a scan.

    Every voxel denser than air counts by its density; about two million voxels, spread evenly, are looked at.
    """
    steps = mass_steps(shape_of(stack.shape))
    low, high = MASS_HU
    mass = np.clip(stack[:: steps[0], :: steps[1], :: steps[2]], low, high).astype(np.int64) - low
    return center_of([mass.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)], steps)


def mass_steps(shape: tuple[int, int, int]) -> list[int]:
    """Every how many voxels the mass is read along each axis: most where there are most voxels."""
    steps = [1, 1, 1]
    while np.prod([-(-n // step) for n, step in zip(shape, steps, strict=True)]) > MASS_VOXELS:
        longest = int(np.argmax([n // step for n, step in zip(shape, steps, strict=True)]))
        steps[longest] += 1
    return steps


def center_of(masses: list[np.ndarray], steps: list[int]) -> np.ndarray:
    """Center of mass (3,) of the masses along each axis, whole numbers; the middle of what holds no mass."""
    return np.array(
        [
            step * (float(mass @ np.arange(len(mass))) / float(mass.sum()) if mass.any() else (len(mass) - 1) / 2)
            for mass, step in zip(masses, steps, strict=True)
        ]
    )


def box_around(
    dense: np.ndarray, block: list[int], shape: tuple[int, int, int], margins: tuple[int, int, int]
) -> Box | None:
    """Box in voxels around the dense blocks (bool, one per block of a stack of this shape); see `body_box`."""
    if not dense.any():
        return None
    box = []
    for axis in range(3):
        hit = np.flatnonzero(dense.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = hit[0] - margins[axis], hit[-1] + 1 + margins[axis]
        stop = shape[axis] if last > dense.shape[axis] else last * block[axis]
        box.append(slice(int(max(0, first) * block[axis]), int(min(stop, shape[axis]))))
    return box_of(box)


def _every(plane: np.ndarray, axis: int, start: int, step: int, count: int) -> np.ndarray:
    """`count` rows (axis 0) or columns (axis 1) of a plane: start, start + step, …"""
    part = slice(start, start + step * (count - 1) + 1, step)
    return plane[part] if axis == 0 else plane[:, part]


def body_mask(air: np.ndarray) -> np.ndarray:
    """Everything except the air that is connected to the four sides of the stack (26-neighborhood).

    Lungs and bowel gas are body, unless the field of view cuts them at the side. Air that only touches the first or
    last slice is body too. Equals a flood fill from the corner of the stack padded with air in P and L (published APE
    preprocessing, step 4), but works on runs of air along the rows instead of voxels.

    Args:
        air: bool, shape (I, P, L).

    Returns:
        bool, shape (I, P, L).
    """
    slices, rows, columns = air.shape
    width = columns + 1
    parts: list[np.ndarray] = [np.empty(0, np.intp)] * -(-slices // SLICES)

    def find_runs(n: int) -> None:
        part = air[n * SLICES : (n + 1) * SLICES]
        flat = np.zeros(part.shape[0] * rows * width + 1, bool)
        flat[1:].reshape(-1, rows, width)[:, :, :columns] = part
        parts[n] = np.flatnonzero(flat[1:] != flat[:-1]) + n * SLICES * rows * width

    parallel_for(find_runs, len(parts))
    changes = np.concatenate(parts)
    runs = Runs(changes[0::2], changes[1::2], rows, columns)
    outside = runs.connected_to(np.flatnonzero(runs.at_side))
    starts, ends = runs.starts[outside], runs.ends[outside]
    body = np.empty(air.shape, bool)

    def paint(n: int) -> None:
        part = body[n * SLICES : (n + 1) * SLICES]
        first = n * SLICES * rows * width
        step = np.zeros(part.shape[0] * rows * width, np.int8)
        begin, end = np.searchsorted(starts, (first, first + step.size))
        step[starts[begin:end] - first] = 1
        step[ends[begin:end] - first] = -1
        flooded = np.cumsum(step, dtype=np.int8, out=step).reshape(-1, rows, width)
        np.equal(flooded[:, :, :columns], 0, out=part)

    parallel_for(paint, len(parts))
    return body


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs [start, end) of air along the rows of a stack.

    Positions are flat indices into rows of columns + 1 voxels, the last of which is never air; both arrays rise.
    """

    starts: np.ndarray
    ends: np.ndarray
    rows: int
    columns: int

    @cached_property
    def row_in_slice(self) -> np.ndarray:
        """Row of each run in its slice."""
        return self.starts // (self.columns + 1) % self.rows

    @cached_property
    def at_side(self) -> np.ndarray:
        """Which runs touch the first or last row or column; bool (runs,)."""
        width = self.columns + 1
        at_end_column = (self.starts % width == 0) | (self.ends % width == self.columns)
        return at_end_column | (self.row_in_slice == 0) | (self.row_in_slice == self.rows - 1)

    def connected_to(self, seeds: np.ndarray) -> np.ndarray:
        """Which runs are connected to the runs with these indices (26-neighborhood); bool (runs,)."""
        reached = np.zeros(len(self.starts), bool)
        reached[seeds] = True
        frontier = seeds
        while frontier.size:
            parts = np.array_split(frontier, -(-frontier.size // RUNS))
            touched = [frontier] * len(parts)

            def look(n: int, parts=parts, touched=touched) -> None:
                touched[n] = self._touching(parts[n])

            if len(parts) > 1:
                parallel_for(look, len(parts))
            else:
                look(0)
            neighbors = np.concatenate(touched)
            neighbors = neighbors[~reached[neighbors]]
            reached[neighbors] = True
            frontier = np.unique(neighbors)
        return reached

    def _touching(self, runs: np.ndarray) -> np.ndarray:
        """Indices of the runs in the eight neighboring rows that touch the given runs, corners included."""
        target = self.row_in_slice[runs] + ROW_STEPS[:, None]
        inside = (target >= 0) & (target < self.rows)
        shift = (SLICE_STEPS * self.rows + ROW_STEPS)[:, None] * (self.columns + 1)
        first = np.searchsorted(self.ends, (self.starts[runs] + shift)[inside], "left")
        last = np.searchsorted(self.starts, (self.ends[runs] + shift)[inside], "right")
        return _ranges(first, last)


def _ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """All integers of the ranges [first, last), one after the other."""
    length = np.maximum(last - first, 0)
    total = int(length.sum())
    before = np.cumsum(length) - length
    return np.arange(total) + np.repeat(first - before, length)
