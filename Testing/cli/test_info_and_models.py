"""What info and models print."""

import dataclasses

import pytest
import SimpleITK as sitk

from APELocalizerLib.core.localization.alignment import Reference
from made_up.files import write_table


def test_models_lists_ids_licenses_and_whether_they_are_here(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("APELOCALIZER_MODELS", raising=False)
    done = run("models")
    assert done.code == 0
    for text in ("default", "ape-published", "not downloaded", "license:", "cite:"):
        assert text in done.output


def test_models_never_uses_the_network_unless_asked(run, monkeypatch, tmp_path):
    import urllib.request

    def refuse(*_arguments, **_keywords):
        raise AssertionError("network used")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert run("models").code == 0
    done = run("models", "--fetch", "ape-published", "--file", tmp_path / "absent.pt")
    assert done.code == 1 and "absent.pt" in done.errors


def test_info_describes_a_scan(run, files):
    done = run("info", files.scan)
    assert done.code == 0
    assert "CT scan" in done.output and "72 x 48 x 44 of 5 x 5 x 6 mm" in done.output


def test_info_describes_a_library(run, files):
    done = run("info", files.library)
    assert done.code == 0
    assert "landmark library" in done.output and "left lung (1 shot)" in done.output and "tiny@" in done.output


def test_info_describes_a_model(run, files):
    done = run("info", files.model)
    assert done.code == 0 and "tiny@" in done.output and "standard 5 x 5 x 6 mm" in done.output


def test_info_describes_a_map(run, files):
    path = files.folder / "map.nrrd"
    run("embed", files.scan, "--out", path, "--model", files.model)
    done = run("info", path)
    assert done.code == 0 and "anatomical map" in done.output and "tiny@" in done.output


def test_info_takes_a_plain_nrrd_for_a_scan(run, files):
    path = files.folder / "scan.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(files.scan)), str(path))
    done = run("info", path)
    assert done.code == 0 and "CT scan" in done.output


@pytest.mark.parametrize("name", ["absent.nii.gz", "absent.pt", "absent.json", "absent"])
def test_info_says_that_a_file_is_missing(run, tmp_path, name):
    done = run("info", tmp_path / name)
    assert done.code == 1 and "does not exist" in done.errors and done.output == ""


def test_info_names_the_reference_that_coordinates_are_aligned_with(run, files, monkeypatch):
    monkeypatch.setattr(
        "APELocalizerLib.core.embedder.align",
        lambda embedding_map, reference, _: dataclasses.replace(embedding_map, space=reference.space),
    )
    reference, path = files.folder / "reference.json", files.folder / "map.nrrd"
    points = write_table(files.folder / "four.csv", "name,r_mm,a_mm,s_mm", [[f"p{n}", 10 * n, 0, 0] for n in range(4)])
    assert run("learn", files.scan, "--points", points, "--library", reference, "--model", files.model).code == 0
    assert run("embed", files.scan, "--out", path, "--model", files.model, "--reference", reference).code == 0
    digest = Reference.of_file(reference).digest
    assert f"aligned with the reference library {digest}" in run("info", path).output
    assert "coordinates:       not aligned" in run("info", reference).output


def test_models_says_why_the_embedded_model_stays(run):
    done = run("models", "--remove", "default")
    assert done.code == 1 and "comes with the extension and cannot be removed" in done.errors
