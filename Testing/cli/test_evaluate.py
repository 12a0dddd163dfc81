"""`evaluate` on the sparse annotations that users have: a report or one clear sentence, and no traceback."""

import json
import shutil

import pytest

from APELocalizerLib.cli.console import Console
from cli.phantom import BOXES, POINTS, read_table, write_table

SIDES = "rmin,rmax,amin,amax,smin,smax"


@pytest.fixture
def folder(files):
    """A folder with the phantom as the scans of two patients, without annotations."""
    scans = files.folder / "scans"
    scans.mkdir()
    for case in ("one", "two"):
        shutil.copy(files.scan, scans / f"{case}.nii.gz")
    return scans


def mark(folder, points=(), boxes=()):
    """Write the tables of (case, name, numbers…) that are not empty."""
    if points:
        write_table(folder / "landmarks.csv", "case,name,r_mm,a_mm,s_mm", points)
    if boxes:
        write_table(folder / "boxes.csv", f"case,name,{SIDES}", boxes)


def all_points(*cases):
    return [[case, name, *position] for case in cases for name, position in POINTS.items()]


def all_boxes(*cases):
    return [
        [case, name, *[side for pair in zip(*corners, strict=True) for side in pair]]
        for case in cases
        for name, corners in BOXES.items()
    ]


@pytest.fixture
def evaluate(run, files, folder):
    """Run `evaluate` on the folder."""

    def evaluated(*options):
        return run("evaluate", folder, "--out", files.out, "--model", files.model, "--device", "cpu", *options)

    return evaluated


def written(files) -> tuple[str, dict]:
    """The report's text, and its figures."""
    figures = json.loads((files.out / "figures.json").read_text(encoding="utf-8"))
    return (files.out / "report.md").read_text(encoding="utf-8"), figures


def test_landmarks_alone_make_a_report(evaluate, files, folder, tmp_path):
    pytest.importorskip("matplotlib")
    table = write_table(tmp_path / "clicks.csv", "case,name,r_mm,a_mm,s_mm", all_points("one", "two"))
    done = evaluate("--landmarks", table)
    assert (done.code, done.errors) == (0, "")
    text, figures = written(files)
    assert "6 landmarks, 0 whole organs" in text and "## Landmarks: distance" in text and "## Boxes" not in text
    assert figures["landmarks, mm"]["one support"]["count"] == 6 and "box IoU" not in figures
    assert {row["kind"] for row in read_table(files.out / "retrievals.csv")} <= {"landmark", "absent landmark"}
    drawn = {path.stem for path in files.out.glob("*.png")}
    assert drawn == {"error_cdf", "structures", "reliability", "embeddings", "maps"}


def test_boxes_alone_make_a_report(evaluate, files, folder):
    mark(folder, boxes=all_boxes("one", "two"))
    done = evaluate()
    assert (done.code, done.errors) == (0, "")
    text, figures = written(files)
    assert "0 landmarks, 2 whole organs" in text and "## Landmarks" not in text and "## Boxes: overlap" in text
    assert figures["box IoU"]["mean of 5 boxes"]["count"] == 2 and "landmarks, mm" not in figures


def test_all_supports_at_once_give_boxes_without_means_of_a_few(evaluate, files, folder):
    mark(folder, boxes=all_boxes("one", "two"))
    assert evaluate("--shots", "0").code == 0
    text, figures = written(files)
    assert list(figures["box IoU"]) == ["all supports"] and "nan" not in text


def test_where_nothing_is_shared_one_sentence_says_so(evaluate, files, folder):
    mark(folder, [["one", "bone", 40, 20, -30], ["two", "left lung", -55, 0, 50]])
    done = evaluate()
    assert done.code == 1 and "Nothing can be compared" in done.errors and done.errors.count("\n") == 1
    assert not files.out.exists()


@pytest.mark.parametrize("work", ["Embedding one", "Embedding two", "Searching one", "Searching two"])
def test_an_interrupted_study_ends_in_one_sentence_and_writes_nothing(evaluate, files, folder, monkeypatch, work):
    """The user interrupts while this is being done; the last search has nothing after it."""
    mark(folder, all_points("one", "two"))
    shown = []
    monkeypatch.setattr(Console, "progress", lambda self, fraction, text: shown.append(text))
    monkeypatch.setattr(Console, "cancelled", lambda self: work in shown)
    done = evaluate()
    assert (done.code, done.errors) == (1, "ape-localizer: Cancelled. Nothing was changed.\n")
    assert shown[-1] == work and not files.out.exists()
