"""What others see of the repository: the extension's metadata, its pictures, sample data, and measured figures."""

import csv
import json
import re
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "APELocalizer"
README = ROOT / "README.md"


def extension_variable(name: str) -> str:
    """Value of `set(EXTENSION_<name> "...")`, read by a regular expression as the extensions index reads it."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    setting = re.search(rf'^set\(EXTENSION_{name} "([^"$]+)"\)$', text, re.MULTILINE)
    assert setting, f"EXTENSION_{name} is not set to one literal string"
    return setting.group(1)


def test_extension_metadata_passes_the_checks_of_the_extensions_index():
    assert re.search(r"^project\(APELocalizer\)$", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert extension_variable("DEPENDS") == "PyTorch"
    assert "CT" in extension_variable("DESCRIPTION")
    for name in ("ICONURL", "SCREENSHOTURLS"):
        for address in extension_variable(name).split():
            assert re.fullmatch(r"https://raw\.githubusercontent\.com/\S+\.(png|jpg|jpeg|gif)", address)
    assert len(extension_variable("SCREENSHOTURLS").split()) >= 2
    for name in ("HOMEPAGE", "CONTRIBUTORS", "KEYWORDS"):
        assert extension_variable(name)


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_linked_pictures_are_in_the_repository(name):
    for address in extension_variable(name).split():
        path = ROOT / address.split("/main/", 1)[1]
        assert path.is_file(), f"{path.relative_to(ROOT)} is missing"


def test_icon_is_a_png_of_128_pixels():
    data = (ROOT / "APE.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == (128, 128)


def test_license_is_found_by_the_extensions_index():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License") and "2026 APELocalizer contributors" in text


def test_no_byte_order_mark_and_no_windows_line_ends():
    for path in [*MODULE.rglob("*.py"), *ROOT.glob("*.md"), *ROOT.rglob("CMakeLists.txt")]:
        if ".venv" not in path.parts:
            data = path.read_bytes()
            assert not data.startswith(b"\xef\xbb\xbf") and b"\r\n" not in data, path.relative_to(ROOT)


def test_sample_data_has_its_license_beside_it_and_is_small():
    folder = ROOT / "Resources" / "SampleData"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for scan in folder.glob("*.nii.gz"):
        assert f"`{scan.name}`" in text
        assert scan.stat().st_size < 2_500_000
    assert text.count("CC BY 3.0") >= 2 and "doi.org" in text


def test_sample_marks_lie_in_their_scans():
    sitk = pytest.importorskip("SimpleITK")
    folder = ROOT / "Resources" / "SampleData"
    for name in ("support", "target"):
        image = sitk.ReadImage(str(folder / f"{name}_ct.nii.gz"))
        with (folder / f"{name}_points.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) >= 10
        for row in rows:
            r, a, s = (float(row[column]) for column in ("r_mm", "a_mm", "s_mm"))
            index = image.TransformPhysicalPointToContinuousIndex((-r, -a, s))
            assert all(0 <= i <= size - 1 for i, size in zip(index, image.GetSize(), strict=True)), (name, row["name"])


MEASURED = {
    "landmarks": "landmarks, mm",
    "centers of the found organ boxes": "centers of found boxes, mm",
    "organ box sides": "box walls, mm",
    "box IoU, not enlarged": "box IoU",
    "organ centers looked up as points": "organ centers (boxes), mm",
    "centers of box sides looked up as points": "centers of box faces (boxes), mm",
    "extreme points of label maps looked up as points": "extreme points (label maps), mm",
}
"""Rows of the model card, and the measures of the evaluation's report that they tell."""


@pytest.mark.parametrize("row", MEASURED)
def test_the_model_card_tells_what_the_evaluation_measured_with_these_weights(row):
    card = (ROOT / "APELocalizer" / "Resources" / "Models" / "default.md").read_text(encoding="utf-8")
    shipped = card[card.index("**The shipped weights**") :]
    cells = next(line for line in shipped.splitlines() if line.startswith(f"| {row} |")).split("|")[2:4]
    figures = json.loads((ROOT / "Resources" / "Evaluation" / "figures.json").read_text(encoding="utf-8"))
    rounding = 0.0056 if "IoU" in row else 0.0506
    for cell, supports in zip(cells, ("one support", "all supports"), strict=True):
        measured = figures[MEASURED[row]][supports]
        told = [float(number) for number in re.match(r"\s*([\d.]+) ± ([\d.]+) \(([\d.]+)\)|", cell).groups() if number]
        expected = [measured[key] for key in ("mean", "std", "median")] if measured["count"] else []
        assert told == pytest.approx(expected, abs=rounding)


def test_the_evaluation_report_is_of_the_embedded_weights():
    from APELocalizerLib.core.model.registry import load_model

    report = (ROOT / "Resources" / "Evaluation" / "report.md").read_text(encoding="utf-8")
    assert f"Model {load_model('default').id}," in report


def test_the_first_page_names_the_measured_errors():
    figures = json.loads((ROOT / "Resources" / "Evaluation" / "figures.json").read_text(encoding="utf-8"))
    landmarks = figures["landmarks, mm"]
    text = " ".join(README.read_text(encoding="utf-8").split())
    one, several = landmarks["one support"], landmarks["all supports"]
    assert f"was {one['median']:.0f} mm when learned on one patient" in text
    assert f"{several['median']:.0f} mm when learned on up to twenty" in text
    assert f"off by more than {one['p90']:.0f} mm" in text
    assert f"one in ten: {several['p90']:.0f} mm" in text


def test_the_first_page_names_the_worst_places_beside_the_best():
    report = (ROOT / "Resources" / "Evaluation" / "report.md").read_text(encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    limits = " ".join(text[text.index("## Limits") :].split())
    landmarks = {name: row for name, row in rows_of(report, "## Landmarks: distance").items() if "*" not in name}
    by_median = sorted(landmarks, key=lambda name: of_median(landmarks[name]))
    assert set(by_median[-3:]) == {"xiphoid_tip", "kidney_left_upper_pole", "kidney_right_upper_pole"}
    assert "Worst: the xiphoid's tip and the upper poles of the kidneys (median 25 to 34 mm" in limits
    best = {
        *(f"vertebra_T{number}" for number in range(1, 8)),
        "lung_apex_left",
        "lung_apex_right",
        "suprasternal_notch",
    }
    assert best <= set(by_median[:16]) and "(median 6 to 9 mm with one support)" in limits
    assert {6, 9} == {round(of_median(landmarks[name])) for name in (by_median[0], max(best, key=by_median.index))}
    overlaps = rows_of(report, "## Boxes: overlap (IoU)\n")
    for organ in ("lung_left", "lung_right", "spleen", "kidney_right"):
        assert overlaps[organ][2].split()[0] in limits, organ
    worst = min((name for name in overlaps if "*" not in name), key=lambda name: float(overlaps[name][2].split()[0]))
    assert worst == "kidney_right"


def of_median(row: list[str]) -> float:
    """The median in a row's cell of mean, standard deviation and median, one support."""
    return float(re.search(r"\(([\d.]+)\)", row[2]).group(1))


def rows_of(report: str, heading: str) -> dict[str, list[str]]:
    """Cells of the rows of the table below a heading, by the first cell."""
    table = report[report.index(heading) + len(heading) :].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row for row in rows[2:]}
