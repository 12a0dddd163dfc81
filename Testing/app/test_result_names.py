"""Result folders are named after the scans, on every operating system."""

from pathlib import Path

import pytest

from APELocalizerLib.app.result_names import folder_name, result_folders


def names_of(*scans) -> list[str]:
    return [folder.name for folder in result_folders([Path(scan) for scan in scans], Path("out"))]


def test_one_scan_has_the_folder_itself():
    assert result_folders([Path("a/x.nii.gz")], Path("out")) == [Path("out")]


def test_several_scans_have_folders_named_after_them():
    scans = ("a/x.nii.gz", "b/x.NII.GZ", "dicom/series", "v1.2.mha", "Müller CT 1.nrrd")
    assert names_of(*scans) == ["x", "x-2", "series", "v1.2", "Müller CT 1"]


def test_a_link_gives_its_own_name(tmp_path):
    (tmp_path / "0001.nii.gz").touch()
    link = tmp_path / "patient_a.nii.gz"
    link.symlink_to(tmp_path / "0001.nii.gz")
    assert names_of(link, "other.nii.gz") == ["patient_a", "other"]


def test_names_that_differ_only_in_case_get_folders_of_their_own():
    assert names_of("CT.nii.gz", "ct.nii.gz", "ct-2.nii.gz") == ["CT", "ct-2", "ct-2-2"]


@pytest.mark.parametrize(
    "name", ["CON", "con.1", "nul", "COM1", "a:b", "what?", "end.", "end ", "..", "x" * 300, "ä" * 300]
)
def test_every_name_is_one_that_windows_takes_too(name):
    safe = folder_name(name)
    assert len(safe.encode()) <= 200 and not set(safe) & set('<>:"/\\|?*') and safe == safe.rstrip(". ")
    assert safe and safe.split(".")[0].upper() not in ("CON", "NUL", "COM1")


def test_a_folder_called_by_dots_is_named_after_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert names_of(".", "other.nii.gz") == ["series", "other"]
