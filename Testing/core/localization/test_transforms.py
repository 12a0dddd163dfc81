"""Transforms and carried marks of two phantoms, one a known affine copy of the other: SimpleITK is the judge."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.annotations.marks import read_points
from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.geometry import LPS, Box, apply_affine
from APELocalizerLib.core.localization.carry import carry_label_map, carry_points, write_label_map, write_points
from APELocalizerLib.core.localization.correspondence import correspond
from APELocalizerLib.core.localization.thin_plate import ThinPlate
from APELocalizerLib.core.localization.transforms import (
    KINDS,
    itk_transform,
    paired_points,
    point_list_files,
    write_point_lists,
    write_transform,
)
from APELocalizerLib.core.scan.label_map import LabelMap, read_label_map
from made_up.grids import grid_to_ras, rotation
from made_up.maps import map_of_scan
from made_up.scans import body_phantom, phantom_landmarks, reoriented, sheared

SCALE, SHIFT = np.array([1.05, 0.95, 1.04]), np.array([12.0, -8.0, 130.0])
LANDMARKS = np.array(list(phantom_landmarks().values()))[:4]
WANTED = LANDMARKS * SCALE + SHIFT


@pytest.fixture(scope="module")
def scans():
    """The fixed torso; the moving one is larger, lies elsewhere, and is stored along other axes."""
    grid = grid_to_ras((84, 60, 52), (5.0, 5.0, 5.0), center=SHIFT)
    moving = body_phantom((84, 60, 52), ijk_to_ras=grid, scale=SCALE, shift=SHIFT, name="moving")
    return body_phantom(name="fixed"), reoriented(moving, (2, 0, 1), (True, False, True))


@pytest.fixture(scope="module")
def correspondence(scans):
    fixed, moving = scans
    second = map_of_scan(moving, lambda points: (points - SHIFT) / SCALE)
    return correspond(map_of_scan(fixed, lambda points: points), second)


def mean_difference(first: sitk.Image, second: sitk.Image) -> float:
    return float(np.abs(sitk.GetArrayViewFromImage(first).astype(float) - sitk.GetArrayViewFromImage(second)).mean())


@pytest.mark.parametrize(("kind", "ending", "within_mm"), [
    ("rigid", ".tfm", 12.0), ("affine", ".h5", 1.0), ("thin-plate", ".h5", 1.0), ("field", ".h5", 1.0),
])  # fmt: skip
def test_a_written_transform_takes_fixed_to_moving(correspondence, scans, tmp_path, kind, ending, within_mm):
    write_transform(itk_transform(correspondence, kind, scans[0].bounds()), tmp_path / f"t{ending}")
    read = sitk.ReadTransform(str(tmp_path / f"t{ending}"))
    moved = np.array([read.TransformPoint(point) for point in (LANDMARKS * LPS).tolist()]) * LPS
    assert np.linalg.norm(moved - WANTED, axis=1).max() < within_mm
    assert [path.name for path in tmp_path.iterdir()] == [f"t{ending}"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_moving_scan_resampled_by_it_is_the_fixed_one(correspondence, scans, kind):
    fixed, moving = (scan.to_sitk() for scan in scans)
    transform = itk_transform(correspondence, kind, scans[0].bounds())
    resampled = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1000)
    unmoved = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, -1000)
    share = mean_difference(fixed, resampled) / mean_difference(fixed, unmoved)
    assert share < (0.5 if kind == "rigid" else 0.2)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_the_field_as_an_image_is_the_same_field(correspondence, scans, tmp_path, ending):
    write_transform(itk_transform(correspondence, "field", scans[0].bounds()), tmp_path / f"field{ending}")
    image = sitk.ReadImage(str(tmp_path / f"field{ending}"), sitk.sitkVectorFloat64)
    read = sitk.DisplacementFieldTransform(image)
    moved = np.array([read.TransformPoint(point) for point in (LANDMARKS * LPS).tolist()]) * LPS
    assert np.linalg.norm(moved - WANTED, axis=1).max() < 1
    assert [path.name for path in tmp_path.iterdir()] == [f"field{ending}"]


def test_a_field_reaches_the_corners_of_the_fixed_scan(correspondence, scans):
    transform = itk_transform(correspondence, "field", scans[0].bounds())
    for corner in scans[0].corners_ras():
        moved = np.array(transform.TransformPoint((corner * LPS).tolist())) * LPS
        assert np.linalg.norm(moved - (corner * SCALE + SHIFT)) < 20


def test_point_lists_are_pairs_in_lps(correspondence, tmp_path):
    for ending, first_line, separator in ((".txt", "point", None), (".csv", "x,y,z,t,label", ",")):
        write_point_lists(correspondence, tmp_path / f"pairs{ending}")
        lists = []
        for file in point_list_files(tmp_path / f"pairs{ending}"):
            lines = file.read_text(encoding="utf-8").splitlines()
            assert lines[0] == first_line
            if ending == ".txt":
                assert int(lines[1]) == len(lines) - 2
            rows = lines[2:] if ending == ".txt" else lines[1:]
            lists.append(np.array([[float(x) for x in row.split(separator)[:3]] for row in rows]) * LPS)
        fixed, moving = lists
        assert len(fixed) == len(moving) > 20
        assert moving == pytest.approx(fixed * SCALE + SHIFT, abs=3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "pairs_fixed.txt", "pairs_moving.txt", "pairs_fixed.csv", "pairs_moving.csv"
    }  # fmt: skip


def test_listed_points_are_spread_and_few(correspondence):
    first, second = paired_points(correspondence, 30)
    assert 10 < len(first) <= 30 and len(first) == len(second)
    assert np.ptp(first, axis=0).min() > 100


def test_a_thin_plate_goes_through_its_points_and_is_affine_where_they_are():
    random = np.random.default_rng(0)
    first = random.uniform(-100, 100, (30, 3))
    bent = first + random.normal(0, 10, first.shape)
    assert ThinPlate(first, bent)(first) == pytest.approx(bent, abs=1e-6)
    far = np.array([[300.0, -200, 500]])
    matrix = rotation(1, 25)[:3, :3] * 1.1
    assert ThinPlate(first, first @ matrix.T + (1, 2, 3))(far) == pytest.approx(far @ matrix.T + (1, 2, 3), abs=1e-6)


# Carried marks -------------------------------------------------------------------------------------------------------


def test_labels_are_carried_to_the_grid_of_the_other_scan(correspondence, scans, tmp_path):
    fixed, moving = scans
    points = apply_affine(fixed.ijk_to_ras, np.indices(fixed.voxels.shape).reshape(3, -1).T)
    labels = np.where(np.linalg.norm(points - (0, 0, 0), axis=1) < 45, 300, 0).reshape(fixed.voxels.shape)
    carried = carry_label_map(correspondence, LabelMap(labels.astype(np.int32), fixed.ijk_to_ras), moving)
    write_label_map(carried, tmp_path / "labels.nii.gz")
    read = read_label_map(tmp_path / "labels.nii.gz")
    assert read.labels.shape == moving.voxels.shape and set(np.unique(read.labels)) == {0, 300}
    places = apply_affine(moving.ijk_to_ras, np.indices(moving.voxels.shape).reshape(3, -1).T)
    wanted = (np.linalg.norm((places - SHIFT) / SCALE, axis=1) < 45).reshape(read.labels.shape)
    overlap = 2 * (wanted & (read.labels > 0)).sum() / (wanted.sum() + (read.labels > 0).sum())
    assert overlap > 0.9


def test_points_are_carried_and_those_out_of_view_are_missing(correspondence, tmp_path):
    points = {'the "middle", below': LANDMARKS[0], "far": np.array([0.0, 0, 900])}
    carried = carry_points(correspondence, points)
    write_points(list(points), carried, tmp_path / "carried.mrk.json")
    write_points(list(points), carried, tmp_path / "carried.csv")
    for file in ("carried.mrk.json", "carried.csv"):
        read = read_points(tmp_path / file)
        assert list(read) == ['the "middle", below']
        assert read['the "middle", below'] == pytest.approx(WANTED[0], abs=1)
    [markup] = json.loads((tmp_path / "carried.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [point["positionStatus"] for point in markup["controlPoints"]] == ["defined", "missing"]
    assert "in 9 of 10" in markup["controlPoints"][0]["description"]


def test_nothing_in_view_is_an_error(correspondence, scans):
    with pytest.raises(CorrespondenceError, match="None of the points is in view"):
        carry_points(correspondence, {"far": np.array([0.0, 0, 900])})
    away = grid_to_ras((10, 10, 10), (5.0,) * 3, center=(0, 0, 900))
    with pytest.raises(CorrespondenceError, match="Nothing of “organs” is in view on"):
        carry_label_map(correspondence, LabelMap(np.ones((10, 10, 10), np.int32), away, "organs"), scans[1])


def test_a_sheared_scan_takes_no_labels(correspondence, scans):
    label_map = LabelMap(np.ones((10, 10, 10), np.int32), grid_to_ras((10, 10, 10), (5.0,) * 3))
    with pytest.raises(CorrespondenceError, match="sheared"):
        carry_label_map(correspondence, label_map, sheared(scans[0]))


def test_too_few_shared_places_make_no_transform(correspondence):
    blind = replace(correspondence, second=replace(correspondence.second, field_of_view=Box((0, 0, 0), (1, 1, 1))))
    with pytest.raises(CorrespondenceError, match="share too little"):
        paired_points(blind, 50)
