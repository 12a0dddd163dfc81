"""Label maps as observations of the average patient."""

import numpy as np
import pytest

from APELocalizerLib.training.data.label_maps import OrganLabels, label_landmarks

GRID = np.array([[0, -2.0, 0, 80], [-2.0, 0, 0, 70], [0, 0, -3.0, 60], [0, 0, 0, 1]])
"""(P, L, I) of 2 x 2 x 3 mm -> RAS."""
BODY, RADIUS = np.array([3.0, 10.0, -15.0]), 15.0


def vertebra(lowest_slice=40):
    """A body of 15 mm radius with an arch, 6 mm thick, that reaches 45 mm further to the back."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (70, 80, lowest_slice)), indexing="ij"), -1)
    away = index @ GRID[:3, :3].T + GRID[:3, 3] - BODY
    arch = (np.abs(away[..., 0]) < 3) & (np.abs(away[..., 2]) < 12) & (away[..., 1] < 0) & (away[..., 1] > -60)
    wings = (np.abs(away[..., 0]) < 35) & (np.abs(away[..., 2]) < 4) & (np.abs(away[..., 1] + 25) < 3)
    return (np.linalg.norm(away, axis=-1) < RADIUS) | arch | wings


def landmarks(mask):
    labels = mask.astype(np.uint8)
    labels[0, 0] = 2  # something else is labeled in every slice, so that the vertebra is not the end of all
    places = {}
    for row in label_landmarks(OrganLabels(labels, GRID, {1: "vertebrae_L1", 2: "sacrum"})):
        places.setdefault(row.key, []).append(row.point)
    return places


def test_a_vertebra_is_tied_to_the_center_of_its_body():
    """The center of the whole structure lies 10 mm and more further back."""
    mask = vertebra()
    whole = np.argwhere(mask).mean(0) @ GRID[:3, :3].T + GRID[:3, 3]
    assert BODY[1] - whole[1] > 8
    points = landmarks(mask)["vertebra_L1"]
    assert len(points) == 3 and points[0] == pytest.approx(BODY, abs=2.0)


def test_a_vertebra_that_the_scan_cuts_ties_nothing():
    assert "vertebra_L1" not in landmarks(vertebra(lowest_slice=26))
