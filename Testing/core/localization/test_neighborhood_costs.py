"""Costs and steps between cells, against plain interpolation and plain sums of other programs (scipy, loops)."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from APELocalizerLib.core.embedding.coarse_ct import SPACING_MM, CoarseCT, to_level_index
from APELocalizerLib.core.localization.neighborhoods import MINIMUM_OVERLAP, STAGES, Stage, Templates, displacements

STAGE = Stage(level=0, radius=2, reach=1, width=0.6, prior=0.05, softness=0.02)
GRID = np.diag([-5.0, -5.0, 5.0, 1.0])


def noise(shape, seed) -> CoarseCT:
    return CoarseCT(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8), GRID)


def read(features: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (c, n) at fractional indices (n, 3), the outermost repeated; and which of them lie within the cells."""
    values = np.stack([map_coordinates(channel, at.T, order=1, mode="nearest") for channel in features])
    return values, np.all((at >= -0.5) & (at <= np.array(features.shape[1:]) - 0.5), axis=1)


OFFSETS = np.array(list(itertools.product(range(-2, 3), repeat=3)))
WEIGHT = np.exp(-0.5 * (OFFSETS / 1.2) ** 2).prod(axis=1)
"""A neighborhood of 5 cells, and its Gaussian weight: 0.6 of 2 cells."""


@pytest.fixture(scope="module")
def case():
    """Two scans; clicks and places between cells, at borders and beyond them."""
    rng = np.random.default_rng(1)
    support, scan = noise((9, 8, 7), 0), noise((8, 9, 9), 1)
    clicks = np.vstack([rng.uniform(-0.4, 6.5, (6, 3)), [[-0.5, 3.0, 3.25], [8.0, 7.4, 6.5]]])
    places = rng.uniform(-1.0, 8.0, (8, 3))
    return support, scan, clicks, places


def test_costs_between_cells(case):
    support, scan, clicks, places = case
    n = len(clicks)
    templates = Templates([support], n, np.arange(n), np.zeros(n, int), ras(clicks), STAGE)
    known, seen = support.level(0)[0], scan.level(0)[0]
    result = templates.costs(np.arange(n), torch.from_numpy(seen), torch.from_numpy(places)).numpy()
    for number, step in itertools.product(range(n), itertools.product((-1, 0, 1), repeat=3)):
        patch, inside = read(known, clicks[number] + OFFSETS)
        target, visible = read(seen, places[number] + step + OFFSETS)
        weight = WEIGHT * inside
        share = (weight * visible).sum() / weight.sum()
        cost = (weight * visible * ((target - patch) ** 2).sum(axis=0)).sum() / weight.sum()
        wanted = cost / share if share >= MINIMUM_OVERLAP else np.inf
        assert result[number][tuple(np.array(step) + 1)] == pytest.approx(wanted, rel=1e-3)


def ras(indices: np.ndarray) -> np.ndarray:
    """Positions of fractional indices of level 0."""
    positions = np.asarray(indices) * [-5.0, -5.0, 5.0]
    np.testing.assert_allclose(to_level_index(GRID, positions), indices)
    return positions


def test_a_step_needs_two_fifths_of_the_neighborhood_to_be_in_the_scan():
    """At the outermost cell 0.67 of the weight is inside along an axis: 0.45 at an edge, and 0.30 at a corner."""
    support, scan = noise((9, 9, 9), 0), noise((12, 12, 12), 1)
    templates = Templates([support], 1, np.zeros(1, int), np.zeros(1, int), ras([[4, 4, 4]]), STAGE)
    inside = np.exp(-0.5 * (np.arange(-2, 3) / 1.2) ** 2)
    part = inside[2:].sum() / inside.sum()
    assert part**2 > 0.4 == MINIMUM_OVERLAP > part**3
    features = torch.from_numpy(scan.level(0)[0])
    for cell, comparable in (((0, 6, 6), True), ((0, 11, 6), True), ((0, 0, 0), False), ((11, 0, 11), False)):
        costs = templates.costs(np.zeros(1, int), features, torch.tensor([cell]).double())
        assert bool(costs[0, 1, 1, 1].isfinite()) is comparable, cell


# Steps


class Told:
    """Templates that tell the costs which they were given."""

    def __init__(self, costs: np.ndarray, stage: Stage) -> None:
        self.stage, self._costs = stage, torch.from_numpy(costs)

    def costs(self, queries, features, at):
        return self._costs[queries]


