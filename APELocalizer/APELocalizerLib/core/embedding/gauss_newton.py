"""From a near cell to the place between the cells: many searches at once, on one map or on several.

Each search moves by damped Gauss-Newton steps (Levenberg-Marquardt) on the trilinear map, at most one cell from where
it starts. A search that has met its query takes no part in further steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.embedding.trilinear import PAD, corner_offsets, value_and_gradient

STEPS = 12
"""Steps that a search may take; where the map meets the query, nearly all end after three."""

MET_MM = 1e-3
"""A search has met its query when the map's value is this near to it: a hundred times finer than answers need be."""

_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])


@dataclass(frozen=True, eq=False)
class Terrain:
    """What searches move on: a map's `values` (a + 2 PAD, b + 2 PAD, c + 2 PAD, 3) float32, continued beyond the body
    (see `trilinear.extend_from_mask`); indices count from the first cell of the map itself."""

    values: np.ndarray

    @property
    def shape(self) -> np.ndarray:
        """Cells (3,) of the map itself."""
        return np.array(self.values.shape[:3]) - 2 * PAD

    @property
    def strides(self) -> np.ndarray:
        """Numbers (3,) from a cell to its next neighbor along each axis."""
        return np.array([self.values.shape[1] * self.values.shape[2], self.values.shape[2], 1]) * 3


@dataclass(frozen=True, eq=False)
class Task:
    """Searches on one terrain: `start` (n, 3) cell indices and `queries` (n, 3) embedding mm."""

    terrain: Terrain
    start: np.ndarray
    queries: np.ndarray


def settle(tasks: Sequence[Task]) -> tuple[np.ndarray, np.ndarray]:
    """Move every search to where the trilinear map meets its query, or comes nearest to it.

    Returns cell indices (n, 3) float64 and embedding distances (n,) mm of all tasks' searches in a row. A search stays
    within one cell of its start, and within half a cell of the outermost cells.
    """
    searches = _Searches(tasks)
    for _ in range(STEPS):
        if not searches.step():
            break
    return searches.answer()


class _Searches:
    """All searches that still move, in columns, and the answers of those that have ended."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.flat = [task.terrain.values.reshape(-1) for task in tasks]
        self.offsets = [corner_offsets(task.terrain.strides, 3) for task in tasks]
        counts = [len(task.start) for task in tasks]
        start, self.queries = (
            np.ascontiguousarray(np.concatenate(columns).T, dtype=np.float64)
            for columns in ([task.start for task in tasks], [task.queries for task in tasks])
        )
        top = np.repeat([task.terrain.shape for task in tasks], counts, axis=0).T
        self.first_rows = np.cumsum([0, *counts])
        self.rows = np.arange(len(start.T))
        self.answers, self.errors = np.empty_like(start), np.empty(len(self.rows))
        self.strides = np.repeat([task.terrain.strides for task in tasks], counts, axis=0).T
        self.low = np.maximum(start - 1, -0.5) + PAD
        self.high = np.minimum(start + 1, top - 0.5) + PAD
        self.damping = np.full(len(self.rows), 1e-3)
        self.at = start + PAD
        self.residual, self.slope = self._look(self.at)
        self.error = (self.residual**2).sum(axis=0)
        self._drop(self.error < MET_MM**2)

    def step(self) -> bool:
        """Try a step with every search; returns whether any still moves."""
        if not len(self.rows):
            return False
        trial = self.at + _damped(self.slope, self.residual, self.damping)
        np.minimum(np.maximum(trial, self.low, out=trial), self.high, out=trial)
        residual, slope = self._look(trial)
        error = (residual**2).sum(axis=0)
        better = error < self.error
        for kept, tried in ((self.at, trial), (self.error, error), (self.residual, residual), (self.slope, slope)):
            np.copyto(kept, tried, where=better)
        self.damping *= np.where(better, 0.3, 10.0)
        self._drop(self.error < MET_MM**2)
        return True

    def answer(self) -> tuple[np.ndarray, np.ndarray]:
        """Cell indices (n, 3) and distances (n,) of all searches."""
        self._drop(np.ones(len(self.rows), dtype=bool))
        return self.answers.T - PAD, np.sqrt(self.errors)

    def _look(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residual (3, n) and derivatives (3, 3, n) of the map at padded cell indices (3, n)."""
        base = at.astype(np.int64)
        origin = (base * self.strides).sum(axis=0)
        parts = np.searchsorted(self.rows, self.first_rows)
        parted = [
            flat.take(origin[first:last] + offsets)
            for flat, offsets, first, last in zip(self.flat, self.offsets, parts[:-1], parts[1:], strict=True)
            if last > first
        ]
        corners = parted[0] if len(parted) == 1 else np.concatenate(parted, axis=-1)
        value, slope = value_and_gradient(corners, at - base)
        return self.queries - value, slope

    def _drop(self, ended: np.ndarray) -> None:
        """Keep the answers of the ended searches (n,) bool, and go on without them."""
        if not ended.any():
            return
        rows = self.rows[ended]
        self.answers[:, rows], self.errors[rows] = self.at[:, ended], self.error[ended]
        moving = np.flatnonzero(~ended)
        for name in ("rows", "strides", "low", "high", "queries", "damping", "at", "residual", "slope", "error"):
            setattr(self, name, getattr(self, name).take(moving, axis=-1))


def _damped(slope: np.ndarray, residual: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Levenberg-Marquardt steps (3, n) for derivatives (axis, channel, n) and residuals (channel, n).

    The 3 x 3 normal equations are solved by their cofactors, scaled so that their diagonal is about 1.
    """
    normal = np.einsum("ijn,kjn->ikn", slope, slope)
    scale = (normal[0, 0] + normal[1, 1] + normal[2, 2]) / 3 + 1e-9
    normal /= scale
    for axis in range(3):
        normal[axis, axis] += damping
    after, before = normal[_NEXT], normal[_LAST]
    cofactors = after[:, _NEXT] * before[:, _LAST] - after[:, _LAST] * before[:, _NEXT]
    determinant = (normal[0] * cofactors[0]).sum(axis=0)
    right = np.einsum("ijn,jn->in", slope, residual) / scale
    return np.einsum("ijn,jn->in", cofactors, right) / determinant
