"""The losses against plain loops over voxels, written from the equations."""

import numpy as np
import pytest
import torch

from APELocalizerLib.training.objectives import losses
from APELocalizerLib.training.objectives.losses import anchored_loss, equivariance_loss, pair_loss, standardized
from APELocalizerLib.training.patients.virtual_patients import Crop


def by_hand(a, b, p, q):
    """Eq. 1 with loops."""
    errors = [
        (np.linalg.norm(a[i] - b[j]) - np.linalg.norm(p[i] - q[j])) ** 2 for i in range(len(a)) for j in range(len(b))
    ]
    return np.mean(errors)


def points(count, seed):
    return torch.tensor(np.random.default_rng(seed).normal(0, 1, (count, 3)))


@pytest.mark.parametrize("rows_at_once", [1 << 22, 40], ids=["at once", "in blocks"])
def test_pair_loss_is_equation_one(monkeypatch, rows_at_once):
    monkeypatch.setattr(losses, "_PAIRS_AT_ONCE", rows_at_once)
    a, b, p, q = points(17, 0), points(13, 1), points(17, 2), points(13, 3)
    assert pair_loss(a, b, p, q).item() == pytest.approx(by_hand(*(x.numpy() for x in (a, b, p, q))), rel=1e-12)


def test_pair_loss_gradient(monkeypatch):
    monkeypatch.setattr(losses, "_PAIRS_AT_ONCE", 40)
    a, b, p, q = points(9, 0).requires_grad_(), points(7, 1).requires_grad_(), points(9, 2), points(7, 3)
    assert torch.autograd.gradcheck(lambda a, b: pair_loss(a, b, p, q), (a, b))


def test_single_crops_are_compared_with_themselves():
    """APE-naive: the same voxels on both sides; a voxel and itself have distance 0 and no gradient."""
    a, p = points(12, 0).requires_grad_(), points(12, 1)
    loss = pair_loss(a, a, p, p)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(a.detach().numpy(), a.detach().numpy(), p.numpy(), p.numpy()))
    free = a.detach().clone().requires_grad_()
    distances = torch.cdist(free + 1e-12, free) - torch.cdist(p, p)
    (distances**2).mean().backward()
    torch.testing.assert_close(a.grad, free.grad, atol=1e-6, rtol=1e-6)


def test_a_rotated_or_mirrored_body_is_a_perfect_embedding():
    p, q = points(30, 0), points(20, 1)
    turn = torch.linalg.qr(points(3, 2))[0]
    assert pair_loss(p @ turn + 5.0, q @ turn + 5.0, p, q).item() < 1e-24
    assert pair_loss(2 * p, 2 * q, p, q).item() > 0.1


def test_equivariance_loss_is_the_mean_squared_distance():
    a, b = points(11, 0), points(11, 1)
    expected = np.mean([np.sum((x - y) ** 2) for x, y in zip(a.numpy(), b.numpy(), strict=True)])
    assert equivariance_loss(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert equivariance_loss(a, a).item() == 0.0


def test_nothing_to_compare_is_no_loss():
    none = torch.zeros(0, 3, requires_grad=True)
    loss = pair_loss(none, none, none.detach(), none.detach()) + equivariance_loss(none, none)
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(values).all() for values in standardized(none.detach(), none.detach()))


def test_positions_are_standardized_by_the_first_set():
    p = points(50, 0) * torch.tensor([30.0, 60.0, 90.0]) + 100.0
    q = points(40, 1) * 50.0
    first, second, deviation = standardized(p, q)
    np.testing.assert_allclose(deviation, np.std(p.numpy(), axis=0, ddof=1))
    np.testing.assert_allclose(first.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(second, (q.numpy() - p.numpy().mean(0)) / deviation.numpy())


def test_anchored_loss_is_a_weighted_robust_distance():
    rng = np.random.default_rng(0)
    output, target = rng.uniform(0, 1, (3, 2, 2, 2)), rng.uniform(-50, 50, (3, 2, 2, 2))
    weight = rng.uniform(0, 1, (3, 2, 2, 2)) * (rng.random((1, 2, 2, 2)) < 0.7)
    scale, offset = np.array([100.0, 80.0, 60.0]), np.array([-50.0, -40.0, -30.0])
    total, summed, far = 0.0, 0.0, 0.0
    for cell in np.ndindex(2, 2, 2):
        error = output[(slice(None), *cell)] * scale + offset - target[(slice(None), *cell)]
        own = weight[(slice(None), *cell)]
        mean = own.mean()
        squared = (own / max(mean, 1e-6) * error**2).sum()
        summed += mean * (np.sqrt(1 + squared / 15.0**2) - 1)
        far += mean * np.linalg.norm(error)
        total += mean
    crop = Crop(None, *(torch.tensor(v, dtype=torch.float32) for v in (target, weight)), np.ones(3), None, None)
    as_tensors = (torch.tensor(v, dtype=torch.float32) for v in (output[None], scale, offset))
    image, scale, offset = as_tensors
    loss, distance = anchored_loss(image, crop, scale, offset, 15.0)
    assert loss.item() == pytest.approx(summed / total, rel=1e-5)
    assert distance == pytest.approx(far / total, rel=1e-5)
