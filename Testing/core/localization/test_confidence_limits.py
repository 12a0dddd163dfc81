"""Exactly where an answer counts as beyond the border, and which table belongs to a model."""

import json

import numpy as np
import pytest

from APELocalizerLib.core.localization.confidence import Signals, lies_beyond, read_calibrations

SAYS = {"weights": [1, 2, 3], "scores": [0, 1], "expected_error_mm": [2, 3], "radius_90_mm": [5, 8]}
MORE = {"weights": [4, 5, 6], "scores": [0, 2], "expected_error_mm": [1, 2], "radius_90_mm": [4, 7]}


def test_five_millimeters_and_twenty_to_the_border_still_count_as_within():
    assert not lies_beyond(5.0, 19.9) and lies_beyond(5.01, 19.9)
    assert not lies_beyond(5.01, 20.0)


def test_the_three_signals_keep_their_order_and_a_missing_one_stays_missing():
    signals = Signals(np.array([1.0, 2.0]), np.array([3.0, np.nan]), np.array([7.0, 0.0]))
    np.testing.assert_allclose(signals.features, [np.log([2, 4, 8]), [np.log(3), np.nan, 0.0]])


def test_a_table_is_read_for_its_model_alone(tmp_path):
    path = tmp_path / "confidence.json"
    assert read_calibrations("a model", path) is None, "there is none"
    path.write_text(json.dumps({"model_id": "a model", "one": SAYS, "several": MORE}), encoding="utf-8")
    assert read_calibrations("another", path) is None
    table = read_calibrations("a model", path)
    for calibration, wanted in ((table.one, SAYS), (table.several, MORE)):
        for name, numbers in wanted.items():
            np.testing.assert_array_equal(getattr(calibration, name), numbers)


@pytest.mark.parametrize(("shots", "error"), [(1, 2.0), (2, 1.0), (10, 1.0)])
def test_one_shot_has_a_table_of_its_own(tmp_path, shots, error):
    path = tmp_path / "confidence.json"
    path.write_text(json.dumps({"model_id": "m", "one": SAYS, "several": MORE}), encoding="utf-8")
    assert read_calibrations("m", path).confidence(np.zeros(3), shots).expected_error_mm == error
