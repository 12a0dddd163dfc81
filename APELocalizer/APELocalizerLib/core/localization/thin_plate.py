"""Thin-plate spline in space: through all its points, and bent as little as possible between them."""

import numpy as np


class ThinPlate:
    """Takes points `first` (n, 3) exactly to `second` (n, 3), mm; n ≥ 4, and they must not lie in one plane."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._points = first
        count = len(first)
        system = np.zeros((count + 4, count + 4))
        system[:count, :count] = _distances(first, first)
        system[:count, count:] = np.column_stack([np.ones(count), first])
        system[count:, :count] = system[:count, count:].T
        self._weights = np.linalg.solve(system, np.vstack([second, np.zeros((4, 3))]))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points (m, 3) are taken, (m, 3)."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        parts = [_distances(points, self._points), np.ones((len(points), 1)), points]
        return np.hstack(parts) @ self._weights


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (n, m)."""
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2.0 * first @ second.T
    return np.sqrt(np.maximum(squared, 0.0))
