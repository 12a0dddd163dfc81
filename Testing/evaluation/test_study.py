"""The retrieval study on scans whose answer is known: an embedding that is the position itself, shifted per patient."""

import numpy as np
import pytest

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.scan import Scan
from APELocalizerLib.evaluation.cases import EvaluationError, find_scan, read_cases
from APELocalizerLib.evaluation.report import markdown, write_csv
from APELocalizerLib.evaluation.study import crop_superior_inferior, run_study

SHIFT = {"anna": 0.0, "bert": 30.0}
HEADER = "case,name,r_mm,a_mm,s_mm,uncertainty_mm\n"


def position_embedding(scan: Scan) -> EmbeddingMap:
    """A map whose embedding is the RAS position, with the patient's shift along S taken out."""
    shift = SHIFT[scan.name.split()[0]]
    view = scan.bounds()
    shape = np.maximum(np.ceil(view.size / 10).astype(int), 2)
    grid = np.diag([10.0, 10.0, 10.0, 1.0])
    grid[:3, 3] = np.array(view.minimum) + 5
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    values = cells * 10.0 + grid[:3, 3] - [0, 0, shift]
    return EmbeddingMap(values.astype(np.float32), np.ones(shape, bool), grid, "test@1", "standard", view, scan.name)


@pytest.fixture
def patients(tmp_path, monkeypatch):
    """Two patients of 400 mm height with the same landmarks, one 30 mm higher; read as synthetic scans."""
    (tmp_path / "landmarks.csv").write_text(
        HEADER
        + "".join(
            f"{name},{landmark},10,20,{s + SHIFT[name]},2\n"
            for name in SHIFT
            for landmark, s in (("apex", 180), ("carina", 90), ("hip", -170))
        )
    )
    (tmp_path / "boxes.csv").write_text(
        "case,name,rmin,rmax,amin,amax,smin,smax,uncertainty_mm,cut_sides\n"
        + "".join(f"{n},liver,-60,40,-50,50,{-20 + d},{60 + d},3,\n" for n, d in SHIFT.items())
        + "".join(f"{n},lung,-60,40,-50,50,0,190,3,smax\n" for n in SHIFT)
    )
    for name in SHIFT:
        (tmp_path / f"{name}.nii.gz").touch()
    rng = np.random.default_rng(0)
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = [-100, -100, -200 + 4]
    voxels = rng.normal(40, 200, (25, 25, 55)).astype(np.int16)
    voxels[::3] = -900
    monkeypatch.setattr(
        "APELocalizerLib.evaluation.study.read_scan", lambda path: Scan(voxels, affine, path.name.split(".")[0])
    )
    return read_cases(tmp_path, tmp_path / "landmarks.csv", tmp_path / "boxes.csv")


def test_study_finds_what_is_there_and_reports_what_was_cropped_away(patients):
    results = run_study(patients, patients, position_embedding)
    present = [r for r in results if r.kind == "landmark"]
    assert {(r.target, r.supports[0]) for r in present} == {("anna", "bert"), ("bert", "anna")}
    assert {r.name for r in present} == {"apex", "carina", "hip"}
    assert max(r.error_mm for r in present) < 0.5
    assert all(r.found for r in present)
    organs = [r for r in results if r.kind == "organ"]
    assert {r.name for r in organs} == {"liver"}, "an organ cut by the field of view must not be scored"
    assert min(r.iou for r in organs) > 0.98
    absent = [r for r in results if r.kind == "absent"]
    assert {"apex", "hip"} <= {r.name for r in absent}
    assert min(r.round_trip_mm for r in absent) > 40
    text = markdown(results, "Study")
    assert "AUC 1.000" in text


def test_crop_keeps_the_world_position_of_what_remains(patients):
    scan = Scan(np.arange(20 * 20 * 60).reshape(20, 20, 60) % 1500 - 1000.0, np.diag([5.0, 5.0, -4.0, 1.0]), "x")
    cropped = crop_superior_inferior(scan, -100, -50)
    assert cropped.bounds().minimum[2] >= -102.1 and cropped.bounds().maximum[2] <= -47.9
    first = np.array([0, 0, 0, 1])
    s = (cropped.ijk_to_ras @ first)[2]
    assert cropped.voxels[3, 4, 0] == scan.voxels[3, 4, int(round(s / -4))]


def test_every_retrieval_is_a_csv_row(patients, tmp_path):
    results = run_study(patients, patients, position_embedding, shots=0)
    write_csv(results, tmp_path / "retrievals.csv")
    assert len((tmp_path / "retrievals.csv").read_text().splitlines()) == len(results) + 1


def test_missing_cases_are_named(tmp_path):
    (tmp_path / "l.csv").write_text(HEADER + "ghost,carina,0,0,0,1\n")
    assert find_scan(tmp_path, "ghost") is None
    with pytest.raises(EvaluationError, match="No annotated scan"):
        read_cases(tmp_path, tmp_path / "l.csv")


BOX_HEADER = "case,name,rmin,rmax,amin,amax,smin,smax\n"


@pytest.mark.parametrize(
    ("landmarks", "boxes", "words"),
    [
        ("case,name,r_mm,a_mm\nanna,carina,1,2\n", None, "l.csv lacks the column.s. s_mm; it needs case,name,r_mm"),
        ("", None, "l.csv lacks the column.s. case, name, r_mm, a_mm, s_mm"),
        (HEADER + "anna,carina,1,two,3,\n", None, 'carina of anna has no number in the column a_mm, but "two"'),
        (HEADER + "anna,carina,1,nan,3,\n", None, 'has no number in the column a_mm, but "nan"'),
        (HEADER + "anna,carina,1,2,3,some\n", None, "has no number in the column uncertainty_mm"),
        (None, "case,name,rmin,rmax,amin,amax,smin\nanna,liver,0,1,0,1,0\n", "b.csv lacks the column.s. smax"),
        (None, BOX_HEADER + "anna,liver,0,1,0,,0,1\n", 'liver of anna has no number in the column amax, but ""'),
        (None, BOX_HEADER + "anna,liver,5,1,0,1,0,1\n", "box liver of anna a minimum exceeds its maximum"),
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
