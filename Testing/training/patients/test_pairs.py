"""Crops of virtual patients: both views of a pair agree on where everything is, exactly."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from APELocalizerLib.training.data.volumes import Level, Volume
from APELocalizerLib.training.objectives.losses import equivariance_loss
from APELocalizerLib.training.patients import intensities
from APELocalizerLib.training.patients.pairs import CropPoints, Lattice, draw_lattice, draw_patient
from APELocalizerLib.training.patients.virtual_patients import STRIDE, Deformation
from made_up.trainings import RampSource, tiny_pairs

AFFINE = Deformation(coarse_mm=0.0, fine_mm=0.0)
STILL = Deformation(0, 0, 0, 0, 100, 0, 45)


def draw(settings, deformation, seed=0, source=None, stride=STRIDE):
    generator = torch.Generator().manual_seed(seed)
    return draw_patient(source or RampSource(), settings, deformation, np.random.default_rng(seed), generator, stride)


@pytest.fixture
def plain_intensities(monkeypatch):
    """Images as they are in the scan."""
    monkeypatch.setattr(intensities, "released", lambda images, spacings, rng, generator: images)


def perfect_embedding(deformation, seed, settings):
    """What a perfect network would say: each cell's mean place in the scan, seen through three ramps."""
    parts = []
    for axis in range(3):
        crops = draw(settings, deformation, seed, RampSource(direction=np.eye(3)[axis]))
        parts.append(F.avg_pool3d(crops.images, STRIDE))
    return crops, torch.cat(parts, 1)


@pytest.mark.parametrize(("deformation", "most"), [(AFFINE, 1e-9), (Deformation(), 1e-5)], ids=["affine", "smooth"])
def test_equivariance_is_exact(plain_intensities, deformation, most):
    """An embedding that depends on the anatomy alone has no equivariance loss: positives are the same places.

    Where space is bent, cells are too, and interpolating between them costs less than a millimeter (1e-5 of the ramp).
    """
    settings = tiny_pairs(hidden_chance=0.0, background=0)
    for seed in range(3):
        crops, embedding = perfect_embedding(deformation, seed, settings)
        first, second = crops.first.read(embedding), crops.second.read(embedding)
        inside = ((first > 0.03) & (first < 0.97)).all(1)  # beyond the scan's border the ramp is repeated
        assert crops.shared == len(crops.first) > 50 and inside.sum() > 30
        assert equivariance_loss(first[inside], second[inside]).item() < most
        moved = second[torch.randperm(len(second), generator=torch.Generator().manual_seed(0))]
        assert equivariance_loss(first, moved).item() > 1000 * max(most, 1e-6)


def test_both_views_give_the_same_positions():
    crops = draw(tiny_pairs(), Deformation())
    assert torch.equal(crops.first.position[: crops.shared], crops.second.position[: crops.shared])
    assert (crops.first.crop[: crops.shared] + 2 == crops.second.crop[: crops.shared]).all()
    assert not torch.equal(crops.first.cell[: crops.shared], crops.second.cell[: crops.shared])


@pytest.mark.parametrize("stride", [2, STRIDE])
def test_positions_are_millimeters_of_the_patient(plain_intensities, stride):
    """Without deformation a ramp's brightness tells the position; it must differ as the positions do."""
    source = RampSource(direction=(0.0, 0.0, 1.0))
    crops = draw(tiny_pairs(hidden_chance=0.0, background=0), STILL, 1, source, stride)
    found = crops.first.read(F.avg_pool3d(crops.images, stride))[:, 0] * (source.volume.high[2] - source.volume.low[2])
    position = crops.first.position[:, 2]
    np.testing.assert_allclose(found - found.mean(), position - position.mean(), atol=0.01)


def test_reading_places_is_trilinear_interpolation_of_cells():
    embedding = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(embedding, scale_factor=STRIDE, mode="trilinear", align_corners=False)
    lattice = Lattice(
        np.array([[10.0, 20.0, 30.0], [0.0, 0.0, 0.0]]), np.array([[2.0, 3.0, 4.0], [1.0, 1.0, 1.0]]), (20, 24, 28)
    )
    voxel = torch.tensor([[0, 0, 0], [7, 11, 19], [19, 23, 27]])
    for crop in range(2):
        position = torch.tensor(lattice.first[crop] + voxel.numpy() * lattice.spacing[crop], dtype=torch.float32)
        read = lattice.places(torch.full((3,), crop), position).read(embedding)
        torch.testing.assert_close(read, fine[crop][:, voxel[:, 0], voxel[:, 1], voxel[:, 2]].T, atol=1e-5, rtol=0)


