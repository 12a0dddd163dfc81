"""EmbeddingMap: the anatomical coordinates of every place in one scan, and the search in them.

The map is a grid of cells (one per stride of the network). Each cell holds three anatomical coordinates in mm; between
cells the map is trilinear (APE paper, section 2.1). Positions are RAS world mm. Other networks may say more numbers
per cell: their maps are read and written likewise, but only three coordinates can be searched in.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.core.base.progress import CancelCheck, check_cancelled
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.gauss_newton import Task, Terrain, settle
from APELocalizerLib.core.embedding.search import Search, SearchSpace, search
from APELocalizerLib.core.embedding.trilinear import PAD, extend_from_mask, sample_trilinear, touches

QUERIES_PER_CHUNK = 4096
"""Queries that are searched for together: few enough for the processor's cache, and to be cancelled in time."""

COORDINATES = 3
"""Channels of a map that can be searched: the search is that of anatomical coordinates, see `cell_tree`."""

LARGEST_MM = 1e8
"""Anatomical coordinates beyond this are refused."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Answer of a search: `points_ras` (n, 3) mm and `distances` (n,) in embedding mm."""

    points_ras: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Anatomical coordinates of one scan. A map is equal to itself only.

    `values` (a, b, c, channels) float32 in embedding mm, `body` (a, b, c) bool, `grid_to_ras` (4, 4) from cell index to
    RAS of the cell's center, `space` what the values mean, `field_of_view` the scan's outer box in RAS, `notes`
    warnings (for example that tiles were smaller because memory ran out). `passes` are the maps of the single spacings
    that this map is the mean of, if there are several. `coarse_ct` is the coarse CT by which found positions are
    refined; without it they stay where the embeddings point. `left_out_mm`: lengths above and below the field of view
    that were left out, because they do not show the trunk.
    """

    values: np.ndarray
    body: np.ndarray
    grid_to_ras: np.ndarray
    space: CoordinateSpace
    spacing: str
    field_of_view: Box
    scan_name: str = "scan"
    scan_fingerprint: str = ""
    notes: tuple[str, ...] = ()
    passes: tuple["EmbeddingMap", ...] = ()
    coarse_ct: CoarseCT | None = None
    left_out_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.shape[3] < 1 or self.body.shape != self.values.shape[:3]:
            raise MapError(
                f"An embedding map needs values (a, b, c, channels) and a body mask (a, b, c), not {self.values.shape} "
                f"and {self.body.shape}."
            )
        if not self.body.any():
            raise MapError("The embedding map holds no body, so nothing can be found on it. Check the scan.")
        if not np.isfinite(self.values[self.body]).all():
            raise MapError("The embedding map holds values that are not numbers. Compute it again.")

    @property
    def model_id(self) -> str:
        """Id of the model that computed the map."""
        return self.space.model_id

    @property
    def channels(self) -> int:
        """Numbers per cell."""
        return self.values.shape[3]

    def check_coordinates(self) -> None:
        """Raise `MapError` unless the map holds three anatomical coordinates, as learning and searching need."""
        if self.channels != COORDINATES:
            raise MapError(
                f"The map of “{self.scan_name}” holds {self.channels} numbers per place; landmarks are learned and "
                "found by three anatomical coordinates. Choose a model that computes these."
            )

    # Reading -----------------------------------------------------------------------------------------------------

    def embedding_at(self, points_ras: np.ndarray) -> np.ndarray:
        """Embedding (n, channels) at RAS positions (n, 3), trilinear between cells; outside, it is the border's."""
        return self._read(self.to_index(points_ras))

    def is_body(self, points_ras: np.ndarray) -> np.ndarray:
        """Which of the RAS positions (n, 3) lie on or beside a body cell (less than one cell away); bool (n,)."""
        indices = self.to_index(points_ras)
        on_grid = np.all((indices > -1) & (indices < np.array(self.body.shape)), axis=1)
        return on_grid & touches(self.body, indices)

    def to_index(self, points_ras: np.ndarray) -> np.ndarray:
        """Fractional cell indices (n, 3) of RAS positions (n, 3)."""
        return apply_affine(self._ras_to_grid, points_ras)

    def to_ras(self, indices: np.ndarray) -> np.ndarray:
        """RAS positions (n, 3) of fractional cell indices (n, 3)."""
        return apply_affine(self.grid_to_ras, indices)

    def distance_volume(self, query: np.ndarray) -> np.ndarray:
        """Embedding distance (a, b, c) float32 of every cell to one query (channels,); infinite outside the body."""
        distance = np.linalg.norm(self.values - np.asarray(query, dtype=np.float32), axis=-1)
        return np.where(self.body, distance, np.inf).astype(np.float32)

    def similarity(self, query: np.ndarray, width_mm: float = 25.0) -> np.ndarray:
        """Similarity 0..1 of every cell to one query (channels,): Gaussian of the distance; 0 outside the body."""
        return np.exp(-0.5 * (self.distance_volume(query) / width_mm) ** 2)

    def with_coarse_ct(self, coarse_ct: CoarseCT | None) -> "EmbeddingMap":
        """The same map, with all that was made from it already, and another coarse CT."""
        result = copy(self)
        object.__setattr__(result, "coarse_ct", coarse_ct)
        return result

    def get_ready(self) -> None:
        """Make now what the first search, and the first comparison of images, would make."""
        if self.channels == COORDINATES:
            _ = self._space.tree
        if self.coarse_ct is not None:
            self.coarse_ct.level(0)

    # Searching ---------------------------------------------------------------------------------------------------

    def nearest(self, queries: np.ndarray) -> Nearest:
        """Place in the body whose embedding is nearest to each query (n, 3), refined between the cells.

        Retrieval of the APE paper, section 2.3 (smallest Euclidean distance), with a sub-voxel answer: from the
        nearest cells, damped Gauss-Newton steps on the trilinear map lead to the place (see `search`). Raises
        `MapError` for queries that are non-finite or out of range, and for a map of other than three channels.
        """
        return nearest_on_each([(self, queries)])[0]

    def top_k(self, query: np.ndarray, k: int, min_separation_mm: float = 20.0) -> Nearest:
        """The k best places for one query (3,), at least `min_separation_mm` apart, best first; may be fewer."""
        self.check_coordinates()
        query = np.asarray(query, dtype=np.float64).reshape(1, 3)
        positions = self.to_ras(self._body_indices)
        remaining = np.ones(len(positions), dtype=bool)
        points, distances = np.empty((0, 3)), np.empty(0)
        for cell in np.argsort(np.linalg.norm(self._space.values - query, axis=1)):
            if not remaining[cell]:
                continue
            index, distance = settle([Task(self._space.terrain, self._body_indices[[cell]], query)])
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
    def _space(self) -> SearchSpace:
        return SearchSpace(Terrain(self._extended), self._body_indices, self.values[self.body])


