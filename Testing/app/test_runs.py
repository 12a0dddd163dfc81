"""Runs over scan files: complete folders or none, and one bad scan does not stop the others."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.app.runs import LocalizationRun, summary
from APELocalizerLib.core.base.errors import Cancelled, LocalizationError, ResultsError, SceneError
from APELocalizerLib.core.base.version import VERSION
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.library.marks import Marks
from APELocalizerLib.core.localization.localize import LocalizationSettings
from APELocalizerLib.core.scan.read import read_scan
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
    (before,) = run_of(engine, library).on_scans(paths[2:], out)
    assert before.error is None
    results = {path: path.read_bytes() for path in out.iterdir()}
    (outcome,) = run_of(engine, library, fail).on_scans(paths[:1], out)
    assert str(outcome.error) == "There is no display."
    assert {path: path.read_bytes() for path in out.iterdir()} == results
    assert sorted(tmp_path.iterdir()) == sorted([*paths, out])


def test_cancelling_ends_the_run(engine, library, paths, tmp_path):
    outcomes = run_of(engine, library).on_scans(paths, tmp_path / "out", cancelled=lambda: done)
    done = False
    assert next(outcomes).error is None
    done = True
    with pytest.raises(Cancelled):
        list(outcomes)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]


def test_what_nobody_thought_of_does_not_stop_the_others_either(engine, library, paths, tmp_path):
    def fail(scan, *_arguments):
        if scan.name == "first":
            raise ZeroDivisionError("float division by zero")

    first, last = run_of(engine, library, fail).on_scans([paths[0], paths[2]], tmp_path / "out")
    assert last.error is None and (last.folder / "results.csv").is_file()
    assert "ZeroDivisionError" in str(first.error) and "report it" in str(first.error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["last"]


def test_a_blocked_result_folder_does_not_stop_the_others(engine, library, paths, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "first").write_text("a file of the user")
    first, last = run_of(engine, library).on_scans([paths[0], paths[2]], out)
    assert "is no folder" in str(first.error) and last.error is None
    assert (out / "first").read_text() == "a file of the user"


def test_an_unusable_folder_is_noticed_before_anything_is_computed(engine, library, paths, tmp_path):
    out = tmp_path / "out"
    out.write_text("a file of the user")
    with pytest.raises(ResultsError, match="is no folder"):
        next(run_of(engine, library).on_scans(paths, out))
    assert out.read_text() == "a file of the user"


def test_results_say_how_they_were_made(engine, library, paths, tmp_path):
    said = []
    run = dataclasses.replace(run_of(engine, library), warn=said.append)
    (outcome,) = run.on_scans(paths[:1], tmp_path / "out")
    record = json.loads((outcome.folder / "run.json").read_text(encoding="utf-8"))
    assert record["software"] == f"APELocalizer {VERSION}" and record["scan"] == "first"
    assert record["scan_sha256"] == read_scan(paths[0]).fingerprint
    assert record["model"] == library.model_id and record["aligned_with"] is None and record["spacing"] == "standard"
    assert record["settings"] == {"rule": "paper", "round_trip_threshold_mm": 20.0, "refine": True}
    assert len(record["library_sha256"]) == 16 and datetime.fromisoformat(record["date"]).tzinfo is not None
    assert record["warnings"] == said
    assert str(tmp_path) not in json.dumps(record), "a result tells no folders of this computer"


def test_another_library_has_another_digest(engine, library):
    with_fewer = library.subset(library.names[:1])
    assert run_of(engine, library).library_digest == run_of(engine, library).library_digest
    assert run_of(engine, library).library_digest != run_of(engine, with_fewer).library_digest
