"""`build-library`, and `--library built-in`, run as a user runs them."""

import shutil

import pytest

from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.library import built_in
from APELocalizerLib.core.library.files import load_library
from made_up.files import BOXES, POINTS, read_table, write_table

TERMS = "name,kind,scheme,value,meaning,description,color\n" + "".join(
    [f"{name},landmark,,,,A place.,#00ff00\n" for name in POINTS] + [f"{name},organ,,,,,#0000ff\n" for name in BOXES]
)


@pytest.fixture
def annotated(files, two_scans):
    """Two annotated scans in a folder; the second cuts the organ."""
    points = [[case, name, *position] for case in ("one", "two") for name, position in POINTS.items()]
    files.landmarks = write_table(files.folder / "landmarks.csv", "case,name,r_mm,a_mm,s_mm", points)
    columns = "case,name,rmin,rmax,amin,amax,smin,smax,cut_sides"
    boxes = [
        [case, name, *[side for pair in zip(*corners, strict=True) for side in pair], cut]
        for case, cut in (("one", ""), ("two", "smax"))
        for name, corners in BOXES.items()
    ]
    files.boxes = write_table(files.folder / "boxes.csv", columns, boxes)
    files.terms = files.folder / "terms.csv"
    files.terms.write_text(TERMS)
    files.scans = two_scans
    files.built = files.folder / "built.json"
    return files


def build(run, files, *extra):
    marks = ("--landmarks", files.landmarks, "--boxes", files.boxes, "--terms", files.terms)
    return run("build-library", files.scans, *marks, "--out", files.built, "--model", files.model, *extra)


def test_library_of_two_scans_holds_a_shot_of_each(run, annotated):
    done = build(run, annotated)
    assert (done.code, done.errors) == (0, "")
    library = load_library(annotated.built)
    assert [support.id for support in library.supports] == ["one", "two"]
    assert [len(landmark.shots) for landmark in library.landmarks] == [2, 2, 2]
    assert [len(organ.shots) for organ in library.organs] == [1]
    assert "bone" in done.output and "left out, cut by the field of view" in done.output


def test_what_others_are_aligned_with_is_not_aligned_itself(run, annotated, monkeypatch):
    asked = []
    monkeypatch.setattr(Memory, "reference", lambda self, name, model: asked.append(name) or (None, ""))
    assert build(run, annotated).code == 0
    assert set(asked) == {None}


def test_only_the_named_supports_are_used(run, annotated):
    assert build(run, annotated, "--supports", "two").code == 0
    library = load_library(annotated.built)
    assert [support.id for support in library.supports] == ["two"] and library.organs == ()


@pytest.mark.parametrize("where", ["nowhere", "column", "patients.csv", "prefix"])
def test_an_enlargement_is_not_measured_with_shots_of_the_same_patient(run, annotated, where):
    """Two whole organs; α of each is measured with the other, unless both scans are said to be one patient's."""
    columns = f"case,name,rmin,rmax,amin,amax,smin,smax{',patient' if where == 'column' else ''}"
    [(name, corners)] = BOXES.items()
    sides = [side for pair in zip(*corners, strict=True) for side in pair]
    person = ["p1"] if where == "column" else []
    write_table(annotated.boxes, columns, [[case, name, *sides, *person] for case in ("one", "two")])
    if where == "patients.csv":
        write_table(annotated.scans / where, "case,patient", [["one", "p1"], ["two", "p1"]])
    if where == "prefix":
        (annotated.scans / "two.nii.gz").rename(annotated.scans / "one later.nii.gz")
        for table in (annotated.boxes, annotated.landmarks):
            table.write_text(table.read_text().replace("two,", "one later,"))
    done = build(run, annotated, *(["--patients", "one"] if where == "prefix" else []))
    assert done.code == 0, done.errors
    alone = where != "nowhere"
    assert ("0 of 0" in done.output, "2 of 2" in done.output) == (alone, not alone)
    assert ("its enlargement could not be measured" in done.output) == alone


def test_names_that_the_terms_lack_are_refused_and_nothing_is_written(run, annotated):
    annotated.terms.write_text(TERMS.replace("bone,", "skull,"))
    done = build(run, annotated)
    assert done.code == 1 and "bone" in done.errors and len(done.errors.splitlines()) == 1
    assert not annotated.built.exists()


def test_wrong_usage_exits_with_two(run, annotated):
    assert run("build-library", annotated.scans, "--out", annotated.built).code == 2
    annotated.built = annotated.folder / "built.txt"
    assert build(run, annotated).code == 2


def test_localize_and_info_take_the_built_in_library(run, files, monkeypatch):
    libraries = files.folder / "libraries"
    libraries.mkdir()
    monkeypatch.setattr(built_in, "LIBRARIES", libraries)
    arguments = ("localize", files.scan, "--library", "built-in", "--out", files.out, "--model", files.model)
    missing = run(*arguments)
    assert missing.code == 1 and "no built-in library" in missing.errors
    shutil.copy(files.library, libraries / "torso.json")
    assert run(*arguments).code == 0
    assert {row["name"] for row in read_table(files.out / "results.csv")} == {*POINTS, *BOXES}
    assert "landmark library" in run("info", "built-in").output


def test_learning_into_the_built_in_library_is_refused(run, files):
    done = run("learn", files.scan, "--points", files.points, "--library", "built-in", "--model", files.model)
    assert done.code == 2 and "built-in library is not changed" in done.errors
