"""Label maps as scans to train on: organs are painted, and their poles become landmarks."""

import numpy as np
import pytest

from APELocalizerLib.training.data.label_maps import OrganLabels, label_landmarks
from APELocalizerLib.training.data.scans import scan_from_labels
from APELocalizerLib.training.data.synthetic import INSIDE, RIM
from made_up.anchored import GRID


def test_a_painted_label_map_has_skin_around_its_organs():
    labels = np.zeros((60, 60, 40), np.uint8)
    labels[20:40, 20:40, 5:35] = 5
    scan = scan_from_labels("x", "x", labels, GRID, {5: "liver"})
    filled = scan.levels[0][0, 0].numpy()
    assert filled.shape[2] == 30, "slices without labels are left out"
    assert filled[30, 30, 10] == 5 and filled[18, 30, 10] == RIM and filled[2, 2, 10] == 0
    assert scan.grid_to_ras[2, 3] == GRID[2, 3] - 4.0 * 5
    assert not np.any(filled[scan.body[0, 0].numpy() == 0])
    assert INSIDE != RIM


def test_landmarks_of_a_label_map_respect_the_field_of_view():
    labels = np.zeros((40, 40, 40), np.int16)
    labels[10:20, 5:15, 8:25] = 2
    labels[10:20, 25:35, 20:40] = 3  # runs out of the scan below
    labels[30:35, 18:22] = 79
    names = {2: "kidney_right", 3: "kidney_left", 79: "spinal_cord"}
    found = {o.key: o.point for o in label_landmarks(OrganLabels(labels, GRID, names))}
    assert found["kidney_right_upper_pole"][2] == pytest.approx(80 - 4 * 8)
    assert found["kidney_right_lower_pole"][2] == pytest.approx(80 - 4 * 24)
    assert "kidney_left_upper_pole" in found and "kidney_left_lower_pole" not in found
