"""`evaluate` on the sparse annotations that users have: a report or one clear sentence, and no traceback."""

import json
import sys

import pytest

from APELocalizerLib.cli.console import Console
from made_up.files import BOXES, POINTS, read_table, write_table

SIDES = "rmin,rmax,amin,amax,smin,smax"


@pytest.fixture
def folder(two_scans):
    """The folder that is studied."""
    return two_scans


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
    assert drawn == {"structures", "reliability", "embeddings", "maps"}, "no curve of a few retrievals"


def test_boxes_alone_make_a_report(evaluate, files, folder):
    mark(folder, boxes=all_boxes("one", "two"))
    done = evaluate()
    assert (done.code, done.errors) == (0, "")
    text, figures = written(files)
    assert "0 landmarks, 2 whole organs" in text and "## Landmarks" not in text and "## Boxes: overlap" in text
    assert figures["box IoU"]["mean of 5 boxes"]["count"] == 2 and "landmarks, mm" not in figures


def test_other_methods_are_measured_alone_by_their_names(evaluate, files, folder):
    """The phantom on itself: the same place by proportion in the body's box is the right one."""
    mark(folder, all_points("one", "two"))
    assert evaluate("--methods", "body-box").code == 0
    text, figures = written(files)
    assert figures["landmarks, mm"]["one support"] == {"mean": 0.0, "std": 0.0, "median": 0.0, "p90": 0.0, "count": 6}
    assert "Methods body-box. Made by" in text and "Model" not in text
    drawn = {path.stem for path in files.out.glob("*.png")}
    assert drawn == {"structures"}, "no curve of a few retrievals"


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
    assert (done.code, done.errors) == (130, "ape-localizer: Cancelled. Nothing was changed.\n")
    assert shown[-1] == work and not files.out.exists()


def bone(*cases):
    return [[case, "bone", *POINTS["bone"]] for case in cases]


def slab(case, low, high):
    """A box whose extent along A is given."""
    return [case, "disc", 40, 60, low, high, 0, 30]


@pytest.mark.parametrize(
    ("points", "boxes", "options"),
    [
        (bone("one", "two"), [], ["--targets", "one", "--supports", "two"]),
        ([*bone("one"), ["two", "bone", 4000, 20, -30]], [], []),
        (all_points("one", "two"), all_boxes("one"), []),
        (all_points("one", "two", "nobody"), [], ["--targets", "one", "one"]),
        ([], [slab("one", 10, 10), slab("two", 10, 10)], []),
        ([], [slab("one", 10, 11), slab("two", 10, 11)], ["--box-from", "all", "--answers", "voxel"]),
    ],
    ids=["one landmark", "annotated outside", "a structure of one case", "no scan", "flat boxes", "flat answers"],
)
@pytest.mark.filterwarnings("error")
def test_sparse_annotations_make_a_report(evaluate, files, folder, points, boxes, options):
    pytest.importorskip("matplotlib")
    mark(folder, points, boxes)
    done = evaluate(*options)
    assert (done.code, done.errors) == (0, "")
    text, _ = written(files)
    assert "embeddings.png" in text and " nan" not in text


def test_names_may_hold_anything_that_is_no_formula_and_no_column(evaluate, files, folder):
    pytest.importorskip("matplotlib")
    umlaut = "Müller" if sys.getfilesystemencoding() == "utf-8" else "Mueller"
    cases, names = (f"{umlaut}, A $x_$", "zwei b+c"), ("größter Wirbel", "a|b", "$\\frac{$", "_x^y*")
    for old, new in zip(("one", "two"), cases, strict=True):
        (folder / f"{old}.nii.gz").rename(folder / f"{new}.nii.gz")
    mark(folder, [[case, name, *POINTS["bone"]] for case in cases for name in names])
    done = evaluate()
    assert (done.code, done.errors) == (0, "")
    text, figures = written(files)
    assert figures["landmarks, mm"]["one support"]["count"] == 8
    assert all(f"\n| {name} |" in text for name in (*cases, "größter Wirbel", "a\\|b", "$\\frac{$", "_x^y*"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks the column"),
        ("case,name,r_mm,a_mm,s_mm\n", "No annotated scan was found"),
        ("case,name,r_mm,a_mm,s_mm\none,bone,nan,1,2\n", "has no number in the column r_mm"),
        ("case,name,r_mm,a_mm,s_mm\none\n", "a row of one names no landmark or organ"),
        ("case,name,r_mm,a_mm,s_mm\nthree,bone,1,1,2\n", "No annotated scan was found"),
        ("case,name,r_mm,a_mm,s_mm,patient\none,bone,1,1,2,p\ntwo,bone,1,1,2,p\n", "Nothing can be compared"),
    ],
)
def test_tables_that_allow_no_study_are_told_in_one_sentence(evaluate, files, folder, text, words):
    (folder / "landmarks.csv").write_text(text)
    done = evaluate()
    assert done.code == 1 and words in done.errors and done.errors.count("\n") == 1
    assert not files.out.exists()
