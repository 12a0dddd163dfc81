"""The losses, of the paper and our own.

Equations are those of "Anatomical Positional Embeddings" (arXiv 2409.10291). There a network gives every voxel i of a
scan an embedding a_i (3,), and p_i (3,) is where the voxel lies in the patient; both are in the same unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from APELocalizerLib.training.patients.virtual_patients import Crop

_PAIRS_AT_ONCE = 1 << 22
"""Most pairs that are held at once; 16384 x 16384 pairs would take gigabytes."""


def pair_loss(first: Tensor, second: Tensor, first_places: Tensor, second_places: Tensor) -> Tensor:
    """Eq. 1: mean over all pairs (i, j) of (|a_i - b_j| - |p_i - q_j|)^2.

    first, second: embeddings a (n, 3) and b (m, 3); first_places, second_places: positions p (n, 3) and q (m, 3) in
    the same unit. APE-naive compares the voxels of single patches with one another (b = a, q = p); APE-Aug and
    APE-Equiv compare the voxels seen in one view with those seen in the other. 0 if there is no pair.
    """
    return _PairLoss.apply(first, second, first_places, second_places)


def equivariance_loss(first: Tensor, second: Tensor) -> Tensor:
    """The added term of APE-Equiv: the mean over i of |a_i - b_i|^2, for the same voxels seen in two views (n, 3)."""
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    return ((first - second) ** 2).sum(1).mean()


def standardized(first_places: Tensor, second_places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (n, 3), (m, 3) in mm in units of the first set's standard deviation per axis, as the released recipe
    does, because embeddings have unit variance; and these deviations (3,) in mm."""
    if len(first_places) < 2:
        return first_places, second_places, first_places.new_ones(3)
    deviation, mean = first_places.std(0).clamp_min(1.0), first_places.mean(0)
    return (first_places - mean) / deviation, (second_places - mean) / deviation, deviation


class _PairLoss(torch.autograd.Function):
    """`pair_loss` and its gradient in blocks of rows: memory for one block instead of for all pairs.

    With e_ij = |a_i - b_j| and t_ij = |p_i - q_j| the gradient for a_i is 2 / (n m) sum_j (1 - t_ij / e_ij)
    (a_i - b_j), and that for b_j its mirror image. Where e_ij = 0 the distance has no gradient, and 0 is taken.
    """

    @staticmethod
    def forward(ctx, first: Tensor, second: Tensor, first_places: Tensor, second_places: Tensor) -> Tensor:
        total = first.new_zeros(())
        first_gradient, second_gradient = torch.zeros_like(first), torch.zeros_like(second)
        pairs = max(1, len(first) * len(second))
        rows = max(1, _PAIRS_AT_ONCE // max(1, len(second)))
        for start in range(0, len(first), rows):
            part = slice(start, start + rows)
            distance = _distances(first[part], second)
            error = distance - _distances(first_places[part], second_places)
            total += (error**2).sum()
            weight = torch.where(distance > 0, error / distance.clamp_min(torch.finfo(distance.dtype).tiny), 0.0)
            first_gradient[part] = weight.sum(1, keepdim=True) * first[part] - weight @ second
            second_gradient += weight.sum(0)[:, None] * second - weight.T @ first[part]
        ctx.save_for_backward(first_gradient * (2.0 / pairs), second_gradient * (2.0 / pairs))
        return total / pairs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        first, second = ctx.saved_tensors
        return gradient * first, gradient * second, None, None


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (n, m), by differences: products would lose the digits of near points."""
    squared = first.new_zeros(len(first), len(second))
    for axis in range(first.shape[1]):
        squared += (first[:, axis, None] - second[:, axis]) ** 2
    return squared.sqrt_()


def anchored_loss(output: Tensor, crop: Crop, scale: Tensor, offset: Tensor, huber_mm: float) -> tuple[Tensor, float]:
    """Robust distance (units of huber_mm) between predicted and canonical coordinates, weighted per cell.

    output: (1, 3, p, l, i) in (0, 1). Per cell the weighted distance d gives sqrt(1 + (d / huber)^2) - 1: quadratic
    when near, linear when far. Also returns the weighted mean distance in mm.
    """
    predicted = output[0].float() * scale[:, None, None, None] + offset[:, None, None, None]
    error = predicted - crop.target
    axis_weight = crop.weight
    total = axis_weight.sum().clamp_min(1e-3)
    cell_weight = axis_weight.mean(0)
    share = axis_weight / cell_weight.clamp_min(1e-6)
    squared = (share * error**2).sum(0)
    loss = (cell_weight * (torch.sqrt(1 + squared / huber_mm**2) - 1)).sum() * 3 / total
    with torch.no_grad():
        distance = float((cell_weight * (error**2).sum(0).sqrt()).sum() * 3 / total)
    return loss, distance
