"""`register` and `transfer`, run as a user runs them: files in, files out, and one sentence for what is wrong."""

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.annotations.marks import read_points
from APELocalizerLib.core.scan.label_map import read_label_map
from made_up.files import POINTS, SHAPE, small_torso, write_scan, write_table, write_voxels
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom


@pytest.fixture
def other(files):
    """Another scan of the torso, on other voxels; to the ideal embedding both lie alike."""
    grid = grid_to_ras((60, 60, 40), (6.0, 5.0, 6.0))
    return write_scan(files.folder / "other.nii.gz", body_phantom((60, 60, 40), ijk_to_ras=grid, name="other"))


@pytest.fixture
def register(run, files, other):
    def go(*words, moving=other, fixed=files.scan):
        return run("register", moving, fixed, "--model", files.model, *words)

    return go


@pytest.fixture
def transfer(run, files, other):
    def go(*words, target=other):
        return run("transfer", files.scan, target, "--model", files.model, *words)

    return go


def written(files) -> set[str]:
    return {path.name for path in files.folder.iterdir()} - {"other.nii.gz", "library.json", "seg.nii.gz"}


def test_register_writes_a_transform_and_point_lists(register, files):
    done = register("--out", files.folder / "t.h5", "--kind", "field", "--points", files.folder / "pairs.txt")
    assert (done.code, done.output, done.errors) == (0, "", "")
    assert written(files) == {"t.h5", "pairs_fixed.txt", "pairs_moving.txt"}
    transform = sitk.ReadTransform(str(files.folder / "t.h5"))
    assert transform.TransformPoint((10.0, 20.0, 30.0)) == pytest.approx((10, 20, 30), abs=3)


def test_transfer_carries_points(transfer, files):
    done = transfer("--markups", files.points, "--out", files.folder / "points.mrk.json")
    assert (done.code, done.errors) == (0, "")
    carried = read_points(files.folder / "points.mrk.json")
    assert all(np.linalg.norm(carried[name] - POINTS[name]) < 4 for name in POINTS)


def test_transfer_names_the_points_that_are_not_in_view(transfer, files):
    points = write_table(files.folder / "p.csv", "name,r_mm,a_mm,s_mm", [["in", 0, 0, 0], ["far away", 0, 0, 800]])
    done = transfer("--markups", points, "--out", files.folder / "carried.csv")
    assert done.code == 0 and "warning: not in view on other: far away." in done.errors
    assert list(read_points(files.folder / "carried.csv")) == ["in"]


def test_transfer_carries_a_segmentation(transfer, files):
    labels = np.zeros(SHAPE, np.uint8)
    labels[30:40, 18:30, 15:28] = 7
    segmentation = write_voxels(files.folder / "seg.nii.gz", labels)
    assert transfer("--segmentation", segmentation, "--out", files.folder / "carried.nrrd").code == 0
    carried = read_label_map(files.folder / "carried.nrrd")
    assert carried.labels.shape == (60, 60, 40)
    volume = (carried.labels == 7).sum() * 6 * 5 * 6
    assert volume == pytest.approx(10 * 12 * 13 * 5 * 5 * 6, rel=0.15)


# What is wrong -------------------------------------------------------------------------------------------------------


def refused(done, files, sentence):
    assert done.code == 1 and sentence in done.errors and done.errors.count("\n") == 1, done.errors
    return not written(files) & {"t.h5", "carried.csv"}


def test_the_same_scan_twice(register, transfer, files):
    copied = files.folder / "copied.nii.gz"
    copied.write_bytes(files.scan.read_bytes())
    for same in (files.scan, copied):
        assert refused(register("--out", files.folder / "t.h5", moving=same), files, "is given twice")
    done = transfer("--markups", files.points, "--out", files.folder / "carried.csv", target=copied)
    assert refused(done, files, "is given twice")


def test_scans_without_overlap(register, files):
    grid = grid_to_ras(SHAPE, (5.0, 5.0, 6.0), center=(0, 0, 2000))
    far = write_scan(files.folder / "far.nii.gz", body_phantom(SHAPE, ijk_to_ras=grid, shift=(0, 0, 2000)))
    done = register("--out", files.folder / "t.h5", moving=far)
    assert refused(done, files, "do not seem to show a common part of the body")


def test_what_is_no_ct(register, files):
    mr = write_voxels(files.folder / "mr.nii.gz", np.abs(small_torso().voxels) % 600)
    assert refused(register("--out", files.folder / "t.h5", moving=mr), files, "“mr” does not look like a CT")


def test_an_existing_file_stays(register, transfer, files):
    for out, run in ((files.folder / "t.h5", register), (files.folder / "carried.csv", transfer)):
        out.write_text("mine", encoding="utf-8")
        more = ["--markups", files.points] if run is transfer else []
        done = run("--out", out, *more)
        assert done.code == 1 and f"{out} exists already" in done.errors
        assert out.read_text(encoding="utf-8") == "mine"
    (files.folder / "t.h5").unlink()
    (files.folder / "pairs_moving.csv").write_text("mine", encoding="utf-8")
    done = register("--out", files.folder / "t.h5", "--points", files.folder / "pairs.csv")
    assert done.code == 1 and "pairs_moving.csv exists already" in done.errors
    assert not (files.folder / "t.h5").exists()


def test_a_segmentation_of_another_scan(transfer, files):
    away = grid_to_ras(SHAPE, (5.0, 5.0, 6.0), center=(0, 0, 900))
    segmentation = write_voxels(files.folder / "seg.nii.gz", np.ones(SHAPE, np.uint8), away)
    done = transfer("--segmentation", segmentation, "--out", files.folder / "carried.nrrd")
    assert refused(done, files, "lies elsewhere than the scan")


def test_endings_that_hold_no_such_result_are_wrong_usage(register, transfer, files):
    for done in (
        register("--out", files.folder / "t.nii.gz", "--kind", "affine"),
        register("--out", files.folder / "t.h5", "--points", files.folder / "pairs.json"),
        transfer("--markups", files.points, "--out", files.folder / "points.nrrd"),
        transfer("--out", files.folder / "points.nrrd"),
    ):
        assert done.code == 2 and not written(files)