@pytest.mark.parametrize("level", [0, 1])
def test_a_query_moves_by_its_likely_steps(level):
    """Against plain sums: every step counts exp(-(cost + prior) / softness); 20 mm away the prior costs 0.05."""
    stage = Stage(level=level, radius=2, reach=2, prior=0.05, softness=0.02)
    rng = np.random.default_rng(3)
    costs = rng.uniform(0, 0.2, (3, 5, 5, 5))
    costs[rng.random(costs.shape) < 0.2] = np.inf
    scan = noise((20, 20, 20), 0)
    moves, spread_mm = displacements([scan], np.zeros(3, int), np.zeros((3, 3)), Told(costs, stage), np.arange(3))
    cell = SPACING_MM * 2**level
    grid = scan.level(level)[1][:3, :3]
    np.testing.assert_allclose(np.abs(np.diag(grid)), cell)
    for number in range(3):
        weights, steps = [], []
        for step in itertools.product(range(-2, 3), repeat=3):
            prior = 0.05 * (np.linalg.norm(step) * cell / 20.0) ** 2
            weights.append(np.exp(-(costs[number][tuple(np.array(step) + 2)] + prior) / 0.02))
            steps.append(grid @ step)
        mean = np.average(steps, axis=0, weights=weights)
        spread = np.sqrt(np.average(np.sum((np.array(steps) - mean) ** 2, axis=1), weights=weights))
        np.testing.assert_allclose(moves[number], mean, atol=1e-6)
        assert spread_mm[number] == pytest.approx(spread)


def test_where_nothing_is_comparable_nothing_moves():
    costs = np.full((1, 5, 5, 5), np.inf)
    stage = Stage(level=0, radius=2, reach=2)
    scan = noise((9, 9, 9), 0)
    moves, spread_mm = displacements([scan], np.zeros(1, int), np.ones((1, 3)), Told(costs, stage), np.arange(1))
    np.testing.assert_array_equal(moves, 0.0)
    np.testing.assert_array_equal(spread_mm, 0.0)


def test_queries_on_two_scans_each_move_in_their_own_grid():
    """The same step of one cell, in a grid to the left and in one to the right."""
    costs = np.full((20, 3, 3, 3), np.inf)
    costs[:, 2, 1, 1] = 0.0
    other = CoarseCT(noise((9, 9, 9), 1).codes, np.diag([5.0, 5.0, 5.0, 1.0]))
    scans, scan = {3: noise((9, 9, 9), 0), 7: other}, np.tile([3, 7], 10)
    moves, _ = displacements(scans, scan, np.zeros((20, 3)), Told(costs, STAGE), np.arange(20))
    wanted = {number: one.level(0)[1][:3, :3] @ (1, 0, 0) for number, one in scans.items()}
    np.testing.assert_allclose(moves, [wanted[number] for number in scan], atol=1e-6)
    assert np.abs(moves).max() == pytest.approx(5.0)


def test_a_clear_minimum_is_met_exactly_and_two_alike_in_their_middle():
    scan, costs = noise((9, 9, 9), 0), np.full((2, 3, 3, 3), 9.0)
    costs[0, 2, 1, 1] = costs[1, 2, 1, 1] = costs[1, 0, 1, 1] = 0.0
    moves, spread_mm = displacements([scan], np.zeros(2, int), np.zeros((2, 3)), Told(costs, STAGE), np.arange(2))
    np.testing.assert_allclose(np.linalg.norm(moves, axis=1), [5.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(spread_mm, [0.0, 5.0], atol=1e-3)


def test_the_search_reaches_as_far_as_the_patients_differ():
    """Coarse: 30 mm of search, 12 cm of surroundings. Fine: 20 mm, 5 cm. Expected errors were measured with these."""
    of_stage = [SimpleNamespace(cell=SPACING_MM * 2**stage.level, stage=stage) for stage in STAGES]
    assert [one.cell * one.stage.reach for one in of_stage] == [30.0, 20.0]
    assert [2 * one.cell * one.stage.radius for one in of_stage] == [120.0, 50.0]
    assert [(one.width, one.prior, one.softness) for one in STAGES] == [(0.7, 0.05, 0.016), (0.6, 0.05, 0.004)]
