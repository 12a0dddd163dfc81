"""Annotation tables and folders of annotated scans: what is read, and what is refused in words."""

import numpy as np
import pytest

from APELocalizerLib.core.annotations.cases import EvaluationError, chosen, find_scan, read_cases, with_patients
from APELocalizerLib.core.annotations.folder import read_data_folder

HEADER = "case,name,r_mm,a_mm,s_mm,uncertainty_mm\n"
BOX_HEADER = "case,name,rmin,rmax,amin,amax,smin,smax\n"
SAMPLES = "Resources/SampleData"


def test_missing_cases_are_named(tmp_path):
    (tmp_path / "l.csv").write_text(HEADER + "ghost,carina,0,0,0,1\n")
    assert find_scan(tmp_path, "ghost") is None
    with pytest.raises(EvaluationError, match="No annotated scan"):
        read_cases(tmp_path, tmp_path / "l.csv")
    with pytest.raises(EvaluationError, match="no annotated scan for: ghost"):
        read_cases(tmp_path, tmp_path / "l.csv", only=["ghost"])


@pytest.mark.parametrize(
    ("landmarks", "boxes", "words"),
    [
        ("case,name,r_mm,a_mm\nanna,carina,1,2\n", None, "l.csv lacks the column.s. s_mm; it needs case,name,r_mm"),
        ("", None, "l.csv lacks the column.s. case, name, r_mm, a_mm, s_mm"),
        (HEADER + "anna,carina,1,two,3,\n", None, 'carina of anna has no number in the column a_mm, but "two"'),
        (HEADER + "anna\n", None, "l.csv, line 2: a row of anna names no landmark or organ"),
        (HEADER + "anna,carina,1\n", None, 'carina of anna has no number in the column a_mm, but ""'),
        (None, BOX_HEADER + "anna, ,0,1,0,1,0,1\n", "b.csv, line 2: a row of anna names no landmark or organ"),
        (HEADER + "anna,carina,1,nan,3,\n", None, 'has no number in the column a_mm, but "nan"'),
        (HEADER + "anna,carina,1,2,3,some\n", None, "has no number in the column uncertainty_mm"),
        (None, "case,name,rmin,rmax,amin,amax,smin\nanna,liver,0,1,0,1,0\n", "b.csv lacks the column.s. smax"),
        (None, BOX_HEADER + "anna,liver,0,1,0,,0,1\n", 'liver of anna has no number in the column amax, but ""'),
        (None, BOX_HEADER + "anna,liver,5,1,0,1,0,1\n", "box liver of anna a minimum exceeds its maximum"),
        (
            *(None, BOX_HEADER.replace("\n", ",cut_sides\n") + "anna,liver,0,1,0,1,0,1,top\n"),
            'liver of anna has the cut side "top"',
        ),
    ],
)
def test_wrong_tables_are_refused_with_the_table_and_the_place(tmp_path, landmarks, boxes, words):
    (tmp_path / "anna.nii.gz").write_bytes(b"not read yet")
    paths = []
    for name, text in (("l.csv", landmarks), ("b.csv", boxes)):
        paths.append(None if text is None else tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=words):
        read_cases(tmp_path, *paths)


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    """Spreadsheets put a byte order mark before the first column."""
    (tmp_path / "anna.nii.gz").write_bytes(b"not read yet")
    (tmp_path / "l.csv").write_text("\ufeff" + HEADER + "anna,carina,1,2,3,4.5\nanna,apex,1,2,9,\n", encoding="utf-8")
    [case] = read_cases(tmp_path, tmp_path / "l.csv")
    assert np.allclose(case.points["carina"], [1, 2, 3])
    assert case.uncertainty_mm == {"carina": 4.5, "apex": 0}


def test_one_case_has_one_patient(tmp_path):
    (tmp_path / "anna.nii.gz").write_bytes(b"not read yet")
    (tmp_path / "l.csv").write_text("case,name,r_mm,a_mm,s_mm,patient\nanna,a,1,2,3,p1\nanna,b,1,2,3,p2\n")
    with pytest.raises(EvaluationError, match="case anna is listed under two patients .p1 and p2"):
        read_cases(tmp_path, tmp_path / "l.csv")


def test_patients_are_named_in_a_table_of_their_own_too(tmp_path):
    """As in a folder that is evaluated; a row without patient leaves the case its own."""
    for name in ("anna", "bert", "carl"):
        (tmp_path / f"{name}.nii.gz").touch()
    (tmp_path / "l.csv").write_text("case,name,r_mm,a_mm,s_mm\nanna,a,1,2,3\nbert,a,1,2,3\ncarl,a,1,2,3\n")
    (tmp_path / "patients.csv").write_text("case,patient\nanna,p1\nbert,p1\ncarl\nghost,p1\n")
    assert [case.person for case in read_cases(tmp_path, tmp_path / "l.csv")] == ["p1", "p1", "carl"]


# Folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Scans in two subfolders, tables in a third, a label map in a fourth, and a scan that nobody annotated."""
    for name in ("train/anna.nii.gz", "train/bert.nrrd", "train/nobody.nii.gz", "val/carl_ct.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "landmarks.csv").write_text(HEADER + "anna,carina,1,2,3,\nghost,carina,1,2,3,\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "bert_seg.nii.gz").touch()
    (tmp_path / "labels" / "bert_labels.json").write_text('{"5": "liver"}')
    (tmp_path / "val" / "carl_boxes.csv").write_text("name,rmin,rmax,amin,amax,smin,smax\nliver,0,1,0,1,0,1\n")
    (tmp_path / "patients.csv").write_text("case,patient\nanna,p1\ncarl,p1\n")
    return tmp_path


def test_a_folder_is_read_with_everything_in_its_place(folder):
    cases = read_data_folder([folder])
    assert list(cases) == ["anna", "bert", "carl"]
    assert cases["bert"].label_names == {5: "liver"} and cases["bert"].label_map.name == "bert_seg.nii.gz"
    assert "liver" in cases["carl"].boxes and cases["carl"].path.name == "carl_ct.nii.gz"
    assert [cases[name].person for name in cases] == ["p1", "bert", "p1"]


def test_two_scans_of_one_name_are_refused(folder):
    (folder / "val" / "anna.nii.gz").touch()
    with pytest.raises(EvaluationError, match="two scans called anna"):
        read_data_folder([folder])


def test_a_label_map_without_names_is_refused(folder):
    (folder / "labels" / "bert_labels.json").unlink()
    with pytest.raises(EvaluationError, match="bert_seg.nii.gz needs bert_labels.json"):
        read_data_folder([folder])


def test_folders_without_scans_or_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(EvaluationError, match="does not exist"):
        read_data_folder([tmp_path / "absent"])
    with pytest.raises(EvaluationError, match="No annotated scan"):
        read_data_folder([tmp_path])


def test_the_sample_data_is_an_annotated_folder(request):
    cases = read_data_folder([request.config.rootpath / SAMPLES])
    assert list(cases) == ["support", "target"]
    assert len(cases["target"].points) >= 10 and len(cases["target"].boxes) == 5


def test_prefixes_make_patients_and_unknown_cases_are_named(folder):
    cases = read_data_folder([folder])
    assert with_patients(list(cases.values()), ["be"])[1].person == "be"
    with pytest.raises(EvaluationError, match="no annotated scan for: dora"):
        chosen(cases, ["anna", "dora"])
    assert [case.id for case in chosen(cases, ["carl", "anna", "carl"])] == ["carl", "anna"]
