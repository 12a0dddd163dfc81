"""The field between two scans, against its formula written out and other programs."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from APELocalizerLib.core.localization.symmetric_field import PRIOR_MM, SymmetricField, fit_affine, fit_field

RANDOM = np.random.default_rng(0)
FIRST = RANDOM.uniform(-60, 60, (40, 3))
TURN = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
AFFINE = np.array([[1.1, 0.05, 0.0], [0.0, 0.9, -0.1], [0.02, 0.0, 1.05]]) @ TURN


def covariance(first, second):
    """Smooth over 120 mm with 20 mm, and eight times as fine (in squares) with 15 mm."""
    squared = ((first[:, None] - second) ** 2).sum(axis=2)
    return 400 * np.exp(-squared / (2 * 120**2)) + 225 * np.exp(-8 * squared / (2 * 120**2))


def nodes_of(lattice, origin, step_mm):
    return origin + step_mm * np.argwhere(np.ones(lattice.shape[:3], bool))


@pytest.fixture(scope="module", params=[0, 2], ids=["all right", "two wrong"])
def fitted(request):
    """A field through points that bend by up to 10 mm; a tenth of them were not compared by the image."""
    second = FIRST @ AFFINE.T + (30, -20, 500) + 8 * np.sin(FIRST[:, [1, 2, 0]] / 40)
    second[: request.param] += (0, 60, 0)
    spread_mm = np.where(np.arange(40) % 10 == 5, np.nan, 3.0)
    field = fit_field(FIRST, second, spread_mm)
    least = np.where(np.isnan(spread_mm), 20.0**2, 8.0**2 + 3.0**2)
    moved = FIRST @ field.affine[:3, :3].T + field.affine[:3, 3]
    return field, (moved + second) / 2, second - moved, least


def process(middle, wanted, least):
    """Weights, certainty, noise and misfit after five fits; beyond 12 mm a point counts less."""
    noise = least
    for _ in range(5):
        certainty = np.linalg.inv(covariance(middle, middle) + np.diag(noise))
        weights = certainty @ wanted
        misfit = np.linalg.norm(wanted - covariance(middle, middle) @ weights, axis=1)
        noise = least * np.maximum(1, (misfit / 12) ** 4)
    return weights, certainty, noise, misfit


def test_the_displacement_is_a_gaussian_process_kept_every_15_mm(fitted):
    field, middle, wanted, least = fitted
    weights, _, noise, _ = process(middle, wanted, least)
    np.testing.assert_allclose(field.origin, middle.min(axis=0) - 60)
    nodes = nodes_of(field.displacement, field.origin, 15.0)
    assert np.all(nodes.max(axis=0) >= middle.max(axis=0) + 60) and np.all(nodes.max(axis=0) < middle.max(axis=0) + 75)
    np.testing.assert_allclose(field.displacement.reshape(-1, 3), covariance(nodes, middle) @ weights, atol=0.02)
    np.testing.assert_allclose(field.weights, least / noise, atol=1e-3)


def test_the_doubt_is_the_deviation_and_the_misfit_of_points_within_40_mm(fitted):
    field, middle, wanted, least = fitted
    _, certainty, _, misfit = process(middle, wanted, least)
    nodes = nodes_of(field.doubt, field.origin, 30.0)
    between = covariance(nodes, middle)
    deviation = np.sqrt(np.maximum(20**2 + 15**2 - ((between @ certainty) * between).sum(axis=1), 0))
    near = np.exp(-((nodes[:, None] - middle) ** 2).sum(axis=2) / (2 * 40**2)) + 1e-6
    around = np.sqrt(near @ misfit**2 / near.sum(axis=1))
    np.testing.assert_allclose(field.doubt[..., 0].ravel(), deviation, atol=0.02)
    np.testing.assert_allclose(field.doubt[..., 1].ravel(), around, atol=0.02)
    assert PRIOR_MM == 25.0 and deviation.max() > 24


def test_a_place_moves_by_the_displacement_halfway(fitted):
    """What makes both directions one field."""
    field, middle, _, _ = fitted
    moved = FIRST @ field.affine[:3, :3].T + field.affine[:3, 3]
    there = field.forward(FIRST)
    at = ((moved + there) / 2 - field.origin).T
    read = np.stack([map_coordinates(field.displacement[..., axis], at / 15, order=1) for axis in range(3)], axis=1)
    np.testing.assert_allclose(there - moved, read, atol=0.01)
    np.testing.assert_allclose(field.backward(there), FIRST, atol=0.01)
    doubt = np.stack([map_coordinates(field.doubt[..., axis], at / 30, order=1) for axis in range(2)], axis=1)
    np.testing.assert_allclose(field.doubt_at(FIRST, there), doubt, atol=1e-4)


def test_without_a_displacement_only_the_affine_transform_remains():
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = AFFINE, (1, 2, 3)
    field = SymmetricField(affine, np.zeros(3), np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 2, 2)), np.ones(4))
    np.testing.assert_allclose(field.forward(FIRST), FIRST @ AFFINE.T + (1, 2, 3))
    np.testing.assert_allclose(field.backward(FIRST @ AFFINE.T + (1, 2, 3)), FIRST)
    assert field.backward(np.array([1.0, 2, 3])).shape == (1, 3)


def test_a_steep_displacement_is_still_inverted():
    """A fold that moves by 30 mm over 40: the plain iteration swings, and is calmed."""
    shape = (16, 3, 3)
    displacement = np.zeros((*shape, 3))
    displacement[..., 0] = 30 * np.sin(np.arange(16) * 15 / 22)[:, None, None]
    field = SymmetricField(np.eye(4), np.zeros(3), displacement, np.zeros((2, 2, 2, 2)), np.ones(4))
    points = np.stack([np.linspace(40, 190, 60), np.full(60, 15.0), np.full(60, 15.0)], axis=1)
    halfway = (field.forward(points) + points) / 2
    read = map_coordinates(displacement[..., 0], halfway.T / 15, order=1)
    off = np.abs((field.forward(points) - points)[:, 0] - read)
    assert np.median(off) < 0.01


# The affine transform


def test_an_affine_transform_is_found_exactly_where_all_agree():
    found = fit_affine(FIRST, FIRST @ AFFINE.T + (5, 6, 7), np.ones(40), ridge=0.0)
    np.testing.assert_allclose(found[:3, :3], AFFINE, atol=1e-9)
    np.testing.assert_allclose(found[:3, 3], (5, 6, 7), atol=1e-7)
    np.testing.assert_array_equal(found[3], (0, 0, 0, 1))


def weighted_fit(first, second, share, ridge):
    """Least squares by numpy and the rotation by scipy; `ridge` mm² say that it is rigid."""
    here, there = first - share @ first, second - share @ second
    turn = Rotation.align_vectors(there, here, weights=share)[0].as_matrix()
    pull = np.sqrt(ridge)
    rows = np.vstack([np.sqrt(share)[:, None] * here, pull * np.eye(3)])
    wanted = np.vstack([np.sqrt(share)[:, None] * there, pull * turn.T])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0].T


@pytest.mark.parametrize("ridge", [10.0, 1500.0, 1e6])
def test_points_count_by_their_variance_and_the_transform_is_held_to_a_rigid_one(ridge):
    """No misfit is large enough to count as an outlier."""
    variance = RANDOM.uniform(1, 9, 40)
    second = FIRST @ AFFINE.T + RANDOM.normal(0, 2, FIRST.shape)
    share = (1 / variance) / (1 / variance).sum()
    wanted = weighted_fit(FIRST, second, share, ridge)
    found = fit_affine(FIRST, second, variance, ridge)
    np.testing.assert_allclose(found[:3, :3], wanted, atol=1e-9)
    np.testing.assert_allclose(found[:3, 3], share @ second - wanted @ (share @ FIRST), atol=1e-7)
    assert (
        np.linalg.norm(fit_affine(FIRST, second, variance)[:3, :3] - weighted_fit(FIRST, second, share, 1500.0)) < 1e-9
    )


def test_outliers_count_less_in_five_rounds():
    second = FIRST @ AFFINE.T
    second[:3] += (0, 0, 150.0)
    weights = np.ones(40)
    for _ in range(5):
        share = weights / weights.sum()
        matrix = weighted_fit(FIRST, second, share, 1500.0)
        offset = share @ second - matrix @ (share @ FIRST)
        misfit = np.linalg.norm(second - FIRST @ matrix.T - offset, axis=1)
        weights = 1 / np.maximum(1, (misfit / max(24.0, 2 * np.median(misfit))) ** 2)
    found = fit_affine(FIRST, second, np.ones(40))
    np.testing.assert_allclose(found[:3, :3], matrix, atol=1e-8)
    np.testing.assert_allclose(found[:3, 3], offset, atol=1e-6)


def test_a_mirrored_body_is_turned_and_never_mirrored():
    rigid = fit_affine(FIRST, FIRST * (-1, 1, 1), np.ones(40), ridge=np.inf)
    assert np.linalg.det(rigid[:3, :3]) == pytest.approx(1.0)
