"""The per-axis scale of a published checkpoint, recovered from scans."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import CheckpointError
from APELocalizerLib.core.embedding.calibration import calibrate_scale
from made_up.maps import Patient, smooth_map, tiny_checkpoint


def raw_map(checkpoint, true_scale, patient=None, noise=0.0):
    """A map as the uncalibrated checkpoint makes it: raw outputs times its provisional scale, where raw = mm / true."""
    made = smooth_map(patient, checkpoint_id=checkpoint.id, noise_mm=noise)
    values = made.values / np.float32(true_scale) * np.float32(checkpoint.scale)
    return dataclasses.replace(made, values=values)


def test_a_known_scale_is_recovered():
    checkpoint, true = tiny_checkpoint(), (430.0, 620.0, 810.0)
    patients = [Patient(), Patient((1.1, 0.95, 1.0)), Patient((0.92, 1.04, 1.0))]
    calibrated = calibrate_scale(checkpoint, [raw_map(checkpoint, true, patient, 2.0) for patient in patients])
    np.testing.assert_allclose(calibrated.scale, true, rtol=0.06)
    assert calibrated.id != checkpoint.id, "embeddings of another scale are not comparable"
    assert calibrated.state is checkpoint.state


def test_the_result_does_not_depend_on_the_provisional_scale_or_offset():
    true = (430.0, 620.0, 810.0)
    results = []
    for provisional, offset in (((500.0,) * 3, (0.0,) * 3), ((1.0, 10.0, 100.0), (7.0, -3.0, 0.0))):
        checkpoint = tiny_checkpoint(scale=provisional, offset=offset)
        made = raw_map(checkpoint, true)
        shifted = dataclasses.replace(made, values=made.values + np.float32(offset))
        results.append(calibrate_scale(checkpoint, [shifted]))
    np.testing.assert_allclose(results[0].scale, results[1].scale, rtol=1e-3)


def test_the_same_scans_give_the_same_scale():
    checkpoint = tiny_checkpoint()
    maps = [raw_map(checkpoint, (400.0, 500.0, 600.0), noise=2.0)]
    assert calibrate_scale(checkpoint, maps).scale == calibrate_scale(checkpoint, maps).scale


def test_a_channel_that_says_nothing_is_refused():
    checkpoint = tiny_checkpoint()
    made = raw_map(checkpoint, (400.0, 500.0, 600.0))
    values = made.values.copy()
    values[..., 1] = 3.0
    with pytest.raises(CheckpointError, match="do not determine"):
        calibrate_scale(checkpoint, [dataclasses.replace(made, values=values)])


def test_maps_of_another_checkpoint_and_no_maps_are_refused():
    checkpoint = tiny_checkpoint()
    with pytest.raises(CheckpointError, match="computed with the checkpoint"):
        calibrate_scale(checkpoint, [smooth_map()])
    with pytest.raises(CheckpointError, match="at least one scan"):
        calibrate_scale(checkpoint, [])
