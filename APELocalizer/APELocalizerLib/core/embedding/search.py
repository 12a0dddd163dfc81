"""Where in a map an embedding is met: the nearest cells first, then the place between them (APE paper, section 2.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from APELocalizerLib.core.embedding.cell_tree import CellTree
from APELocalizerLib.core.embedding.gauss_newton import MET_MM, Task, Terrain, settle

CANDIDATES = 12
"""Cells that are refined for a query before the best is taken: the nearest cell need not hold the nearest place."""


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A map made ready for searching: its cells' values continued beyond the body (see `Terrain`), the indices
    `cells` (n, 3) of its body cells and their embeddings `values` (n, 3)."""

    terrain: Terrain
    cells: np.ndarray
    values: np.ndarray

    @cached_property
    def tree(self) -> CellTree:
        """The body cells, packed for finding the nearest."""
        return CellTree.of(self.values)


@dataclass(frozen=True, eq=False)
class Search:
    """Queries (n, 3) embedding mm to be looked up in one space."""

    space: SearchSpace
    queries: np.ndarray


def search(searches: Sequence[Search]) -> tuple[np.ndarray, np.ndarray]:
    """Cell indices (n, 3) and embedding distances (n,) of the nearest places, for all searches' queries in a row.

    The nearest cell is refined first. Where the map meets the query there, nothing can be nearer, and that is the
    answer; only for the other queries the next nearest cells are refined too, and the best of all is the answer.
    """
    tasks = [Task(s.space.terrain, s.space.cells[s.space.tree.nearest(s.queries)[:, 0]], s.queries) for s in searches]
    indices, distances = settle(tasks)
    further, rows, first = [], [], 0
    for request in searches:
        missed = np.flatnonzero(distances[first : first + len(request.queries)] >= MET_MM)
        cells = request.space.tree.nearest(request.queries[missed], CANDIDATES)[:, 1:]
        queries = np.repeat(request.queries[missed], cells.shape[1], axis=0)
        further.append(Task(request.space.terrain, request.space.cells[cells.ravel()], queries))
        rows.append(np.repeat(first + missed, cells.shape[1]))
        first += len(request.queries)
    rows_again = np.concatenate(rows)
    if len(rows_again):
        _take_better(indices, distances, rows_again, *settle(further))
    return indices, distances


def _take_better(indices, distances, rows, trials, errors) -> None:
    """Replace the answers of `rows` (m,), several searches for every row, where the best of them came nearer."""
    order = np.lexsort((errors, rows))
    best = order[np.append(True, np.diff(rows[order]) > 0)]
    best = best[errors[best] < distances[rows[best]]]
    indices[rows[best]], distances[rows[best]] = trials[best], errors[best]
