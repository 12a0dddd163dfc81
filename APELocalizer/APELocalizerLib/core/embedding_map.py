"""EmbeddingMap: the anatomical coordinates of every place in one scan, and the search in them.

The map is a grid of cells (one per `stem_stride` voxels of the prepared scan). Each cell holds three anatomical
coordinates in mm; between cells the map is trilinear (APE paper, section 2.1). Positions are RAS world mm.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from APELocalizerLib.core.errors import MapError
from APELocalizerLib.core.geometry import Box, apply_affine
from APELocalizerLib.core.trilinear import PAD, extend_from_mask, sample_trilinear, sample_with_gradient

CANDIDATES = 12
"""Cells that are refined for each query before the best is taken: the nearest cell need not hold the nearest place."""

REFINEMENT_STEPS = 12
QUERIES_PER_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Nearest:
    """Answer of a search: `points_ras` (n, 3) mm and `distances` (n,) in embedding mm."""

    points_ras: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Anatomical coordinates of one scan. A map is equal to itself only.

    `values` (a, b, c, 3) float32 in embedding mm, `body` (a, b, c) bool, `grid_to_ras` (4, 4) from cell index to RAS
    of the cell's centre, `field_of_view` the scan's outer box in RAS, `notes` what had to be done differently
    (for example a smaller tile because memory ran out). `passes` are the maps of the single spacings that this map is
    the mean of, if there are several.
    """

    values: np.ndarray
    body: np.ndarray
    grid_to_ras: np.ndarray
    checkpoint_id: str
    spacing: str
    field_of_view: Box
    scan_name: str = "scan"
    scan_fingerprint: str = ""
    notes: tuple[str, ...] = ()
    passes: tuple["EmbeddingMap", ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.shape[3] != 3 or self.body.shape != self.values.shape[:3]:
            raise MapError(
                f"An embedding map needs values (a, b, c, 3) and a body mask (a, b, c), not {self.values.shape} "
                f"and {self.body.shape}."
            )
        if not self.body.any():
            raise MapError("The embedding map holds no body, so nothing can be found on it. Check the scan.")
        if not np.isfinite(self.values[self.body]).all():
            raise MapError("The embedding map holds values that are not numbers. Compute it again.")

    # Reading -----------------------------------------------------------------------------------------------------

    def embedding_at(self, points_ras: np.ndarray) -> np.ndarray:
        """Embedding (n, 3) at RAS positions (n, 3), trilinear between cells; positions outside take the border's."""
        return self._read(self.to_index(points_ras))

    def is_body(self, points_ras: np.ndarray) -> np.ndarray:
        """Which of the RAS positions (n, 3) lie on or beside a body cell (less than one cell away); bool (n,)."""
        indices = self.to_index(points_ras)
        on_grid = np.all((indices > -1) & (indices < np.array(self.body.shape)), axis=1)
        return on_grid & (sample_trilinear(self.body[..., None].astype(np.float32), indices)[:, 0] > 0)

    def to_index(self, points_ras: np.ndarray) -> np.ndarray:
        """Fractional cell indices (n, 3) of RAS positions (n, 3)."""
        return apply_affine(self._ras_to_grid, points_ras)

    def to_ras(self, indices: np.ndarray) -> np.ndarray:
        """RAS positions (n, 3) of fractional cell indices (n, 3)."""
        return apply_affine(self.grid_to_ras, indices)

    def distance_volume(self, query: np.ndarray) -> np.ndarray:
        """Embedding distance of every cell to one query (3,), shape (a, b, c) float32; infinite outside the body."""
        distance = np.linalg.norm(self.values - np.asarray(query, dtype=np.float32), axis=-1)
        return np.where(self.body, distance, np.inf).astype(np.float32)

    def similarity(self, query: np.ndarray, width_mm: float = 25.0) -> np.ndarray:
        """Similarity 0..1 of every cell to one query (3,): Gaussian of the embedding distance; 0 outside the body."""
        return np.exp(-0.5 * (self.distance_volume(query) / width_mm) ** 2)

    # Searching ---------------------------------------------------------------------------------------------------

    def nearest(self, queries: np.ndarray) -> Nearest:
        """Place in the body whose embedding is nearest to each query (n, 3), refined between the cells.

        Retrieval of the APE paper, section 2.3 (smallest Euclidean distance), with a sub-voxel answer: the nearest
        cells are each refined by damped Gauss-Newton steps on the trilinear map, and the best is returned.
        """
        queries = np.asarray(queries, dtype=np.float64).reshape(-1, 3)
        points, distances = np.empty((len(queries), 3)), np.empty(len(queries))
        for start in range(0, len(queries), QUERIES_PER_CHUNK):
            chunk = slice(start, start + QUERIES_PER_CHUNK)
            indices, chunk_distances = self._refined_candidates(queries[chunk])
            best = chunk_distances.argmin(axis=1)
            rows = np.arange(len(best))
            points[chunk] = self.to_ras(indices[rows, best])
            distances[chunk] = chunk_distances[rows, best]
        return Nearest(points, distances)

    def top_k(self, query: np.ndarray, k: int, min_separation_mm: float = 20.0) -> Nearest:
        """The k best places for one query (3,), at least `min_separation_mm` apart, best first; may be fewer."""
        query = np.asarray(query, dtype=np.float64).reshape(1, 3)
        positions = self.to_ras(self._body_indices)
        remaining = np.ones(len(positions), dtype=bool)
        points, distances = np.empty((0, 3)), np.empty(0)
        for cell in np.argsort(self._squared_distances(query)[0]):
            if not remaining[cell]:
                continue
            index, distance = self._refine(self._body_indices[[cell]], query)
            point = self.to_ras(index)
            if np.any(np.linalg.norm(points - point, axis=1) < min_separation_mm):  # moved too close to a better one
                point = positions[[cell]]
                distance = np.linalg.norm(self.values[tuple(self._body_indices[cell])] - query, axis=1)
            points, distances = np.append(points, point, axis=0), np.append(distances, distance)
            remaining &= np.linalg.norm(positions - point, axis=1) >= min_separation_mm
            if len(points) == k or not remaining.any():
                break
        order = np.argsort(distances)
        return Nearest(points[order], distances[order])

    def _squared_distances(self, queries: np.ndarray) -> np.ndarray:
        centred = (queries - self._body_mean).astype(np.float32)
        squared = centred @ self._body_values.T
        squared *= -2
        squared += self._body_norms
        squared += (centred**2).sum(axis=1)[:, None]
        return squared

    def _refined_candidates(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squared = self._squared_distances(queries)
        count = min(CANDIDATES, squared.shape[1])
        cells = np.argpartition(squared, count - 1, axis=1)[:, :count]
        start = self._body_indices[cells.ravel()]
        indices, distances = self._refine(start, np.repeat(queries, count, axis=0))
        return indices.reshape(len(queries), count, 3), distances.reshape(len(queries), count)

    def _refine(self, start: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move each start index (n, 3) by at most one cell to where the trilinear map meets its query (n, 3)."""
        low = np.maximum(start - 1.0, -0.5)
        high = np.minimum(start + 1.0, np.array(self.body.shape) - 0.5)
        current = start.astype(np.float64)
        value, jacobian = sample_with_gradient(self._extended, current + PAD)
        residual = queries - value
        error = (residual**2).sum(axis=1)
        damping = np.full(len(start), 1e-3)
        for _ in range(REFINEMENT_STEPS):
            step = _damped_step(jacobian, residual, damping)
            trial = np.clip(current + step, low, high)
            trial_value, trial_jacobian = sample_with_gradient(self._extended, trial + PAD)
            trial_residual = queries - trial_value
            trial_error = (trial_residual**2).sum(axis=1)
            better = trial_error < error
            current[better], error[better] = trial[better], trial_error[better]
            residual[better], jacobian[better] = trial_residual[better], trial_jacobian[better]
            damping = np.where(better, damping * 0.3, damping * 10)
        return current, np.sqrt(error)

    # Derived arrays, made once -------------------------------------------------------------------------------------

    @cached_property
    def _ras_to_grid(self) -> np.ndarray:
        return np.linalg.inv(self.grid_to_ras)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return sample_trilinear(self._extended, np.asarray(indices) + PAD)

    @cached_property
    def _extended(self) -> np.ndarray:
        return extend_from_mask(self.values, self.body)

    @cached_property
    def _body_indices(self) -> np.ndarray:
        return np.argwhere(self.body)

    @cached_property
    def _body_mean(self) -> np.ndarray:
        return self.values[self.body].mean(axis=0, dtype=np.float64)

    @cached_property
    def _body_values(self) -> np.ndarray:
        return (self.values[self.body] - self._body_mean).astype(np.float32)

    @cached_property
    def _body_norms(self) -> np.ndarray:
        return (self._body_values**2).sum(axis=1)


def _damped_step(jacobian: np.ndarray, residual: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Levenberg-Marquardt steps (n, 3) for Jacobians (n, channels, 3) and residuals (n, channels)."""
    normal = np.einsum("nij,nik->njk", jacobian, jacobian).astype(np.float64)
    scale = np.einsum("njj->n", normal) / 3 + 1e-9
    normal += (damping * scale)[:, None, None] * np.eye(3)
    return np.linalg.solve(normal, np.einsum("nij,ni->nj", jacobian, residual)[..., None])[..., 0]
