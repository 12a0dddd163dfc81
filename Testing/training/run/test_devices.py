"""Sampling, augmentation and losses stay on the device that trains.

PyTorch's "meta" device stands for a GPU here: it computes nothing, but tensors of two devices do not mix in it.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from APELocalizerLib.training.data.scans import TrainingScan
from APELocalizerLib.training.data.synthetic import paint
from APELocalizerLib.training.data.volumes import Level, Volume
from APELocalizerLib.training.objectives.losses import equivariance_loss, pair_loss, standardized
from APELocalizerLib.training.patients import intensities
from APELocalizerLib.training.patients.augmentation import augment, random_visibility
from APELocalizerLib.training.patients.pairs import draw_lattice
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation, draw_crop
from APELocalizerLib.training.patients.warps import Warp
from made_up.trainings import tiny_pairs

OTHER = torch.device("meta")
GRID = np.array([[0, -4.0, 0, 100], [-4.0, 0, 0, 90], [0, 0, -4.0, 80], [0, 0, 0, 1]])


class OneDevice(TorchDispatchMode):
    """Raises when an operation mixes devices, also where PyTorch itself would not notice on "meta"."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor) and t.dim() > 0]
        if len({t.device.type for t in tensors}) > 1 and "copy" not in str(function):
            raise RuntimeError(f"{function} mixes devices")
        return function(*args, **(kwargs or {}))


class Generator:
    """A generator on the other device, which has none."""

    device = OTHER


@pytest.fixture
def one_device(monkeypatch):
    for name in ("rand", "randn"):
        plain = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, generator=None, plain=plain, **k: plain(*a, **k))
    with OneDevice():
        yield


def test_the_guard_works(one_device):
    with pytest.raises(RuntimeError, match="mixes devices"):
        torch.ones(3, 3) @ torch.empty(3, 3, device=OTHER)


def test_self_supervised_steps_stay_on_the_device(one_device):
    spacing, shape = np.array([4.0, 4.0, 5.0]), (60, 56, 52)
    last = (np.array(shape) - 1) * spacing
    level = Level(torch.empty(shape, device=OTHER), 4.0, spacing, np.zeros(3))
    body = torch.ones(shape, dtype=torch.bool, device=OTHER)
    volume, settings = Volume((level,), body, spacing, 1.0, np.zeros(3), last), tiny_pairs()
    rng, generator = np.random.default_rng(0), Generator()
    warp = Warp.random(volume.low, volume.high, Deformation(), rng, generator)
    lattice = draw_lattice(warp.low, warp.high, settings, rng)
    voxels = zip(lattice.first, lattice.spacing, strict=True)
    places = torch.stack([warp.on_lattice(first, spacing, lattice.shape, OTHER) for first, spacing in voxels])
    images = volume.image_at(places, 0)
    for augmented in (intensities.released, intensities.paper):
        assert augmented(images, lattice.spacing, rng, generator).device == OTHER
    points = torch.empty(50, 3, device=OTHER)
    assert volume.is_body(warp.at(warp.inverse(points))).device == OTHER
    embedding = torch.empty(4, 3, 8, 8, 8, device=OTHER, requires_grad=True)
    read = lattice.places(torch.zeros(50, dtype=torch.long, device=OTHER), points).read(embedding)
    first, second, _ = standardized(points, points)
    (pair_loss(read, read, first, second) + equivariance_loss(read, read)).backward()
    assert embedding.grad.device == OTHER


class Points:
    """Landmarks, which stay on the CPU until they are used."""

    def __len__(self):
        return 3

    def numpy(self):
        return np.zeros((3, 3))

    def float(self):
        return torch.zeros(3, 3)


def test_anchored_steps_stay_on_the_device(one_device):
    image = torch.empty(1, 1, 48, 50, 46, device=OTHER)
    scan = TrainingScan("x", "x", [image] * 4, image, GRID, target=torch.empty(1, 6, 9, 9, 9, device=OTHER))
    scan.__dict__["body_extent"] = ((2, 45), (2, 46), (0, 45))
    scan.landmarks = scan.goals = Points()
    rng, generator = np.random.default_rng(0), Generator()
    for _ in range(12):
        crop = draw_crop(scan, CropKind((4.0, 4.0, 4.0), 1.0, 90_000, (44, 44, 44)), Deformation(), rng, generator)
        assert {t.device for t in (crop.image, crop.target, crop.weight)} == {OTHER}
        assert augment(crop.image, crop.outside, rng, generator).device == OTHER
        assert random_visibility((32, 32, 32), 1.0, rng, generator).device == OTHER
    assert paint(image, {5: "liver", 13: "lung_upper_lobe_left"}, rng, generator).device == OTHER
