"""Exact nearest cells in embedding space, without comparing every query to every cell.

The cells are packed into boxes of about `CELLS_PER_LEAF` near ones (sort-tile-recursive: sorted along the first
coordinate and cut, each slab along the second, each rod along the third). A box cannot hold anything nearer than its
nearest side, so that of a thousand boxes only two or three are opened for a query.
"""

from dataclasses import dataclass

import numpy as np

CELLS_PER_LEAF = 128
BOUNDS_PER_BLOCK = 1 << 18
"""Distances from queries to boxes that are held at a time: 1 MB, so that they stay in the processor's cache."""

PAIRS_PER_BLOCK = 1 << 14
"""Opened boxes that are compared at a time."""

FAR = np.float32(1e18)
"""Coordinate of the places in a box that hold no cell; its square is still a number."""


@dataclass(frozen=True, eq=False)
class CellTree:
    """Boxes of cells: `centers` and `halves` (3, leaves) of the boxes, `points` (3, leaves, size) and the numbers of
    the cells `cells` (leaves, size) in them, `count` in all. Coordinates are embedding mm less `origin` (3,)."""

    origin: np.ndarray
    centers: np.ndarray
    halves: np.ndarray
    points: np.ndarray
    cells: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> "CellTree":
        """Pack the cells with embeddings `values` (n, 3), n > 0."""
        origin = values.mean(axis=0, dtype=np.float64)
        points = np.ascontiguousarray((values - origin).T, dtype=np.float32)
        order, starts = _packed(points)
        ordered = points.take(order, axis=1)
        sizes = np.diff(starts, append=len(order))
        slots = np.arange(sizes.max())
        places = np.minimum(starts[:, None] + slots, len(order) - 1)
        low, high = (extreme.reduceat(ordered, starts, axis=1) for extreme in (np.minimum, np.maximum))
        filled = ordered.take(places, axis=1)
        filled[:, slots >= sizes[:, None]] = FAR
        return cls(origin, (low + high) / 2, (high - low) / 2, filled, order[places], len(order))

    def nearest(self, queries: np.ndarray, count: int = 1) -> np.ndarray:
        """Numbers (m, count) of the cells nearest to the queries (m, 3), nearest first.

        Fewer columns if there are fewer cells. Of equally near cells any may be named.
        """
        queries = (queries - self.origin).astype(np.float32)
        count = min(count, self.count)
        nearest = np.empty((len(queries), count), dtype=self.cells.dtype)
        rows = max(1, BOUNDS_PER_BLOCK // self.centers.shape[1])
        for start in range(0, len(queries), rows):
            nearest[start : start + rows] = self._search(queries[start : start + rows], count)
        return nearest

    def _search(self, queries: np.ndarray, count: int) -> np.ndarray:
        bounds = self._bounds(queries)
        first = bounds.argmin(axis=1)
        reach = self._reach(queries, first, count)
        opened = bounds < reach[:, None]
        opened[np.arange(len(queries)), first] = True
        rows, leaves = np.nonzero(opened)
        if len(rows) <= PAIRS_PER_BLOCK or len(queries) == 1:
            return self._best(queries, rows, leaves, reach, count)
        half = len(queries) // 2
        return np.concatenate([self._search(queries[:half], count), self._search(queries[half:], count)])

    def _reach(self, queries: np.ndarray, leaves: np.ndarray, count: int) -> np.ndarray:
        """Squared distance (m,) within which there are `count` cells for sure: those of one leaf each."""
        squared = self._squared(queries, leaves)
        if count > squared.shape[1]:
            return np.full(len(queries), np.inf, dtype=np.float32)
        return squared.min(axis=1) if count == 1 else np.partition(squared, count - 1, axis=1)[:, count - 1]

    def _best(self, queries, rows, leaves, reach, count) -> np.ndarray:
        """The `count` nearest cells of each query among the opened leaves; `rows` (pairs,) rise."""
        squared = self._squared(queries[rows], leaves)
        pairs, slots = np.nonzero(squared <= np.minimum(reach, FAR)[rows, None])
        order = np.lexsort((squared[pairs, slots], rows[pairs]))
        owners = rows[pairs][order]
        rank = np.arange(len(owners)) - np.searchsorted(owners, np.arange(len(queries)))[owners]
        chosen = order[rank < count]
        return self.cells[leaves[pairs[chosen]], slots[chosen]].reshape(len(queries), count)

    def _bounds(self, queries: np.ndarray) -> np.ndarray:
        """Squared distances (m, leaves) from queries to boxes."""
        total = np.zeros((len(queries), self.centers.shape[1]), dtype=np.float32)
        for axis in range(3):
            gap = queries[:, axis, None] - self.centers[axis]
            np.abs(gap, out=gap)
            gap -= self.halves[axis]
            np.maximum(gap, 0, out=gap)
            gap *= gap
            total += gap
        return total

    def _squared(self, queries: np.ndarray, leaves: np.ndarray) -> np.ndarray:
        """Squared distances (m, size) from each query to the cells of one leaf each."""
        total = np.zeros((len(queries), self.points.shape[2]), dtype=np.float32)
        for axis in range(3):
            gap = self.points[axis].take(leaves, axis=0)
            gap -= queries[:, axis, None]
            gap *= gap
            total += gap
        return total


def _packed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order (n,) in which near cells follow each other, and where each leaf starts in it; `points` (3, n)."""
    count = points.shape[1]
    low, extent = points.min(axis=1, keepdims=True), np.ptp(points, axis=1, keepdims=True)
    levels = ((points - low) / np.maximum(extent, 1e-9) * 65535).astype(np.uint16)  # numpy sorts these by radix
    order, groups = np.arange(count), 1
    group = np.zeros(count, dtype=np.uint16)
    for axis, parts in _parts(extent[:, 0], count):
        order = np.argsort(levels[axis], kind="stable")
        order = order[np.argsort(group[order], kind="stable")]
        groups *= parts
        group[order] = np.arange(count) * groups // count
    return order, -(-np.arange(groups) * count // groups)


def _parts(extent: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Into how many parts of equal length each axis is cut, the longest axis first, for cube-like leaves."""
    leaves = min(max(1.0, count / CELLS_PER_LEAF), 60000.0)
    parts = []
    for number, axis in enumerate(np.argsort(extent)):
        remaining = np.maximum(np.sort(extent)[number:], 1e-9) / max(float(extent.max()), 1e-9)
        wanted = remaining[0] * (leaves / remaining.prod()) ** (1 / len(remaining))
        parts.append((int(axis), int(np.clip(round(float(wanted)), 1, leaves))))
        leaves = max(1.0, leaves / parts[-1][1])
    return parts[::-1]
