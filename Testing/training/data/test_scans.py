"""Scans and label maps are read for training along the body's axes, or refused."""

import json

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import AnnotationError, ScanError
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.training.data.scans import read_ct, read_label_map
from made_up.files import write_scan, write_voxels
from made_up.grids import grid_to_ras
from made_up.scans import tiny_torso

SHAPE, SPACING = (24, 20, 12), (15.0, 12.0, 20.0)


def turned(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return grid_to_ras(SHAPE, SPACING, rotation=np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]]))


def test_a_scan_on_an_oblique_grid_is_refused(tmp_path):
    torso = tiny_torso(SHAPE)
    voxels, _ = read_ct(write_scan(tmp_path / "straight.nii.gz", Scan(torso.voxels, turned(0.0))))
    assert sorted(voxels.shape) == sorted(SHAPE)
    with pytest.raises(ScanError, match="“turned.nii.gz” has an oblique grid"):
        read_ct(write_scan(tmp_path / "turned.nii.gz", Scan(torso.voxels, turned(5.0))))


def test_a_label_map_on_an_oblique_grid_is_refused(tmp_path):
    for degrees, name in ((0.0, "straight"), (5.0, "turned")):
        write_voxels(tmp_path / f"{name}_seg.nii.gz", np.ones(SHAPE, np.uint8), turned(degrees))
        (tmp_path / f"{name}_labels.json").write_text(json.dumps({"1": "liver"}), encoding="utf-8")
    assert read_label_map(tmp_path / "straight_seg.nii.gz")[2] == {1: "liver"}
    with pytest.raises(AnnotationError, match="“turned_seg.nii.gz” has an oblique grid"):
        read_label_map(tmp_path / "turned_seg.nii.gz")
