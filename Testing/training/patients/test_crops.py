"""Crops of a scan: targets move with the anatomy, images stay images."""

import numpy as np
import pytest
import torch

from APELocalizerLib.training.data.scans import HU_LOW, HU_RANGE
from APELocalizerLib.training.patients.augmentation import augment, random_visibility
from APELocalizerLib.training.patients.virtual_patients import Deformation, draw_crop
from made_up.anchored import GRID, KIND, made_up_scan


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("deformation", [Deformation(0, 0, 0, 0, 100, 0, 45), Deformation()], ids=["still", "deformed"])
def test_targets_move_with_the_anatomy(deformation, stride):
    """In a scan whose brightness is its S coordinate, the target must be S (plus the frame's shift) everywhere."""
    index = np.arange(46)[None, None, :] * np.ones((48, 50, 1))
    height = GRID[2, 3] - 4.0 * index
    scan = made_up_scan(HU_LOW + HU_RANGE * (height + 150) / 300)
    scan.body[:] = 1.0
    for seed in range(4):
        random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        crop = draw_crop(scan, KIND, deformation, random, generator, stride)
        brightness = torch.nn.functional.avg_pool3d(crop.image, stride)[0, 0] * 300 - 150
        counted = crop.weight[2] > 0.5
        inner = counted & (crop.target[2] < 30 + height.max() - 20) & (crop.target[2] > 30 + height.min() + 20)
        assert inner.sum() > 50
        assert (brightness + 30 - crop.target[2])[inner].abs().max() < 4.0


def test_augmentation_stays_in_range_and_repeats():
    image = torch.rand(1, 1, 24, 24, 24) * 1.5
    runs = [augment(image, None, np.random.default_rng(5), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].min() >= 0 and runs[0].max() <= 1
    assert not torch.equal(runs[0], image.clamp(0, 1))


def test_hidden_blocks_leave_most_of_the_image():
    shape = (40, 37, 50)
    assert random_visibility(shape, 0.0, np.random.default_rng(0), torch.Generator()) is None
    shares = []
    for seed in range(20):
        visible = random_visibility(shape, 1.0, np.random.default_rng(seed), torch.Generator().manual_seed(seed))
        assert visible.shape == (1, *shape) and set(visible.unique().tolist()) <= {0.0, 1.0}
        shares.append(float(visible.mean()))
    assert 0.5 < np.mean(shares) < 0.9
