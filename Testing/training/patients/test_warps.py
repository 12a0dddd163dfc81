"""Virtual patients as a function of space: the same for lattices and points, smooth, invertible, of the asked size."""

import numpy as np
import pytest
import torch

from APELocalizerLib.training.patients.virtual_patients import Deformation
from APELocalizerLib.training.patients.warps import SplineField, Warp, cubic_spline

LOW, HIGH = np.zeros(3), np.array([300.0, 350.0, 400.0])


def random_warp(seed=0, deformation=None):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return Warp.random(LOW, HIGH, deformation or Deformation(), rng, generator)


def test_lattice_and_points_agree():
    warp = random_warp()
    first, spacing, shape = np.array([-80.0, -60.0, -100.0]), np.array([2.5, 3.0, 4.0]), (11, 13, 9)
    lattice = warp.on_lattice(first, spacing, shape, torch.device("cpu"))
    index = torch.tensor(np.indices(shape).reshape(3, -1).T, dtype=torch.float32)
    points = index * torch.tensor(spacing, dtype=torch.float32) + torch.tensor(first, dtype=torch.float32)
    torch.testing.assert_close(warp.at(points), lattice.flatten(1).T, atol=1e-3, rtol=0)


def test_inverse_brings_points_back():
    warp = random_warp(3)
    points = torch.tensor(np.random.default_rng(0).uniform(warp.low, warp.high, (200, 3)), dtype=torch.float64)
    error = (warp.inverse(warp.at(points)) - points).norm(dim=1)
    assert (error < 0.01).float().mean() > 0.97


def test_no_deformation_is_the_scan_itself():
    warp = Warp.random(LOW, HIGH, None, np.random.default_rng(0), torch.Generator())
    points = torch.tensor([[-150.0, -175.0, -200.0], [0.0, 0.0, 0.0], [150.0, 175.0, 200.0]])
    np.testing.assert_allclose(warp.at(points), [LOW, HIGH / 2, HIGH], atol=1e-4)


def test_a_field_has_the_asked_deviation():
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(np.random.default_rng(0).uniform(LOW, HIGH, (300, 3)), dtype=torch.float32)
    fields = [SplineField.random(LOW, HIGH, 45.0, 4.0, generator).at(points) for _ in range(40)]
    assert torch.stack(fields).std().item() == pytest.approx(4.0, rel=0.05)


def test_splines_sum_to_one_and_fall_to_zero():
    places = torch.linspace(0, 1, 11)
    total = sum(cubic_spline(places + step) for step in range(-3, 4))
    torch.testing.assert_close(total, torch.ones(11))
    assert cubic_spline(torch.tensor([2.0, -2.5])).abs().max() == 0


def test_patients_differ_in_size_and_shape():
    sizes = np.array([random_warp(seed).high - random_warp(seed).low for seed in range(20)]) / (HIGH - LOW)
    assert sizes.std(0).min() > 0.04 and sizes.min() > 0.6 and sizes.max() < 1.6
