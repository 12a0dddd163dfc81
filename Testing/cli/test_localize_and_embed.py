"""`localize` and `embed` as a user runs them: files in, files out, exit codes."""

import json

import numpy as np
import pytest

from APELocalizerLib.app.engine import BUILT_IN
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.map_files import load_map
from APELocalizerLib.core.library.files import save_library
from APELocalizerLib.core.library.library import LandmarkLibrary
from made_up.files import POINTS, read_table, small_torso, write_scan, write_table, write_voxels


def localize(run, files, *extra):
    return run("localize", files.scan, "--library", files.library, "--out", files.out, "--model", files.model, *extra)


def test_localize_on_the_support_returns_every_click(run, files):
    done = localize(run, files)
    assert (done.code, done.output, done.errors) == (0, "", "")
    rows = {row["name"]: row for row in read_table(files.out / "results.csv")}
    columns = ["name", "kind", "status", "r_mm", "a_mm", "s_mm", "round_trip_mm", "distance"]
    assert list(rows["bone"]) == [*columns, "expected_error_mm", "radius_90_mm", "grade", "reason", "scan"]
    for name, position in POINTS.items():
        assert rows[name]["status"] == "found"
        where = [float(rows[name][column]) for column in ("r_mm", "a_mm", "s_mm")]
        assert np.linalg.norm(np.subtract(where, position)) < 2
    assert rows["right lung box"]["kind"] == "organ"


def test_localize_writes_every_file_it_promises(run, files):
    assert localize(run, files).code == 0
    names = {path.relative_to(files.out).as_posix() for path in files.out.rglob("*") if path.is_file()}
    assert names >= {"landmarks.mrk.json", "boxes.csv", "results.csv", "map.nrrd"}
    columns = "name,status,rmin,rmax,amin,amax,smin,smax,alpha,volume_ratio,round_trip_mm"
    assert (files.out / "boxes.csv").read_text(encoding="utf-8").splitlines()[0] == columns
    markup = json.loads((files.out / "landmarks.mrk.json").read_text(encoding="utf-8"))["markups"][0]
    assert [point["label"] for point in markup["controlPoints"]] == list(POINTS)
    assert load_map(files.out / "map.nrrd").scan_name == "support"
    found = [row["name"] for row in read_table(files.out / "boxes.csv") if row["status"] == "found"]
    assert len(list((files.out / "rois").glob("*.mrk.json") if found else [])) == len(found)


def test_localize_replaces_an_older_result_as_a_whole(run, files):
    assert localize(run, files).code == 0
    (files.out / "notes of the user.txt").write_text("old")
    earlier = (files.out / "run.json").read_bytes()
    assert localize(run, files, "--spacing", "fast").code == 0
    assert (files.out / "notes of the user.txt").read_text(encoding="utf-8") == "old"
    assert (files.out / "run.json").read_bytes() != earlier
    assert load_map(files.out / "map.nrrd").spacing == "fast"


def test_localize_refuses_a_folder_with_the_users_own_files_before_it_computes(run, files, monkeypatch):
    monkeypatch.setattr("APELocalizerLib.app.engine.Engine.map", lambda *_: pytest.fail("it was to refuse at once"))
    files.out.mkdir()
    (files.out / "boxes.csv").write_text("name,rmin,rmax,amin,amax,smin,smax")
    done = localize(run, files)
    assert done.code == 1 and "boxes.csv" in done.errors and done.errors.count("\n") == 1
    assert [path.name for path in files.out.iterdir()] == ["boxes.csv"]


def test_a_failing_scan_does_not_stop_the_others(run, files):
    broken = files.folder / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    other = write_scan(files.folder / "other.nii.gz", small_torso())
    arguments = ("--library", files.library, "--out", files.out, "--model", files.model)
    done = run("localize", files.scan, broken, other, *arguments)
    assert done.code == 1
    assert len(done.errors.splitlines()) == 1 and "broken.nii.gz" in done.errors
    assert sorted(path.name for path in files.out.iterdir()) == ["other", "support"]
    assert all((files.out / name / "results.csv").is_file() for name in ("other", "support"))


def test_scans_of_one_name_get_folders_of_their_own(run, files):
    folder = files.folder / "again"
    folder.mkdir()
    again = write_scan(folder / files.scan.name, small_torso())
    arguments = ("--library", files.library, "--out", files.out, "--model", files.model)
    assert run("localize", files.scan, again, *arguments).code == 0
    assert sorted(path.name for path in files.out.iterdir()) == ["support", "support-2"]


def test_a_failed_run_leaves_nothing_behind(run, files, monkeypatch):
    from APELocalizerLib.core.base.errors import MapError
    from APELocalizerLib.core.embedding import map_files

    def fail(*_arguments):
        raise MapError("The disk is full.")

    monkeypatch.setattr(map_files, "save_map", fail)
    before = sorted(files.folder.iterdir())
    done = localize(run, files)
    assert (done.code, done.errors) == (1, "ape-localizer: The disk is full.\n")
    assert sorted(files.folder.iterdir()) == before


