"""Resampling by matrices equals resampling tap by tap."""

import itertools

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.preparation import gpu_sampling as torch_resampling
from APELocalizerLib.core.preparation.gpu_sampling import BlockSizes, resample_all
from APELocalizerLib.core.preparation.sampling import antialiased, resample, zoomed

LIMITS = (-1024.0, 3071.0)


def stack_of(shape, dtype=np.int16):
    return np.random.default_rng(0).integers(-2000, 4000, shape).astype(dtype)


def grids_for(shape):
    """Coarser, hardly changed, finer, and beginning before the stack."""
    ratios = ((3.7, 2.9, 5.2), (1.0, 1.2, 2.0), (0.6, 0.9, 1.7), (12.3, 9.0, 7.7))
    grids = [tuple(antialiased(n, r) for n, r in zip(shape, ratio, strict=True)) for ratio in ratios]
    grids.append(tuple(antialiased(n, 3.3, start) for n, start in zip(shape, (-1.4, 0.3, -0.9), strict=True)))
    return [*grids, tuple(zoomed(n, 0.55) for n in shape)]


@pytest.mark.parametrize("shape", [(40, 33, 51), (9, 20, 64), (100, 17, 8), (1, 30, 30), (3, 1, 2)])
@pytest.mark.parametrize("sizes", [None, BlockSizes(5, 1, 2, 3, 4), BlockSizes(128, 32, 32, 64, 64)], ids=str)
def test_all_grids_equal_plain_resampling(monkeypatch, shape, sizes):
    if sizes is not None:
        monkeypatch.setattr(BlockSizes, "of", classmethod(lambda cls, device: sizes))
    stack, grids = stack_of(shape), grids_for(shape)
    for made, grid in zip(resample_all(stack, grids, LIMITS), grids, strict=True):
        expected = resample(stack, grid, LIMITS)
        assert made.dtype == torch.float32 and made.shape == expected.shape
        np.testing.assert_allclose(made.numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_any_number_type_with_and_without_limits(dtype):
    stack = stack_of((20, 16, 18), dtype)
    grid = grids_for(stack.shape)[0]
    for limits in (None, (-500.0, 100.0)):
        np.testing.assert_allclose(
            resample_all(stack, [grid], limits)[0].numpy(), resample(stack, grid, limits), atol=2e-3
        )


def test_memory_order_changes_no_bit():
    stack = stack_of((30, 22, 26))
    grids = grids_for(stack.shape)
    expected = resample_all(stack, grids, LIMITS)
    for flip in itertools.product((1, -1), repeat=3):
        steps = tuple(slice(None, None, step) for step in flip)
        view = np.ascontiguousarray(stack[steps])[steps]
        view.flags.writeable = False
        assert all(torch.equal(a, b) for a, b in zip(resample_all(view, grids, LIMITS), expected, strict=True))


def test_a_tensor_gives_what_an_array_gives():
    stack = stack_of((30, 22, 26))
    grids = grids_for(stack.shape)
    made = resample_all(torch.from_numpy(stack), grids, LIMITS)
    assert all(torch.equal(a, b) for a, b in zip(made, resample_all(stack, grids, LIMITS), strict=True))


def test_progress_rises_and_cancelling_stops():
    stack = stack_of((64, 12, 12))
    told = []
    resample_all(stack, grids_for(stack.shape), progress=lambda fraction, text: told.append(fraction))
    assert told == sorted(told) and told[-1] == 1 and len(told) == -(-64 // torch_resampling.BlockSizes.of(CPU).slab)
    asked = itertools.count()
    with pytest.raises(Cancelled):
        resample_all(stack, grids_for(stack.shape), cancelled=lambda: next(asked) >= 2)


CPU = torch.device("cpu")
