"""The per-axis scale of a published model, recovered from scans."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.embedding.calibration import calibrate_scale
from made_up.maps import Patient, smooth_map
from made_up.models import tiny_model


def raw_map(model, true_scale, patient=None, noise=0.0):
    """A map as the uncalibrated model makes it: raw outputs times its provisional scale, where raw = mm / true."""
    made = smooth_map(patient, model_id=model.id, noise_mm=noise)
    values = made.values / np.float32(true_scale) * np.float32(model.scale)
    return dataclasses.replace(made, values=values)


def test_a_known_scale_is_recovered():
    model, true = tiny_model(), (430.0, 620.0, 810.0)
    patients = [Patient(), Patient((1.1, 0.95, 1.0)), Patient((0.92, 1.04, 1.0))]
    calibrated = calibrate_scale(model, [raw_map(model, true, patient, 2.0) for patient in patients])
    np.testing.assert_allclose(calibrated.scale, true, rtol=0.06)
    assert calibrated.id != model.id, "embeddings of another scale are not comparable"
    assert calibrated.state is model.state


def test_the_result_does_not_depend_on_the_provisional_scale_or_offset():
    true = (430.0, 620.0, 810.0)
    results = []
    for provisional, offset in (((500.0,) * 3, (0.0,) * 3), ((1.0, 10.0, 100.0), (7.0, -3.0, 0.0))):
        model = tiny_model(scale=provisional, offset=offset)
        made = raw_map(model, true)
        shifted = dataclasses.replace(made, values=made.values + np.float32(offset))
        results.append(calibrate_scale(model, [shifted]))
    np.testing.assert_allclose(results[0].scale, results[1].scale, rtol=1e-3)


def test_the_same_scans_give_the_same_scale():
    model = tiny_model()
    maps = [raw_map(model, (400.0, 500.0, 600.0), noise=2.0)]
    assert calibrate_scale(model, maps).scale == calibrate_scale(model, maps).scale


def test_a_channel_that_says_nothing_is_refused():
    model = tiny_model()
    made = raw_map(model, (400.0, 500.0, 600.0))
    values = made.values.copy()
    values[..., 1] = 3.0
    with pytest.raises(ModelError, match="do not determine"):
        calibrate_scale(model, [dataclasses.replace(made, values=values)])


def test_maps_of_another_model_and_no_maps_are_refused():
    model = tiny_model()
    with pytest.raises(ModelError, match="computed with the model"):
        calibrate_scale(model, [smooth_map()])
    with pytest.raises(ModelError, match="at least one scan"):
        calibrate_scale(model, [])
