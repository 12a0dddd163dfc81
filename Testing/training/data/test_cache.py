"""Scans are found, prepared once, and left out with a sentence when they cannot be used."""

import os

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.training.data import cache
from APELocalizerLib.training.data.cache import CacheSettings, prepare_scans
from APELocalizerLib.training.data.scan_files import find_scans
from APELocalizerLib.training.data.volumes import PreparedSource
from made_up.files import write_torso

SETTINGS = CacheSettings(PreparationConfig.plain(), (6.0, 6.0, 6.0))


@pytest.fixture
def scan(tmp_path):
    return write_torso(tmp_path / "scans" / "one.nii.gz")


def test_a_prepared_scan_is_what_inference_sees(scan, tmp_path):
    (file,), problems = prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    expected = prepare(read_scan(scan), SETTINGS.preparation, SETTINGS.spacing)
    assert not problems
    np.testing.assert_allclose(file.image(), expected.image, atol=3e-4)
    np.testing.assert_array_equal(file.body(), expected.body_mask)
    np.testing.assert_allclose(file.grid_to_ras, expected.grid_to_ras)
    assert isinstance(file.image(), np.memmap) and file.image().dtype == np.float16


def test_bytes_are_close_to_halves(scan, tmp_path):
    small = CacheSettings(SETTINGS.preparation, SETTINGS.spacing, "uint8")
    device = torch.device("cpu")
    volumes = [
        PreparedSource(prepare_scans({"one": scan}, tmp_path / "cache", settings)[0][0]).load(device)
        for settings in (SETTINGS, small)
    ]
    one, other = (v.levels[0].image / v.unit for v in volumes)
    assert (one - other).abs().max() < 0.5 / 255 + 1e-3


def test_an_unchanged_scan_is_not_read_again_and_a_changed_one_is(scan, tmp_path, monkeypatch):
    (before,), _ = prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_scan", lambda path: pytest.fail("read again"))
        (again,), _ = prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    assert again.folder == before.folder
    write_torso(scan, scale=0.9)
    (changed,), _ = prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    assert changed.folder != before.folder and changed.shape != before.shape
    finer = CacheSettings(SETTINGS.preparation, (5.0, 5.0, 5.0))
    assert prepare_scans({"one": scan}, tmp_path / "cache", finer)[0][0].folder != changed.folder


def test_a_copy_under_another_name_shares_what_was_prepared(scan, tmp_path):
    copy = scan.with_name("two.nii.gz")
    copy.write_bytes(scan.read_bytes())
    files, _ = prepare_scans({"one": scan, "two": copy}, tmp_path / "cache", SETTINGS)
    assert [file.name for file in files] == ["one", "two"] and files[0].folder == files[1].folder


def test_half_of_a_prepared_scan_is_never_used(scan, tmp_path, monkeypatch):
    """A kill between two files leaves no folder that looks complete."""
    monkeypatch.setattr(cache.json, "dumps", _dying(cache.json.dumps, "grid_to_ras"))
    with pytest.raises(KeyboardInterrupt):
        prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    monkeypatch.undo()
    (file,), _ = prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    assert file.image().shape == file.shape


def test_what_a_killed_process_left_is_swept_after_a_day(scan, tmp_path):
    old, new = tmp_path / "cache" / "a.1.part", tmp_path / "cache" / "b.2.part"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    prepare_scans({"one": scan}, tmp_path / "cache", SETTINGS)
    assert not old.exists() and new.exists()


def _dying(function, mark):
    def die(values, **keywords):
        if isinstance(values, dict) and mark in values:
            raise KeyboardInterrupt
        return function(values, **keywords)

    return die


def test_bad_scans_are_named_and_left_out(scan, tmp_path, caplog):
    folder = scan.parent
    (folder / "broken.nii.gz").write_bytes(b"no image")
    sitk.WriteImage(sitk.Image(40, 40, 40, sitk.sitkInt16), str(folder / "empty.mha"))
    files, problems = prepare_scans(find_scans([folder]), tmp_path / "cache", SETTINGS)
    assert [file.name for file in files] == ["one"]
    assert set(problems) == {"broken", "empty"} and all(text.endswith(".") for text in problems.values())
    assert "broken is left out" in caplog.text
    scan.unlink()
    with pytest.raises(TrainingError, match="None of the 2 scans can be used"):
        prepare_scans(find_scans([folder]), tmp_path / "cache", SETTINGS)


def test_scans_are_found_by_kind_and_named_apart(tmp_path):
    for place in ("a/ct.nii.gz", "b/ct.nii.gz", "b/ct_seg.nii.gz", "notes.txt", "c.mha"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.2.840").write_bytes(bytes(128) + b"DICM")
    found = find_scans([tmp_path])
    assert set(found) == {"a-ct", "b-ct", "c", "series"} and found["series"] == series
    assert list(find_scans([tmp_path / "a" / "ct.nii.gz"])) == ["ct"]
    for missing in (tmp_path / "absent", tmp_path / "a" / "empty"):
        (tmp_path / "a" / "empty").mkdir(exist_ok=True)
        with pytest.raises(TrainingError):
            find_scans([missing])