def test_embed_writes_the_map_that_localize_uses(run, files):
    path = files.folder / "map.nrrd"
    assert run("embed", files.scan, "--out", path, "--model", files.model).code == 0
    assert localize(run, files).code == 0
    first, second = load_map(path), load_map(files.out / "map.nrrd")
    assert np.array_equal(first.values, second.values) and np.allclose(first.grid_to_ras, second.grid_to_ras)


def test_a_map_that_cannot_be_written_is_said_before_the_scan_is_embedded(run, files, monkeypatch):
    monkeypatch.setattr(Embedder, "embed", None)
    done = run("embed", files.scan, "--out", files.scan / "map.nrrd", "--model", files.model)
    assert done.code == 1 and "is no folder, so nothing can be written there" in done.errors


@pytest.mark.parametrize(("options", "aligned"), [((), True), (("--no-align",), False)])
def test_coordinates_are_aligned_unless_told_otherwise(run, files, monkeypatch, options, aligned):
    asked = []
    read = Memory.reference

    def reference(self, name, model):
        asked.extend([name] if name is not None else [])
        return read(self, name, model)

    monkeypatch.setattr(Memory, "reference", reference)
    assert localize(run, files, *options).code == 0
    assert run("embed", files.scan, "--out", files.folder / "map.nrrd", "--model", files.model, *options).code == 0
    learned = ("--points", files.points, "--library", files.folder / "new.json")
    assert run("learn", files.scan, *learned, "--model", files.model, *options).code == 0
    assert set(asked) == ({BUILT_IN} if aligned else set())


def test_coordinates_can_be_aligned_with_a_library_of_ones_own(run, files, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "APELocalizerLib.core.embedder.align", lambda found, reference, _: asked.append(reference) or found
    )
    own = files.folder / "own.json"
    points = write_table(files.folder / "four.csv", "name,r_mm,a_mm,s_mm", [[f"p{n}", 10 * n, 0, 0] for n in range(4)])
    assert run("learn", files.scan, "--points", points, "--library", own, "--model", files.model).code == 0
    assert localize(run, files, "--reference", own).code == 0
    assert [reference.library.names for reference in asked] == [("p0", "p1", "p2", "p3")]
    done = localize(run, files, "--reference", own, "--no-align")
    assert done.code == 2 and "not allowed with" in done.errors


@pytest.mark.parametrize("wrong", ["another model", "no coarse CT", "built-in"])
def test_a_reference_that_nothing_can_be_aligned_with_is_refused_at_once(run, files, wrong):
    reference = files.folder / "reference.json"
    learned = ("--points", files.points, "--library", reference, "--model", files.model)
    if wrong == "no coarse CT":
        assert run("learn", files.scan, *learned, "--no-coarse-ct").code == 0
    else:
        save_library(LandmarkLibrary("other@1"), reference)
    done = localize(run, files, "--reference", "built-in" if wrong == "built-in" else reference)
    assert done.code == 1 and "aligned with a library" in done.errors and done.errors.count("\n") == 1
    assert not files.out.exists()


def test_spacing_is_passed_to_the_model(run, files):
    path = files.folder / "map.nrrd"
    assert run("embed", files.scan, "--out", path, "--model", files.model, "--spacing", "fast").code == 0
    assert load_map(path).spacing == "fast"
    done = run("embed", files.scan, "--out", path, "--model", files.model, "--spacing", "finest")
    assert done.code == 1 and "finest" in done.errors


def test_localize_searches_at_the_spacing_asked_for(run, files):
    assert localize(run, files, "--spacing", "fast").code == 0
    assert load_map(files.out / "map.nrrd").spacing == "fast"
    rows = {row["name"]: row for row in read_table(files.out / "results.csv")}
    where = [float(rows["bone"][column]) for column in ("r_mm", "a_mm", "s_mm")]
    assert np.linalg.norm(np.subtract(where, POINTS["bone"])) < 2
    done = localize(run, files, "--spacing", "finest")
    assert done.code == 1 and "finest" in done.errors and done.errors.count("\n") == 1


def test_threshold_decides_what_counts_as_found(run, files):
    other = write_voxels(files.folder / "other.nii.gz", np.flip(small_torso().voxels, axis=2))
    arguments = ("--library", files.library, "--out", files.out, "--model", files.model)
    assert run("localize", other, *arguments, "--threshold", "0.001").code == 0
    assert "not_found" in {row["status"] for row in read_table(files.out / "results.csv")}
    assert run("localize", other, *arguments, "--threshold", "100000").code == 0
    rows = read_table(files.out / "results.csv")
    assert "found" in {row["status"] for row in rows}
    assert not any("no consistent match" in row["reason"] for row in rows), "only the border can still speak against it"


def test_a_library_without_coarse_ct_still_localizes_and_says_it_is_less_exact(files, run):
    """For who may not share even a coarse image: --no-coarse-ct."""
    assert '"coarse_ct": ""' not in files.library.read_text(encoding="utf-8")
    files.library = files.folder / "private.json"
    learned = ("--points", files.points, "--library", files.library, "--model", files.model)
    assert run("learn", files.scan, *learned, "--no-coarse-ct").code == 0
    assert '"coarse_ct": ""' in files.library.read_text(encoding="utf-8")
    assert localize(run, files).code == 0
    assert {row["status"] for row in read_table(files.out / "results.csv")} == {"found"}
