"""Voxels that are no Hounsfield units are refused, whatever pads the volume; values cut off at a window are told."""

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan.scan import Scan
from made_up.scans import tiny_torso

SCAN = tiny_torso()


@pytest.mark.parametrize("padding", [-2000, -1024, -1000, -3024, 0, 4095])
def test_padding_does_not_hide_a_lost_intercept(padding):
    voxels = SCAN.voxels + np.int16(1024)
    voxels[:2], voxels[-2:] = padding, padding
    with pytest.raises(ScanError, match="without its rescale intercept"):
        Scan(voxels, SCAN.ijk_to_ras)


@pytest.mark.parametrize("padding", [-2000, -1024, -3024, 0])
def test_padding_does_not_hide_a_ct(padding):
    voxels = SCAN.voxels.copy()
    voxels[:2], voxels[-2:] = padding, padding
    assert not Scan(voxels, SCAN.ijk_to_ras).warnings


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_values_that_are_too_high_or_too_low_are_refused(factor):
    with pytest.raises(ScanError, match="wrong rescale slope"):
        Scan((SCAN.voxels * factor).astype(np.float32), SCAN.ijk_to_ras)


@pytest.mark.parametrize(("low", "high"), [(-160, 240), (-200, 3000), (-1024, 100)])
def test_values_cut_off_at_a_window_are_told(low, high):
    [warning] = Scan(np.clip(SCAN.voxels, low, high), SCAN.ijk_to_ras).warnings
    assert "cut off or scaled" in warning and (f"below {low}" in warning) == (low > -1000)
    assert (f"above {high}" in warning) == (high < 300)
