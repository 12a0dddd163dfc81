"""Runs over scan files: complete folders or none, and one bad scan does not stop the others."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.app.runs import LocalizationRun, result_folders, staged, summary
from APELocalizerLib.core.base.errors import Cancelled, LocalizationError, SceneError
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.library.marks import Marks
from APELocalizerLib.core.localization.localize import LocalizationSettings
from made_up.embedders import KnowingEmbedder
from made_up.files import POINTS, read_table, small_torso, write_scan


@pytest.fixture
def engine() -> Engine:
    """An engine that is never wrong."""
    return Engine(reference=None, memory=Memory(lambda name: SimpleNamespace(id=name), KnowingEmbedder()))


@pytest.fixture
def library(engine) -> LandmarkLibrary:
    """Three landmarks of the torso."""
    return engine.learn(small_torso(), Marks(points=POINTS)).library


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """A scan, a file that is none, and another scan."""
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    first, last = (write_scan(tmp_path / f"{name}.nii.gz", small_torso()) for name in ("first", "last"))
    return [first, broken, last]


def run_of(engine, library, write_more=None) -> LocalizationRun:
    return LocalizationRun(engine, library, LocalizationSettings(round_trip_threshold_mm=20.0), write_more=write_more)


def test_a_scan_that_cannot_be_read_does_not_stop_the_others(engine, library, paths, tmp_path):
    out, fractions = tmp_path / "out", []
    run = run_of(engine, library)
    first, broken, last = run.on_scans(paths, out, lambda fraction, text: fractions.append(fraction))
    assert [outcome.path for outcome in (first, broken, last)] == paths
    assert "broken.nii.gz" in str(broken.error) and broken.localization is None
    for outcome in (first, last):
        assert outcome.error is None and summary(outcome.localization).startswith("3 of 3 landmarks")
        assert {row["status"] for row in read_table(outcome.folder / "results.csv")} == {"found"}
    assert sorted(path.name for path in out.iterdir()) == ["first", "last"]
    assert fractions == sorted(fractions) and 0 <= fractions[0] and fractions[-1] <= 1


def test_what_would_stop_every_scan_stops_the_run_at_once(engine, paths, tmp_path):
    run = run_of(engine, LandmarkLibrary("another model"))
    with pytest.raises(LocalizationError, match="another model"):
        next(run.on_scans(paths, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_further_files_come_into_the_folder_of_their_scan(engine, library, paths, tmp_path):
    def write_more(scan, localization, embedding_map, folder):
        (folder / "report.txt").write_text(f"{scan.name} {embedding_map.scan_name} {summary(localization)}")

    outcomes = list(run_of(engine, library, write_more).on_scans([paths[0], paths[2]], tmp_path / "out"))
    for outcome, name in zip(outcomes, ("first", "last"), strict=True):
        assert (outcome.folder / "report.txt").read_text().startswith(f"{name} {name} 3 of 3")


def test_if_one_file_cannot_be_written_the_folder_stays_as_it_was(engine, library, paths, tmp_path):
    def fail(*_arguments):
        raise SceneError("There is no display.")

    out = tmp_path / "out"
    out.mkdir()
    (out / "results.csv").write_text("of yesterday")
    (outcome,) = run_of(engine, library, fail).on_scans(paths[:1], out)
    assert str(outcome.error) == "There is no display."
    assert [path.name for path in out.iterdir()] == ["results.csv"]
    assert (out / "results.csv").read_text() == "of yesterday"
    assert sorted(tmp_path.iterdir()) == sorted([*paths, out])


def test_cancelling_ends_the_run(engine, library, paths, tmp_path):
    outcomes = run_of(engine, library).on_scans(paths, tmp_path / "out", cancelled=lambda: done)
    done = False
    assert next(outcomes).error is None
    done = True
    with pytest.raises(Cancelled):
        list(outcomes)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]


def test_old_results_are_replaced_as_a_whole_and_other_files_stay(tmp_path):
    folder = tmp_path / "out"
    (folder / "rois").mkdir(parents=True)
    for name in ("rois/gone.mrk.json", "scene.mrb", "notes of the user.txt"):
        (folder / name).write_text("old")
    with staged(folder) as staging:
        (staging / "results.csv").write_text("new")
    assert sorted(path.name for path in folder.iterdir()) == ["notes of the user.txt", "results.csv"]


def test_result_folders_are_named_after_the_scans():
    assert result_folders([Path("a/x.nii.gz")], Path("out")) == [Path("out")]
    scans = [Path(name) for name in ("a/x.nii.gz", "b/x.NII.GZ", "dicom/series", "v1.2.mha")]
    assert [path.name for path in result_folders(scans, Path("out"))] == ["x", "x-2", "series", "v1.2"]