def test_gradients_reach_the_cells_around_a_place():
    embedding = torch.zeros(1, 3, 4, 4, 4, requires_grad=True)
    CropPoints(torch.tensor([0]), torch.tensor([[1.25, 2.0, 0.5]]), torch.zeros(1, 3)).read(embedding).sum().backward()
    expected = torch.zeros(4, 4, 4)
    expected[1, 2, :2], expected[2, 2, :2] = 0.75 * 0.5, 0.25 * 0.5
    torch.testing.assert_close(embedding.grad[0, 0], expected)


def half_body():
    """A volume whose first half along P is body."""
    image = torch.rand(50, 50, 50, generator=torch.Generator().manual_seed(0))
    body = torch.zeros(50, 50, 50, dtype=torch.bool)
    body[:25] = True
    spacing, last = np.full(3, 5.0), np.full(3, 245.0)
    volume = Volume((Level(image, 5.0, spacing, np.zeros(3)),), body, spacing, 1.0, np.zeros(3), last)
    source = RampSource()
    source.volume = volume
    return source


def test_positives_are_in_the_body_and_background_is_not():
    found_air = 0
    for seed in range(5):
        crops = draw(tiny_pairs(), STILL, seed, half_body())
        depth = crops.first.position[:, 0] + 122.5
        assert (depth[: crops.shared] <= 122.5).all() and (depth[crops.shared :] >= 122.5).all()
        assert crops.shared <= 2 * 96 and len(crops.first) - crops.shared <= 2 * 32
        found_air += len(crops.first) - crops.shared
    assert found_air > 0


def test_crops_overlap_and_keep_to_the_range_of_spacings():
    settings = tiny_pairs(pairs=40)
    lattice = draw_lattice(np.full(3, -150.0), np.full(3, 150.0), settings, np.random.default_rng(0))
    assert lattice.spacing.min() >= 4.0 and lattice.spacing.max() <= 6.0 and lattice.spacing.std() > 0.3
    low, high = lattice.first, lattice.first + 31 * lattice.spacing
    assert low.min() >= -150.001 and high.max() <= 150.001
    assert (np.minimum(high[:40], high[40:]) >= np.maximum(low[:40], low[40:]) - 1e-6).all()


def test_a_patient_smaller_than_a_crop_gives_fewer_voxels():
    settings = tiny_pairs(shape=(96, 96, 64), finest=(1.0, 1.0, 1.5), coarsest=(4.0, 4.0, 6.0))
    lattice = draw_lattice(np.zeros(3), np.array([300.0, 250.0, 60.0]), settings, np.random.default_rng(0))
    assert lattice.shape == (96, 96, 40)
    tiny = draw_lattice(np.zeros(3), np.array([20.0, 20.0, 20.0]), settings, np.random.default_rng(0))
    assert tiny.shape == (32, 32, 32)


def test_aspects_vary_at_equal_volume():
    settings = tiny_pairs(shape=(96, 96, 64), aspect=2.0, finest=(1.0, 1.0, 1.5), coarsest=(2.0, 2.0, 3.0))
    rng = np.random.default_rng(0)
    shapes = np.array([draw_lattice(np.zeros(3), np.full(3, 400.0), settings, rng).shape for _ in range(60)])
    ratio = shapes[:, 0] / shapes[:, 1]
    assert ratio.max() > 1.4 and ratio.min() < 0.7 and ratio.max() < 2.2
    assert np.abs(np.log(shapes.prod(1) / (96 * 96 * 64))).max() < 0.15 and (shapes % STRIDE == 0).all()


def test_a_patient_repeats_and_differs_from_the_next():
    one, again, other = (draw(tiny_pairs(), Deformation(), seed) for seed in (4, 4, 5))
    assert torch.equal(one.images, again.images) and torch.equal(one.first.position, again.first.position)
    assert one.images.shape != other.images.shape or not torch.equal(one.images, other.images)
    assert one.images.min() >= 0 and one.images.max() <= 1


def test_single_crops_have_one_view():
    crops = draw(tiny_pairs(views=1, pairs=3), Deformation())
    assert crops.second is None and len(crops.images) == 3