def nearest_on_each(
    searches: Sequence[tuple[EmbeddingMap, np.ndarray]], cancelled: CancelCheck | None = None
) -> list[Nearest]:
    """`EmbeddingMap.nearest` for pairs of a map and queries (n, 3), together: many small searches cost little more
    than one large. Raises `MapError` as it does, and `Cancelled`."""
    for searched, _ in searches:
        searched.check_coordinates()
    queries = [np.asarray(wanted, dtype=np.float64).reshape(-1, 3) for _, wanted in searches]
    if not all((np.abs(rows) < LARGEST_MM).all() for rows in queries):
        raise MapError("An embedding that is looked up is not a sensible number. Learn the landmark again.")
    answers = [Nearest(np.empty(rows.shape), np.empty(len(rows))) for rows in queries]
    for batch in _batches([len(rows) for rows in queries]):
        check_cancelled(cancelled)
        indices, distances = search([Search(searches[n][0]._space, queries[n][rows]) for n, rows in batch])
        first = 0
        for n, rows in batch:
            last = first + rows.stop - rows.start
            answers[n].points_ras[rows] = searches[n][0].to_ras(indices[first:last])
            answers[n].distances[rows] = distances[first:last]
            first = last
    return answers


def _batches(counts: Sequence[int]) -> list[list[tuple[int, slice]]]:
    """Split `counts` rows of each search into batches of about `QUERIES_PER_CHUNK` rows: (search, its rows)."""
    batches: list[list[tuple[int, slice]]] = []
    room = 0
    for number, count in enumerate(counts):
        start = 0
        while start < count:
            if room == 0:
                batches.append([])
                room = QUERIES_PER_CHUNK
            stop = min(count, start + room)
            batches[-1].append((number, slice(start, stop)))
            room -= stop - start
            start = stop
    return batches
