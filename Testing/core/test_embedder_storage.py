"""The same patient, stored differently: the same map, and landmarks in the same places."""

import itertools

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.embedding.trilinear import sample_trilinear
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.votes import RULES
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import rotation
from made_up.models import tiny_model
from made_up.networks import PlaceNetwork

CPU = InferenceSettings(device="cpu", tile=(32, 32, 32))


ONE_PASS = InferenceSettings(device="cpu", one_pass=True)


CLICKS = {"a": np.array([20.0, -10.0, 25.0]), "b": np.array([-33.0, 12.0, -18.0])}


@pytest.fixture
def place_network(monkeypatch):
    """A model whose network knows the places of a torso."""
    monkeypatch.setattr(Model, "build_network", lambda self: PlaceNetwork())
    return tiny_model(scale=(300.0, 300.0, 300.0))


def stored(scan: Scan, order: tuple, flips: tuple) -> Scan:
    """The same scan with its voxels in another axis order and direction."""
    voxels, affine = scan.voxels.transpose(order), scan.ijk_to_ras[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            voxels = np.flip(voxels, axis)
            turn = np.eye(4)
            turn[axis, axis], turn[axis, 3] = -1, voxels.shape[axis] - 1
            affine = affine @ turn
    return Scan(np.ascontiguousarray(voxels), affine, scan.name)


def resampled(scan: Scan, turn: np.ndarray) -> Scan:
    """The scan on a turned grid that covers it, as a scanner's oblique reconstruction."""
    shape = tuple(int(1.3 * n) for n in scan.voxels.shape)
    affine = turn @ np.diag([*scan.spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = apply_affine(np.linalg.inv(scan.ijk_to_ras) @ affine, np.indices(shape).reshape(3, -1).T)
    hu = sample_trilinear(scan.voxels[..., None], index)[:, 0]
    hu[np.any((index < 0) | (index > np.array(scan.voxels.shape) - 1), axis=1)] = -1000
    return Scan(hu.reshape(shape).astype(np.int16), affine, "oblique")


WAYS = list(zip(itertools.permutations(range(3)), itertools.product((False, True), repeat=3), strict=False))
WAYS += [((0, 1, 2), flips) for flips in itertools.product((False, True), repeat=3) if any(flips)][:6]


@pytest.mark.parametrize("order, flips", WAYS)
def test_the_map_does_not_depend_on_how_the_scan_is_stored(torso, torso_map, tiny, order, flips):
    other = embed_scan(stored(torso, order, flips), tiny, "fast", CPU)
    np.testing.assert_allclose(other.grid_to_ras, torso_map.grid_to_ras, atol=1e-6)
    np.testing.assert_array_equal(other.body, torso_map.body)
    np.testing.assert_allclose(other.values, torso_map.values, atol=0.05)
    assert other.field_of_view.iou(torso_map.field_of_view) == pytest.approx(1.0)


@pytest.mark.parametrize("order, flips", WAYS)
def test_a_landmark_is_found_in_the_same_place_however_the_scan_is_stored(torso, place_network, order, flips):
    library = learn_points(LandmarkLibrary(), embed_scan(torso, place_network, "fast", ONE_PASS), CLICKS)
    other = embed_scan(stored(torso, order, flips), place_network, "fast", ONE_PASS)
    for rule in RULES:
        for point in localize(other, library, LocalizationSettings(rule, 10.0)).points:
            assert point.found
            assert np.linalg.norm(point.position_ras - CLICKS[point.name]) < 1.0


def test_a_landmark_is_found_within_three_millimeters_after_an_oblique_resampling(torso, place_network):
    """The voxels are turned by 15 degrees about the patient; the patient stays where he is."""
    library = learn_points(LandmarkLibrary(), embed_scan(torso, place_network, "fast", ONE_PASS), CLICKS)
    other = embed_scan(resampled(torso, rotation(2, 15)), place_network, "fast", ONE_PASS)
    for point in localize(other, library, LocalizationSettings("paper", 10.0)).points:
        assert point.found
        assert np.linalg.norm(point.position_ras - CLICKS[point.name]) < 3.0
