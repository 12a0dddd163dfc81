"""The nearest cells that the tree names are the nearest of all."""

import numpy as np
import pytest

from APELocalizerLib.core.embedding import cell_tree
from APELocalizerLib.core.embedding.cell_tree import CellTree

RNG = np.random.default_rng(0)
BALL = RNG.normal(0, 100, (5000, 3))
CELLS = {
    "a ball": BALL,
    "two heaps and a stray": np.concatenate([BALL[:900], BALL[:800] / 50 + 900, [[-4e3, 4e3, 0]]]),
    "a line": BALL[:2000] * [1, 0, 0],
    "a plane": BALL[:2000] * [1, 0.5, 0],
    "equal cells": np.full((700, 3), 12.5),
    "pairs of equal cells": np.repeat(BALL[:400], 2, axis=0),
    "five cells": BALL[:5],
    "one cell": BALL[:1],
}


@pytest.mark.parametrize("leaf", [1, 7, 128])
@pytest.mark.parametrize("name", CELLS)
def test_the_nearest_cells_are_those_of_a_full_comparison(name, leaf, monkeypatch):
    monkeypatch.setattr(cell_tree, "CELLS_PER_LEAF", leaf)
    cells = CELLS[name].astype(np.float32)
    tree = CellTree.of(cells)
    near = cells[:30] + RNG.normal(0, 3, cells[:30].shape)
    queries = np.concatenate([near, RNG.normal(0, 400, (30, 3)), cells[:3]])
    distances = np.linalg.norm(cells[None].astype(float) - queries[:, None], axis=2)
    for count in (1, 12):
        found = tree.nearest(queries, count)
        assert found.shape == (len(queries), min(count, len(cells)))
        assert all(len(set(row)) == len(row) for row in found), "a cell is named twice"
        np.testing.assert_allclose(
            np.take_along_axis(distances, found, axis=1), np.sort(distances, axis=1)[:, :count], atol=1e-2
        )


def test_small_blocks_of_queries_and_boxes_change_nothing(monkeypatch):
    tree, queries = CellTree.of(BALL), RNG.normal(0, 150, (500, 3))
    expected = tree.nearest(queries, 12)
    monkeypatch.setattr(cell_tree, "PAIRS_PER_BLOCK", 10)
    monkeypatch.setattr(cell_tree, "BOUNDS_PER_BLOCK", 100)
    np.testing.assert_array_equal(tree.nearest(queries, 12), expected)


def test_far_from_zero_nothing_is_lost_to_rounding():
    """Neighbors 0.1 mm apart, 10 m from the origin."""
    line = np.linspace(0, 10, 101)[:, None] * [1, 0, 0] + [10_000, 0, 0]
    found = CellTree.of(line).nearest(line + [0.02, 0, 0])[:, 0]
    np.testing.assert_array_equal(found, np.arange(101))


def test_no_queries_have_no_answers():
    assert CellTree.of(BALL).nearest(np.empty((0, 3)), 12).shape == (0, 12)
